"""What stays and what goes: offsets by time, retention, compaction, tombstones, deleted records."""

from __future__ import annotations

import time
from collections.abc import Callable

import kafka
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from tests.embedded.conformance.clients import CLIENTS, Raw, Record, eventually, read, send

EARLIEST, LATEST, NEWEST = -2, -1, -3
HOUR_MS = 3_600_000


def now_ms() -> int:
    return int(time.time() * 1000)


def test_offsets_are_found_by_time(address: str, raw: Raw, topic: str) -> None:
    start = now_ms() - HOUR_MS
    assert raw.offset_at(topic, start) == (-1, -1)
    send(address, topic, [Record(b"k", b"v" * 300, (), start + 10 * i) for i in range(200)])
    assert raw.offset_at(topic, start) == (0, start)
    assert raw.offset_at(topic, start - 5) == (0, start)
    assert raw.offset_at(topic, start + 501) == (51, start + 510)
    assert raw.offset_at(topic, start + 1990) == (199, start + 1990)
    assert raw.offset_at(topic, start + 1991) == (-1, -1)
    assert raw.offset_at(topic, EARLIEST)[0] == 0
    assert raw.offset_at(topic, LATEST)[0] == 200


def test_a_late_record_does_not_hide_others_from_the_time_lookup(address: str, raw: Raw, topic: str) -> None:
    start = now_ms() - HOUR_MS
    for shift in (0, 5000, 1000, 2000, 9000):  # one batch each, out of order
        send(address, topic, [Record(b"k", b"v" * 3000, (), start + shift)])
    assert raw.offset_at(topic, start + 500) == (1, start + 5000)
    assert raw.offset_at(topic, start + 5001) == (4, start + 9000)
    assert raw.offset_at(topic, NEWEST, version=7) == (4, start + 9000)


def test_clients_look_offsets_up_by_time(address: str, topic: str) -> None:
    start = now_ms() - HOUR_MS
    send(address, topic, [Record(b"k", b"v", (), start + 1000 * i) for i in range(10)])
    consumer = kafka.KafkaConsumer(bootstrap_servers=address)
    try:
        partition = kafka.TopicPartition(topic, 0)
        found = consumer.offsets_for_times({partition: start + 3500})[partition]
        assert (found.offset, found.timestamp) == (4, start + 4000)
        assert consumer.end_offsets([partition])[partition] == 10
        assert consumer.beginning_offsets([partition])[partition] == 0
    finally:
        consumer.close()


def test_records_older_than_retention_ms_go(address: str, raw: Raw, make_topic: Callable[..., str]) -> None:
    topic = make_topic(retention__ms=60_000)
    send(address, topic, [Record(b"k", b"old", (), now_ms() - HOUR_MS) for _ in range(3)])
    eventually(lambda: raw.offset_at(topic, EARLIEST)[0] == 3, "old records deleted")
    assert send(address, topic, [Record(b"k", b"new")]) == [3]
    assert [r.value for r in read(address, topic, 1, start=3)] == [b"new"]


def test_the_oldest_segments_go_when_the_log_is_too_large(
    address: str, raw: Raw, make_topic: Callable[..., str]
) -> None:
    topic = make_topic(retention__bytes=1 << 20, segment__bytes=1 << 20)
    send(address, topic, [Record(b"k", b"v" * 700_000) for _ in range(5)])
    eventually(lambda: raw.offset_at(topic, EARLIEST)[0] == 3, "three of five segments deleted")
    assert raw.offset_at(topic, LATEST)[0] == 5
    assert [r.offset for r in read(address, topic, 2, start=3)] == [3, 4]


def test_nothing_goes_without_a_cleanup_reason(address: str, raw: Raw, make_topic: Callable[..., str]) -> None:
    kept = make_topic(retention__ms=-1, segment__ms=1)
    going = make_topic(retention__ms=60_000)
    for name in (kept, going):
        send(address, name, [Record(b"k", b"v", (), now_ms() - HOUR_MS)])
    eventually(lambda: raw.offset_at(going, EARLIEST)[0] == 1, "the other topic cleaned")
    assert raw.offset_at(kept, EARLIEST)[0] == 0


def rounds(address: str, topic: str, clock: int, values: list[dict[bytes, bytes | None]]) -> int:
    """Each round in a segment of its own: a record an hour later than the last makes the log roll."""
    for records in values:
        clock += 1000
        send(address, topic, [Record(key, value, (), clock) for key, value in records.items()])
    return clock


def surviving(address: str, topic: str, raw: Raw) -> list[tuple[int | None, bytes | None, bytes | None]]:
    """Everything a consumer sees from the start."""
    end = raw.offset_at(topic, LATEST)[0]
    consumer = kafka.KafkaConsumer(bootstrap_servers=address)
    try:
        partition = kafka.TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        found = []
        while consumer.position(partition) < end:
            found += [(m.offset, m.key, m.value) for m in consumer.poll(200).get(partition, [])]
        return found
    finally:
        consumer.close()


