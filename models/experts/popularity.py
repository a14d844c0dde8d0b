"""How popular each item is: decayed at several reaches for the model, all-time for the honest peer.

Before: `learner` counts each target. After: `fusion` reads the decayed logarithms, prequential ranks read the all-time
count. Knows rows, not item ids.

Forward decay (Cormode, Shkapenyuk, Srivastava, Xu 2009, section 3): an event at time t weighs 2^(t / half-life), so
that order and batching do not matter and nothing is ever rescaled. Kept as logarithms, which cannot overflow. A long
half-life knows what is popular, a short one what is popular now: the gate has a trust in each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["FLOOR", "UNSEEN", "Popularity", "relative"]

UNSEEN = -1e30
"""Log popularity, and score, of a row that no event has had: ranks below everything and is still finite."""

FLOOR = -7.0
"""Log popularity counts from here up: what is a thousandth of one event, or less, is all the same."""

DAY_MS = 86_400_000.0


class Popularity:
    """`log` (capacity, P) float64: log of decayed weight by half-life; `counts` (capacity,) int64: all-time events."""

    def __init__(self, half_lives_days: Sequence[float], capacity: int) -> None:
        self.per_ms = np.log(2.0) / (np.array(half_lives_days, np.float64) * DAY_MS)  # (P,)
        self.rates: list[float] = self.per_ms.tolist()
        self.landmark_ms: int | None = None  # the first event's time: weights are relative to it
        self.newest_ms: int | None = None  # the latest time that an event had
        self.log = np.full((capacity, len(self.per_ms)), UNSEEN)
        self.counts = np.zeros(capacity, np.int64)

    def grow(self, capacity: int) -> None:
        """Room for more items."""
        more = capacity - len(self.log)
        self.log = np.concatenate([self.log, np.full((more, len(self.per_ms)), UNSEEN)])
        self.counts = np.concatenate([self.counts, np.zeros(more, np.int64)])

    def update(self, row: int, time_ms: int, weight: float = 1.0) -> None:
        """Count one event of an item at its own time (epoch ms). One without weight only makes the item known."""
        if self.landmark_ms is None or self.newest_ms is None:
            self.landmark_ms = self.newest_ms = time_ms
        self.newest_ms = max(self.newest_ms, time_ms)
        own, since, log_weight = self.log[row], self.since_ms(time_ms), math.log(max(weight, 1e-9))
        for p, (before, rate) in enumerate(zip(own.tolist(), self.rates, strict=True)):
            event = since * rate + log_weight
            own[p] = max(before, event) + math.log1p(math.exp(-abs(before - event)))
        self.counts[row] += 1

    def since_ms(self, time_ms: int) -> int:
        """Time since the first event's."""
        return 0 if self.landmark_ms is None else time_ms - self.landmark_ms

    def now(self, time_ms: int | None) -> NDArray[np.float64]:
        """Log weight of one event at a time, (P,): what `log` is to be compared with. None counts as the landmark."""
        if time_ms is None or self.landmark_ms is None:
            return np.zeros(len(self.per_ms))
        log: NDArray[np.float64] = (time_ms - self.landmark_ms) * self.per_ms
        return log

    def chances(self, used: int, live: float = 0.0) -> NDArray[np.float64]:
        """Chance of each of the first `used` rows to be drawn as a negative, (used,): 0 for free rows, 1 in all.

        A share `live` follows the popularity of the shortest reach. Half of the rest follows all-time counts and half
        is uniform: frequent rows alone starve the tail, uniform ones alone are too easy.
        """
        counts = self.counts[:used].astype(np.float64)
        known = counts > 0
        chances: NDArray[np.float64] = counts / max(counts.sum(), 1.0) + known / max(known.sum(), 1)
        chances *= (1.0 - live) / 2
        if live and known.any():
            log = self.log[:used, int(self.per_ms.argmax())]
            now = np.where(known, np.exp(log - log.max()), 0.0)
            chances += live * now / now.sum()
        return chances

    def clear(self, rows: list[int]) -> None:
        """Forget items."""
        self.log[rows] = UNSEEN
        self.counts[rows] = 0


def relative(log: NDArray[np.float32], now: np.float32) -> NDArray[np.float32]:
    """Log popularity of one reach, in events that happened just now and never below `FLOOR`, as the fusion takes it."""
    above: NDArray[np.float32] = np.maximum(log - now, np.float32(FLOOR))
    return above
