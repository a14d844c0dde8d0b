"""What can be recommended: titles, availability and filterable fields of every item, in memory.

Before: the `items` topic, read from its beginning. After: `serving.rules` (masks), `serving.reasons` (titles). Knows
nothing of Kafka or of model rows: each item id gets a slot, for good, the first time it is named; masks are over slots.

The thread that follows the topics writes and the one that answers reads; one lock, held for microseconds, joins them.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from headwater.errors import RequestRefused
from headwater.events import Item

__all__ = ["Catalogue", "Mask"]

Mask = npt.NDArray[np.bool_]
Value = str | float | tuple[str, bool]
KNOWN_FIELDS_NAMED = 20

NESTED = ("nested", True)
"""The key of every value that no filter can name: an object, a list in a list, a null in a list."""


class _Field:
    """One filterable field: which slots have which value. A field without members is none and is dropped."""

    def __init__(self) -> None:
        self.members: dict[Value, set[int]] = {}
        self.numbers: dict[int, float] = {}

    def add(self, slot: int, keys: Iterable[Value], number: float | None) -> None:
        for key in keys:
            self.members.setdefault(key, set()).add(slot)
        if number is not None:
            self.numbers[slot] = number

    def discard(self, slot: int, keys: Iterable[Value]) -> None:
        for key in keys:
            slots = self.members[key]
            slots.discard(slot)
            if not slots:
                del self.members[key]
        self.numbers.pop(slot, None)


def _hashable(value: object) -> Value:
    """A value as a key, of its own type: True is neither 1 nor any string, and 1 is 1.0."""
    if isinstance(value, bool):
        return "boolean", value
    if isinstance(value, (str, int, float)):
        return value
    return NESTED


class Catalogue:
    """Items by id and by slot. `changes` counts what may have altered a mask; `lock` guards every member.

    `offsets` (items partition -> offset of the last record taken in) is written by whoever reads the topic, under the
    lock, so that an answer can say what it knew.
    """

    def __init__(self, items: Iterable[Item] = ()) -> None:
        self.lock = threading.RLock()
        self.changes = 0
        self.offsets: dict[str, int] = {}
        self.ids: list[str] = []
        self.slots: dict[str, int] = {}
        self._items: list[Item | None] = []
        self._keys: list[dict[str, frozenset[Value]]] = []  # of each slot, what `_fields` knows it under
        self._fields: dict[str, _Field] = {}
        self._blocked: set[int] = set()
        self._size = 0
        for item in items:
            self.put(item)

    def __len__(self) -> int:
        return self._size

    def slot(self, item_id: str) -> int:
        """The item's slot; a new one when the id was never named before."""
        found = self.slots.get(item_id)
        if found is not None:
            return found
        with self.lock:
            if item_id not in self.slots:
                self._items.append(None)
                self._keys.append({})
                self.ids.append(item_id)
                self.slots[item_id] = len(self.ids) - 1
                self.changes += 1
            return self.slots[item_id]

    def put(self, item: Item) -> None:
        """An item as it is from now on."""
        fields = [(name, _keys(value), _number(value)) for name, value in _fields_of(item)]
        with self.lock:
            slot = self.slot(item.item_id)
            self._forget(slot)
            self._items[slot] = item
            self._size += 1
            for name, keys, number in fields:
                self._fields.setdefault(name, _Field()).add(slot, keys, number)
                self._keys[slot][name] = keys
            if item.available:
                self._blocked.discard(slot)
            else:
                self._blocked.add(slot)
            self.changes += 1

    def remove(self, item_id: str) -> None:
        """An item that left the catalogue: never recommended again, unless it is put back."""
        with self.lock:
            slot = self.slot(item_id)
            self._forget(slot)
            self._blocked.add(slot)
            self.changes += 1

    def get(self, item_id: str) -> Item | None:
        """The item, or None for one that is not in the catalogue."""
        slot = self.slots.get(item_id)
        return None if slot is None else self._items[slot]

    def title(self, item_id: str) -> str:
        """The item's title, or its id where it has none."""
        item = self.get(item_id)
        return item.title if item is not None and item.title else item_id

    def blocked(self) -> Mask:
        """Over slots: unavailable or removed. Items that only events have named are not blocked."""
        with self.lock:
            mask = np.zeros(len(self.ids), bool)
            mask[list(self._blocked)] = True
            return mask

    def matching(self, name: str, condition: object) -> Mask:
        """The items whose field meets a condition.

        Parameters
            name: of the field.
            condition: a value, a list of values (any of them), or `{"gte": x, "lte": y}` with either end. A field that
                holds a list (`categories` does) meets a value when the list has it.

        Returns
            A mask over slots, (slots,) bool.

        Raises
            RequestRefused: `unknown_field` when no item has the field, `bad_filter` when the condition is none of
                these.
        """
        with self.lock:
            field = self._fields.get(name)
            if field is None:
                raise RequestRefused(
                    "unknown_field", f"filters: no item has a field {name!r:.80}. Known fields: {self._known_fields()}."
                )
            mask = np.zeros(len(self.ids), bool)
            if isinstance(condition, dict):
                mask[_in_range(field, name, condition)] = True
            else:
                for value in condition if isinstance(condition, (list, tuple)) else (condition,):
                    if not isinstance(value, (str, int, float)):
                        raise _bad_filter(name, condition)
                    mask[list(field.members.get(_hashable(value), ()))] = True
            return mask

    def _forget(self, slot: int) -> None:
        item = self._items[slot]
        if item is None:
            return
        for name, keys in self._keys[slot].items():
            field = self._fields[name]
            field.discard(slot, keys)
            if not field.members:
                del self._fields[name]
        self._keys[slot] = {}
        self._items[slot] = None
        self._size -= 1

    def _known_fields(self) -> str:
        if not self._fields:
            return "none yet: no item with fields has arrived on `items`"
        names = ", ".join(f"{name:.80}" for name in heapq.nsmallest(KNOWN_FIELDS_NAMED, self._fields))
        more = len(self._fields) - KNOWN_FIELDS_NAMED
        return names if more <= 0 else f"{names} and {more:,} more"


