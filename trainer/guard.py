"""The guard in front of every publication: a model that is broken or has become much worse is not published.

Before: the publisher, with what it is about to publish. After: a refusal with its reason, or nothing. Pure: no Kafka,
no disk, no clock. The parity of ONNX and torch is checked by `models.published.parity`; this counts it as a reason.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from numpy.typing import NDArray

from headwater.errors import BundleError
from models.finite import not_finite

__all__ = ["Guard", "Refused", "refuse_non_finite"]

MIN_QUERIES = 1000
"""Prequential values over fewer queries are noise: at NDCG@10 = .1 the standard error of 1,000 is about .008."""

MEMORY = 1000
"""The best of so many last readings is what a new one is held against, so that a world that changed for good is
accepted after a while: with one reading a second, about a quarter of an hour."""


class Refused(BundleError):
    """A publication was refused. `reason` is the short word it is counted under: not_finite, regression, parity."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Guard:
    """Remembers the recent prequential NDCG@10 and refuses a fall of more than `bound` (a share) below the best of
    them.

    >>> guard = Guard(bound=0.5)
    >>> guard.check({"queries": 5000, "ndcg_at_10": {"headwater": 0.10}})
    >>> guard.check({"queries": 5000, "ndcg_at_10": {"headwater": 0.04}})
    Traceback (most recent call last):
    ...
    trainer.guard.Refused: prequential NDCG@10 fell to 0.0400, more than 50% below the recent best 0.1000
    """

    def __init__(self, bound: float, readings: Iterable[float] = ()) -> None:
        self.bound = bound
        self.readings: deque[float] = deque(readings, MEMORY)

    def check(self, summary: Mapping[str, Any]) -> None:
        """Take a reading of `Prequential.summary()`. Raises Refused (`regression`)."""
        reading = summary["ndcg_at_10"]["headwater"]
        if reading is None or summary["queries"] < MIN_QUERIES:
            return
        best = max(self.readings, default=reading)
        self.readings.append(reading)
        if reading < (1 - self.bound) * best:
            fall = f"more than {self.bound:.0%} below the recent best {best:.4f}"
            raise Refused("regression", f"prequential NDCG@10 fell to {reading:.4f}, {fall}")


def refuse_non_finite(arrays: Mapping[str, NDArray[Any]]) -> None:
    """Raises Refused (`not_finite`) when a floating point array holds NaN or infinity."""
    found = not_finite(arrays)
    if found is not None:
        raise Refused("not_finite", found)
