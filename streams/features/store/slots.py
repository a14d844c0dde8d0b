"""Where each key lies: all that one user's events write shares a hash tag, so that one script can write it.

With one slot the keys are plain, `u:ada`. With several the slot is a stable hash of the id, and a key begins with its
tag, `{s17}u:ada`: a cluster keeps all keys of one tag on one node. What is of the store as a whole has the tag
`{all}`. Pure functions of ids; knows no Redis.
"""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

from headwater.topics import CONSENTS, ERASURES, EVENTS, IDENTITIES, ITEMS, USERS, Topic

__all__ = ["KINDS", "MARKS", "NAMES", "PRIVATE", "SEALING", "Slots", "advised_slots", "escaped"]

A_PRIMARY = 16
"""Slots of each primary of a cluster: fewer lie unevenly on the nodes, more cost a script each in every round."""

MARKS = {
    EVENTS.name: "marks",
    ITEMS.name: "marks:items",
    USERS.name: "marks:users",
    IDENTITIES.name: "marks:identities",
    ERASURES.name: "marks:erasures",
    CONSENTS.name: "marks:consents",
}
"""By topic, the hash of partition -> offset of the newest record that has its effect."""

KINDS = ("u", "t", "w", "a", "i", "item", "p", "q")
"""Of keys that end in an id, after a colon."""

PRIVATE = "private"
"""The key of a slot that says that somebody of it was forgotten."""

SEALING = "sealing"
"""The hash of a slot that holds what wraps the keys of its users, by id, as the master key has wrapped it."""

NAMES = (*MARKS.values(), "marks:dead", "dead", "landmark", "popular", "totals", PRIVATE, SEALING, "shards",
         "rebuilding", "restoring", "clearing", "earlier-log")  # fmt: skip
"""Of the others, where there is one slot."""


def advised_slots(primaries: int) -> int:
    """The number of slots for a cluster of so many primaries: a power of two.

    >>> [advised_slots(primaries) for primaries in (1, 3, 4, 6)]
    [16, 64, 64, 128]
    """
    return 1 << (A_PRIMARY * primaries - 1).bit_length()


class Slots:
    """The keys of one world.

    Parameters
        prefix: of all keys.
        count: of slots; fixed when a store is made.

    >>> Slots("w.", 1).user("u", "ada"), Slots("w.", 64).user("u", "ada")
    ('w.u:ada', 'w.{s40}u:ada')
    """

    def __init__(self, prefix: str, count: int) -> None:
        self.prefix = prefix
        self.count = count
        self._heads = [prefix] if count == 1 else [f"{prefix}{{s{number}}}" for number in range(count)]
        self._home = prefix if count == 1 else f"{prefix}{{all}}"

    @property
    def all(self) -> range:
        """The numbers of the slots."""
        return range(self.count)

    def of(self, one: str) -> int:
        """The slot of a user, or of an item of the catalogue."""
        return crc32(one.encode()) % self.count if self.count > 1 else 0

    def key(self, slot: int, name: str) -> str:
        """A key of a slot."""
        return self._heads[slot] + name

    def user(self, kind: str, one: str) -> str:
        """The key of a user, or of an item of the catalogue, in its slot."""
        return f"{self._heads[self.of(one)]}{kind}:{one}"

    def home(self, name: str) -> str:
        """A key that is of no slot."""
        return self._home + name

    def marks(self, slot: int, topic: Topic) -> str:
        """The marks of one slot."""
        return self._heads[slot] + MARKS[topic.name]

    def grouped(self, ids: Iterable[str]) -> dict[int, list[str]]:
        """The ids by slot, in their order."""
        found: dict[int, list[str]] = {}
        for one in ids:
            found.setdefault(self.of(one), []).append(one)
        return found

    def owns(self, key: str) -> bool:
        """Whether a key that begins with the prefix is of this world, and not of one with a longer prefix.

        >>> [Slots("", 1).owns(key) for key in ("u:ada", "trial.u:ada", "marks")]
        [True, False, True]
        """
        name = key.removeprefix(self.prefix)
        if self.count > 1:
            return name.startswith(("{s", "{all}")) or name == "shards"
        kind, colon, _ = name.partition(":")
        return name in NAMES or bool(colon and kind in KINDS)

    def pattern(self, kind: str) -> str:
        """A glob that all keys of a kind fit."""
        return f"{escaped(self.prefix)}{kind}:*" if self.count == 1 else f"{escaped(self.prefix)}{{s*}}{kind}:*"

    def is_of(self, key: str, kind: str) -> bool:
        """Whether a key that fits `pattern` is of that kind: an id may hold what looks like the end of a tag.

        >>> [Slots("", 4).is_of(key, "u") for key in ("{s1}u:ada", "{s1}item:film}u:ada")]
        [True, False]
        """
        return self._own(key).startswith(f"{kind}:")

    def id_of(self, key: str, kind: str) -> str:
        """The id in a key of a kind."""
        return self._own(key).removeprefix(f"{kind}:")

    def _own(self, key: str) -> str:
        """A key without prefix and tag."""
        rest = key.removeprefix(self.prefix)
        return rest if self.count == 1 else rest.partition("}")[2]


def escaped(text: str) -> str:
    """A glob that fits this text alone."""
    return "".join(f"\\{char}" if char in "*?[]\\" else char for char in text)
