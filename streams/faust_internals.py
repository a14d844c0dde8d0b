"""All that Headwater uses of Faust and aiokafka beyond their public interface, in one file.

Before: `streams.app` makes its app here. After: `streams.intake` takes polls out of the channels, and seeks back.
tests/streams/test_faust_internals.py says what an upgrade has changed. What is mended:

- Its consumer hands record after record to the agents, each through three tasks, an event and an acknowledgement of its
  own: 50 us of processor time. Here a channel gets the list of what one poll brought of one partition.
- Faust's consumer drops records below the newest offset that it has delivered, even after a seek.
- How far a partition is committed and read, and which offsets the log has not, is not to be had from outside.
- It fetches with a wait of 1,500 ms, hard-coded: a partition whose records were not taken within 100 ms is left out of
  the next fetch, and would then wait that long for its next record while the other partitions are quiet.
- An error that passes, raised by one call of aiokafka, ends the whole app.
- aiokafka ends at a record with a header whose name is not UTF-8, at each try, for ever.
- A machine that is gone without a word is waited for: 30 s and more. Sockets ask whether it is there.
- A connection that was reset and is written to before aiokafka knows raises RuntimeError under uvloop, and one whose
  login fails raises what whoever gives tokens does. That ends, without a word, what reads the metadata, and all that
  waits for metadata then waits for ever.
- What goes wrong in a group aiokafka keeps until it is asked, and does nothing more; Faust never asks. A member then
  stands without partitions, or keeps those that others have by now; and so it does where the task that looks after the
  group has ended. Here the app crashes, and its process with it.
- It makes folders on disk for tables that we have not, and waits a second at each start for them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import faust
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.consumer import fetcher
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.record import memory_records
from aiokafka.record.default_records import _DefaultRecordBatchPy
from faust.tables.manager import TableManager
from faust.transport.drivers import aiokafka as driver
from faust.types.tuples import TP

from headwater.kafka.producer import AnyNames
from headwater.kafka.sockets import SOCKET_OPTIONS
from headwater.process import Retry

__all__ = ["FaustApp", "FaustConsumer", "Poll"]

log = logging.getLogger("headwater")

FETCH_WAIT_MS = 100
MOST_HOLES = 10_000
"""Remembered until the agent of the partition asks: more than the channels hold."""

MOST_WAITING = 1_000
"""Records of a topic that wait in its channel before its partitions are left out of polls, until half are taken."""

ASK_AGAIN_S = 0.01
"""How long a poll waits while partitions are left out of it, so that they are back in time."""

CONNECTION_SENDS = ("send", "_send_sasl_token")
"""What writes to the socket of an aiokafka connection."""

CONSUMER_CALLS = ("start", "commit", "position", "seek_to_committed", "beginning_offsets", "end_offsets")
"""The calls of aiokafka's consumer that Faust makes and that ask a server; reading has `getmany`."""


class Poll(NamedTuple):
    """What one poll brought of one partition, as it stands in the channel of the topic's agent.

    Fields
        partition: topic and number.
        generation: of the assignment under which it was read.
        records: as aiokafka gives them, at least one, in order.
    """

    partition: Any
    generation: int
    records: Sequence[Any]


class FaustApp(faust.App):
    """A Faust app whose Kafka clients wait for a server that is away, as `retry` says. `channels` has the queue of each
    topic's agent, which enters it.
    """

    def __init__(self, retry: Retry, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, TableManager=_NoTables, **options)
        self.channels: dict[str, Any] = {}
        self.retry = retry
        self.transport = _Transport(self.conf.broker_consumer, self)
        self.producer_transport = _Transport(self.conf.broker_producer, self)

    def _create_directories(self) -> None:
        """Nothing is kept on disk."""


class _NoTables(TableManager):
    async def on_start(self) -> None:
        """As Faust's, at once: no agent of ours has a table that could still be declared."""
        await self._update_channels()
        await self.recovery.start()


