"""A user's past: entries, their columns, and a history of which most stays packed until somebody looks at it.

Before: `streams.features.fold` makes entries. After: `streams.features.packed` stores histories, `headwater.examples`
sends them. Both write the same bytes, so what is stored is sent as it is. Knows nothing of Kafka or of Redis.

What is packed grows, and is written and sent, without an `Entry` being made of any of it: of a user who comes back with
one event the worker looks at how many there were and when the last was.

Columns are the form that JSON takes: item ids and types once each, times by their steps. They are half as long as one
list an entry, and deflate to a seventh. All of it runs in C but for a few steps a column.
"""

from __future__ import annotations

import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate, chain, repeat
from operator import sub
from typing import Any, NamedTuple, cast, overload

import orjson

__all__ = ["Entry", "PackedEntries", "PackedHistory", "column_bytes", "columns_of", "entries", "entry_columns"]
__all__ += ["ENTRY_BYTES", "LEAST_APART", "plain_entries", "text_columns", "texts", "whole_columns"]

NONE = 0
"""Stands for a column that has nothing to tell: no values, no sessions, all texts different or all the same."""

ANY_NUMBER = b" "
"""What JSON begins with that orjson cannot write: numbers of more than 64 bits, or half a surrogate pair."""

DEFLATED = 0x78
"""What deflated bytes begin with."""

MOST_BYTES = 64 << 20
"""Longest that inflated columns may be: a few bytes can claim to be gigabytes."""


LONG = 512
"""Bytes of JSON from which on it is deflated: shorter ones gain little, and cost as much as all else together."""

LEAST_APART = 26
"""Entries of a history from which on it is stored apart and sent as bytes; a shorter one is a part of other JSON."""

ENTRY_BYTES = 140
"""What an entry takes of memory."""

TOGETHER = 256
"""Most entries that are packed together: as dense as 1,000 of them, and what is added packs no more than these anew."""


class Entry(NamedTuple):
    """One remembered event of a user.

    Fields
        item_id: what.
        type: how.
        time_ms: when, epoch ms.
        value: stars, seconds, ... if it had one.
        session: `events.session_number` of the session it happened in, if that is known; its JSON leaves it out where
            not.
    """

    item_id: str
    type: str
    time_ms: int
    value: float | None
    session: int | None = None


_entry = partial(tuple.__new__, Entry)


def plain_entries(past: Iterable[Entry]) -> list[tuple[Any, ...]]:
    """Entries as JSON takes them: exact tuples, without a session where none is known."""
    return [entry[:4] if entry[4] is None else (*entry,) for entry in past]


def entry_columns(past: Sequence[Entry]) -> tuple[Any, ...]:
    """Entries as columns.

    >>> entry_columns([Entry("a", "view", 5, None), Entry("b", "view", 9, 4.5), Entry("a", "view", 9, None)])
    ('a,b,a', 0, 'view', 0, [5, 4, 0], (None, 4.5, None), 0)
    """
    if len(past) == 1:  # what most events add
        ((item, kind, time_ms, value, session),) = past
        number = NONE if value is None else (value,)
        return _joined((item,)), NONE, _joined((kind,)), NONE, [time_ms], number, NONE if session is None else [session]
    items, types, times, values, sessions = zip(*past, strict=True)
    n = len(times)
    return (
        *text_columns(items),
        *text_columns(types),
        _steps(times),
        NONE if values.count(None) == n else values,
        _session_column(sessions),
    )


def _session_column(sessions: Sequence[int | None]) -> Any:
    if None not in sessions:
        return _steps(cast(Sequence[int], sessions))
    return (sessions,) if any(one is not None for one in sessions) else NONE


def entries(columns: Sequence[Any]) -> list[Entry]:
    """As `entry_columns` made them. Raises ValueError or TypeError for what it did not make."""
    return list(map(_entry, zip(*whole_columns(columns), strict=True)))


