"""What an event that is undone had taught at once is taken back, wherever in the stream that happens."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from headwater.events import Event
from headwater.examples import Entry, EventPosition, Example, Kind
from models.checks import check_learner
from models.config import MemoryConfig, ModelConfig
from models.learner import Learner
from models.recorder import absorb
from streams.features.fold import Limits
from streams.features.recording import recorded
from tests.models.test_learner import SMALL
from tests.worlds.tastes import START_MS, examples_of

FADING = MemoryConfig(reach=4, symmetric=False, write_fade=0.8, read_fade=0.5, half_life_hours=0.5, slots=16)
CONFIG = SMALL.model_copy(update={"memories": (*SMALL.memories, FADING), "exclude_seen": ()})
ITEMS = 9


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def stream(events: int, seed: int = 0) -> list[Example]:
    choose = random.Random(seed)
    return examples_of([(f"u{choose.randrange(4)}", f"i{choose.randrange(ITEMS)}") for _ in range(events)])


def undone(example: Example) -> Example:
    return example._replace(kind=Kind.UNDONE)


def said(learner: Learner) -> dict[str, NDArray[np.float64]]:
    """What memories say of every pair of items, popularity in events, and the rate of returns: all that is counted."""
    rows = [learner.items.rows[f"i{n}"] for n in range(ITEMS)]
    found: dict[str, NDArray[np.float64]] = {}
    for k, memory in enumerate(learner.parts.memories):
        table = np.zeros((ITEMS, ITEMS))
        for n, row in enumerate(rows):
            others, scores = memory.score(np.array([row]))
            for other, score in zip(others.tolist(), scores.tolist(), strict=True):
                table[n, rows.index(other)] = score
        assert (memory.held.weights >= 0).all()
        found[f"memory {k}"] = table
        worth = memory.held.log_source[rows]
        found[f"worth {k}"] = worth - worth.max()
        found[f"scale {k}"] = memory.held.target_scale[rows].astype(np.float64)
    popularity = learner.parts.popularity
    found["popularity"] = np.exp(popularity.log[rows] - popularity.now(START_MS + 200_000))
    found["counts"] = popularity.counts[rows].astype(np.float64)
    found["returns"] = np.concatenate([learner.parts.return_rate.events, learner.parts.return_rate.returns])
    return found


@pytest.mark.parametrize("later", [0, 40])
def test_an_event_and_its_undoing_leave_memories_and_popularity_as_if_neither_had_been(later: int) -> None:
    """Also where others' events came between the two."""
    examples = stream(200 + later)
    taken = 150
    history = [*examples[taken - 1].history, examples[taken - 1].target]
    extra = Example("u9", history, Entry("i3", "view", START_MS + 1000 * taken + 400, None), 0, EventPosition(taken, 1))
    without, with_both = Learner(CONFIG), Learner(CONFIG)
    without.learn(examples)
    with_both.learn([*examples[:taken], extra, *examples[taken : 200 - later], undone(extra), *examples[200 - later :]])
    expected, found = said(without), said(with_both)
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, rel=0.01, abs=1e-6), name
    once = Learner(CONFIG)
    once.learn([*examples[:taken], extra, *examples[taken:]])
    assert np.abs(said(once)["memory 1"] - expected["memory 1"]).max() > 0.01


def test_what_is_undone_at_once_is_undone_to_rounding_however_old_the_rest_is() -> None:
    examples = stream(200)
    days = [
        one._replace(target=one.target._replace(time_ms=START_MS + 3_600_000 * i)) for i, one in enumerate(examples)
    ]
    without, with_both = Learner(CONFIG), Learner(CONFIG)
    without.learn(days[:150])
    with_both.learn([*days[:151], undone(days[150])])
    for name, values in said(without).items():
        assert said(with_both)[name] == pytest.approx(values, rel=1e-4, abs=1e-6), name


def test_an_item_whose_only_event_is_undone_is_associated_with_nothing() -> None:
    learner = Learner(CONFIG)
    examples = examples_of([("u", "i0"), ("u", "i1")])
    learner.learn([*examples, undone(examples[1])])
    for memory in learner.parts.memories:
        for row in range(2):
            assert not len(memory.score(np.array([row]))[0])
    assert learner.parts.popularity.counts[:2].tolist() == [1, 0]
    learner.learn([undone(examples[1]), undone(examples[0]), undone(examples[0])])
    assert learner.parts.popularity.counts[:2].tolist() == [0, 0]
    learner.learn(stream(100))
    assert all(np.isfinite(array).all() for array in learner.publish(created_ms=0, full=True).weights.values())


