"""Filters: which items meet a condition of a request on one field, whatever kinds of value the field holds.

Before: `serving.catalogue` adds and takes away the values of items. After: masks over slots. Knows nothing of requests.

A condition is compared in every kind (text, number, boolean) that the field holds and that the condition can be read
as: `"3"` finds the number 3, and `"true"` the boolean. One that can be read as none of them is refused: an empty list
would say that no such item is there.
"""

from __future__ import annotations

import heapq
import math
import re
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from headwater.errors import RequestRefused
from headwater.events import Item, likely_unit, to_epoch_ms

__all__ = ["PUBLISHED_TIME", "FilterField", "Mask", "Scalar", "fields_of"]

Mask = npt.NDArray[np.bool_]
Slots = npt.NDArray[np.int64]
Scalar = str | float | bool
PUBLISHED_TIME = "published_time"

BOUNDS = ("gt", "gte", "lt", "lte")
OPERATORS = {*BOUNDS, "in", "not"}
USAGE = 'use a value, a list of values (any of them), or an object of "gt", "gte", "lt", "lte", "in" and "not"'

MAX_NAME = 256
"""Characters of the longest name of a field: one long name over many inner ones would fill the memory."""

SHOWN_TEXTS = 3
_DECIMAL = re.compile(r"\s*[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,3})?\s*")
_BOOLEANS = {form: value for value in (True, False) for form in (str(value), str(value).lower(), str(value).upper())}


def fields_of(item: Item) -> dict[str, list[Scalar]]:
    """The values that filters may name, by field; an object within an attribute is `outer.inner`.

    >>> fields_of(Item(item_id="a", attributes={"studio": {"country": "de"}, "sizes": [38, None, 40], "tags": []}))
    {'sizes': [38, 40], 'studio.country': ['de']}
    """
    own: dict[str, Any] = {"categories": item.categories, PUBLISHED_TIME: item.published_time}
    found: dict[str, list[Scalar]] = {}
    todo = [(name, value) for name, value in item.attributes.items() if own.get(name) in (None, ())]
    todo += [(name, value) for name, value in own.items() if value is not None]
    while todo:
        name, value = todo.pop()
        if len(name) > MAX_NAME:
            continue
        if isinstance(value, dict):
            todo += [(f"{name}.{inner}", one) for inner, one in value.items()]
        elif isinstance(value, (list, tuple)):
            todo += [(name, one) for one in reversed(value)]
        elif isinstance(value, (str, bool, float)) or (isinstance(value, int) and value.bit_length() <= 64):
            found.setdefault(name, []).append(value)
    return found


class _Numbers:
    """Pairs of slot and number, packed, in no order. An item's are added and taken away whatever the others are."""

    def __init__(self) -> None:
        self._slots = array("q")
        self._values = array("d")
        self._places: dict[int, list[int]] = {}  # slot -> where its pairs are

    def __len__(self) -> int:
        return len(self._slots)

    def add(self, slot: int, value: float) -> None:
        self._places.setdefault(slot, []).append(len(self._slots))
        self._slots.append(slot)
        self._values.append(value)

    def discard(self, slot: int) -> None:
        for place in sorted(self._places.pop(slot, ()), reverse=True):  # so that what moves here is another slot's
            last, value = self._slots.pop(), self._values.pop()
            if place < len(self._slots):
                self._slots[place], self._values[place] = last, value
                moved = self._places[last]
                moved[moved.index(len(self._slots))] = place

    def extremes(self) -> tuple[float, float]:
        return min(self._values), max(self._values)

    def equal(self, value: float) -> Slots:
        slots, values = self._pairs()
        return np.asarray(slots[values == value])

    def between(self, bounds: Mapping[str, float]) -> Slots:
        slots, values = self._pairs()
        inside = np.ones(len(slots), bool)
        for operator, bound in bounds.items():
            inside &= _COMPARE[operator](values, bound)
        return slots[inside]

    def _pairs(self) -> tuple[Slots, npt.NDArray[np.float64]]:
        if not self._slots:
            return np.zeros(0, np.int64), np.zeros(0)
        return np.frombuffer(self._slots, np.int64), np.frombuffer(self._values, np.float64)


_COMPARE: dict[str, Any] = {"gt": np.greater, "gte": np.greater_equal, "lt": np.less, "lte": np.less_equal}


