"""What other topics tell: the catalogue, attributes of users, links of ids, and the tally of dead letters.

`item:<id>` catalogue JSON, `a:<user>` JSON of attributes and of when they were told, `w:<id>` JSON of the ids that it
is linked with; each in the slot of its own id, with marks of the topic there. `dead` hash of reason -> dead letters and
`marks:dead` by their source are of no slot.

A word on two ids is written in the slot of each, by a script of its own. Whoever reads between the two sees a link from
one side only, which is none; and a word that is written again changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, cast

from headwater.privacy import digest_of
from headwater.topics import IDENTITIES, ITEMS, USERS, Topic
from headwater.wire import IdentityRow
from streams.features.identity import MOST_LINKS, Link
from streams.features.store.marked import MarkedStore
from streams.features.store.server import Script, StoreCall
from streams.features.store.slots import PRIVATE
from streams.features.store.standing import StoreStanding
from streams.features.store.values import is_number, told_head, told_ms

__all__ = ["ToldWrites", "Written"]

ITEMS_SCRIPT, LINKS, DEAD = Script("items"), Script("links"), Script("dead_letters")

Written = Literal["written", "known", "behind"]
"""Of entries of a topic: they are in the store; they were before; or nothing was written, for a slot has less than is
known of it, and the topic is to be read again from where the store is."""


class ToldWrites(MarkedStore):
    """The part of the store that writes what topics other than `events` tell."""

    def put_items(
        self, entries: Mapping[str, bytes | None], partition: int, offset: int, standing: StoreStanding | None = None
    ) -> Written:
        """Write catalogue entries.

        Parameters
            entries: JSON by item id; None removes the item.
            partition, offset: where in `items` the newest of them was read.
            standing: what is known of the topic's marks in the slots; kept up to date.
        """
        return self._put(ITEMS, "item", entries, partition, offset, standing)

    def put_attributes(
        self, attributes: Mapping[str, bytes | None], partition: int, offset: int, standing: StoreStanding | None = None
    ) -> Written:
        """Write attributes of users, `attributes_text` by user id; None erases them. What was told before its user was
        forgotten is not written. Otherwise as `put_items`, of `users`.
        """
        if self._seal.seals:
            attributes = {
                one: value and self._seal.attributes(one, value, told_head(value)) for one, value in attributes.items()
            }
        return self._put(USERS, "a", attributes, partition, offset, standing)

    def _put(
        self,
        topic: Topic,
        kind: str,
        entries: Mapping[str, bytes | None],
        partition: int,
        offset: int,
        standing: StoreStanding | None,
        marked: Iterable[int] = (),
    ) -> Written:
        """`marked`: slots whose own mark moves, too: what the topic says of these is written by somebody else."""
        grouped = self.slots.grouped(entries)
        found = standing or self.standing(topic)
        calls = {}
        for slot in self._touched({*grouped, *marked}, found, partition):
            ids, key = grouped.get(slot, []), self.slots.key
            keys = [self.slots.marks(slot, topic), *(key(slot, f"{kind}:{one}") for one in ids)]
            if topic is USERS:
                keys += [key(slot, PRIVATE), *(key(slot, f"p:{digest_of(one)}") for one in ids)]
            least = _least(found, slot, partition)
            calls[slot] = StoreCall(
                ITEMS_SCRIPT, keys, [partition, least, offset, *(entries[one] or b"" for one in ids)]
            )
        before = self._sealing_calls(grouped) if topic is USERS else []
        replies = dict(zip(calls, self._server.run([*before, *calls.values()])[len(before) :], strict=True))
        self._tell_damage(self.slots.marks(slot, topic).encode() for slot, reply in replies.items() if reply == 2)
        if -1 in replies.values():
            return "behind"
        if not self._record(topic, found, calls, partition, offset):
            return "behind"
        return "written" if any(replies.values()) else "known"

    def _touched(self, grouped: Iterable[int], standing: StoreStanding, partition: int) -> list[int]:
        """The slots that are written to. With one, it always is: its mark is that of the whole. One that has lost
        writes is told of every round until it has come as far as it was.
        """
        slots = [0] if self.slots.count == 1 else list(grouped)
        behind = [slot for slot, lost in standing.behind().items() if partition in lost and slot not in slots]
        return slots + behind

    def _record(self, topic: Topic, standing: StoreStanding, slots: Iterable[int], partition: int, offset: int) -> bool:
        own = {slot: max(offset, standing.own[slot].get(partition, -1)) for slot in slots}
        left = standing.low.get(partition) if standing.low is not None else None
        if not self.record(topic, {partition: (left, offset)}, {slot: {partition: mark} for slot, mark in own.items()}):
            return False
        for slot, mark in own.items():  # known from here on: a call that is repeated compares with what it found
            standing.own[slot][partition] = mark
        if standing.low is not None:
            standing.low[partition] = max(offset, -1 if left is None else left)
            for slot, mark in own.items():
                recorded = standing.recorded.setdefault(slot, {})
                recorded[partition] = max(mark, recorded.get(partition, -1))
        return True

    def forget_attributes(self, user_ids: Sequence[str]) -> None:
        """Remove what `Reading.untold` names."""
        self._server.run([StoreCall("DEL", [self.slots.user("a", one)]) for one in user_ids])

    def attributes_told_ms(self, user_id: str) -> int:
        """When the attributes of a user were told that are kept, epoch ms; -1 where none are."""
        (held,) = self._server.run([StoreCall("GET", [self.slots.user("a", user_id)])], may_be_odd=True)
        return told_ms(held) if isinstance(held, bytes) else -1

    def read_items(self, item_ids: Sequence[str]) -> list[bytes | None]:
        """Catalogue JSON of these items, None where there is none."""
        found = self._server.run(
            [StoreCall("GET", [self.slots.user("item", item)]) for item in item_ids], may_be_odd=True
        )
        return [None if isinstance(value, Exception) else value for value in found]

    def put_links(
        self, rows: Sequence[IdentityRow], partition: int, offset: int, standing: StoreStanding | None = None
    ) -> Written:
        """Write what was told of ids that are one person. Of two words on the same two ids the newest by event time
        counts, then by place in the log: so in any order, and as often as they come.

        Parameters
            rows: of one partition of `identities`.
            partition, offset: of the newest record that is done with.
            standing: as in `put_items`.

        Returns
            `behind` also where a key held what no links are: that slot then has none of the topic.
        """
        found = standing or self.standing(IDENTITIES)
        sides: dict[int, list[tuple[str, str, str, str]]] = {}
        for row in rows:
            word = " ".join(map(str, Link(row.time_ms, row.offset, row.partition, int(row.linked))))
            sides.setdefault(self.slots.of(row.user_id), []).append((row.user_id, "guests", row.was, word))
            sides.setdefault(self.slots.of(row.was), []).append((row.was, "users", row.user_id, word))
        touched = self._touched(sides, found, partition)
        calls = [self._links_call(slot, sides.get(slot, []), found, partition, offset) for slot in touched]
        is_behind = False
        for reply in self._server.run(calls):
            is_behind |= reply != b"written"
            self._tell_damage(reply[1:] if isinstance(reply, list) else ())
        if is_behind:
            return "behind"
        return "written" if self._record(IDENTITIES, found, touched, partition, offset) else "behind"

    def _links_call(
        self,
        slot: int,
        words: Sequence[tuple[str, str, str, str]],
        standing: StoreStanding,
        partition: int,
        offset: int,
    ) -> StoreCall:
        ids = list(dict.fromkeys(word[0] for word in words))
        both = [one for word in words for one in (word[0], word[2]) if self.slots.of(one) == slot]
        names = [f"w:{one}" for one in ids]
        names += [f"p:{digest_of(one)}" for one in dict.fromkeys(both)]
        numbers = {name: place for place, name in enumerate(names, start=2)}
        keys = [self.slots.marks(slot, IDENTITIES), *(self.slots.key(slot, name) for name in names)]
        arguments: list[Any] = [partition, _least(standing, slot, partition), offset, MOST_LINKS]
        for own, side, other, word in words:
            private = (numbers.get(f"p:{digest_of(one)}", 0) for one in (own, other))
            arguments += (numbers[f"w:{own}"], side, other, word, *private)
        return StoreCall(LINKS, keys, arguments)

    def forget_links(self, ids: Sequence[str]) -> None:
        """Take away what these keys hold, and the marks of `identities` in their slots: these are told of again from
        the beginning of the topic.
        """
        calls = [StoreCall("DEL", [self.slots.user("w", one)]) for one in ids]
        calls += [StoreCall("DEL", [self.slots.marks(slot, IDENTITIES)]) for slot in self.slots.grouped(ids)]
        self._server.run(calls)

    def count_dead_letters(self, letters: Iterable[tuple[str, str, int, int]]) -> int:
        """Count each refused message once.

        Parameters
            letters: (reason, source `topic/partition`, offset, index) of each.

        Returns
            How many were new.
        """
        arguments = [part for letter in letters for part in letter]
        keys = [self.slots.home("dead"), self.slots.home("marks:dead")]
        return cast(int, self._server.run([StoreCall(DEAD, keys, arguments)])[0])

    def dead_letters(self) -> dict[str, int]:
        """Reason -> dead letters counted."""
        reply = self._server.run([StoreCall("HGETALL", [self.slots.home("dead")])], may_be_odd=True)[0]
        found = {} if isinstance(reply, Exception) else cast(dict[bytes, bytes], reply)  # its script begins anew
        return {reason.decode(): int(count) for reason, count in found.items() if is_number(count)}


def _least(standing: StoreStanding, slot: int, partition: int) -> int | str:
    return standing.own[slot].get(partition, "")
