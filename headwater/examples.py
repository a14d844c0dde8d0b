"""Training examples as they travel on the `examples` topic: the history as it was before an event, and the event.

Before: the streams worker packs the examples of one batch and one source partition. After: the trainer unpacks them, in
log order, and learns from each. Knows nothing of Kafka, of rows or of weights.

A batch touches few users, and consecutive examples of a user share all but the last entry of their history. So a record
holds segments: one user's history before the first event, then the events. The history of the second event is the first
one's history plus the first event, and so on, cut to the newest `limit` entries. A list that was shown is no part of a
history: it is added to what was shown before the next target, and what that target is a reaction to is taken off after
it. A late event (older than the newest entry) has a segment of its own, and so has one that was taken back.

Catalogue entries travel in the same log, so that content reaches the model in an order that a replay repeats.
"""

from __future__ import annotations

import zlib
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import repeat
from operator import eq
from typing import Any, NamedTuple, overload

import orjson

from headwater.context import MAX_CONTEXT_CHARS, MAX_CONTEXT_FIELDS, Context, Numbers, numbers_of, plain_scalar
from headwater.errors import InvalidMessage
from headwater.events import MAX_ID_LENGTH, MAX_SHOWN, MAX_TIME_MS
from headwater.histories import LEAST_APART, Entry, PackedHistory, columns_of, plain_entries, whole_columns
from headwater.users import checked_attributes
from headwater.wire import not_json, only_refusals, short_text

__all__ = ["CatalogueEntry", "Entry", "EventPosition", "Example", "Kind", "Segment", "Shown", "ShownList"]
__all__ += ["newest_columns", "newest_type", "pack_items", "pack_segments", "place_of", "plain_entries", "unpack"]

FORMAT = 3
"""Newest that is read. Written is 1 where no history is packed, and 3 where somebody is forgotten, so that
releases before read what they can."""

MAX_PARTITION = 2**31 - 1
MAX_OFFSET = 2**63 - 1
MAX_LIMIT = 10_000
"""Longest history that `streams.history_limit` allows."""

MOST_INFLATED = 4 << 20
"""Longest that the columns of some packed entries may be: 256 of the longest ids take half of it."""

MOST_OF_RECORD = 64 << 20
"""Most bytes that all packed entries of one record may take when they are unpacked: one of 1 MB whose texts are the
same again and again could claim gigabytes. Histories of 1,000 that fill a record take a sixth of it."""

ENTRY_BYTES = 100
"""About what an entry takes, besides the letters of its texts."""

MAX_PLACE = MAX_LIMIT - MAX_SHOWN
"""Lowest place of a list that is believed."""

MAX_SESSION = 2**32 - 1

_Nothing = type(None)

NO_CONTEXT: dict[str, Any] = {}
"""Of what comes without; nobody writes into it."""


_Columns = tuple[tuple[Any, ...], ...]
"""Entries by their fields."""

NO_COLUMNS: _Columns = ((), (), (), (), ())


class Shown(NamedTuple):
    """One item that a user was shown.

    Fields
        item_id: what.
        time_ms: when, epoch ms.
        place: from 1, where in the list; 0 where that is not known.
        list_id: tells lists apart: the request_id that the list answered, else the event_id of the exposure.
    """

    item_id: str
    time_ms: int
    place: int
    list_id: str


def place_of(value: float | None) -> int:
    """The place that an exposure's value says, from 1; 0 where it can be none.

    >>> place_of(3.0), place_of(2.5), place_of(1e300), place_of(None)
    (3, 0, 0, 0)
    """
    return int(value) if value is not None and 1 <= value <= MAX_PLACE and value.is_integer() else 0


class ShownList(NamedTuple):
    """A list that was shown at one moment.

    Fields
        items: in their order.
        list_id: as of `Shown`.
        first_place: of the first item; 0 where a single item's place is not known.
        numbers: fields that hold a number for each item.
    """

    items: tuple[str, ...]
    list_id: str
    first_place: int = 1
    numbers: Numbers = NO_CONTEXT

    def at(self, time_ms: int, limit: int | None = None) -> list[Shown]:
        """Its items as they were shown then, each once; of a longer list the first `limit`."""
        first, list_id, items = self.first_place, self.list_id, self.items
        found = [Shown(item, time_ms, first and first + i, list_id) for i, item in enumerate(items)]
        if len(items) > 1 and len({*items}) < len(items):
            found = [one for i, one in enumerate(found) if one.item_id not in items[:i]]
        return found if limit is None else found[:limit]


