"""What one worker knows of the marks of `events` in the slots: as it found them, or left them. Every write compares.

Before: a `StoreStanding` when a worker begins, a `Reading` in each round. After: `Batch.marks`, and what is recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from streams.features.store.standing import StoreStanding
from streams.features.store.values import Reading

__all__ = ["KnownMarks"]


class KnownMarks:
    """Of one worker, whose partitions no other should be writing."""

    def __init__(self, slots: int) -> None:
        self.low: dict[int, int] = {}
        """Partition -> offset up to which every slot holds all."""
        self._has_one = slots == 1
        self._own: dict[int, dict[int, int]] = {}
        self._met: set[int] = set()
        self._sure: dict[int, dict[int, int]] = {}
        self._left: dict[int, dict[int, int]] = {}
        self._written: dict[int, set[int]] = {}
        self._behind: dict[int, dict[int, int]] = {}

    def begin(self, standing: StoreStanding) -> None:
        """Go by what stands in the store."""
        self.forget()
        self.low = standing.marks()
        self._left = {slot: dict(marks) for slot, marks in standing.own.items()}
        self._behind = standing.behind()
        self._sure = {
            slot: {partition: min(mark, standing.own[slot].get(partition, -1)) for partition, mark in marks.items()}
            for slot, marks in standing.recorded.items()
            if slot in standing.own
        }

    def forget(self) -> None:
        """What is known is read anew; with what was left there that is compared once."""
        for slot, marks in self._own.items():
            self._left.setdefault(slot, {}).update(marks)
        self._own.clear()
        self._met.clear()
        self._written.clear()

    def behind(self, partitions: Iterable[int]) -> list[int]:
        """Slots that have lost writes of these partitions: they are told of every round until they have come as far
        as they were.
        """
        wanted = set(partitions)
        return [slot for slot, lost in self._behind.items() if wanted & lost.keys()]

    @property
    def lost(self) -> list[int]:
        """Slots that have lost writes and have not come again as far as they were."""
        return sorted(self._behind)

    def agrees(self, reading: Reading, partitions: Iterable[int]) -> bool:
        """Whether the slots that were read are as this worker knows them; one that it knows nothing of yet is, if it
        goes by it from now on.
        """
        several = set(partitions)
        self._met |= reading.slots.keys()
        for slot, found in reading.slots.items():
            known = self._own.get(slot)
            if known is None:
                self._own[slot] = dict(found.own)
            elif any(found.own.get(one) != known.get(one) for one in self._written.get(slot, set()) | several):
                return False
        return True

    def went_back(self, reading: Reading) -> bool:
        """Whether a slot has a lower mark than this worker left or found there. From then on, what it has counts.

        Another worker only ever moves a mark up. The offsets of a batch tell nothing: a log may have gaps.
        """
        is_lower = False
        for slot in reading.slots:
            marks = self._own[slot]
            left, self._left[slot] = self._left.get(slot, {}), dict(marks)
            is_lower |= any(marks.get(partition, -1) < mark for partition, mark in left.items())
        return is_lower

    def mark(self, slot: int, partition: int) -> int:
        """The newest offset whose effects a slot holds, -1 for none."""
        return self._own[slot].get(partition, -1)

    def surely(self, slot: int, partition: int) -> int:
        """An offset whose effects a slot holds, -1 for none, without looking: by what is recorded of it, so that it
        shows if the slot has lost them since.
        """
        return self._sure.get(slot, {}).get(partition, -1)

    def done_with(self, partition: int) -> int:
        """The offset up to which all records are done with, those that are about no user, too."""
        return self.mark(0, partition) if self._has_one else self.low.get(partition, -1)

    def moved(self, slots: Iterable[int], ends: Mapping[int, int]) -> dict[int, dict[int, tuple[int | None, int]]]:
        """`Batch.marks` of a round that writes to these slots and ends at these offsets. Marks that this worker moved
        are compared even where they stay: users in memory are only as good as these.

        With one slot its marks move in every round; of several only those that have to.
        """
        found = {}
        for slot in {0} if self._has_one else {*slots, *self.behind(ends)}:
            own = self._own[slot]
            all_ends = {partition: own[partition] for partition in self._written.get(slot, ())}
            all_ends |= {partition: max(end, own.get(partition, -1)) for partition, end in ends.items()}
            found[slot] = {partition: (own.get(partition), end) for partition, end in all_ends.items()}
        return found

    def wrote(self, marks: Mapping[int, Mapping[int, tuple[int | None, int]]]) -> None:
        """These are in the store."""
        for slot, several in marks.items():
            for partition, (_, mark) in several.items():
                self._own[slot][partition] = mark
                self._written.setdefault(slot, set()).add(partition)

    def done(self, ends: Mapping[int, int]) -> tuple[dict[int, tuple[int | None, int]], dict[int, dict[int, int]]]:
        """Every slot holds all up to these offsets: what is to be recorded of it, low-water marks and own ones."""
        low: dict[int, tuple[int | None, int]] = {}
        for partition, end in ends.items():
            left = self.low.get(partition)
            low[partition] = left, max(end, -1 if left is None else left)
            self.low[partition] = low[partition][1]
        for slot, lost in list(self._behind.items()):
            own = self._own.get(slot, {})
            still = {partition: mark for partition, mark in lost.items() if own.get(partition, -1) < mark}
            if still:
                self._behind[slot] = still
            else:
                del self._behind[slot]
        own_marks = {
            slot: {partition: self._own[slot][partition] for partition in ends if partition in self._own[slot]}
            for slot in self._met
        }
        self._met.clear()
        for slot, marks in own_marks.items():
            self._sure.setdefault(slot, {}).update(marks)
        return low, own_marks
