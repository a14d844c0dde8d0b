"""Users made again from the log, when what the store holds of them is no state that anybody wrote.

Before: `streams.rounds` reads a key with garbage in it. After: the state as it was folded, as far as the log goes.
Every partition is read up to the mark of the user's slot, for producers may put a user's events anywhere; a record
without the user's id in it is not decoded. So is what users had done whom the log forgets further on, where a store is
filled again and who did so is gone: the next one counts for items as the first would have, and none of it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from headwater.consent import CONSENT
from headwater.errors import InvalidMessage
from headwater.kafka import read_partitions
from headwater.privacy import FORGET, Erased, ErasureFact
from headwater.settings import Settings
from headwater.topics import EVENTS
from headwater.wire import EventRow
from streams.audit import read_as_folded, refused_places
from streams.erasing import ErasedUsers, erased_users
from streams.features.decay import Decay
from streams.features.fold import Ghost, KnownBeside, Limits, fold, fold_batch, is_gone
from streams.features.state import EMPTY, UserState
from streams.features.store import StoreStanding

__all__ = ["past_ghosts", "rebuilt"]

TOLD_EVERY = 1_000
"""Records between two calls of `progress`, and of which events are held at once."""

NEEDLES = 50
"""Most users that are looked for in undecoded records: beyond, decoding is cheaper."""


def rebuilt(
    settings: Settings, users: Mapping[str, Mapping[int, int]], progress: Callable[[], None]
) -> dict[str, UserState]:
    """The states of these users as the records up to their marks make them; one of whom these tell nothing has none.

    Parameters
        settings: Kafka, and how much is remembered per user.
        users: id -> partition of `events` -> offset of the newest record folded into its slot: one slot may be behind
            the others.
        progress: called now and then.

    Raises
        Unavailable: Kafka is away.
    """
    dead, erased = refused_places(settings), erased_users(settings)
    limits = Limits.of(settings)
    may_tell = _may_tell_of(users)
    states: dict[str, UserState] = {}
    end: dict[int, int] = {}
    for marks in users.values():
        for partition, mark in marks.items():
            end[partition] = max(mark + 1, end.get(partition, 0))
    for span, records in read_partitions(settings.kafka, EVENTS, end=end):
        for number, record in enumerate(records):
            if number % TOLD_EVERY == 0:
                progress()
            for row in read_as_folded(record, dead, limits.meanings) if may_tell(record.value) else ():
                if isinstance(row, InvalidMessage) or row.offset > users.get(row.user_id, {}).get(span.partition, -1):
                    continue
                if erased and is_gone(erased.get(row.user_id), row, span.partition):
                    continue
                before = states.get(row.user_id, EMPTY)
                states[row.user_id] = fold(before, row, limits, span.partition, record.timestamp)
                if _forgets(row):  # perhaps without a fact
                    erased.add({row.user_id: Erased(row.time_ms, span.partition, row.offset)})
    return {user: state for user, state in states.items() if state.count}


def _forgets(row: EventRow) -> bool:
    """Whether a log forgets its user where this is folded: an erasure, or a denial of personalise."""
    return row.type == FORGET or (row.type == CONSENT and row.consent is not None and row.consent.personalise is False)


def past_ghosts(
    settings: Settings, standing: StoreStanding, slot_of: Callable[[str], int], progress: Callable[[], None]
) -> dict[str, Ghost]:
    """Of users whom `events` forgets beyond the marks of their slot, what they had done up to these.

    Parameters
        settings: Kafka, and how much is remembered per user.
        standing: the marks.
        slot_of: of a user.
        progress: called now and then.

    Raises
        Unavailable: Kafka is away.
    """
    highest, ghosts = standing.highest(), dict[str, Ghost]()
    if not highest:
        return ghosts
    marks = {slot: standing.marks_of(slot) for slot in standing.own}

    def is_further_on(fact: ErasureFact) -> bool:
        place = fact.erased.partition
        return fact.erased.is_below(place, marks[fact.crc % len(marks)].get(place, -1))

    erased = ErasedUsers({one: fact for one, fact in erased_users(settings).facts.items() if is_further_on(fact)})
    places = {fact.erased.partition for fact in erased.facts.values()}
    ends = {partition: mark + 1 for partition, mark in highest.items() if partition in places}
    if not ends:  # as mostly, but while a store is filled again
        return ghosts
    limits, dead = Limits.of(settings), refused_places(settings)

    def fold_some(rows: list[EventRow], partition: int) -> None:
        beside = KnownBeside(erased=erased, ghosts=ghosts)
        fold_batch({}, rows, limits, Decay(0, 1.0), partition, beside=beside, teaches=False).carry(ghosts)
        rows.clear()

    for (partition, *_), records in read_partitions(settings.kafka, EVENTS, end=ends):
        rows: list[EventRow] = []
        for number, record in enumerate(records):
            if number % TOLD_EVERY == 0:
                progress()
                fold_some(rows, partition)
            for row in read_as_folded(record, dead, limits.meanings):
                if isinstance(row, InvalidMessage) or (one := erased.get(row.user_id)) is None:
                    continue
                if row.offset <= marks[slot_of(row.user_id)].get(partition, -1) and one.partition == partition:
                    rows.append(row)
        fold_some(rows, partition)
    return ghosts


def _may_tell_of(users: Iterable[str]) -> Callable[[Any], bool]:
    """Whether the value of a record may hold an event of one of them. JSON can write any id with a backslash."""
    needles = [user.encode() for user in users]
    if len(needles) > NEEDLES:
        return lambda _value: True
    return lambda value: value is not None and (b"\\" in value or any(needle in value for needle in needles))