class FilterField:
    """One field: which slots have which text, number or boolean. Without any it is falsy, and no field."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._texts: dict[str, set[int]] = {}
        self._decimal_texts = 0  # how many of the texts are numbers
        self._booleans: dict[bool, set[int]] = {}
        self._numbers = _Numbers()

    def __bool__(self) -> bool:
        return bool(self._texts or self._booleans or len(self._numbers))

    def add(self, slot: int, values: Iterable[Scalar]) -> None:
        """An item's values."""
        for value in set(map(_typed, values)):
            match value:
                case (_, boolean):
                    self._booleans.setdefault(boolean, set()).add(slot)
                case str():
                    if value not in self._texts:
                        self._texts[value] = set()
                        self._decimal_texts += _finite(value) is not None
                    self._texts[value].add(slot)
                case _:
                    self._numbers.add(slot, float(value))

    def discard(self, slot: int, values: Iterable[Scalar]) -> None:
        """Take away what `add` was given."""
        self._numbers.discard(slot)
        for value in values:
            holders: dict[Any, set[int]] = self._booleans if isinstance(value, bool) else self._texts
            slots = holders.get(value) if isinstance(value, (bool, str)) else None
            if slots is not None:
                slots.discard(slot)
                if not slots:
                    del holders[value]
                    self._decimal_texts -= isinstance(value, str) and _finite(value) is not None

    def matching(self, condition: object, known: Mask) -> Mask:
        """The slots that meet a condition.

        Parameters
            condition: a value, a list of values (any of them), or an object of OPERATORS (all of them). Without the
                field an item meets `not` alone.
            known: the slots of items whose fields are known, (slots,) bool.

        Returns
            (slots,) bool.

        Raises
            RequestRefused: `bad_filter`, with what to use instead.
        """
        if isinstance(condition, dict):
            return self._by_operators(condition, known)
        mask = np.zeros(len(known), bool)
        for value in condition if isinstance(condition, (list, tuple)) else (condition,):
            for slots in self._equal(value):
                mask[slots] = True
        return mask

    def _by_operators(self, condition: dict[str, Any], known: Mask) -> Mask:
        if not condition or not condition.keys() <= OPERATORS or isinstance(condition.get("in"), dict):
            raise self._refused(condition, f"is no condition: {USAGE}")
        mask = known.copy()
        bounds = {operator: condition[operator] for operator in BOUNDS if operator in condition}
        if bounds:
            inside = np.zeros(len(known), bool)
            for slots in self._between(bounds):
                inside[slots] = True
            mask &= inside
        if "in" in condition:
            mask &= self.matching(condition["in"], known)
        if "not" in condition:
            mask &= ~self.matching(condition["not"], known)
        return mask

    def _equal(self, value: object) -> Iterator[Slots]:
        """Slots of a value, in each kind that it can be read as."""
        if not isinstance(value, (str, int, float)):
            raise self._refused(value, f"is no value: {USAGE}")
        boolean, number = self._boolean(value), self._number(value)
        texts = self._as_texts(value)
        if boolean is None and number is None and texts is None:
            raise self._refused(value, f"cannot be compared with {self._held()}: use such a value")
        if boolean is not None:
            yield _array(self._booleans.get(boolean, ()))
        if number is not None:
            yield self._numbers.equal(number)
        for text in texts or ():
            yield _array(self._texts.get(text, ()))

    def _between(self, bounds: Mapping[str, object]) -> Iterator[Slots]:
        """Slots within bounds: of numbers by size, of texts in the order of their characters."""
        ends = bounds.values()
        textual = all(isinstance(end, str) for end in ends)
        if not textual and any(isinstance(end, bool) or not isinstance(end, (int, float)) for end in ends):
            raise self._refused(dict(bounds), "is no range: use numbers, or text, for every end")
        numbers = {operator: self._number(bound) for operator, bound in bounds.items()}
        numeric = {operator: number for operator, number in numbers.items() if number is not None}
        if len(numeric) < len(bounds) and not (textual and self._texts):
            raise self._refused(dict(bounds), f"cannot be compared with {self._held()}: use such values as ends")
        if len(numeric) == len(bounds):
            yield self._numbers.between(numeric)
        if textual:
            for text, slots in self._texts.items():
                if all(bool(_COMPARE_TEXT[operator](text, bound)) for operator, bound in bounds.items()):
                    yield _array(slots)

    def _boolean(self, value: object) -> bool | None:
        """A value as a boolean, where the field has any."""
        if not self._booleans:
            return None
        return value if isinstance(value, bool) else _BOOLEANS.get(value) if isinstance(value, str) else None

    def _number(self, value: object) -> float | None:
        """A value as a number, where the field has any; a publication time may be RFC 3339 text."""
        if not len(self._numbers) or isinstance(value, bool):
            return None
        number = _finite(value)
        return self._time(value, number) if self.name == PUBLISHED_TIME else number

    def _time(self, value: object, number: float | None) -> float:
        """Epoch ms of a number, or of RFC 3339 text."""
        if number is None:
            try:
                return float(to_epoch_ms(value))  # type: ignore[arg-type]
            except (TypeError, ValueError, OverflowError) as error:
                raise self._refused(
                    value, "is no time: use milliseconds since 1970, or RFC 3339 text such as 2026-11-22T10:00:00Z"
                ) from error
        unit = likely_unit(number)
        if unit not in (None, "milliseconds"):
            raise self._refused(value, f"looks like {unit}: use milliseconds since 1970, or RFC 3339 text")
        return number

    def _as_texts(self, value: object) -> Iterable[str] | None:
        """The texts that a value may be written as, where the field has texts and writes any value of this kind."""
        if not self._texts:
            return None
        if isinstance(value, str):
            return (value,)
        if isinstance(value, bool):
            forms = [form for form, boolean in _BOOLEANS.items() if boolean is value]
            return forms if any(form in self._texts for form in _BOOLEANS) else None
        number = _finite(value)
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
            low, high = self._numbers.extremes()
            held.append(f"numbers ({low:.15g} to {high:.15g})")
        if self._booleans:
            held.append("booleans (true or false)")
        return " and ".join(held)

    def _refused(self, condition: object, why: str) -> RequestRefused:
        return RequestRefused("bad_filter", f"filters.{self.name:.80}: {condition!r:.80} {why}.")


_COMPARE_TEXT: dict[str, Any] = {"gt": str.__gt__, "gte": str.__ge__, "lt": str.__lt__, "lte": str.__le__}


def _typed(value: Scalar) -> str | float | tuple[str, bool]:
    """True equals 1 in Python, and is another value here."""
    return ("boolean", value) if isinstance(value, bool) else value


def _finite(value: object) -> float | None:
    """A number, or text that is one in decimal digits; None for anything else."""
    if isinstance(value, str) and not _DECIMAL.fullmatch(value):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _array(slots: Collection[int]) -> Slots:
    return np.fromiter(slots, np.int64, len(slots))