def test_an_association_whose_slot_another_took_has_nothing_to_take_back() -> None:
    crowded = tuple(one.model_copy(update={"slots": 1}) for one in CONFIG.memories)
    learner = Learner(CONFIG.model_copy(update={"memories": crowded}))
    examples = examples_of([("u", "i0"), ("u", "i1"), ("v", "i0"), ("v", "i2"), ("w", "i0"), ("w", "i2")])
    learner.learn(examples)
    memory, rows = learner.parts.memories[0], learner.items.rows
    assert memory.score(np.array([rows["i0"]]))[0].tolist() == [rows["i2"]]
    before = memory.held.weights.copy()
    learner.learn([undone(examples[1])])
    assert np.array_equal(memory.held.weights, before)


def test_the_contract_holds_wherever_in_a_block_something_is_undone() -> None:
    choose = random.Random(5)
    examples: list[Example] = []
    for example in stream(110):
        examples.append(example)
        if choose.random() < 0.3:
            examples.append(undone(choose.choice([one for one in examples[-20:] if one.kind is Kind.EVENT])))
    check_learner(lambda: Learner(CONFIG, seed=3), examples)


def test_an_undoing_is_no_query_and_no_step_of_a_sequence() -> None:
    examples = stream(32)
    learner, other = Learner(CONFIG), Learner(CONFIG)
    found = learner.learn([*examples, *map(undone, examples[-16:])])
    assert [one.is_query for one in found[32:]] == [False] * 16
    assert learner.examples_seen == 48
    other.learn(examples)
    assert learner.parts.sequence.replay.ringed == other.parts.sequence.replay.ringed


def test_absorbing_takes_back_as_learning_does() -> None:
    examples = stream(64)
    log = [*examples, undone(examples[40]), undone(examples[60])]
    absorbed, learned = Learner(CONFIG), Learner(CONFIG)
    admitted = absorb(absorbed, log)
    learned.learn(log)
    assert admitted == examples
    for name, values in said(learned).items():
        assert np.array_equal(said(absorbed)[name], values), name


def test_nobody_takes_back_more_than_they_taught() -> None:
    config = ModelConfig(width=16, block=8, exclude_seen=(), teach_per_minute=10)
    learner = Learner(config)
    crowd = examples_of([(f"u{n % 40}", f"i{n % 7}") for n in range(512)])
    learner.learn(crowd)
    row = learner.items.rows["i3"]
    before = int(learner.parts.popularity.counts[row])
    start = START_MS + 1000 * 600
    many = [
        Example("crawler", (), Entry("i3", "view", start + n, None), 0, EventPosition(1000 + n, 0)) for n in range(300)
    ]
    learner.learn(many)
    assert learner.limit.capped > 100
    learner.learn([undone(one) for one in many])
    assert int(learner.parts.popularity.counts[row]) == before


def test_likes_and_unlikes_of_a_stream_teach_as_if_neither_had_been() -> None:
    """From events by way of the fold to what is counted."""
    choose = random.Random(2)
    plain, with_likes = [], []
    for n in range(160):
        kind = "like" if choose.random() < 0.3 else "view"
        one = Event(
            event_id=f"e{n}",
            user_id=f"u{choose.randrange(4)}",
            item_id=f"i{choose.randrange(ITEMS)}",
            type=kind,
            event_time=START_MS + 60_000 * n,
        )
        plain.append(one)
        with_likes.append(one)
        if n % 8 == 5:  # by somebody else, who does nothing that stays
            mistake = one.model_copy(update={"event_id": f"m{n}", "user_id": f"v{n % 3}", "type": "like"})
            undo = mistake.model_copy(
                update={"event_id": f"n{n}", "type": "unlike", "event_time": mistake.event_time + 30_000}
            )
            with_likes += [mistake, undo]
    learners = [Learner(CONFIG), Learner(CONFIG)]
    for learner, happened in zip(learners, (plain, with_likes), strict=True):
        examples = list(recorded(iter(happened), Limits()).examples())
        learner.learn(examples)
    assert sum(one.kind is Kind.UNDONE for one in examples) == 20
    for name, values in said(learners[0]).items():
        assert said(learners[1])[name] == pytest.approx(values, rel=1e-3, abs=1e-6), name
