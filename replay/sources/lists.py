"""Lists that were shown: the ids of one, and its event before that of what happened with it.

Before: a row's `shown`. After: `source`. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson

from headwater.events import MAX_ID_LENGTH, MAX_SHOWN
from replay.sources.ids import is_missing
from replay.sources.raw import BadRow

__all__ = ["SHOWN_TYPE", "Lists", "items_shown", "shown_id"]

SHOWN_TYPE = "impression"
"""The type of a list that came with another event."""


@dataclass
class Lists:
    """What was read of lists.

    Fields
        lists, items: events of a list, and the items in them.
        beside: those that came with another event of the same row.
        cut: those that were longer than an event may be.
    """

    lists: int = 0
    items: int = 0
    beside: int = 0
    cut: int = 0

    def took(self, size: int, *, beside: bool) -> None:
        """Count a list."""
        self.lists += 1
        self.items += min(size, MAX_SHOWN)
        self.beside += beside
        self.cut += size > MAX_SHOWN

    @property
    def notes(self) -> list[str]:
        """What a person should know."""
        if not self.cut:
            return []
        return [f"{self.cut:,} lists are longer than {MAX_SHOWN:,} items, of which the first are taken"]


def items_shown(value: Any, read: Callable[[Any], str]) -> tuple[str, ...]:
    """The different items of a list in its order, `a|b|c` or a list; () for none. Raises BadRow.

    Parameters
        value: as the row has it.
        read: an id of one element.
    """
    if value is None or isinstance(value, str | bytes):
        if is_missing(value):
            return ()
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        value = text.split("|")
    if not isinstance(value, list | tuple):
        value = [value]
    found: dict[str, None] = {}
    for one in value:
        if not is_missing(one):
            try:
                found[read(one)] = None
            except BadRow as error:
                raise BadRow("shown", f"an item that was shown: {error}") from error
    return tuple(found)


def shown_id(row_id: str, request_id: str | None, items: tuple[str, ...]) -> str:
    """The id of a list that came with a row: of its request and content, so that what was shown once is one event
    however many rows tell of it; without a request, of the row."""
    made = f"{row_id}:shown"
    if request_id is not None:
        made = f"{request_id}:{blake2b(orjson.dumps(items), digest_size=6).hexdigest()}"
    if len(made) > MAX_ID_LENGTH:
        made = f"{blake2b(made.encode(), digest_size=12).hexdigest()}:shown"
    return made
