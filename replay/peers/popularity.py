"""How often each item was chosen: ever, or within a sliding window of event time.

Before: the backtest tells each event. After: the counts are the scores. Knows no users.
"""

from __future__ import annotations

from array import array

import numpy as np
from numpy.typing import NDArray

from replay.backtest.queries import Query
from replay.peers.growing import room

__all__ = ["AllTimePopularity", "WindowedPopularity"]

HOUR_MS = 3_600_000


class AllTimePopularity:
    """All-time counts."""

    name = "popularity"
    random = False

    def __init__(self, seed: int = 0) -> None:
        del seed
        self.counts = np.zeros(1024, np.float32)

    def scores(self, query: Query) -> NDArray[np.float32]:
        """(known,) events of each item so far."""
        self.counts = room(self.counts, query.known)
        return self.counts[: query.known]

    def learn(self, query: Query) -> None:
        """Count one event."""
        self.counts = room(self.counts, query.item + 1)
        self.counts[query.item] += 1


class WindowedPopularity:
    """Counts over the newest `window_h` hours of event time, exactly; equal counts are told apart by all-time counts.

    An event is in the window of an instant t when it happened in (t - window, t]. Memory: 12 bytes for each event of up
    to two windows. A late event leaves together with what came before it, so it may stay that much longer.
    """

    random = False

    def __init__(self, window_h: float = 24.0, seed: int = 0) -> None:
        self.name = f"popularity-{window_h:g}h"
        self.window_ms = window_h * HOUR_MS
        self.ever = AllTimePopularity(seed)
        self.counts = np.zeros(1024, np.float32)
        self.times, self.items = array("q"), array("i")  # of the events, in the order in which they came
        self.first = 0  # the oldest event of the window

    def scores(self, query: Query) -> NDArray[np.float32]:
        """(known,) events of each item in the window, plus less than one for its all-time count."""
        self._expire(query.example.target.time_ms)
        ever = self.ever.scores(query)
        self.counts = room(self.counts, query.known)
        return self.counts[: query.known] + ever * np.float32(0.5 / (1.0 + ever.max()))

    def learn(self, query: Query) -> None:
        """Count one event."""
        self.ever.learn(query)
        self.counts = room(self.counts, query.item + 1)
        self._expire(query.example.target.time_ms)
        self.times.append(query.example.target.time_ms)
        self.items.append(query.item)
        self.counts[query.item] += 1

    def _expire(self, now_ms: int) -> None:
        oldest = now_ms - self.window_ms
        while self.first < len(self.times) and self.times[self.first] <= oldest:
            self.counts[self.items[self.first]] -= 1
            self.first += 1
        if self.first > max(1024, len(self.times) // 2):
            del self.times[: self.first], self.items[: self.first]
            self.first = 0
