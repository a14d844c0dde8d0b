"""Past events from a Kafka `events` topic: between offsets or between times, of all partitions.

Before: a world that ran. After: `replay.stream` into another world. Each partition keeps its order; partitions are
merged by event time. Records are read as the streams worker reads them, so what it refused is refused here, counted.
"""

from __future__ import annotations

import heapq
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from pydantic import ValidationError

from headwater.errors import InvalidMessage, SourceError
from headwater.events import Event
from headwater.kafka.connections import consumer, existing_topic
from headwater.settings import KafkaSettings
from headwater.topics import EVENTS, topic_name
from headwater.wire.codec import read_events
from replay.sources.source import BadRow, SourceReport

__all__ = ["KafkaRange"]

SILENCE_S = 30.0
"""A range that yields no record for this long is given up with an error."""


class KafkaRange:
    """Events from `start` to `end` (not included) of every partition; the world's `events` topic by default.

    `start` and `end` are offsets by partition. `start_ms` and `end_ms` are record times (epoch ms) for the partitions
    that have no offset. Without either: from the oldest record to what is there when reading starts.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        *,
        start: Mapping[int, int] | None = None,
        end: Mapping[int, int] | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
    ) -> None:
        self.kafka = kafka
        self.topic = topic_name(EVENTS, kafka.prefix)
        self._start, self._end = dict(start or {}), dict(end or {})
        self._start_ms, self._end_ms = start_ms, end_ms
        self.report = SourceReport(self.topic)

    def events(self) -> Iterator[Event]:
        """The events. Raises SourceError when a partition or offset is not there, Unavailable for the topic."""
        self.report = SourceReport(self.topic)
        ranges = self._ranges()
        self.report.name = f"{self.topic} {', '.join(f'[{p}]@{low}..{high}' for p, (low, high) in ranges.items())}"
        for event in heapq.merge(
            *(self._partition(partition, low, high) for partition, (low, high) in ranges.items() if low < high),
            key=lambda event: event.event_time,
        ):
            self.report.events += 1
            yield event

    def _ranges(self) -> dict[int, tuple[int, int]]:
        """Partition -> first offset and the one after the last."""
        from kafka import TopicPartition

        existing_topic(self.kafka, EVENTS)
        opened = consumer(self.kafka)
        try:
            partitions = opened.partitions_for_topic(self.topic) or set()
            unknown = sorted((self._start.keys() | self._end.keys()) - partitions)
            if unknown:
                raise SourceError(f"{self.topic} has no partition {unknown}; it has {sorted(partitions)}")
            every = {number: TopicPartition(self.topic, number) for number in sorted(partitions)}
            oldest = opened.beginning_offsets(list(every.values()))
            newest = opened.end_offsets(list(every.values()))
            begins = self._by_time(opened, every, self._start_ms, newest) or oldest
            ends = self._by_time(opened, every, self._end_ms, newest) or newest
            ranges = {}
            for number, partition in every.items():
                low, high = self._start.get(number, begins[partition]), self._end.get(number, ends[partition])
                if low < oldest[partition] or max(low, high) > newest[partition]:
                    raise SourceError(
                        f"{self.topic}[{number}]@{low}..{high} is not all there: the log holds "
                        f"{oldest[partition]}..{newest[partition]}. Choose offsets within it."
                    )
                ranges[number] = (low, high)
            return ranges
        finally:
            opened.close()

    @staticmethod
    def _by_time(
        opened: Any, every: dict[int, Any], at_ms: int | None, newest: dict[Any, int]
    ) -> dict[Any, int] | None:
        """The first offset at or after a time in each partition, its end where there is none."""
        if at_ms is None:
            return None
        found = opened.offsets_for_times(dict.fromkeys(every.values(), at_ms))
        return {one: found[one].offset if found.get(one) is not None else newest[one] for one in every.values()}

    def _partition(self, number: int, low: int, high: int) -> Iterator[Event]:
        """One partition, by a consumer of its own, so that merging never waits for records that are behind others."""
        from kafka import TopicPartition

        partition = TopicPartition(self.topic, number)
        opened = consumer(self.kafka)
        try:
            opened.assign([partition])
            opened.seek(partition, low)
            heard_s = time.monotonic()
            while opened.position(partition) < high:
                records = opened.poll(timeout_ms=500).get(partition, [])
                if records:
                    heard_s = time.monotonic()
                elif time.monotonic() - heard_s > SILENCE_S:
                    at = opened.position(partition)
                    raise SourceError(f"{self.topic}[{number}]@{at}: nothing for {SILENCE_S:.0f} s, {high} is the end")
                for record in records:
                    if record.offset < high:
                        yield from self._read(record)
        finally:
            opened.close()

    def _read(self, record: Any) -> Iterator[Event]:
        rows = read_events(
            record.value,
            key=record.key,
            headers=record.headers,
            partition=record.partition,
            offset=record.offset,
            timestamp_ms=record.timestamp,
            now_ms=0,
            max_ahead_ms=sys.maxsize,  # whatever was ahead of its time then is not now
        )
        bodies: list[Any] = []
        for place, row in enumerate(rows):
            self.report.rows += 1
            where = f"{self.topic}[{record.partition}]@{record.offset}, event {place}"
            if isinstance(row, InvalidMessage):
                self.report.refuse(where, BadRow(row.reason, str(row)))
                continue
            if not bodies:  # session_id and properties are in the record only
                decoded = orjson.loads(record.value)
                bodies = decoded if isinstance(decoded, list) else [decoded]
            known = {"event_id": row.event_id, "event_time": row.time_ms, "type": row.type}
            try:
                yield Event.model_validate({**bodies[place], **known})
            except ValidationError as error:
                self.report.refuse(where, BadRow("schema", str(error)))
