"""Which item has which row of the tables: a collisionless map that grows, admits by frequency and expires.

Before: every example's target passes through `observe`. After: memory, popularity, encoder and bundle index their
tables by these rows. Knows nothing of what the tables hold: whoever frees a row resets what it holds there.

Follows Monolith (Liu et al. 2022, arXiv 2209.07663, section 3.1): no hashing of two items into one row, entry by
frequency, expiry by idleness. Deterministic: a function of the observed sequence only.
"""

from __future__ import annotations

from itertools import islice, takewhile
from typing import Any

__all__ = ["ItemRows"]


class ItemRows:
    """A growing map from item id to row.

    `rows` maps ids to rows, `ids` maps rows to ids (None: free). Rows are dense: freed ones are used again, last freed
    first, before new ones are opened. `used` is one more than the highest row ever opened.
    """

    def __init__(self, admit_after: int = 1, max_items: int = 100_000, expire_idle_events: int = 0) -> None:
        self.admit_after = admit_after
        self.max_items = max_items
        self.expire_idle_events = expire_idle_events
        self.rows: dict[str, int] = {}  # longest idle first
        self.ids: list[str | None] = []
        self.free: list[int] = []
        self.waiting: dict[str, int] = {}  # id -> events so far, for items that have no row yet; oldest first
        self.last_seen: list[int] = []  # row -> index of its newest event
        self.let_go = {"row": 0, "waiting": 0}  # for there were too many: items that had one, or waited for it

    @property
    def used(self) -> int:
        """Rows opened so far, free ones included."""
        return len(self.ids)

    def observe(self, item_id: str, event: int) -> tuple[int | None, bool]:
        """Count one event of an item, number `event` of the stream; returns (its row or None, whether it is new)."""
        row = self.rows.pop(item_id, None)
        if row is not None:
            self.rows[item_id] = row  # to the end
            self.last_seen[row] = event
            return row, False
        if self.admit_after > 1:
            count = self.waiting.pop(item_id, 0) + 1
            if count < self.admit_after:
                self.waiting[item_id] = count
                if len(self.waiting) > self.max_items:  # a stream of one-off ids must not fill the memory
                    del self.waiting[next(iter(self.waiting))]
                    self.let_go["waiting"] += 1
                return None, False
        if self.free:
            row = self.free.pop()
            self.ids[row] = item_id
            self.last_seen[row] = event
        else:
            row = len(self.ids)
            self.ids.append(item_id)
            self.last_seen.append(event)
        self.rows[item_id] = row
        return row, True

    def expire(self, event: int, headroom: int = 0, at_least: int = 1) -> list[int]:
        """Free the rows of idle items, and of the longest idle while fewer than `headroom` rows are left.

        Idle ones wait until there are `at_least` so many: freeing walks through the tables, so it is done by the
        batch. Returns the freed rows, ascending; the caller resets what its tables hold there.
        """
        excess = len(self.rows) + headroom - self.max_items
        if excess > 0:
            excess = max(excess, at_least)
        horizon = event - self.expire_idle_events if self.expire_idle_events else 0
        idle = list(takewhile(lambda row: self.last_seen[row] < horizon, self.rows.values()))
        if len(idle) < at_least and excess <= 0:
            return []
        victims = sorted(idle if len(idle) >= excess else islice(self.rows.values(), excess))
        for row in reversed(victims):
            self.remove(row)
        self.let_go["row"] += len(victims) if excess > 0 else 0
        return victims

    def remove(self, row: int) -> None:
        """Free one row."""
        item_id = self.ids[row]
        if item_id is None:
            return
        del self.rows[item_id]
        self.ids[row] = None
        self.free.append(row)

    def state(self) -> dict[str, Any]:
        """All of it, as JSON-able values."""
        return {
            "ids": self.ids,
            "free": self.free,
            "waiting": list(self.waiting.items()),
            "last_seen": self.last_seen,
            "let_go": self.let_go,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Back to what `state()` returned."""
        self.ids = list(state["ids"])
        self.free = list(state["free"])
        self.waiting = dict(state["waiting"])
        self.last_seen = list(state["last_seen"])
        self.let_go |= state.get("let_go", {})  # the release before counted none
        owned = [(seen, row) for row, seen in enumerate(self.last_seen) if self.ids[row] is not None]
        self.rows = {str(self.ids[row]): row for _, row in sorted(owned)}
