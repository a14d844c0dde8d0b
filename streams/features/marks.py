"""Whether the store's marks belong to the log that is there: a mark at or beyond the end of its partition does not.

Before: a topic that was deleted and made anew, or a broker that lost its data, beside a store that was kept. After: the
worker stops, `headwater doctor` says what to do. Without this every new event would be dropped as folded before.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

from headwater.errors import AnotherLog
from headwater.kafka import end_offsets
from headwater.settings import KafkaSettings
from headwater.topics import EVENTS, topic_name
from streams.features.store import FeatureStore

__all__ = ["after", "another_log", "beyond_log", "check_log", "lost_records"]

Partition = TypeVar("Partition", bound=Hashable)


def after(marks: Mapping[int, int]) -> dict[int, int]:
    """The offsets from which reading goes on."""
    return {partition: offset + 1 for partition, offset in marks.items()}


def beyond_log(marks: Mapping[int, int], ends: Mapping[int, int]) -> list[int]:
    """The partitions whose mark is at or beyond their end offset. Marks must be older than ends."""
    return sorted(partition for partition, mark in marks.items() if mark >= ends.get(partition, mark + 1))


def another_log(marks: Mapping[int, int], ends: Mapping[int, int], kafka: KafkaSettings) -> AnotherLog | None:
    """What is wrong when a mark is at or beyond the end offset of its partition. Marks must be older than ends."""
    beyond = beyond_log(marks, ends)
    if not beyond:
        return None
    topic = topic_name(EVENTS, kafka.prefix)
    found = ", ".join(f"{topic}[{one}] ends at {ends[one]} and its mark is {marks[one]}" for one in beyond)
    return AnotherLog(
        f"{found}: the store has folded another, longer log, and would take new events for known ones",
        "Bring the log back; or, to fold this one from its beginning, stop the streams workers, run "
        f"`headwater accept-gap --events{f' --prefix {kafka.prefix}' if kafka.prefix else ''}`, and start them again: "
        "events that the histories still know change nothing.",
    )


def lost_records(
    marks: Mapping[Partition, int],
    committed: Mapping[Partition, int],
    begins: Mapping[Partition, int],
    ends: Mapping[Partition, int],
) -> dict[Partition, int]:
    """What the store has not, although it had: records that the group has committed and that the log still holds.

    Parameters
        marks: partition -> offset of the newest record whose effect the store has. Read after `committed`: these never
            fall behind it but by a loss.
        committed: partition -> offset that the group `streams` has committed.
        begins, ends: of the log.

    Returns
        Partition -> number of records, of those partitions that miss any.
    """
    lost = {
        partition: min(committed.get(partition, 0), end) - max(begins.get(partition, 0), marks.get(partition, -1) + 1)
        for partition, end in ends.items()
    }
    return {partition: records for partition, records in lost.items() if records > 0}


def check_log(kafka: KafkaSettings, store: FeatureStore) -> None:
    """Compare marks and log now. Raises AnotherLog, or Unavailable when a server does not answer."""
    _, marks = store.marks_and_highest(EVENTS)
    wrong = another_log(marks, end_offsets(kafka, EVENTS), kafka)
    if wrong is not None:
        raise wrong