class Kind(str, Enum):
    """What an example is of.

    EVENT: something a user did: it is asked about and learned.
    SHOWN: a list that a user was shown: what is followed by a reaction is learned from it.
    UNDONE: an event that was taken back: what was counted for it is taken off again.
    ERASED: no event: from here on the user is forgotten.
    """

    EVENT = "event"
    SHOWN = "shown"
    UNDONE = "undone"
    ERASED = "erased"


class EventPosition(NamedTuple):
    """Where an event came from: its record's offset in the source partition, and its place in a packed record."""

    offset: int
    place: int


class Example(NamedTuple):
    """What the model sees and what it must predict.

    Fields
        user_id: whose.
        history: what was known of the user at the target's time, oldest first, without the target.
        target: the event; of a list that was shown, its first item and when; of an undone event, that event.
        partition, position: where in `events` the event was read.
        kind: see `Kind`.
        shown: what the user was shown before the target, oldest first.
        items: of a list that is shown, all of it in order.
        request_id: that the event answers or the list was the answer to, if it is known.
        context: of the moment, the fields that count.
        attributes: of the user, as they were known then.
        numbers: of a list that is shown, fields that hold a number for each item.
    """

    user_id: str
    history: Sequence[Entry]
    target: Entry
    partition: int
    position: EventPosition
    kind: Kind = Kind.EVENT
    shown: Sequence[Shown] = ()
    items: tuple[str, ...] = ()
    request_id: str | None = None
    context: Context = NO_CONTEXT
    attributes: Mapping[str, Any] = NO_CONTEXT
    numbers: Numbers = NO_CONTEXT


class CatalogueEntry(NamedTuple):
    """An item's content as of this place in the log; `content` is None when the item was removed."""

    item_id: str
    content: dict[str, Any] | None


class _PastPiece:
    """Some neighbouring entries of a segment: columns, entries or both, each made when somebody first looks at it."""

    __slots__ = ("_columns", "_entries", "bytes", "size")

    def __init__(self, columns: _Columns | None = None, made: list[Entry] | None = None) -> None:
        self._columns, self._entries = columns, made
        self.size = len(columns[0] if columns is not None else made or ())
        self.bytes = 0  # about what it takes, where that is counted

    @property
    def columns(self) -> _Columns:
        """Item ids, types, times, values and sessions; (none of them) of no entries."""
        if self._columns is None:
            self._columns = tuple(zip(*(self._entries or ()), strict=True)) or NO_COLUMNS
        return self._columns

    @property
    def entries(self) -> list[Entry]:
        """Nobody may change the list."""
        if self._entries is None:
            assert self._columns is not None
            self._entries = [*map(tuple.__new__, repeat(Entry), zip(*self._columns, strict=True))]
        return self._entries


class _PastEntries:
    """All entries of a segment, in pieces: what learns at once reads columns of the newest, and no entry is made."""

    __slots__ = ("_entries", "_pieces", "size")

    def __init__(self, pieces: list[_PastPiece]) -> None:
        self._pieces, self.size = pieces, sum([one.size for one in pieces])
        self._entries: list[Entry] | None = None

    @property
    def entries(self) -> list[Entry]:
        """Nobody may change the list."""
        if self._entries is None:
            if len(self._pieces) == 1:
                self._entries = self._pieces[0].entries
            else:
                self._entries = [entry for piece in self._pieces for entry in piece.entries]
        return self._entries

    def columns(self, begin: int, end: int) -> _Columns:
        """Of the entries from `begin` to before `end`."""
        found: _Columns | None = None
        at = self.size
        for piece in reversed(self._pieces):
            at -= piece.size
            if at >= end or not piece.size:
                continue
            here = slice(max(begin - at, 0), end - at)
            part = tuple([column[here] for column in piece.columns])
            found = part if found is None else tuple([one + more for one, more in zip(part, found, strict=True)])
            if at <= begin:
                break
        return found or NO_COLUMNS

    def newest_type(self, item_id: str, begin: int, end: int) -> str | None:
        """The type of the newest entry with an item, from `begin` to before `end`; None without any."""
        at = self.size
        for piece in reversed(self._pieces):
            at -= piece.size
            if at >= end or item_id not in piece.columns[0]:
                continue
            items, types = piece.columns[:2]
            for place in range(min(end - at, piece.size) - 1, max(begin - at, 0) - 1, -1):
                if items[place] == item_id:
                    return str(types[place])
            if at <= begin:
                break
        return None


