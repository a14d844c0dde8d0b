"""The filter language: what a request or a surface may say of items, read into a tree. docs/requests.md tells of it.

Before: JSON, of a request, a surface, or a rule of one. After: `serving.filters` makes masks of the tree. Knows no
items: whether a value can be compared with what a field holds shows where it is compared.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from headwater.errors import RequestRefused
from headwater.events import likely_unit, to_epoch_ms
from headwater.spelling import closest

__all__ = [
    "MAX_DEPTH",
    "TIMES",
    "AllOf",
    "AnyOf",
    "Equal",
    "Exists",
    "Filter",
    "Near",
    "Not",
    "Relative",
    "Within",
    "check_times",
    "read_filters",
    "time_of",
]

BOUNDS = ("gt", "gte", "lt", "lte")
LISTS = ("any", "all", "none")
OPERATORS = (*BOUNDS, "in", *LISTS, "not", "exists", "near")
GROUPS = ("and", "or", "not")
OTHERWISE = {
    ">": "gt", ">=": "gte", "<": "lt", "<=": "lte", "min": "gte", "max": "lte",
    "!=": "not", "ne": "not", "neq": "not", "$ne": "not", "nin": "none", "$nin": "none", "not_in": "none",
}  # fmt: skip
"""Operators as other languages spell them."""

USAGE = (
    'use a value, a list of values (any of them), or an object of "gt", "gte", "lt", "lte", "in" and "not", "any", '
    '"all", "none", "exists" and "near"'
)

MAX_DEPTH = 16
MAX_CONDITIONS = 500
"""Of one filter. Each may cost as much as a look at every item."""

FARTHEST_KM = 20_100.0
"""A little more than half the way round the earth."""

UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_STEP = re.compile(r"([+-])\s*(\d{1,9})\s*(ms|[smhdw])\s*")
_RELATIVE = re.compile(rf"\s*now\s*((?:{_STEP.pattern})*)")
_ALMOST = re.compile(r"\s*now\s*([-+/|]|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Relative:
    """A time that moves with the clock: now, and so many milliseconds later (less than 0: before)."""

    text: str
    later_ms: int


TIMES = ("published_time", "expires_time")
"""Fields of items that are times, whatever the catalogue holds."""

Value = str | float | bool
Bound = str | float | Relative


@dataclass(frozen=True)
class AllOf:
    """Every part is met; without any part, by all items."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class AnyOf:
    """One part at least is met."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Not:
    """The part is not met."""

    part: Filter


@dataclass(frozen=True)
class _Condition:
    """Of one field. `place` is where it stands."""

    field: str
    place: str


@dataclass(frozen=True)
class Equal(_Condition):
    """The field is, or holds, one of the values; `places` are theirs."""

    values: tuple[Value, ...]
    places: tuple[str, ...]


@dataclass(frozen=True)
class Within(_Condition):
    """The field has a value within the bounds, by operator."""

    bounds: Mapping[str, Bound]


@dataclass(frozen=True)
class Exists(_Condition):
    """The field has a value, or an object's field within it has."""


@dataclass(frozen=True)
class Near(_Condition):
    """The field has a point at most so far away, along the earth's surface. Degrees."""

    lat: float
    lon: float
    km: float


Filter = AllOf | AnyOf | Not | Equal | Within | Exists | Near


def time_of(value: object, number: float | None, place: str) -> float:
    """Epoch ms of what is compared with times.

    Parameters
        value: milliseconds since 1970, or RFC 3339 text with its offset.
        number: what the value is as a number, if it is one.
        place: where it stands, for a refusal.

    Raises
        RequestRefused: `bad_filter`, it is no time, has no offset, or counts something else than milliseconds.
    """
    if number is None:
        try:
            return float(to_epoch_ms(value))  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError) as error:
            text = "is no time: use milliseconds since 1970, or RFC 3339 text with an offset: 2026-11-22T10:00:00Z"
            raise _refused(place, value, text) from error
    unit = likely_unit(number)
    if unit not in (None, "milliseconds"):
        raise _refused(place, value, f"looks like {unit}: use milliseconds since 1970, or RFC 3339 text")
    return number


