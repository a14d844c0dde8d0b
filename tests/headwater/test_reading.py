"""The bounded reader on a real broker: what was there at the start, all of it, once, and an end in any case."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from embedded import EmbeddedBroker
from headwater.errors import Unavailable
from headwater.kafka import (
    BoundedReader,
    Span,
    admin_client,
    end_offsets,
    ensure_topics,
    holds_records,
    producer,
    read_partitions,
    read_topic,
)
from headwater.settings import KafkaSettings, Settings
from headwater.topics import EVENTS, MODEL, REQUESTS, topic_name
from tests.worlds.processes import eventually
from tests.worlds.topic_reading import NotUtf8

pytestmark = pytest.mark.any_broker


@pytest.fixture
def kafka(settings: Settings) -> KafkaSettings:
    return settings.kafka


@pytest.fixture
def writer(kafka: KafkaSettings) -> Iterator[KafkaProducer]:
    made = producer(kafka)
    yield made
    made.close(timeout=10)


def write(writer: KafkaProducer, name: str, values: list[bytes], partition: int = 0, key: bytes | None = None) -> None:
    for value in values:
        writer.send(name, value, key, partition=partition)
    writer.flush(10)


def numbers(count: int, first: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(first, first + count)]


def delete_before(kafka: KafkaSettings, name: str, offset: int) -> None:
    admin = admin_client(kafka)
    try:
        admin.delete_records({TopicPartition(name, 0): offset})
    finally:
        admin.close()


def test_an_empty_topic_has_nothing_to_read(kafka: KafkaSettings) -> None:
    assert list(read_topic(kafka, EVENTS)) == []
    assert [(span, list(records)) for span, records in read_partitions(kafka, MODEL)] == [(Span(0, 0, 0, 0), [])]


def test_a_topic_that_is_not_there_is_an_error_and_is_not_made(kafka: KafkaSettings) -> None:
    elsewhere = kafka.model_copy(update={"prefix": f"{kafka.prefix}nowhere."})
    with pytest.raises(Unavailable, match=r"no topic \S+nowhere\.events"):
        list(read_topic(elsewhere, EVENTS))
    assert list(read_topic(elsewhere, EVENTS, missing_ok=True)) == []
    with BoundedReader(elsewhere, EVENTS) as reader:
        assert not reader.exists()


def test_every_partition_is_read_in_order_up_to_where_it_ended_at_the_start(
    kafka: KafkaSettings, writer: KafkaProducer
) -> None:
    name = topic_name(EVENTS, kafka.prefix)
    for partition in range(3):
        write(writer, name, numbers(1000, first=1000 * partition), partition)
    read = {}
    for span, records in read_partitions(kafka, EVENTS):
        write(writer, name, [b"later"], span.partition)
        read[span.partition] = [record.value for record in records]
    assert read == {0: numbers(1000), 1: numbers(1000, 1000), 2: numbers(1000, 2000), 3: []}
    assert end_offsets(kafka, EVENTS) == {0: 1001, 1: 1001, 2: 1001, 3: 1}


def test_a_span_may_begin_and_end_anywhere_and_only_named_partitions_are_read(
    kafka: KafkaSettings, writer: KafkaProducer
) -> None:
    name = topic_name(EVENTS, kafka.prefix)
    for partition in range(2):
        write(writer, name, numbers(20), partition)
    spans = [(span, [record.offset for record in records]) for span, records in read_partitions(
        kafka, EVENTS, {0: 5, 1: 30}, {0: 8, 1: 99}
    )]  # fmt: skip
    assert spans == [(Span(0, 0, 5, 8), [5, 6, 7]), (Span(1, 0, 30, 20), [])]
    assert list(read_partitions(kafka, EVENTS, end={99: 5})) == []


def test_times_choose_the_first_record_that_is_as_young(kafka: KafkaSettings, writer: KafkaProducer) -> None:
    name = topic_name(EVENTS, kafka.prefix)
    first = int(time.time() * 1000) - 3_600_000  # not so old that retention takes it
    for number in range(10):
        writer.send(name, b"x", partition=0, timestamp_ms=first + 1000 * number)
    writer.flush(10)
    with BoundedReader(kafka, EVENTS) as reader:
        begin, end = first + 2500, first + 7000
        assert reader.spans(first_ms=begin, end_ms=end)[:2] == [Span(0, 0, 3, 7), Span(1, 0, 0, 0)]
        assert reader.spans({0: 1}, first_ms=begin)[0] == Span(0, 0, 1, 10)
        assert reader.spans(first_ms=end + 3_600_000)[0] == Span(0, 0, 10, 10)


def test_an_end_that_lies_in_a_gap_is_reached(kafka: KafkaSettings, writer: KafkaProducer) -> None:
    """Compaction takes offsets 1 to 9; the end is none of a record's."""
    name = topic_name(MODEL, kafka.prefix)
    admin = admin_client(kafka)
    configs = {"segment.ms": "500", "min.cleanable.dirty.ratio": "0.001"}
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs=configs)])
    admin.close()
    then = int(time.time() * 1000) - 3_600_000
    writer.send(name, b"kept", b"first", timestamp_ms=then)
    writer.flush(10)
    for number in range(10):
        writer.send(name, b"%d" % number, b"live", timestamp_ms=then + 1000 * number)
        writer.flush(10)

    def compacted() -> bool:
        writer.send(name, b"", b"roll", timestamp_ms=int(time.time() * 1000) - 60_000)
        writer.flush(10)
        offsets = [record.offset for record in read_topic(kafka, MODEL)]
        return offsets[:2] == [0, 10]

    eventually(compacted, what="compacted")
    for end in range(1, 12):
        with BoundedReader(kafka, MODEL) as reader:
            (span,) = reader.spans(end={0: end})
            offsets = [record.offset for record in reader.records(span)]
        assert (span.end, offsets) == (end, [0] if end < 11 else [0, 10])


