"""Rows of JSON: one object a line, an array of objects, or one object that holds such an array.

Before: `opened`. After: `table`. A broken line costs that line; NaN, and what Python prints for a dict, are read too.
"""

from __future__ import annotations

import ast
import io
import json
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import orjson

from headwater.errors import SourceError
from replay.sources.raw import BadRow
from replay.sources.reading.opened import Encoding, first_lines, opened, text_of

__all__ = ["Object", "as_lines", "object_rows"]

Object = tuple[int, dict[str, Any]]
"""The number of the line (of the element in an array), from 1, and the object."""

LOOKED_AT = 50
"""First lines that tell JSON Lines from one document."""


def as_lines(start: bytes, encoding: Encoding) -> bool:
    """Whether a file that begins so holds one object a line."""
    lines = [line for line in first_lines(start, encoding, LOOKED_AT) if line.strip()]
    if lines and lines[0].lstrip().startswith("["):
        return False
    found = [_loaded(line) for line in lines]
    return any(isinstance(one, dict) for one in found) and not (len(lines) == 1 and _inner(found[0]))


def object_rows(path: Path, encoding: Encoding, *, lines: bool) -> Iterator[Object | BadRow]:
    """The objects of a file, in its order. Raises SourceError.

    Parameters
        path: the file, zipped or not.
        encoding: of its text.
        lines: whether it holds one object a line, as `as_lines` tells.
    """
    with opened(path, "JSON Lines" if lines else "JSON") as file:
        if lines:
            yield from _line_rows(_raw_lines(file, encoding))
        else:
            yield from _document(path, file.read()[encoding.mark :].decode(encoding.codec))


def _raw_lines(file: IO[bytes], encoding: Encoding) -> Iterable[bytes | str]:
    if encoding.codec == "utf-8":
        file.read(encoding.mark)
        return file
    return text_of(file, encoding)


def _line_rows(lines: Iterable[bytes | str]) -> Iterator[Object | BadRow]:
    for number, line in enumerate(lines, 1):
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            if not line or line.isspace():
                continue
            row = _lenient(line)
            if row is None:
                yield BadRow("undecodable", f"not JSON ({error})", f"line {number}")
                continue
        if isinstance(row, dict):
            yield number, row
        else:
            yield BadRow("undecodable", f"a {type(row).__name__}, not an object", f"line {number}")


def _lenient(line: bytes | str) -> Any:
    """What other writers take for JSON: NaN and Infinity (read as none), Python's dicts. None for anything else."""
    try:
        text = (line.decode() if isinstance(line, bytes) else line).strip()
        if text.startswith(("{'", "{u'")):
            with warnings.catch_warnings(action="ignore"):
                found = ast.literal_eval(text)
        elif "NaN" in text or "Infinity" in text:
            found = json.loads(text, parse_constant=lambda _: None)
        else:
            return None
        orjson.dumps(found, option=orjson.OPT_NON_STR_KEYS)  # half a pair of surrogates is no text
        return found
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None


def _loaded(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return _lenient(text)


def _inner(found: Any) -> str | None:
    """The name of the one list of objects in an object, if there is just one and it holds most of what there is."""
    if not isinstance(found, dict):
        return None
    lists = [name for name, value in found.items() if isinstance(value, list) and value and isinstance(value[0], dict)]
    return lists[0] if len(lists) == 1 and len(found[lists[0]]) > len(found) else None


def _document(path: Path, text: str) -> Iterator[Object | BadRow]:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        found = _lenient(text)
        if found is None:
            yield from _broken_array(path, text, error)
            return
    name = _inner(found)
    if isinstance(found, dict):
        outer = {key: value for key, value in found.items() if key != name and not isinstance(value, list | dict)}
        found = [found] if name is None else [outer | one if isinstance(one, dict) else one for one in found[name]]
    if not isinstance(found, list):
        raise SourceError(f"{path} holds a {type(found).__name__}: an array of objects or one object a line is read")
    for number, row in enumerate(found, 1):
        if isinstance(row, dict):
            yield number, row
        else:
            yield BadRow("undecodable", f"a {type(row).__name__}, not an object", f"element {number}")


def _broken_array(path: Path, text: str, error: Exception) -> Iterator[Object | BadRow]:
    """An array that is no JSON as a whole, with one object a line: the broken line costs that line."""
    rows: list[Object | BadRow] = []
    for number, line in enumerate(io.StringIO(text), 1):
        line = line.strip().removeprefix("[").removesuffix("]").strip().strip(",")
        if line:
            row = _loaded(line)
            rows.append((number, row) if isinstance(row, dict) else BadRow("undecodable", "not JSON", f"line {number}"))
    bad = sum(isinstance(row, BadRow) for row in rows)
    if bad * 2 > len(rows):
        raise SourceError(
            f"{path} cannot be read as JSON ({error}): write one object a line, and a bad one costs its line"
        )
    yield from rows
