"""How a Client's events become records: one lane per partition, in the order of the calls.

Before: events from `track` and `track_many`. After: the outbox. While nothing of a partition is on its way, an event
goes out at once, alone, with CloudEvents headers. What is tracked behind an unacknowledged record waits for that
acknowledgement, at most `linger_ms`, and goes out as one packed record: a lone event loses no time, and under load the
streams worker gets few, full records, which it reads twenty times faster than single ones.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from functools import lru_cache

from headwater import tracing
from headwater.client.outbox import Outbox, Position, new_handle
from headwater.events import Event
from headwater.topics import EVENTS
from headwater.wire import cloudevent_headers

__all__ = ["Lanes", "partition_of"]

MAX_RECORD_BYTES = 200_000
"""Most bytes of events in one packed record; Kafka's own limit is about 1 MB."""


@lru_cache(maxsize=65_536)
def _hash(key: str) -> int:
    from kafka.partitioner import murmur2

    return int(murmur2(key.encode())) & 0x7FFFFFFF


def partition_of(key: str, partitions: int) -> int:
    """The partition that Kafka's Java client, kafka-python and librdkafka (murmur2_random) choose for a key.

    >>> [partition_of(user, 4) for user in ("u1", "u2", "u3")]
    [0, 2, 2]
    """
    return _hash(key) % partitions


class _Lane:
    """What waits for one partition. All fields are guarded by `lock`, which is held while a record is handed over."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        # reentrant: a record that fails at once reports back from inside the call that sends it
        self.lock = threading.RLock()
        self.on_their_way = 0
        self.first: Event | None = None
        self.waiting: list[bytes] = []
        self.size = 0
        self.due_s = 0.0
        self.handle = new_handle()
        self.causes = tracing.Causes()


class Lanes:
    """Packs events by partition. Thread-safe; events of one thread and one user keep their order."""

    def __init__(self, outbox: Outbox, source: str, linger_ms: int, batch_events: int) -> None:
        self._outbox = outbox
        self._source = source
        self._linger_s = linger_ms / 1000
        self._batch_events = batch_events
        self._lanes: dict[int, _Lane] = {}
        self._making = threading.Lock()
        self._waiting: deque[tuple[float, _Lane]] = deque()
        self._wake = threading.Condition()
        self._clock: threading.Thread | None = None
        self._closed = False

    def put(self, event: Event, value: bytes) -> Future[Position]:
        """Send one event, alone or with its neighbours; events of one record share the handle."""
        lane = self._lane(partition_of(event.user_id, self._outbox.partitions(EVENTS)))
        self._outbox.reserve(len(value))
        with lane.lock:
            if lane.size + len(value) > MAX_RECORD_BYTES:
                self._release(lane)
            begins = not lane.waiting
            if begins:
                lane.first, lane.handle = event, new_handle()
            lane.waiting.append(value)
            lane.causes.add_current()
            lane.size += len(value)
            handle = lane.handle
            idle = begins and not lane.on_their_way
            if idle or not self._linger_s or len(lane.waiting) >= self._batch_events:
                self._release(lane)
                begins = False
            elif begins:
                lane.due_s = time.monotonic() + self._linger_s
        if begins:
            self._watch(lane)
        return handle

    def put_many(self, events: Iterable[tuple[Event, bytes]]) -> tuple[int, list[Future[Position]]]:
        """Pack events into full records, one partition in each; the number of events and a handle per record.

        What `events` raises is raised when all that came before it is sent.
        """
        partitions = self._outbox.partitions(EVENTS)
        packs: dict[int, tuple[list[bytes], Event]] = {}
        sizes: dict[int, int] = {}
        handles: list[Future[Position]] = []
        count = 0
        failure: Exception | None = None

        def up_to_the_failure() -> Iterator[tuple[Event, bytes]]:
            nonlocal failure
            try:
                yield from events
            except Exception as error:  # noqa: BLE001 - whatever an app's own iterator raises; it is raised below
                failure = error

        def send(partition: int) -> None:
            values, first = packs.pop(partition)
            lane = self._lane(partition)
            self._outbox.reserve(sizes.pop(partition))
            with lane.lock:
                self._release(lane)
                handles.append(self._send(lane, values, first, new_handle()))

        for event, value in up_to_the_failure():
            partition = partition_of(event.user_id, partitions)
            if partition in packs and sizes[partition] + len(value) > MAX_RECORD_BYTES:
                send(partition)
            values, _ = packs.setdefault(partition, ([], event))
            values.append(value)
            sizes[partition] = sizes.get(partition, 0) + len(value)
            count += 1
            if len(values) >= self._batch_events:
                send(partition)
        for partition in sorted(packs):
            send(partition)
        if failure is not None:
            raise failure
        return count, handles

    def release(self) -> None:
        """Hand everything that waits to the producer now."""
        for lane in list(self._lanes.values()):
            with lane.lock:
                self._release(lane)

    def close(self) -> None:
        """Hand over what waits and stop the clock."""
        self.release()
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._clock is not None:
            self._clock.join()

    def _lane(self, partition: int) -> _Lane:
        lane = self._lanes.get(partition)
        if lane is None:
            with self._making:
                lane = self._lanes.setdefault(partition, _Lane(partition))
        return lane

    def _release(self, lane: _Lane) -> None:
        if lane.waiting:
            values, first, handle = lane.waiting, lane.first, lane.handle
            lane.waiting, lane.first, lane.size = [], None, 0
            assert first is not None
            self._send(lane, values, first, handle, lane.causes.taken())

    def _send(
        self,
        lane: _Lane,
        values: list[bytes],
        first: Event,
        handle: Future[Position],
        causes: tracing.Causes | None = None,
    ) -> Future[Position]:
        """Hand one record over; the lane's lock is held, so that records keep their order."""
        lane.on_their_way += 1
        handle.add_done_callback(lambda _: self._ended(lane))
        span = tracing.begun("send events", causes, "producer", events=len(values))
        span.ends_with(handle)
        reserved = sum(map(len, values))
        if len(values) == 1:
            key, headers = first.user_id.encode(), [*cloudevent_headers(first, self._source), *span.headers]
            return self._outbox.send(
                EVENTS,
                values[0],
                key=key,
                headers=headers,
                partition=lane.partition,
                reserved=reserved,
                handle=handle,
            )
        packed = b"[" + b",".join(values) + b"]"
        return self._outbox.send(
            EVENTS,
            packed,
            headers=[*span.headers],
            partition=lane.partition,
            reserved=reserved,
            handle=handle,
        )

    def _ended(self, lane: _Lane) -> None:
        with lane.lock:
            lane.on_their_way -= 1
            if not lane.on_their_way:
                self._release(lane)

    def _watch(self, lane: _Lane) -> None:
        with self._wake:
            if self._clock is None and not self._closed:
                self._clock = threading.Thread(target=self._tick, name="headwater-linger", daemon=True)
                self._clock.start()
            self._waiting.append((lane.due_s, lane))
            if len(self._waiting) == 1:
                self._wake.notify()

    def _tick(self) -> None:
        """Release lanes whose oldest event has waited for the linger; they come due in the order they were added."""
        while True:
            with self._wake:
                while not self._waiting and not self._closed:
                    self._wake.wait()
                if self._closed:
                    return
                due_s, lane = self._waiting.popleft()
            time.sleep(max(0.0, due_s - time.monotonic()))
            with lane.lock:
                if lane.waiting and lane.due_s <= time.monotonic():
                    self._release(lane)
