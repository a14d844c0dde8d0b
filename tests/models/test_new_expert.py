"""docs/new-expert.md holds what it says: one file and one line make an expert that learns, serves, and is kept."""

from __future__ import annotations

import inspect
import math
import random
import re
from pathlib import Path

import pytest
import torch

from headwater.errors import SettingsError
from headwater.events import Item
from headwater.examples import Entry, EventPosition, Example
from headwater.recommendations import Request
from models.checks import check_learner
from models.config import ModelConfig, model_config
from models.experts import newness
from models.experts.registry import OPTIONAL
from models.learner import Learner
from models.published.bundle import Bundle
from models.published.delta import Delta
from models.published.graph import outputs_of
from models.published.parity import check_parity
from models.published.stores.folder import read_bundle, write_bundle
from serving.catalogue import Catalogue
from serving.scorer import Scorer
from serving.scoring import Ask, score
from tests.models.test_learner import SMALL, bundle_of
from tests.worlds.tastes import START_MS, parade

ROOT = Path(__file__).resolve().parents[2]
NAMED = SMALL.model_copy(update={"experts": {"newness": {"hours": 2.0}}})
ALONE = {"memories": (), "slow": False, "repeats": False, "ranker": False, "popularity_half_lives_days": (3650.0,)}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def news(hours: int) -> list[Example]:
    """Every hour three new items, each as popular as any: whoever comes reads one of the newest three."""
    choose = random.Random(0)
    examples = []
    for i in range(hours * 20):
        hour, time_ms = i // 20, START_MS + i * 180_000
        before = (Entry("home", "view", time_ms - 1000, None),)
        target = Entry(f"news{hour * 3 + choose.randrange(3)}", "view", time_ms, None)
        examples.append(Example(f"u{i}", before, target, 0, EventPosition(i, 0)))
    return examples


def test_it_keeps_the_contract_of_a_learner() -> None:
    check_learner(lambda: Learner(NAMED, seed=3), parade(150))


def test_it_knows_what_no_other_expert_of_its_model_knows() -> None:
    found = []
    for experts in ({}, {"newness": {"hours": 2.0}}):
        learner = Learner(SMALL.model_copy(update={**ALONE, "experts": experts, "window_events": 400}), seed=0)
        learner.learn(news(80))
        found.append(learner.prequential.summary()["ndcg_at_10"]["headwater"])
    assert found[1] > found[0] + 0.2


def test_it_is_published_served_explained_and_kept(tmp_path: Path) -> None:
    learner = Learner(NAMED.model_copy(update=ALONE), seed=0)
    examples = news(40)
    learner.learn(examples[:400])
    learner.save(tmp_path / "learner.ckpt")
    again, _ = Learner.load(tmp_path / "learner.ckpt")
    bundle = again.publish(created_ms=0)
    assert isinstance(bundle, Bundle)
    assert {"newness_first", "newness_now"} <= bundle.weights.keys()
    assert outputs_of(bundle.config)[-1] == "newness"
    catalogue = Catalogue()
    for number in range(200):
        catalogue.put(Item(item_id=f"news{number}"))
    scorer = Scorer(catalogue, "cpu")
    scorer.load(read_bundle(write_bundle(tmp_path, bundle)), 0)
    again.learn(examples[400:])
    delta = again.publish(created_ms=1)
    assert isinstance(delta, Delta)
    scorer.apply(delta, 1)
    assert scorer.version == delta.version
    ask = Ask(Request(request_id="r", user_id="u", k=3, explain=True), [Entry("news3", "view", START_MS, None)])
    (answer,) = score(scorer, [ask], now_ms=examples[-1].target.time_ms, exclude_seen=["*"]).answers
    assert {item.item_id for item in answer.items} == {"news117", "news118", "news119"}
    assert all("new" in item.reasons for item in answer.items)


def test_an_item_that_is_new_after_a_long_pause_within_a_block_breaks_nothing() -> None:
    before = news(2)
    pause = 365 * 24 * 3_600_000
    after = [
        one._replace(history=(), target=one.target._replace(item_id=f"late{i}", time_ms=one.target.time_ms + pause))
        for i, one in enumerate(before)
    ]
    learner = Learner(NAMED, seed=0)
    scored = learner.learn([*before, *after, *before])
    assert len(before) % NAMED.block  # the pause is within a block
    assert all(math.isfinite(one.loss) for one in scored)
    check_parity(bundle_of(learner))


def test_a_misspelt_expert_or_setting_is_refused_with_what_there_is() -> None:
    for experts, told in (({"newnes": {}}, "Known are: newness"), ({"newness": {"hour": 1}}, "newness: hour: Extra")):
        with pytest.raises(SettingsError, match=told):
            Learner(model_config({"experts": experts}))


def test_a_model_without_one_is_written_as_it_always_was() -> None:
    assert "experts" not in ModelConfig().model_dump(mode="json")
    assert ModelConfig(**NAMED.model_dump(mode="json")) == NAMED


def test_the_page_shows_the_file_itself_and_it_is_short() -> None:
    source = Path(inspect.getfile(newness)).read_text()
    assert len(source.splitlines()) < 60
    page = (ROOT / "docs" / "new-expert.md").read_text()
    shown = "".join(re.findall(r"```python\n(.*?)```", page, flags=re.S))
    lines = {line.strip() for line in source.splitlines() if line.strip()}
    assert lines <= {line.strip() for line in shown.splitlines()} | {"}"}
    assert OPTIONAL["newness"].__module__ == newness.__name__
