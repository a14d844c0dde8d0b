"""How alike items are, and what that takes off: the greedy pass of maximal marginal relevance (Carbonell and Goldstein
1998), an item at a time.

Before: `pool` gives vectors and categories. After: `arrange` takes the penalty off the values.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.rules import Rows

__all__ = ["Likeness", "diversity_price", "list_diversity", "unit"]

Array = npt.NDArray[Any]

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
        self.most = np.zeros(len(categories))
        self._vectors = vectors
        self._has_vector = np.zeros(len(categories), bool)
        if vectors is not None:
            self._has_vector[:] = vectors.any(axis=1)
        codes: dict[Hashable, int] = {}
        pairs = [(item, codes.setdefault(one, len(codes))) for item, own in enumerate(categories) for one in set(own)]
        items, held = np.array(pairs, np.int64).reshape(-1, 2).T
        self._sizes = np.bincount(items, minlength=len(categories))
        self._has = np.zeros((len(codes), len(categories)), np.uint8)  # (categories, P)
        self._has[held, items] = 1

    def take(self, item: int) -> None:
        """An item is in the list."""
        np.maximum(self.most, self.to(item), out=self.most)

    def to(self, item: int) -> Array:
        """How alike each is to an item, (P,)."""
        size = int(self._sizes[item])
        shared: Array = self._has[self._has[:, item] > 0].sum(axis=0, dtype=np.float64)
        by_category: Array = shared / np.maximum(self._sizes + size - shared, 1.0)
        if self._vectors is None or not self._has_vector[item]:
            return by_category
        by_vector = np.maximum(self._vectors @ self._vectors[item], 0.0)
        if not size:
            return np.asarray(np.where(self._has_vector, by_vector, 0.0))
        both = self._has_vector & (self._sizes > 0)
        return np.where(both, (by_vector + by_category) / 2, np.where(self._has_vector, by_vector, by_category))


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
