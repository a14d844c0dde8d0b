"""What is known of a moment beside its time: device, page, campaign. And of it, what counts.

Before: `Request.context`, and `properties` of events, with the same names. After: examples and the second stage, which
read the fields that the settings name (`model.context_fields`). A field of an exposure may hold a number for each
item of the list, such as its price there. Knows no model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

__all__ = [
    "MAX_CONTEXT_CHARS",
    "MAX_CONTEXT_FIELDS",
    "Context",
    "Numbers",
    "Scalar",
    "clock_ahead_ms",
    "named",
    "numbers_of",
    "plain_scalar",
]

Scalar = str | float | bool
Context = Mapping[str, Scalar]
Numbers = Mapping[str, Sequence[float | None]]
"""Field -> the number of each item of a list; None where there is none."""

MAX_CONTEXT_FIELDS = 32
"""Most fields that can count."""

MAX_CONTEXT_CHARS = 256
"""Of a text; what is longer is cut, in requests and events alike."""

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
LATEST = datetime(9999, 12, 29, tzinfo=timezone.utc)
"""Later, some zones are past the year 9999, which no date is."""


def plain_scalar(value: Any) -> Scalar | None:
    """A value as it counts: text, number or truth; None for what is none of them, or not finite.

    >>> plain_scalar(3), plain_scalar("app"), plain_scalar(True), plain_scalar(["app"]), plain_scalar(10**400)
    (3.0, 'app', True, None, None)
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value[:MAX_CONTEXT_CHARS]
    if isinstance(value, (int, float)):
        try:
            number = float(value)
        except OverflowError:
            return None
        return number if math.isfinite(number) else None
    return None


def named(given: Mapping[str, Any] | None, fields: Sequence[str]) -> dict[str, Scalar]:
    """Of what came with a request or an event, the fields that count.

    >>> named({"device": "app", "page": {"deep": 1}, "other": 2}, ("device", "page"))
    {'device': 'app'}
    """
    if not given or not fields:
        return {}
    found = {field: plain_scalar(given.get(field)) for field in fields}
    return {field: value for field, value in found.items() if value is not None}


def numbers_of(given: Mapping[str, Any] | None, fields: Sequence[str], items: int) -> dict[str, list[float | None]]:
    """Of what came with an exposure of so many items, the fields that count and hold a number for each.

    >>> numbers_of({"price": [77, None], "rank": [1], "device": "app"}, ("price", "rank", "device"), 2)
    {'price': [77.0, None]}
    """
    found = {}
    for field in fields if given else ():
        told = given.get(field) if given else None
        if isinstance(told, (list, tuple)) and len(told) == items:
            numbers = [one if isinstance(one := plain_scalar(each), float) else None for each in told]
            if any(one is not None for one in numbers):
                found[field] = numbers
    return found


def clock_ahead_ms(time_ms: int, zone: str) -> int:
    """How far the clocks of a time zone are ahead of UTC at an instant.

    >>> clock_ahead_ms(1_700_000_000_000, "Europe/Berlin"), clock_ahead_ms(1_690_000_000_000, "Europe/Berlin")
    (3600000, 7200000)
    """
    if zone == "UTC":
        return 0
    at = min(EPOCH + timedelta(milliseconds=time_ms), LATEST).astimezone(ZoneInfo(zone))
    ahead = at.utcoffset()
    return 0 if ahead is None else round(ahead.total_seconds() * 1000)