class FaustConsumer(driver.Consumer):
    """Faust's consumer, which gives whole polls, and can be made to read a partition again."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._offsets = self._read_offset = _ReadOffsets()
        self._next: dict[Any, int] = {}  # after the newest record fetched since the last seek
        self._holes: dict[tuple[Any, int], int] = {}
        self._waiting: dict[str, int] = {}
        self._done: dict[Any, int] = {}

    def _new_consumer_thread(self) -> Any:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def perform_seek(self) -> None:
        for known in (self._next, self._done, self._waiting, self._buffered_partitions):
            known.clear()  # channels are emptied, too
        await super().perform_seek()
        if sought := dict(self._offsets.sought):  # Faust may do this late, after the seek of an agent
            await self.seek_wait(sought)

    async def getmany(self, timeout: float) -> AsyncIterator[Any]:
        """One poll, into the channels. Faust's loop around this is left with nothing to do, and does it well."""
        if self._buffered_partitions:
            timeout = ASK_AGAIN_S
            if not self._get_active_partitions():  # Faust would sleep for a second
                await asyncio.sleep(timeout)
                return
        found, _ = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if found and not self.flow_active:
            try:
                await self.perform_seek()
            except Exception as error:  # noqa: BLE001 - as Faust does: the assignment that follows seeks again
                log.warning("a poll was dropped in a rebalance, and seeking back did not work: %r", error)
        elif found and not self.should_stop:
            if not self.app.flow_control.is_active():
                await self.wait_first(self.app.flow_control.acquire(), self.suspend_flow.wait())
            if self.flow_active and generation == self.app.consumer_generation_id:
                for partition, records in found.items():
                    self._give(Poll(TP(*partition), generation, records))
        nothing: tuple[Any, ...] = ()
        for one in nothing:
            yield one

    def _give(self, poll: Poll) -> None:
        """Into the channel of its agent: what was not given before."""
        partition, _, records = poll
        self._note_holes(partition, records)
        newest = self._offsets[partition]
        if newest is not None and records[0].offset < newest:
            poll = poll._replace(records=[one for one in records if one.offset >= newest])
        if poll.records:
            self._offsets[partition] = poll.records[-1].offset
            topic = partition.topic
            self._waiting[topic] = waiting = self._waiting.get(topic, 0) + len(poll.records)
            if waiting >= MOST_WAITING:
                self.on_buffer_full(partition)
            app: Any = self.app
            app.channels[topic].force_put_nowait(poll)

    def _note_holes(self, partition: Any, records: Sequence[Any]) -> None:
        """What the broker gave nothing for: compacted, or the marker of a transaction."""
        due, end = self._next.get(partition, records[0].offset), records[-1].offset + 1
        self._next[partition] = end
        if end - due == len(records):
            return
        if len(self._holes) >= MOST_HOLES:
            self._holes.clear()
        for record in records:
            if due < record.offset:
                self._holes[partition, record.offset] = due
            due = record.offset + 1

    def taken(self, poll: Poll) -> None:
        """These records are out of the channel; every poll that was given must be told so once."""
        topic = poll.partition.topic
        self._waiting[topic] = waiting = max(0, self._waiting.get(topic, 0) - len(poll.records))
        if self._buffered_partitions and waiting <= MOST_WAITING // 2:
            for partition in [one for one in self._buffered_partitions if one.topic == topic]:
                self.on_buffer_drop(partition)

    def done(self, topic: str, ends: Mapping[int, int]) -> None:
        """All before these offsets, by partition of the topic, is done with: committed within a second."""
        for number, offset in ends.items():
            self._done[TP(topic, number)] = offset

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[Any]:
        return (one for one in list(self._done) if topics is None or one in topics or one.topic in topics)

    def _new_offset(self, partition: Any) -> int | None:
        return self._done.get(partition)

    def hole_before(self, partition: Any, offset: int) -> int:
        """From which offset on the log has nothing before the record at `offset`; told once."""
        return self._holes.pop((partition, offset), offset)

    def committed_offset(self, partition: Any) -> int:
        """The group's committed offset as this member knows it; 0 for none."""
        return self._committed_offset.get(partition) or 0

    def reached(self, partition: Any) -> int:
        """How far reading has come: the newest offset delivered, or the one sought since."""
        return self._offsets.get(partition) or 0

    async def seek_back(self, positions: Mapping[Any, int]) -> None:
        """Read these partitions again from these offsets: records are let through until `sought` says otherwise."""
        self._offsets.sought.update(positions)
        for partition in positions:
            self._next.pop(partition, None)
        await self.seek_wait(positions)

    def arrived(self, partitions: Iterable[Any] | None = None) -> None:
        """These partitions (all: None) are where they were sought to: what comes twice is dropped again."""
        if partitions is None:
            self._offsets.sought.clear()
        else:
            for partition in partitions:
                self._offsets.sought.pop(partition, None)


