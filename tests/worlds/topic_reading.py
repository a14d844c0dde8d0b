"""What is on a topic, read by a plain consumer, the events of it as the streams worker reads them, and its limit."""

from __future__ import annotations

from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from headwater.kafka import admin_client
from headwater.settings import KafkaSettings
from headwater.wire import EventRow, TimeBounds, read_events


class NotUtf8(str):
    """The name of a header that no client but librdkafka would send."""

    def encode(self, *_: object, **__: object) -> bytes:
        return b"\xff" + super().encode()


def everything(kafka: KafkaSettings, topic: str) -> list[Any]:
    """All records of a topic, by a plain consumer."""
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest", enable_auto_commit=False)
    try:
        name = kafka.prefix + topic
        partitions = [TopicPartition(name, number) for number in sorted(consumer.partitions_for_topic(name) or ())]
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        records: list[Any] = []
        while any(consumer.position(one) < ends[one] for one in partitions):
            for batch in consumer.poll(timeout_ms=200).values():
                records += batch
        return sorted(records, key=lambda record: (record.partition, record.offset))
    finally:
        consumer.close()


def rows(records: list[Any]) -> list[EventRow]:
    """Events as the streams worker reads them."""
    read = [
        row
        for record in records
        for row in read_events(
            record.value, key=record.key, headers=record.headers, partition=record.partition, offset=record.offset,
            timestamp_ms=record.timestamp, times=TimeBounds(0, record.timestamp, 60_000),
        )
    ]  # fmt: skip
    assert all(isinstance(row, EventRow) for row in read), read
    return [row for row in read if isinstance(row, EventRow)]


def limit_records(kafka: KafkaSettings, topic: str, most_bytes: int = 1_048_588) -> None:
    """Let the broker refuse larger batches of a topic; without a size, as Kafka does by default."""
    admin = admin_client(kafka)
    try:
        configs = {"max.message.bytes": str(most_bytes)}
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, kafka.prefix + topic, configs=configs)])
    finally:
        admin.close()
