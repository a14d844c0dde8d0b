"""Where a topic's effects stand in the slots of a store, and which slots have lost some: pure functions of marks.

A slot's own mark says what its keys hold: every effect on it of the records at or below, and none of those above. It
moves only when something is written to the slot. So two things are recorded outside the slots after each round: the
low-water mark, up to which every slot holds all, and the own marks of the slots as they were then. A slot holds all
effects up to the greater of its own mark and the low-water mark; one whose own mark is lower than was recorded of it
has lost writes, and holds what its own mark says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["StoreStanding", "marks_of_slot"]

Marks = Mapping[int, int]


@dataclass(slots=True)
class StoreStanding:
    """The marks of one topic. With one slot its own marks are all there is.

    Fields
        own: slot -> partition -> offset, of each slot.
        low: partition -> the recorded low-water mark; None with one slot.
        recorded: slot -> partition -> the least own mark that the slot must have.
    """

    own: dict[int, dict[int, int]] = field(default_factory=dict)
    low: dict[int, int] | None = None
    recorded: dict[int, dict[int, int]] = field(default_factory=dict)

    def marks(self) -> dict[int, int]:
        """Partition -> offset up to which every slot holds all.

        >>> StoreStanding({0: {5: 90}, 1: {5: 70}}, {5: 95}, {0: {5: 90}, 1: {5: 80}}).marks()
        {5: 70}
        """
        if self.low is None:
            return dict(self.own[0])
        found = dict(self.low)
        for slot, must in self.behind().items():
            for partition in must:
                held = min(found.get(partition, -1), self.own[slot].get(partition, -1))
                if held < 0:
                    found.pop(partition, None)
                else:
                    found[partition] = held
        return found

    def marks_of(self, slot: int) -> dict[int, int]:
        """Partition -> offset of which this slot holds all, and nothing beyond.

        >>> StoreStanding({0: {5: 90}, 1: {5: 70}}, {5: 95}, {0: {5: 90}, 1: {5: 80}}).marks_of(0)
        {5: 95}
        """
        return marks_of_slot(self.own[slot], self.low or {}, self.recorded.get(slot, {}))

    def highest(self) -> dict[int, int]:
        """Partition -> the newest offset that any slot holds something of."""
        found = dict(self.low or {})
        for marks in self.own.values():
            for partition, mark in marks.items():
                found[partition] = max(mark, found.get(partition, -1))
        return found

    def behind(self) -> dict[int, dict[int, int]]:
        """Slot -> partition -> the mark that it had, of those that have lost writes."""
        found: dict[int, dict[int, int]] = {}
        for slot, must in self.recorded.items():
            own = self.own.get(slot)
            if own is not None:
                lost = {partition: mark for partition, mark in must.items() if own.get(partition, -1) < mark}
                if lost:
                    found[slot] = lost
        return found


def marks_of_slot(own: Marks, low: Marks, recorded: Marks) -> dict[int, int]:
    """Partition -> offset of which one slot holds all, and nothing beyond.

    Parameters
        own: the slot's marks as they are.
        low, recorded: as they were at one moment before.

    >>> marks_of_slot({0: 5, 1: 7}, {0: 9, 1: 9, 2: 3}, {1: 8})
    {0: 9, 1: 7, 2: 3}
    """
    found = dict(own)
    for partition, mark in low.items():
        mine = own.get(partition, -1)
        if mine >= recorded.get(partition, -1):
            found[partition] = max(mine, mark)
    return found
