"""What every source of past events has: an iterator of Events and a report of what was read and what was refused.

Before: a module for each format makes raw rows. After: `replay.stream` and the backtest read events. Knows no file
format and no Kafka. `events_of` settles once for the whole source how times and ids are read, counts each bad row
under its reason and quotes the first few; no row is dropped uncounted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import islice
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import orjson
from pydantic import ValidationError

from headwater.errors import SourceError
from headwater.events import MAX_SHOWN, Event, Item, now_ms
from headwater.signals import Signal
from replay.sources.ids import IdColumn, as_id, as_text, choose_ids, is_missing
from replay.sources.lists import SHOWN_TYPE, Lists, items_shown, shown_id
from replay.sources.logins import Logins
from replay.sources.raw import BadRow, LeftOut, RawRow, place_of
from replay.sources.times import (
    AHEAD_MS,
    SAME_EITHER_WAY,
    TimeColumn,
    TimeOptions,
    choose_time_column,
    moment_text,
    number_of,
)

__all__ = ["BadRow", "Catalogued", "RawRow", "RowOptions", "Source", "SourceReport", "as_id", "events_of"]

SAMPLE_ROWS = 10_000
"""Rows that decide how times and ids are read, and by which one more look is taken where they leave it open."""

MOST_ROWS = 200_000
"""Rows after which times that are still open are refused."""

FIRST_BAD = 5
"""Bad rows that the report quotes."""

MOST_REASONS = 20
"""Words that are told of what was refused or left out; a log has hundreds of names."""

_MAX_ID_PATH = 200
_DIGEST = blake2b(
    digest_size=12
)  # of which 10^9 rows have two that are equal once in 10^11 times; copied, not made anew


@dataclass(frozen=True)
class RowOptions:
    """How the rows of any source become events.

    Fields
        times: what is known of the column of times.
        ids_of: what an event without an id gets one of: the row's `content`, or the whole `path` of its file and its
            number there.
        keep_missing_words: whether `nan`, `NULL`, `None`, ... are ids and types like others.
        impressions: whether lists that were shown are events.
    """

    times: TimeOptions = field(default_factory=TimeOptions)
    ids_of: Literal["content", "path"] = "content"
    keep_missing_words: bool = False
    impressions: bool = True


@dataclass
class SourceReport:
    """What was read. Complete when the iterator is exhausted.

    Fields
        rows, events: how many.
        bad: refused rows by reason; `first_bad` quotes the first.
        time_column, time_unit, time_warning: the column that was taken for the time, for what, and what is odd in it.
        first_ms, last_ms: of the events, by their times.
        left_out: good rows that are no events: a catalogue entry, what is known of a user.
        ahead: events beyond this machine's clock, which the workers refuse until their time has come.
        read_as, notes: how a file is read, and what a person should know of the choices made.
        made_types: types that were made of words of the file.
        shown: lists that were shown.
        logins: which guests are which users, as far as rows say so.
        signals: what the source's own system says that its types mean.
    """

    name: str
    rows: int = 0
    events: int = 0
    bad: Counter[str] = field(default_factory=Counter)
    first_bad: list[str] = field(default_factory=list)
    time_unit: str = ""
    left_out: Counter[str] = field(default_factory=Counter)
    time_column: str = ""
    time_warning: str = ""
    first_ms: int | None = None
    last_ms: int | None = None
    ahead: int = 0
    read_as: str = ""
    notes: list[str] = field(default_factory=list)
    made_types: dict[str, str] = field(default_factory=dict)
    shown: Lists = field(default_factory=Lists)
    logins: Logins = field(default_factory=Logins)
    signals: Mapping[str, Signal] = field(default_factory=dict)

    def took(self, time_ms: int) -> None:
        """Count an event and its time."""
        self.events += 1
        if self.first_ms is None or self.last_ms is None:
            self.first_ms = self.last_ms = time_ms
        elif time_ms > self.last_ms:
            self.last_ms = time_ms
        elif time_ms < self.first_ms:
            self.first_ms = time_ms

    def refuse(self, where: str, error: BadRow) -> None:
        """Count a bad row, and quote it while there are few."""
        self.bad[error.reason] += 1
        if len(self.first_bad) < FIRST_BAD:
            self.first_bad.append(f"{error.place or where}: {error}")

    @property
    def time_text(self) -> str:
        """What was taken for the time: "column time_ms, milliseconds, 2022-04-20 .. 2022-05-08"."""
        parts = [f"column {self.time_column}"] if self.time_column else []
        parts.append(self.time_unit or "milliseconds")
        if self.time_warning:
            parts.append(self.time_warning)
        if self.first_ms is not None and self.last_ms is not None:
            first, last = (moment_text(at_ms) for at_ms in (self.first_ms, self.last_ms))
            if first == last:
                first, last = (moment_text(at_ms, clock=True) for at_ms in (self.first_ms, self.last_ms))
            parts.append(f"{first} .. {last}")
        return ", ".join(parts)

    def __str__(self) -> str:
        told = f"{self.name}: {self.counts_text}; {self.reading_text}"
        if self.left_out:
            told += f"; no events: {_counts(self.left_out)}"
        if self.bad:
            told += f"; {self.bad_text}"
        return told

    @property
    def counts_text(self) -> str:
        """How many events of how many rows, and how many of them came with another: "5 events of 4 rows"."""
        beside = f" (and {self.shown.beside:,} lists beside them)" if self.shown.beside else ""
        return f"{self.events - self.shown.beside:,} events of {self.rows:,} rows{beside}"

    @property
    def reading_text(self) -> str:
        """How the rows were read: "read as: CSV, ';', UTF-8, header; time: column ts, seconds, 2022-04-20 .."."""
        told = [f"read as: {self.read_as}"] if self.read_as else []
        told.append(f"time: {self.time_text}")
        if self.made_types:
            words = [f"'{word}' is {kind}" for word, kind in list(self.made_types.items())[:FIRST_BAD]]
            told.append(f"types: {', '.join(words)}")
        return "; ".join([*told, *self.remarks])

    @property
    def remarks(self) -> list[str]:
        """The notes, who is who, and how many events lie ahead."""
        notes = [*self.notes, *self.shown.notes, *self.logins.notes]
        ahead = f"{self.ahead:,} lie ahead of this clock: workers refuse them (event_time_ahead). Is it --time-zone?"
        return [*notes, ahead] if self.ahead else notes

    @property
    def bad_share(self) -> float:
        """The share of the rows that was refused."""
        return self.bad.total() / self.rows if self.rows else 0.0

    @property
    def bad_text(self) -> str:
        """What was refused, in words."""
        return f"refused: {_counts(self.bad)}. First: {'; '.join(self.first_bad)}"


def _counts(counter: Counter[str]) -> str:
    told = ", ".join(f"{count:,} {reason}" for reason, count in counter.most_common(MOST_REASONS))
    return told + (f", and {len(counter) - MOST_REASONS} names more" if len(counter) > MOST_REASONS else "")


class Source(Protocol):
    """Events of the past, in the order in which they are to happen again."""

    report: SourceReport

    def events(self) -> Iterator[Event]:
        """The events. Each call reads from the start and begins the report anew. Raises SourceError."""
        ...


@runtime_checkable
class Catalogued(Source, Protocol):
    """A source that also knows what its items are."""

    def items(self) -> list[Item]:
        """The catalogue as it is at the end of the source. Raises SourceError."""
        ...


class _Checked(NamedTuple):
    time_ms: int
    number: int
    user_id: str
    item_id: str
    type: str
    value: float | None
    event_id: str | None
    session_id: str | None
    request_id: str | None
    place: str
    path: str
    shown: tuple[str, ...]


Rows = Iterable[RawRow | BadRow | LeftOut]


def events_of(
    rows: Rows,
    report: SourceReport,
    *,
    sort: bool,
    options: RowOptions | None = None,
    time: TimeColumn | None = None,
) -> Iterator[Event]:
    """Events of raw rows, in stable time order when `sort`, else as they come; bad rows are counted in the report.

    An event without an id gets one of its row's content, with a number from the second equal row of the source on: so
    replayed twice, or read from another file, it is the same event. Sorting holds about 300 bytes a row in memory, the
    order of the file about 150 for the ids.

    Parameters
        rows: read as it goes.
        report: filled in.
        sort: by time; of equal times the order of the rows stays.
        options: how rows are read.
        time: the column that was chosen for the time; None chooses how it is read from the first rows.

    Raises
        SourceError: there are rows and none is good, or most of the first have no time from 1990 to now.
    """
    options = options or RowOptions()
    waiting = iter(rows)
    soon_ms = now_ms() + AHEAD_MS
    sample, time = _sampled(waiting, options, time, report.name)
    report.time_column, report.time_unit, report.time_warning = time.name, time.unit, time.warning
    good = _checked(_chain(sample, waiting), report, time, _columns(sample, options))
    ordered = sorted(good, key=lambda one: one.time_ms) if sort else good
    lists: set[tuple[str, str]] = set()
    for row, row_id in _with_ids(ordered, report.name, options, in_time_order=sort):
        for event in _made(row, row_id, report, lists):
            report.took(row.time_ms)
            if row.time_ms > soon_ms:
                report.ahead += 1
            yield event
    if report.rows and not report.events:
        raise SourceError(f"no row can become an event. {report}. Check which columns are named (--user, --time, ...)")


def _made(row: _Checked, row_id: str, report: SourceReport, lists: set[tuple[str, str]]) -> Iterator[Event]:
    """The event of a row; before it that of the list that came with it, once for each that was shown."""
    named: dict[str, Any] = {"user_id": row.user_id, "event_time": row.time_ms, "session_id": row.session_id}
    try:
        if not row.item_id:
            event = Event(event_id=row_id, item_id=row.shown[0], items=row.shown[:MAX_SHOWN], type=row.type,
                          request_id=row.request_id, **named)  # fmt: skip
            report.shown.took(len(row.shown), beside=False)
            yield event
            return
        request_id = row.request_id or (row_id if row.shown else None)
        event = Event(event_id=row_id, item_id=row.item_id, type=row.type, value=row.value, request_id=request_id,
                      **named)  # fmt: skip
        if row.shown:
            list_id = shown_id(row_id, row.request_id, row.shown)
            shown = Event(event_id=list_id, item_id=row.shown[0], items=row.shown[:MAX_SHOWN], type=SHOWN_TYPE,
                          request_id=request_id, **named)  # fmt: skip
            once = row.request_id is None or (row.user_id, list_id) not in lists
            if once:
                if row.request_id is not None:
                    lists.add((row.user_id, list_id))
                report.shown.took(len(row.shown), beside=True)
                yield shown
        yield event
    except ValidationError as error:
        problem = error.errors()[0]
        what = str(problem["loc"][0])
        text = f"{what}: {problem['msg']} ({problem['input']!r:.80})"
        report.refuse(place_of(row.path, row.number), BadRow(what, text, row.place))


def _sampled(
    waiting: Iterator[RawRow | BadRow | LeftOut], options: RowOptions, time: TimeColumn | None, name: str
) -> tuple[list[RawRow | BadRow | LeftOut], TimeColumn]:
    """The first rows, more of them while they leave open how times are read, and how. Raises SourceError."""
    sample: list[RawRow | BadRow | LeftOut] = []
    unclear: set[str] = set()
    while time is None or time.undecided or not sample:
        more = list(islice(waiting, SAMPLE_ROWS))
        times = [row.time for row in more if isinstance(row, RawRow | LeftOut)]
        if time is None or (time.undecided and times):
            time = choose_time_column({time.name if time else "": times}, options.times)
        sample += more
        if not more:
            if unclear == {SAME_EITHER_WAY}:
                time = replace(time, undecided="")
            break
        unclear.add(time.undecided)
        if len(sample) >= MOST_ROWS:
            break
    if time.undecided and any(isinstance(row, RawRow) and not is_missing(row.time) for row in sample):
        raise SourceError(
            f'{name}: {time.undecided}: say which with --time-format, as "%d/%m/%Y" for the day or "%m/%d/%Y" for the '
            "month first, and the clock as %H:%M:%S"
        )
    return sample, time


class _Columns(NamedTuple):
    """How the fields of a row are read that are not its time."""

    users: IdColumn
    items: IdColumn
    types: IdColumn
    keep_words: bool
    impressions: bool


def _columns(sample: list[RawRow | BadRow | LeftOut], options: RowOptions) -> _Columns:
    keep = options.keep_missing_words
    rows = [row for row in sample if isinstance(row, RawRow)]
    return _Columns(
        choose_ids([row.user for row in rows], "user", keep_words=keep),
        choose_ids([row.item for row in rows], "item", keep_words=keep),
        choose_ids([row.type for row in rows], "type", keep_words=keep),
        keep,
        options.impressions,
    )


def _checked(rows: Rows, report: SourceReport, time: TimeColumn, columns: _Columns) -> Iterator[_Checked]:
    users, items, types, keep, impressions = columns
    kinds: dict[str, str] = {}
    for number, row in enumerate(rows):
        report.rows += 1
        try:
            if isinstance(row, BadRow):
                raise row
            if isinstance(row, LeftOut):
                _leave_out(row, report, time, users)
                continue
            shown = () if row.shown is None else items_shown(row.shown, items.read)
            only_list = bool(shown) and is_missing(row.item)
            if only_list and not impressions:
                report.left_out[str(row.type)] += 1
                continue
            kind = types.read(row.type)
            time_ms, user = time.read(row.time), users.read(row.user)
            if not is_missing(row.guest):
                report.logins.met(users.read(row.guest), user, time_ms)
            yield _Checked(
                time_ms, row.number, user, "" if only_list else items.read(row.item),
                kinds.get(kind) or kinds.setdefault(kind, kind.lower().replace(" ", "_")),
                None if row.value is None else _value(row.value),
                None if row.event_id is None else as_text(row.event_id, "event_id", keep_words=keep),
                None if row.session is None else as_text(row.session, "session", keep_words=keep),
                None if row.request is None else as_text(row.request, "request", keep_words=keep),
                row.place, row.path, shown if impressions else (),
            )  # fmt: skip
        except BadRow as error:
            place = row.place if isinstance(row, BadRow | RawRow) else ""
            place = place or (f"row {number}" if isinstance(row, BadRow) else place_of(row.path, row.number))
            report.refuse(place, error)


def _leave_out(row: LeftOut, report: SourceReport, time: TimeColumn, users: IdColumn) -> None:
    """Count a row that is no event, and who it says somebody is. Raises BadRow."""
    if not is_missing(row.user) and not is_missing(row.guest):
        report.logins.met(users.read(row.guest), users.read(row.user), time.read(row.time), said=row.said)
    report.left_out[row.what] += 1


def _value(value: Any) -> float | None:
    number = number_of(value)
    if number is not None:
        return float(number)
    if is_missing(value):
        return None
    raise BadRow("value", f"value {value!r:.80} is not a finite number")


def _with_ids(
    rows: Iterable[_Checked], name: str, options: RowOptions, *, in_time_order: bool
) -> Iterator[tuple[_Checked, str]]:
    """Rows with their ids. Equal rows have equal times: in time order only those of one time are remembered."""
    seen: dict[str, int] = {}
    at_ms: int | None = None
    for row in rows:
        if row.event_id is not None:
            yield row, row.event_id
        elif options.ids_of == "path":
            yield row, _path_id(row.path or name, row.number)
        else:
            if in_time_order and row.time_ms != at_ms:
                seen.clear()
                at_ms = row.time_ms
            made = _content_id(row)
            count = seen[made] = seen.get(made, 0) + 1
            yield row, made if count == 1 else f"{made}-{count}"


def _content_id(row: _Checked) -> str:
    time, _, user, item, kind, value, _, session, request, _, _, shown = row
    digest = _DIGEST.copy()
    digest.update(orjson.dumps((time, user, item or shown, kind, value, session, request)))
    return digest.hexdigest()


def _path_id(path: str, number: int) -> str:
    if len(path) > _MAX_ID_PATH:
        path = f"{blake2b(path.encode(), digest_size=12).hexdigest()}{path[-100:]}"
    return f"{path}-{number}"


def _chain(
    sample: list[RawRow | BadRow | LeftOut], rest: Iterator[RawRow | BadRow | LeftOut]
) -> Iterator[RawRow | BadRow | LeftOut]:
    """The sample, then the rest; the sample's memory is given back."""
    sample.reverse()
    while sample:
        yield sample.pop()
    yield from rest
