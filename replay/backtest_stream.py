"""A past stream as the learner would have met it: events, folded one by one, each an example before it is learned.

Before: a source, whose events are in time order. After: `replay.backtest` asks and learns. The verbs are those of the
streams worker (`streams.fold`), so histories, duplicates and late events are what they would have been. Knows no
weights and no clock.

A source is read once, since reading costs more than folding and a Kafka log may lose its beginning meanwhile; what
examples need is kept in 26 bytes an event, beside one copy of each id.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator
from hashlib import blake2b
from itertools import islice

import numpy as np

from headwater.codec import EventRow
from headwater.errors import SettingsError
from headwater.examples import Example
from models.returns import PRIOR, RARE
from replay.protocol import ALL_TYPES
from replay.sources import Source
from streams.fold import Limits, example, fold
from streams.state import EMPTY, UserState

__all__ = ["Recording", "recorded", "warm_up_events"]


class Recording:
    """The events of a source but for duplicates, in its order; and for each, after what its user came back to the item.

    Ids are numbered by first appearance, for storage alone: rankers see numbers of their own.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.duplicates = 0
        self.users: dict[str, int] = {}
        self.items: dict[str, int] = {}
        self.types: dict[str, int] = {}
        self._user, self._item, self._kind = array("i"), array("i"), array("h")
        self._time_ms, self._value = array("q"), array("d")  # a value that is none is NaN
        self._returned = array("h")  # type of the user's newest earlier event with the item; -1 where there is none

    def __len__(self) -> int:
        return len(self._user)

    def add(self, made: Example) -> None:
        """Keep one event."""
        target = made.target
        self._user.append(self.users.setdefault(made.user_id, len(self.users)))
        self._item.append(self.items.setdefault(target.item_id, len(self.items)))
        self._kind.append(self.types.setdefault(target.type, len(self.types)))
        self._time_ms.append(target.time_ms)
        self._value.append(math.nan if target.value is None else target.value)
        before = next((entry.type for entry in reversed(made.history) if entry[0] == target.item_id), None)
        self._returned.append(-1 if before is None else self.types[before])

    def examples(self) -> Iterator[Example]:
        """The example of every event, as often as wanted."""
        users, items, types = list(self.users), list(self.items), list(self.types)
        states: dict[str, UserState] = {}
        for place, (user, item, kind, time_ms, value) in enumerate(
            zip(self._user, self._item, self._kind, self._time_ms, self._value, strict=True)
        ):
            given = None if math.isnan(value) else value
            row = EventRow(users[user], items[item], types[kind], time_ms, given, str(place), None, place, 0)
            before = states.get(row.user_id, EMPTY)
            made = example(before, row)
            assert made is not None  # no two places are the same
            states[row.user_id] = fold(before, row, self.limits)
            yield made

    def digest(self) -> str:
        """Tells streams apart: of users, items, types, times and values in order, wherever they were read from."""
        found = blake2b(digest_size=16)
        for column in (self._user, self._item, self._kind, self._time_ms, self._value):
            found.update(column.tobytes())
        for names in (self.users, self.items, self.types):
            found.update("".join(f"{len(name)}:{name}" for name in names).encode())
        return found.hexdigest()

    def auto_rule(self, warm_up: int) -> tuple[str, ...]:
        """The types whose items are not shown again: after fewer than 1% of their events the user came back to it.

        Only the first `warm_up` events are looked at. All types of them: `("*",)`.
        """
        events = np.bincount(np.array(self._kind[:warm_up], np.int64), minlength=len(self.types))
        found = np.array(self._returned[:warm_up], np.int64)
        returns = np.bincount(found[found >= 0], minlength=len(self.types))
        present = [name for name, i in self.types.items() if events[i]]
        rare = [name for name, i in self.types.items() if events[i] and returns[i] < RARE * (events[i] + PRIOR)]
        return (ALL_TYPES,) if len(rare) == len(present) else tuple(rare)


def recorded(
    source: Source, limits: Limits, limit: int | None = None, on_event: Callable[[int], None] = lambda _events: None
) -> Recording:
    """Read a source, or its first `limit` events; `on_event` is told how many there are. Raises SourceError."""
    recording = Recording(limits)
    states: dict[str, UserState] = {}
    for offset, event in enumerate(islice(source.events(), limit)):
        row = EventRow(
            event.user_id, event.item_id, event.type, event.event_time, event.value, event.event_id, event.request_id,
            offset, 0,
        )  # fmt: skip
        before = states.get(row.user_id, EMPTY)
        made = example(before, row)
        if made is not None:
            states[row.user_id] = fold(before, row, limits)
            recording.add(made)
            on_event(len(recording))
        else:
            recording.duplicates += 1
    return recording


def warm_up_events(asked: float, events: int) -> int:
    """Events that are learned before the first query: a share below 1, else a number. Raises SettingsError."""
    found = int(asked * events) if 0 <= asked < 1 else int(asked)
    if asked < 0 or found >= events:
        raise SettingsError(
            f"a warm-up of {asked:,.10g} leaves nothing to ask: the stream has {events:,} events. Give a share below "
            "1 or fewer events (--warm-up)"
        )
    return found