class _Window(Sequence[Entry]):
    """Some neighbouring entries of a segment, of which the examples of one record share most: copies of them would take
    the square of what was sent, gigabytes of one record.
    """

    __slots__ = ("_end", "_first", "_past")

    def __init__(self, past: _PastEntries, first: int, end: int) -> None:
        self._past, self._first, self._end = past, first, end

    def __len__(self) -> int:
        return self._end - self._first

    @overload
    def __getitem__(self, index: int) -> Entry: ...

    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...

    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        places, entries = range(self._first, self._end)[index], self._past.entries
        if isinstance(places, int):
            return entries[places]
        if places.step == 1:
            return entries[places.start : places.stop]
        return [entries[place] for place in places]

    def __iter__(self) -> Iterator[Entry]:
        return map(self._past.entries.__getitem__, range(self._first, self._end))

    def __reversed__(self) -> Iterator[Entry]:
        return map(self._past.entries.__getitem__, range(self._end - 1, self._first - 1, -1))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))

    def newest_columns(self, n: int) -> _Columns:
        """See the function."""
        return self._past.columns(max(self._first, self._end - n), self._end)

    def newest_type(self, item_id: str) -> str | None:
        """See the function."""
        return self._past.newest_type(item_id, self._first, self._end)


def newest_columns(history: Sequence[Entry], n: int) -> tuple[tuple[Any, ...], ...]:
    """Of the newest `n` entries of a history, oldest first: item ids, types, times, values and sessions."""
    if isinstance(history, _Window):
        return history.newest_columns(n)
    return tuple(zip(*history[max(len(history) - n, 0) :], strict=True)) or NO_COLUMNS


def newest_type(history: Sequence[Entry], item_id: str) -> str | None:
    """The type of a history's newest entry with an item; None without any."""
    if isinstance(history, _Window):
        return history.newest_type(item_id)
    return next((entry[1] for entry in reversed(history) if entry[0] == item_id), None)


@dataclass(slots=True)
class Segment:
    """One user's run of examples.

    Fields
        user_id: whose.
        history, shown: before the first of `targets`.
        targets, positions: of each example, in order.
        lists: index of a target -> the list that was shown then; such a target is no part of later histories.
        requests: index of a target -> the request_id that the event answers.
        reactions: indices of targets whose item was shown before, and is not among what was shown after them.
        undone: the targets were taken back: none is a part of the others' histories.
        contexts: index of a target -> the context that came with it.
        attributes: of the user.
        erased: the user is forgotten at its only target, which is no event.
    """

    user_id: str
    history: Sequence[Entry]
    targets: list[Entry] = field(default_factory=list)
    positions: list[EventPosition] = field(default_factory=list)
    shown: Sequence[Shown] = ()
    lists: dict[int, ShownList] = field(default_factory=dict)
    requests: dict[int, str] = field(default_factory=dict)
    undone: bool = False
    reactions: set[int] = field(default_factory=set)
    contexts: dict[int, Context] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    erased: bool = False

    def events(self, end: int) -> list[Entry]:
        """Those of the first `end` targets that later histories hold."""
        return [] if self.undone else [one for i, one in enumerate(self.targets[:end]) if i not in self.lists]

    def shown_after(self, shown: Sequence[Shown], i: int, limit: int | None) -> Sequence[Shown]:
        """What was shown and not reacted to after the target `i`, of what that was before it."""
        if i in self.lists:
            shown = (*shown, *self.lists[i].at(self.targets[i].time_ms, limit))
            return shown if limit is None else shown[max(0, len(shown) - limit) :]
        return tuple(one for one in shown if one[0] != self.targets[i][0]) if i in self.reactions else shown

    def _history(self, begin: int) -> Sequence[Entry]:
        """Before the target `begin`."""
        if not isinstance(self.history, PackedHistory):
            return [*self.history, *self.events(begin)]
        history = self.history.copy()
        history.newer += self.events(begin)
        return history

    def part(self, begin: int, end: int, shown_limit: int | None = None) -> Segment:
        """The examples of the targets `begin` to `end` as a segment of their own."""
        shown = self.shown
        for i in range(begin):
            shown = self.shown_after(shown, i, shown_limit)
        return Segment(
            self.user_id,
            self._history(begin),
            self.targets[begin:end],
            self.positions[begin:end],
            shown,
            {i - begin: one for i, one in self.lists.items() if begin <= i < end},
            {i - begin: one for i, one in self.requests.items() if begin <= i < end},
            self.undone,
            {i - begin for i in self.reactions if begin <= i < end},
            {i - begin: one for i, one in self.contexts.items() if begin <= i < end},
            self.attributes,
            self.erased,
        )


