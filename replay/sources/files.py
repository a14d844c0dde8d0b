"""Past events from files of any common format: one, a folder of parts, a glob.

Before: `reading` gives rows by columns, `columns` says what those mean, `kinds` makes types of words, `times` finds how
times are written. After: `replay.stream`, the backtest, `headwater look`, which all see the same `FilePlan`. What a row
must hold to become an event is in `replay.sources.source`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from headwater.errors import SourceError
from headwater.events import Event
from replay.sources.columns import (
    Columns,
    Roles,
    decimal_comma,
    guesses_of,
    is_known_name,
    is_listed,
    layout_of,
    plain,
    roles_of,
)
from replay.sources.ids import is_missing
from replay.sources.kinds import Kinds, slug
from replay.sources.lists import SHOWN_TYPE
from replay.sources.raw import BadRow, RawRow
from replay.sources.reading import FileFormat, FilePart, Table, kind_of, parts_of, start_of
from replay.sources.source import RowOptions, SourceReport, events_of
from replay.sources.times import TimeColumn, choose_time_column

__all__ = ["FilePlan", "FileSource"]

SAMPLE_ROWS = 2000
"""Rows by which columns are chosen."""

CALLS = "eventlist"
"""The list of events in a call of Amazon Personalize's PutEvents, whose anonymous ones are known by their session."""

FIRST_MS = 946_684_800_000
"""2000-01-01 UTC: where the events of a file without times begin, one a second. Any time of the past would do; one that
never moves makes a file the same events whenever it is read."""

NO_TIMES = "none; the order of the rows, a second for each from 2000-01-01"


@dataclass(frozen=True)
class FilePlan:
    """How a file is read, found from its begin.

    Fields
        first: the first part.
        parts: how many files there are.
        roles: what its columns are.
        time: how its times are read.
        time_columns: those that hold them: one, a day and a clock, or none.
        sample: the values of its first rows, by column.
        notes: what a person should know of the choices.
    """

    first: Table
    parts: int
    roles: Roles
    time: TimeColumn
    time_columns: tuple[str, ...]
    sample: Mapping[str, Sequence[Any]]
    notes: tuple[str, ...]

    @property
    def read_as(self) -> str:
        """In words: CSV, ';', UTF-8 with BOM, header."""
        return self.first.read_as + (f", {self.parts:,} files" if self.parts > 1 else "")


class ColumnsSeen(NamedTuple):
    """The first values of each column, how the file is read in words, and what columns are taken for."""

    sample: Mapping[str, Sequence[Any]]
    read_as: str
    taken_for: Mapping[str, str]


