"""The whole store as values, and a store made again from these: for backups, whatever server comes next.

A slot is copied with its marks at one moment, by one script, while the streams workers write; or, where it holds too
much for that, key by key while nobody does. Values go back before the marks that speak of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from headwater.errors import HeadwaterError
from headwater.topics import DEAD_LETTERS, ERASURES, EVENTS, IDENTITIES, ITEMS, USERS
from streams.features.store.marked import MarkedStore
from streams.features.store.server import Script, StoreCall
from streams.features.store.slots import KINDS, NAMES, escaped

__all__ = ["Copied", "StoreCopies"]

COPY = Script("copy")
AT_ONCE = 1000
LIVE_KEYS = 50_000
"""Most keys of a slot that is copied by a script: .7 s of a crowded server, in which it answers nobody. A script looks
at all keys of its server: so there may be these of `LIVE_SLOTS` slots at most.
"""
LIVE_SLOTS = 20


class Copied(NamedTuple):
    """One key. `name` is without the prefix; `kind` is `s`, `h` or `z`, and `values` what the server gives for it."""

    name: str
    kind: str
    values: Sequence[bytes]

    @property
    def own(self) -> str:
        """The name without the tag of a slot: an id may hold any brace, and no key begins with one but for that tag.

        >>> [Copied(name, "s", []).own for name in ("{s3}marks", "u:a}rebuilding", "{s3}u:a}marks")]
        ['marks', 'u:a}rebuilding', 'u:a}marks']
        """
        return self.name.partition("}")[2] if self.name.startswith("{") else self.name

    @property
    def is_mark(self) -> bool:
        """Whether it says how far other keys are."""
        return self.own.removeprefix("slots:").partition(":")[0] == "marks"

    @property
    def passes(self) -> bool:
        """Whether it is a word on what goes on now, and is copied into no other store."""
        return self.own in ("rebuilding", "restoring", "clearing")


class StoreCopies(MarkedStore):
    """The part of the store that is copied whole."""

    def is_empty(self) -> bool:
        """Whether there is no key of this world."""
        return next(self._own_keys(), None) is None

    def prefixes(self, word: str) -> set[str]:
        """Prefixes of other worlds in this database: this one's, then what begins with a word and ends with a dot."""
        names = (key.decode().removeprefix(self.prefix) for key in self._server.keys(f"{escaped(self.prefix + word)}*"))
        return {f"{self.prefix}{name.partition('.')[0]}." for name in names if "." in name}

    def own_keys(self, slot: int | None = None) -> list[str]:
        """All keys of this world, or of one slot: those of other worlds in the same database are none of them."""
        return list(self._own_keys(slot))

    def _own_keys(self, slot: int | None = None) -> Iterator[str]:
        head = self.prefix if slot is None else self.slots.key(slot, "")
        for key in self._server.keys(f"{escaped(head)}*"):
            name = key.decode()
            if self.slots.owns(name):
                yield name

    def copied(self, *, live: bool) -> Iterator[list[Copied]]:
        """All keys, some at a time.

        Parameters
            live: somebody may be writing. What is of the store as a whole comes first, so it says no more of the slots
                than these hold.

        Raises
            HeadwaterError: it is too large for that; or, not live, somebody wrote all the same.
        """
        if not live:
            yield from self._copied_at_rest()
            return
        self.refuse_many()
        if self.slots.count > 1:
            yield self._read([self.prefix + "shards"])
            yield self._copy([self.slots.home("marks")], [f"{escaped(self.slots.home(''))}*"])
        for slot in self.slots.all:
            head = self.slots.key(slot, "")
            one = self.slots.count == 1
            names = [head + name for name in NAMES] if one else []
            globs = [f"{escaped(head)}{kind}:*" for kind in KINDS] if one else [f"{escaped(head)}*"]
            found = self._copy([self.slots.marks(slot, EVENTS), *names], globs)
            yield from (found[at : at + AT_ONCE] for at in range(0, len(found), AT_ONCE))

    def refuse_many(self) -> None:
        """Raises HeadwaterError where there are too many keys to be copied while somebody may be writing."""
        count = max(int(size) for size in self._server.command("DBSIZE"))
        most = LIVE_KEYS * min(self.slots.count, LIVE_SLOTS)
        if count > most:
            raise HeadwaterError(
                f"the store at {self.address} has {count:,} keys on a server, too many to be copied at one moment "
                f"(limit {most:,}) while streams workers write. Stop these while it is copied, about "
                f"{count // 20_000} s: requests are answered meanwhile; or name a replica that was cut off from its "
                "primary, --redis URL"
            )

    def _copy(self, keys: list[str], globs: list[str]) -> list[Copied]:
        reply = self._server.run([StoreCall(COPY, keys, globs)])[0]
        copied = [Copied(self._name(key), kind.decode(), values) for key, kind, values in reply]
        return [one for one in copied if not one.passes]

    def _copied_at_rest(self) -> Iterator[list[Copied]]:
        before = self._standings()
        some: list[str] = []
        for key in self._own_keys():
            some.append(key)
            if len(some) == AT_ONCE:
                yield self._read(some)
                some = []
        yield self._read(some)
        if self._standings() != before:
            raise HeadwaterError(
                f"somebody wrote to the store at {self.address} while it was copied: is a streams worker running? "
                "Stop it, and begin again"
            )

    def _standings(self) -> list[Any]:
        return [self.marks_and_highest(topic) for topic in (EVENTS, ITEMS, USERS, IDENTITIES, ERASURES, DEAD_LETTERS)]

    def _read(self, keys: Sequence[str]) -> list[Copied]:
        kinds = [kind.decode() for kind in self._server.run([StoreCall("TYPE", [key]) for key in keys])]
        known = [(key, READS[kind]) for key, kind in zip(keys, kinds, strict=True) if kind in READS]
        calls = [StoreCall(read, [key], words) for key, (_, read, *words) in known]
        found = []
        for (key, (kind, *_)), value in zip(known, self._server.run(calls, may_be_odd=True), strict=True):
            if value is None or isinstance(value, Exception):
                continue
            found.append(Copied(self._name(key), kind, _flat(kind, value)))
        return [one for one in found if not one.passes]

    def _name(self, key: str | bytes) -> str:
        return (key.decode() if isinstance(key, bytes) else key).removeprefix(self.prefix)

    def put_copied(self, copied: Iterable[Copied]) -> int:
        """Write keys as they were; how many that were."""
        calls = [StoreCall(WRITES[one.kind], [self.prefix + one.name], _words(one)) for one in copied if one.values]
        self._server.run(calls)
        return len(calls)


READS: dict[str, tuple[str, ...]] = {
    "string": ("s", "GET"),
    "hash": ("h", "HGETALL"),
    "zset": ("z", "ZRANGE", "0", "-1", "WITHSCORES"),
}
WRITES = {"s": "SET", "h": "HSET", "z": "ZADD"}


def _flat(kind: str, value: Any) -> list[bytes]:
    """As a script gives it."""
    if kind == "s":
        return [value]
    if kind == "h":
        return [part for pair in value.items() for part in pair]
    return [part if isinstance(part, bytes) else repr(part).encode() for part in _pairs(value)]


def _pairs(value: Sequence[Any]) -> Iterator[Any]:
    """Members and scores: in pairs (RESP3), or one after another."""
    for one in value:
        yield from one if isinstance(one, list | tuple) else (one,)


def _words(one: Copied) -> Sequence[bytes]:
    if one.kind != "z":
        return one.values
    return [part for at in range(0, len(one.values), 2) for part in (one.values[at + 1], one.values[at])]