def pack_segments(
    partition: int, segments: Sequence[Segment], limit: int | None = None, shown_limit: int | None = None
) -> bytes:
    """One record's value: the examples of one batch of one source partition.

    Parameters
        partition: of `events`.
        segments: in any order; unpacking yields examples ordered by position.
        limit, shown_limit: the longest history of an example, and the most that it says was shown, as the writer's own
            memory is cut; None for no limit.
    """
    histories = (one.history for one in segments)
    is_packed = any(one.older >= LEAST_APART for one in histories if type(one) is PackedHistory)
    form = FORMAT if any(one.erased for one in segments) else 2 if is_packed else 1
    record: dict[str, Any] = {"format": form, "partition": partition, "limit": limit}
    if shown_limit is not None and any(one.shown or one.lists for one in segments):
        record["shown_limit"] = shown_limit
    return orjson.dumps({**record, "segments": list(map(_plain_segment, segments))})


def _plain_segment(segment: Segment) -> dict[str, Any]:
    """As JSON takes it: exact tuples only, and of what most streams have not only what is there."""
    plain: dict[str, Any] = {
        "user": segment.user_id,
        "history": _plain_history(segment.history),
        "targets": plain_entries(segment.targets),
        "at": list(map(tuple, segment.positions)),
    }
    if segment.shown:
        plain["shown"] = list(map(tuple, segment.shown))
    if segment.lists:
        plain["lists"] = [[i, *(one if one.numbers else one[:-1])] for i, one in segment.lists.items()]
    if segment.requests:
        plain["requests"] = list(segment.requests.items())
    if segment.reactions:
        plain["reactions"] = sorted(segment.reactions)
    if segment.undone:
        plain["undone"] = True
    if segment.contexts:
        plain["contexts"] = list(segment.contexts.items())
    if segment.attributes:
        plain["attributes"] = segment.attributes
    if segment.erased:
        plain["erased"] = True
    return plain


def _plain_history(history: Sequence[Entry]) -> Any:
    """What is packed stays so, if it is long: base64 of its bytes, how many of the first are forgotten, and the newer
    entries.
    """
    if not isinstance(history, PackedHistory):
        return plain_entries(history)
    if not history.is_apart:
        return history.plain()
    return {
        "packed": [one.text for one in history.packed],
        "skipped": history.skipped,
        "newer": plain_entries(history.newer),
    }


def pack_items(entries: Sequence[CatalogueEntry]) -> bytes:
    """One record's value: catalogue entries, in the order in which they take effect."""
    return orjson.dumps({"format": 1, "items": list(map(tuple, entries))})


