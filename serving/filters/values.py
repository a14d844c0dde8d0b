"""What an item has that filters may name: its values, by field."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from headwater.events import Item
from headwater.filters import TIMES

__all__ = ["Mask", "Point", "Scalar", "Slots", "fields_of", "finite"]

Mask = npt.NDArray[np.bool_]
Slots = npt.NDArray[np.int64]

MAX_NAME = 256
"""Characters of the longest name of a field: one long name over many inner ones would fill the memory."""

_DECIMAL = re.compile(r"\s*[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,3})?\s*")
LATITUDES = ("lat", "latitude")
LONGITUDES = ("lon", "lng", "longitude")


class Point(NamedTuple):
    """A place on the earth, in degrees."""

    lat: float
    lon: float


Scalar = str | float | bool | Point


def fields_of(item: Item) -> dict[str, list[Scalar]]:
    """The values that filters may name, by field; an object within an attribute is `outer.inner`, and one with a
    latitude and a longitude is a point besides.

    >>> fields_of(Item(item_id="a", attributes={"studio": {"country": "de"}, "sizes": [38, None, 40], "tags": []}))
    {'sizes': [38, 40], 'studio.country': ['de']}
    """
    published, expires = TIMES
    own: dict[str, Any] = {
        "categories": item.categories,
        published: item.published_time,
        expires: item.gone_ms,
    }
    found: dict[str, list[Scalar]] = {}
    todo = [(name, value) for name, value in item.attributes.items() if own.get(name) in (None, ())]
    todo += [(name, value) for name, value in own.items() if value is not None]
    while todo:
        name, value = todo.pop()
        if len(name) > MAX_NAME:
            continue
        if isinstance(value, dict):
            todo += [(f"{name}.{inner}", one) for inner, one in value.items()]
            point = _point(value)
            if point is not None:
                found.setdefault(name, []).append(point)
        elif isinstance(value, (list, tuple)):
            todo += [(name, one) for one in reversed(value)]
        elif isinstance(value, (str, bool, float)) or (isinstance(value, int) and value.bit_length() <= 64):
            found.setdefault(name, []).append(value)
    return found


def _point(value: Mapping[str, Any]) -> Point | None:
    """Of `{"lat": 52.5, "lon": 13.4}`, or of a GeoJSON point, which has the longitude first."""
    lat = next((value[name] for name in LATITUDES if name in value), None)
    lon = next((value[name] for name in LONGITUDES if name in value), None)
    pair = value.get("coordinates")
    if value.get("type") == "Point" and isinstance(pair, list) and len(pair) >= 2:
        lon, lat = pair[:2]
    north, east = _degrees(lat, 90), _degrees(lon, 180)
    return None if north is None or east is None else Point(north, east)


def _degrees(value: object, most: int) -> float | None:
    number = None if isinstance(value, bool) else finite(value)
    return None if number is None or not -most <= number <= most else number


def finite(value: object) -> float | None:
    """A number, or text that is one in decimal digits; None for anything else."""
    if isinstance(value, str) and not _DECIMAL.fullmatch(value):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