@pytest.mark.parametrize("codec", [None, "gzip", "zstd"])
def test_compaction_keeps_the_last_value_of_each_key_at_its_offset(
    address: str, raw: Raw, make_topic: Callable[..., str], codec: str | None
) -> None:
    topic = make_topic(cleanup__policy="compact", segment__ms=500, min__cleanable__dirty__ratio=0.001)
    clock = now_ms() - HOUR_MS
    for number in range(3):
        clock += 1000
        records = [Record(b"key %d" % i, b"%d.%d" % (number, i) * 50, (("h", b"x"),), clock) for i in range(20)]
        send(address, topic, [*records, Record(b"only %d" % number, b"once", (), clock)], codec=codec)
    send(address, topic, [Record(b"roll", b"1", (), clock + 1000)])
    expected = [
        (20, b"only 0", b"once"),
        (41, b"only 1", b"once"),
        *[(42 + i, b"key %d" % i, b"2.%d" % i * 50) for i in range(20)],
        (62, b"only 2", b"once"),
        (63, b"roll", b"1"),
    ]
    eventually(lambda: surviving(address, topic, raw) == expected, "compacted")
    assert raw.offset_at(topic, LATEST)[0] == 64
    assert raw.fetch(topic, 0).error_code == 0
    for client in CLIENTS:
        found = read(address, topic, 24, client=client)
        assert [(r.offset, r.key, r.value) for r in found] == expected
        assert found[0].timestamp == clock - 2000
        assert found[2].headers == (("h", b"x"),)
        assert [r.offset for r in read(address, topic, 23, start=21, client=client)] == [e[0] for e in expected[1:]]


def test_a_tombstone_deletes_its_key_and_stays_for_a_while(
    address: str, raw: Raw, make_topic: Callable[..., str]
) -> None:
    topic = make_topic(cleanup__policy="compact", segment__ms=500, min__cleanable__dirty__ratio=0.001)
    rounds(address, topic, now_ms() - HOUR_MS, [{b"a": b"1", b"b": b"1"}, {b"a": None}, {b"roll": b"1"}])
    expected = [(1, b"b", b"1"), (2, b"a", None), (3, b"roll", b"1")]
    eventually(lambda: surviving(address, topic, raw) == expected, "the value gone, the tombstone kept")


def test_a_tombstone_goes_after_delete_retention_ms(address: str, raw: Raw, make_topic: Callable[..., str]) -> None:
    topic = make_topic(
        cleanup__policy="compact", segment__ms=500, min__cleanable__dirty__ratio=0.001, delete__retention__ms=1
    )
    clock = rounds(address, topic, now_ms() - HOUR_MS, [{b"a": b"1", b"b": b"1"}, {b"a": None}, {b"roll": b"0"}])

    def gone() -> bool:
        nonlocal clock
        clock = rounds(address, topic, clock, [{b"roll": b"1"}])  # Kafka looks again when there is something to clean
        return all(key != b"a" for _, key, _ in surviving(address, topic, raw))

    eventually(gone, "value and tombstone gone")
    assert (1, b"b", b"1") in surviving(address, topic, raw)


def test_compact_and_delete_together_do_both(address: str, raw: Raw, make_topic: Callable[..., str]) -> None:
    topic = make_topic(
        cleanup__policy="compact,delete", segment__ms=500, min__cleanable__dirty__ratio=0.001, retention__ms=HOUR_MS
    )
    rounds(address, topic, now_ms() - 2 * HOUR_MS, [{b"old": b"1"}])
    eventually(lambda: raw.offset_at(topic, EARLIEST)[0] == 1, "the old record deleted")
    rounds(address, topic, now_ms() - HOUR_MS // 2, [{b"a": b"1"}, {b"a": b"2"}, {b"roll": b"1"}])
    expected = [(2, b"a", b"2"), (3, b"roll", b"1")]
    eventually(lambda: surviving(address, topic, raw) == expected, "compacted")


def test_deleted_records_are_gone_and_readers_start_behind_them(
    address: str, raw: Raw, admin: AdminClient, topic: str
) -> None:
    send(address, topic, [Record(b"k", b"%d" % i) for i in range(10)])
    done = admin.delete_records([TopicPartition(topic, 0, 4)])
    assert next(iter(done.values())).result(30).low_watermark == 4
    assert raw.offset_at(topic, EARLIEST)[0] == 4
    assert raw.fetch(topic, 3).error_code == 1
    consumer = kafka.KafkaConsumer(bootstrap_servers=address, auto_offset_reset="earliest")
    try:
        partition = kafka.TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek(partition, 1)
        found: list[int] = []

        def enough() -> bool:
            found.extend(m.offset for m in consumer.poll(200).get(partition, []))
            return len(found) == 6

        eventually(enough, "six records")
        assert found == [4, 5, 6, 7, 8, 9]
    finally:
        consumer.close()


def test_deleting_records_has_its_rules(
    address: str, admin: AdminClient, make_topic: Callable[..., str], topic: str
) -> None:
    from confluent_kafka import KafkaException

    send(address, topic, [Record(b"k", b"v")])
    with pytest.raises(KafkaException, match="OFFSET_OUT_OF_RANGE"):
        next(iter(admin.delete_records([TopicPartition(topic, 0, 5)]).values())).result(30)
    compacted = make_topic(cleanup__policy="compact")
    send(address, compacted, [Record(b"k", b"v")])
    with pytest.raises(KafkaException, match="POLICY_VIOLATION"):
        next(iter(admin.delete_records([TopicPartition(compacted, 0, 1)]).values())).result(30)
