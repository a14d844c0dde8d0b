"""Records in, records out: three clients, four codecs, sizes, checksums, idempotence, long polls."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import kafka
import pytest
from kafka.errors import MessageSizeTooLargeError
from kafka.protocol.consumer import FetchResponse
from kafka.protocol.producer import InitProducerIdRequest, InitProducerIdResponse

from tests.embedded.conformance.clients import CLIENTS, Raw, Record, batch, eventually, read, send

NONE, CORRUPT_MESSAGE, UNKNOWN_TOPIC, TOO_LARGE, BAD_ACKS = 0, 2, 3, 10, 21
BAD_TIMESTAMP, OUT_OF_ORDER, OLD_EPOCH, INVALID_RECORD, OUT_OF_RANGE = 32, 45, 47, 87, 1


@pytest.mark.parametrize("reader", CLIENTS)
@pytest.mark.parametrize("writer", CLIENTS)
def test_what_one_client_writes_another_reads(address: str, topic: str, writer: str, reader: str) -> None:
    now = int(time.time() * 1000)
    records = [
        Record(b"key", b"value", (("h", b"1"), ("h", b"2"), ("empty", b"")), now),
        Record(None, b"no key", (), now + 1),
        Record(b"no value", None, (), now + 2),
        Record(b"", b"", (), now + 3),
    ]
    assert send(address, topic, records, writer) == [0, 1, 2, 3]
    found = read(address, topic, 4, client=reader)
    assert [r._replace(offset=None) for r in found] == records
    assert [r.offset for r in found] == [0, 1, 2, 3]


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
@pytest.mark.parametrize("client", CLIENTS)
def test_every_codec_passes_untouched(address: str, topic: str, codec: str, client: str) -> None:
    records = [Record(b"%d" % i, b"value " * 200) for i in range(20)]
    send(address, topic, records, client, codec)
    for reader in CLIENTS:
        assert [(r.key, r.value) for r in read(address, topic, 20, client=reader)] == [
            (r.key, r.value) for r in records
        ]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_record_of_a_million_bytes_passes(address: str, topic: str, client: str) -> None:
    value = bytes(range(256)) * 3906
    send(address, topic, [Record(b"small", b"1"), Record(b"big", value), Record(b"after", b"2")], client)
    assert [r.value for r in read(address, topic, 3, client=client)] == [b"1", value, b"2"]


def test_a_record_above_max_message_bytes_is_refused(address: str, raw: Raw, make_topic: Callable[..., str]) -> None:
    topic = make_topic(max__message__bytes=1000)
    producer = kafka.KafkaProducer(bootstrap_servers=address)
    try:
        with pytest.raises(MessageSizeTooLargeError):
            producer.send(topic, b"x" * 2000, partition=0).get(30)
    finally:
        producer.close()  # kafka-python's idempotent producer gives up for good after such an error
    assert send(address, topic, [Record(None, b"x" * 500)]) == [0]
    assert raw.produce(topic, batch([Record(None, b"x" * 2000)])).error_code == TOO_LARGE


def test_a_batch_with_a_wrong_checksum_is_refused(raw: Raw, topic: str) -> None:
    broken = batch([Record(b"k", b"value")])
    broken[-1] ^= 1
    assert raw.produce(topic, broken).error_code == CORRUPT_MESSAGE
    assert raw.offset_at(topic, -1)[0] == 0


def test_a_batch_whose_counts_disagree_is_refused(raw: Raw, topic: str) -> None:
    import struct

    from crc32c import crc32c

    odd = batch([Record(b"k", b"value")])
    odd[23:27] = struct.pack(">i", 5)  # last offset delta
    odd[17:21] = struct.pack(">I", crc32c(bytes(odd[21:])))
    assert raw.produce(topic, odd).error_code == INVALID_RECORD


def test_a_record_without_a_key_is_refused_by_a_compacted_topic(raw: Raw, make_topic: Callable[..., str]) -> None:
    topic = make_topic(cleanup__policy="compact")
    assert raw.produce(topic, batch([Record(None, b"v")])).error_code == INVALID_RECORD
    assert raw.produce(topic, batch([Record(b"k", b"v")])).error_code == NONE


def test_a_record_from_the_future_is_refused(raw: Raw, topic: str) -> None:
    later = int(time.time() * 1000) + 7_200_000
    assert raw.produce(topic, batch([Record(b"k", b"v", (), later)])).error_code == BAD_TIMESTAMP


def test_unknown_topics_and_wrong_acknowledgements_are_named(raw: Raw, topic: str) -> None:
    assert raw.produce("no-such-topic", batch([Record(b"k", b"v")])).error_code == UNKNOWN_TOPIC
    assert raw.fetch("no-such-topic", 0).error_code == UNKNOWN_TOPIC
    assert raw.produce(topic, batch([Record(b"k", b"v")]), acks=7).error_code == BAD_ACKS


def test_log_append_time_replaces_the_producers_clock(address: str, raw: Raw, make_topic: Callable[..., str]) -> None:
    topic = make_topic(message__timestamp__type="LogAppendTime")
    before = int(time.time() * 1000)
    done = raw.produce(topic, batch([Record(b"k", b"v", (), 1000)]))
    assert done.log_append_time_ms >= before
    assert read(address, topic, 1)[0].timestamp == done.log_append_time_ms


def new_producer(raw: Raw) -> int:
    request = InitProducerIdRequest(
        transactional_id=None, transaction_timeout_ms=1000, producer_id=-1, producer_epoch=-1
    )

    def ask() -> Any:
        answer = raw.call(request, InitProducerIdResponse, 3)
        assert answer.error_code in (NONE, 14, 15), answer  # Kafka after a start: loading, or not there yet
        return answer if answer.error_code == NONE else None

    answer = eventually(ask, "a producer id")
    assert answer.producer_epoch == 0
    return int(answer.producer_id)


def test_a_batch_sent_twice_is_stored_once(raw: Raw, topic: str) -> None:
    producer = new_producer(raw)
    for sequence in range(7):
        done = raw.produce(topic, batch([Record(b"k", b"%d" % sequence)], producer, 0, sequence))
        assert (done.error_code, done.base_offset) == (NONE, sequence)
    for sequence in (2, 6):  # the broker remembers five batches
        done = raw.produce(topic, batch([Record(b"k", b"%d" % sequence)], producer, 0, sequence))
        assert (done.error_code, done.base_offset) == (NONE, sequence)
    assert raw.produce(topic, batch([Record(b"k", b"0")], producer, 0, 0)).error_code == OUT_OF_ORDER
    assert raw.offset_at(topic, -1)[0] == 7


def test_a_gap_in_an_idempotent_producers_sequence_is_refused(raw: Raw, topic: str) -> None:
    producer = new_producer(raw)
    assert raw.produce(topic, batch([Record(b"k", b"v")] * 3, producer, 0, 0)).error_code == NONE
    assert raw.produce(topic, batch([Record(b"k", b"v")], producer, 0, 4)).error_code == OUT_OF_ORDER
    assert raw.produce(topic, batch([Record(b"k", b"v")], producer, 0, 3)).error_code == NONE
    assert raw.produce(topic, batch([Record(b"k", b"v")], producer, 1, 1)).error_code == OUT_OF_ORDER
    assert raw.produce(topic, batch([Record(b"k", b"v")], producer, 1, 0)).error_code == NONE
    assert raw.produce(topic, batch([Record(b"k", b"v")], producer, 0, 4)).error_code == OLD_EPOCH


def test_two_producers_get_two_ids(raw: Raw) -> None:
    assert new_producer(raw) != new_producer(raw)


@pytest.mark.parametrize("version", [4, 7, 9, 11, 12])
def test_a_waiting_fetch_answers_when_a_record_comes(address: str, raw: Raw, topic: str, version: int) -> None:
    raw.post_fetch(topic, 0, max_wait_ms=300_000, version=version)  # only being woken can answer in time
    send(address, topic, [Record(b"k", b"v")])
    answer = raw.take(FetchResponse, version).responses[0].partitions[0]
    assert answer.error_code == NONE
    assert answer.high_watermark == 1
    assert len(answer.records) > 61


def test_a_fetch_gives_up_waiting_for_enough_bytes(address: str, raw: Raw, topic: str) -> None:
    send(address, topic, [Record(b"k", b"v")])
    answer = raw.fetch(topic, 0, max_wait_ms=50, min_bytes=1 << 20)
    assert len(answer.records) > 61


def test_a_waiting_fetch_counts_bytes_until_there_are_enough(address: str, raw: Raw, topic: str) -> None:
    raw.post_fetch(topic, 0, max_wait_ms=300_000, min_bytes=2500)
    for _ in range(3):
        send(address, topic, [Record(b"k", b"v" * 1000)])
    answer = raw.take(FetchResponse, 11).responses[0].partitions[0]
    assert len(answer.records) >= 2500


def test_a_batch_larger_than_the_fetch_limit_still_comes(address: str, raw: Raw, topic: str) -> None:
    send(address, topic, [Record(b"k", b"v" * 5000)])
    answer = raw.fetch(topic, 0, max_bytes=100)
    assert len(answer.records) > 5000


def test_offsets_outside_the_log_are_refused(address: str, raw: Raw, topic: str) -> None:
    send(address, topic, [Record(b"k", b"v")])
    assert raw.fetch(topic, 2).error_code == OUT_OF_RANGE
    assert raw.fetch(topic, 1).error_code == NONE


def test_the_versions_between_are_spoken(raw: Raw, topic: str) -> None:
    for version in range(3, 10):
        assert raw.produce(topic, batch([Record(b"k", b"v")]), version=version).base_offset == version - 3
    for version in range(4, 13):
        answer = raw.fetch(topic, 0, version=version)
        assert answer.error_code == NONE
        assert answer.high_watermark == 7
