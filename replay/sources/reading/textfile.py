"""A file of delimited text: how it is written, the names of its columns, its rows.

Before: `opened`, `dialect`, `delimited`. After: `table`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from headwater.errors import SourceError
from replay.sources.raw import BadRow
from replay.sources.reading.delimited import Fields, delimited
from replay.sources.reading.dialect import Dialect, fields_of, is_data, names_of, sniffed
from replay.sources.reading.opened import Encoding, first_lines, opened, text_of

__all__ = ["TextFile", "TextForm"]

SNIFFED_LINES = 100
"""Lines that tell how a text is written."""

MOST_TITLES = 8
"""Lines in which a header is looked for: some programs write a title, or a comment, before it."""


class TextForm(NamedTuple):
    """What a person says of how a text is written: None and () are found out."""

    delimiter: str | None = None
    header: bool | None = None
    columns: tuple[str, ...] = ()


class TextFile:
    """One file. Raises SourceError when it is empty, or has other columns than were named.

    Fields
        names: of the columns.
        by_place: whether nothing names them: they are called 1, 2, 3.
        delimiter: between fields.
        read_as: how it is read, in words.
    """

    def __init__(
        self,
        path: Path,
        start: bytes,
        encoding: Encoding,
        written: TextForm,
        known: Callable[[str], bool],
        first: TextFile | None,
    ) -> None:
        self.path, self._encoding = path, encoding
        whole = first_lines(start, encoding, SNIFFED_LINES)
        hint = whole[0].strip() if whole and whole[0].lower().startswith("sep=") else ""  # as spreadsheets write it
        numbered = [(number, line) for number, line in enumerate(whole) if line.strip() and not (hint and number == 0)]
        if not numbered:
            raise SourceError(f"{path} is empty: no items or events, nor the first line, which names the columns")
        written = written._replace(delimiter=written.delimiter or hint[4:] or None)
        other = _like(first._dialect, numbered[0][1]) if first is not None and written.header is None else None
        at, found = (0, other) if other is not None else _begin([line for _, line in numbered], written, known)
        self._dialect: Dialect = found
        self._before = numbered[at][0]
        self.by_place = self._dialect.header is None and not written.columns
        self.names = _names(path, self._dialect, written.columns)
        if first is not None and self.by_place:
            self.names, self.by_place = first.names, first.by_place
        self.delimiter = self._dialect.delimiter
        form = {"\t": "TSV", "::": "text", " ": "text"}.get(self._dialect.delimiter, "CSV")
        header = "no header" if self._dialect.header is None else "header"
        header += f" in line {self._before + 1}" if self._before and not hint else ""
        between = "" if form == "TSV" else f"{self._dialect.told}, "
        self.read_as = f"{form}, {between}{encoding.told}, {header}"

    def values(self, names: Sequence[str], *, short_rows: bool = False) -> Iterator[Fields | BadRow]:
        """The number of each line and its fields of some columns. Raises SourceError."""
        pick = _picked([self.names.index(name) for name in names])
        whole = list(names) == self.names
        with opened(self.path, f"text in {self._encoding.told}") as file, text_of(file, self._encoding) as text:
            passed = self._passed_over(text)
            for row in delimited(text, self._dialect, first=passed + 1, short_rows=short_rows):
                yield row if whole or isinstance(row, BadRow) else (row[0], pick(row[1]))

    def _passed_over(self, text: Iterator[str]) -> int:
        """Read what stands before the rows; the number of lines of it."""
        number = 0
        header = self._dialect.header is None
        while number < self._before or not header:
            line = next(text, None)
            if line is None:
                break
            number += 1
            header |= number > self._before and not line.isspace()
        return number


def _begin(lines: list[str], written: TextForm, known: Callable[[str], bool]) -> tuple[int, Dialect]:
    """Where the header stands, which titles or a comment may come before, and how the lines from there are written."""
    best = sniffed(lines, known, delimiter=written.delimiter, header=written.header)
    if written.header is not None or written.columns or _names_known(best, known) > 1:
        return 0, best
    for at in range(1, min(MOST_TITLES, len(lines))):
        dialect = sniffed(lines[at:], known, delimiter=written.delimiter, header=None)
        if _names_known(dialect, known) > 1 and not any(map(is_data, dialect.header or ())):
            return at, dialect
    return 0, best


def _names_known(dialect: Dialect, known: Callable[[str], bool]) -> int:
    return sum(map(known, dialect.header or ()))


def _like(other: Dialect, line: str) -> Dialect | None:
    """How a later part is written: as the first, with a header of its own where its first line has names of it.

    None for a file that has nothing in common with the first.
    """
    if other.header is None:
        return other
    names = names_of(line, other.delimiter)
    if set(names) & set(other.header):
        return other._replace(header=names, width=len(names), data=other.data if names == other.header else ())
    return other._replace(header=None) if len(fields_of(line, other.delimiter)) == other.width else None


def _names(path: Path, dialect: Dialect, given: tuple[str, ...]) -> list[str]:
    if given and len(given) != dialect.width:
        raise SourceError(
            f"--columns names {len(given)} columns, {path} has {dialect.width}: one name for each, _ for none"
        )
    if given:
        return [str(place) if name in ("", "_") else name for place, name in enumerate(given, 1)]
    return dialect.header or [str(place) for place in range(1, dialect.width + 1)]


def _picked(places: list[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    if len(places) == 1:
        return lambda fields: (fields[places[0]],)
    return itemgetter(*places)
