"""What the peers that are fitted anew now and then have in common: when they are, and on which events.

Before: the backtest tells each event. After: `als`, `bpr` and `item_item` fit their models. Knows no model.

Fitting after every event is out of reach, and a schedule that suits 100,000 events does not suit two million. So a fit
comes after `refit_every` events at first, later after a `share` of the events kept, and only the newest `capacity`
events are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from replay.backtest.queries import Query
from replay.peers.popularity import WindowedPopularity

__all__ = ["NewestEvents", "RefittedPeer"]


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


@dataclass(kw_only=True, eq=False)
class RefittedPeer:
    """A peer that is fitted on the newest `capacity` events. What no fit has met is told apart by popularity."""

    capacity: int = 200_000
    refit_every: int = 1000
    share: float = 0.05
    window_h: float = 168.0
    seed: int = 0

    def __post_init__(self) -> None:
        self.events = NewestEvents(self.capacity, self.refit_every, self.share)
        self.popularity = WindowedPopularity(self.window_h, self.seed)

    def popular(self, query: Query) -> NDArray[np.float32]:
        """(known,) popularity, less than 1e-4: it decides only where the fit does not."""
        popular = self.popularity.scores(query)
        return popular * np.float32(1e-4 / (1.0 + popular.max()))

    def learn(self, query: Query) -> None:
        """Keep one event; fit anew when it is time."""
        self.popularity.learn(query)
        if self.events.add(query.user, query.item):
            self.fit(max(query.known, query.item + 1))

    def fit(self, items: int) -> None:
        """Fit on `self.events`, in which items are numbers below `items`."""
        raise NotImplementedError
