"""What the broker knows of a consumer group: whether it has members, what it has committed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

from headwater.kafka.connections import admin_client, consumer
from headwater.settings import KafkaSettings
from headwater.topics import Topic, topic_name

if TYPE_CHECKING:
    from kafka.admin import KafkaAdminClient

__all__ = ["ABSENT", "commit_offsets", "committed_offsets", "group_description", "group_runs", "group_state"]

ABSENT = "Absent"
"""The state of a group that the broker does not know: nobody has joined it yet, or all it committed is too old."""

COORDINATOR_S = 5.0


def group_description(admin: KafkaAdminClient, group: str) -> dict[str, Any] | None:
    """What the broker says of a group, as kafka-python gives it; None where it has no coordinator yet.

    Raises
        KafkaError: it does not answer, or does not let us ask.
    """
    from kafka.errors import CoordinatorNotAvailableError

    deadline = time.monotonic() + COORDINATOR_S
    while True:
        try:
            described: dict[str, Any] = admin.describe_groups([group])[group]
            return described
        except CoordinatorNotAvailableError:  # a cluster that has never had a group makes their topic first
            if time.monotonic() > deadline:
                return None
            time.sleep(0.2)


def group_state(admin: KafkaAdminClient, group: str) -> str:
    """What the broker says of a group: Stable, Empty (it has no members), ..., or Absent.

    Raises
        KafkaError: it does not tell, such as GroupAuthorizationFailedError.
    """
    from kafka.errors import GroupAuthorizationFailedError

    described = group_description(admin, group)
    if described is None:
        return ABSENT
    if GroupAuthorizationFailedError.__name__ in str(described.get("error")):
        raise GroupAuthorizationFailedError(group)
    state = str(described.get("group_state") or described.get("state_name") or described.get("state"))
    return ABSENT if state == "Dead" else state


def group_runs(kafka: KafkaSettings, group: str) -> bool:
    """Whether a group of this world has members.

    Raises
        Unavailable: Kafka is away.
    """
    with closing(admin_client(kafka)) as admin:
        return group_state(admin, kafka.prefix + group) not in (ABSENT, "Empty")


def committed_offsets(kafka: KafkaSettings, group: str, topics: Iterable[Topic]) -> dict[str, dict[int, int]]:
    """By name in the table, partition -> the offset that a group of this world has committed, where it has.

    Raises
        Unavailable: Kafka is away.
    """
    from kafka import TopicPartition

    found: dict[str, dict[int, int]] = {}
    with closing(consumer(kafka, group)) as client:
        there = client.topics()
        for topic in topics:
            name = topic_name(topic, kafka.prefix)
            numbers = sorted(client.partitions_for_topic(name) or ()) if name in there else ()
            offsets = {number: client.committed(TopicPartition(name, number)) for number in numbers}
            found[topic.name] = {number: offset for number, offset in offsets.items() if offset is not None}
    return found


def commit_offsets(kafka: KafkaSettings, group: str, offsets: Mapping[str, Mapping[int, int]]) -> None:
    """Let a group of this world, which has no members, go on at these offsets, by topic as the table names it.

    Raises
        Unavailable: Kafka is away.
    """
    from kafka import TopicPartition
    from kafka.structs import OffsetAndMetadata

    wanted = {
        TopicPartition(topic_name(topic, kafka.prefix), number): OffsetAndMetadata(offset, "", -1)
        for topic, several in offsets.items()
        for number, offset in several.items()
    }
    if wanted:
        with closing(consumer(kafka, group)) as client:
            client.assign(list(wanted))
            client.commit(wanted)
