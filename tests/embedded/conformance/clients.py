"""The real clients, each behind the same two verbs, and a raw connection for what no client would send.

Before it: an address. After it: tests. `send` waits for the acknowledgement; `read` takes what stands between two
offsets.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, NamedTuple

import aiokafka
import confluent_kafka
import kafka
from kafka.protocol.consumer import FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse
from kafka.protocol.producer import ProduceRequest, ProduceResponse
from kafka.record.memory_records import MemoryRecordsBuilder

TIMEOUT_S = 40.0
BYTES = 4 << 20

NOT_LEADING_YET = (6, 78)  # a started Kafka fetches from a partition a moment before it tells its offsets


class Record(NamedTuple):
    """A record as every client sees it."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp: int | None = None
    offset: int | None = None


def eventually(condition: Callable[[], Any], what: str = "") -> Any:
    """The first truthy value of `condition`, asked again and again."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {TIMEOUT_S:.0f} s: {what or condition}"
        time.sleep(0.02)


# --- kafka-python


def _kafka_python_send(address: str, topic: str, records: Sequence[Record], codec: str | None) -> list[int]:
    producer = kafka.KafkaProducer(bootstrap_servers=address, compression_type=codec, max_request_size=BYTES)
    try:
        futures = [
            producer.send(
                topic, key=r.key, value=r.value, headers=list(r.headers), timestamp_ms=r.timestamp, partition=0
            )
            for r in records
        ]
        return [future.get(TIMEOUT_S).offset for future in futures]
    finally:
        producer.close()


def _kafka_python_read(address: str, topic: str, start: int, count: int) -> list[Record]:
    consumer = kafka.KafkaConsumer(bootstrap_servers=address, fetch_max_bytes=BYTES)
    partition = kafka.TopicPartition(topic, 0)
    try:
        consumer.assign([partition])
        consumer.seek(partition, start)
        found: list[Record] = []

        def enough() -> bool:
            for m in consumer.poll(200).get(partition, []):
                found.append(Record(m.key, m.value, tuple(m.headers), m.timestamp, m.offset))
            return len(found) >= count

        eventually(enough, f"{count} records of {topic}")
        return found
    finally:
        consumer.close()


# --- aiokafka


def _aiokafka_send(address: str, topic: str, records: Sequence[Record], codec: str | None) -> list[int]:
    async def run() -> list[int]:
        producer = aiokafka.AIOKafkaProducer(
            bootstrap_servers=address, compression_type=codec, enable_idempotence=True, max_request_size=BYTES
        )
        await producer.start()
        try:
            offsets = []
            for r in records:
                done = await producer.send_and_wait(
                    topic, key=r.key, value=r.value, headers=list(r.headers), timestamp_ms=r.timestamp, partition=0
                )
                offsets.append(done.offset)
            return offsets
        finally:
            await producer.stop()

    return asyncio.run(asyncio.wait_for(run(), TIMEOUT_S))


def _aiokafka_read(address: str, topic: str, start: int, count: int) -> list[Record]:
    async def run() -> list[Record]:
        consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=address, max_partition_fetch_bytes=BYTES)
        partition = aiokafka.TopicPartition(topic, 0)
        await consumer.start()
        try:
            consumer.assign([partition])
            consumer.seek(partition, start)
            found: list[Record] = []
            while len(found) < count:
                batch = await consumer.getmany(timeout_ms=200)
                for m in batch.get(partition, []):
                    found.append(Record(m.key, m.value, tuple(m.headers), m.timestamp, m.offset))
            return found
        finally:
            await consumer.stop()

    return asyncio.run(asyncio.wait_for(run(), TIMEOUT_S))


# --- confluent-kafka (librdkafka)


def _confluent_send(address: str, topic: str, records: Sequence[Record], codec: str | None) -> list[int]:
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": address,
            "compression.type": codec or "none",
            "enable.idempotence": True,
            "message.max.bytes": BYTES,
            "log_level": 0,
        }
    )
    offsets: dict[int, int] = {}

    def delivered(index: int) -> Callable[[Any, Any], None]:
        def note(error: Any, message: Any) -> None:
            assert error is None, error
            offsets[index] = message.offset()

        return note

    for index, r in enumerate(records):
        producer.produce(
            topic,
            key=r.key,
            value=r.value,
            headers=list(r.headers),
            timestamp=r.timestamp or 0,
            partition=0,
            on_delivery=delivered(index),
        )
    assert producer.flush(TIMEOUT_S) == 0
    return [offsets[index] for index in range(len(records))]


def _confluent_read(address: str, topic: str, start: int, count: int) -> list[Record]:
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": address, "group.id": "none", "enable.auto.commit": False, "log_level": 0}
    )
    try:
        consumer.assign([confluent_kafka.TopicPartition(topic, 0, start)])
        found: list[Record] = []

        def enough() -> bool:
            for m in consumer.consume(count, 0.2):
                assert m.error() is None, m.error()
                headers = tuple(m.headers() or [])
                found.append(Record(m.key(), m.value(), headers, m.timestamp()[1], m.offset()))
            return len(found) >= count

        eventually(enough, f"{count} records of {topic}")
        return found
    finally:
        consumer.close()


SEND = {"kafka-python": _kafka_python_send, "aiokafka": _aiokafka_send, "confluent-kafka": _confluent_send}
READ = {"kafka-python": _kafka_python_read, "aiokafka": _aiokafka_read, "confluent-kafka": _confluent_read}
CLIENTS = list(SEND)


def send(
    address: str, topic: str, records: Sequence[Record], client: str = "confluent-kafka", codec: str | None = None
) -> list[int]:
    """Sends to partition 0 and returns the offsets."""
    return SEND[client](address, topic, records, codec)


def read(address: str, topic: str, count: int, start: int = 0, client: str = "kafka-python") -> list[Record]:
    """At least `count` records of partition 0 from `start` on."""
    return READ[client](address, topic, start, count)


# --- raw


def batch(records: Sequence[Record], producer_id: int = -1, epoch: int = -1, sequence: int = -1) -> bytearray:
    """One record batch, as a client would build it."""
    builder = MemoryRecordsBuilder(2, 0, 1 << 24, producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence)
    now = int(time.time() * 1000)
    for r in records:
        builder.append(r.timestamp or now, r.key, r.value, list(r.headers))
    builder.close()
    return bytearray(builder.buffer())


class Raw:
    """A connection that sends what it is told."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), TIMEOUT_S)
        self._correlation = 0

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None) -> None:
        self.socket.close()

    def post(self, request: Any, version: int) -> None:
        """Sends a request."""
        self._correlation += 1
        request.API_VERSION = version
        request.with_header(correlation_id=self._correlation, client_id="raw")
        self.socket.sendall(request.encode(header=True, framed=True))

    def take(self, response: Any, version: int) -> Any:
        """Receives a response."""
        size = struct.unpack(">i", self.exactly(4))[0]
        return response.decode(self.exactly(size), version=version, header=True)

    def call(self, request: Any, response: Any, version: int) -> Any:
        """Sends a request and returns what comes back."""
        self.post(request, version)
        return self.take(response, version)

    def exactly(self, size: int) -> bytes:
        """That many bytes; ConnectionError if the broker hangs up."""
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            if not more:
                raise ConnectionError("closed by the broker")
            data += more
        return data

    def closed(self) -> bool:
        """True once the broker has hung up."""
        try:
            return not self.socket.recv(1)
        except ConnectionResetError:
            return True

    def produce(
        self, topic: str, records: bytes | bytearray | None, acks: int = -1, version: int = 8, partition: int = 0
    ) -> Any:
        """Produces one batch and returns the partition's answer."""
        topic_type = ProduceRequest.TopicProduceData
        request = ProduceRequest(
            transactional_id=None,
            acks=acks,
            timeout_ms=10_000,
            topic_data=[
                topic_type(
                    name=topic,
                    partition_data=[
                        topic_type.PartitionProduceData(
                            index=partition, records=None if records is None else bytes(records)
                        )
                    ],
                )
            ],
        )
        return self.call(request, ProduceResponse, version).responses[0].partition_responses[0]

    def fetch(
        self,
        topic: str,
        offset: int,
        max_wait_ms: int = 0,
        min_bytes: int = 1,
        max_bytes: int = BYTES,
        version: int = 11,
    ) -> Any:
        """Fetches partition 0 and returns its answer."""
        self.post_fetch(topic, offset, max_wait_ms, min_bytes, max_bytes, version)
        return self.take(FetchResponse, version).responses[0].partitions[0]

    def post_fetch(
        self, topic: str, offset: int, max_wait_ms: int, min_bytes: int = 1, max_bytes: int = BYTES, version: int = 11
    ) -> None:
        """Asks for partition 0 without waiting for the answer."""
        topic_type = FetchRequest.FetchTopic
        wanted = topic_type.FetchPartition(
            partition=0,
            current_leader_epoch=-1,
            fetch_offset=offset,
            log_start_offset=-1,
            partition_max_bytes=max_bytes,
        )
        request = FetchRequest(
            replica_id=-1,
            max_wait_ms=max_wait_ms,
            min_bytes=min_bytes,
            max_bytes=max_bytes,
            isolation_level=0,
            session_id=0,
            session_epoch=-1,
            topics=[topic_type(topic=topic, partitions=[wanted])],
            forgotten_topics_data=[],
            rack_id="",
        )
        self.post(request, version)

    def offset_at(self, topic: str, timestamp: int, version: int = 5) -> tuple[int, int]:
        """(offset, timestamp) that ListOffsets gives for partition 0; -1 asks for the end, -2 for the start."""
        of = ListOffsetsRequest.ListOffsetsTopic
        wanted = of.ListOffsetsPartition(partition_index=0, current_leader_epoch=-1, timestamp=timestamp)
        request = ListOffsetsRequest(replica_id=-1, isolation_level=0, topics=[of(name=topic, partitions=[wanted])])
        ask = lambda: self.call(request, ListOffsetsResponse, version).topics[0].partitions[0]  # noqa: E731
        found = eventually(lambda: (told := ask()).error_code not in NOT_LEADING_YET and told, f"offsets of {topic}")
        assert found.error_code == 0, found
        return found.offset, found.timestamp
