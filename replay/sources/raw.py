"""A row of a source before anything is checked, and what a row that cannot become an event is refused with.

Before: the readers of formats, which make raw rows. After: `source`, `times` and `ids`, which check them.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

__all__ = ["BadRow", "LeftOut", "LocalStamp", "RawRow", "Stamp", "place_of"]


class BadRow(Exception):
    """A row that cannot become an event; `reason` is the word it is counted under. It never leaves this package.

    `place` says where it stands ("part-0.csv, line 17"); without one it is the number of the row in the whole source.
    """

    def __init__(self, reason: str, text: str, place: str = "") -> None:
        super().__init__(text)
        self.reason = reason
        self.place = place


class Stamp(int):
    """Epoch milliseconds of a column that is typed as times: its unit is no question. Of a clock in UTC."""


class LocalStamp(Stamp):
    """The same of a clock whose zone the file does not say, as if it were UTC."""


class RawRow(NamedTuple):
    """One row of a file before anything is checked.

    Fields
        number: of the row in the order of its file; with a path that of its line or element, from 1.
        place: where it stands, for messages; "" is what `place_of` makes of path and number.
        path: the whole path of its file, for ids that are made of it; "" is the name of the source.
        shown: the items of a list that was shown, in its order, as a list or `a|b|c`. With an item, the list is what
            was seen when that happened, and an event of its own before it; without one, the row is the list.
        guest: the id of the same person from before a login, where the row has both; the user again for who is a guest.
    """

    number: int
    user: Any
    item: Any
    time: Any
    type: Any
    value: Any = None
    event_id: Any = None
    session: Any = None
    request: Any = None
    place: str = ""
    path: str = ""
    shown: Any = None
    guest: Any = None


class LeftOut(NamedTuple):
    """A good row that is no event; `what` is the word it is counted under. It may tell that a guest is a user, or with
    `said` that two ids are one person."""

    what: str
    number: int = 0
    user: Any = None
    guest: Any = None
    time: Any = None
    path: str = ""
    said: bool = False


def place_of(path: str, number: int) -> str:
    """Where a row stands, for messages: `logs/part-0.csv line 17`, as seen from the current folder."""
    if not path:
        return f"row {number}"
    here = os.path.relpath(path)
    return f"{path if here.startswith('..') else here} line {number}"
