"""How every command prints a moment: date, time and zone, so that a line says the same a day later and elsewhere; and
how old weights are."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headwater.recommendations import Receipt

__all__ = ["shown_time", "weights_age"]

RESTED_MS = 5_000
"""A block is full within seconds in all but the quietest streams: what is learned later than it is counted, rested."""


def shown_time(time_ms: float, *, utc: bool = False) -> str:
    """A moment in the zone of this machine (or what TZ names) with its distance from UTC, or in UTC.

    Parameters
        time_ms: epoch ms.
        utc: UTC, written with Z.

    >>> shown_time(1_767_225_600_123, utc=True)
    '2026-01-01 00:00:00.123Z'
    >>> shown_time(10**18, utc=True)
    'epoch ms 1000000000000000000'
    """
    try:
        moment = datetime.fromtimestamp(time_ms / 1000, UTC)
        local = moment if utc else moment.astimezone()
    except (ValueError, OverflowError, OSError):  # no year of the calendar: anyone can write such a timestamp
        return f"epoch ms {time_ms:.0f}"
    text = local.isoformat(" ", "milliseconds")
    return text.replace("+00:00", "Z") if utc else text


def weights_age(receipt: Receipt) -> str:
    """How old the weights are, and what they know where that is older by more than a publication takes.

    >>> from headwater.recommendations import Receipt
    >>> weights_age(Receipt(weight_age_ms=400.0, counted_age_ms=900.0, learned_age_ms=61_000.0))
    'weights 0.4 s old, learned in full up to 61.0 s ago'
    """
    age = f"weights {(receipt.weight_age_ms or 0.0) / 1000:,.1f} s old"
    counted, learned = receipt.counted_age_ms, receipt.learned_age_ms
    if counted is not None and learned is not None and learned - counted > RESTED_MS:
        age += f", learned in full up to {learned / 1000:,.1f} s ago"
    return age