def whole_columns(columns: Sequence[Any]) -> tuple[tuple[Any, ...], ...]:
    """The same by their fields: item ids, types, times, values and sessions."""
    items, item_places, types, type_places, times, values, sessions = columns
    n = len(times)
    found = (
        tuple(texts(items, item_places, n)),
        tuple(texts(types, type_places, n)),
        tuple(accumulate(times)),
        tuple(values or repeat(None, n)),
        tuple(_sessions(sessions, n)),
    )
    if {*map(len, found)} != {n}:
        raise ValueError(f"columns of {n} entries are of lengths {[*map(len, found)]}")
    return found


def _sessions(told: Any, n: int) -> Iterable[int | None]:
    if not told:
        return repeat(None, n)
    return accumulate(told) if type(told[0]) is int else told[0]


def _rows(columns: Sequence[Any]) -> list[tuple[Any, ...]]:
    """As `plain_entries` makes them of the same entries."""
    items, item_places, types, type_places, times, values, sessions = columns
    if sessions:
        return plain_entries(entries(columns))
    n = len(times)
    some = texts(items, item_places, n), texts(types, type_places, n), accumulate(times), values or repeat(None, n)
    return list(zip(*some, strict=True))


def _grown(columns: Sequence[Any], newest_ms: int, came: Sequence[Entry]) -> tuple[Any, ...]:
    """The columns of all of them together, when these came after the newest."""
    items, item_places, types, type_places, times, values, sessions = columns
    n = len(times)
    if len(came) == 1 and not (values or sessions):
        item, kind, time_ms, number, session = came[0]
        if number is session is None and kind == types and "," not in kind:  # what most events add
            steps = [*times, time_ms - newest_ms]
            if item_places == NONE and type(items) is str and "," not in item:
                different = len({*items.split(","), item})
                if different * 2 > n + 1 and different > 2:  # as `text_columns` would, and nothing is split and joined
                    return f"{items},{item}", NONE, types, NONE, steps, NONE, NONE
            return (*text_columns([*texts(items, item_places, n), item]), types, NONE, steps, NONE, NONE)
    ids, kinds, moments, numbers, their_sessions = zip(*came, strict=True)
    if type_places or type(types) is not str or "," in types or {*kinds} != {types}:  # else all are of one type
        types, type_places = text_columns([*texts(types, type_places, n), *kinds])
    if values or numbers.count(None) < len(came):
        values = [*(values or repeat(None, n)), *numbers]
    if sessions or their_sessions.count(None) < len(came):
        sessions = _session_column([*_sessions(sessions, n), *their_sessions])
    steps = [*times, moments[0] - newest_ms, *map(sub, moments[1:], moments)]
    return (*text_columns([*texts(items, item_places, n), *ids]), types, type_places, steps, values, sessions)


def text_columns(column: Sequence[str]) -> tuple[str | list[str], Sequence[int] | int]:
    """Texts, joined where none has a comma; of those that mostly repeat the different ones, and which stands where.

    What repeats now and then is found when it is deflated: places would cost more.
    """
    table = dict.fromkeys(column)
    if len(table) == 1 or len(table) * 2 > len(column):
        return _joined([*table] if len(table) == 1 else column), NONE
    places = dict(zip(table, range(len(table)), strict=True))
    return _joined([*table]), list(map(places.__getitem__, column))


def _joined(some: Sequence[str]) -> str | list[str]:
    joined = ",".join(some)
    return joined if joined.count(",") == len(some) - 1 else list(some)


def texts(told: str | list[str], places: Sequence[int] | int, n: int) -> Iterable[str]:
    """As `text_columns` made them of `n` texts."""
    table = told.split(",") if type(told) is str else told
    if not isinstance(places, int):
        return map(table.__getitem__, places)
    return table if len(table) > 1 else repeat(table[0], n)


def _steps(column: Sequence[int]) -> list[int]:
    """The first, then how much more each is than the one before it."""
    return [column[0], *map(sub, column[1:], column)]


def column_bytes(columns: Sequence[Any]) -> bytes:
    """Columns as JSON, deflated where that is long."""
    try:
        text = orjson.dumps(columns)
    except TypeError:
        text = ANY_NUMBER + json.dumps(columns).encode()
    return text if len(text) < LONG else zlib.compress(text, 4)  # 4% smaller than by level 1, in 10% more time


