"""What the `model` topic says: the live model and the snapshots there are, read from the beginning.

Before: the trainer's announcements, and whatever else was written there. After: doctor and rollback.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from console.look.cluster import open_consumer
from headwater.errors import InvalidMessage
from headwater.settings import KafkaSettings
from headwater.topics import MODEL, topic_name

__all__ = ["ModelsListed", "models_listed"]

MOST_NAMED = 3
"""Of foreign records, how many are named with their place, the newest first."""


class ModelsListed(NamedTuple):
    """The live announcement (None before the first), those of the snapshots, newest first, and what is none of ours."""

    live: dict[str, Any] | None
    snapshots: list[dict[str, Any]]
    foreign: list[str]

    @property
    def foreign_text(self) -> str:
        """How many records are none of ours, and where the newest of them are; empty when there are none."""
        if not self.foreign:
            return ""
        named = ", ".join(self.foreign[: -MOST_NAMED - 1 : -1]) + (", ..." if len(self.foreign) > MOST_NAMED else "")
        return f"{len(self.foreign)} foreign record(s) passed over: {named}"


def models_listed(kafka: KafkaSettings) -> ModelsListed:
    """All that the topic says now."""
    import orjson
    from kafka import TopicPartition

    from trainer.registry import read_announcement

    part = TopicPartition(topic_name(MODEL, kafka.prefix), 0)
    newest: dict[int, dict[str, Any] | None] = {}
    foreign: list[str] = []
    with open_consumer(kafka) as reader:
        if not reader.partitions_for_topic(part.topic):
            return ModelsListed(None, [], [])
        reader.assign([part])
        reader.seek_to_beginning(part)
        end = reader.end_offsets([part])[part]
        while reader.position(part) < end:
            for record in reader.poll(timeout_ms=500).get(part, ()):
                try:
                    version, said = read_announcement(record.key, record.value)
                except InvalidMessage as error:
                    foreign.append(f"{part.topic}[{part.partition}]@{record.offset} ({error})")
                    continue
                newest[version] = None if said is None else orjson.loads(record.value)
    live = newest.pop(0, None)
    snapshots = sorted((body for body in newest.values() if body), key=lambda body: -int(body["version"]))
    return ModelsListed(live, snapshots, foreign)
