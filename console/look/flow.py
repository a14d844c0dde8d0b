"""Whether every record is read: where each reader stands, looked at twice, against the ends of the logs.

A worker that is behind and gets on is only busy. One that stands still while records wait is what nobody notices: its
process lives, its group is stable, and its own view of the log may say that nothing waits.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from console.look.cluster import READS, TopicState, open_admin
from console.look.finding import Finding, ago
from headwater.kafka import BoundedReader, Span
from headwater.kafka.groups import ABSENT, group_state
from headwater.settings import Settings
from headwater.topics import EVENTS, EXAMPLES, Topic, topic_name
from streams.features.store import FeatureStore

if TYPE_CHECKING:
    from kafka import KafkaAdminClient

__all__ = ["Standing", "flow", "stands"]

LOOKS_APART_S = 2.0
"""Least time between two looks: a worker that gets on has moved in it."""

WAITED_S = 10.0
"""A record may wait for so long before a worker that has not moved counts as standing."""

READERS = [(worker, topic) for worker, topics in {**READS, "trainer": (EXAMPLES,)}.items() for topic in topics]
"""Worker and what it reads. The trainer is no member of its group: it only shows its place there, at checkpoints."""

Place = tuple[str, str, int]
"""Worker, topic of the table, partition."""


@dataclass(frozen=True)
class Standing:
    """Where each reader was at one moment.

    Fields
        at_s: when, on the monotonic clock.
        next: the offset of the record that it has to read next, by place; none where it has read nothing yet.
        committed: what its group has committed, by place.
        groups: state of each worker's group.
    """

    at_s: float
    next: Mapping[Place, int]
    committed: Mapping[Place, int]
    groups: Mapping[str, str]


def stands(settings: Settings) -> Standing:
    """Where streams, trainer and serving are now. Of `events` the store's marks count, of all else the commits.

    Raises
        HeadwaterError, KafkaError: a server is away, or does not tell.
    """
    kafka = settings.kafka
    committed: dict[Place, int] = {}
    groups: dict[str, str] = {}
    with open_admin(kafka) as admin:
        for worker in dict(READERS):
            groups[worker] = group_state(admin, kafka.prefix + worker)
            if groups[worker] != ABSENT:
                committed |= _commits(admin, kafka.prefix, worker)
    found = {place: at for place, at in committed.items() if place[1] != EVENTS.name}
    store = FeatureStore(settings.redis, kafka.prefix, privacy=settings.privacy)
    try:
        found |= {("streams", EVENTS.name, partition): mark + 1 for partition, mark in store.marks().items()}
    finally:
        store.close()
    return Standing(time.monotonic(), found, committed, groups)


def _commits(admin: KafkaAdminClient, prefix: str, worker: str) -> dict[Place, int]:
    offsets = admin.list_group_offsets(prefix + worker)[prefix + worker]
    names = {topic_name(topic, prefix): topic.name for reader, topic in READERS if reader == worker}
    return {
        (worker, names[part.topic], part.partition): int(at.offset)
        for part, at in offsets.items()
        if part.topic in names
    }


def flow(
    settings: Settings, states: list[TopicState], before: Standing, moving: Collection[str] = ()
) -> Iterator[Finding]:
    """What waits for a reader that has not moved since `before`, by topic; one finding when there is none.

    Parameters
        moving: workers that are known to get on by other signs: the trainer shows its place at checkpoints only.

    Raises
        HeadwaterError, KafkaError: a server is away, or does not tell.
    """
    by_topic = {state.topic.name: state for state in states}
    behind = any(
        end > before.next.get((worker, topic.name, partition), 0)
        for worker, topic in READERS
        for partition, (_, end) in by_topic[topic.name].partitions.items()
    )
    if behind:
        time.sleep(max(0.0, before.at_s + LOOKS_APART_S - time.monotonic()))
    now = stands(settings)
    troubled = False
    for worker, topic in READERS:
        patience_s = WAITED_S + (2 * settings.trainer.checkpoint_every_s if worker == "trainer" else 0)
        state = by_topic[topic.name]
        waiting = [] if worker in moving else _waiting(settings, worker, state, before, now, patience_s)
        if waiting:
            troubled = True
            yield _told(settings, worker, topic, now, waiting)
    if not troubled:
        yield Finding("reading", "ok", "every record of events, items, requests and examples has its reader")


class _Waiting(NamedTuple):
    """A partition whose reader stands still: where, before how many records, and for how long the first has waited."""

    partition: int
    at: int
    end: int
    oldest_s: float


def _waiting(
    settings: Settings, worker: str, state: TopicState, before: Standing, now: Standing, patience_s: float
) -> list[_Waiting]:
    """The partitions whose reader has not moved before a record that has waited for longer than patience."""
    found = []
    for partition, (begin, end) in state.partitions.items():
        place = (worker, state.topic.name, partition)
        at = max(begin, now.next.get(place, begin))
        if at >= end or now.next.get(place, -1) > before.next.get(place, -1):
            continue
        with BoundedReader(settings.kafka, state.topic) as reader:
            first = next(iter(reader.records(Span(partition, begin, at, end))), None)
        if first is None:  # only the markers of transactions are left
            continue
        waited_s = time.time() - first.timestamp / 1000
        if waited_s > patience_s:
            found.append(_Waiting(partition, at, end, waited_s))
    return found


def _told(settings: Settings, worker: str, topic: Topic, now: Standing, waiting: list[_Waiting]) -> Finding:
    name = topic_name(topic, settings.kafka.prefix)
    places = ", ".join(f"[{one.partition}]@{one.at} of {one.end}" for one in waiting)
    total, oldest_s = sum(one.end - one.at for one in waiting), max(one.oldest_s for one in waiting)
    text = (
        f"{total:,} records of {name} wait for {worker} at {places}, the oldest for {ago(oldest_s)}; it does not move"
    )
    detail: dict[str, Any] = {"waiting": [one._asdict() for one in waiting], "group": now.groups[worker]}
    passed = [one for one in waiting if now.committed.get((worker, topic.name, one.partition), 0) > one.at]
    if now.groups[worker] in (ABSENT, "Empty") and worker != "trainer":
        cause = f"nobody reads it: group {settings.kafka.prefix}{worker} has no members"
        remedy = f"start a {worker} worker (`headwater up`, or python -m {worker}.worker)"
    elif topic is EVENTS and passed:
        cause = "the store holds less than the group has committed: it was restored, failed over or emptied"
        remedy = "restart the streams workers: they begin at the store's marks"
    else:
        cause = f"the {worker} worker is away, stands still, or passes these records over"
        remedy = f"see the log and /readyz of the {worker} worker, and start it again"
    return Finding(topic.name, "wrong", text, remedy, detail, cause)
