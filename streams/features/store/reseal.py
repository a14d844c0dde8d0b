"""What lies in the store otherwise than the settings say, written anew; and its keys wrapped by another master key.

Before: somebody changed `privacy.seal_states`, or the master key. After: everything is as a worker writes it. All of it
may be repeated, and workers with the same setting go on meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from headwater.errors import InvalidMessage
from headwater.privacy.master_key import MasterKey
from streams.features.state import UserState
from streams.features.store.sealing import SEALED
from streams.features.store.server import Script, StoreCall
from streams.features.store.slots import SEALING
from streams.features.store.told import ToldWrites
from streams.features.store.users import UserReads
from streams.features.store.values import told_head

__all__ = ["Resealed", "SealWrites"]

REPLACE = Script("replace")
AT_ONCE = 1000


class Resealed(NamedTuple):
    """What was written anew: states and attributes; and how many could not be read."""

    states: int
    attributes: int
    unreadable: int


class SealWrites(UserReads, ToldWrites):
    """The part of the store that seals what lies open, or opens what is sealed."""

    def reseal(self) -> Resealed:
        """Write states and attributes as the settings say where they lie otherwise. What somebody writes meanwhile
        stays.

        Raises
            NewerFormat: something is sealed by another master key than that of the settings.
        """
        states = attributes = unreadable = 0
        for users in self._some("u"):
            written, odd = self._reseal_states(users)
            states, unreadable = states + written, unreadable + odd
        for users in self._some("a"):
            written, odd = self._reseal_attributes(users)
            attributes, unreadable = attributes + written, unreadable + odd
        return Resealed(states, attributes, unreadable)

    def has_sealing_key(self) -> bool:
        """Whether anything here is sealed, or has been."""
        return bool(self._sealing_kept(None))

    def wrap_sealing_by(self, master: MasterKey) -> int:
        """Have the store's keys wrapped by another master key; how many there are. Who has them goes on, who starts
        needs the new one. They are kept in each slot, also where nothing is sealed yet: a worker that goes on would
        keep them there as the master key of before has wrapped them.

        Raises
            SettingsError, Unavailable: nothing is changed.
        """
        kept = {slot: self._sealing_kept(slot) for slot in self.slots.all}
        wrapped = self._seal.wrap_by(master, {key_id: one for some in kept.values() for key_id, one in some.items()})
        told = [part for one in wrapped.items() for part in one]
        self._server.run([StoreCall("HSET", [self.slots.key(slot, SEALING)], told) for slot in kept if told])
        return len(wrapped)

    def _some(self, kind: str) -> Iterator[list[str]]:
        names = (self.slots.id_of(key, kind) for key in self._keys_of(kind))
        while some := list(islice(names, AT_ONCE)):
            yield some

    def _reseal_states(self, users: list[str]) -> tuple[int, int]:
        keys = [self.slots.user(kind, user) for user in users for kind in "ut"]
        values = self._server.run([StoreCall("GET", [key]) for key in keys], may_be_odd=True)
        held: dict[str, bytes | None] = {}
        states: dict[str, UserState] = {}
        odd = 0
        for user, base, tail in zip(users, values[::2], values[1::2], strict=True):
            if not isinstance(base, bytes) or isinstance(tail, Exception):
                continue  # gone meanwhile; or whoever reads the user mends it
            if base.startswith(SEALED) == self._seal.seals:
                continue
            try:
                states[user] = self._state(user, self.slots.of(user), base, tail)
                held[user] = base + (tail or b"")
            except InvalidMessage:
                odd += 1
        return self.mend_users(held, states), odd

    def _reseal_attributes(self, users: list[str]) -> tuple[int, int]:
        values = self._server.run([StoreCall("GET", [self.slots.user("a", one)]) for one in users], may_be_odd=True)
        calls, odd = [], 0
        for one, value in zip(users, values, strict=True):
            if not isinstance(value, bytes) or (SEALED in value) == self._seal.seals:
                continue
            try:
                plain = self._attributes(one, self.slots.of(one), value)
            except InvalidMessage:
                odd += 1
                continue
            written = self._seal.attributes(one, plain, told_head(plain)) if self._seal.seals else plain
            calls.append(StoreCall(REPLACE, [self.slots.user("a", one)], [value, written]))
        before = self._sealing_calls(self.slots.grouped(users)) if calls else []
        return sum(self._server.run([*before, *calls])[len(before) :]), odd