class FileSource:
    """Events in time order (stable, about 300 bytes a row of memory), or in that of the files with `in_file_order`.

    Parameters
        path: a file, a folder of parts, a glob, or several of them.
        columns: what a person said of its columns.
        form: what a person said of how it is written.
        options: how rows become events.
    """

    def __init__(
        self,
        path: Path | str | Sequence[str],
        columns: Columns | None = None,
        *,
        form: FileFormat | None = None,
        options: RowOptions | None = None,
        in_file_order: bool = False,
    ) -> None:
        names = [path] if isinstance(path, str | Path) else list(path)
        self.name = str(names[0]) + (f" and {len(names) - 1} more" if len(names) > 1 else "")
        self.columns = columns or Columns()
        self.in_file_order = in_file_order or not self.columns.timed
        self.report = SourceReport(self.name)
        self._form, self._options = form or FileFormat(), options or RowOptions()
        self._parts = [part for name in dict.fromkeys(names) for part in parts_of(name)]
        kind_of(self._parts[0].path, start_of(self._parts[0].path))
        self._plan: FilePlan | None = None

    @cached_property
    def _first(self) -> Table:
        table = Table(self._parts[0], self._form, is_known_name)
        calls = [name for name in table.lists if plain(name) == CALLS] if self._form.explode is None else []
        if not calls:
            return table
        self._form = replace(self._form, explode=calls[0])
        return Table(self._parts[0], self._form, is_known_name)

    @property
    def files(self) -> int:
        """How many files it is."""
        return len(self._parts)

    @property
    def size_bytes(self) -> int:
        """Of all files, as they lie there."""
        return sum(part.path.stat().st_size for part in self._parts)

    def columns_seen(self) -> ColumnsSeen:
        """What its columns are taken for, also of a file that lacks something. Raises SourceError."""
        try:
            plan = self.plan()
        except SourceError:
            sample = _sample(self._first)
            return ColumnsSeen(sample, self._first.read_as, guesses_of(self._first.columns, sample, self.columns))
        roles = plan.roles
        taken = {roles.type: "type", roles.value: "value", roles.event_id: "event id", roles.session: "session",
                 roles.request: "request", roles.shown: "shown"}  # fmt: skip
        known = {name: what for name, what in taken.items() if name} | dict.fromkeys(plan.time_columns, "time")
        known |= {name: f"flag: {kind}" for name, kind in roles.flags}
        return ColumnsSeen(
            plan.sample, plan.read_as, {**known, roles.user: "user", **({roles.item: "item"} if roles.item else {})}
        )

    def plan(self) -> FilePlan:
        """How the file is read. Raises SourceError for one that lacks a column, or whose columns say too little."""
        if self._plan is None:
            self._plan = self._planned()
        return self._plan

    def events(self) -> Iterator[Event]:
        """The events. Raises SourceError for a file that cannot be read or lacks a column."""
        self.report = SourceReport(self.name)
        plan = self.plan()
        kinds = Kinds(self.columns.types)
        self.report.read_as, self.report.notes = plan.read_as, list(plan.notes)
        self.report.made_types = kinds.made
        rows = self._raw_rows(plan, kinds)
        events = events_of(rows, self.report, sort=not self.in_file_order, options=self._options, time=plan.time)
        return self._some(events)

    def _some(self, events: Iterator[Event]) -> Iterator[Event]:
        """The same events. Raises SourceError at the end where there are columns and no row: an export that failed."""
        yield from events
        if not self.report.rows and not self.report.left_out:
            raise SourceError(f"{self.name} has no events: columns are all there is, no row")

    def _planned(self) -> FilePlan:
        table, columns, notes = self._first, self.columns, []
        sample = _sample(table)
        if columns.user is None and plain(self._form.explode or "") == CALLS:
            users = [name for what in ("userid", "sessionid") for name in table.columns if plain(name) == what]
            columns = replace(columns, user=",".join(users)) if len(users) == 2 else columns
        if table.by_place and columns == Columns(type=columns.type, types=columns.types):
            found = layout_of(list(zip(*sample.values(), strict=True)), table.delimiter)
            if found is not None:
                name, names, kind = found
                table = Table(self._parts[0], replace(self._form, columns=names, header=False), is_known_name)
                sample = _sample(table)
                columns = replace(columns, type=columns.type or (f"={kind}" if kind else None))
                notes.append(f"no header: columns by place, as in {name}: {', '.join(names)}")
        try:
            roles = roles_of(str(table.path), table.columns, sample, columns)
        except SourceError as error:
            raise self._better(error, table, sample) from error
        if roles.type is not None:
            Kinds(self.columns.types).check(str(table.path), roles.type, sample.get(roles.type, ()))
        time, time_columns = self._time(roles, sample)
        return FilePlan(table, len(self._parts), roles, time, time_columns, sample, (*notes, *roles.notes))

    def _time(self, roles: Roles, sample: Mapping[str, Sequence[Any]]) -> tuple[TimeColumn, tuple[str, ...]]:
        if not self.columns.timed:
            return TimeColumn("", NO_TIMES, 1000, "", FIRST_MS, 1 << 53, False, int), ()
        columns = {name: (name,) if name in sample else tuple(name.split("+")) for name in roles.times}
        candidates = {
            name: [_moment(row) for row in zip(*map(sample.get, of), strict=True)] for name, of in columns.items()
        }
        try:
            time = choose_time_column(candidates, self._options.times)
            return time, columns[time.name]
        except SourceError as error:
            raise SourceError(f"{self.name}: {error}") from error

    def _better(self, error: SourceError, table: Table, sample: Mapping[str, Sequence[Any]]) -> SourceError:
        """What lacks, with what may be the reason: no header, or rows within rows."""
        if table.by_place:
            return SourceError(_without_header(table, sample))
        if table.lists and self._form.explode is None:
            return SourceError(f"{error}; or make a row of each element of a list: --explode {table.lists[0]}")
        if table.kind == "text" and len(table.columns) == 1:
            return SourceError(f"{error}; or say what parts the fields, --delimiter")
        return error

    def _raw_rows(self, plan: FilePlan, kinds: Kinds) -> Iterator[RawRow | BadRow]:
        number = 0
        for part in self._parts:
            table = plan.first if part is self._parts[0] else self._next_table(part, plan)
            for row in self._rows_of(table, plan, kinds):
                if not self.columns.timed and isinstance(row, RawRow):
                    row = row._replace(time=FIRST_MS + 1000 * number)
                    number += 1
                yield row
            if table.without_rows:
                self.report.rows += table.without_rows
                self.report.left_out[f"without {self._form.explode}"] += table.without_rows

        if kinds.unmet:
            self.report.notes.append(f"--types names {', '.join(kinds.unmet)}, which no row has")

    def _next_table(self, part: FilePart, plan: FilePlan) -> Table:
        table = Table(part, self._form, is_known_name, plan.first)
        roles = plan.roles
        needed = [roles.user, roles.item or str(roles.shown), *plan.time_columns, *filter(None, [roles.type])]
        lacks = [name for name in needed if name not in table.columns]
        if lacks or table.kind != plan.first.kind:
            raise SourceError(
                f"{part.path} is no part of the same table as {plan.first.path}: "
                + (f"it has no column {', '.join(lacks)}" if lacks else f"it is {table.read_as}")
                + ". Name one file, or the parts by a glob in quotes: 'folder/part-*.csv'"
            )
        return table

    def _rows_of(self, table: Table, plan: FilePlan, kinds: Kinds) -> Iterator[RawRow | BadRow]:
        roles, name, path = plan.roles, str(table.path), str(table.path.absolute())
        wanted = [roles.user, roles.item or str(roles.shown), *plan.time_columns]
        places = []
        optional = (roles.type, roles.value, roles.event_id, roles.session, roles.request, roles.shown)
        for column in (*optional, *roles.other_users, *(name for name, _ in roles.flags)):
            there = column is not None and (column in table.columns or table.kind == "json")
            places.append(len(wanted) if there else -1)
            wanted += [str(column)] if there else []
        type_, value, event_id, session, request, shown, *others = places
        flagged = [
            (place, kind) for place, (_, kind) in zip(others[len(roles.other_users) :], roles.flags, strict=True)
        ]
        others = others[: len(roles.other_users)]
        timed = len(plan.time_columns)
        fixed, exploded = _fixed(roles.fixed_type), self._form.explode is not None
        seen = plan.sample.get(roles.shown or "", ())
        separator, guessed = _separator(seen), self.columns.shown is None and all(map(is_missing, seen))
        commas = value > 0 and table.delimiter != "," and _has_commas(plan.sample.get(wanted[value], ()))
        for number, row in enumerate(table.rows(wanted), 1):
            if isinstance(row, BadRow):
                yield BadRow(row.reason, str(row), f"{name} {row.place}")
                continue
            line, values = row
            kind = fixed
            if type_ > 0:
                try:
                    kind = kinds.read(values[type_])
                except BadRow as error:
                    yield BadRow(error.reason, str(error), f"{name} line {line}")
                    continue
                if not kind:
                    self.report.rows += 1
                    self.report.left_out[str(values[type_])] += 1
                    continue
            worth = values[value] if value > 0 else None
            if commas:
                worth = _number(worth)
            user, guest = values[0], None
            if others:
                guest = next((values[place] for place in others if place > 0 and not is_missing(values[place])), None)
                user = guest if is_missing(user) else user
            at = values[2] if timed == 1 else _moment(values[2 : 2 + timed])
            made = RawRow(
                line, user, values[1] if roles.item else None, at, kind, worth,
                values[event_id] if event_id > 0 else None, values[session] if session > 0 else None,
                values[request] if request > 0 else None, "", path,
                _listed(values[shown], separator, guessed) if shown > 0 else None, guest,
            )  # fmt: skip
            if roles.clicked:
                yield from _clicked(made)
                continue
            if flagged:
                yield from _flagged(made, [kind for place, kind in flagged if place > 0 and _is_set(values[place])])
                continue
            # rows of one line have numbers of their own, for ids by path
            yield made._replace(number=number, place=f"{name} line {line}") if exploded else made


