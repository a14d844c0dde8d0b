"""One file as a table, whatever its format: its columns by name, its rows, and in words how it is read.

Before: `paths` names the file; `opened`, `textfile`, `objects`, `columnar` and `nested` know the formats. After:
`files`, `gorse`, `metarank` and `catalogue_file`, which say what the columns mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from headwater.errors import SourceError
from replay.sources.raw import BadRow
from replay.sources.reading.columnar import parquet_names, parquet_rows
from replay.sources.reading.nested import exploded, lists_in, names_in, value_of
from replay.sources.reading.objects import Object, as_lines, object_rows
from replay.sources.reading.opened import SAMPLE_BYTES, Encoding, encoding_of, kind_of, opened, start_of
from replay.sources.reading.paths import FilePart
from replay.sources.reading.textfile import TextFile, TextForm

__all__ = ["FileFormat", "Numbered", "Table", "objects_of"]

SAMPLE_ROWS = 1000
"""Rows whose objects tell the columns, where no header does."""

Numbered = tuple[int, Sequence[Any]]
"""The number of a line or row, from 1, and its values."""


@dataclass(frozen=True)
class FileFormat:
    """What a person says of how a file is written; None and () are found out.

    Fields
        encoding: of its text.
        delimiter: between fields.
        header: whether the first line names the columns.
        columns: their names by place; "" or _ for one that is not needed.
        explode: a list in each row, whose elements are the rows.
    """

    encoding: str | None = None
    delimiter: str | None = None
    header: bool | None = None
    columns: tuple[str, ...] = ()
    explode: str | None = None


class Table:
    """One file. Making one reads its begin. Raises SourceError for what cannot be read.

    Fields
        kind: parquet, json or text.
        columns: the names, those of the folders above the file last.
        by_place: whether nothing names them: they are called 1, 2, 3.
        delimiter: of a text; "" of all else.
        read_as: how the file is read, in words.
        lists: columns that hold lists, which `explode` could make rows of.
        without_rows: how many rows had an empty list, when all was read.
    """

    def __init__(
        self, part: FilePart, form: FileFormat, known: Callable[[str], bool], first: Table | None = None
    ) -> None:
        """`known` tells whether a header may have a name; `first` is the first part, where this is a later one."""
        self.path = part.path
        self.lists: list[str] = []
        self.without_rows = 0
        self._explode = form.explode
        self._text: TextFile | None = None
        start = start_of(part.path)
        self.kind = kind_of(part.path, start)
        if not start:  # empty, or damaged from the first byte
            with opened(part.path, self.kind) as file:
                while file.read(SAMPLE_BYTES):
                    pass
        self._encoding = Encoding("", "") if self.kind == "parquet" else encoding_of(part.path, start, form.encoding)
        self._lines = self.kind == "json" and (not start or as_lines(start, self._encoding))
        if self.kind == "text":
            written = TextForm(form.delimiter, form.header, form.columns)
            self._text = TextFile(part.path, start, self._encoding, written, known, first._text if first else None)
        own, self._is_nested = self._looked_inside()
        self._partition = {name: value for name, value in part.partition.items() if name not in own}
        self.columns = [*own, *self._partition]
        self.by_place = self._text is not None and self._text.by_place
        self.delimiter = self._text.delimiter if self._text is not None else ""
        self.read_as = self._told()

    def rows(self, wanted: Sequence[str]) -> Iterator[Numbered | BadRow]:
        """The number of each row and its values of some columns, in that order. Raises SourceError."""
        if self._is_nested:
            yield from self._nested_rows(wanted)
            return
        own = [name for name in wanted if name not in self._partition]
        rows = parquet_rows(self.path, own) if self._text is None else self._text.values(own)
        if len(own) == len(wanted):
            yield from rows
            return
        from_folder = [(self._partition.get(name), own.index(name) if name in own else None) for name in wanted]
        for row in rows:
            if isinstance(row, BadRow):
                yield row
            else:
                number, values = row
                yield number, [known if place is None else values[place] for known, place in from_folder]

    def objects(self, *, short_rows: bool = False) -> Iterator[Object | BadRow]:
        """The number of each row and all of it by name. Raises SourceError."""
        rows = self._objects(short_rows)
        return rows if self._explode is None else self._exploded(rows, self._explode)

    def _exploded(self, rows: Iterator[Object | BadRow], name: str) -> Iterator[Object | BadRow]:
        self.without_rows = 0
        for row in rows:
            if isinstance(row, BadRow):
                yield row
                continue
            number, found = row
            made = 0
            for one in exploded(found, name):
                made += 1
                yield BadRow(one.reason, str(one), f"line {number}") if isinstance(one, BadRow) else (number, one)
            self.without_rows += not made

    def _objects(self, short_rows: bool) -> Iterator[Object | BadRow]:
        if self.kind == "json":
            return object_rows(self.path, self._encoding, lines=self._lines)
        names = parquet_names(self.path) if self._text is None else self._text.names
        rows = parquet_rows(self.path, names) if self._text is None else self._text.values(names, short_rows=short_rows)
        return (row if isinstance(row, BadRow) else (row[0], dict(zip(names, row[1], strict=False))) for row in rows)

    def _nested_rows(self, wanted: Sequence[str]) -> Iterator[Numbered | BadRow]:
        known, flat = self._partition, not any("." in name for name in wanted)
        for row in self.objects():
            if isinstance(row, BadRow):
                yield row
            elif flat and not known:
                yield row[0], list(map(row[1].get, wanted))
            else:
                found = row[1]
                yield row[0], [known[name] if name in known else value_of(found, name) for name in wanted]

    def _looked_inside(self) -> tuple[list[str], bool]:
        """The file's own columns, and whether they are found in objects: the first rows tell."""
        if self._text is not None and self._explode is None:
            return self._text.names, False
        outer = [row[1] for row in islice(self._objects(True), SAMPLE_ROWS) if not isinstance(row, BadRow)]
        self.lists = list(dict.fromkeys(name for row in outer[:20] for name in lists_in(row)))
        if self._explode is not None and outer and all(value_of(row, self._explode) is None for row in outer):
            known = f"lists are in {', '.join(self.lists)}" if self.lists else "no column holds a list"
            raise SourceError(f"{self.path} has no list {self._explode!r} to explode: {known}")
        rows = outer
        if self._explode is not None:
            rows = [row[1] for row in islice(self.objects(), SAMPLE_ROWS) if not isinstance(row, BadRow)]
        inside = self._explode is not None or any(isinstance(value, dict) for row in rows for value in row.values())
        if self.kind == "parquet" and not inside:
            return parquet_names(self.path), False
        return names_in(rows), True

    def _told(self) -> str:
        if self._text is not None:
            told = self._text.read_as
        elif self.kind == "json":
            told = "JSON Lines" if self._lines else "JSON"
            told += "" if self._encoding.told == "UTF-8" else f", {self._encoding.told}"
        else:
            told = "parquet"
        if self._explode is not None:
            told += f", a row for each of '{self._explode}'"
        return told + "".join(f", '{name}' of its folder" for name in self._partition)


def objects_of(
    path: Path, known: Callable[[str], bool], *, form: FileFormat | None = None, short_rows: bool = False
) -> Iterator[Object | BadRow]:
    """The rows of one file by name, each with its line; a bad one says where it stands. Raises SourceError.

    Parameters
        path: the file.
        known: whether a header may have a name.
        form: what is known of how it is written.
        short_rows: whether a row of text may end early.
    """
    for row in Table(FilePart(path, {}), form or FileFormat(), known).objects(short_rows=short_rows):
        yield BadRow(row.reason, str(row), f"{path} {row.place}") if isinstance(row, BadRow) else row
