"""How alike items are, and what that takes off: the greedy pass of maximal marginal relevance (Carbonell and Goldstein
1998), an item at a time.

Before: `pool` gives vectors and categories. After: `arrange` takes the penalty off the values.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from models.compiled import compiled_sums
from serving.filters import Mask
from serving.rules import Rows

__all__ = ["Likeness", "diversity_price", "list_diversity", "unit"]

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]

NEAR = 30.0
"""What lies further below the best has no say in the spread: items that no event has had, kinds that only fill up."""

MOST = 1e6
"""Price of diversity 1, in spreads: scores only break ties."""


def diversity_price(diversity: float, values: Array) -> float:
    """What a full likeness takes off a value: diversity / (1 - diversity) spreads of the values offered, which are best
    less median."""
    if not diversity or not len(values):
        return 0.0
    spread = float(values.max() - np.median(values[values > values.max() - NEAR]))
    return min(diversity / (1 - diversity) if diversity < 1 else MOST, MOST) * (spread or 1.0)


class Likeness:
    """Of each item of a pool, how alike it is to the likest of those that are in the list, 0 to 1.

    Two items are as alike as the mean of the cosine of their vectors (0 where it is negative) and the share of
    categories that they have in common (Jaccard); where one has no vector or no category, by the other measure alone.

    Parameters
        vectors: (P, d) of length 1 or 0; None for none.
        categories: each item's.
    """

    def __init__(self, vectors: Array | None, categories: Sequence[Sequence[Hashable]]) -> None:
        count = len(categories)
        self.most = np.zeros(count)
        codes: dict[Hashable, int] = {}
        own = [[codes.setdefault(one, len(codes)) for one in set(given)] for given in categories]
        ends = np.cumsum([0, *(len(one) for one in own)])
        held = np.array([code for one in own for code in one], np.int64)
        vectors = np.zeros((count, 0)) if vectors is None else np.ascontiguousarray(vectors)
        self._known = _Known(vectors, np.asarray(vectors.any(axis=1)), ends, held, np.zeros(len(codes), bool))

    def take(self, item: int) -> None:
        """An item is in the list."""
        _raise(self.most, np.ones(len(self.most), bool), self._known, item)

    def to(self, item: int) -> Array:
        """How alike each is to an item, (P,)."""
        found = np.zeros(len(self.most))
        _raise(found, np.ones(len(found), bool), self._known, item)
        return found

    def greedy(self, values: Array, price: float, free: Mask, count: int) -> list[int]:
        """The next items of a list, so many at most, that nothing but value and likeness decides about; they are taken.

        Parameters
            values: (P,) float64.
            price: what a full likeness takes off.
            free: which items may be picked, (P,).
        """
        picked: list[int] = _greedy(self.most, free.copy(), self._known, values, price, count).tolist()
        return picked


class _Known(NamedTuple):
    """Of the items of a pool: vectors (P, d), and of item p the categories `codes[ends[p]:ends[p + 1]]`; `marks` has a
    place for each code, and is False between calls.
    """

    vectors: Array
    has_vector: Mask
    ends: Ints
    codes: Ints
    marks: Mask


@compiled_sums
def _raise(most: Array, left: Mask, known: _Known, item: int) -> None:
    """An item is in the list: how alike those are to it that are left, where that is more than `most`."""
    vectors, has_vector, ends, codes, marks = known
    size, width = ends[item + 1] - ends[item], vectors.shape[1]
    for at in range(ends[item], ends[item + 1]):
        marks[codes[at]] = True
    for other in range(len(most)):
        if not left[other]:
            continue
        shared, others = 0, ends[other + 1] - ends[other]
        for at in range(ends[other], ends[other + 1]):
            shared += marks[codes[at]]
        alike = shared / max(size + others - shared, 1)
        if has_vector[item] and has_vector[other]:
            cosine = 0.0
            for column in range(width):
                cosine += vectors[item, column] * vectors[other, column]
            cosine = max(cosine, 0.0)
            alike = (cosine + alike) / 2 if size > 0 and others > 0 else cosine
        most[other] = max(most[other], alike)
    for at in range(ends[item], ends[item + 1]):
        marks[codes[at]] = False


@compiled_sums
def _greedy(most: Array, free: Mask, known: _Known, values: Array, price: float, count: int) -> Ints:
    """Best of value less price of likeness, again and again."""
    picked, left = np.zeros(count, np.int64), np.ones(len(values), np.bool_)
    for place in range(count):
        best, worth = -1, -np.inf
        for item in range(len(values)):
            if free[item] and (best < 0 or values[item] - price * most[item] > worth):
                best, worth = item, values[item] - price * most[item]
        if best < 0:
            return picked[:place]
        picked[place] = best
        free[best] = left[best] = False
        _raise(most, left, known, best)
    return picked


def unit(vectors: Array) -> Array:
    """(P, d) float64 of length 1; zeros stay."""
    vectors = vectors.astype(np.float64)
    length = np.sqrt(np.einsum("pd,pd->p", vectors, vectors))
    return np.asarray(vectors / np.where(length > 0, length, 1.0)[:, None])


def list_diversity(rows: Rows, listed: Sequence[int], vectors: Array | None = None) -> float:
    """How unlike the pairs of a list are: 1 less their mean likeness; 1 for a list of less than two.

    Parameters
        rows, vectors: the catalogue and the model's vectors, as of `Offer`.
        listed: rows of the list.
    """
    count = len(listed)
    if count < 2:
        return 1.0
    chosen = np.array(listed, np.int64)
    categories = rows.catalogue.values("categories", rows.slots_of(chosen).tolist())
    likeness = Likeness(None if vectors is None else unit(vectors[chosen]), categories)
    total = sum(float(likeness.to(item)[:item].sum()) for item in range(1, count))
    return 1.0 - total / (count * (count - 1) / 2)
