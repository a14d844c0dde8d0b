"""What the catalogue tells of items reaches the ranker: vectors, kinds, words and numbers, as they were known then."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headwater.examples import CatalogueEntry, Example
from models.checkpoint import read_checkpoint, write_checkpoint
from models.config import ModelConfig
from models.content import MODALITIES, WORDS, Content
from models.learner import Learner
from models.quality import Scored
from models.ranker.affinity import column_names, first_taste
from models.ranker.content import ItemContent
from models.ranker.facts import fact_names, first_facts
from models.ranker.network import HIDDEN
from tests.worlds.tastes import examples_of

SMALL = ModelConfig(width=8, block=16, replay_windows=0, exclude_seen=("*",), memories=(), repeats=False)
LOOKS, LENGTH = 6, 48


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def gallery(events: int, seed: int = 0) -> tuple[list[list[float]], list[Example]]:
    """Of each picture its vector, and who looked at what: all like one of six looks, and pictures come and go."""
    choose, draw = random.Random(seed), np.random.default_rng(seed)
    looks = draw.normal(size=(LOOKS, LENGTH))
    look_of = [choose.randrange(LOOKS) for _ in range(40 + events // 2)]
    vectors = [(looks[look] + 0.7 * draw.normal(size=LENGTH)).tolist() for look in look_of]
    stream = []
    for i in range(events):
        user = choose.randrange(18)
        newest = range(i // 2, i // 2 + 40)
        liked = [one for one in newest if look_of[one] == user % LOOKS] or newest
        stream.append((f"u{user}", f"i{choose.choice(liked)}"))
    return vectors, examples_of(stream, history_limit=30)


def ndcg(scored: list[Scored]) -> float:
    ranks = np.array([one.headwater for one in scored if one.is_query])
    return float(np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0.0).mean())


def told(entries: dict[str, dict[str, Any] | None], config: ModelConfig = SMALL) -> Learner:
    learner = Learner(config, seed=0)
    for item_id, content in entries.items():
        learner.observe_item(CatalogueEntry(item_id, content))
    return learner


def test_where_pictures_decide_what_is_liked_the_ranker_learns_from_them() -> None:
    vectors, examples = gallery(600)
    pictures: dict[str, dict[str, Any] | None]
    pictures = {f"i{n}": {"vectors": {"image": one}} for n, one in enumerate(vectors) if n % 10}  # some have none
    seeing, blind = told(pictures), told({})
    found, alone = (ndcg(learner.learn(examples)[300:]) for learner in (seeing, blind))
    assert found > 1.5 * alone
    taste = seeing.parts.ranker.taste.taste  # type: ignore[union-attr]
    assert np.array_equal(taste[WORDS], first_taste()[WORDS])  # nobody has any words
    assert not np.array_equal(taste[WORDS + 1], first_taste()[WORDS + 1])


def test_a_record_counts_from_the_block_after_it_on_and_checkpoints_know_it(tmp_path: Path) -> None:
    examples = examples_of([(f"u{i % 3}", f"i{i % 5}") for i in range(60)])
    learner = told(
        {"i0": {"categories": ["red"], "attributes": {"price": 9.0}}, "later": {"vectors": {"image": [1.0]}}}
    )
    learner.learn(examples[:20])
    content = learner.parts.ranker.content  # type: ignore[union-attr]
    row = learner.items.rows["i0"]
    before = content.content[row].copy()
    assert before[0].any()
    assert not before[1:].any()
    assert content.numbers[row].tolist()[0] == pytest.approx(np.log(10.0))
    learner.observe_item(CatalogueEntry("i0", {"title": "Blue", "vectors": {"image": [-2.0]}}))
    assert np.array_equal(content.content[row], before)  # queries of the block that is open came before it
    learner.save(tmp_path / "learner.ckpt")
    restored, _ = Learner.load(tmp_path / "learner.ckpt")
    for one in (learner, restored):
        one.learn(examples[20:])
        one.learn(examples_of([("u9", "later")] * 32))
    ours, theirs = (one.publish(created_ms=0, full=True) for one in (learner, restored))
    assert ours.digest == theirs.digest
    tables = ours.weights  # type: ignore[union-attr]
    now, other = tables["ranker_content"][[row, learner.items.rows["later"]]]
    assert not now[0].any()
    assert np.array_equal(now[2], -other[2])
    assert column_names(tables["ranker_names"])[:5] == [
        "vector image",
        *(f"vector {n}" for n in (2, 3, 4)),
        "number price",
    ]
    assert tables["ranker_known"].tolist() == [0, 1, 2, 0, 0, 0, 0, 0, 0, 0]


def test_what_is_missing_says_nothing_and_the_fifth_vector_is_not_told_apart() -> None:
    content = Content(9)
    for n, name in enumerate(("image", "sound", "text", "cover", "fifth")):
        content.observe(f"i{n}", {"vectors": {name: [0.3, 1e300, -1.0]}}, n)
        there = content.sketch(n, f"i{n}").any(1).tolist()
        assert there == [place == n + 2 for place in range(MODALITIES)]
    content.observe("zero", {"vectors": {"image": [0.0, -0.0]}}, 5)
    assert not content.sketch(5, "zero").any()
    assert not content.sketch(6, "nobody").any()
    named, again = Content(9), Content(9)
    named.observe("zero", {"vectors": {"image": [0.0]}}, 0)
    again.load(named.state(), named.arrays(), ["zero"])
    assert again.vectors == named.vectors == {"image": WORDS + 1}
    table = ItemContent(2)
    table.put(0, content.sketch(0, "i0"), {0: -1e308, 3: 0.0, 7: 5.0})
    assert np.isfinite(table.numbers).all()
    table.grow(4)
    table.clear([0, 3])
    assert not table.content.any()
    assert not table.known.any()


def test_a_checkpoint_whose_ranker_was_told_less_goes_on_as_it_was(tmp_path: Path) -> None:
    examples = examples_of([(f"u{i % 3}", f"i{(i * i) % 7}") for i in range(300)])
    learner, path = told({}), tmp_path / "learner.ckpt"
    learner.learn(examples[:256])
    learner.save(path)
    arrays, header = read_checkpoint(path)
    experts = len(learner.parts.experts)
    now, then = len(fact_names([""] * experts)), first_facts(experts)
    for name, array in list(arrays.items()):
        if name in ("ranker", "ranker.first", "ranker.second", "ranker.owed"):
            middle = array[now * HIDDEN : -now]
            arrays[name] = np.concatenate([array[: then * HIDDEN], middle, array[-now : len(array) - now + then]])
        elif array.shape[-1:] in ((now,), (now + HIDDEN,)):
            arrays[name] = array[..., : array.shape[-1] - now + then].copy()
        elif name.startswith(("ranker.content", "ranker.numbers", "ranker.known", "ranker.names", "ranker.taste")):
            del arrays[name]
    write_checkpoint(path, arrays, header)
    restored, _ = Learner.load(path)
    network = restored.parts.ranker.network  # type: ignore[union-attr]
    facts = np.random.default_rng(0).normal(size=(9, now)).astype(np.float32)
    wanted = learner.parts.ranker.network  # type: ignore[union-attr]
    wanted.weights()["ranker_hidden_weight"][then:] = 0.0
    wanted.weights()["ranker_linear"][then:] = 0.0
    wanted.mean[then:], wanted.scale[then:] = 0.0, 1.0
    assert np.array_equal(network.said(facts), wanted.said(facts))
    restored.learn(examples[256:])
