"""The features of a world that goes on running, against its topic: each user as of the marks it was read with.

Before: `headwater audit features`. After: nothing is changed; it reads, and touches no consumer group. The states of a
slot hold every event at or below its marks and none above (`store.values.Reading`), so what the topic says up to there
is what they must be, whatever is written meanwhile. Marks that lie below what the group has committed tell of a store
that lost what it had: a store without marks agrees with everything. `streams.audit` compares a world that stands
still, whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from headwater.errors import InvalidMessage
from headwater.kafka import BoundedReader, read_partitions
from headwater.kafka.groups import committed_offsets
from headwater.privacy import Erased
from headwater.settings import Settings
from headwater.topics import EVENTS, IDENTITIES, ITEMS, USERS, Topic
from headwater.wire import EventRow
from streams.audit import RefusedPlaces, read_as_folded, refused_places, state_differences
from streams.erasing import ErasedUsers, erased_users
from streams.features.decay import Decay
from streams.features.fold import KnownBeside, Limits, fold_batch, is_gone
from streams.features.marks import lost_records
from streams.features.state import UserState
from streams.features.store import FeatureStore

__all__ = ["RunningAudit", "audit_running"]

CHUNK = 500
ROWS = 5000
"""Events folded at once: what a partition holds need not fit into memory."""

NAMED = 100
"""Differences that are named; the others are counted."""

MARKED = (EVENTS, ITEMS, USERS, IDENTITIES)
"""Topics whose records the store has up to its marks."""

GROUP = "streams"

Marks = Mapping[int, int]


class Lacking(NamedTuple):
    """Of a topic, how many of the records that the group has committed are not in the store."""

    lost: int
    of: int


@dataclass
class RunningAudit:
    """What was found.

    Fields
        users: that were compared.
        events: of the topic that their states hold, duplicates left out.
        older: users of whom the topic does not hold all events any more, or who have some of a log that was before this
            one: not judged.
        differing: users that are other than the topic says; `differences` names the first.
        deleted: partition of `events` -> its oldest offset, where there were older ones.
        lacking: by topic, where the store is behind what the group `streams` has committed.
    """

    users: int = 0
    events: int = 0
    older: int = 0
    differing: int = 0
    differences: list[str] = field(default_factory=list)
    deleted: dict[int, int] = field(default_factory=dict)
    lacking: dict[str, Lacking] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Nothing differs, and nothing is lacking."""
        return not self.differing and not self.lacking


@dataclass
class _Snapshot:
    """The store as it was read: each user with the marks of its slot at that moment."""

    store: FeatureStore
    at_first: dict[int, Marks] = field(default_factory=dict)  # by slot, before any user was read
    states: dict[str, UserState] = field(default_factory=dict)
    marks: dict[str, Marks] = field(default_factory=dict)  # by user; one object a slot and a reading
    odd: dict[str, str] = field(default_factory=dict)  # user -> what its key holds instead of a state
    decay: Decay | None = None
    earlier: bool = False  # whether the store went on beside another log, and remembers it

    def read(self) -> None:
        """All of it."""
        first = self.store.read_users([], slots=self.store.slots.all)
        self.decay = first.decay
        self.earlier = self.store.knows_earlier_log()
        self.at_first = {slot: marks.events for slot, marks in first.slots.items()}
        names = self.store.ids("u")
        while users := list(islice(names, CHUNK)):
            reading = self.store.read_users(users, ())
            self.decay = reading.decay or self.decay
            self.states |= reading.states
            self.odd |= dict.fromkeys(reading.damaged, "holds no state")
            self.odd |= {user: str(error) for user, error in reading.newer.items()}
            self.marks |= {user: reading.slots[reading.slot_of[user]].events for user in users}

    def mark_of(self, user: str, partition: int) -> int:
        """Up to which offset the user's state holds the partition; of one that was not there, what must have been."""
        marks = self.marks.get(user)
        if marks is None:
            marks = self.at_first.get(self.store.slots.of(user), {})
        return marks.get(partition, -1)


