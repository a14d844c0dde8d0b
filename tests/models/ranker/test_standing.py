"""Lists that no query changes are the same whether they are made anew or from what a delta touched."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.block import Sparse
from models.ranker.candidates import EACH, FUSED, NEW, candidates_of, said_at, standing_lists
from models.ranker.facts import FEW_EVENTS

UNSEEN = -1e30


def test_lists_from_what_was_touched_are_those_of_all_rows() -> None:
    choose = np.random.default_rng(0)
    popularity = np.full((400, 2), UNSEEN, np.float32)
    popularity[:300] = choose.integers(0, 40, (300, 2))  # many are equal
    first = choose.integers(0, 30, 400).astype(np.float32)
    lists = standing_lists(popularity, first)
    for turn in range(60):
        touched = np.unique(choose.integers(0, 400, choose.integers(0, 12)))
        popularity[touched] = choose.integers(0, 50, (len(touched), 2)) + turn
        if turn % 5 == 0 and len(touched):
            popularity[touched[:2]] = UNSEEN  # items that were let go
        if turn % 7 == 0:
            best = lists[1].rows[:1]
            popularity[best] -= 30  # an undo of what was on a list
            touched = np.union1d(touched, best)
        first[touched] = choose.integers(0, 60, len(touched))
        lists = standing_lists(popularity, first, lists, touched)
        for one, other in zip(lists, standing_lists(popularity, first), strict=True):
            np.testing.assert_array_equal(one.rows, other.rows)
            np.testing.assert_array_equal(one.values, other.values)


def test_what_is_said_of_few_rows_is_found_as_often_as_it_is_said() -> None:
    said = Sparse(np.array([7, 2, 7, 0, 0]), np.array([1.0, 2.0, 0.5, 0.0, 0.0], np.float32))
    rows = np.array([0, 2, 5, 7])
    assert said_at(said, rows).tolist() == [0.0, 2.0, 0.0, 1.5]
    assert said_at(np.arange(9, dtype=np.float32), rows).tolist() == rows.tolist()


@pytest.mark.parametrize("many", [5, 64, 1000])
def test_candidates_are_the_best_that_a_look_at_each_row_finds_whatever_ties_there_are(many: int) -> None:
    chance = np.random.default_rng(many)
    scores, said = (chance.normal(size=many).round(1).astype(np.float32) for _ in range(2))
    scores[chance.random(many) < 0.2] = -np.inf
    said[chance.random(many) < 0.1] = np.nan
    counts, rows, none = chance.integers(0, 12, many).astype(np.float32), np.arange(many), np.zeros(0, np.int64)

    def best(by: NDArray[np.float32], among: NDArray[np.bool_], k: int) -> set[int]:
        return set(sorted(rows[among].tolist(), key=lambda row: (-by[row], row))[:k])

    able = np.isfinite(scores)
    wanted = best(scores, able, FUSED) | best(scores, able & (counts <= FEW_EVENTS), NEW)
    wanted |= best(said, able & ~np.isnan(said), EACH)
    assert candidates_of(scores, [said], none, none, counts).tolist() == sorted(wanted)
