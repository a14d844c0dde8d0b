"""A past stream, read once and kept small, of which examples can be made as often as wanted.

Before: any iterator of events in their order. After: `replay.backtest` asks and learns, `trainer.pretraining` trains.
The verbs are those of the streams worker (`streams.features.fold`), so histories, what was shown, what is undone,
duplicates and late events are what they would have been. Knows no weights, no files and no clock.

Reading costs more than folding, and a Kafka log may lose its beginning meanwhile: so what examples need is kept in 26
bytes an event, beside one copy of each id; in 8 more each for sessions, requests and lists where a stream has them, and
4 for each item of a list.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b

import orjson

from headwater.context import named, numbers_of
from headwater.events import Event, session_number
from headwater.examples import Example
from headwater.signals import Meaning
from headwater.wire import EventRow, is_misplaced_list
from streams.features.fold import Folding, Limits
from streams.features.state import EMPTY, UserState

__all__ = ["Recording", "recorded"]


class _Rare:
    """A column of whole numbers from 0 that many streams have nothing in: kept from its first number on."""

    def __init__(self) -> None:
        self.begin = 0
        self.column = array("q")

    def put(self, place: int, number: int | None) -> None:
        if number is None and not self.column:
            return
        if not self.column:
            self.begin = place
        self.column.extend([-1] * (place - self.begin - len(self.column)))
        self.column.append(-1 if number is None else number)

    def get(self, place: int) -> int | None:
        found = self.column[place - self.begin] if self.begin <= place < self.begin + len(self.column) else -1
        return None if found < 0 else found


class Recording:
    """The events of a source but for duplicates, in its order. Ids are numbered by first appearance, for storage alone:
    rankers see numbers of their own. Its length is how many examples they make: an undo that finds nothing to take back
    makes none.

    Parameters
        limits: how much of a user's past an example has, as in the streams worker.

    Fields
        duplicates: events that were there before.
        refused: lists whose type does not mean that they were shown, which the streams worker refuses.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.duplicates = 0
        self.refused = 0
        self.users: dict[str, int] = {}
        self.items: dict[str, int] = {}
        self.types: dict[str, int] = {}
        self._examples = 0
        self._user, self._item, self._kind = array("i"), array("i"), array("h")
        self._time_ms, self._value = array("q"), array("d")  # a value that is none is NaN
        self._session, self._request, self._list, self._context = _Rare(), _Rare(), _Rare(), _Rare()
        self._contexts: dict[bytes, int] = {}
        self._requests: dict[str, int] = {}
        self._listed, self._ends = array("i"), array("q", [0])  # the items of all lists, and where each list ends

    def __len__(self) -> int:
        return self._examples

    def add(self, row: EventRow, examples: int = 1) -> None:
        """Keep one event, which makes so many examples."""
        place = len(self._user)
        self._examples += examples
        self._user.append(self.users.setdefault(row.user_id, len(self.users)))
        self._item.append(self.items.setdefault(row.item_id, len(self.items)))
        self._kind.append(self.types.setdefault(row.type, len(self.types)))
        self._time_ms.append(row.time_ms)
        self._value.append(math.nan if row.value is None else row.value)
        self._session.put(place, row.session)
        request = row.request_id
        if request is None and self.limits.meanings.meaning(row.type, row.value) is Meaning.EXPOSURE:
            request = row.event_id  # tells lists apart
        known = None if request is None else self._requests.setdefault(request, len(self._requests))
        self._request.put(place, known)
        self._list.put(place, len(self._ends) - 1 if row.items else None)
        fields = self.limits.context
        context = named(row.properties, fields) | numbers_of(row.properties, fields, len(row.items or (row.item_id,)))
        told = orjson.dumps(context, option=orjson.OPT_SORT_KEYS) if context else None
        self._context.put(place, None if told is None else self._contexts.setdefault(told, len(self._contexts)))
        if row.items:
            self._listed.extend(self.items.setdefault(item, len(self.items)) for item in row.items)
            self._ends.append(len(self._listed))

    def _rows(self) -> Iterator[EventRow]:
        users, items, types, requests = list(self.users), list(self.items), list(self.types), list(self._requests)
        contexts = [orjson.loads(one) for one in self._contexts]
        columns = zip(self._user, self._item, self._kind, self._time_ms, self._value, strict=True)
        for place, (user, item, kind, time_ms, value) in enumerate(columns):
            request, number, told = self._request.get(place), self._list.get(place), self._context.get(place)
            listed = () if number is None else self._listed[self._ends[number] : self._ends[number + 1]]
            yield EventRow(
                users[user], items[item], types[kind], time_ms, None if math.isnan(value) else value, str(place),
                None if request is None else requests[request], place, 0, self._session.get(place),
                tuple(items[one] for one in listed), None if told is None else contexts[told],
            )  # fmt: skip

    def examples(self) -> Iterator[Example]:
        """The examples that the events make, as often as wanted."""
        states: dict[str, UserState] = {}
        limits = self.limits._replace(dedupe=0)  # no two places are the same
        for row in self._rows():
            folding = Folding(states.get(row.user_id, EMPTY), limits)
            change = folding.change(row)
            made = folding.example(change, row)
            folding.apply(change, row)
            states[row.user_id] = folding.freeze(0, 0)
            if made is not None:
                yield made

    def digest(self) -> str:
        """Tells streams apart: of users, items, types, times, values, sessions, lists and what answers what, in order,
        wherever they were read from.
        """
        found = blake2b(digest_size=16)
        for column in (self._user, self._item, self._kind, self._time_ms, self._value):
            found.update(column.tobytes())
        for names in (self.users, self.items, self.types):
            found.update("".join(f"{len(name)}:{name}" for name in names).encode())
        for title, rare in (
            ("sessions", self._session),
            ("requests", self._request),
            ("lists", self._list),
            ("contexts", self._context),
        ):
            if rare.column:
                found.update(f"{title}:{rare.begin}:".encode() + rare.column.tobytes())
        if self._listed:
            found.update(self._listed.tobytes() + self._ends.tobytes())
        for told in self._contexts:
            found.update(told)
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
        if event.items and is_misplaced_list(event, limits.meanings):
            recording.refused += 1
            continue
        row = EventRow(
            event.user_id, event.item_id, event.type, event.event_time, event.value, event.event_id, event.request_id,
            offset, 0, None if event.session_id is None else session_number(event.session_id), event.items or (),
            event.properties,
        )  # fmt: skip
        folding = Folding(states.get(row.user_id, EMPTY), limits)
        if folding.is_duplicate(row):
            recording.duplicates += 1
            continue
        change = folding.change(row)
        folding.apply(change, row)
        states[row.user_id] = folding.freeze(0, 0)
        recording.add(row, int(change.kind is not None))
        on_event(len(recording))
    return recording