def columns_of(data: bytes, most: int = MOST_BYTES) -> list[Any]:
    """As `column_bytes` wrote them. Raises ValueError, IndexError or `zlib.error` for what it did not write, or what
    is longer than `most` bytes when it is inflated.
    """
    if data[0] == DEFLATED:
        inflating = zlib.decompressobj()
        data = inflating.decompress(data, most)
        if not inflating.eof:
            raise ValueError("deflated columns are cut off, or too long")
    columns: list[Any] = json.loads(data) if data[0] == ANY_NUMBER[0] else orjson.loads(data)
    return columns


class PackedEntries:
    """Some entries, at least one, as columns or as their bytes, unpacked when somebody looks at them.

    Parameters
        data: as `column_bytes` wrote them; None where they are given as columns, until somebody asks for bytes.
        size: how many entries.
        newest_ms: when the last was.
        columns: as `entry_columns` made them, or JSON brought them back.
    """

    __slots__ = ("_columns", "_data", "_entries", "_text", "newest_ms", "size")

    def __init__(self, data: bytes | None, size: int, newest_ms: int, columns: Sequence[Any] | None = None) -> None:
        self._data, self.size, self.newest_ms, self._columns = data, size, newest_ms, columns
        self._entries: list[Entry] | None = None
        self._text: str | None = None

    @classmethod
    def of(cls, past: Sequence[Entry]) -> PackedEntries:
        """Some that are not packed."""
        return cls(None, len(past), past[-1].time_ms, entry_columns(past))

    @classmethod
    def held(cls, columns: Sequence[Any]) -> PackedEntries:
        """Some as columns. Raises TypeError or IndexError for what has no times."""
        times = columns[4]
        return cls(None, len(times), sum(times), columns)

    @property
    def columns(self) -> Sequence[Any]:
        """As columns: nobody may change them."""
        return columns_of(self.data) if self._columns is None else self._columns

    @property
    def data(self) -> bytes:
        """As bytes, which is how they are kept from then on."""
        if self._data is None:
            if self._text is not None:
                return b64decode(self._text)
            self._data, self._columns = column_bytes(self.columns), None
        return self._data

    @property
    def text(self) -> str:
        """The bytes in base64, which is how they are kept from then on: the next example of their user has them too."""
        if self._text is None:
            self._text = b64encode(self.data).decode()
            self._data = None
        return self._text

    @property
    def weight(self) -> int:
        """Bytes of memory, about."""
        if self._entries is not None:
            return ENTRY_BYTES * self.size
        held = self._data or self._text
        return 250 + 50 * self.size if held is None else len(held)

    def plain(self) -> list[tuple[Any, ...]]:
        """`plain_entries` of them."""
        return _rows(self.columns) if self._entries is None else plain_entries(self._entries)

    def grown(self, came: Sequence[Entry]) -> PackedEntries:
        """With these, which came after them."""
        if not came:
            return self
        columns = _grown(self.columns, self.newest_ms, came)
        return PackedEntries(None, self.size + len(came), came[-1].time_ms, columns)

    @property
    def entries(self) -> list[Entry]:
        """All of them; raises as `columns_of` and `entries` do."""
        if self._entries is None:
            found = entries(self.columns)
            if len(found) != self.size:
                raise ValueError(f"{len(found)} entries are packed where {self.size} should be")
            self._entries = found
        return self._entries