def _sample(table: Table) -> dict[str, list[Any]]:
    rows = [row[1] for row in islice(table.rows(table.columns), SAMPLE_ROWS) if not isinstance(row, BadRow)]
    return {name: [row[place] for row in rows] for place, name in enumerate(table.columns)}


def _moment(values: Sequence[Any]) -> Any:
    """A time as it is; a day and a clock as one text; None where either is missing."""
    if len(values) < 2:
        return values[0] if values else None
    return None if any(map(is_missing, values)) else " ".join(str(value).strip() for value in values)


def _clicked(row: RawRow) -> Iterator[RawRow]:
    """A list of `N55-1 N35-0` and the clicks on it."""
    each = [str(one).rpartition("-") for one in row.shown or ()]
    yield row._replace(shown=[item for item, _, _ in each])
    for number, item in enumerate(item for item, _, was in each if was == "1"):
        event_id = None if is_missing(row.event_id) else f"{row.event_id}:{number}"
        yield row._replace(item=item, type="click", event_id=event_id, shown=None)


def _is_set(value: Any) -> bool:
    return str(value).lower() in ("1", "1.0", "true")


def _flagged(row: RawRow, kinds: Sequence[str]) -> Iterator[RawRow]:
    """The impression of a row, a list of one, and what was done; each with an id of its own where the row has one."""
    shown = [row.item] if row.shown is None else row.shown
    for kind in (SHOWN_TYPE, *kinds):
        event_id = None if is_missing(row.event_id) else f"{row.event_id}:{kind}"
        one = row._replace(type=kind, event_id=event_id, shown=None)
        yield one._replace(item=None, shown=shown, value=None) if kind == SHOWN_TYPE else one