def _fields_of(item: Item) -> list[tuple[str, Any]]:
    """Names and values; null and an empty list are no value."""
    pairs = [
        (name, value)
        for name, value in item.attributes.items()
        if value is not None and value != [] and name != "categories"
    ]
    return [("categories", item.categories), *pairs] if item.categories else pairs


def _keys(value: object) -> frozenset[Value]:
    return frozenset(map(_hashable, value if isinstance(value, (list, tuple)) else (value,)))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _in_range(field: _Field, name: str, condition: dict[str, object]) -> Sequence[int] | npt.NDArray[np.int64]:
    bounds = list(condition.values())
    numeric = all(isinstance(bound, (int, float)) and not isinstance(bound, bool) for bound in bounds)
    if not bounds or not condition.keys() <= {"gte", "lte"} or not (numeric or all(isinstance(b, str) for b in bounds)):
        raise _bad_filter(name, condition)
    if numeric:
        slots = np.fromiter(field.numbers, np.int64, len(field.numbers))
        values = np.fromiter(field.numbers.values(), np.float64, len(field.numbers))
        low, high = condition.get("gte", -np.inf), condition.get("lte", np.inf)
        return slots[(values >= cast(float, low)) & (values <= cast(float, high))]
    first, last = cast(str, condition.get("gte", "")), cast("str | None", condition.get("lte"))
    found: set[int] = set()
    for value, members in field.members.items():
        if isinstance(value, str) and value >= first and (last is None or value <= last):
            found |= members
    return list(found)


def _bad_filter(name: str, condition: object) -> RequestRefused:
    text = f'filters.{name}: {condition!r:.80} is no value, list of values, or {{"gte": x, "lte": y}} with either end.'
    return RequestRefused("bad_filter", text)
