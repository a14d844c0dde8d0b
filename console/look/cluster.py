"""What a cluster holds: partitions, offsets, sizes, groups and their lag, asked through Kafka's own protocol.

Answers are plain values; nothing is printed here.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headwater.errors import SettingsError, Unavailable
from headwater.kafka import admin_client, consumer
from headwater.kafka.groups import ABSENT, group_state
from headwater.settings import KafkaSettings
from headwater.topics import DEAD_LETTERS, EVENTS, IDENTITIES, ITEMS, REQUESTS, TOPICS, USERS, Topic, topic_name

if TYPE_CHECKING:
    from kafka import KafkaAdminClient, KafkaConsumer

__all__ = ["GroupLag", "TopicState", "group_lags", "is_missing", "misspelt_topics"]
__all__ += ["must_exist", "open_admin", "open_consumer", "topic_states"]

LIKE = 0.8
"""How much a topic's name resembles one of ours (difflib's ratio) before it is taken for a misspelt one."""


@dataclass(frozen=True)
class TopicState:
    """A topic of the table as the cluster has it.

    Fields
        partitions: begin and end offset by partition; empty when the cluster lacks the topic, or does not show it.
        bytes: on disk; None where the broker does not tell.
        denied: this Kafka user may not see the topic, so nobody knows whether it is there.
    """

    topic: Topic
    name: str
    partitions: dict[int, tuple[int, int]]
    bytes: int | None
    denied: bool = False

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
    from kafka.errors import TopicAuthorizationFailedError, UnknownTopicOrPartitionError

    names = [topic_name(topic, kafka.prefix) for topic in TOPICS]
    with open_admin(kafka) as admin, open_consumer(kafka) as reader:
        # asked by name: a list of all topics leaves out what a user may not see
        errors = {one["name"]: one["error_code"] for one in admin.describe_topics(names)}
        sizes = _sizes(admin)
        states = []
        for topic, name in zip(TOPICS, names, strict=True):
            if topic.made_when_used and errors.get(name) == UnknownTopicOrPartitionError.errno:
                continue  # nobody has used it yet
            denied = errors.get(name) == TopicAuthorizationFailedError.errno
            partitions = {} if errors.get(name) else _ranges(reader, name)
            states.append(TopicState(topic, name, partitions, sizes.get(name) if sizes is not None else None, denied))
        return states


def is_missing(kafka: KafkaSettings, topic: Topic | str) -> bool:
    """Whether the cluster lacks a topic.

    Raises
        SettingsError: this Kafka user may not see it, so nobody knows.
        Unavailable: no Kafka answers.
    """
    from kafka.errors import TopicAuthorizationFailedError, UnknownTopicOrPartitionError

    name = topic_name(topic, kafka.prefix)
    with open_admin(kafka) as admin:
        code = admin.describe_topics([name])[0]["error_code"]
    if code == TopicAuthorizationFailedError.errno:
        raise SettingsError(
            f"{kafka.bootstrap} does not show {name} to Kafka user {kafka.sasl_username!r}: grant it Describe on the "
            "topic, and Write to send or Read to read (kafka-acls --add)"
        )
    return bool(code == UnknownTopicOrPartitionError.errno)


def must_exist(kafka: KafkaSettings, topic: Topic | str) -> None:
    """To be asked before a topic is read that may be missing: an empty answer would say that nothing is in it.

    Raises
        Unavailable: it is not there, or no Kafka answers.
        SettingsError: this Kafka user may not see it.
    """
    if is_missing(kafka, topic):
        name = topic_name(topic, kafka.prefix)
        raise Unavailable(
            f"{kafka.bootstrap} has no topic {name}: is the prefix {kafka.prefix!r} right? The workers make the topics "
            "when they start"
        )


def misspelt_topics(kafka: KafkaSettings) -> dict[str, str]:
    """Topics that look like ours, hold records and have been read by no group: name -> the one that it resembles.

    Those of another world (another prefix, with dead letters of its own) are none.
    """
    from kafka import TopicPartition

    ours = [topic_name(topic, kafka.prefix) for topic in TOPICS]
    with open_admin(kafka) as admin, open_consumer(kafka) as reader:
        like, there = {}, set(admin.list_topics())
        for name in there.difference(ours):
            prefix = next((name.removesuffix(one.name) for one in TOPICS if name.endswith(one.name)), None)
            found = difflib.get_close_matches(name.lower().replace("_", "-"), ours, 1, LIKE)
            if found and (prefix is None or topic_name(DEAD_LETTERS, prefix) not in there):
                like[name] = found[0]
        parts = [TopicPartition(name, number) for name in like for number in reader.partitions_for_topic(name) or ()]
        begins, ends = (reader.beginning_offsets(parts), reader.end_offsets(parts)) if parts else ({}, {})
        holds = {part.topic for part in parts if ends[part] > begins[part]}
        groups = [group["group_id"] for group in admin.list_groups()] if holds else []
        read = {part.topic for group in groups for part in admin.list_group_offsets(group)[group]}
        return {name: like[name] for name in holds - read}


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


READS: dict[str, tuple[Topic, ...]] = {
    "streams": (EVENTS, ITEMS, USERS, IDENTITIES, DEAD_LETTERS),
    "serving": (REQUESTS,),
}
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
            state = group_state(admin, group) if group in listed or group in ours else ABSENT
            if state != ABSENT:
                for part, at in admin.list_group_offsets(group)[group].items():
                    committed.setdefault(part.topic, {})[part.partition] = at.offset
            for topic in sorted(committed.keys() & ranges.keys()):
                behind = sum(
                    max(0, end - max(begin, committed[topic].get(partition, begin)))
                    for partition, (begin, end) in ranges[topic].items()
                )
                if behind or state != ABSENT:
                    found.append(GroupLag(group, topic, behind, state))
    return found
