"""Pairs of slot and value in packed columns, in no order: what an item has comes and goes whatever the others are."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Hashable, Iterator
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from serving.filters.values import Slots

__all__ = ["Interned", "Packed"]

Held = TypeVar("Held", bound=Hashable)


class Packed:
    """Pairs of slot and number. `typecode` is of `array`: "d" for floats, "q" for integers."""

    def __init__(self, typecode: str = "d") -> None:
        self._slots = array("q")
        self._values: array[Any] = array(typecode)
        self._dtype = np.dtype(np.float64 if typecode == "d" else np.int64)
        self._places: dict[int, int | tuple[int, ...]] = {}  # slot -> where its pairs are; most have one

    def __len__(self) -> int:
        return len(self._slots)

    def add(self, slot: int, value: float) -> None:
        """One more value of a slot."""
        place = len(self._slots)
        held = self._places.setdefault(slot, place)
        if held != place:
            self._places[slot] = (held, place) if isinstance(held, int) else (*held, place)
        self._slots.append(slot)
        self._values.append(value)

    def discard(self, slot: int) -> list[Any]:
        """Take away all values of a slot, and return them."""
        places = self._places.pop(slot, ())
        gone = []
        for place in sorted((places,) if isinstance(places, int) else places, reverse=True):
            last, value = self._slots.pop(), self._values.pop()  # another slot's: this one's places are from the last
            if place < len(self._slots):
                gone.append(self._values[place])
                self._slots[place], self._values[place] = last, value
                moved = self._places[last]
                if isinstance(moved, int):
                    self._places[last] = place
                else:
                    self._places[last] = tuple(place if one == len(self._slots) else one for one in moved)
            else:
                gone.append(value)
        return gone

    @property
    def slots(self) -> Slots:
        """(n,) int64. Like `values` not to be kept: while it is looked at, nothing can be added."""
        return np.frombuffer(self._slots, np.int64) if self._slots else np.zeros(0, np.int64)

    @property
    def values(self) -> npt.NDArray[Any]:
        """(n,), in the order of `slots`."""
        return np.frombuffer(self._values, self._dtype) if self._values else np.zeros(0, self._dtype)


class Interned(Generic[Held]):
    """Pairs of slot and a value of any kind, each different value held once and known by a code."""

    def __init__(self) -> None:
        self._codes: dict[Held, int] = {}
        self._held: list[Held | None] = []  # by code
        self._uses = array("q")  # by code
        self._free: list[int] = []
        self._pairs = Packed("q")
        self._tables: dict[Callable[[Held], float], array[float]] = {}  # by code

    def __len__(self) -> int:
        return len(self._codes)

    def __iter__(self) -> Iterator[Held]:
        return iter(self._codes)

    def __contains__(self, value: object) -> bool:
        return value in self._codes

    def add(self, slot: int, value: Held) -> None:
        """One more value of a slot."""
        code = self._codes.get(value)
        if code is None:
            code = self._new_code(value)
        self._uses[code] += 1
        self._pairs.add(slot, code)

    def discard(self, slot: int) -> None:
        """Take away all values of a slot."""
        for code in self._pairs.discard(slot):
            self._uses[code] -= 1
            if not self._uses[code]:
                value = self._held[code]
                assert value is not None  # it was used until now
                del self._codes[value]
                self._held[code] = None
                self._free.append(code)

    def slots(self) -> Slots:
        """Of every pair."""
        return self._pairs.slots

    def holding(self, values: Collection[Held]) -> Slots:
        """The slots that have one of some values."""
        codes = [self._codes[value] for value in values if value in self._codes]
        if not codes:
            return np.zeros(0, np.int64)
        held = self._pairs.values
        if len(codes) == 1:
            return np.asarray(self._pairs.slots[held == codes[0]])
        wanted = np.zeros(len(self._held), bool)
        wanted[codes] = True
        return np.asarray(self._pairs.slots[wanted[held]])

    def column(self, number: Callable[[Held], float]) -> npt.NDArray[np.float64]:
        """A number of each pair's value, in the order of `slots`; read once a value."""
        table = self._tables.get(number)
        if table is None:
            read = [np.nan if value is None else number(value) for value in self._held]
            table = self._tables[number] = array("d", read)
        if not table:
            return np.zeros(0)
        return np.asarray(np.frombuffer(table, np.float64)[self._pairs.values])

    def _new_code(self, value: Held) -> int:
        if not self._free:
            self._free.append(len(self._held))
            self._held.append(None)
            self._uses.append(0)
            for table in self._tables.values():
                table.append(np.nan)
        code = self._free.pop()
        self._held[code] = value
        self._codes[value] = code
        for number, table in self._tables.items():
            table[code] = number(value)
        return code