class PackedHistory(Sequence[Entry]):
    """Entries of which the older are packed, some hundred together: to go on at the end, or to forget the oldest,
    unpacks nothing.

    Parameters
        packed: the older ones.
        skipped: how many of the first of these are forgotten.
        newer: those that came after; it is this history's own.
        older: how many are packed and not forgotten; counted where it is not told.
    """

    __slots__ = ("newer", "older", "packed", "skipped")

    def __init__(
        self, packed: tuple[PackedEntries, ...], skipped: int, newer: list[Entry], older: int | None = None
    ) -> None:
        self.packed, self.skipped, self.newer = packed, skipped, newer
        self.older = sum([one.size for one in packed]) - skipped if older is None else older

    @classmethod
    def of(cls, past: Sequence[Entry]) -> PackedHistory:
        """All of it packed; what was, stays as it is, but for a short end and what is mostly forgotten."""
        packed: list[PackedEntries] = []
        newer, skipped = past, 0
        if isinstance(past, PackedHistory):
            size = past.older + len(past.newer)
            if len(past.packed) == 1 and not past.skipped and size <= TOGETHER:  # as most are
                return cls((past.packed[0].grown(past.newer),), 0, [], size)
            packed, skipped, newer = list(past.packed), past.skipped, past.newer
            if skipped > TOGETHER // 3:
                packed[0] = PackedEntries.of(packed[0].entries[skipped:])
                skipped = 0
            if packed and packed[-1].size + len(newer) <= TOGETHER:
                last = packed.pop()
                if skipped and not packed:
                    last, skipped = PackedEntries.of(last.entries[skipped:]), 0
                packed.append(last.grown(newer))
                newer = []
        packed += [PackedEntries.of(newer[at : at + TOGETHER]) for at in range(0, len(newer), TOGETHER)]
        return cls(tuple(packed), skipped, [])

    @property
    def newest_ms(self) -> int:
        """When the last was; of a history that is not empty."""
        return self.newer[-1].time_ms if self.newer else self.packed[-1].newest_ms

    @property
    def is_apart(self) -> bool:
        """Whether so much is packed that it is sent as bytes."""
        return self.older >= LEAST_APART

    def plain(self) -> list[tuple[Any, ...]]:
        """`plain_entries` of it."""
        found = self.packed[0].plain() if len(self.packed) == 1 else [*chain(*[one.plain() for one in self.packed])]
        if self.newer:
            found += plain_entries(self.newer)
        return found[self.skipped :] if self.skipped else found

    def whole(self) -> list[Entry]:
        """All entries: nobody may change the list."""
        if not self.packed:
            return self.newer
        if len(self.packed) == 1 and not self.newer and not self.skipped:
            return self.packed[0].entries
        found = self.packed[0].entries[self.skipped :]
        for one in self.packed[1:]:
            found += one.entries
        found += self.newer
        return found

    def copy(self) -> PackedHistory:
        """One that can be changed on its own."""
        return PackedHistory(self.packed, self.skipped, self.newer.copy(), self.older)

    def __len__(self) -> int:
        return self.older + len(self.newer)

    @overload
    def __getitem__(self, index: int) -> Entry: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Entry]: ...

    def __getitem__(self, index: int | slice) -> Entry | Sequence[Entry]:
        if isinstance(index, int):
            return self.newer[index] if 0 < -index <= len(self.newer) else self.whole()[index]
        older = self.older
        if older and not index.start and index.step in (None, 1):
            end = older + len(self.newer) if index.stop is None else index.stop
            if end >= older:
                return PackedHistory(self.packed, self.skipped, self.newer[: end - older], older)
        return self.whole()[index]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.whole())

    def __reversed__(self) -> Iterator[Entry]:
        return reversed(self.whole())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, PackedHistory):
            return self.whole() == other.whole()
        return self.whole() == other if isinstance(other, list) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self.whole())

    def insert(self, place: int, entry: Entry) -> None:
        """As of a list."""
        if place < self.older:
            self._unpack()
        self.newer.insert(place - self.older, entry)

    def __delitem__(self, place: int) -> None:
        if place == 0:
            self.forget(1)
            return
        self._unpack()
        del self.newer[place]

    def forget(self, n: int) -> None:
        """The `n` oldest go."""
        of_older = min(n, self.older)
        self.older -= of_older
        self.skipped += of_older
        while self.packed and self.skipped >= self.packed[0].size:
            self.skipped -= self.packed[0].size
            self.packed = self.packed[1:]
        del self.newer[: n - of_older]

    def _unpack(self) -> None:
        self.newer = list(self.whole())
        self.packed, self.skipped, self.older = (), 0, 0
