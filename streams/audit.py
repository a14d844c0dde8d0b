"""Proof that every event is in the features exactly once: recompute them from the topic and compare key by key.

Before: a world whose workers have caught up. After: the demo's last line and the crash tests. Uses the worker's own
`fold_batch`, reads only, and touches no consumer group.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from headwater.dead_letters import LostLetters, read_letters
from headwater.errors import InvalidMessage
from headwater.kafka import read_partitions
from headwater.privacy import Erased
from headwater.settings import Settings
from headwater.signals import Signals
from headwater.topics import EVENTS, IDENTITIES
from headwater.wire import EventRow, read_past_events
from streams.erasing import erased_users
from streams.features.decay import Decay, ItemStatistics
from streams.features.fold import KnownBeside, Limits, fold_batch
from streams.features.state import UserState
from streams.features.store import FeatureStore
from streams.links_audit import link_differences

__all__ = [
    "BY_THE_CLOCK",
    "AuditResult",
    "Place",
    "RefusedPlaces",
    "audit",
    "read_as_folded",
    "refused_places",
    "state_differences",
]

CHUNK = 500
TOLERANCE = 1e-9
"""Relative, of a decayed weight; so absolute times log2(e) of its logarithm."""

BY_THE_CLOCK = ("event_time_ahead", "event_time_unit")
"""Reasons that another clock, or another day, would not have."""

Place = tuple[int, int, int]
"""Partition, offset, and the event's place in a packed record."""


class RefusedPlaces(dict[Place, str]):
    """Every dead letter of `events`: why, by (partition, offset, place); and what is known of letters that are gone."""

    def __init__(self, why: Iterable[tuple[Place, str]], lost: LostLetters) -> None:
        super().__init__(why)
        self.lost = lost


@dataclass(frozen=True)
class AuditResult:
    """`ok`, or where the first difference is. Events are counted inside packed records."""

    ok: bool
    first_difference: str | None
    events_produced: int
    events_applied: int
    duplicates: int
    dead_letters: int


@dataclass
class _Expected:
    """The features as the topic says they must be."""

    states: dict[str, UserState] = field(default_factory=dict)
    items: dict[str, ItemStatistics] = field(default_factory=dict)
    refused: dict[Place, str] = field(default_factory=dict)
    erased: Mapping[str, Erased] = field(default_factory=dict)
    spread: set[str] = field(default_factory=set)  # users in several partitions: the order between these is not known
    produced: int = 0
    applied: int = 0
    duplicates: int = 0


def audit(settings: Settings, copy: FeatureStore | None = None) -> AuditResult:
    """Compare the store with the `events` topic. The worker must have caught up and nothing may be written meanwhile.

    Parameters
        settings: Kafka, Redis and the world's prefix.
        copy: what is compared, where it is not the store of the settings: one that was restored, each slot as of its
            own marks.

    Returns
        ok when histories, counts and the ids remembered for duplicates are equal and decayed weights within 1e-9; else
        the first difference.

    Raises
        Unavailable: Kafka or Redis is away.
    """
    store = copy or FeatureStore(settings.redis, settings.kafka.prefix, privacy=settings.privacy)
    try:
        decay = store.read_users([]).decay
        meanings = Limits.of(settings).meanings
        dead = letters = refused_places(settings)
        expected = _Expected(erased=erased_users(settings))
        difference: str | None = None
        standing, links = store.standing(EVENTS), store.standing(IDENTITIES)
        own = None if copy is None else {slot: standing.marks_of(slot) for slot in store.slots.all}
        marks, ends = standing.marks(), None
        if own is not None:
            marks = standing.highest()
            ends = {partition: mark + 1 for partition, mark in marks.items()}
            known = ((place, why) for place, why in letters.items() if place[1] < ends.get(place[0], 0))
            dead = RefusedPlaces(known, letters.lost)
        for (partition, oldest, _, end), records in read_partitions(settings.kafka, EVENTS, end=ends):
            if oldest > 0:
                difference = (
                    difference or f"events[{partition}]: deleted below offset {oldest}, nothing to compare with"
                )
            rows: list[EventRow] = []
            for record in records:
                found = read_as_folded(record, letters, meanings)
                expected.produced += len(found)
                for place, row in enumerate(found):
                    if isinstance(row, InvalidMessage):
                        at = partition, record.offset, place
                        if at in letters or not letters.lost.may_tell_of(record):
                            expected.refused[at] = row.reason
                    elif own is None or row.offset <= own[store.slots.of(row.user_id)].get(partition, -1):
                        rows.append(row)
            _fold(expected, rows, partition, settings, decay)
            folded = marks.get(partition, -1)
            if end > 0 and folded != end - 1:
                difference = difference or f"events[{partition}]: folded up to offset {folded}, the topic ends at {end}"
        difference = difference or next(_differences(expected, store, dead), None)
        difference = difference or next(link_differences(settings, store, links if copy is not None else None), None)
    finally:
        if copy is None:
            store.close()
    return AuditResult(
        difference is None,
        difference,
        expected.produced,
        expected.applied,
        expected.duplicates,
        len(expected.refused),
    )


def refused_places(settings: Settings) -> RefusedPlaces:
    """What was refused of `events`. Raises Unavailable when Kafka or the topic is not there."""
    letters = read_letters(settings.kafka, EVENTS)
    why = (((one.partition, one.offset, one.place), one.reason) for one in letters)
    return RefusedPlaces(why, LostLetters(settings))


