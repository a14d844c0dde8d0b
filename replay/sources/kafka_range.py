"""Past events from a Kafka `events` topic: between offsets or between times, of all partitions.

Before: a world that ran. After: `replay.stream` into another world. Each partition keeps its order; partitions are
merged by event time. Records are read as the streams worker reads them, so what it refused is refused here, counted.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from pydantic import ValidationError

from headwater.errors import InvalidMessage, SourceError
from headwater.events import OLDEST_MS, Event
from headwater.kafka import BoundedReader, Span
from headwater.settings import KafkaSettings
from headwater.topics import EVENTS, topic_name
from headwater.wire import read_past_events
from replay.sources.source import BadRow, SourceReport

__all__ = ["KafkaRange"]


class KafkaRange:
    """Events from `start` to `end` (not included) of every partition; the world's `events` topic by default.

    `start` and `end` are offsets by partition. `start_ms` and `end_ms` are record times (epoch ms) for the partitions
    that have no offset. Without either: from the oldest record to what is there when reading starts. Events before
    `oldest_ms` are refused, as by the streams worker (`streams.oldest`).
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        *,
        start: Mapping[int, int] | None = None,
        end: Mapping[int, int] | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
        oldest_ms: int = OLDEST_MS,
    ) -> None:
        self.kafka = kafka
        self.topic = topic_name(EVENTS, kafka.prefix)
        self._start, self._end = dict(start or {}), dict(end or {})
        self._start_ms, self._end_ms, self._oldest_ms = start_ms, end_ms, oldest_ms
        self.report = SourceReport(self.topic)

    def events(self) -> Iterator[Event]:
        """The events. Raises SourceError when a partition or offset is not there, Unavailable without the topic."""
        self.report = SourceReport(self.topic)
        spans = self._spans()
        said = ", ".join(f"[{span.partition}]@{span.first}..{span.end}" for span in spans)
        self.report.name = f"{self.topic} {said}"
        each = [self._partition(span) for span in spans if span.first < span.end]
        for event in heapq.merge(*each, key=lambda event: event.event_time):
            self.report.events += 1
            yield event

    def _spans(self) -> list[Span]:
        """What is read of each partition, all of which is there."""
        with BoundedReader(self.kafka, EVENTS) as reader:
            whole = reader.spans()
            timed = reader.spans(first_ms=self._start_ms, end_ms=self._end_ms)
        unknown = sorted((self._start.keys() | self._end.keys()) - {span.partition for span in whole})
        if unknown:
            raise SourceError(f"{self.topic} has no partition {unknown}; it has {[span.partition for span in whole]}")
        spans = []
        for (number, oldest, _, newest), by_time in zip(whole, timed, strict=True):
            low, high = self._start.get(number, by_time.first), self._end.get(number, by_time.end)
            if low < oldest or max(low, high) > newest:
                raise SourceError(
                    f"{self.topic}[{number}]@{low}..{high} is not all there: the log holds {oldest}..{newest}. Choose "
                    "offsets within it."
                )
            spans.append(Span(number, oldest, low, high))
        return spans

    def _partition(self, span: Span) -> Iterator[Event]:
        """One partition, by a reader of its own, so that merging never waits for records that are behind others."""
        with BoundedReader(self.kafka, EVENTS) as reader:
            for record in reader.records(span):
                yield from self._read(record)

    def _read(self, record: Any) -> Iterator[Event]:
        rows = read_past_events(record, oldest_ms=self._oldest_ms)
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
