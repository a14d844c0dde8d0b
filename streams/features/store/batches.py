"""Writes what one round of folding made: one script a slot, whole or not at all, all slots in one pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import inf
from struct import pack
from typing import Any, NamedTuple, cast

from headwater.privacy import digest_of
from streams.features.decay import ItemStatistics
from streams.features.packed import change
from streams.features.state import EMPTY, UserState
from streams.features.store.server import Script, StoreCall
from streams.features.store.users import UserReads
from streams.features.store.values import Batch, Verdict, erased_text, item_fields, landmark_text

__all__ = ["BatchWrites"]

APPLY = Script("apply")


class _Alike(NamedTuple):
    """Items to which a batch adds the same counts: most of a round are such with one click.

    Fields
        counts: of each, one at least or none.
        items: none are the totals of all.
        added, taken: log2 of the weights of each, or nothing where none has any.
    """

    counts: Sequence[tuple[str, int]]
    items: Sequence[str]
    added: Sequence[float] = ()
    taken: Sequence[float] = ()

    def arguments(self) -> Iterator[Any]:
        """As the script takes them."""
        yield from (len(self.items) or 1, len(self.counts))
        for one in self.counts:
            yield from one
        for weights in (self.added, self.taken):
            yield pack(f"<{len(weights)}d", *weights)


class BatchWrites(UserReads):
    """The part of the store that writes features."""

    def apply(self, batch: Batch) -> Verdict:
        """Write one batch, each slot atomically, where nothing that it was made from has changed.

        Returns
            `applied`; or `marks`, `users` or `landmark`, whichever has changed in the first slot that was not written.
            Others may have been: their marks say so.
        """
        if batch.decay is not None and self.slots.count > 1 and not self._agree(batch.decay):
            return "landmark"
        users, forgotten = self.slots.grouped(batch.after), self.slots.grouped(batch.forgotten)
        before = self._sealing_calls(batch.marks)
        calls = [self._apply_call(batch, slot, users.get(slot, []), forgotten.get(slot, [])) for slot in batch.marks]
        found: list[bytes] = []
        for reply in self._server.run([*before, *calls])[len(before) :]:
            if isinstance(reply, bytes):
                found.append(reply)
            else:
                found.append(reply[0])
                self._tell_damage(reply[1:])
        return cast(Verdict, next((one for one in found if one != b"applied"), b"applied").decode())

    def _apply_call(self, batch: Batch, slot: int, users: list[str], forgotten: list[str]) -> StoreCall:
        head = self.slots.key(slot, "")
        items = batch.items.get(slot, {})
        marks = batch.marks[slot]
        keys = [f"{head}marks", f"{head}landmark", f"{head}popular"]
        keys += [f"{head}{kind}:{user}" for user in users for kind in "ut"]
        keys += [f"{head}q:{digest_of(user)}" for user in forgotten]
        groups = _groups(items)
        arguments: list[Any] = [len(marks), len(users), len(forgotten), len(groups), landmark_text(batch.decay)]
        for partition, (expected, new) in marks.items():
            arguments += (partition, "" if expected is None else expected, new)
        for user in users:
            before = batch.before.get(user, EMPTY)
            arguments += (before.count, *self._changed(user, before, batch.after[user]))
        arguments += [erased_text(batch.forgotten[user]) for user in forgotten]
        for group in groups:
            keys += [f"{head}i:{item}" for item in group.items] or [f"{head}totals"]
            arguments += group.arguments()
        return StoreCall(APPLY, keys, arguments)

    def _changed(self, user: str, before: UserState, after: UserState) -> tuple[str, bytes]:
        """How a state is written, and what: a tail where the base is sealed or open as it is to be. Of somebody who is
        forgotten, nothing.
        """
        key = before.stored and before.stored.key
        added = change(before, after) if (key is not None) == self._seal.seals else None
        if added is None:
            return "base", self._written(user, after, key) if after.count else b""
        return "tail", added if key is None else self._seal.record(user, added, after.count, key)


def _groups(items: Mapping[str, ItemStatistics]) -> list[_Alike]:
    """What a batch adds to the items of one slot and, before these, to the totals of all."""
    if not items:
        return []
    alike: dict[tuple[Any, ...], dict[str, ItemStatistics]] = {}
    for item, one in items.items():
        kind = (one.positive, one.negative, one.exposures, *one.counts.items())
        if kind in alike:
            alike[kind][item] = one
        else:
            alike[kind] = {item: one}
    totals: dict[str, int] = {}
    groups: list[_Alike] = []
    for several in alike.values():
        fields = item_fields(next(iter(several.values())))
        for field, count in fields.items():
            totals[field] = totals.get(field, 0) + count * len(several)
        added, taken = [one.log2_sum for one in several.values()], [one.log2_taken for one in several.values()]
        weights = ([] if max(some) == -inf else some for some in (added, taken))
        groups.append(_Alike([*fields.items()], [*several], *weights))
    return [_Alike([*totals.items()], ()), *groups]
