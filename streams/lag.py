"""Watches from outside whether the worker gets on: committed against end offsets, asked from the broker itself.

Before: Faust commits what the agents acknowledged. After: `Operations` exits the process when nothing moved for too
long. A Faust consumer can die without an error; it would still believe its own view of the log, so that view is not
asked. It also sees when the log is no longer the one that the store has folded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

from kafka import TopicPartition

from headwater.errors import HeadwaterError
from headwater.kafka import consumer
from headwater.process import Operations, Stopped
from headwater.settings import KafkaSettings
from headwater.topics import DEAD_LETTERS, EVENTS, ITEMS, Topic, topic_name
from streams.app import GROUP
from streams.features.marks import another_log
from streams.features.store import FeatureStore
from streams.streams_metrics import StreamsMetrics

__all__ = ["LagWatch"]


class LagWatch:
    """A thread that calls `operations.progress()` when a commit moved or nothing waits.

    `assigned` gives the partitions of this worker; with none assigned, all partitions of the group are looked at, so a
    worker that was silently thrown out does not count as idle. `failed` is what ended the thread, such as AnotherLog
    when the store's marks are beyond the log.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        store: FeatureStore,
        operations: Operations,
        metrics: StreamsMetrics,
        assigned: Callable[[], set[tuple[str, int]]],
    ) -> None:
        self.failed: Exception | None = None
        self._kafka = kafka
        self._store = store
        self._operations = operations
        self._metrics = metrics
        self._assigned = assigned
        self._committed: dict[Any, int] = {}
        self._closing = threading.Event()
        self._interval_s = min(2.0, operations.settings.stall_s / 4)
        self._thread = threading.Thread(target=self._watch, name="lag", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._closing.set()

    def _watch(self) -> None:
        retry = self._operations.retry
        try:
            client = retry.open("kafka", lambda: consumer(self._kafka, GROUP, request_timeout_ms=10_000))
            with closing(client):
                while not self._closing.wait(self._interval_s) and self.failed is None:
                    self._look(client)  # no answer is no progress
        except Stopped:
            pass
        except Exception as error:  # noqa: BLE001 - a thread has nobody to raise to; the worker's loop sees it
            self.failed = error

    def _look(self, client: Any) -> None:
        partitions = {topic.name: self._partitions(client, topic) for topic in (EVENTS, ITEMS, DEAD_LETTERS)}
        everything = [partition for several in partitions.values() for partition in several]
        marks = self._marks()  # before the ends, so that they never pass these while events are folded
        begins, ends = client.beginning_offsets(everything), client.end_offsets(everything)
        committed = {partition: client.committed(partition) for partition in everything}
        behind = {
            partition: max(0, ends[partition] - max(begins[partition], committed[partition] or 0))
            for partition in everything
        }
        for topic, several in partitions.items():
            self._metrics.lag.labels(topic).set(sum(behind[partition] for partition in several))
        events = {one.partition: ends[one] for one in partitions[EVENTS.name]}
        self.failed = another_log(marks, events, self._kafka, self._store)
        assigned = self._assigned()
        mine = [partition for partition in everything if tuple(partition) in assigned] or everything
        moved = any((committed[partition] or 0) > self._committed.get(partition, -1) for partition in mine)
        self._committed = {partition: offset or 0 for partition, offset in committed.items()}
        if moved or not any(behind[partition] for partition in mine):
            self._operations.progress()

    def _marks(self) -> dict[int, int]:
        try:
            return self._store.marks()
        except HeadwaterError:  # the rounds need the store too, and say what it answers
            return {}

    def _partitions(self, client: Any, topic: Topic) -> list[Any]:
        name = topic_name(topic, self._kafka.prefix)
        return [TopicPartition(name, number) for number in client.partitions_for_topic(name) or ()]
