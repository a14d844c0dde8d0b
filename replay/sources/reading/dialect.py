"""How a delimited text is written: what parts its fields, whether quotation marks wrap them, whether it has a header.

Before: the first lines of a file. After: `delimited` reads all of it so. Pure: lines in, a `Dialect` out.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from headwater.errors import SourceError

__all__ = ["Dialect", "delimiter_named", "fields_of", "is_data", "names_of", "sniffed"]

DELIMITERS = ("\t", ",", ";", "|", "::", "\x01")
NAMES = {"\t": "tab", " ": "space", "\x01": "^A"}
_GIVEN = {
    "tab": "\t",
    "\\t": "\t",
    "space": " ",
    "comma": ",",
    "semicolon": ";",
    "pipe": "|",
    "^A": "\x01",
    "\\x01": "\x01",
}

_DATA = re.compile(
    r"[+-]?\d[\d.,]*(?:[eE][+-]?\d+)?|\d{4}-\d\d?-\d\d?.*|\d\d?[./-]\d\d?[./-]\d{2,4}.*|\\N|[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}"
    r"|[0-9a-f]{24,64}"
)
"""A field that no header has: a number, a date, a key."""


class Dialect(NamedTuple):
    """`delimiter` between `width` fields; `header` as the first line has it, None where that is data already.

    `data` are the places of fields that hold a number or a time in every line.
    """

    delimiter: str
    header: list[str] | None
    width: int
    data: tuple[int, ...] = ()

    @property
    def told(self) -> str:
        """For people: `';'`, tab, space."""
        return NAMES.get(self.delimiter, f"'{self.delimiter}'")


def delimiter_named(given: str) -> str:
    """The delimiter that a person wrote: itself, or its name. Raises SourceError for none."""
    if not given:
        raise SourceError("--delimiter is empty: give a character or tab, space, comma, semicolon, pipe")
    return _GIVEN.get(given, given)


def fields_of(line: str, delimiter: str) -> list[str]:
    """The fields of one line; quotation marks count where the delimiter is one character and they are closed."""
    line = line.rstrip("\r\n")
    if '"' in line and len(delimiter) == 1 and delimiter != " ":
        try:
            return next(csv.reader([line], delimiter=delimiter, strict=True))
        except (csv.Error, StopIteration):
            pass
    return line.split() if delimiter == " " else line.split(delimiter)


def is_data(field: str) -> bool:
    """Whether a field can be no name of a column."""
    return _DATA.fullmatch(field.strip()) is not None


def sniffed(
    lines: Sequence[str], known: Callable[[str], bool], *, delimiter: str | None, header: bool | None
) -> Dialect:
    """How the first lines of a file are written.

    Parameters
        lines: the first lines that are not empty.
        known: whether a name is one that columns of events or items have.
        delimiter: what it was said to be, None to find out.
        header: whether the first line was said to name the columns, None to find out.
    """
    chosen = delimiter_named(delimiter) if delimiter is not None else _delimiter(lines, known)
    rows = [fields_of(line, chosen) for line in lines]
    named = header if header is not None else _names_columns(rows, known)
    if not named:
        width = Counter(map(len, rows)).most_common(1)[0][0]
        trailing = all(len(row) < width or not row[width - 1].strip() for row in rows) and chosen != " "
        width -= trailing and width > 1
        return Dialect(chosen, None, width, _data_places(rows, width))
    names = names_of(lines[0], chosen)
    return Dialect(chosen, names, len(names), _data_places(rows[1:], len(names)))


def names_of(line: str, delimiter: str) -> list[str]:
    """The names in a header. A delimiter at its end names nothing; none is empty, none is there twice."""
    names = [name.strip().removeprefix("\ufeff").lstrip("#").strip() for name in fields_of(line, delimiter)]
    if len(names) > 1 and not names[-1]:
        names.pop()
    return _apart(names)


def _delimiter(lines: Sequence[str], known: Callable[[str], bool]) -> str:
    best, found = 0.0, ","
    for delimiter in DELIMITERS:
        widths = Counter(len(fields_of(line, delimiter)) for line in lines)
        width, count = widths.most_common(1)[0]
        first = fields_of(lines[0], delimiter)
        if width < 2 or len(first) < 2:
            continue
        names = sum(known(name) for name in first)
        score = count / len(lines) + min(names, 4) + 0.001 * min(width, 50)
        if score > best:
            best, found = score, delimiter
    if not best and len({len(line.split()) for line in lines}) == 1 and len(lines[0].split()) > 1:
        return " "
    return found


def _names_columns(rows: list[list[str]], known: Callable[[str], bool]) -> bool:
    """Whether the first row is a header: nothing in it is data, and names are known or what is below differs."""
    first = rows[0]
    if any(is_data(field) for field in first):
        return sum(known(field) for field in first) >= 2  # a column may be called 2024
    if any(known(field) for field in first) or len(rows) == 1:
        return True
    width = [row for row in rows[1:] if len(row) == len(first)]
    columns = list(zip(*width, strict=True))
    if any(sum(map(is_data, column)) > 0.8 * len(column) for column in columns):
        return True
    return not any(field and field in column for field, column in zip(first, columns, strict=False))


def _data_places(rows: list[list[str]], width: int) -> tuple[int, ...]:
    whole = [row for row in rows if len(row) >= width]
    return tuple(place for place in range(width) if whole and all(is_data(row[place]) for row in whole))


def _apart(names: list[str]) -> list[str]:
    """Names of which none is empty and none is there twice: the second `a` is `a (2)`."""
    seen: Counter[str] = Counter()
    made = []
    for place, name in enumerate(names, 1):
        name = name or f"column {place}"
        seen[name] += 1
        made.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return made
