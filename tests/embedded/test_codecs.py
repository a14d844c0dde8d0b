"""The embedded broker's codecs: equal to kafka-python's, deaf to nonsense."""

from __future__ import annotations

import os
import struct

import pytest
from kafka.protocol.consumer import FetchRequest, FetchResponse
from kafka.protocol.producer import ProduceRequest, ProduceResponse

from embedded.log.batch import CRC_START
from embedded.protocol import record_codecs as hot
from embedded.protocol import wire
from tests.embedded.conformance.clients import Record, batch


@pytest.mark.parametrize("version", range(3, 10))
def test_the_produce_codec_equals_kafka_pythons(version: int) -> None:
    topic_type = ProduceRequest.TopicProduceData
    data = bytes(batch([Record(b"k", b"v" * 200)]))
    part = topic_type.PartitionProduceData
    topics = [
        topic_type(name="é", partition_data=[part(index=3, records=data), part(index=4, records=None)]),
        topic_type(name="t" * 200, partition_data=[part(index=0, records=data)]),
    ]
    request = ProduceRequest(transactional_id=None, acks=-1, timeout_ms=5, topic_data=topics)
    found = hot.read_produce(request.encode(version=version), 0, version)
    assert (found.transactional_id, found.acks) == (None, -1)
    assert [(name, [(i, r and bytes(r)) for i, r in parts]) for name, parts in found.topics] == [
        ("é", [(3, data), (4, None)]),
        ("t" * 200, [(0, data)]),
    ]
    done = [hot.Produced(3, 0, 2**40, -1, 5), hot.Produced(4, 2, -1, 9, -1, "why")]
    written_back = ProduceResponse.decode(hot.write_produce(version, [("é", done)]), version=version).responses[0]
    assert written_back.name == "é"
    for one, expected in zip(written_back.partition_responses, done, strict=True):
        assert (one.index, one.error_code, one.base_offset, one.log_append_time_ms) == expected[:4]
        assert one.log_start_offset == (expected.start_offset if version >= 5 else -1)
        assert one.error_message == (expected.message if version >= 8 else None)


@pytest.mark.parametrize("version", range(4, 13))
def test_the_fetch_codec_equals_kafka_pythons(version: int) -> None:
    topic_type = FetchRequest.FetchTopic
    part = topic_type.FetchPartition(
        partition=3, current_leader_epoch=1, fetch_offset=2**40, log_start_offset=7, partition_max_bytes=99
    )
    request = FetchRequest(
        replica_id=-1,
        max_wait_ms=11,
        min_bytes=12,
        max_bytes=13,
        isolation_level=1,
        session_id=0,
        session_epoch=-1,
        topics=[topic_type(topic="é", partitions=[part, part])],
        forgotten_topics_data=[],
        rack_id="r",
    )
    found = hot.read_fetch(request.encode(version=version), 0, version)
    wanted = hot.Wanted(3, 2**40, 99)
    assert found == hot.FetchRequest(11, 12, 13, [("é", [wanted, wanted])])
    data = bytes(batch([Record(b"k", b"v" * 200)]))
    got = [hot.Fetched(3, 0, 2**40, 5, data), hot.Fetched(4, 1, -1, -1, b""), hot.Fetched(5, 0, 1, 0, data)]
    answer = FetchResponse.decode(b"".join(hot.write_fetch(version, [("é", got), ("t", [])])), version=version)
    assert [topic.topic for topic in answer.responses] == ["é", "t"]
    for one, expected in zip(answer.responses[0].partitions, got, strict=True):
        assert (one.partition_index, one.error_code, one.high_watermark) == expected[:3]
        assert bytes(one.records or b"") == expected.records
        assert one.log_start_offset == (expected.start_offset if version >= 5 else -1)


def test_a_frame_of_nonsense_is_unreadable_and_nothing_else() -> None:
    for key, api in wire.APIS.items():
        for version in range(api.lowest, api.highest + 1):
            for filler in (b"", b"\x00" * 40, b"\xff" * 40, b"\x7f" * 400, os.urandom(200)):
                frame = struct.pack(">hhih", key, version, 1, -1) + filler
                try:
                    call = wire.read(frame, "here")
                    if key == wire.PRODUCE:
                        hot.read_produce(call.frame, call.at, version)
                    elif key == wire.FETCH:
                        hot.read_fetch(call.frame, call.at, version)
                except (wire.Unreadable, ValueError, IndexError, struct.error):
                    continue


def test_the_checksum_starts_where_the_format_says() -> None:
    assert struct.calcsize(">qiibI") == CRC_START
