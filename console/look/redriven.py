"""How far dead letters have been sent again: kept as the commit of a group that nobody joins."""

from __future__ import annotations

from console.look.cluster import open_consumer
from headwater.settings import KafkaSettings
from headwater.topics import DEAD_LETTERS, topic_name

__all__ = ["mark_redriven", "redriven"]

GROUP = "redrive"


def redriven(kafka: KafkaSettings) -> int:
    """Offset of the newest dead letter that a redrive of all reasons has sent again; -1 when none was."""
    from kafka import TopicPartition

    part = TopicPartition(topic_name(DEAD_LETTERS, kafka.prefix), 0)
    with open_consumer(kafka, GROUP) as reader:
        reader.assign([part])
        committed = reader.committed(part)
        return -1 if committed is None else int(committed) - 1


def mark_redriven(kafka: KafkaSettings, offset: int) -> None:
    """Dead letters up to this one have been sent again."""
    from kafka import TopicPartition
    from kafka.structs import OffsetAndMetadata

    part = TopicPartition(topic_name(DEAD_LETTERS, kafka.prefix), 0)
    with open_consumer(kafka, GROUP) as reader:
        reader.assign([part])
        reader.commit({part: OffsetAndMetadata(offset + 1, "", -1)})
