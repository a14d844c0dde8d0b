"""Popularity as the fallback ranks by it: an order that a replay of the log finds again, to the last digit.

Before: item statistics of the feature store, or of the log folded anew. After: `serving.scoring` where no history is
known. Knows no Redis and no clock.

The last bits of a decayed sum depend on the batches in which it was added up, and the order of equal weights would be
an accident of the store's. So weights have six digits, which a sum in another order changes once in a million times,
and equal ones are ordered by item id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from streams.features.decay import Decay

__all__ = ["POPULAR_ITEMS", "Popular"]

POPULAR_ITEMS = 1000
"""Most items that popularity ranks; behind them comes the rest of the catalogue, by item id."""

FADED = 1e-290
"""Below, weights are a past stream's, replayed: the order is what is left of them."""


@dataclass(frozen=True, slots=True)
class Popular:
    """What is popular. `weights`: item id -> weight, best first; `time_ms`: when it was read (epoch ms); `offsets`:
    events partition -> newest offset in it.
    """

    weights: Mapping[str, float] = field(default_factory=dict)
    time_ms: int | None = None
    offsets: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls, log2_sums: Iterable[tuple[str, float]], decay: Decay | None, now_ms: int, offsets: Mapping[int, int]
    ) -> Popular:
        """From at most POPULAR_ITEMS items.

        Parameters
            log2_sums: item id and the log2 of its decayed weight.
            decay: None before any event.
            now_ms: when they were read, epoch ms.
            offsets: events partition -> newest offset in them.

        >>> Popular.of([("b", 3.0), ("a", 3.0 + 1e-12), ("c", 4.0)], Decay(0, 1000), 2000, {}).weights
        {'c': 4.0, 'a': 2.0, 'b': 2.0}
        """
        if decay is None:
            return cls({}, now_ms, offsets)
        found = [(item, round(log2_sum, 9), decay.weight_at(log2_sum, now_ms)) for item, log2_sum in log2_sums]
        if max((weight for _, _, weight in found), default=0.0) < FADED:
            found.sort(key=lambda one: (-one[1], one[0]))
            return cls({item: 1 / (1 + place) for place, (item, _, _) in enumerate(found)}, now_ms, offsets)
        rounded = sorted((-float(f"{weight:.6g}"), item) for item, _, weight in found)
        return cls({item: -weight for weight, item in rounded}, now_ms, offsets)
