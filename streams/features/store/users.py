"""Users as they are in the store: states, links and attributes, each slot at one moment.

A state is a base under `u:<user>` and, where it was added to since, a tail under `t:<user>`; links are under `w:<id>`,
attributes under `a:<id>`. `p:<digest>` says that somebody was forgotten; a reading looks at it only once it has met a
slot in which somebody was, which its key `private` says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, cast

import orjson

from headwater.errors import InvalidMessage, NewerFormat, Unavailable
from headwater.privacy import Erased, digest_of
from headwater.topics import EVENTS, IDENTITIES, USERS
from headwater.users import checked_attributes
from streams.features.decay import Decay
from streams.features.identity import ALONE, Links, decode_links, person, told_since
from streams.features.packed import decode, encode
from streams.features.state import DataKey, UserState
from streams.features.store.marked import MarkedStore, Whole
from streams.features.store.sealing import SEALED
from streams.features.store.server import Script, StoreCall
from streams.features.store.slots import PRIVATE
from streams.features.store.standing import marks_of_slot
from streams.features.store.values import Reading, SlotMarks, erased_of, integers, pairs, told_head, told_ms

__all__ = ["UserReads"]

READ, MEND = Script("read"), Script("mend_users")

PEOPLE = 10_000
"""Ids of which it is remembered who was the same person, so that they are read together in one round trip."""


@dataclass(slots=True)
class _SlotAsked:
    """What is read of one slot."""

    users: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)


class _UsersAsked(NamedTuple):
    """What is read in one round trip to each node."""

    users: Sequence[str]
    links_of: Sequence[str]
    slots: Iterable[int]
    partly: bool


class UserReads(MarkedStore):
    """The part of the store that reads users."""

    _people: dict[str, tuple[str, ...]] | None = None
    _has_private = False

    def read_users(
        self,
        user_ids: Sequence[str],
        links_of: Sequence[str] | None = None,
        slots: Iterable[int] = (),
        *,
        partly: bool = False,
    ) -> Reading:
        """States of these users, with the marks and the decay. An unknown user has the empty state; so has a key of
        another type, which `foreign_users` tells. One round trip for each node that any of them lies on.

        Parameters
            user_ids: whose states.
            links_of: whose links, too, and the states of all ids that are the same person; of these users if None. Who
                has none costs a key in the same round trip; who has some a round trip more, or two, the first time.
            slots: of which the marks are wanted, whether a user lies in them or not.
            partly: of a cluster, those whose node does not answer are `away`, and the others are read.
        """
        whole = self.whole_or_older() if partly else self.whole()
        links_of = list(dict.fromkeys(user_ids if links_of is None else links_of))
        remembered = self._people or {}
        guess = [other for one in links_of for other in remembered.get(one, ())]  # what is read now decides
        known: dict[str, Links] = {}
        unlinked: set[str] = set()
        asked = list(dict.fromkeys([*links_of, *guess]))
        while True:
            users = list(dict.fromkeys([*user_ids, *asked[len(links_of) :]]))
            asks_private = self._has_private
            reading, values = self._read_at_once(_UsersAsked(users, asked, slots, partly), whole)
            if self._has_private and not asks_private:
                continue  # once for ever
            known.update(dict.fromkeys(values, ALONE))
            for one, value in values.items():
                if value is None:
                    continue
                try:
                    known[one] = told_since(decode_links(value), reading.erased.get(one))
                except InvalidMessage:
                    unlinked.add(one)
                    known[one] = ALONE
            people, missing = {}, set[str]()
            for one in links_of:
                if known[one] is not ALONE:
                    ids, more = person(one, known)
                    missing |= more
                    if len(ids) > 1:
                        people[one] = ids
            if not missing.difference(asked):
                self._remember(links_of, people)
                return replace(reading, people=people, unlinked=sorted(unlinked))
            asked += sorted(missing.difference(asked))

    def _remember(self, ids: Sequence[str], people: Mapping[str, tuple[str, ...]]) -> None:
        if self._people is None or len(self._people) > PEOPLE:
            self._people = {}
        for one in ids:
            if one in people:
                self._people[one] = people[one]
            else:
                self._people.pop(one, None)

    def _read_at_once(self, wanted: _UsersAsked, whole: Whole) -> tuple[Reading, dict[str, bytes | None]]:
        """One script a slot; the links as they are stored."""
        users, links_of, slots, partly = wanted
        asked: dict[int, _SlotAsked] = {
            slot: _SlotAsked() for slot in (self.slots.all if self.slots.count == 1 else slots)
        }
        slot_of = {one: self.slots.of(one) for one in (*users, *links_of)}
        for user in users:
            asked.setdefault(slot_of[user], _SlotAsked()).users.append(user)
        for one in links_of:
            asked.setdefault(slot_of[one], _SlotAsked()).links.append(one)
        calls = [self._read_call(slot, of_slot) for slot, of_slot in asked.items()]
        replies = self._server.run_partly(calls) if partly else self._server.run(calls)
        reading = Reading({}, {}, whole.decay, {}, {}, {}, (), {}, [], slot_of, {})
        links: dict[str, bytes | None] = {}
        decay = whole.decay
        for (slot, some), reply in zip(asked.items(), replies, strict=True):
            if isinstance(reply, Unavailable):
                reading.away.update(dict.fromkeys((*some.users, *some.links), reply))
                links |= dict.fromkeys(some.links)
                continue
            cast(dict[int, SlotMarks], reading.slots)[slot] = self._slot_marks(slot, reply, whole)
            decay = self._decay_in(slot, reply[1], decay)
            if reply[4] is not None:
                self._has_private = True
            end = 5 + 2 * len(some.users)
            self._put_states(reading, slot, some.users, reply[5:end])
            links |= zip(some.links, reply[end : (end := end + len(some.links))], strict=True)
            _put_erased(reading, some.links, reply[end + len(some.links) :])
            self._put_attributes(reading, slot, some.links, reply[end : end + len(some.links)])
        return replace(reading, decay=decay), links

    def _read_call(self, slot: int, asked: _SlotAsked) -> StoreCall:
        key = self.slots.key
        keys = [self.slots.marks(slot, EVENTS), key(slot, "landmark")]
        keys += [self.slots.marks(slot, IDENTITIES), self.slots.marks(slot, USERS), key(slot, PRIVATE)]
        head = key(slot, "")
        keys += [f"{head}{kind}:{user}" for kind in "ut" for user in asked.users]
        keys += [f"{head}{kind}:{one}" for kind in "wa" for one in asked.links]
        if self._has_private:
            keys += [f"{head}p:{digest_of(one)}" for one in asked.links]
        return StoreCall(READ, keys)

    def _slot_marks(self, slot: int, reply: Sequence[Any], whole: Whole) -> SlotMarks:
        key = self.slots.marks(slot, EVENTS)
        own = self._folded(reply[0] if isinstance(reply[0], Exception) else pairs(reply[0]), key)
        # marks of another type: the script that writes them begins anew
        others = [{} if isinstance(one, Exception) else integers(pairs(one)) for one in reply[2:4]]
        if self.slots.count == 1:
            return SlotMarks(own, own, *others)
        found = [
            marks_of_slot(marks, whole.low.get(topic.name, {}), whole.recorded.get(topic.name, {}).get(slot, {}))
            for topic, marks in zip((EVENTS, IDENTITIES, USERS), (own, *others), strict=True)
        ]
        return SlotMarks(own, *found)

    def _decay_in(self, slot: int, landmark: Any, known: Decay | None) -> Decay | None:
        """Raises StoreDamaged, also where slots weigh by several."""
        key = self.slots.key(slot, "landmark")
        found = self._decay(landmark, key)
        if found is not None and known is not None and found != known:
            raise self._damaged(key, landmark, f"{known} as the other slots", "Restore")
        return found or known

    def _put_states(self, reading: Reading, slot: int, users: Sequence[str], values: Sequence[bytes | None]) -> None:
        damaged = cast(dict[str, bytes | None], reading.damaged)
        for user, base, tail in zip(users, values[: len(users)], values[len(users) :], strict=True):
            try:
                reading.states[user] = self._state(user, slot, base, tail)
            except InvalidMessage:
                damaged[user] = (base or b"") + (tail or b"")
            except NewerFormat as error:
                cast(dict[str, NewerFormat], reading.newer)[user] = error

    def _state(self, user: str, slot: int, base: bytes | None, tail: bytes | None) -> UserState:
        """As `decode`, of what may be sealed."""
        if base is None or not base.startswith(SEALED):
            return decode(base, tail)
        base, tail, key = self._seal.opened(user, slot, base, tail)
        state = decode(base, tail)
        state.stored = state.stored and state.stored._replace(key=key)  # beside what is compared, as a cache is
        return state

    def _written(self, user: str, state: UserState, key: DataKey | None = None) -> bytes:
        """As `encode`, sealed where that is to be."""
        value = encode(state)
        if not self._seal.seals:
            return value
        value, key = self._seal.base(user, value, key)
        state.stored = state.stored and state.stored._replace(key=key)
        return value

    def _put_attributes(self, reading: Reading, slot: int, ids: Sequence[str], values: Sequence[bytes | None]) -> None:
        """Of each id, where any were told, since it was forgotten or before; and whose key holds what none are."""
        for one, value in zip(ids, values, strict=True):
            if value is not None:
                is_old = one in reading.erased and told_ms(value) <= reading.erased[one].time_ms
                told = cast(dict[str, Mapping[str, Any]], reading.withheld if is_old else reading.attributes)
                try:
                    told[one] = checked_attributes(orjson.loads(self._attributes(one, slot, value)))
                except (ValueError, InvalidMessage):
                    cast(list[str], reading.untold).append(one)
                except NewerFormat as error:
                    cast(dict[str, NewerFormat], reading.newer)[one] = error

    def _attributes(self, user: str, slot: int, value: bytes) -> bytes:
        """As they were told, of what may be sealed; JSON has no byte of the kind that says so."""
        return self._seal.opened_attributes(user, slot, value, told_head(value)) if SEALED in value else value

    def foreign_users(self, user_ids: Sequence[str]) -> dict[str, None]:
        """Those of these users of whom a key is of a type that no state has; reading them says that they are new."""
        keys = [(user, self.slots.user(kind, user)) for user in user_ids for kind in "ut"]
        found = self._server.run([StoreCall("TYPE", [key]) for _, key in keys])
        return {user: None for (user, _), kind in zip(keys, found, strict=True) if kind not in (b"string", b"none")}

    def mend_users(self, damaged: Mapping[str, bytes | None], states: Mapping[str, UserState]) -> int:
        """Write states in the place of what is none, where it is still there.

        Parameters
            damaged: as in a Reading.
            states: what to write; the keys of a user without one are removed.

        Returns
            How many were written or removed.
        """
        calls = []
        for slot, users in self.slots.grouped(damaged).items():
            arguments: list[str | bytes] = []
            for user in users:
                held = damaged[user]
                arguments += ("1" if held is None else "0", held or b"")
                arguments.append(self._written(user, states[user]) if user in states else b"")
            head = self.slots.key(slot, "")
            calls.append(StoreCall(MEND, [f"{head}{kind}:{user}" for user in users for kind in "ut"], arguments))
        before = self._sealing_calls(self.slots.grouped(damaged))
        return sum(self._server.run([*before, *calls])[len(before) :])

    def read_links(self, ids: Sequence[str]) -> list[Links]:
        """What was told of these ids, in their order; of one whose key holds something else, nothing."""
        found = []
        for value in self._server.run([StoreCall("GET", [self.slots.user("w", one)]) for one in ids], may_be_odd=True):
            try:
                found.append(ALONE if isinstance(value, Exception) else decode_links(value))
            except InvalidMessage:
                found.append(ALONE)
        return found


def _put_erased(reading: Reading, ids: Sequence[str], values: Sequence[bytes | None]) -> None:
    """Who of these was forgotten; without values nobody is asked about."""
    for one, value in zip(ids, values, strict=False):
        if value is not None and (erased := erased_of(value)) is not None:
            cast(dict[str, Erased], reading.erased)[one] = erased
