"""Lines of fields that tabs part, with no quotation and no header: whatever stands in a field is its content.

Before: `opened`. After: formats that write such lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from replay.sources.raw import BadRow
from replay.sources.reading.delimited import undecoded
from replay.sources.reading.opened import encoding_of, is_damaged, opened, start_of, text_of

__all__ = ["bare_rows"]


def bare_rows(path: Path, width: int) -> Iterator[tuple[int, list[str]] | BadRow]:
    """The number of each line, from 1, and its fields; one with more or fewer than `width` is bad.

    Raises
        SourceError: the file cannot be read.
    """
    encoding = encoding_of(path, start_of(path), None)
    with opened(path, f"text in {encoding.told}") as file, text_of(file, encoding) as text:
        for number, line in enumerate(text, 1):
            if not line.isascii() and is_damaged(line):
                yield undecoded(line, number)
                continue
            fields = line.rstrip("\r\n").split("\t")
            if len(fields) == width:
                yield number, fields
            elif not line.isspace():
                yield BadRow("columns", f"{len(fields)} fields where {width} are expected", f"line {number}")