def check_times(tree: Filter) -> None:
    """Whatever is compared with the times of items is one: to be asked once, where a filter is kept for later.

    Raises
        RequestRefused: as `time_of`.
    """
    if isinstance(tree, (AllOf, AnyOf)):
        for part in tree.parts:
            check_times(part)
    elif isinstance(tree, Not):
        check_times(tree.part)
    elif isinstance(tree, (Equal, Within)) and tree.field in TIMES:
        if isinstance(tree, Equal):
            values: Iterator[tuple[str, Value | Bound]] = iter(zip(tree.places, tree.values, strict=True))
        else:
            values = ((f"{tree.place}.{name}", bound) for name, bound in tree.bounds.items())
        for place, value in values:
            if not isinstance(value, (Relative, bool)):
                number = float(value) if isinstance(value, (int, float)) or str(value).isdecimal() else None
                time_of(value, number, place)


def read_filters(filters: Mapping[str, Any], place: str = "filters") -> Filter:
    """What a filter says.

    Parameters
        filters: field -> condition, and the groups `and`, `or`, `not`; an item has to meet all of it.
        place: where it stands, for a refusal.

    Returns
        A tree. Nothing in it has been compared with any item.

    Raises
        RequestRefused: `bad_filter`, with the place within, the value, and what to use.
    """
    return _FilterReader().filters(filters, place, 0)


@dataclass
class _FilterReader:
    """One filter, read once. `conditions` counts what it holds."""

    conditions: int = field(default=0)

    def filters(self, filters: object, place: str, depth: int) -> Filter:
        if not isinstance(filters, Mapping):
            raise _refused(place, filters, 'is no filter: use an object of fields, {"price": {"lt": 20}}')
        if depth and not filters:
            raise _refused(place, filters, 'says nothing: use an object of fields, {"price": {"lt": 20}}')
        _check_depth(place, depth)
        parts = []
        for name, condition in filters.items():
            within = f"{place}.{name:.80}"
            if name in GROUPS and _is_group(condition):
                parts.append(self.group(name, condition, within, depth + 1))
            else:
                parts.append(self.condition(name, condition, within, depth + 1))
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def group(self, name: str, given: object, place: str, depth: int) -> Filter:
        if name == "not" and isinstance(given, Mapping):
            return Not(self.filters(given, place, depth))
        if not isinstance(given, (list, tuple)) or not given:
            raise _refused(
                place, given, f'is no group: use a list of filters, {{"{name}": [{{"price": {{"lt": 20}}}}]}}'
            )
        parts = tuple(self.filters(one, f"{place}[{number}]", depth) for number, one in enumerate(given))
        return AllOf(parts) if name == "and" else AnyOf(parts) if name == "or" else Not(AnyOf(parts))

    def condition(self, name: str, given: object, place: str, depth: int) -> Filter:
        self.conditions += 1
        if self.conditions > MAX_CONDITIONS:
            raise _refused(place, given, f"is one condition too many: a filter has at most {MAX_CONDITIONS}")
        _check_depth(place, depth)
        if isinstance(given, Mapping):
            parts = tuple(self.operators(name, given, place, depth))
            return parts[0] if len(parts) == 1 else AllOf(parts)
        return _equal(name, given, place)

    def operators(self, name: str, given: Mapping[str, Any], place: str, depth: int) -> Iterator[Filter]:
        if not given or not given.keys() <= set(OPERATORS):
            raise _refused(place, given, f"is no condition: {USAGE}{_hint(name, given)}")
        bounds = {operator: given[operator] for operator in BOUNDS if operator in given}
        if bounds:
            yield Within(name, place, _bounds(bounds, place))
        for operator, value in given.items():
            within = f"{place}.{operator}"
            if operator == "in":
                yield _equal(name, value, within)
            elif operator in LISTS:
                yield self.list_of(name, operator, value, within, depth)
            elif operator == "not":
                yield Not(self.condition(name, value, within, depth + 1))
            elif operator == "exists":
                if not isinstance(value, bool):
                    raise _refused(within, value, "is no answer: use true or false")
                yield Exists(name, within) if value else Not(Exists(name, within))
            elif operator == "near":
                yield _near(name, value, within)

    def list_of(self, name: str, operator: str, given: object, place: str, depth: int) -> Filter:
        if not isinstance(given, (list, tuple)):
            raise _refused(place, given, f'is no list: use values or conditions, {{"{operator}": ["a", "b"]}}')
        if operator != "all" and not any(isinstance(one, Mapping) for one in given):
            found: Filter = _equal(name, given, place)
        else:
            parts = [self.condition(name, one, f"{place}[{number}]", depth + 1) for number, one in enumerate(given)]
            found = AllOf(tuple(parts)) if operator == "all" else AnyOf(tuple(parts))
        return Not(found) if operator == "none" else found


