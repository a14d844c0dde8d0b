"""A past stream, read once and kept small, of which examples can be made as often as wanted.

Before: any iterator of events in their order. After: `replay.backtest` asks and learns, `trainer.pretraining` trains.
The verbs are those of the streams worker (`streams.features.fold`), so histories, duplicates and late events are what
they would have been. Knows no weights, no files and no clock.

Reading costs more than folding, and a Kafka log may lose its beginning meanwhile: so what examples need is kept in 26
bytes an event, beside one copy of each id.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b

from headwater.events import Event
from headwater.examples import Example
from headwater.wire import EventRow
from streams.features.fold import Limits, example, fold
from streams.features.state import EMPTY, UserState

__all__ = ["Recording", "recorded"]


class Recording:
    """The events of a source but for duplicates, in its order. Ids are numbered by first appearance, for storage alone:
    rankers see numbers of their own.

    Parameters
        limits: how much of a user's past an example has, as in the streams worker.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.duplicates = 0
        self.users: dict[str, int] = {}
        self.items: dict[str, int] = {}
        self.types: dict[str, int] = {}
        self._user, self._item, self._kind = array("i"), array("i"), array("h")
        self._time_ms, self._value = array("q"), array("d")  # a value that is none is NaN

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

    def examples(self) -> Iterator[Example]:
        """The example of every event, as often as wanted."""
        users, items, types = list(self.users), list(self.items), list(self.types)
        states: dict[str, UserState] = {}
        limits = self.limits._replace(dedupe=0)  # no two places are the same
        columns = zip(self._user, self._item, self._kind, self._time_ms, self._value, strict=True)
        for place, (user, item, kind, time_ms, value) in enumerate(columns):
            given = None if math.isnan(value) else value
            row = EventRow(users[user], items[item], types[kind], time_ms, given, str(place), None, place, 0)
            before = states.get(row.user_id, EMPTY)
            made = example(before, row)
            assert made is not None  # nothing is remembered to be a duplicate of
            states[row.user_id] = fold(before, row, limits)
            yield made

    def digest(self) -> str:
        """Tells streams apart: of users, items, types, times and values in order, wherever they were read from."""
        found = blake2b(digest_size=16)
        for column in (self._user, self._item, self._kind, self._time_ms, self._value):
            found.update(column.tobytes())
        for names in (self.users, self.items, self.types):
            found.update("".join(f"{len(name)}:{name}" for name in names).encode())
        return found.hexdigest()


def recorded(
    events: Iterable[Event], limits: Limits, on_event: Callable[[int], None] = lambda _events: None
) -> Recording:
    """Read events to their end.

    Parameters
        events: in their order.
        limits: as for Recording.
        on_event: told how many there are so far.
    """
    recording = Recording(limits)
    states: dict[str, UserState] = {}
    for offset, event in enumerate(events):
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
