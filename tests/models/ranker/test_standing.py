"""Lists that no query changes are the same whether they are made anew or from what a delta touched."""

from __future__ import annotations

import numpy as np

from models.block import Sparse
from models.ranker.candidates import said_at, standing_lists

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
