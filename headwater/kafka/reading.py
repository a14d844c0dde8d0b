"""Reading a topic from here to there: the one bounded reader of the project.

Before: a topic of the table, and where to begin and end, by offset or by time. After: audits, `replay`, the console and
the trainer's registry, which all want what is there now and no more. Whatever follows a topic for ever has a loop of
its own. Imports kafka-python only when called.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from headwater.errors import Unavailable
from headwater.kafka.connections import consumer, denied_topics, missing_topic, not_allowed
from headwater.process import Backoff, passes
from headwater.settings import KafkaSettings
from headwater.topics import Topic, topic_name

if TYPE_CHECKING:
    from kafka.consumer.fetcher import ConsumerRecord

__all__ = ["BoundedReader", "Span", "end_offsets", "holds_records", "read_partitions", "read_topic"]

SILENCE_S = 30.0
"""Reading that gets no further for this long is given up with an error."""

CALL_S = 3.0
"""Time that one question to the broker gets, before it is asked again."""

POLL_MS = 500

FETCHED, FEW = 8 << 20, 64 << 10
"""Bytes of a partition that are fetched at once, and where one record is enough."""

BACKOFF = Backoff(0.05, 1.0)

Answer = TypeVar("Answer")


class Span(NamedTuple):
    """What is read of one partition.

    Fields
        partition: its number.
        oldest: where its log began. What was asked for from before it on is deleted.
        first, end: offsets; `end` is the one after the last. There is nothing to read unless `first` is below it.
    """

    partition: int
    oldest: int
    first: int
    end: int


class BoundedReader:
    """A consumer without a group that reads spans of one topic, one after the other. A context manager.

    Parameters
        kafka: where, and the prefix.
        topic: of the table.
        silence_s: errors that pass are tried again until nothing has moved for so long.
        fetched: bytes of a partition that are fetched at once.

    Raises
        Unavailable: no broker answers.
    """

    def __init__(
        self, kafka: KafkaSettings, topic: Topic, silence_s: float = SILENCE_S, fetched: int = FETCHED
    ) -> None:
        """Raises Unavailable when no broker answers."""
        self.name = topic_name(topic, kafka.prefix)
        self._kafka = kafka
        self._silence_s = silence_s
        self._consumer = consumer(
            kafka,
            fetch_max_bytes=4 * fetched,
            max_partition_fetch_bytes=fetched,
            request_timeout_ms=int(max(CALL_S, silence_s) * 1000),  # `topics` takes no time-out of its own
        )
        self._found = False

    def __enter__(self) -> BoundedReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close(timeout_ms=int(CALL_S * 1000))

    def exists(self) -> bool:
        """Whether the topic is there; asking for its partitions might make it.

        Raises
            Unavailable: Kafka does not tell.
        """
        return self.name in self._ask("its topics", self._consumer.topics)

    def spans(
        self,
        first: Mapping[int, int] | None = None,
        end: Mapping[int, int] | None = None,
        *,
        first_ms: int | None = None,
        end_ms: int | None = None,
    ) -> list[Span]:
        """What there is to read now, by partition, in order; what is written later is not in it.

        Whether the topic is there is asked once: while the broker is away, that question has no bound. Partitions that
        are added later are for a later reader.

        Parameters
            first, end: offset by partition. Without `first` a partition is read from its oldest record, and with `end`
                only the partitions that it names are read, at most to where they end now.
            first_ms, end_ms: record times, epoch ms, for the partitions without such an offset: the first record that
                is as young.

        Raises
            Unavailable: Kafka does not tell, or the topic is not there.
        """
        from kafka import TopicPartition

        if not self._found and not self.exists():
            if denied_topics(self._kafka, [self.name]):
                raise not_allowed(self._kafka, [self.name])
            raise missing_topic(self.name, self._kafka)
        self._found = True
        found = self._ask("its partitions", lambda: self._consumer.partitions_for_topic(self.name)) or set()
        wanted = sorted(found if end is None else found & end.keys())
        parts = [TopicPartition(self.name, number) for number in wanted]
        wait_ms = int(CALL_S * 1000)
        oldest = self._ask("its offsets", lambda: self._consumer.beginning_offsets(parts, timeout_ms=wait_ms))
        newest = self._ask("its offsets", lambda: self._consumer.end_offsets(parts, timeout_ms=wait_ms))
        firsts = oldest if first_ms is None else self._at_time(parts, first_ms, newest)
        ends = newest if end_ms is None else self._at_time(parts, end_ms, newest)
        spans = []
        for part in parts:
            stop = min(newest[part], (end or {}).get(part.partition, ends[part]))
            begin = max(oldest[part], (first or {}).get(part.partition, firsts[part]))
            spans.append(Span(part.partition, oldest[part], begin, stop))
        return spans

    def _at_time(self, parts: list[Any], at_ms: int, newest: Mapping[Any, int]) -> dict[Any, int]:
        """The first offset at or after a time in each partition, its end where there is none."""
        times = dict.fromkeys(parts, at_ms)
        found = self._ask("its offsets by time", lambda: self._consumer.offsets_for_times(times))
        return {part: found[part].offset if found.get(part) is not None else newest[part] for part in parts}

    def records(self, span: Span) -> Iterator[ConsumerRecord]:
        """The records of a span, in order. Take one span to its end before the next.

        The end is reached by the consumer's position: what compaction, retention or a transaction's markers left empty
        holds no record. What is deleted while it is read is missing.

        Raises
            Unavailable: the position has not moved for `silence_s` seconds, or Kafka says that it never will.
        """
        from kafka import TopicPartition

        part, at = TopicPartition(self.name, span.partition), span.first
        if at < span.end:
            self._consumer.assign([part])
            self._consumer.seek(part, at)
        while at < span.end:
            began_at, deadline = at, time.monotonic() + self._silence_s
            while at == began_at:
                what = f"[{span.partition}]@{at}, before its end at {span.end}"
                polled = self._ask(what, lambda: self._consumer.poll(timeout_ms=POLL_MS), deadline)
                for record in polled.get(part, ()):
                    if at <= record.offset < span.end:
                        at = record.offset + 1
                        yield record
                at = max(at, self._ask(what, lambda: self._consumer.position(part, timeout_ms=POLL_MS), deadline) or 0)
                if at == began_at and time.monotonic() > deadline:
                    raise Unavailable(f"{self.name}: nothing for {self._silence_s:.0f} s of {what}. Check Kafka.")

    def _ask(self, what: str, call: Callable[[], Answer], deadline: float | None = None) -> Answer:
        """The answer of a call to Kafka, tried again after a retriable error. Raises Unavailable."""
        from kafka.errors import KafkaError

        deadline = time.monotonic() + self._silence_s if deadline is None else deadline
        failures = 0
        while True:
            try:
                return call()
            except (KafkaError, OSError) as error:
                if not passes(error) or time.monotonic() > deadline:
                    raise Unavailable(f"{self.name}: Kafka does not tell {what} ({error!r}). Check Kafka.") from error
            time.sleep(BACKOFF.pause_s(failures))
            failures += 1


def end_offsets(kafka: KafkaSettings, topic: Topic) -> dict[int, int]:
    """Partition -> offset after the newest record.

    Raises
        Unavailable: Kafka or the topic is not there.
    """
    with BoundedReader(kafka, topic) as reader:
        return {span.partition: span.end for span in reader.spans()}


def read_partitions(
    kafka: KafkaSettings, topic: Topic, first: Mapping[int, int] | None = None, end: Mapping[int, int] | None = None
) -> Iterator[tuple[Span, Iterator[ConsumerRecord]]]:
    """Each partition of a topic: its span, and the records of it, to be read before the next partition.

    Parameters
        first, end: offset by partition, as for `BoundedReader.spans`.

    Raises
        Unavailable: Kafka or the topic is not there, or goes silent.
    """
    with BoundedReader(kafka, topic) as reader:
        for span in reader.spans(first, end):
            yield span, reader.records(span)


def holds_records(kafka: KafkaSettings, topic: Topic, partition: int, first: int, end: int) -> bool:
    """Whether the log has any record from an offset on and before another: compaction, retention and the markers of
    transactions leave none. Raises Unavailable as `read_partitions` does.
    """
    with BoundedReader(kafka, topic, fetched=FEW) as reader:
        return any(True for span in reader.spans({partition: first}, {partition: end}) for _ in reader.records(span))


def read_topic(kafka: KafkaSettings, topic: Topic, *, missing_ok: bool = False) -> Iterator[ConsumerRecord]:
    """All that a topic holds now, one partition after the other.

    Parameters
        missing_ok: a topic that is not there is an empty one, and no error.

    Raises
        Unavailable: Kafka or the topic is not there, or goes silent.
    """
    with BoundedReader(kafka, topic) as reader:
        if missing_ok and not reader.exists():
            return
        for span in reader.spans():
            yield from reader.records(span)