def _separator(values: Sequence[Any]) -> str | None:
    """What parts the items of lists in a column: `|`, else a comma, else blanks (None)."""
    texts = [value for value in values if isinstance(value, str) and not value.lstrip().startswith("[")]
    return next((one for one in ("|", ",") if any(one in text for text in texts)), None)


def _listed(value: Any, separator: str | None, guessed: bool) -> Any:
    """A list from its text: JSON, what Python prints, or items with a separator; anything else as it is.

    `guessed`: only its name says that the column has lists: what is none is left.
    """
    if guessed:
        return _listed(value, "|", False) if is_listed(value) else None
    if not isinstance(value, str) or is_missing(value):
        return value
    text = value.strip()
    if text.startswith("[") and text.endswith("]"):
        for read in (orjson.loads, ast.literal_eval):
            with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
                return read(text)
        return text[1:-1].split(",")
    return text.split(separator)


def _fixed(kind: str) -> str:
    made = slug(kind) if kind else ""
    if made is None:
        raise SourceError(f"--type ={kind!r:.80} has no letters to make a type of")
    return made


def _has_commas(values: Sequence[Any]) -> bool:
    return any(decimal_comma(value) is not None for value in values)


def _number(value: Any) -> Any:
    number = decimal_comma(value)
    return value if number is None else number


def _without_header(table: Table, sample: Mapping[str, Sequence[Any]]) -> str:
    line = ", ".join(str(values[0])[:30] for values in sample.values() if values)
    seem = _seem(sample)
    places = " ".join(f"--{name} {place}" for place, name in enumerate(seem, 1) if name != "_")
    lacking = ("" if "type" in seem else " --type =view") + ("" if "time" in seem else " --no-time")
    return (
        f"{table.path} has no header: its first line is data ({line}). Name the columns by place, as it seems "
        f"--columns {','.join(seem)}{lacking} (_ for what is not needed), or {places}{lacking}; with --header if "
        "the first line names them after all"
    )


def _seem(sample: Mapping[str, Sequence[Any]]) -> list[str]:
    """What columns by place seem to be: the time, a type of few words, the first two others as user and item."""
    names = ["_"] * len(sample)
    for place, values in enumerate(sample.values()):
        words = {str(value) for value in values}
        if "time" not in names and _is_time(values):
            names[place] = "time"
        elif "type" not in names and len(words) <= 20 and all(word.replace("_", "").isalpha() for word in words):
            names[place] = "type"
    rest = [place for place, name in enumerate(names) if name == "_"]
    for place, name in zip(rest, ("user", "item"), strict=False):
        names[place] = name
    return names


def _is_time(values: Sequence[Any]) -> bool:
    try:
        return not choose_time_column({"": values}).undecided and len(str(values[0])) > 8
    except SourceError:
        return False
