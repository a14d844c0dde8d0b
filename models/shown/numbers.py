"""Numbers of items: what the catalogue's attributes say, and what is told with a list, such as each item's price there.

Before: catalogue entries and lists, in the order of the log. After: `facts` compares the items of a list by them. What
is told with a list goes before what the catalogue says. The first few names have a column each, for as long as the
model lives; what has none is let be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.context import Numbers

__all__ = ["COLUMNS", "ItemNumbers"]

COLUMNS = 8
"""Names that are compared."""

OF_CATALOGUE = 5
"""Most of them that the catalogue alone names: a list that comes with its prices finds a column."""


class ItemNumbers:
    """Numeric attributes by item, for at most `limit` items; the longest without news are forgotten."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.names: dict[str, int] = {}  # -> column
        self._own: dict[str, dict[str, float]] = {}

    def observe(self, item_id: str, content: Mapping[str, Any] | None) -> None:
        """Take in a catalogue entry; None forgets the item."""
        self._own.pop(item_id, None)
        found = {}
        for name, value in ((content or {}).get("attributes") or {}).items():
            if isinstance(value, (int, float)) and not isinstance(value, bool) and self._column(name, OF_CATALOGUE):
                found[name] = number = _finite(value)
                if math.isnan(number):
                    del found[name]
        if found:
            self._own[item_id] = found
            if len(self._own) > self.limit:
                del self._own[next(iter(self._own))]

    def of_list(self, items: Sequence[str], told: Numbers) -> dict[str, list[float | None]]:
        """Of each name that is compared the numbers of the items of a list; None where there is none.

        Parameters
            items: different ones.
            told: what came with the list, in the order of `items`.
        """
        for name in told:
            self._column(name, COLUMNS)
        found = {}
        own = [self._own.get(item_id, {}) for item_id in items] if self._own else []
        for name in self.names:
            numbers = [one.get(name) for one in own] or [None] * len(items)
            if name in told:
                numbers = [mine if one is None else one for one, mine in zip(told[name], numbers, strict=True)]
            if any(one is not None for one in numbers):
                found[name] = numbers
        return found

    def of(self, item_id: str) -> dict[int, float]:
        """What the catalogue says of one item, by column."""
        return {self.names[name]: number for name, number in self._own.get(item_id, {}).items()}

    def columns(self, numbers: Numbers, many: int) -> NDArray[np.float64]:
        """The same as an array (many, COLUMNS), NaN where there is none."""
        found = np.full((many, COLUMNS), np.nan)
        for name, each in numbers.items():
            found[:, self.names[name]] = [math.nan if one is None else one for one in each]
        return found

    def _column(self, name: str, most: int) -> bool:
        if name not in self.names and len(self.names) < most:
            self.names[name] = len(self.names)
        return name in self.names

    def values(self) -> dict[str, Any]:
        """All of it, JSON-able; nothing before the first number."""
        return {"numbers": {"names": list(self.names), "own": list(self._own.items())}} if self.names else {}

    def load(self, values: Mapping[str, Any]) -> None:
        """Back to what `values` returned."""
        kept = values.get("numbers", {"names": (), "own": ()})
        self.names = {name: column for column, name in enumerate(kept["names"])}
        self._own = dict(kept["own"])


def _finite(value: float) -> float:
    try:
        number = float(value)
    except OverflowError:
        return math.nan
    return number if math.isfinite(number) else math.nan