def test_what_was_deleted_is_told_and_reading_begins_behind_it(kafka: KafkaSettings, writer: KafkaProducer) -> None:
    name = topic_name(EVENTS, kafka.prefix)
    write(writer, name, numbers(10))
    delete_before(kafka, name, 4)
    with BoundedReader(kafka, EVENTS) as reader:
        assert reader.spans({0: 2})[0] == Span(0, 4, 4, 10)
        deleted_meanwhile = reader.records(Span(0, 0, 0, 10))
        assert [record.offset for record in deleted_meanwhile] == [4, 5, 6, 7, 8, 9]
        assert list(reader.records(Span(0, 0, 0, 3))) == []


def test_a_header_may_have_any_name(kafka: KafkaSettings, writer: KafkaProducer) -> None:
    name = topic_name(EVENTS, kafka.prefix)
    for headers in ([], [(NotUtf8("x"), b"1"), ("y", b"2")], []):
        writer.send(name, b"event", b"ada", headers=headers, partition=0)
    writer.flush(10)
    assert [one.headers for one in read_topic(kafka, EVENTS)] == [[], [("\ufffdx", b"1"), ("y", b"2")], []]


def test_a_reader_that_is_closed_keeps_nothing_of_what_it_had_fetched(
    kafka: KafkaSettings, writer: KafkaProducer
) -> None:
    write(writer, topic_name(EVENTS, kafka.prefix), [os.urandom(100_000) for _ in range(30)])
    gc.disable()  # a worker looks for circles seldom
    tracemalloc.start()
    try:
        assert holds_records(kafka, EVENTS, 0, 0, 30)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000, "one record is enough"
        for _ in range(2):
            with BoundedReader(kafka, EVENTS) as reader:
                assert next(reader.records(reader.spans()[0])).offset == 0
        assert tracemalloc.get_traced_memory()[0] < 2_000_000, "twice 3 MB were fetched"
    finally:
        tracemalloc.stop()
        gc.enable()


def test_partitions_that_are_added_are_seen_by_the_next_reader(kafka: KafkaSettings) -> None:
    name = topic_name(REQUESTS, kafka.prefix)
    with BoundedReader(kafka, REQUESTS) as reader:
        assert len(reader.spans()) == 4
        admin = admin_client(kafka)
        admin.create_partitions({name: 6})
        admin.close()
    eventually(lambda: len(end_offsets(kafka, REQUESTS)) == 6, what="six partitions")
    later = producer(kafka)
    write(later, name, numbers(3), 5)
    later.close()
    assert [record.value for record in read_topic(kafka, REQUESTS)] == numbers(3)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """A broker of the test's own, to be killed."""
    with EmbeddedBroker(tmp_path / "kafka") as one:
        yield one


@pytest.fixture
def lonely(broker: EmbeddedBroker) -> KafkaSettings:
    made = KafkaSettings(bootstrap=broker.address)
    ensure_topics(made)
    sender = producer(made)
    write(sender, "events", numbers(100))
    sender.close()
    return made


def test_a_broker_that_is_away_is_waited_for_so_long_and_then_told(
    broker: EmbeddedBroker, lonely: KafkaSettings
) -> None:
    with BoundedReader(lonely, EVENTS, silence_s=0.5) as reader:
        span = reader.spans()[0]
        broker.kill()
        with pytest.raises(Unavailable, match=r"events: .*\[0\]@0, before its end at 100.*Check Kafka"):
            list(reader.records(span))
        with pytest.raises(Unavailable, match=r"events: Kafka does not tell its "):
            reader.spans()
    with pytest.raises(Unavailable, match="no Kafka answers"):
        BoundedReader(lonely, EVENTS)


@pytest.mark.timeout(25)
def test_a_broker_that_hangs_is_told_within_the_time_of_a_call(broker: EmbeddedBroker, lonely: KafkaSettings) -> None:
    with BoundedReader(lonely, EVENTS, silence_s=0.5) as reader:
        reader.spans()
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            with pytest.raises(Unavailable, match=r"events: Kafka does not tell its offsets"):
                reader.spans()
        finally:
            os.kill(broker.pid, signal.SIGCONT)


def test_a_broker_that_comes_back_is_read_to_the_end(broker: EmbeddedBroker, lonely: KafkaSettings) -> None:
    with BoundedReader(lonely, EVENTS) as reader:
        span = reader.spans()[0]
        broker.kill()
        found: list[bytes] = []
        reading = threading.Thread(target=lambda: found.extend(record.value for record in reader.records(span)))
        reading.start()
        broker.start()
        reading.join(30)
        assert found == numbers(100)
