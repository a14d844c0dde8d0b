"""The newest events, kept for the peers that are fitted anew now and then.

Before: a peer adds each event. After: it is told when to fit, and on what. Knows no model.

Fitting after every event is out of reach, and a schedule that suits 100,000 events does not suit two million. So a fit
comes after `refit_every` events at first, later after a `share` of the events kept, and only the newest `capacity`
events are kept.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

__all__ = ["NewestEvents", "neighbours_of"]


class NewestEvents:
    """A ring of (user, item) pairs."""

    def __init__(self, capacity: int, refit_every: int, share: float) -> None:
        self.pairs = np.zeros((capacity, 2), np.int64)
        self.refit_every, self.share = refit_every, share
        self.added = 0
        self.next_fit = refit_every

    def add(self, user: int, item: int) -> bool:
        """Keep one event; true when it is time to fit."""
        self.pairs[self.added % len(self.pairs)] = user, item
        self.added += 1
        if self.added < self.next_fit:
            return False
        self.next_fit = self.added + max(self.refit_every, int(self.share * min(self.added, len(self.pairs))))
        return True

    def matrix(self, items: int) -> tuple[csr_matrix, NDArray[np.int64]]:
        """(users, items) of ones where a user of the kept events had an item, and the users' numbers by row."""
        users, rows = np.unique(self.pairs[: self.added, 0], return_inverse=True)
        columns = self.pairs[: self.added, 1]
        ones = np.ones(len(columns), np.float32)
        matrix = csr_matrix((ones, (rows, columns)), shape=(len(users), items))
        matrix.sum_duplicates()
        matrix.data[:] = 1.0
        return matrix, users


def neighbours_of(
    similarity: csr_matrix, items: list[int], weights: NDArray[np.float32], known: int
) -> NDArray[np.float32]:
    """Weighted sum of some rows of a sparse item-item matrix, as (known,) dense."""
    found = np.zeros(known, np.float32)
    for item, weight in zip(items, weights, strict=True):
        if item < similarity.shape[0]:
            row = slice(similarity.indptr[item], similarity.indptr[item + 1])
            found[similarity.indices[row]] += weight * similarity.data[row]
    return found
