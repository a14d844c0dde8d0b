"""Writes what one round of folding made: one script a slot, whole or not at all, all slots in one pipeline."""

from __future__ import annotations

from typing import Any, cast

from streams.features.decay import ItemStatistics
from streams.features.packed import change, encode
from streams.features.state import EMPTY, UserState
from streams.features.store.marked import MarkedStore
from streams.features.store.server import Script, StoreCall
from streams.features.store.values import Batch, Verdict, item_fields, landmark_text, log2_text

__all__ = ["BatchWrites"]

APPLY = Script("apply")


class BatchWrites(MarkedStore):
    """The part of the store that writes features."""

    def apply(self, batch: Batch) -> Verdict:
        """Write one batch, each slot atomically, where nothing that it was made from has changed.

        Returns
            `applied`; or `marks`, `users` or `landmark`, whichever has changed in the first slot that was not written.
            Others may have been: their marks say so.
        """
        if batch.decay is not None and self.slots.count > 1 and not self._agree(batch.decay):
            return "landmark"
        users = self.slots.grouped(batch.after)
        replies = self._server.run([self._apply_call(batch, slot, users.get(slot, [])) for slot in batch.marks])
        found: list[bytes] = []
        for reply in replies:
            if isinstance(reply, bytes):
                found.append(reply)
            else:
                found.append(reply[0])
                self._tell_damage(reply[1:])
        return cast(Verdict, next((one for one in found if one != b"applied"), b"applied").decode())

    def _apply_call(self, batch: Batch, slot: int, users: list[str]) -> StoreCall:
        head = self.slots.key(slot, "")
        items = batch.items.get(slot, {})
        marks = batch.marks[slot]
        keys = [f"{head}marks", f"{head}landmark", f"{head}popular"]
        keys += [f"{head}{kind}:{user}" for user in users for kind in "ut"]
        keys += [f"{head}totals", *(f"{head}i:{item}" for item in items)]
        n_items = len(items) + 1 if items else 0
        arguments: list[Any] = [len(marks), len(users), n_items, landmark_text(batch.decay)]
        for partition, (expected, new) in marks.items():
            arguments += (partition, "" if expected is None else expected, new)
        for user in users:
            before, after = batch.before.get(user, EMPTY), batch.after[user]
            added = change(before, after)
            arguments += (before.count, *(("base", _base(after)) if added is None else ("tail", added)))
        if items:
            totals = ItemStatistics()
            for statistics in items.values():
                totals.count(statistics)
            for item, statistics in (("", totals), *items.items()):
                arguments += (item, log2_text(statistics.log2_sum), log2_text(statistics.log2_taken))
                counts = item_fields(statistics)
                arguments += (len(counts), *(part for one in counts.items() for part in one))
        return StoreCall(APPLY, keys, arguments)


def _base(state: UserState) -> bytes:
    """A state as it is written; of somebody who is forgotten, nothing."""
    return encode(state) if state.count else b""
