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

from headwater.signals import Meaning

__all__ = ["Decay", "ItemStatistics", "add_log2", "positive_rate", "subtract_log2"]

LOST_BITS = 52
"""What is left of a sum that has lost all but 1 in 2**52 of itself is rounding, and counts as that much."""

PRIOR_OCCASIONS = 20.0
"""Of how many occasions the mean of all items is worth, beside an item's own, in `positive_rate`."""


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


def subtract_log2(a: float, b: float) -> float:
    """log2(2**a - 2**b) of a sum a and a part b of it. What rounding leaves nothing of counts as 2**-52 of the sum.

    >>> subtract_log2(4.0, 3.0), subtract_log2(5.0, -math.inf), subtract_log2(100.0, 100.0)
    (3.0, 5.0, 48.0)
    """
    if a == -math.inf or b == -math.inf:
        return a
    share = 1.0 - math.exp2(min(b - a, 0.0))
    return a - LOST_BITS if share < 2.0**-LOST_BITS else a + math.log2(share)


@dataclass(slots=True)
class ItemStatistics:
    """What is counted of one item, or what a batch adds to that: undone events count less than nothing.

    Fields
        counts: events by type.
        log2_sum: log2 of the decayed weight of the positive ones. Each weighs 1, whatever its `weight`: that says how
            much a target teaches, and 1000 views should not have to make up for one purchase where the list of what is
            popular is all that a newcomer is shown.
        positive, negative, exposures: events by what they meant when they were folded.
        log2_taken: log2 of the decayed weight of those that were undone.
    """

    counts: dict[str, int] = field(default_factory=dict)
    log2_sum: float = -math.inf
    positive: int = 0
    negative: int = 0
    exposures: int = 0
    log2_taken: float = -math.inf

    def add(self, event_type: str, meaning: Meaning, time_ms: int, decay: Decay) -> None:
        """Count one event."""
        self.counts[event_type] = self.counts.get(event_type, 0) + 1
        if meaning is Meaning.POSITIVE:
            self.positive += 1
            self.log2_sum = add_log2(self.log2_sum, decay.log2_weight(time_ms))
        elif meaning is Meaning.EXPOSURE:
            self.exposures += 1
        elif meaning is Meaning.NEGATIVE:
            self.negative += 1

    def take(self, event_type: str, meaning: Meaning, time_ms: int, decay: Decay) -> None:
        """Take one event off again."""
        self.counts[event_type] = self.counts.get(event_type, 0) - 1
        if meaning is Meaning.POSITIVE:
            self.positive -= 1
            self.log2_taken = add_log2(self.log2_taken, decay.log2_weight(time_ms))
        elif meaning is Meaning.NEGATIVE:
            self.negative -= 1

    def count(self, other: ItemStatistics) -> None:
        """Add another's counts, and not its weight."""
        for event_type, count in other.counts.items():
            self.counts[event_type] = self.counts.get(event_type, 0) + count
        self.positive += other.positive
        self.negative += other.negative
        self.exposures += other.exposures

    def merge(self, other: ItemStatistics) -> None:
        """Add what another batch counted; the order of merging does not matter."""
        self.count(other)
        self.log2_sum = add_log2(self.log2_sum, other.log2_sum)
        self.log2_taken = add_log2(self.log2_taken, other.log2_taken)

    def settled(self) -> ItemStatistics:
        """These when all is counted: without what is back at nothing."""
        return ItemStatistics(
            {name: count for name, count in self.counts.items() if count > 0},
            subtract_log2(self.log2_sum, self.log2_taken) if self.positive > 0 else -math.inf,
            max(self.positive, 0),
            max(self.negative, 0),
            max(self.exposures, 0),
        )


def positive_rate(item: ItemStatistics, every: ItemStatistics) -> float:
    """How often an item is liked when it could be, between 0 and 1, drawn to the mean where little is known of it.

    (positive + 20 mean) / (occasions + 20), where occasions are the exposures, or the positive and negative events
    where these are more (nobody told what was shown), and the mean is the same share of all items together.

    Parameters
        item: as `FeatureStore.item_statistics` reads it.
        every: as `FeatureStore.totals` reads it.

    Source
        The posterior mean of a share under a Beta prior (Gelman et al., Bayesian Data Analysis, 3rd ed., section 2.4),
        whose mean is that of all items and whose strength is 20 occasions.

    >>> every = ItemStatistics(positive=10, exposures=100)
    >>> positive_rate(ItemStatistics(), every), positive_rate(every, every)
    (0.1, 0.1)
    """
    occasions, of_all = _occasions(item), _occasions(every)
    mean = every.positive / of_all if of_all else 0.0
    return (item.positive + PRIOR_OCCASIONS * mean) / (occasions + PRIOR_OCCASIONS)


def _occasions(counted: ItemStatistics) -> int:
    return max(counted.exposures, counted.positive + counted.negative)
