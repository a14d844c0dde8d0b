"""The begin of a file, by which its format is known: its first line, its first objects, its columns.

Before: a path. After: `formats`, which know theirs by it. Never raises for what cannot be read: `table` says why.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from headwater.errors import HeadwaterError
from replay.sources.reading.columnar import parquet_names
from replay.sources.reading.opened import encoding_of, first_lines, kind_of, start_of

__all__ = ["Begin", "begin_of"]

FIRST_OBJECTS = 50


class Begin(NamedTuple):
    """What a file begins with.

    Fields
        kind: parquet, json or text; "" for what cannot be read.
        line: the first line that is not empty, of a text.
        objects: the first of JSON, of lines or of an array; of parquet one with the columns and no values.
    """

    kind: str = ""
    line: str = ""
    objects: tuple[dict[str, Any], ...] = ()


def begin_of(path: Path) -> Begin:
    """The begin of a file, whatever it is."""
    try:
        start = start_of(path)
        kind = kind_of(path, start)
        if kind == "parquet":
            return Begin(kind, "", (dict.fromkeys(parquet_names(path)),))
        lines = [line for line in first_lines(start, encoding_of(path, start, None), FIRST_OBJECTS) if line.strip()]
    except (HeadwaterError, OSError):
        return Begin()
    if kind == "text":
        return Begin(kind, lines[0] if lines else "")
    text = "\n".join(lines)
    found = _of_array(text) if text.lstrip().startswith("[") else _of_lines(lines)
    return Begin(kind, "", tuple(one for one in found if isinstance(one, dict)))


def _of_lines(lines: list[str]) -> list[Any]:
    found = []
    for line in lines:
        try:
            found.append(orjson.loads(line))
        except orjson.JSONDecodeError:
            continue
    return found


def _of_array(text: str) -> list[Any]:
    """The first elements of an array, of which the end may be missing."""
    decoder, at = json.JSONDecoder(), text.index("[") + 1
    found: list[Any] = []
    while len(found) < FIRST_OBJECTS:
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
        try:
            one, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            break
        found.append(one)
    return found
