"""Ids of a column as texts: which words stand for none, and when 123.0 is the id 123.

Before: values of a file. After: `source`, which reads each row with it. Ids are compared as texts by all that comes
later, so one user must not have two: decided is by column, from a sample.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

from replay.sources.raw import BadRow

__all__ = ["IdColumn", "as_id", "as_text", "choose_ids", "is_missing"]

MISSING = frozenset(
    ("", "nan", "none", "null", "\\n", "<na>", "na", "n/a", "#n/a", "<null>", "(null)", "nat", "undefined", "(not set)")
)
"""Words that stand for no value, without regard to case: of pandas, databases, Hive, R, spreadsheets, the web."""

_LONGEST = max(map(len, MISSING))
_WHOLE = re.compile(r"[+-]?\d+(?:\.0*)?")
_ROUNDED = re.compile(r"[+-]?\d(?:\.\d+)?[eE]\+?\d+")
_PICTURE = re.compile(r"b(['\"])([^\\]+)\1")
_EXACT = 2**53  # from here on a float skips whole numbers


def is_missing(value: Any) -> bool:
    """Whether a value stands for none: None, not a number, blanks, or a word for it."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        return (len(value) <= _LONGEST and value.strip().lower() in MISSING) or not value.strip()
    return value is None or value != value


def as_text(value: Any, what: str, *, keep_words: bool = False) -> str | None:
    """A value as text without blanks around it, None where it is missing. Raises BadRow for what is none.

    Parameters
        value: text, UTF-8, a number.
        what: the field, which the row is counted under.
        keep_words: whether `nan`, `NULL`, ... are texts like others.
    """
    if isinstance(value, bytes):
        try:
            text = value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadRow(what, f"{what} {value!r:.80} is binary and not UTF-8 text") from error
        if not text.strip().isprintable():
            raise BadRow(
                what, f"{what} {value!r:.80} is binary and no text: a number or a UUID in bytes? Export it as text"
            )
        value = text
    if isinstance(value, str):
        text = value.strip()
        return None if not text or (not keep_words and is_missing(text)) else text
    if value is None or value != value:
        return None
    if isinstance(value, list | tuple | dict | set | bool | date):
        raise BadRow(what, f"{what} {value!r:.80} is neither a text nor a number")
    if isinstance(value, float | Decimal) and value == value // 1:
        if isinstance(value, float) and abs(value) >= _EXACT:
            raise BadRow(what, f"{what} {value!r} has lost digits: it was kept as a float. Write ids as text")
        return str(int(value))
    return str(value)


def as_id(value: Any, what: str) -> str:
    """One id as text, where no column is at hand. Raises BadRow."""
    text = as_text(value, what)
    if text is None:
        raise BadRow(f"no_{what}", f"no {what}")
    return text


@dataclass
class IdColumn:
    """How the ids of a column are read.

    Fields
        what: user or item.
        numbers: whether all of its sample were whole numbers, so that 123.0 is 123. 007 stays 007.
        pictures: whether all of them were bytes as Python prints them, so that b'u2' is u2.
        keep_words: whether `nan`, `NULL`, ... are ids.
    """

    what: str
    numbers: bool = False
    pictures: bool = False
    keep_words: bool = False
    _known: dict[str | int, str] = field(default_factory=dict, repr=False)

    def read(self, value: Any) -> str:
        """The id; equal ones are one object. Raises BadRow: no_user, user, and so on."""
        plain = type(value) is str or type(value) is int
        if plain and (known := self._known.get(value)) is not None:
            return known
        text = as_text(value, self.what, keep_words=self.keep_words)
        if text is None:
            said = "" if value is None or value == "" else f": {value!r:.20} stands for none (--keep-missing-words)"
            raise BadRow(f"no_{self.what}", f"no {self.what}{said}")
        if self.pictures and (pictured := _PICTURE.fullmatch(text)):
            text = pictured[2]
        if self.numbers:
            if _ROUNDED.fullmatch(text):
                raise BadRow(self.what, f"{self.what} {text} has lost digits, as in a spreadsheet. Export ids as text")
            if "." in text and _WHOLE.fullmatch(text):
                text = text.partition(".")[0]
        text = self._known.setdefault(text, text)
        if plain:
            self._known[value] = text
        return text


def choose_ids(values: Iterable[Any], what: str, *, keep_words: bool = False) -> IdColumn:
    """How a column of ids is read, from a sample of its values."""
    texts = [value.strip() for value in values if isinstance(value, str) and not is_missing(value)]
    whole = sum(_WHOLE.fullmatch(text) is not None for text in texts)
    rounded = sum(_ROUNDED.fullmatch(text) is not None for text in texts)
    pictures = bool(texts) and all(_PICTURE.fullmatch(text) for text in texts)
    return IdColumn(what, bool(whole) and whole + rounded == len(texts), pictures, keep_words)