def unpack(value: bytes) -> Iterator[Example | CatalogueEntry]:
    """The examples or catalogue entries of one record, in the order in which they are to be learned.

    Parameters
        value: of the record, which anyone may have sent.

    Raises
        InvalidMessage: `pack_*` did not write these bytes (`undecodable`, `unknown_version`, `schema`), and nothing
            else. What is yielded can be learned: ids, times, values and positions are within the contract's bounds.
    """
    with only_refusals("an examples record"):
        try:
            record = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise not_json(error, "an examples record", "") from error
        if not isinstance(record, dict) or record.get("format") not in range(1, FORMAT + 1):
            found = record.get("format") if isinstance(record, dict) else type(record).__name__
            text = f"an examples record has format {short_text(found)}; this release reads up to {FORMAT}"
            raise InvalidMessage("unknown_version", text)
        try:
            entries = _catalogue_entries(record) if "items" in record else _examples(record)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, zlib.error) as error:
            text = f"an examples record lacks a field or has a wrong one ({error!r:.300})"
            raise InvalidMessage("schema", text) from error
    yield from entries


def _catalogue_entries(record: dict[str, Any]) -> list[Example | CatalogueEntry]:
    return [CatalogueEntry(_id(item_id), _content(content)) for item_id, content in record["items"]]


def _examples(record: dict[str, Any]) -> list[Example | CatalogueEntry]:
    partition = _whole(record["partition"], MAX_PARTITION)
    limit = _whole(record.get("limit") or 0, MAX_LIMIT)
    shown_limit = record.get("shown_limit")
    if shown_limit is not None:
        shown_limit = _whole(shown_limit, MAX_LIMIT)
    examples: list[Example] = []
    room = MOST_OF_RECORD
    for body in record["segments"]:
        segment, pieces, taken = _segment(body, room)
        room -= taken
        if segment.lists or segment.shown or segment.requests or segment.undone or segment.erased:
            examples += _mixed(segment, pieces, partition, limit, shown_limit)
            continue
        targets, positions, contexts = segment.targets, segment.positions, segment.contexts
        before = sum([one.size for one in pieces])
        if len(targets) > 1:
            pieces.append(_PastPiece(made=targets))
        past = _PastEntries(pieces)
        for i, target in enumerate(targets):
            end = before + i
            window = _Window(past, max(0, end - limit) if limit else 0, end)
            context = contexts.get(i, NO_CONTEXT)
            told = (segment.user_id, window, target, partition, positions[i], Kind.EVENT, (), (), None, context)
            examples.append(Example(*told, segment.attributes))
    return [*sorted(examples, key=lambda example: example.position)]


def _mixed(
    segment: Segment, pieces: list[_PastPiece], partition: int, limit: int, shown_limit: int | None
) -> Iterator[Example]:
    """The examples of a segment in which not every target is the next entry of the history."""
    end = sum([one.size for one in pieces])
    past = _PastEntries([*pieces, _PastPiece(made=segment.events(len(segment.targets)))])
    shown = segment.shown if shown_limit is None else segment.shown[max(0, len(segment.shown) - shown_limit) :]
    for i, target in enumerate(segment.targets):
        exposed = segment.lists.get(i)
        kind = Kind.UNDONE if segment.undone else Kind.EVENT if exposed is None else Kind.SHOWN
        if segment.erased:
            kind = Kind.ERASED
        yield Example(
            segment.user_id,
            _Window(past, max(0, end - limit) if limit else 0, end),
            target,
            partition,
            segment.positions[i],
            kind,
            shown,
            () if exposed is None else exposed.items,
            segment.requests.get(i) if exposed is None else exposed.list_id,
            segment.contexts.get(i, NO_CONTEXT),
            segment.attributes,
            NO_CONTEXT if exposed is None else exposed.numbers,
        )
        shown = segment.shown_after(shown, i, shown_limit)
        end += kind is Kind.EVENT


