"""Two speeds: what learns at once learns every example; what learns by gradient, a share of the blocks."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from headwater.examples import Entry, EventPosition, Example, Kind, unpack
from models.config import ModelConfig
from models.learner import Learner
from models.published.delta import Delta
from models.ranker.facts import EXPOSURES
from models.taught.pace import in_share
from tests.worlds.example_logs import SMALL_MODEL, ring_records

BLOCK = 32
FAST = ("memory", "popularity.", "ranker.items", "ranker.alike")


def stream(events: int = 400) -> list[Example]:
    """A ring of clicks; now and then a list is shown, one of its items is taken, and a click is taken back."""
    made: list[Example] = []
    for value in ring_records(events):
        for one in unpack(value):
            assert isinstance(one, Example)
            if len(made) % 7 == 3:
                shown = one.target._replace(type="served")
                made.append(one._replace(kind=Kind.SHOWN, target=shown, items=(one.target.item_id, "i1", "i2")))
            made.append(one)
            if len(made) % 50 == 0:
                made.append(one._replace(kind=Kind.UNDONE))
    return made


def learner(share: float = 1.0, **overrides: Any) -> Learner:
    made = Learner(ModelConfig(**{**SMALL_MODEL, "block": BLOCK, **overrides}))
    made.pace.share = share
    return made


def arrays(one: Learner) -> dict[str, NDArray[Any]]:
    return {name: np.array(array) for name, array in one.collect({})[0].items()}


def same(one: Learner, other: Learner) -> None:
    left, right = arrays(one), arrays(other)
    assert left.keys() == right.keys()
    for name, array in left.items():
        np.testing.assert_array_equal(array, right[name], name)
    headers = [{**each.collect({})[1], "version": 0} for each in (one, other)]
    assert headers[0] == headers[1]


@pytest.mark.parametrize("share", [1.0, 0.5, 0.25, 0.1, 0.001, 0.0])
def test_of_many_blocks_the_share_is_learned_and_the_blocks_lie_apart(share: float) -> None:
    learned = [block for block in range(10_000) if in_share(block, share)]
    assert len(learned) == 10_000 * share
    assert {later - earlier for earlier, later in pairwise(learned)} <= {round(1 / share) if share else 0}


def test_what_learns_at_once_is_the_same_whatever_the_share() -> None:
    whole, resting = learner(), learner(0.0)
    for one in (whole, resting):
        one.learn(stream())
    left, right = arrays(whole), arrays(resting)
    for name in (name for name in left if name.startswith(FAST)):
        np.testing.assert_array_equal(left[name], right[name], name)
    assert whole.items.state() == resting.items.state()
    assert not np.array_equal(left["dense"], right["dense"])
    assert resting.pace.rested == len(stream()) // BLOCK * BLOCK
    assert resting.prequential.events == 0


def test_a_share_learns_the_same_however_the_log_is_cut_and_wherever_it_was_stopped(tmp_path: Path) -> None:
    examples, whole = stream(), learner(0.4)
    whole.learn(examples)
    cut = learner(0.4)
    for i, example in enumerate(examples):
        cut.learn([example])
        if i % 97 == 5:
            cut.save(tmp_path / "here.ckpt")
            cut, _ = Learner.load(tmp_path / "here.ckpt")
    same(whole, cut)
    assert 0 < whole.pace.rested < whole.examples_seen


def test_a_block_goes_on_as_it_began_when_the_share_changes() -> None:
    examples, early, late = stream(), learner(), learner()
    early.learn(examples[: BLOCK + 1])
    early.pace.share = 0.0
    early.learn(examples[BLOCK + 1 :])
    late.learn(examples[: 2 * BLOCK])
    late.pace.share = 0.0
    late.learn(examples[2 * BLOCK :])
    same(early, late)


def test_scoring_what_rests_changes_nothing_that_is_learned_and_leaves_no_query_out() -> None:
    silent, asked, whole = learner(0.25), learner(0.25), learner()
    examples = stream()[: 12 * BLOCK]
    asked.tests_rest = True
    unscored, scored, all_of_them = (one.learn(examples) for one in (silent, asked, whole))
    same(silent, asked)
    queries = [[one.is_query for one in each] for each in (unscored, scored, all_of_them)]
    assert queries[1] == queries[2]
    assert sum(queries[0]) < sum(queries[1])
    assert all(one.headwater > 0 for one in scored if one.is_query)


def test_a_list_shown_while_its_block_rests_is_counted_and_not_waited_for() -> None:
    resting, listed = learner(0.0), ("i1", "i2")
    resting.learn([one for one in stream(64) if one.kind is Kind.EVENT])
    assert resting.parts.ranker is not None
    rows, counted = [resting.items.rows[one] for one in listed], resting.parts.ranker.statistics.items
    before = counted[rows, EXPOSURES].copy()
    shown = Entry("i1", "served", 1_000, None)
    resting.learn([Example("u", [], shown, 0, EventPosition(1, 0), Kind.SHOWN, items=listed)])
    assert (counted[rows, EXPOSURES] == before + 1).all()
    assert not resting.lists.begun


def test_what_is_learned_after_a_rest_is_published_with_what_was_counted_in_it() -> None:
    examples, one = stream(), learner(0.0)
    one.publish(created_ms=0)
    one.learn(examples[:200])
    during = one.publish(created_ms=1)
    assert isinstance(during, Delta)
    assert len(during.rows["popularity"][0])
    assert any(len(places) for name, (places, _) in during.rows.items() if name.startswith("memory0"))
    one.pace.share = 1.0
    one.learn(examples[200:])
    after = one.publish(created_ms=2)
    assert isinstance(after, Delta)
    assert len(after.rows["item_vectors"][0])