class _AnyNamesRecords:
    """Batches of one partition, as aiokafka's `MemoryRecords`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._records = memory_records.MemoryRecords(data)
        self._given = 0
        self.has_next, self.size_in_bytes = self._records.has_next, self._records.size_in_bytes

    def next_batch(self) -> _AnyNamesBatch:
        """The next one."""
        self._given += 1
        return _AnyNamesBatch(self._records.next_batch(), self._data, self._given - 1)


class _AnyNamesBatch:
    """A batch, of whose records headers may have any names."""

    __slots__ = ("_batch", "_data", "_place")

    def __init__(self, batch: Any, data: bytes, place: int) -> None:
        self._batch, self._data, self._place = batch, data, place

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        given = 0
        try:
            for record in self._batch:
                yield record
                given += 1
        except UnicodeDecodeError:
            yield from islice(self._slowly(), given, None)

    def _slowly(self) -> Iterator[Any]:
        """The same in Python, which reads with the bytes that it is given."""
        records = memory_records._MemoryRecordsPy(self._data)
        for _ in range(self._place):
            records.next_batch()
        batch: Any = iter(_DefaultRecordBatchPy(records._next_slice))
        batch._buffer = AnyNames(batch._buffer)
        yield from batch


fetcher.MemoryRecords = _AnyNamesRecords


def _broken_at_once(send: Any) -> Any:
    def sent(self: AIOKafkaConnection, *arguments: Any, **options: Any) -> Any:
        try:
            return send(self, *arguments, **options)
        except RuntimeError as error:
            self.close(reason=CloseReason.CONNECTION_BROKEN, exc=error)
            raise KafkaConnectionError(f"Connection at {self.host}:{self.port} broken: {error}") from error

    return sent


for _name in CONNECTION_SENDS:
    setattr(AIOKafkaConnection, _name, _broken_at_once(getattr(AIOKafkaConnection, _name)))


def _made_or_broken(connect: Any) -> Any:
    async def connected(self: AIOKafkaConnection) -> Any:
        try:
            made = await connect(self)
            for option in SOCKET_OPTIONS:
                self._writer.get_extra_info("socket").setsockopt(*option)
            return made
        except (KafkaError, OSError):  # a time-out among them: what aiokafka expects
            raise
        except Exception as error:
            raise KafkaConnectionError(f"No connection to {self.host}:{self.port}: {error}") from error

    return connected


AIOKafkaConnection.connect = _made_or_broken(AIOKafkaConnection.connect)


class _ReadOffsets(dict[Any, "int | None"]):
    """Faust's map of the newest offset it delivered, below which it drops; `sought` partitions are exempt."""

    def __init__(self) -> None:
        super().__init__()
        self.sought: dict[Any, int] = {}

    def __getitem__(self, partition: Any) -> int | None:
        return None if partition in self.sought else self.get(partition)


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        for name in CONSUMER_CALLS:
            setattr(consumer, name, _retried(self, getattr(consumer, name)))
        return consumer

    async def on_start(self) -> None:
        await super().on_start()
        coordinator = self._ensure_consumer()._coordinator
        coordinator._push_error_to_user = self._fail
        coordinator._coordination_task.add_done_callback(self._ended)

    async def _fail(self, error: BaseException) -> None:
        await self.crash(error)
        await self._ensure_consumer()._coordinator._closing

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.add_future(self.crash(error))

    async def getmany(self, active_partitions: Any, timeout: float) -> Any:
        return await _retried(self, super().getmany)(active_partitions, timeout)

    async def seek_wait(self, partitions: Any) -> None:
        await _retried(self, super().seek_wait)(partitions)


class _RetriedProducer(driver.Producer):
    def _new_producer(self, transactional_id: str | None = None) -> Any:
        producer = super()._new_producer(transactional_id)
        producer.start = _retried(self, producer.start)
        return producer


class _Transport(driver.Transport):
    Consumer = FaustConsumer
    Producer = _RetriedProducer


def _retried(part: Any, call: Any) -> Any:
    retry: Retry = part.app.retry

    async def retried(*arguments: Any, **options: Any) -> Any:
        return await retry.call_async("kafka", lambda: call(*arguments, **options))

    return retried
