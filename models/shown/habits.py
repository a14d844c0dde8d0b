"""How somebody goes through lists: what place and what price they take, and how they go on from what they took last.

Before: `lists` says, when a user is shown the next list, which item they took of the one before: that of the strongest
reaction. After: `facts` compares the items of the next list with it. A list of one item leaves no choice and tells
nothing. Knows ids; the longest idle are forgotten.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from typing import Any

__all__ = ["Habit", "Habits"]

MOST = 100_000


@dataclass(slots=True)
class Habit:
    """Of one user. Shares and means are shrunk to what most people do, as if they had done so once or twice.

    Fields
        seen: number of the newest list that is taken into account.
        item_id: what was taken last; run: how many times in a row.
        lists: that something was taken of.
        sizes: by column, sums of how the numbers of what was taken compared with those of its list.
        again, same, below: lists with the item that was taken last; that it was taken of again; that one below it was.
        anew, first, log_place: lists without it; that their first item was taken of; sum of the places' logarithms.
    """

    seen: int = -1
    item_id: str = ""
    run: int = 0
    lists: int = 0
    again: int = 0
    same: int = 0
    below: int = 0
    anew: int = 0
    first: int = 0
    log_place: float = 0.0
    sizes: dict[int, float] = field(default_factory=dict)

    @property
    def stays(self) -> float:
        """How often they take the same item again."""
        return (self.same + 0.6) / (self.again + 2.0)

    @property
    def goes_down(self) -> float:
        """How often they go on further down."""
        return (self.below + 0.9) / (self.again + 2.0)

    @property
    def starts(self) -> float:
        """How often they begin a list with its first item."""
        return (self.first + 0.4) / (self.anew + 1.0)

    @property
    def depth(self) -> float:
        """Where they begin a list: logarithm of the place."""
        return (self.log_place + 1.2) / (self.anew + 1.0)

    def size(self, column: int) -> tuple[float, float]:
        """How the numbers of what they take compare with the list's, and how well that is known (0 to 1)."""
        return self.sizes.get(column, 0.0) / (self.lists + 1.0), self.lists / (self.lists + 2.0)

    def take(self, item_id: str, place: int, before: int, sizes: Sequence[float]) -> None:
        """An item was taken.

        Parameters
            place: in its list, from 1; 0 where that is not known.
            before: place there of what was taken last; 0 where it was not there.
            sizes: of each column how the item compares with the list.
        """
        self.lists += 1
        if before and place:
            self.again += 1
            self.same += item_id == self.item_id
            self.below += place > before
        elif place:
            self.anew += 1
            self.first += place == 1
            self.log_place += math.log(place)
        for column, size in enumerate(sizes):
            if size:
                self.sizes[column] = self.sizes.get(column, 0.0) + size
        self.run = self.run + 1 if item_id == self.item_id else 1
        self.item_id = item_id


NOBODY = Habit()


class Habits:
    """Of all users who ever took something of a list."""

    def __init__(self) -> None:
        self._own: dict[str, Habit] = {}  # longest idle first

    def of(self, user_id: str) -> Habit:
        """Whose; of one who is not known, what most people do."""
        return self._own.get(user_id, NOBODY)

    def take(
        self, user_id: str, number: int, items: Sequence[str], places: Sequence[int], i: int, sizes: Sequence[float]
    ) -> None:
        """A user took the item at `i` of the list of this number; a list counts once, and only after older ones."""
        own = self._own.pop(user_id, None) or Habit()
        self._own[user_id] = own
        if len(self._own) > MOST:
            del self._own[next(iter(self._own))]
        if number > own.seen and len(items) > 1:
            before = places[items.index(own.item_id)] if own.item_id in items else 0
            own.take(items[i], places[i], before, sizes)
            own.seen = number

    def known(self) -> set[str]:
        """Of whom a habit is kept."""
        return {*self._own}

    def forget(self, user_id: str) -> None:
        """Of somebody, keep nothing."""
        self._own.pop(user_id, None)

    def values(self) -> list[list[Any]]:
        """All of it, JSON-able."""
        return [[user_id, *astuple(own)[:-1], list(own.sizes.items())] for user_id, own in self._own.items()]

    def load(self, values: Sequence[Sequence[Any]]) -> None:
        """Back to what `values` returned."""
        self._own = {}
        for user_id, *own, sizes in values:
            self._own[user_id] = one = Habit(*own)
            one.sizes = dict(sizes)
