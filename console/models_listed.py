"""What the `model` topic says: the live model and the snapshots there are, read from the beginning."""

from __future__ import annotations

from typing import Any

from console.cluster import open_consumer
from headwater.settings import KafkaSettings
from headwater.topics import MODEL, topic_name

__all__ = ["live_and_snapshots"]


def live_and_snapshots(kafka: KafkaSettings) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """The live announcement (None before the first), and those of the snapshots, newest first."""
    import orjson
    from kafka import TopicPartition

    part = TopicPartition(topic_name(MODEL, kafka.prefix), 0)
    newest: dict[str, dict[str, Any] | None] = {}
    with open_consumer(kafka) as reader:
        if not reader.partitions_for_topic(part.topic):
            return None, []
        reader.assign([part])
        reader.seek_to_beginning(part)
        end = reader.end_offsets([part])[part]
        while reader.position(part) < end:
            for record in reader.poll(timeout_ms=500).get(part, ()):
                newest[record.key.decode()] = orjson.loads(record.value) if record.value else None
    live = newest.pop("live", None)
    return live, sorted((body for body in newest.values() if body), key=lambda body: -int(body["version"]))