def audit_running(settings: Settings) -> RunningAudit:
    """Compare every user's state with the topic, while the workers go on.

    Parameters
        settings: Kafka, Redis and the world's prefix.

    Raises
        Unavailable: Kafka or Redis is away.
        StoreDamaged: the store's marks or its landmark hold what nobody wrote.
    """
    store = FeatureStore(settings.redis, settings.kafka.prefix, privacy=settings.privacy)
    try:
        found = RunningAudit(lacking=_lacking(settings, store))
        snapshot = _Snapshot(store)
        snapshot.read()
        dead = refused_places(settings)  # after the marks: whatever was refused below them is there
        expected, spread = _folded(settings, snapshot, dead, found)
    finally:
        store.close()
    for user in expected.keys() | snapshot.states.keys() | snapshot.odd.keys():
        _compare(f"{store.slots.user('u', user)}", user, expected.get(user), snapshot, user in spread, found)
    return found


def _lacking(settings: Settings, store: FeatureStore) -> dict[str, Lacking]:
    committed = committed_offsets(settings.kafka, GROUP, MARKED)  # before the marks, which never fall behind it
    found = {}
    for topic in MARKED:
        own = committed.get(topic.name, {})
        lost, of = _behind(settings, topic, own, store.standing(topic).marks()) if own else (0, 0)
        if lost:
            found[topic.name] = Lacking(lost, of)
    return found


def _behind(settings: Settings, topic: Topic, committed: Marks, marks: Marks) -> tuple[int, int]:
    """How many records of those that the group has committed and the log still holds the store has not; and of them."""
    with BoundedReader(settings.kafka, topic) as reader:
        spans = reader.spans(end=committed)
    begins, ends = {one.partition: one.oldest for one in spans}, {one.partition: one.end for one in spans}
    of = sum(max(0, one.end - one.oldest) for one in spans)
    return sum(lost_records(marks, committed, begins, ends).values()), of


def _folded(
    settings: Settings, snapshot: _Snapshot, dead: RefusedPlaces, found: RunningAudit
) -> tuple[dict[str, UserState], set[str]]:
    """What the topic says of each user as of its marks; and those whose events lie in several partitions."""
    limits, decay = Limits.of(settings), snapshot.decay or Decay(0, 1.0)
    erased = erased_users(settings)
    met = ErasedUsers({})  # that the log has forgotten so far, also without a fact
    states: dict[str, UserState] = {}
    spread: set[str] = set()
    for (partition, oldest, _, _), records in read_partitions(settings.kafka, EVENTS):
        if oldest > 0:
            found.deleted[partition] = oldest
        before, here = set(states), set[str]()
        rows = _rows(records, dead, limits, snapshot, partition, erased)
        while some := list(islice(rows, ROWS)):
            folded = fold_batch(states, some, limits, decay, partition, beside=KnownBeside(erased=met))
            states |= folded.states
            met.add(folded.forgotten)
            here |= folded.states.keys()
            found.events += folded.applied
        spread |= before & here
    return {user: state for user, state in states.items() if state.count}, spread


def _rows(
    records: Iterator[object],
    dead: RefusedPlaces,
    limits: Limits,
    snapshot: _Snapshot,
    partition: int,
    erased: Mapping[str, Erased],
) -> Iterator[EventRow]:
    for record in records:
        for row in read_as_folded(record, dead, limits.meanings):
            if isinstance(row, InvalidMessage) or row.offset > snapshot.mark_of(row.user_id, partition):
                continue
            since = erased.get(row.user_id) if erased else None
            forgot = since is not None and since.offset <= snapshot.mark_of(row.user_id, since.partition)
            if not (forgot and is_gone(since, row, partition)):
                yield row


def _compare(
    key: str, user: str, expected: UserState | None, snapshot: _Snapshot, unordered: bool, found: RunningAudit
) -> None:
    state, odd = snapshot.states.get(user), snapshot.odd.get(user)
    here = expected.count if expected is not None else 0
    restored = snapshot.earlier or not snapshot.marks.get(user)  # marks that are lost otherwise are lacking
    if (found.deleted or restored) and state is not None and state.count > here:
        found.older += 1
        return
    found.users += 1
    if odd is not None:
        difference: str | None = f"{key}: {odd}"
    elif state is None:
        difference = f"{key}: is not in the store; the topic has {here} events of it at or below its mark"
    elif expected is None:
        difference = f"{key}: is in the store; no event of the topic at or below its mark is about it"
    else:
        difference = next(state_differences(key, expected, state, not unordered), None)
    if difference is not None:
        found.differing += 1
        if len(found.differences) < NAMED:
            found.differences.append(difference)
