"""Watches from outside whether the worker gets on: committed against end offsets, asked from the broker itself.

Before: Faust commits what the agents acknowledged. After: `Operations` exits the process when nothing moved for too
long. A Faust consumer can die without an error; it would still believe its own view of the log, so that view is not
asked. It also sees when the log is no longer the one that the store has folded, and when the store lost what it had.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

from kafka import TopicPartition

from headwater.errors import HeadwaterError, StoreDamaged
from headwater.kafka import consumer, holds_records
from headwater.process import Operations, Stopped
from headwater.settings import KafkaSettings
from headwater.topics import DEAD_LETTERS, ERASURES, EVENTS, IDENTITIES, ITEMS, USERS, Topic, topic_name
from streams.app import GROUP
from streams.features.marks import another_log, lost_records
from streams.features.store import FeatureStore
from streams.streams_metrics import StreamsMetrics

__all__ = ["LAG_TOPICS", "LagWatch"]

log = logging.getLogger("headwater")

LAG_TOPICS = (EVENTS, ITEMS, USERS, IDENTITIES, ERASURES, DEAD_LETTERS)


class LagWatch:
    """A thread that calls `operations.progress()` when a commit moved or nothing waits.

    `assigned` gives the partitions of this worker; with none assigned, all partitions of the group are looked at, so a
    worker that was silently thrown out does not count as idle. `failed` is what ended the thread, such as AnotherLog
    when the store's marks are beyond the log. `forgotten` is set at each look that finds the store without what the
    group has committed, and `looked` after the first look; /readyz says so until the store has it again.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        store: FeatureStore,
        operations: Operations,
        metrics: StreamsMetrics,
        assigned: Callable[[], set[tuple[str, int]]],
        topics: Sequence[Topic] = LAG_TOPICS,
    ) -> None:
        self.failed: Exception | None = None
        self.forgotten = threading.Event()
        self.looked = threading.Event()
        self._kafka = kafka
        self._store = store
        self._operations = operations
        self._metrics = metrics
        self._assigned = assigned
        self._topics = topics
        self._done: dict[Any, int] = {}
        self._holes: dict[Any, tuple[int, int]] = {}
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
                while self.failed is None:
                    self._look(client)  # no answer is no progress
                    self.looked.set()
                    if self._closing.wait(self._interval_s):
                        break
        except Stopped:
            pass
        except Exception as error:  # noqa: BLE001 - a thread has nobody to raise to; the worker's loop sees it
            self.failed = error

    def _look(self, client: Any) -> None:
        partitions = {topic.name: self._partitions(client, topic) for topic in self._topics}
        everything = [partition for several in partitions.values() for partition in several]
        committed = {partition: client.committed(partition) or 0 for partition in everything}
        marks, highest = self._marks(everything)  # after what is committed and before the ends: they lie between these
        begins, ends = client.beginning_offsets(everything), client.end_offsets(everything)
        lost: dict[Any, int] = {}
        if marks is not None:
            self.failed = another_log(
                {one.partition: highest[one] for one in partitions[EVENTS.name] if one in highest},
                {one.partition: ends[one] for one in partitions[EVENTS.name]},
                self._kafka,
            )
            self._forget_other_logs(marks, highest, partitions, ends)
            lost = lost_records(marks, committed, begins, ends)
        done = {partition: committed[partition] - lost.get(partition, 0) for partition in everything}
        behind = {one: lost.get(one, 0) + max(0, ends[one] - max(begins[one], committed[one])) for one in everything}
        for one, records in behind.items():
            stands = records and one not in lost and done[one] == self._done.get(one)
            if stands and self._is_hole(one, max(begins[one], committed[one]), ends[one]):
                behind[one] = 0
        for topic, several in partitions.items():
            self._metrics.lag.labels(topic).set(sum(behind[partition] for partition in several))
        assigned = self._assigned()
        mine = [partition for partition in everything if tuple(partition) in assigned] or everything
        self._tell({partition: lost[partition] for partition in mine if partition in lost})
        moved = any(done[partition] > self._done.get(partition, -1) for partition in mine)
        self._done = done
        if moved or not any(behind[partition] for partition in mine):
            self._operations.progress()

    def _forget_other_logs(
        self,
        marks: dict[Any, int],
        highest: dict[Any, int],
        partitions: dict[str, list[Any]],
        ends: dict[Any, int],
    ) -> None:
        """All but features may be written again, so a topic made anew begins at once."""
        for topic in self._topics:
            if topic is EVENTS:
                continue
            beyond = [one for one in partitions[topic.name] if highest.get(one, -1) >= ends[one]]
            if beyond:
                numbers = [one.partition for one in beyond]
                log.warning(
                    "the store has read another log of %s: its marks are forgotten",
                    topic.name,
                    extra={"partitions": numbers},
                )
                self._operations.retry.call("redis", lambda: self._store.forget_marks(topic, numbers))  # noqa: B023 - called at once
                for one in beyond:
                    marks.pop(one, None)

    def _is_hole(self, partition: Any, at: int, end: int) -> bool:
        """Whether nothing is there up to the end but the markers of transactions; asked once where it is so."""
        if self._holes.get(partition) == (at, end):
            return True
        if self._operations.retry.call("kafka", lambda: self._holds_records(partition, at, end)):
            return False
        self._holes[partition] = at, end
        return True

    def _holds_records(self, partition: Any, at: int, end: int) -> bool:
        topic = next(topic for topic in self._topics if topic_name(topic, self._kafka.prefix) == partition.topic)
        return holds_records(self._kafka, topic, partition.partition, at, end)

    def _tell(self, lost: dict[Any, int]) -> None:
        if not lost:
            self._operations.trouble(None)
            return
        self.forgotten.set()
        where = ", ".join(f"{records:,} of {one.topic}[{one.partition}]" for one, records in sorted(lost.items()))
        self._operations.trouble(f"the store lost records that are read again from the log: {where} to go")

    def _marks(self, partitions: list[Any]) -> tuple[dict[Any, int] | None, dict[Any, int]]:
        """Up to where all slots of the store have everything, and the newest that any has something of."""
        try:
            found = {
                topic_name(topic, self._kafka.prefix): self._store.marks_and_highest(topic) for topic in self._topics
            }
        except StoreDamaged as error:
            self.failed = error
            return None, {}
        except HeadwaterError:  # the rounds need the store too, and say what it answers
            return None, {}
        low, high = (
            {one: found[one.topic][n][one.partition] for one in partitions if one.partition in found[one.topic][n]}
            for n in (0, 1)
        )
        return low, high

    def _partitions(self, client: Any, topic: Topic) -> list[Any]:
        name = topic_name(topic, self._kafka.prefix)
        return [TopicPartition(name, number) for number in client.partitions_for_topic(name) or ()]
