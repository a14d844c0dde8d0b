"""Candidates of a query: the best of each expert by itself and of all together, its own history, what is new or alike.

Before: a query's scores, -inf where its rules let nothing go. After: `facts` tells of the rows chosen here. The one
choice for learner and serving. Exact, in compiled loops; the lists that no query changes are made once for many
(`standing_of`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.block import Sparse, Weighed
from models.compiled import compiled
from models.ranker.facts import FEW_EVENTS
from models.top_k import top_k

__all__ = ["MOST", "Few", "StandingList", "alike_of", "best_of_others", "candidates_of", "said_at", "standing_lists"]
__all__ += ["standing_of"]

Array = NDArray[np.float32]
Rows = NDArray[np.int64]

MOST = 300
"""Candidates of a query."""

FUSED, EACH = 100, 30
"""Of the fused scores, and of each expert's own."""

NEW = 30
"""Of the fused scores among new items (`FEW_EVENTS`)."""

POPULAR, NEWEST = 15, 40
"""Of each popularity's reach, and of the items that came last."""


NOTHING = np.float32(-np.inf)

STRETCH = 64
"""Rows that are looked at together, many in one instruction, for whether any of them is better than what is kept."""

SIEVE = 4096
"""Remainders of row numbers, most of which tell in the nearest memory that a row is none of the candidates."""

LIKE = 8
"""Newest entries of the history of which alike items are candidates."""


class Few(NamedTuple):
    """An opinion of few items: (N,), 0 of all others."""

    values: Array


def alike_of(alike: NDArray[np.int32], own: Rows) -> Rows:
    """Rows of what is like the newest entries of a history: of `ranker_alike` (N, A) and the history's rows (L,)."""
    return alike[own[-LIKE:]].ravel().astype(np.int64)


def standing_of(popularity: NDArray[np.floating], first: Array) -> Rows:
    """Rows that are candidates of every query: the newest items, and the most popular by each half-life.

    Parameters
        popularity: (N, P) log popularity, as published: below -1e29 where nobody has seen the row.
        first: (N,) when each item had its first event, `statistics.FIRST`; below -1e8 where it had none.

    Returns
        At most NEWEST + P * POPULAR rows, some of them twice. The learner asks at each block's start, serving once for
        a version: they are as of the last step. Rows that are not open to a query are left out of its candidates.
    """
    return np.concatenate([one.rows for one in standing_lists(popularity, first)])


class StandingList(NamedTuple):
    """A list that no query changes, (k,), best first, and what it is by, (k,)."""

    rows: Rows
    values: Array


def standing_lists(
    popularity: NDArray[np.floating], first: Array, before: Sequence[StandingList] = (), touched: Rows | None = None
) -> list[StandingList]:
    """The lists of `standing_of`, whose parameters the first two are.

    Parameters
        before: the lists of a moment ago.
        touched: ascending, the rows that are not as they were then; None: any may be otherwise. The lists that these
            few lead to are found without a look at the others, unless something that was on one has fallen.
    """
    lists = []
    for place, column in enumerate([first, *popularity.T]):
        many = NEWEST if place == 0 else POPULAR
        old = before[place] if touched is not None and before else None
        if old is not None and touched is not None:
            if not len(touched):
                lists.append(old)
                continue
            if (_standing_by(popularity, column, old.rows) >= old.values).all():
                rows = np.union1d(old.rows, touched)
                best = rows[top_k(_standing_by(popularity, column, rows), many)]
                lists.append(StandingList(best, _standing_by(popularity, column, best)))
                continue
        best = top_k(np.where(popularity[:, 0] > -1e29, column, -np.inf), many)
        lists.append(StandingList(best, _standing_by(popularity, column, best)))
    return lists


def _standing_by(popularity: NDArray[np.floating], column: NDArray[np.floating], rows: Rows) -> Array:
    by: Array = np.where(popularity[rows, 0] > -1e29, column[rows], -np.inf)
    return by


def candidates_of(
    scores: Array, opinions: Sequence[Sparse | Few | Array], own: Rows, others: Rows, counts: Array
) -> Rows:
    """The candidates of one query.

    Parameters
        scores: (N,) fused, before the ranker's revision; -inf where a row is forbidden or not open.
        opinions: of each memory its contribution to the fused scores, `Sparse` or `Few`, and of each expert with an
            opinion of all items its contribution (N,); popularity has its place in `others`.
        own: rows of the history, in any order.
        others: rows of `standing_of` and of what is like the recent items.
        counts: (N,) float32, events that spoke for each item.

    Returns
        (C,) different rows, at most MOST, ascending. The fused best come first where there are too many, then own, the
        best of the new items, the experts' in their order, and others.
    """
    fused, new = _best_and_new(scores, counts, FUSED, NEW)
    lists = [fused, own, new]
    for said in opinions:
        if isinstance(said, Sparse):
            lists.append(_best_of(said.rows, said.values, scores, EACH))
        elif isinstance(said, Few):
            lists.append(_best(said.values, scores, EACH, np.float32(0)))
        else:
            lists.append(_best(said, scores, EACH, NOTHING))
    lists.append(others)
    found = _different(np.concatenate(lists), scores, MOST)
    found.sort()
    return found