def _segment(body: dict[str, Any], room: int) -> tuple[Segment, list[_PastPiece], int]:
    """A segment without its history, that in pieces, and how much of `room` these take."""
    targets = [_entry(*entry) for entry in body["targets"]]
    positions = [_position(*body["at"][i]) for i in range(len(targets))]
    user_id, (pieces, taken) = _id(body["user"]), _history(body["history"], room)
    if len(body) == PLAIN_FIELDS:
        return Segment(user_id, (), targets, positions), pieces, taken
    undone, erased = body.get("undone", False), body.get("erased", False)
    for flag in (undone, erased):
        if type(flag) is not bool:
            raise TypeError(f"undone or erased is {short_text(flag)}")
    segment = Segment(
        user_id,
        (),
        targets,
        positions,
        tuple(_shown(*one) for one in body.get("shown", ())),
        {_whole(i, len(targets) - 1): _list(*one) for i, *one in body.get("lists", ())},
        {_whole(i, len(targets) - 1): _id(request_id) for i, request_id in body.get("requests", ())},
        undone,
        {_whole(i, len(targets) - 1) for i in body.get("reactions", ())},
        {_whole(i, len(targets) - 1): _context(one) for i, one in body.get("contexts", ())},
        checked_attributes(body.get("attributes", NO_CONTEXT)),
        erased,
    )
    return segment, pieces, taken


PLAIN_FIELDS = 4
"""User, history, targets and positions: most segments have no more."""


def _history(given: Any, room: int) -> tuple[list[_PastPiece], int]:
    if type(given) is not dict:
        return [_unpacked(given)], 0
    pieces: list[_PastPiece] = []
    found = taken = 0
    for data in given["packed"]:
        piece = _unpacked_together(data, found)
        found += piece.size
        taken += piece.bytes
        if taken > room:
            raise ValueError(f"the packed histories of one record take more than {MOST_OF_RECORD >> 20} MB")
        pieces.append(piece)
    skipped = _whole(given["skipped"], found)
    while skipped:
        first = pieces.pop(0)
        if skipped < first.size:
            pieces.insert(0, _PastPiece(tuple([column[skipped:] for column in first.columns])))
        skipped -= min(skipped, first.size)
    return [*pieces, _unpacked(given["newer"])], taken


_together: dict[str, _PastPiece] = {}
"""What was unpacked lately, by its text, the oldest first: a user's next example has the same again."""

MOST_TOGETHER, LONGEST_TOGETHER = 512, 512
"""How many of these are kept, and the most entries of one: 30 MB in all."""


def _unpacked_together(data: Any, before: int) -> _PastPiece:
    """What is packed together, after so many that were."""
    known = _together.get(data)
    if known is not None:
        _whole(before + known.size, 2 * MAX_LIMIT)
        return known
    columns = columns_of(b64decode(data, validate=True), MOST_INFLATED)
    times, sessions = columns[4], columns[6]
    _whole(before + len(times), 2 * MAX_LIMIT)
    _refuse_other_steps(times)
    if sessions and type(sessions[0]) is not list:
        _refuse_other_steps(sessions)
    found = _piece(whole_columns(columns))
    found.bytes = ENTRY_BYTES * found.size + sum(map(len, found.columns[0])) + sum(map(len, found.columns[1]))
    if found.size <= LONGEST_TOGETHER:
        if len(_together) >= MOST_TOGETHER:
            del _together[next(iter(_together))]
        _together[data] = found
    return found


def _refuse_other_steps(steps: Any) -> None:
    """Refuse what cannot be added up: texts would be joined, each to all before it, into gigabytes."""
    if type(steps) is not list or {*map(type, steps)} != {int}:
        raise TypeError("the steps of times or sessions are no whole numbers")


def _context(given: Any) -> Context:
    """As `headwater.context.named` leaves it."""
    if type(given) is not dict or len(given) > MAX_CONTEXT_FIELDS:
        raise TypeError(f"a context is {short_text(given)}")
    found = {name: plain_scalar(value) for name, value in given.items()}
    if found != given or None in found.values() or any(len(name) > MAX_CONTEXT_CHARS for name in given):
        raise ValueError(f"a context is {short_text(given)}")
    return given


def _shown(item_id: Any, time_ms: Any, place: Any, list_id: Any) -> Shown:
    return Shown(_id(item_id), _whole(time_ms, MAX_TIME_MS), _whole(place, MAX_LIMIT), _id(list_id))


