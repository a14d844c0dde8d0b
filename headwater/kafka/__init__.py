"""Kafka clients with the project's settings, topics made and found, and topics read from here to there."""

from headwater.kafka.connections import (
    admin_client,
    consumer,
    denied_topics,
    ensure_topics,
    existing_topic,
    not_allowed,
    producer,
    whoami,
)
from headwater.kafka.producer import abandon
from headwater.kafka.reading import BoundedReader, Span, end_offsets, holds_records, read_partitions, read_topic
from headwater.kafka.rights import take_part

__all__ = [
    "BoundedReader",
    "Span",
    "abandon",
    "admin_client",
    "consumer",
    "denied_topics",
    "end_offsets",
    "ensure_topics",
    "existing_topic",
    "holds_records",
    "not_allowed",
    "producer",
    "read_partitions",
    "read_topic",
    "take_part",
    "whoami",
]