def _is_group(given: object) -> bool:
    """A field may be called `or` as well: its condition is one of values or operators, which no group is. Of several
    `not` within each other the innermost tells."""
    while isinstance(given, Mapping) and given.keys() == {"not"}:
        given = given["not"]
    if isinstance(given, Mapping):
        return not given or not given.keys() <= set(OPERATORS)
    return isinstance(given, (list, tuple)) and (not given or any(isinstance(one, Mapping) for one in given))


def _hint(name: str, given: Mapping[str, Any]) -> str:
    strange = next((str(one) for one in given if one not in OPERATORS), None)
    if strange in OTHERWISE:
        return f'. "{strange}" is "{OTHERWISE[strange]}" here'
    if strange in ("or", "and"):
        return f'. Of conditions on one field, "{strange}" is "{"any" if strange == "or" else "all"}"'
    if strange is None:
        return ""
    meant = closest(strange, OPERATORS)
    if meant is not None:
        return f'. Did you mean "{meant}"?'
    return f'. A field within is named "{name:.40}.{strange:.40}"'


def _check_depth(place: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise RequestRefused(
            "bad_filter", f"{place:.200}: nested deeper than {MAX_DEPTH}. Use fewer groups within groups."
        )


def _equal(name: str, given: object, place: str) -> Equal:
    if isinstance(given, (list, tuple)):
        values, places = tuple(given), tuple(f"{place}[{number}]" for number in range(len(given)))
    else:
        values, places = (given,), (place,)
    for value, at in zip(values, places, strict=True):
        if not isinstance(value, (str, int, float)):
            raise _refused(at, value, f"is no value: {USAGE}")
        _check_number(value, at)
    return Equal(name, place, values, places)


def _bounds(given: Mapping[str, object], place: str) -> dict[str, Bound]:
    read: dict[str, Bound] = {}
    for operator, bound in given.items():
        at = f"{place}.{operator}"
        if isinstance(bound, bool) or not isinstance(bound, (str, int, float)):
            raise _refused(at, bound, "is no end of a range: use numbers, or text, for every end")
        _check_number(bound, at)
        read[operator] = _relative(bound, at) if isinstance(bound, str) else bound
    if any(isinstance(bound, Relative) for bound in read.values()):
        return read
    if len({isinstance(bound, str) for bound in read.values()}) > 1:
        raise _refused(place, dict(given), "is no range: use numbers, or text, for every end")
    return read


def _check_number(value: str | float, place: str) -> None:
    """TOML has numbers that JSON has not: they would be lost on the way to whoever answers."""
    if isinstance(value, str):
        return
    if not (math.isfinite(value) if isinstance(value, float) else -(2**63) <= value < 2**64):
        raise _refused(place, value, "is no number of JSON: use a finite one, of 64 bits where it is whole")


def _relative(text: str, place: str) -> Relative | str:
    """A bound of text; what begins with `now` is a time.

    >>> _relative("now - 1d - 12h", "")
    Relative(text='now - 1d - 12h', later_ms=-129600000)
    """
    found = _RELATIVE.fullmatch(text)
    if found is None:
        if _ALMOST.match(text):
            raise _refused(place, text, 'is no time: use "now", "now-7d", "now+1h-30m"; units are ms, s, m, h, d and w')
        return text
    later = sum(int(f"{sign}{count}") * UNITS_MS[unit] for sign, count, unit in _STEP.findall(found[1]))
    return Relative(text, later)


def _near(name: str, given: object, place: str) -> Near:
    if not isinstance(given, Mapping) or given.keys() != {"lat", "lon", "km"}:
        raise _refused(place, given, 'is no place: use {"lat": 52.5, "lon": 13.4, "km": 10}')
    for one, (low, high) in (("lat", (-90, 90)), ("lon", (-180, 180)), ("km", (0, FARTHEST_KM))):
        number = given[one]
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not low <= number <= high:
            raise _refused(f"{place}.{one}", number, f"is not within {low:,} to {high:,}: use degrees, and kilometres")
    return Near(name, place, float(given["lat"]), float(given["lon"]), float(given["km"]))


def _refused(place: str, given: object, why: str) -> RequestRefused:
    return RequestRefused("bad_filter", f"{place:.200}: {given!r:.80} {why}{'' if why.endswith('?') else '.'}")
