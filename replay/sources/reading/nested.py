"""Rows within rows: names of what is inside an object (`properties.product_id`), and lists of which each element is a
row (`--explode events`).

Before: objects of `objects` and `parquet`, fields of `delimited`. After: `table`. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from replay.sources.raw import BadRow

__all__ = ["exploded", "lists_in", "names_in", "value_of"]

DEEPEST = 4

_CLICKED = re.compile(r"(\S+)-([01])")
"""An item and whether it was clicked, as MIND writes impressions: N129416-1."""


def names_in(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The columns of objects, in the order in which they come up; those of an object inside with a dot."""
    found: dict[str, None] = {}
    for row in rows:
        _walk(row, "", found, 0)
    return list(found)


def _walk(row: dict[str, Any], prefix: str, found: dict[str, None], depth: int) -> None:
    for name, value in row.items():
        if isinstance(value, dict) and value and depth < DEEPEST:
            _walk(value, f"{prefix}{name}.", found, depth + 1)
        else:
            found[f"{prefix}{name}"] = None


def value_of(row: dict[str, Any], name: str) -> Any:
    """What stands under a name; a dot leads into an object."""
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(part)
    return value


def lists_in(row: dict[str, Any], prefix: str = "") -> list[str]:
    """The names of lists in an object that `--explode` could make rows of."""
    found = []
    for name, value in row.items():
        if isinstance(value, list) and value:
            found.append(f"{prefix}{name}")
        elif isinstance(value, dict):
            found += lists_in(value, f"{prefix}{name}.")
    return found


def exploded(row: dict[str, Any], name: str) -> Iterator[dict[str, Any] | BadRow]:
    """A row for each element of a list in a row; fields of an element stand beside those around it, before them.

    An element that is no object takes the place of the list. A text is split at blanks or at `|`; elements like
    `N129416-1` (MIND's impressions) are parted into the id and a `type`, `click` or `impression`.
    """
    found = value_of(row, name)
    if found is None or found == "":
        return
    if isinstance(found, str):
        found = found.split("|") if "|" in found and " " not in found else found.split()
    if not isinstance(found, list):
        yield BadRow("explode", f"{name} is {found!r:.80}, not a list")
        return
    around = {key: value for key, value in row.items() if key != name.partition(".")[0]}
    if "." in name and name not in row:
        outer = value_of(row, name.rpartition(".")[0])
        around |= {key: value for key, value in outer.items() if not isinstance(value, list)}
    for element in found:
        if isinstance(element, dict):
            yield around | element
        elif isinstance(element, str) and (clicked := _CLICKED.fullmatch(element)):
            yield {"type": "click" if clicked[2] == "1" else "impression"} | around | {name: clicked[1]}
        else:
            yield around | {name: element}