def _list(items: Any, list_id: Any, first_place: Any, numbers: Any = NO_CONTEXT) -> ShownList:
    if type(items) is not list or not items:
        raise TypeError(f"a list that was shown is {short_text(items)}")
    if type(numbers) is not dict or len(numbers) > MAX_CONTEXT_FIELDS:
        raise TypeError(f"the numbers of a list are {short_text(numbers)}")
    if numbers_of(numbers, [*numbers], len(items)) != numbers or any(len(name) > MAX_CONTEXT_CHARS for name in numbers):
        raise ValueError(f"the numbers of a list are {short_text(numbers)}")
    return ShownList(tuple(map(_id, items)), _id(list_id), _whole(first_place, MAX_LIMIT), numbers)


def _id(value: Any) -> str:
    if type(value) is not str or not 0 < len(value) <= MAX_ID_LENGTH:
        raise TypeError(f"an id is {short_text(value)}")
    return value


def _whole(value: Any, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{short_text(value)} is no whole number up to {most}")
    return value


def _entry(item_id: Any, kind: Any, time_ms: Any, value: Any, session: Any = None) -> Entry:
    if value is not None and type(value) is not float and type(value) is not int:
        raise TypeError(f"a value is {short_text(value)}")
    at, number = _whole(time_ms, MAX_TIME_MS), None if value is None else float(value)
    return Entry(_id(item_id), _id(kind), at, number, None if session is None else _whole(session, MAX_SESSION))


def _unpacked(rows: list[list[Any]]) -> _PastPiece:
    """Every row by `_entry`; where all are as a writer of ours makes them, column by column, in a fifth of the time."""
    if len(rows) > 1 and {*map(type, rows)} == {list} and len({*map(len, rows)}) == 1 and 4 <= len(rows[0]) <= 5:
        columns = tuple(zip(*rows, strict=True))
        return _piece(columns if len(columns) == 5 else (*columns, (None,) * len(rows)))
    return _PastPiece(made=[_entry(*row) for row in rows])


def _piece(columns: _Columns) -> _PastPiece:
    return _PastPiece(columns) if _are_sound(*columns) else _PastPiece(made=[*map(_entry, *columns)])


def _are_sound(ids: Any, kinds: Any, times: Any, values: Any, sessions: Any) -> bool:
    """Whether `_entry` takes all of these as they are. A no may be wrong: it costs time."""
    try:
        length = len("".join(ids))  # raises TypeError where one is no text
        return (
            all(ids)
            and (length <= MAX_ID_LENGTH or max(map(len, ids)) <= MAX_ID_LENGTH)
            and all(type(kind) is str and 0 < len(kind) <= MAX_ID_LENGTH for kind in {*kinds})
            and type(sum(times)) is int
            and min(times) > 1  # true counts as 1
            and max(times) <= MAX_TIME_MS
            and (values.count(None) == len(values) or {*map(type, values)} <= {float, _Nothing})
            and (sessions.count(None) == len(sessions) or _are_sessions(sessions))
        )
    except TypeError:
        return False


def _are_sessions(column: Any) -> bool:
    numbers = [one for one in column if one is not None]
    return {*map(type, numbers)} == {int} and min(numbers) >= 0 and max(numbers) <= MAX_SESSION


def _position(offset: Any, place: Any) -> EventPosition:
    return EventPosition(_whole(offset, MAX_OFFSET), _whole(place, MAX_OFFSET))


def _content(content: Any) -> dict[str, Any] | None:
    """Fields of `headwater.events.Item` that a learner reads, each of its kind."""
    if content is None:
        return None
    categories = content.get("categories") or []
    kinds: list[tuple[Any, Any]] = [(content.get(name) or "", str) for name in ("title", "text")]
    kinds += [(categories, list), (content.get("attributes") or {}, dict), *((name, str) for name in categories)]
    vectors = content.get("vectors") or {}
    kinds += [(vectors, dict), *((one, list) for one in vectors.values() if isinstance(vectors, dict))]
    kinds += [(number, float | int) for one in vectors.values() for number in one]
    for value, kind in kinds:
        if not isinstance(value, kind):
            raise TypeError(f"{short_text(value)} in an item's content is of another type")
    found: dict[str, Any] = content
    return found
