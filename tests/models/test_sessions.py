"""Where a session starts is an input of encoder, gate and graph; where there are no sessions nothing is another."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from headwater.examples import Entry, EventPosition, Example
from models.checkpoint import read_checkpoint, write_checkpoint
from models.checks import check_learner, digest_of
from models.inputs import encode_entries, encode_fresh
from models.learner import LONGER_SINCE_SESSIONS, Learner
from models.part import LATER
from models.published.bundle import Bundle
from models.published.digest import hash_all
from models.published.parity import check_parity, reference_scores
from tests.models.test_learner import SMALL
from tests.worlds.tastes import START_MS, ids_by_score, ring

CONFIG = SMALL.model_copy(update={"exclude_seen": (), "repeats": False})
OPENERS, OTHERS = 4, 8


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def visits(events: int, seed: int = 0) -> list[Example]:
    """Every session opens with one of a few items that are seen at no other time. All events are one second apart."""
    choose = random.Random(seed)
    histories: dict[str, list[Entry]] = defaultdict(list)
    session: dict[str, int] = {}
    examples = []
    for i in range(events):
        user = f"u{choose.randrange(12)}"
        opens = user not in session or choose.random() < 0.3
        session[user] = session.get(user, 0) + opens
        item = f"o{choose.randrange(OPENERS)}" if opens else f"i{choose.randrange(OTHERS)}"
        entry = Entry(item, "view", START_MS + 1000 * i, None, session[user])
        examples.append(Example(user, tuple(histories[user][-20:]), entry, 0, EventPosition(i, 0)))
        histories[user].append(entry)
    return examples


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    torch.set_num_threads(1)
    learner = Learner(CONFIG, seed=1)
    learner.learn(visits(1600))
    made = learner.publish(created_ms=0)
    assert isinstance(made, Bundle)
    return made


def openers_among(bundle: Bundle, session: int | None, k: int = 4) -> int:
    """Of the best k items for whoever has just looked at three items in session 7."""
    history = [Entry(f"i{n}", "view", START_MS + 2_000_000 + 1000 * n, None, 7) for n in range(3)]
    scores = reference_scores(bundle, [history], [START_MS + 2_003_000], sessions=[session])[0]
    return sum(item.startswith("o") for item in ids_by_score(scores.tolist(), bundle.items)[:k])


def test_what_opens_a_session_is_named_where_one_starts_and_not_within_one(bundle: Bundle) -> None:
    assert openers_among(bundle, session=8) == OPENERS
    assert openers_among(bundle, session=7) == 0


def test_graph_and_learner_agree_on_where_sessions_start(bundle: Bundle) -> None:
    assert all(bundle.weights[name].any() for name in ("session_start", "session_fresh", "gate_fresh"))
    assert check_parity(bundle) < 1e-3


def test_they_agree_also_where_a_session_starts_after_items_that_nobody_knows(bundle: Bundle) -> None:
    assert check_parity(bundle, [[Entry("unheard-of", "view", START_MS, None, 1)], []]) < 1e-3


@pytest.mark.parametrize("encoder", ["gru", "attention"])
def test_the_contract_holds_with_sessions(encoder: str) -> None:
    config = CONFIG.model_copy(update={"encoder": encoder})
    check_learner(lambda: Learner(config, seed=3), visits(100))


def test_a_session_starts_between_two_neighbours_that_both_have_one_and_differ() -> None:
    sessions = (1, 1, 2, None, 3, 3, 4)
    entries = [Entry(item, "view", START_MS, None, one) for item, one in zip("abcdxef", sessions, strict=True)]
    rows = {item: n for n, item in enumerate("abcdef")}
    assert encode_entries(entries, rows, {}, CONFIG).starts == [False, False, True, False, False, True]
    later = [*entries[:4], entries[4]._replace(session=4), entries[5]._replace(session=5)]
    later[3] = later[3]._replace(session=2)
    assert encode_entries(later, rows, {}, CONFIG).starts == [False, False, True, False, True]
    assert encode_entries(later, rows, {}, CONFIG, 2).starts == [True], "that of the unknown item is the next one's"
    assert [encode_fresh(entries, one) for one in (4, 5, None)] == [0.0, 1.0, 0.0]
    assert encode_fresh([], 4) == encode_fresh(entries[:4], 4) == 0.0


def test_without_sessions_it_is_as_if_there_were_none_of_these_weights(tmp_path: Path) -> None:
    """Digest, and a checkpoint of a release that lacks them."""
    examples = ring(130)
    learner, whole = Learner(SMALL, seed=3), Learner(SMALL, seed=3)
    learner.learn(examples[:70])
    whole.learn(examples)
    made = whole.publish(created_ms=0, full=True)
    assert isinstance(made, Bundle)
    before = {name: array for name, array in made.weights.items() if name not in LATER}
    told = made.items, made.types, made.config
    assert hash_all(before).value(*told) == hash_all(made.weights).value(*told)
    path = tmp_path / "learner.ckpt"
    learner.save(path)
    arrays, header = read_checkpoint(path)
    width, hidden = SMALL.width, SMALL.gate_hidden
    for name in LONGER_SINCE_SESSIONS:
        arrays[name] = arrays[name][: len(arrays[name]) - (hidden if name.startswith("gate") else 3 * width)]
    del arrays["replay.starts"]
    for pending in header["pending"]:
        pending["steps"] = pending["steps"][:5]
        del pending["fresh"], pending["passed_over"]
    del header["teaching"]["passed_over"]
    write_checkpoint(path, arrays, {name: value for name, value in header.items() if name != "format"})
    old, _ = Learner.load(path)
    old.learn(examples[70:])
    assert digest_of(old) == made.digest
    assert not np.concatenate([made.weights[name].ravel() for name in LATER]).any()
