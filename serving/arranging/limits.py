"""What a list may hold beside each other: caps per value of a field, and shares that it has to reach.

Before: `pool` says which values and groups each item has. After: `arrange` asks at each place what may be picked, and
tells what was. Caps are never broken but by pins. A share is reached as far as a fill by order finds items for it, the
shares in their order, within the caps; from then on nothing is allowed that would put what was found out of reach.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.filters import Mask

__all__ = ["ListLimits"]

Value = tuple[str, bool, Hashable]
"""Field, whether it is a boolean, and the value: true equals 1 in Python, and is another value here."""


class ListLimits:
    """State of one pass. Items are the places of a pool.

    Parameters
        max_per: field -> most items of one value.
        values: field -> each item's values.
        groups: (shares, P) bool, which items each share is of.
    """

    def __init__(
        self, max_per: Mapping[str, int], values: Mapping[str, Sequence[Sequence[Any]]], groups: npt.NDArray[np.bool_]
    ) -> None:
        self.max_per = max_per
        self.groups = groups
        self.needs = [0] * len(groups)
        self._cover: list[int] = []  # items that meet the needs within places and caps: the proof that it can be done
        self._counts: dict[Value, int] = {}
        self._values: list[tuple[Value, ...]] = []
        self._holders: dict[Value, list[int]] = {}
        self.capped = np.zeros(0, bool)
        self.grow(values, groups)

    def grow(self, values: Mapping[str, Sequence[Sequence[Any]]], groups: npt.NDArray[np.bool_]) -> None:
        """The pool has more items: all of their values and groups, those of earlier ones as they were."""
        held, self.groups = len(self._values), groups
        for item in range(held, groups.shape[1]):
            own = {(name, isinstance(one, bool), one) for name in self.max_per for one in values[name][item]}
            self._values.append(tuple(own))
            for value in own:
                self._holders.setdefault(value, []).append(item)
        capped = [any(self._full(value) for value in own) for own in self._values[held:]]
        self.capped = np.concatenate([self.capped, np.array(capped, bool)])

    def aim(self, needs: Sequence[int], free: Mask, places: int) -> list[int]:
        """So many items of each group are wanted in so many places, of the items that are free: as many as can be
        found are needed from now on. Returns how many each lacks.
        """
        self._cover = self._found(list(needs), free, places, {})
        reached = [int(group[self._cover].sum()) for group in self.groups]
        self.needs = [min(pair) for pair in zip(needs, reached, strict=True)]
        self._trim()
        return [need - have for need, have in zip(needs, self.needs, strict=True)]

    def allowed(self, free: Mask, places: int) -> Mask:
        """What the next place may hold, (P,).

        Parameters
            free: items that are not in the list and not kept for another place, (P,).
            places: that are left for them, with this one.
        """
        allowed: Mask = free & ~self.capped
        if not self._cover:
            return allowed
        if len(self._cover) < places:  # one more is no harm, unless it takes a value that the cover needs
            doubtful = allowed & self._rivals()
        else:
            open_groups = [group for need, group in zip(self.needs, self.groups, strict=True) if need]
            allowed &= np.any(open_groups, axis=0)
            doubtful = allowed.copy()
        doubtful[self._cover] = False
        known: dict[Any, bool] = {}
        for item in np.flatnonzero(doubtful).tolist():
            key = frozenset(self._values[item]), self.groups[:, item].tobytes()
            if key not in known:
                known[key] = self._cover_after(item, free, places) is not None
            allowed[item] = known[key]
        return allowed

    def take(self, item: int, free: Mask, places: int) -> None:
        """An item is in the list; `free` and `places` as they were when it was picked."""
        if item in self._cover:
            self._cover.remove(item)
        elif self._cover and (len(self._cover) >= places or self._rivals()[item]):
            self._cover = self._cover_after(item, free, places) or []
        for value in self._values[item]:
            self._counts[value] = self._counts.get(value, 0) + 1
            if self._full(value):
                self.capped[self._holders[value]] = True
        self.needs = self._needs_after(item)
        self._trim()

    def _needs_after(self, item: int) -> list[int]:
        return [max(need - int(group[item]), 0) for need, group in zip(self.needs, self.groups, strict=True)]

    def _rivals(self) -> Mask:
        """Items that hold a value which is full when the cover is picked, (P,)."""
        rivals = np.zeros(len(self._values), bool)
        for value, count in self._added(self._cover).items():
            if self._full(value, count):
                rivals[self._holders[value]] = True
        return rivals

    def _trim(self) -> None:
        """Let go of what the cover holds beyond the needs."""
        for item in reversed(self._cover.copy()):
            rest = [one for one in self._cover if one != item]
            if all(int(group[rest].sum()) >= need for need, group in zip(self.needs, self.groups, strict=True)):
                self._cover = rest

    def _cover_after(self, item: int, free: Mask, places: int) -> list[int] | None:
        """What meets all needs when an item is picked; None where nothing does."""
        needs = self._needs_after(item)
        others = free.copy()
        others[item] = False
        found = self._found(needs, others, places - 1, self._added([item]))
        met = all(int(group[found].sum()) >= need for need, group in zip(needs, self.groups, strict=True))
        return found if met else None

    def _found(self, needs: Sequence[int], free: Mask, places: int, used: Mapping[Value, int]) -> list[int]:
        """Items that meet the needs, or as much as they can: the shares in their order; of each the items first that
        serve most of the others, then in the order of the pool. `used` are values that others take beside.
        """
        left, used, chosen = list(needs), dict(used), list[int]()
        taken = set[int]()
        for j, group in enumerate(self.groups):
            if left[j] <= 0:
                continue
            others = [later for later in range(j + 1, len(left)) if left[later] > 0]
            items = np.flatnonzero(group & free & ~self.capped)
            if others:
                serves = self.groups[others][:, items].sum(axis=0)
                items = items[np.argsort(-serves, kind="stable")]
            for item in items.tolist():
                if left[j] <= 0 or len(chosen) >= places:
                    break
                if item in taken or any(self._full(value, used.get(value, 0)) for value in self._values[item]):
                    continue
                chosen.append(item)
                taken.add(item)
                for value in self._values[item]:
                    used[value] = used.get(value, 0) + 1
                left = [need - int(one[item]) for need, one in zip(left, self.groups, strict=True)]
        return chosen

    def _added(self, items: Sequence[int]) -> dict[Value, int]:
        added: dict[Value, int] = {}
        for item in items:
            for value in self._values[item]:
                added[value] = added.get(value, 0) + 1
        return added

    def _full(self, value: Value, more: int = 0) -> bool:
        return self._counts.get(value, 0) + more >= self.max_per[value[0]]