def read_as_folded(record: Any, dead: RefusedPlaces, meanings: Signals) -> list[EventRow | InvalidMessage]:
    """The events of one record as the worker saw them: what it refused for its time, or for a meaning that its type has
    by now, is refused, whatever is true now.

    Parameters
        record: of `events`, as kafka-python gives it.
        dead: what `refused_places` found.
        meanings: of the types in force.

    Returns
        A row, or why not, for each event.
    """
    found = read_past_events(record, meanings=meanings)
    for place, row in enumerate(found):
        reason = dead.get((record.partition, record.offset, place))
        if reason in BY_THE_CLOCK or reason == "items_not_exposure":
            found[place] = InvalidMessage(reason, "")
        elif isinstance(row, EventRow) and dead.lost.refuses(record, row.time_ms):
            found[place] = InvalidMessage("event_time_unit", "")
    return found


def _fold(expected: _Expected, rows: list[EventRow], partition: int, settings: Settings, decay: Decay | None) -> None:
    limits = Limits.of(settings)
    beside = KnownBeside(erased=expected.erased)
    folded = fold_batch(expected.states, rows, limits, decay or Decay(0, 1.0), partition, beside=beside)
    expected.spread |= folded.states.keys() & expected.states.keys()
    expected.states |= folded.states
    expected.applied += folded.applied
    expected.duplicates += folded.duplicates
    for item, statistics in folded.items.items():
        if item in expected.items:
            expected.items[item].merge(statistics)
        else:
            expected.items[item] = statistics


def _differences(expected: _Expected, store: FeatureStore, dead: Mapping[Place, str]) -> Iterator[str]:
    for place in expected.refused.keys() | dead.keys():
        told, found = expected.refused.get(place), dead.get(place)
        if told != found:
            partition, offset, index = place
            yield f"events[{partition}]@{offset}, event {index}: refused as {told}, dead-letters has {found}"
    totals = ItemStatistics()
    wanted = {item: settled for item, one in expected.items.items() if (settled := one.settled()).counts}
    for one in wanted.values():
        totals.count(one)
    for kind, ids in (("u", expected.states.keys()), ("i", wanted.keys())):
        for key in set(store.ids(kind)) - ids:  # type: ignore[arg-type]
            yield f"{store.prefix}{kind}:{key} is in the store; no event of the topic is about it"
    for users in _chunks(expected.states):
        reading = store.read_users(users, ())
        for user in users:
            key, ordered = f"{store.prefix}u:{user}", user not in expected.spread
            if user in reading.states:
                yield from state_differences(key, expected.states[user], reading.states[user], ordered)
            else:
                yield f"{key}: holds no state" if user in reading.damaged else f"{key}: {reading.newer[user]}"
    for items in _chunks(wanted):
        for item, statistics in zip(items, store.item_statistics(items), strict=True):
            taken = expected.items[item].log2_taken
            yield from _item_differences(f"{store.prefix}i:{item}", wanted[item], statistics, taken)
    yield from _item_differences(f"{store.prefix}totals", totals, store.totals(), -math.inf)


def _chunks(keys: Mapping[str, Any]) -> Iterator[list[str]]:
    rest = iter(keys)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk


def state_differences(key: str, expected: UserState, found: UserState, ordered: bool) -> Iterator[str]:
    """Where a user's state is other than the topic says; `ordered`: its events lie in one partition."""
    if expected.count != found.count:
        yield f"{key}: {found.count} events folded, {expected.count} are in the topic"
    for name in ("history", "shown", "reacted", "undos", "undone"):
        ours, theirs = list(getattr(expected, name)), list(getattr(found, name))
        if not ordered:
            ours.sort(key=repr)
            theirs.sort(key=repr)
        if ours != theirs:
            both = zip(ours, theirs, strict=False)
            at = next((i for i, (a, b) in enumerate(both) if a != b), min(len(ours), len(theirs)))
            yield f"{key}: {name} differs at {at}: {theirs[at : at + 1]}, the topic says {ours[at : at + 1]}"
    word, known = (None if one.word is None else one.word.said for one in (expected, found))
    if word != known:
        yield f"{key}: goes by {known}, the topic says {word}"
    if ordered and expected.recent != found.recent:
        yield f"{key}: the ids remembered for duplicates differ"


def _item_differences(key: str, expected: ItemStatistics, found: ItemStatistics, taken: float) -> Iterator[str]:
    """`taken`: log2 of the weight that undone events had. What is left beside it is as exact as the whole was."""
    if _counts(expected) != _counts(found):
        yield f"{key}: {_counts(found)}; the topic says {_counts(expected)}"
    elif not _is_close(expected.log2_sum, found.log2_sum, taken):
        yield f"{key}: log2 of the decayed weight is {found.log2_sum!r}, the topic says {expected.log2_sum!r}"


def _counts(statistics: ItemStatistics) -> dict[str, int]:
    by_meaning = {name: getattr(statistics, name) for name in ("positive", "negative", "exposures")}
    return {**statistics.counts, **{f"({name})": count for name, count in by_meaning.items() if count}}


def _is_close(expected: float, found: float, taken: float) -> bool:
    if math.isclose(expected, found, rel_tol=0, abs_tol=TOLERANCE * math.log2(math.e)):
        return True
    if -math.inf in (expected, found, taken):
        return False
    ours, theirs = (math.exp2(min(one - taken, 1000.0)) for one in (expected, found))
    return abs(ours - theirs) <= TOLERANCE
