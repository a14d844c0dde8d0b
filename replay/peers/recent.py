"""The user's own newest items first, then what is popular: the peer to beat where people come back to items.

Before: the backtest asks with a history. After: its own items lead, newest first. Knows no model.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from replay.backtest.queries import Query
from replay.peers.popularity import WindowedPopularity

__all__ = ["RecentItems"]


class RecentItems:
    """The newest `reach` different items of the history in order, above popularity of the newest `window_h` hours."""

    name = "recent"
    random = False

    def __init__(self, reach: int = 100, window_h: float = 168.0, seed: int = 0) -> None:
        self.reach = reach
        self.popularity = WindowedPopularity(window_h, seed)

    def scores(self, query: Query) -> NDArray[np.float32]:
        """(known,) popularity below 1; own items above it, the newest highest."""
        popular = self.popularity.scores(query)
        scores: NDArray[np.float32] = popular / np.float32(1.0 + popular.max())
        own = np.array(query.history[-self.reach :], np.int64)  # oldest first: of repeats the newest is written last
        scores[own] = np.arange(2, 2 + len(own), dtype=np.float32)
        return scores

    def learn(self, query: Query) -> None:
        """Count one event."""
        self.popularity.learn(query)