def best_of_others(scores: Array, closed: float) -> float:
    """A score that no row beyond the candidates is above, of the candidates' fused scores (C,): all of them above
    `closed`, and only those are left out that are not. The best FUSED of all rows are candidates.
    """
    many = len(scores)
    return closed if many < FUSED else float(np.partition(scores, many - FUSED)[many - FUSED])


def said_at(said: Sparse | Weighed | Array, rows: Rows) -> Array:
    """What an opinion is of rows (C,), ascending: of all rows (N,), or of few, as often as a row is among them."""
    if isinstance(said, Weighed):
        return said.at(rows)
    if not isinstance(said, Sparse):
        return said[rows]
    return _at(said.rows, said.values, rows)


@compiled
def _at(where: Rows, values: Array, rows: Rows) -> Array:
    found, may_be = np.zeros(len(rows), np.float32), np.zeros(SIEVE, np.bool_)
    for row in rows:
        may_be[row % SIEVE] = True
    for i in range(len(where)):
        if may_be[where[i] % SIEVE] and values[i] != 0:
            place = np.searchsorted(rows, where[i])
            if place < len(rows) and rows[place] == where[i]:
                found[place] += values[i]
    return found


@compiled
def _sift(values: Array, rows: Rows, held: int) -> None:
    """Put the root of a heap, the least value and of equals the highest row on top, to its place."""
    at = 0
    while True:
        child = 2 * at + 1
        if child >= held:
            return
        other = child + 1
        if other < held and (
            values[other] < values[child] or (values[other] == values[child] and rows[other] > rows[child])
        ):
            child = other
        if values[child] > values[at] or (values[child] == values[at] and rows[child] < rows[at]):
            return
        values[at], values[child] = values[child], values[at]
        rows[at], rows[child] = rows[child], rows[at]
        at = child


@compiled
def _best(values: Array, scores: Array, k: int, least: np.float32) -> Rows:
    """The `k` rows that have the highest values (N,) above `least` among those with a score; ties to the lowest, in no
    order.
    """
    kept, rows, lowest = np.full(k, least, np.float32), np.full(k, 1 << 62, np.int64), np.float32(-np.inf)
    for begin in range(0, len(scores), STRETCH):
        some, open_if, above = values[begin : begin + STRETCH], scores[begin : begin + STRETCH], np.int32(0)
        for j in range(len(some)):  # no branches: many rows in one instruction, and most stretches end here
            above |= np.int32(some[j] > least)
        if above:
            above = np.int32(0)
            for j in range(len(open_if)):
                above |= np.int32((some[j] > least) & (open_if[j] > lowest))
        for j in range(len(open_if) if above else 0):
            if some[j] > least and open_if[j] > lowest:
                kept[0], rows[0] = some[j], begin + j
                _sift(kept, rows, k)
                least = kept[0]
    return rows[rows < 1 << 62]


@compiled
def _best_and_new(scores: Array, counts: Array, k: int, many: int) -> tuple[Rows, Rows]:
    """The same by the scores themselves, and the best `many` of items with at most FEW_EVENTS, in one pass."""
    kept, rows, least = np.full(k, NOTHING, np.float32), np.full(k, 1 << 62, np.int64), NOTHING
    new, new_rows, least_new = np.full(many, NOTHING, np.float32), np.full(many, 1 << 62, np.int64), NOTHING
    for begin in range(0, len(scores), STRETCH):
        some, count, above = scores[begin : begin + STRETCH], counts[begin : begin + STRETCH], np.int32(0)
        either = min(least, least_new)
        for j in range(len(some)):
            above |= np.int32(some[j] > either)
        if above:
            above = np.int32(0)
            for j in range(len(some)):
                above |= np.int32((some[j] > least) | ((some[j] > least_new) & (count[j] <= FEW_EVENTS)))
        for j in range(len(some) if above else 0):
            score = some[j]
            if score > least:
                kept[0], rows[0] = score, begin + j
                _sift(kept, rows, k)
                least = kept[0]
            if score > least_new and count[j] <= FEW_EVENTS:
                new[0], new_rows[0] = score, begin + j
                _sift(new, new_rows, many)
                least_new = new[0]
    return rows[rows < 1 << 62], new_rows[new_rows < 1 << 62]


@compiled
def _best_of(where: Rows, values: Array, scores: Array, k: int) -> Rows:
    """The same of rows `where` (m,), whatever their order, of those with a value above 0."""
    kept, rows = np.zeros(k, np.float32), np.full(k, 1 << 62, np.int64)
    for i in range(len(where)):
        row, value = where[i], values[i]
        better = value > kept[0] or (value == kept[0] and value > 0 and row < rows[0])
        if better and scores[row] > -np.inf:  # in this order: scores lie anywhere in the memory
            kept[0], rows[0] = value, row
            _sift(kept, rows, k)
    return rows[kept > 0]


@compiled
def _different(rows: Rows, scores: Array, most: int) -> Rows:
    """The first `most` different rows that have a score."""
    met = np.zeros(len(scores), np.bool_)
    found = np.empty(min(most, len(rows)), np.int64)
    held = 0
    for i in range(len(rows)):
        row = rows[i]
        if held < most and row < len(scores) and not met[row] and scores[row] > -np.inf:
            met[row] = True
            found[held] = row
            held += 1
    return found[:held]
