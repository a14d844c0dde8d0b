"""Forward decay: item statistics that fade with event time and do not depend on the order of arrival.

Before: `streams.features.fold` collects what a batch adds to each item. After: the store's script merges it into what
is there; the audit does the same in memory. Knows nothing of Redis or of a clock.

Cormode, Shkapenyuk, Srivastava, Xu, "Forward Decay", ICDE 2009: an event at time t_i weighs g(t_i - L) for a fixed
landmark L, and at time t everything is divided by g(t - L). With g(a) = 2 ** (a / half_life) the weights overflow after
a thousand half-lives, so sums are kept as their base-2 logarithm: it cannot overflow or underflow, and it orders items
as the weights themselves do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

__all__ = ["Decay", "ItemStatistics", "add_log2"]

UNCOUNTED = frozenset({"impression", "dismiss"})
"""Event types that say nothing for an item's popularity: counting what was shown would feed itself."""


@dataclass(frozen=True, slots=True)
class Decay:
    """Exponential forward decay in event time.

    Parameters
        landmark_ms: the first event time ever seen, epoch ms.
        half_life_ms: in which a weight halves.

    Source
        Cormode, Shkapenyuk, Srivastava, Xu, "Forward Decay", ICDE 2009.
    """

    landmark_ms: int
    half_life_ms: float

    def log2_weight(self, time_ms: int) -> float:
        """Base-2 logarithm of the static weight of an event at `time_ms`.

        >>> Decay(1000, 500).log2_weight(2000)
        2.0
        """
        return (time_ms - self.landmark_ms) / self.half_life_ms

    def weight_at(self, log2_sum: float, now_ms: int) -> float:
        """The decayed sum as it counts at `now_ms`: 1.0 is one event right now.

        >>> Decay(0, 500).weight_at(2.0, 1500)
        0.5
        """
        exponent = log2_sum - self.log2_weight(now_ms)
        return math.exp2(min(exponent, 1000.0))


def add_log2(a: float, b: float) -> float:
    """log2(2**a + 2**b), for any size of either; minus infinity is the logarithm of nothing.

    >>> add_log2(3.0, 3.0), add_log2(-math.inf, 5.0), add_log2(5000.0, 5000.0)
    (4.0, 5.0, 5001.0)
    """
    high, low = (a, b) if a >= b else (b, a)
    if low == -math.inf:
        return high
    return high + math.log2(1.0 + math.exp2(low - high))


@dataclass(slots=True)
class ItemStatistics:
    """Events of one item: how many of each type, the log2 of their decayed weight, and the newest event time."""

    counts: dict[str, int] = field(default_factory=dict)
    log2_sum: float = -math.inf
    last_ms: int = 0

    def add(self, event_type: str, time_ms: int, decay: Decay) -> None:
        """Count one event."""
        self.counts[event_type] = self.counts.get(event_type, 0) + 1
        if time_ms > self.last_ms:
            self.last_ms = time_ms
        if event_type not in UNCOUNTED:
            self.log2_sum = add_log2(self.log2_sum, decay.log2_weight(time_ms))

    def merge(self, other: ItemStatistics) -> None:
        """Add what another batch counted; the order of merging does not matter."""
        for event_type, count in other.counts.items():
            self.counts[event_type] = self.counts.get(event_type, 0) + count
        self.last_ms = max(self.last_ms, other.last_ms)
        self.log2_sum = add_log2(self.log2_sum, other.log2_sum)
