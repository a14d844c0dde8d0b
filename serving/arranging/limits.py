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
        self.full: dict[str, list[Any]] = {}  # field -> values that the list has no room for
        self._values: list[tuple[Value, ...]] = []
        self._holders: dict[Value, list[int]] = {}
        self.capped = np.zeros(0, bool)
        self.grow(values, groups)

    def grow(self, values: Mapping[str, Sequence[Sequence[Any]]], groups: npt.NDArray[np.bool_]) -> None:
        """The pool has more items: all of their values and groups, those of earlier ones as they were."""
        held, self.groups = len(self._values), groups
        if not self.max_per:
            self._values += [()] * (groups.shape[1] - held)
            self.capped = np.zeros(groups.shape[1], bool)
            return
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
        self._cover = self._found(list(needs), self._in_order(needs, free), places, {})
        reached = [int(group[self._cover].sum()) for group in self.groups]
        self.needs = [min(pair) for pair in zip(needs, reached, strict=True)]
        self._trim()
        return [need - have for need, have in zip(needs, self.needs, strict=True)]

    def allowed(self, free: Mask, places: int) -> tuple[Mask, Mask]:
        """What the next place may hold, (P,): what surely may, and what may if the place `keeps` the needs in reach.

        Parameters
            free: items that are not in the list and not kept for another place, (P,).
            places: that are left for them, with this one.
        """
        sure: Mask = free & ~self.capped
        if not self._cover:
            return sure, np.zeros(len(sure), bool)
        if len(self._cover) < places:  # one more is no harm, unless it takes a value that the cover needs
            doubtful = sure & self._rivals()
        else:
            open_groups = [group for need, group in zip(self.needs, self.groups, strict=True) if need]
            doubtful = sure & np.any(open_groups, axis=0)
            sure[:] = False
        sure[self._cover] = True
        doubtful[self._cover] = False
        return sure & ~doubtful, doubtful

    def kept(self, items: Sequence[int], free: Mask, places: int) -> list[bool]:
        """Of each, whether all needs can still be met when it is picked."""
        in_order = self._in_order(self.needs, free)
        known: dict[Any, bool] = {}
        for item in items:
            key = self._key(item)
            if key not in known:
                known[key] = self._cover_after(item, in_order, places) is not None
        return [known[self._key(item)] for item in items]

    def take(self, item: int, free: Mask, places: int) -> None:
        """An item is in the list; `free` and `places` as they were when it was picked."""
        if item in self._cover:
            self._cover.remove(item)
        elif self._cover and (len(self._cover) >= places or self._rivals()[item]):
            self._cover = self._cover_after(item, self._in_order(self.needs, free), places) or []
        for value in self._values[item]:
            self._counts[value] = self._counts.get(value, 0) + 1
            if self._full(value):
                self.capped[self._holders[value]] = True
                self.full.setdefault(value[0], []).append(value[2])
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

    def _key(self, item: int) -> Hashable:
        """Items of one key take the same away."""
        return frozenset(self._values[item]), self.groups[:, item].tobytes()

    def _in_order(self, needs: Sequence[int], free: Mask) -> list[list[int]]:
        """Of each group the items that may be picked: those first that serve most later groups in need, then in the
        order of the pool.
        """
        found = []
        for j, group in enumerate(self.groups):
            items = np.flatnonzero(group & free & ~self.capped)
            later = [other for other in range(j + 1, len(needs)) if needs[other] > 0]
            if later:
                items = items[np.argsort(-self.groups[later][:, items].sum(axis=0), kind="stable")]
            found.append(items.tolist())
        return found

    def _cover_after(self, item: int, in_order: Sequence[Sequence[int]], places: int) -> list[int] | None:
        """What meets all needs when an item is picked; None where nothing does."""
        needs = self._needs_after(item)
        found = self._found(needs, in_order, places - 1, self._added([item]), item)
        met = all(int(group[found].sum()) >= need for need, group in zip(needs, self.groups, strict=True))
        return found if met else None

    def _found(
        self,
        needs: list[int],
        in_order: Sequence[Sequence[int]],
        places: int,
        used: dict[Value, int],
        without: int = -1,
    ) -> list[int]:
        """Items that meet the needs, or as much as they can, group by group. `used` are values that `without` takes."""
        left, chosen = needs, list[int]()
        for j, items in enumerate(in_order):
            for item in items:
                if left[j] <= 0 or len(chosen) >= places:
                    break
                own = self._values[item]
                if item == without or item in chosen or any(self._full(value, used.get(value, 0)) for value in own):
                    continue
                chosen.append(item)
                for value in own:
                    used[value] = used.get(value, 0) + 1
                left = [need - int(group[item]) for need, group in zip(left, self.groups, strict=True)]
        return chosen

    def _added(self, items: Sequence[int]) -> dict[Value, int]:
        added: dict[Value, int] = {}
        for item in items:
            for value in self._values[item]:
                added[value] = added.get(value, 0) + 1
        return added

    def _full(self, value: Value, more: int = 0) -> bool:
        return self._counts.get(value, 0) + more >= self.max_per[value[0]]
