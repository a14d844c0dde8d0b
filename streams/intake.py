"""Takes records out of a Faust agent's channel in batches, in order and without gaps, and acknowledges them afterwards.

Before: Faust's consumer puts records into the channel of an agent. After: a round handles the batch and then calls
`acknowledge`; Faust commits what was acknowledged once a second. Knows nothing of what a record means.

The channel is drained directly and not through `async for`: a stream acknowledges a record whose handler raised, and
acknowledges unseen what it skips after a rebalance. Here nothing is acknowledged but by `acknowledge`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

__all__ = ["Intake"]

Message = Any

IDLE_TURNS = 4
"""Turns of the event loop with nothing new after which the channel counts as empty: Faust's pump needs 3 a record."""

MAX_BATCH_BYTES = 128 * 1024
"""A batch ends when its values reach this: about 1,250 packed events, a round of 35 ms on a free core."""

log = logging.getLogger("headwater")


class Intake:
    """The records of one agent. `positions` gives the offset to start from per partition, when the store knows better.

    Without `positions` every record of the present assignment is taken. With it, a partition starts at the offset it
    names and goes on without a gap: a record that is ahead of what is due makes Faust seek back. A gap that is there
    again after seeking (records deleted by retention) is accepted. `read_again` goes back to where the store is.
    """

    def __init__(
        self,
        app: Any,
        queue: Any,
        *,
        max_records: int,
        max_wait_s: float,
        positions: Callable[[], Awaitable[Mapping[int, int]]] | None = None,
    ) -> None:
        self._app = app
        self._queue = queue
        self._max_records = max_records
        self._max_wait_s = max_wait_s
        self._positions = positions
        self._generation: int | None = None
        self._due: dict[int, int] = {}
        self._seeking: dict[int, int] = {}
        self._held: Message | None = None

    async def batch(self) -> list[Message]:
        """The next records, at least one. A lone record is given at once; a busy channel is waited for briefly."""
        while True:
            message, self._held = self._held or (await self._queue.get()).message, None
            deadline = time.monotonic() + self._max_wait_s
            batch: list[Message] = []
            taken_bytes = 0
            idle_turns = 0
            while True:
                if message is not None:
                    idle_turns = 0
                    if batch and self._is_newly_assigned(message):
                        self._held = message  # so that what is in hand is judged by the marks it was taken by
                        return batch
                    if await self._admits(message):
                        batch.append(message)
                        taken_bytes += len(message.value or b"")
                if len(batch) >= self._max_records or taken_bytes >= MAX_BATCH_BYTES:
                    return batch
                if self._queue.empty():
                    idle_turns += 1
                    if idle_turns > IDLE_TURNS or time.monotonic() > deadline:
                        break
                    await asyncio.sleep(0)
                message = None if self._queue.empty() else self._queue.get_nowait().message
            if batch:
                return batch

    def acknowledge(self, batch: list[Message]) -> None:
        """These records are done with, whatever happens next: their effects are written."""
        for message in batch:
            message.ack(self._app.consumer)

    async def read_again(self, batch: Sequence[Message], positions: Mapping[int, int]) -> None:
        """Nothing of this batch has an effect: read on from `positions`, in every partition that is past its own."""
        if self._app.consumer_generation_id != self._generation:
            return  # a new assignment starts from the store's positions anyway
        consumer = self._app.consumer
        back: dict[Any, int] = {}
        for tp in consumer.assignment():
            position = positions.get(tp.partition, 0)
            if tp.topic == batch[0].topic and self._due.get(tp.partition, 0) > position:
                back[tp] = self._due[tp.partition] = position
                self._seeking.pop(tp.partition, None)
        if back:
            await consumer.seek_back(back)

    def _is_newly_assigned(self, message: Message) -> bool:
        generation = self._app.consumer_generation_id
        return self._positions is not None and message.generation_id == generation != self._generation

    async def _admits(self, message: Message) -> bool:
        generation = self._app.consumer_generation_id
        if message.generation_id != generation:
            return False  # from before a rebalance: whoever has the partition now reads it again
        if self._positions is None:
            return True
        consumer = self._app.consumer
        if generation != self._generation:
            self._generation = generation
            self._due = dict(await self._positions())
            self._seeking.clear()
            consumer.arrived()
        partition, offset = message.partition, message.offset
        due = self._due.setdefault(partition, 0)
        if partition in self._seeking:
            if offset > self._seeking[partition]:
                return False  # was on its way before the seek
            del self._seeking[partition]
            consumer.arrived([message.tp])
        elif offset > due:
            log.warning(
                "records are missing between what was folded and what arrived: reading them again",
                extra={"partition": partition, "due": due, "arrived": offset},
            )
            self._seeking[partition] = offset
            await consumer.seek_back({message.tp: due})
            return False
        if offset >= due:
            self._due[partition] = offset + 1
            consumer.arrived([message.tp])
        return True
