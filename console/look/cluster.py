"""What a cluster holds: partitions, offsets, sizes, groups and their lag, asked through Kafka's own protocol.

Answers are plain values; nothing is printed here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headwater.kafka import admin_client, consumer
from headwater.settings import KafkaSettings
from headwater.topics import DEAD_LETTERS, EVENTS, ITEMS, REQUESTS, TOPICS, Topic, topic_name

if TYPE_CHECKING:
    from kafka import KafkaAdminClient, KafkaConsumer

__all__ = ["ABSENT", "GroupLag", "TopicState", "group_lags", "group_state", "open_admin", "open_consumer"]
__all__ += ["topic_states"]

ABSENT = "Absent"
"""The state of a group that the broker does not know."""


@dataclass(frozen=True)
class TopicState:
    """A topic of the table as the cluster has it. `partitions` is empty when the cluster lacks it."""

    topic: Topic
    name: str
    partitions: dict[int, tuple[int, int]]
    bytes: int | None

    @property
    def records(self) -> int:
        """Offsets between begin and end: the number of records, before compaction."""
        return sum(end - begin for begin, end in self.partitions.values())


@dataclass(frozen=True)
class GroupLag:
    """How far a consumer group is behind on one topic, in records."""

    group: str
    topic: str
    lag: int
    state: str


@contextlib.contextmanager
def open_admin(kafka: KafkaSettings) -> Iterator[KafkaAdminClient]:
    """An admin client, closed at the end. Raises Unavailable."""
    admin = admin_client(kafka)
    try:
        yield admin
    finally:
        admin.close()


@contextlib.contextmanager
def open_consumer(kafka: KafkaSettings, group: str | None = None, **overrides: Any) -> Iterator[KafkaConsumer]:
    """A consumer, closed at the end. Raises Unavailable."""
    opened = consumer(kafka, group, **overrides)
    try:
        yield opened
    finally:
        opened.close()


def topic_states(kafka: KafkaSettings) -> list[TopicState]:
    """The topics of the table under the prefix, in the table's order."""
    with open_admin(kafka) as admin, open_consumer(kafka) as reader:
        present = set(admin.list_topics())
        sizes = _sizes(admin)
        states = []
        for topic in TOPICS:
            name = topic_name(topic, kafka.prefix)
            partitions = _ranges(reader, name) if name in present else {}
            states.append(TopicState(topic, name, partitions, sizes.get(name) if sizes is not None else None))
        return states


def _ranges(reader: KafkaConsumer, name: str) -> dict[int, tuple[int, int]]:
    from kafka import TopicPartition

    parts = [TopicPartition(name, number) for number in sorted(reader.partitions_for_topic(name) or ())]
    begins, ends = reader.beginning_offsets(parts), reader.end_offsets(parts)
    return {part.partition: (begins[part], ends[part]) for part in parts}


def _sizes(admin: KafkaAdminClient) -> dict[str, int] | None:
    """Topic -> bytes on disk; None where the broker does not tell."""
    from kafka.errors import KafkaError

    try:
        answers = admin.describe_log_dirs()
    except (KafkaError, NotImplementedError):
        return None
    sizes: dict[str, int] = {}
    for answer in answers:
        for directory in answer["log_dirs"]:
            for topic in directory["topics"]:
                size = sum(partition["partition_size"] for partition in topic["partitions"])
                sizes[topic["name"]] = sizes.get(topic["name"], 0) + size
    return sizes


def group_state(admin: KafkaAdminClient, group: str) -> str:
    """What the broker says of a group: Stable, Empty (it has no members), ..., or Absent.

    Raises
        KafkaError: it does not tell, such as GroupAuthorizationFailedError.
    """
    from kafka.errors import GroupAuthorizationFailedError

    described = admin.describe_groups([group])[group]
    if "Authorization" in str(described.get("error")):
        raise GroupAuthorizationFailedError(group)
    state = str(described.get("group_state") or described.get("state_name") or described.get("state"))
    return ABSENT if state == "Dead" else state


READS: dict[str, tuple[Topic, ...]] = {"streams": (EVENTS, ITEMS, DEAD_LETTERS), "serving": (REQUESTS,)}
"""Which topics our own groups read: a partition that such a group has never committed counts from its beginning."""


def group_lags(kafka: KafkaSettings, states: list[TopicState]) -> list[GroupLag]:
    """Lag of every consumer group of the prefix, by topic.

    A group that has committed any partition of a topic reads all of them; our own groups are known to read theirs. What
    was never committed waits since the beginning of the partition. A group of ours that the broker does not know at all
    is named (state `Absent`) when records wait for it.
    """
    ranges = {state.name: state.partitions for state in states}
    found: list[GroupLag] = []
    with open_admin(kafka) as admin:
        listed = {str(group["group_id"]) for group in admin.list_groups()}
        ours = {kafka.prefix + group for group in READS}
        for group in sorted(ours | {name for name in listed if name.startswith(kafka.prefix)}):
            committed: dict[str, dict[int, int]] = {
                topic_name(topic, kafka.prefix): {} for topic in READS.get(group.removeprefix(kafka.prefix), ())
            }
            state = ABSENT
            if group in listed:
                state = group_state(admin, group)
                for part, at in admin.list_group_offsets(group)[group].items():
                    committed.setdefault(part.topic, {})[part.partition] = at.offset
            for topic in sorted(committed.keys() & ranges.keys()):
                behind = sum(
                    max(0, end - max(begin, committed[topic].get(partition, begin)))
                    for partition, (begin, end) in ranges[topic].items()
                )
                if behind or group in listed:
                    found.append(GroupLag(group, topic, behind, state))
    return found
