"""All that Headwater uses of Faust and aiokafka beyond their public interface, in one file.

Before: `streams.app` makes its app here. After: `streams.intake` seeks back. tests/streams/test_faust_internals.py says
what an upgrade has changed. What is mended:

- Faust's consumer drops records below the newest offset that it has delivered, even after a seek.
- How far a partition is committed and read, and which offsets the log has not, is not to be had from outside.
- It fetches with a wait of 1,500 ms, hard-coded: a partition whose records were not taken within 100 ms is left out of
  the next fetch, and would then wait that long for its next record while the other partitions are quiet.
- An error that passes, raised by one call of aiokafka, ends the whole app.
- It makes folders on disk for tables that we have not, and waits a second at each start for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import faust
from faust.tables.manager import TableManager
from faust.transport.drivers import aiokafka as driver

from headwater.process import Retry

__all__ = ["FaustApp", "FaustConsumer"]

FETCH_WAIT_MS = 100
MOST_HOLES = 10_000
"""Remembered until the agent of the partition asks: more than the channels hold."""

CONSUMER_CALLS = ("start", "commit", "position", "seek_to_committed", "beginning_offsets", "end_offsets")
"""The calls of aiokafka's consumer that Faust makes and that ask a server; reading has `getmany`."""


class FaustApp(faust.App):
    """A Faust app whose Kafka clients wait for a server that is away, as `retry` says."""

    def __init__(self, retry: Retry, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, TableManager=_NoTables, **options)
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
    """Faust's consumer, which can be made to read a partition again."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._offsets = self._read_offset = _ReadOffsets()
        self._next: dict[Any, int] = {}  # after the newest record fetched since the last seek
        self._holes: dict[tuple[Any, int], int] = {}

    def _new_consumer_thread(self) -> Any:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def perform_seek(self) -> None:
        self._next.clear()
        await super().perform_seek()
        if sought := dict(self._offsets.sought):  # Faust may do this late, after the seek of an agent
            await self.seek_wait(sought)

    def _to_message(self, tp: Any, record: Any) -> Any:
        offset = record.offset
        due = self._next.get(tp, offset)
        if due < offset:  # the broker gave nothing between: compacted, or the marker of a transaction
            if len(self._holes) >= MOST_HOLES:
                self._holes.clear()
            self._holes[tp, offset] = due
        self._next[tp] = offset + 1
        return super()._to_message(tp, record)

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
