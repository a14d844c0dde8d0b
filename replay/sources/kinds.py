"""Words of a type column as event types: by the mapping that a person gave, else ours that means the same, else made to
fit; and told.

Before: raw values. After: `files` and `formats`. Pure.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from headwater.errors import SourceError
from headwater.events import EVENT_TYPE_PATTERN
from headwater.foreign_types import ours_of
from replay.sources.ids import is_missing
from replay.sources.raw import BadRow
from replay.sources.times import number_of

__all__ = ["Kinds", "kinds_named", "slug"]

LONGEST = 64

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z][a-z])")


def kinds_named(given: Iterable[str]) -> dict[str, str]:
    """From `1=view,2=fav` the mapping; `heartbeat=` leaves such rows out. Raises SourceError."""
    found: dict[str, str] = {}
    for pair in (pair for text in given for pair in text.split(",") if pair.strip()):
        word, equals, kind = (part.strip() for part in pair.rpartition("="))
        if not equals or not word or (kind and not re.fullmatch(EVENT_TYPE_PATTERN, kind)):
            raise SourceError(
                f"--types {pair.strip()!r}: write WORD=TYPE, as 1=view,2=cart; a type is a short word in lower case "
                "that begins with a letter; WORD= leaves such rows out"
            )
        found[word] = kind
    return found


class Kinds:
    """Reads a type column.

    Fields
        made: word of the file -> type, of the words that had to be changed.
        unmet: words of the mapping that no row had so far.
    """

    def __init__(self, mapping: Mapping[str, str], *, foreign: bool = False) -> None:
        """`foreign`: the words are those of a system that is known, so that all of them that mean ours become ours.
        Else a word that is a type already stays: live events of the same app may have it, too."""
        self._foreign = foreign
        self._mapping = {word.casefold(): kind for word, kind in mapping.items()}
        self.unmet = dict.fromkeys(mapping)
        self._seen: dict[Any, str] = {}
        self.made: dict[str, str] = {}

    def check(self, where: str, name: str, sample: Sequence[Any]) -> None:
        """Refuse numbers that nobody named: what 1 and 4 mean, no column tells. Raises SourceError."""
        words = {_word(value) for value in sample if not is_missing(value)}
        unnamed = sorted(
            word for word in words - self._mapping.keys() if number_of(word) is not None or word in BOOLEANS
        )
        if unnamed and not self._mapping:
            example = ",".join(f"{word}={kind}" for word, kind in zip(unnamed, EXAMPLES, strict=False))
            raise SourceError(
                f"{where}: column {name} has {', '.join(unnamed[:10])} as types of events. Name them, for example "
                f"--types {example}, or say what all events are: --type =view"
            )

    def read(self, value: Any) -> str:
        """The type of a value; "" is to be left out. Raises BadRow."""
        try:
            return self._seen[value]
        except (KeyError, TypeError):
            pass
        if isinstance(value, list | dict):
            raise BadRow("type", f"type {value!r:.80} is no text")
        if is_missing(value):
            raise BadRow("no_type", "no type")
        word = _word(value)
        kind = self._mapping.get(word.casefold())
        if kind is not None:
            self.unmet = {name: None for name in self.unmet if name.casefold() != word.casefold()}
        elif self._mapping and (number_of(word) is not None or word in BOOLEANS):
            raise BadRow("type", f"type {word!r:.80} is none of those that --types names")
        else:
            kind = self._ours(word)
            kind = slug(word) if kind is None else kind
            if kind is None:
                raise BadRow(
                    "type", f"type {word!r:.80} has no letters to make a word of: name it, --types '{word:.40}=view'"
                )
        if len(self._seen) < 10_000:
            self._seen[value] = kind
            if kind != word and kind:
                self.made[word] = kind
        return kind

    def _ours(self, word: str) -> str | None:
        """Our type that a word means, None where it is one already or means none."""
        if not self._foreign and re.fullmatch(EVENT_TYPE_PATTERN, word):
            return None
        found = ours_of(word)
        return found if found or self._foreign else None

    def is_ours(self, word: Any) -> bool:
        """Whether a word is one of ours, or means one."""
        return isinstance(word, str) and bool(self._ours(word.strip()))


BOOLEANS = {"true", "false"}
EXAMPLES = ("view", "favourite", "cart", "purchase", "share", "skip")


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def slug(word: str) -> str | None:
    """A word as an event type: lower case, Latin letters without accents, `_` for all else. None where nothing is left.

    >>> slug("Add To Cart"), slug("addToCart"), slug("ÜBER"), slug("2nd view"), slug("加购")
    ('add_to_cart', 'add_to_cart', 'uber', 'type_2nd_view', None)
    """
    latin = _HUMP.sub("_", unicodedata.normalize("NFKD", word).encode("ascii", "ignore").decode()).lower()
    made = re.sub(r"[^a-z0-9_.\-]+", "_", latin).strip("_.-")
    if not re.search("[a-z]", made):
        return None
    return (made if made[0].isalpha() else f"type_{made}")[:LONGEST]
