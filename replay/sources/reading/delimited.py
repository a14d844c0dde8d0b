"""Rows of a delimited text: a bad line costs that line, whatever it holds.

Before: `dialect` says how it is written. After: `table`. Python's csv and `str.split`, not pyarrow or duckdb: they are
as fast once a row is a Python value, and those end at the first bad quotation mark, or give bad rows apart without
their lines.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from replay.sources.raw import BadRow
from replay.sources.reading.dialect import Dialect, is_data
from replay.sources.reading.opened import is_damaged

__all__ = ["Fields", "delimited", "undecoded"]

csv.field_size_limit(1 << 31)  # a field may be a whole page; Python takes 131,072 characters unless told

LONGEST_RECORD_LINES = 1000
LONGEST_RECORD = 1 << 22
"""A quoted field that is not closed within so many lines or characters is not closed at all."""

Fields = tuple[int, Sequence[str]]
"""The number of the line, from 1, and the fields of it."""


def delimited(
    lines: Iterable[str], dialect: Dialect, *, first: int = 1, short_rows: bool = False
) -> Iterator[Fields | BadRow]:
    """The rows of lines of text; an empty line is no row.

    A quoted field may hold delimiters and ends of lines. A quotation mark that is not closed costs its line; one in the
    middle of a field, or a field that begins with one and goes on behind the other, is taken as it is.

    Parameters
        lines: with their ends; the header is not among them.
        dialect: how they are written.
        first: the number of the first line.
        short_rows: whether a row may end early.
    """
    if len(dialect.delimiter) > 1 or dialect.delimiter == " ":
        rows = _unquoted(lines, dialect, first)
    else:
        rows = _Quoted(lines, dialect, first).rows()
    width = dialect.width
    for row in rows:
        if isinstance(row, BadRow):
            yield row
            continue
        line, fields = row
        count = len(fields)
        if count != width:
            if count == width + 1 and not fields[width].strip():
                fields = fields[:width]  # a delimiter at the end
            elif short_rows and count < width:
                fields = [*fields, *[""] * (width - count)]
            else:
                yield BadRow("columns", f"{count} fields where {width} are expected", f"line {line}")
                continue
        yield line, fields


def _unquoted(lines: Iterable[str], dialect: Dialect, first: int) -> Iterator[Fields | BadRow]:
    delimiter = None if dialect.delimiter == " " else dialect.delimiter
    for number, line in enumerate(lines, first):
        if is_damaged(line):
            yield undecoded(line, number)
        elif not line.isspace():
            yield number, line.rstrip("\r\n").split(delimiter)


def undecoded(line: str, number: int) -> BadRow:
    """Why a line with bytes that its encoding does not know is no row."""
    byte = next((ord(letter) - 0xDC00 for letter in line if "\udc80" <= letter <= "\udcff"), 0)
    return BadRow(
        "encoding",
        f"byte 0x{byte:02x} is not of the file's encoding; another is named with --encoding",
        f"line {number}",
    )


class _Quoted:
    """Lines with quotation marks, one record at a time."""

    def __init__(self, lines: Iterable[str], dialect: Dialect, first: int) -> None:
        self._lines = iter(lines)
        self._dialect = dialect
        self._number = first - 1  # of the line that was taken last
        self._again: deque[str] = deque()  # lines that were looked at and are still to be read
        self._feed: deque[str] = deque()  # what the readers are given; they end with IndexError when it is empty
        feed = self._feed.popleft
        self._strict = csv.reader(iter(feed, None), delimiter=dialect.delimiter, strict=True)
        self._escaped = csv.reader(iter(feed, None), delimiter=dialect.delimiter, strict=True, escapechar="\\")

    def rows(self) -> Iterator[Fields | BadRow]:
        delimiter, width, feed, reader = self._dialect.delimiter, self._dialect.width, self._feed, self._strict
        for line in self._each():
            if not line.isascii() and is_damaged(line):
                yield undecoded(line, self._number)
            elif '"' not in line:
                if not line.isspace():
                    yield self._number, line.rstrip("\r\n").split(delimiter)
            else:
                feed.append(line)
                try:
                    fields = next(reader)
                except IndexError:
                    yield self._several(line)
                except csv.Error:
                    yield self._as_it_is(line, [])
                else:
                    yield (self._number, fields) if len(fields) == width else self._as_it_is(line, fields)

    def _each(self) -> Iterator[str]:
        while (line := self._next()) is not None:
            yield line

    def _next(self) -> str | None:
        line = self._again.popleft() if self._again else next(self._lines, None)
        self._number += line is not None
        return line

    def _as_it_is(self, line: str, fields: list[str]) -> Fields | BadRow:
        """A line whose quotation marks do not fit: escaped by a backslash, or marks that wrap nothing."""
        if '\\"' in line:
            self._feed.append(line)
            try:
                escaped = next(self._escaped)
            except (csv.Error, IndexError):
                escaped = []
            if self._fits(escaped):
                return self._number, escaped
        bare = line.rstrip("\r\n").split(self._dialect.delimiter)
        if self._fits(bare) and not self._fits(fields):
            return self._number, bare
        if fields:
            return self._number, fields
        return BadRow(
            "quotes", 'a quotation mark within a field that begins with one: write "" for it', f"line {self._number}"
        )

    def _several(self, line: str) -> Fields | BadRow:
        """A field that is not closed in its line goes on in the next ones, or the line is bad and they are not."""
        number, record = self._number, [line]
        size = 0
        while len(record) < LONGEST_RECORD_LINES and size < LONGEST_RECORD and (more := self._next()) is not None:
            record.append(more)
            size += len(more)
            if '"' not in more:
                continue
            self._feed.clear()
            self._feed.extend(record)
            try:
                fields = next(self._strict)
            except IndexError:
                continue
            except csv.Error:
                break
            if self._fits(fields) and not self._swallowed(record) and not any(map(is_damaged, record)):
                return number, fields
            break
        self._feed.clear()
        self._again.extendleft(reversed(record[1:]))
        self._number = number
        return BadRow("quotes", "a quotation mark is opened and never closed", f"line {number}")

    def _fits(self, fields: Sequence[str]) -> bool:
        width = self._dialect.width
        return len(fields) == width or (len(fields) == width + 1 and not fields[width].strip())

    def _swallowed(self, record: list[str]) -> bool:
        """Whether a record of several lines holds lines that are rows of their own.

        The last one may look like a row where a text of several lines stands in the first column, but then the first
        one does not; what tabs part has no such texts.
        """
        first, *inner, last = (self._is_row(line.rstrip("\r\n").split(self._dialect.delimiter)) for line in record)
        return any(inner) or (last and (first or self._dialect.delimiter == "\t"))

    def _is_row(self, fields: list[str]) -> bool:
        return self._fits(fields) and all(is_data(fields[place]) for place in self._dialect.data)
