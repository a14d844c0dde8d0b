"""Takes records out of a Faust agent's channel in batches, in order, from where the store is, and acknowledges them.

Before: `streams.faust_internals` puts whole polls into the channel of an agent. After: a round handles the batch and
then calls `acknowledge`; Faust commits what was acknowledged once a second. Knows nothing of what a record means.

The channel is drained directly and not through `async for`: a stream acknowledges a record whose handler raised, and
acknowledges unseen what it skips after a rebalance. Here nothing is acknowledged but by `acknowledge`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from streams.faust_internals import Poll
from streams.losses import Losses

__all__ = ["Intake", "StoreMarks"]

Message = Any

MARKERS = 100
"""A hole in the log of more records than that is no marker of a transaction: retention may have overtaken reading."""

MAX_BATCH_BYTES = 128 * 1024
"""A batch ends when its values reach this: about 1,250 packed events, a round of 35 ms on a free core."""

log = logging.getLogger("headwater")


class StoreMarks(NamedTuple):
    """Where the store is in a topic.

    Fields
        topic: its full name.
        read: partition -> offset after the newest record whose effect is in the store, fresh from there.
        gapless: a record ahead of what is due is reason to seek back. A compacted topic is full of gaps.
        holds: whether the log has records in a partition from an offset on and before another.
    """

    topic: str
    read: Callable[[], Awaitable[Mapping[int, int]]]
    gapless: bool
    holds: Callable[[int, int, int], Awaitable[bool]]


_LOOK = Poll(None, 0, ())
"""Stands in the channel for a wish to look at the store, which takes its turn between two batches."""


class Intake:
    """The records of one agent, from where the store is: its marks decide, not what the group has committed.

    A partition starts at its mark, and at once when the log has more, whether anything arrives or not. Where it is
    gapless a record that is ahead of what is due makes Faust seek back; a gap that is there again after seeking, and
    that the log has nothing for, is accepted, and what retention took out of it is told. `look` goes back to where the
    store is when it lost something while nothing arrives, `read_again` when a round has found that out.
    """

    def __init__(
        self, app: Any, queue: Any, marks: StoreMarks, losses: Losses, *, max_records: int, max_wait_s: float
    ) -> None:
        self._app = app
        self._queue = queue
        self._marks = marks
        self._losses = losses
        self._max_records = max_records
        self._max_wait_s = max_wait_s
        self._generation: int | None = None
        self._due: dict[int, int] = {}
        self._oldest: dict[int, int] = {}  # where the log began when something before it was due
        self._sought: set[int] = set()  # partitions of which nothing has arrived since they were sought
        self._seeking: dict[int, int] = {}
        self._resumed: dict[int, int] = {}  # what was committed when the assignment began
        self._stood: dict[int, int] = {}  # how far reading had come at the last look
        self._held: Poll | None = None
        self._given_s = math.inf  # when the last batch was given
        self._look_next = False
        self._look_asked: int | None = None

    @property
    def begun(self) -> bool:
        """Whether the present assignment is read from where the store is."""
        return self._generation is not None and self._generation == self._app.consumer_generation_id

    def look(self) -> None:
        """Compare with the store, as soon as what has arrived by now is done with."""
        generation = self._app.consumer_generation_id
        if self._look_asked != generation and not self._queue.full():
            self._look_asked = generation
            self._queue.put_nowait(_LOOK)

    async def batch(self) -> list[Message]:
        """The next records, at least one. A lone record is given at once; where rounds follow each other closely, they
        fill for as long as the last one took, at most.
        """
        asked_s = time.monotonic()
        rest_s = min(self._max_wait_s, asked_s - self._given_s)
        while True:
            if self._look_next:
                self._look_next, self._look_asked = False, None
                await self._compare()
            poll, self._held = self._held or self._taken(await self._queue.get()), None
            batch: list[Message] = []
            taken_bytes = 0
            while True:
                if batch and poll.records and self._is_newly_assigned(poll):
                    self._held = poll  # so that what is in hand is judged by the marks it was taken by
                    break
                taken_bytes = await self._take(poll, batch, taken_bytes)
                if self._held or self._look_next or self._is_full(batch, taken_bytes):
                    break
                if self._queue.empty():
                    wait_s = asked_s + rest_s - time.monotonic()
                    if not batch or wait_s <= 0:
                        break
                    await asyncio.sleep(wait_s)
                    if self._queue.empty():
                        break
                poll = self._taken(self._queue.get_nowait())
            if batch:
                self._given_s = time.monotonic()
                return batch

    def _is_full(self, batch: list[Message], taken_bytes: int) -> bool:
        return len(batch) >= self._max_records or taken_bytes >= MAX_BATCH_BYTES

    async def _take(self, poll: Poll, batch: list[Message], taken_bytes: int) -> int:
        """As much of a poll as fits into the batch, the rest is held; how many bytes the batch has with it."""
        for place, record in enumerate(poll.records):
            if self._is_full(batch, taken_bytes):
                self._held = poll._replace(records=poll.records[place:])
                break
            if not self._follows(poll, record) and not await self._admits(poll, record):
                continue
            batch.append(record)
            taken_bytes += len(record.value or b"")
        return taken_bytes

    def _follows(self, poll: Poll, record: Message) -> bool:
        """Whether it is the very record that is due: nothing to ask for then."""
        partition, offset = record.partition, record.offset
        if self._due.get(partition) != offset or partition in self._seeking or partition in self._sought:
            return False
        if not poll.generation == self._generation == self._app.consumer_generation_id:
            return False
        self._due[partition] = offset + 1
        return True

    def acknowledge(self, batch: list[Message]) -> None:
        """These records are done with, whatever happens next: their effects are written."""
        self._app.consumer.done(self._marks.topic, {one.partition: one.offset + 1 for one in batch})

    async def read_again(self, positions: Mapping[int, int]) -> None:
        """Nothing of the last batch has an effect: read on from `positions`, in every partition past its own."""
        if self.begun:  # a new assignment starts from the store's positions anyway
            due = {tp: self._reachable(positions, tp.partition) for tp in self._assigned()}
            await self._go_back({tp: at for tp, at in due.items() if at < self._due.get(tp.partition, 0)})

    def _taken(self, poll: Poll) -> Poll:
        if poll is _LOOK:
            self._look_next = True
        else:
            self._app.consumer.taken(poll)
        return poll

    def _assigned(self) -> list[Any]:
        return [tp for tp in self._app.consumer.assignment() if tp.topic == self._marks.topic]

    def _reachable(self, positions: Mapping[int, int], partition: int) -> int:
        return max(positions.get(partition, 0), self._oldest.get(partition, 0))

    def _is_newly_assigned(self, poll: Poll) -> bool:
        generation = self._app.consumer_generation_id
        return bool(poll.generation == generation != self._generation)

    async def _admits(self, poll: Poll, message: Message) -> bool:
        generation = self._app.consumer_generation_id
        if poll.generation != generation:
            return False  # from before a rebalance: whoever has the partition now reads it again
        if generation != self._generation:
            await self._begin()
        consumer = self._app.consumer
        partition, offset = message.partition, message.offset
        due = self._due.setdefault(partition, 0)
        seeking = self._seeking.get(partition)
        if seeking is not None and offset > seeking:
            return False  # was on its way before the seek
        # Faust seeks, too, to where the group is: what comes from there twice looks like what the log has next
        if seeking is not None and (offset <= due or not await self._marks.holds(partition, due, offset)):
            del self._seeking[partition]
            consumer.arrived([poll.partition])
        elif offset > due and (seeking is not None or not await self._may_skip(poll.partition, message, due)):
            log.warning(
                "records are missing between what was folded and what arrived: reading them again",
                extra={"topic": message.topic, "partition": partition, "due": due, "arrived": offset},
            )
            await self._go_back({poll.partition: due})
            self._seeking[partition] = offset
            return False
        if offset >= due:
            self._due[partition] = offset + 1
            self._sought.discard(partition)
            consumer.arrived([poll.partition])
        return True

    async def _may_skip(self, tp: Any, message: Message, due: int) -> bool:
        """Whether what is due before this record is not in the log."""
        if message.partition in self._sought:
            return False
        resumed = self._resumed.get(message.partition, 0)
        if not self._marks.gapless:
            return due >= resumed or message.offset < resumed  # else Faust has gone on from what is committed
        if due <= resumed:
            return False  # Faust may have gone on from what is committed
        consumer = self._app.consumer
        if consumer.hole_before(tp, message.offset) > due:
            return False
        if message.offset - due > MARKERS:
            begin = (await consumer.earliest_offsets(tp)).get(tp, 0)
            if begin > due:
                self._losses.gone(tp.topic, tp.partition, due, begin)
        return True

    async def _begin(self) -> None:
        """What is due in a new assignment is what the store has not."""
        consumer = self._app.consumer
        self._generation = self._app.consumer_generation_id
        self._seeking.clear()
        self._sought.clear()
        self._stood = {tp.partition: consumer.reached(tp) for tp in self._assigned()}
        consumer.arrived()
        known = {tp.partition: consumer.committed_offset(tp) for tp in self._assigned()}
        self._resumed = dict(known)
        for partition, offset in known.items():  # a loss that was told, and is being read again, is no new one
            known[partition] = min(offset, self._due.get(partition, offset))
        positions = await self._marks.read()  # after what is committed: marks never fall behind that but by a loss
        self._due = {partition: self._reachable(positions, partition) for partition in {*positions, *known}}
        self._losses.went_back(self._marks.topic, known, self._due)

    async def _compare(self) -> None:
        """Go back where reading has come further than the store, which has all that was taken by now."""
        consumer = self._app.consumer
        known = self._due
        if begun := self.begun:
            positions = await self._marks.read()
            known = dict(self._due)
            for tp in self._assigned():
                at = self._reachable(positions, tp.partition)
                self._due[tp.partition] = min(at, known.get(tp.partition, at))
            self._losses.went_back(self._marks.topic, known, self._due)
        else:
            await self._begin()
        back: dict[Any, int] = {}
        for tp in self._assigned():
            due, reached = self._due.get(tp.partition, 0), consumer.reached(tp)
            is_less = begun and due < known.get(tp.partition, 0)
            is_stuck = reached > due and reached == self._stood.get(tp.partition)
            if is_less or is_stuck:
                back[tp] = due
            self._stood[tp.partition] = reached
        await self._go_back(back)

    async def _go_back(self, positions: Mapping[Any, int]) -> None:
        """Read these partitions again from these offsets, or from where the log begins by now."""
        if not positions:
            return
        consumer = self._app.consumer
        begins = await consumer.earliest_offsets(*positions)
        if not self.begun:
            return
        back: dict[Any, int] = {}
        for tp, position in positions.items():
            begin = begins.get(tp, 0)
            if position < begin:
                self._oldest[tp.partition] = begin
                if position or consumer.committed_offset(tp):  # else a log that never was in this store, cut before
                    self._losses.gone(tp.topic, tp.partition, position, begin)
            back[tp] = self._due[tp.partition] = max(position, begin)
            self._seeking.pop(tp.partition, None)
            self._sought.add(tp.partition)
        await consumer.seek_back(back)
