"""One field: which items have which text, number, boolean or point, compared with what a filter says.

A condition is compared in every kind (text, number, boolean) that the field holds and that the condition can be read
as: `"3"` finds the number 3, and `"true"` the boolean. One that can be read as none of them is refused: an empty list
would say that no such item is there.
"""

from __future__ import annotations

import heapq
import math
import operator
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headwater.errors import RequestRefused
from headwater.events import NEWEST_MS, OLDEST_MS, to_epoch_ms
from headwater.filters import TIMES, Bound, Equal, Near, Relative, Within, time_of
from serving.filters.packed import Interned, Packed
from serving.filters.values import Point, Scalar, Slots, finite

__all__ = ["FilterField", "Instant"]

SHOWN_TEXTS = 3
EARTH_KM = 6371.0088
_LIKE_A_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d.{3,30}")
_BOOLEANS = {form: value for value in (True, False) for form in (str(value), str(value).lower(), str(value).upper())}
_COMPARE: dict[str, Any] = {"gt": np.greater, "gte": np.greater_equal, "lt": np.less, "lte": np.less_equal}
_COMPARE_TEXT: dict[str, Any] = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}


@dataclass
class Instant:
    """`now` of a filter, epoch ms, and between which others (both are out) all that was compared stays as it is."""

    now_ms: int
    after_ms: float = -math.inf
    before_ms: float = math.inf

    def changes_at(self, times: npt.NDArray[np.float64]) -> None:
        """At these instants something compares differently."""
        past, future = times[times < self.now_ms], times[times > self.now_ms]
        if len(past) + len(future) < np.count_nonzero(~np.isnan(times)):
            self.after_ms, self.before_ms = max(self.after_ms, self.now_ms - 1), min(self.before_ms, self.now_ms + 1)
        self.after_ms = max(self.after_ms, float(past.max(initial=-math.inf)))
        self.before_ms = min(self.before_ms, float(future.min(initial=math.inf)))


