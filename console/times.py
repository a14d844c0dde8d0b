"""How every command prints a moment: date, time and zone, so that a line says the same a day later and elsewhere."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["shown_time"]


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
