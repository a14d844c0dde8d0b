"""What is in a past stream: how many events of which types, users, items, sessions, equal rows, silences.

Before: a source. After: `headwater look`. It takes every event as `replay stream` and the backtest would get it.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from replay.sources import Source

__all__ = ["SESSION_MS", "Overview", "overview"]

SESSION_MS = 1_800_000
"""Half an hour without an event ends a user's session, as web analytics count them."""


@dataclass
class Overview:
    """Counts of a source.

    Fields
        events: all of them.
        types: events by type.
        users, items: how many there are.
        values: events with a value; lowest and highest of them.
        equal: events that are equal to an earlier one of the same moment; each counts.
        repeated_ids: events whose id an earlier one of the same user had; they change nothing.
        again: events with an item that the user had met before.
        lists, shown: lists that were shown, and the items in them; no one has met an item by seeing it in one.
        once: users with one event.
        first_ms, last_ms: the times of the first and the last event.
        sessions: of users, by half an hour without an event.
        session_ids: how many different ones events name.
        silence_ms, silence_from_ms: the longest time without any event, and when it began.
    """

    events: int = 0
    types: Counter[str] = field(default_factory=Counter)
    users: int = 0
    items: int = 0
    values: int = 0
    lowest: float = math.inf
    highest: float = -math.inf
    equal: int = 0
    repeated_ids: int = 0
    again: int = 0
    lists: int = 0
    shown: int = 0
    once: int = 0
    first_ms: int | None = None
    last_ms: int | None = None
    sessions: int = 0
    session_ids: int = 0
    silence_ms: int = 0
    silence_from_ms: int | None = None


def overview(source: Source) -> Overview:
    """Read a source to its end. Raises SourceError."""
    found = Overview()
    events_of_user: Counter[str] = Counter()
    last_of_user: dict[str, int] = {}
    items: set[str] = set()
    sessions: set[str] = set()
    met: set[tuple[str, str]] = set()
    ids: set[tuple[str, str]] = set()
    now: set[tuple[str, str, str, float | None, tuple[str, ...] | None]] = set()  # what happened at this moment
    for event in source.events():
        at_ms, user, item = event.event_time, event.user_id, event.item_id
        if found.last_ms is None:
            found.first_ms = found.last_ms = at_ms
        if at_ms != found.last_ms:
            if at_ms - found.last_ms > found.silence_ms:
                found.silence_ms, found.silence_from_ms = at_ms - found.last_ms, found.last_ms
            now.clear()
        found.first_ms, found.last_ms = min(found.first_ms or at_ms, at_ms), max(found.last_ms, at_ms)
        size, known, taken = len(now), len(met), len(ids)
        now.add((user, item, event.type, event.value, event.items))
        ids.add((user, event.event_id))
        found.equal += len(now) == size
        if event.items is None:
            met.add((user, item))
            found.again += len(met) == known
            items.add(item)
        else:
            found.lists += 1
            found.shown += len(event.items)
            items.update(event.items)
        found.repeated_ids += len(ids) == taken
        found.types[event.type] += 1
        events_of_user[user] += 1
        found.sessions += at_ms - last_of_user.get(user, -SESSION_MS - 1) > SESSION_MS
        last_of_user[user] = at_ms
        if event.session_id is not None:
            sessions.add(event.session_id)
        if event.value is not None:
            found.values += 1
            found.lowest, found.highest = min(found.lowest, event.value), max(found.highest, event.value)
    found.events, found.users, found.items = events_of_user.total(), len(events_of_user), len(items)
    found.session_ids = len(sessions)
    found.once = sum(count == 1 for count in events_of_user.values())
    return found