class FilterField:
    """Which slots have which values of one field. Without any it is falsy, and no field."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._texts: Interned[str] = Interned()
        self._decimal_texts = 0  # how many of the texts are numbers
        self._booleans: Interned[bool] = Interned()
        self._points: Interned[Point] = Interned()
        self._numbers = Packed()

    def __bool__(self) -> bool:
        return bool(len(self._texts) or len(self._booleans) or len(self._numbers) or len(self._points))

    def add(self, slot: int, values: Iterable[Scalar]) -> None:
        """An item's values."""
        for value in {_typed(value): value for value in values}.values():
            match value:
                case bool():
                    self._booleans.add(slot, value)
                case str():
                    self._decimal_texts += value not in self._texts and finite(value) is not None
                    self._texts.add(slot, value)
                case Point():
                    self._points.add(slot, value)
                case _:
                    self._numbers.add(slot, float(value))

    def discard(self, slot: int, values: Iterable[Scalar]) -> None:
        """Take away what `add` was given."""
        texts = {value for value in values if isinstance(value, str)}
        for kind in (self._texts, self._booleans, self._points, self._numbers):
            kind.discard(slot)
        self._decimal_texts -= sum(text not in self._texts and finite(text) is not None for text in texts)

    def existing(self) -> Iterator[Slots]:
        """The slots that have any value."""
        yield from (self._texts.slots(), self._booleans.slots(), self._points.slots(), self._numbers.slots)

    def equal(self, wanted: Equal) -> Iterator[Slots]:
        """The slots that have one of the values, in each kind that it can be read as. Raises RequestRefused."""
        booleans: set[bool] = set()
        texts: set[str] = set()
        numbers: set[float] = set()
        for value, place in zip(wanted.values, wanted.places, strict=True):
            boolean, number, forms = self._boolean(value), self._number(value, place), self._as_texts(value)
            if boolean is None and number is None and forms is None:
                raise self._incomparable(place, value, "such a value")
            booleans |= set() if boolean is None else {boolean}
            numbers |= set() if number is None else {number}
            texts.update(forms or ())
        yield self._booleans.holding(booleans)
        yield self._texts.holding(texts)
        if numbers:
            values = self._numbers.values
            found = values == next(iter(numbers)) if len(numbers) == 1 else np.isin(values, [*numbers])
            yield self._numbers.slots[found]

    def within(self, wanted: Within, instant: Instant) -> Iterator[Slots]:
        """The slots with a value within the bounds: of numbers by size, of texts in the order of their characters, of
        either as times where a bound is one that moves. Raises RequestRefused.
        """
        bounds = wanted.bounds
        if any(isinstance(bound, Relative) for bound in bounds.values()):
            yield from self._within_times(wanted, instant)
            return
        numbers = {one: self._number(bound, f"{wanted.place}.{one}") for one, bound in bounds.items()}
        textual = all(isinstance(bound, str) for bound in bounds.values())
        numeric = {one: number for one, number in numbers.items() if number is not None}
        if len(numeric) < len(bounds) and not (textual and self._texts):
            first = next(one for one in bounds if one not in numeric)
            raise self._incomparable(f"{wanted.place}.{first}", bounds[first], "such values as ends")
        if len(numeric) == len(bounds):
            yield self._numbers.slots[_inside(self._numbers.values, numeric)]
        if textual:
            texts: Iterable[str] = self._texts
            for name, bound in bounds.items():
                compare = _COMPARE_TEXT[name]
                texts = [text for text in texts if compare(text, bound)]
            yield self._texts.holding(list(texts))

    def near(self, wanted: Near) -> Slots:
        """The slots with a point at most so far away. Raises RequestRefused."""
        if not len(self._points):
            raise self._incomparable(wanted.place, "a place", 'it on a field of points, {"lat": 52.5, "lon": 13.4}')
        slots, lat, lon = self._points.slots(), self._points.column(_north), self._points.column(_east)
        north, east = math.radians(wanted.lat), math.radians(wanted.lon)
        band = np.flatnonzero(np.abs(lat - north) <= wanted.km / EARTH_KM + 1e-9)  # most are too far north or south
        lat, lon = lat[band], lon[band]
        half = np.sin((lat - north) / 2) ** 2 + np.cos(lat) * math.cos(north) * np.sin((lon - east) / 2) ** 2
        away_km = 2 * EARTH_KM * np.arcsin(np.sqrt(np.clip(half, 0, 1)))
        return np.asarray(slots[band[away_km <= wanted.km]])

    def _within_times(self, wanted: Within, instant: Instant) -> Iterator[Slots]:
        bounds = {one: self._moment(bound, f"{wanted.place}.{one}", instant) for one, bound in wanted.bounds.items()}
        numbers, texts = self._numbers.values, self._texts.column(_time_of)
        if self.name not in TIMES:
            any_time = np.any((numbers >= OLDEST_MS) & (numbers < NEWEST_MS)) or not np.all(np.isnan(texts))
            if not any_time:
                first = next(one for one, bound in wanted.bounds.items() if isinstance(bound, Relative))
                text = "it on times: milliseconds since 1970, or RFC 3339 text such as 2026-11-22T10:00:00Z"
                raise self._incomparable(f"{wanted.place}.{first}", wanted.bounds[first], text)
        for times, slots in ((numbers, self._numbers.slots), (texts, self._texts.slots())):
            for bound in wanted.bounds.values():
                if isinstance(bound, Relative):
                    instant.changes_at(times - bound.later_ms)
            yield slots[_inside(times, bounds)]

    def _moment(self, bound: Bound, place: str, instant: Instant) -> float:
        if isinstance(bound, Relative):
            return float(instant.now_ms + bound.later_ms)
        return time_of(bound, finite(bound), place)

    def _boolean(self, value: object) -> bool | None:
        """A value as a boolean, where the field has any."""
        if not self._booleans:
            return None
        return value if isinstance(value, bool) else _BOOLEANS.get(value) if isinstance(value, str) else None

    def _number(self, value: object, place: str) -> float | None:
        """A value as a number, where the field has any; a time of an item may be RFC 3339 text."""
        if not len(self._numbers) or isinstance(value, bool):
            return None
        number = finite(value)
        return time_of(value, number, place) if self.name in TIMES else number

    def _as_texts(self, value: object) -> Iterable[str] | None:
        """The texts that a value may be written as, where the field has texts and writes any value of this kind."""
        if not self._texts:
            return None
        if isinstance(value, str):
            return (value,)
        if isinstance(value, bool):
            forms = [form for form, boolean in _BOOLEANS.items() if boolean is value]
            return forms if any(form in self._texts for form in _BOOLEANS) else None
        number = finite(value)
        if number is None or not self._decimal_texts:
            return None
        return {f"{number:.0f}" if number.is_integer() else str(number), str(number), str(value)}

    def _held(self) -> str:
        """What the field holds, in words, with examples."""
        held = []
        if self._texts:
            some = heapq.nsmallest(SHOWN_TEXTS, self._texts)
            held.append(f"text ({', '.join(f'{text!r:.40}' for text in some)})")
        if len(self._numbers):
            values = self._numbers.values
            held.append(f"numbers ({values.min():.15g} to {values.max():.15g})")
        if self._booleans:
            held.append("booleans (true or false)")
        if self._points:
            held.append("points (near)")
        return " and ".join(held)

    def _incomparable(self, place: str, value: object, use: str) -> RequestRefused:
        shown = value.text if isinstance(value, Relative) else value
        return _refused(place, shown, f"cannot be compared with {self._held()}: use {use}")


def _inside(values: npt.NDArray[Any], bounds: Mapping[str, float]) -> npt.NDArray[np.bool_]:
    inside = np.ones(len(values), bool)
    for name, bound in bounds.items():
        inside &= _COMPARE[name](values, bound)
    return inside


def _typed(value: Scalar) -> object:
    """True equals 1 in Python, and is another value here."""
    return ("boolean", value) if isinstance(value, bool) else value


def _time_of(text: str) -> float:
    """Epoch ms of RFC 3339 text; NaN for other text."""
    try:
        return float(to_epoch_ms(text)) if _LIKE_A_TIME.fullmatch(text) else math.nan  # type: ignore[arg-type]
    except (ValueError, OverflowError):
        return math.nan


def _north(point: Point) -> float:
    return math.radians(point.lat)


def _east(point: Point) -> float:
    return math.radians(point.lon)


def _refused(place: str, value: object, why: str) -> RequestRefused:
    return RequestRefused("bad_filter", f"{place:.200}: {value!r:.80} {why}.")
