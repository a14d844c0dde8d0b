"""The pool of one list: the items that its places are filled from, and what is known of each.

Before: scores of all rows. After: `arrange` picks from it. A pool holds the best by boosted score, and of what a rule
asks for (a share's items, new ones, pinned ones) the best as well, so that a pass costs the same whatever the size of
the catalogue. Whoever needs more asks for more: an item that is in no pool has no chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from headwater.errors import RequestRefused
from headwater.surfaces import Boost, Share, Surface
from models.top_k import top_k
from serving.arranging.beyond import Beyond
from serving.arranging.chance import spread_of
from serving.arranging.likeness import unit
from serving.arranging.thompson import Draws
from serving.arranging.tiers import NO_TIER, lowered
from serving.catalogue import Catalogue
from serving.filters import Mask, Scalar
from serving.rules import Rows

__all__ = ["NO_DRAWS", "NO_ROW", "SCORED", "Leading", "Offer", "Pool", "places_of"]

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]

NO_DRAWS = "no_ranker"
"""Why there are none, where no ranker has a say."""

NO_ROW = -1
"""Stands for the row of an item that the model does not know."""

POOL = 300
"""Items with a score that a list is picked from, at least; three for each place where that is more."""

NEW_ITEMS = 50
"""Of new items so many with a row, and as many without."""

MOST_OF_SHARE = 2_000
"""Of a share's items so many are looked at where caps leave no room for the best."""

SCORED, BEYOND, BURIED, BURIED_BEYOND = range(4)
"""Stages: a place goes to the first that has anything for it. Those of tiers lie below SCORED, which is the last's."""


class Leading(NamedTuple):
    """Rows that are ahead of all others: theirs, ascending, and a score that no other row is above."""

    rows: Ints
    others: float

    def best(self, scores: Array, k: int) -> Ints | None:
        """`top_k` of all scores, where a look at these rows tells it; None where it does not."""
        if len(self.rows) < k:
            return None
        own = scores[self.rows]
        best = top_k(own, k)
        return self.rows[best] if 0 < len(best) == k and own[best[-1]] > self.others else None


NOBODY_LEADS = Leading(np.zeros(0, np.int64), math.inf)


class Offer(NamedTuple):
    """What a list may be of.

    Fields
        scores: (N,), -inf where the rules let nothing go; logits, so that a boost multiplies the odds.
        rows: the catalogue seen through the same rows.
        vectors: (N, d) of the model, by which items are alike; None: by their categories alone.
        new: which rows had few events, (N,); asked for only where the surface gives new items a share.
        beyond: what has no row here and follows on the rows, and can be pinned; it counts as new, unless the rows are
            slots and `new` says of those. None: the list ends with the rows.
        all_items: the catalogue by its slots, for what is beyond.
        item_rows: the row of each item that has one, for pins.
        tiers: of which kind each score is, (N,), 0 first: whatever raises it, it comes after those of an earlier one.
            None: they are all alike.
        pinned: which rows without a score may have a place of their own all the same, (N,).
        draws: what draws of the ranker's posterior add, for `thompson`; or why there are none.
        leading: rows that are ahead of all others, where that is known.
    """

    scores: Array
    rows: Rows
    vectors: Array | None = None
    new: Callable[[], Mask] | None = None
    beyond: Beyond | None = None
    all_items: Rows | None = None
    item_rows: Mapping[str, int] = {}
    tiers: Ints | None = None
    pinned: Callable[[], Mask] | None = None
    draws: Draws | str = NO_DRAWS
    leading: Leading = NOBODY_LEADS


class _Rated(NamedTuple):
    """All rows by the boosts that hold: values (N,) float, -inf where nothing may go or it is buried; buried (N,)."""

    values: Array
    buried: Mask | None


class Pool:
    """Items 0 to P - 1, at first in the order in which they would be listed: by stage, by value, by row.

    Fields, (P,) each
        rows, slots: NO_ROW for what is beyond; of the catalogue.
        scores, values: as offered, and boosted, both 0 for what is beyond.
        stage: one of the four, or below them.
        new: whether an item had few events.
        groups: (shares, P), which meet the share's condition.

    `unknown` names what goes by a field that no item has.
    """

    def __init__(self, offer: Offer, surface: Surface, k: int, now_ms: int) -> None:
        self.offer = offer
        self.now_ms = now_ms
        self.catalogue: Catalogue = offer.rows.catalogue
        self.size = max(POOL, 3 * k)
        self.shares = [(i, one) for i, one in enumerate(surface.shares) if one.holds(now_ms)]
        self.boosts = [(i, one) for i, one in enumerate(surface.boosts) if one.holds(now_ms)]
        self.wants_new = surface.explore.new_items > 0
        self.unknown = {f"max_per.{name}": None for name in surface.max_per if not self.catalogue.has_field(name)}
        self._rated = self._rate()
        self._last_tier = NO_TIER if offer.tiers is None else int(offer.tiers.max(initial=NO_TIER))
        self._row_groups = [self._mask(offer.rows, "shares", i, one) for i, one in self.shares]
        self._slot_groups: list[Mask] = []
        self._new = offer.new() if offer.new is not None and self.wants_new else None
        self._scored_in = self._beyond_in = self._all_in = False  # of which stages nothing is left out
        rows = [top_k(self._rated.values, self.size)]
        self._counts = [2 * places_of(share, k) + k for _, share in self.shares]
        rows += [self._best_of(*one) for one in zip(self._row_groups, self._counts, strict=True)]
        if self._new is not None:
            rows.append(self._best_of(self._new, NEW_ITEMS))
        if spread_of(surface.explore) and not isinstance(offer.draws, str):
            rows.append(offer.draws.rows[self._rated.values[offer.draws.rows] > -np.inf])
        self.rows = self.slots = self.stage = np.zeros(0, np.int64)
        self.scores = self.values = np.zeros(0)
        self.new = np.zeros(0, bool)
        self.groups = np.zeros((len(self.shares), 0), bool)
        first = np.unique(np.concatenate(rows))
        self._add_rows(first[np.lexsort((first, -self._rated.values[first]))], SCORED)
        if offer.beyond is not None and (self.shares or self.wants_new):
            self._add_best_beyond()

    def __len__(self) -> int:
        return len(self.rows)

    def more(self, full: Mapping[str, Sequence[Scalar]]) -> bool:
        """Take in more items, the next in order; False where there are none.

        `full` are values by field that a list may have no more of: what has them is passed over.
        """
        before, offer = len(self), self.offer
        if not self._scored_in:
            values = self._rated.values.copy()
            values[self.rows[self.rows != NO_ROW]] = -np.inf
            values[self._having(offer.rows, full)] = -np.inf
            best = top_k(values, self.size)
            self._scored_in = len(best) < self.size
            self._add_rows(best, SCORED)
        if len(self) == before and offer.beyond is not None and not self._beyond_in:
            left = offer.beyond.allowed() & ~self._buried_slots()
            left[self.slots] = False
            left &= ~self._having(offer.all_items or Rows(self.catalogue), full)
            best = offer.beyond.best(left, self.size)
            self._beyond_in = len(best) < self.size
            self._add_slots(best, BEYOND)
        if len(self) == before and not self._all_in:
            self._all_in = True
            self._add_buried()
        return len(self) > before

    def more_of(self, share: int) -> bool:
        """Take in more of what a share is of (its place in `groups`); False where there are none."""
        before, counts = len(self), self._counts
        while counts[share] < MOST_OF_SHARE and len(self) == before:
            counts[share] *= 4
            rows = self._best_of(self._row_groups[share], counts[share])
            if len(rows) < counts[share]:
                counts[share] = MOST_OF_SHARE
            self._add_rows(rows[~np.isin(rows, self.rows)], SCORED)
        return len(self) > before

    def find(self, item_id: str, row: int | None) -> int | None:
        """Where an item is in the pool; it is taken in where it may be listed. None: it may not."""
        slot = self.catalogue.slots.get(item_id)
        if slot is None:
            return None
        if not (self.slots == slot).any():
            if row is not None and self.offer.scores[row] > -np.inf:
                self._add_rows(np.array([row]), SCORED if self._rated.values[row] > -np.inf else BURIED)
            elif row is None and self.offer.beyond is not None:
                allowed = self.offer.beyond.allowed()
                if slot < len(allowed) and allowed[slot]:
                    self._add_slots(np.array([slot]), BURIED_BEYOND if self._buried_slots()[slot] else BEYOND)
            elif row is not None and self.offer.pinned is not None and self.offer.pinned()[row]:
                self._add_rows(np.array([row]), BEYOND)
        found = np.flatnonzero(self.slots == slot)
        return int(found[0]) if len(found) else None

    def field(self, name: str) -> list[Sequence[Scalar]]:
        """Each item's values of a catalogue field."""
        return self.catalogue.values(name, self.slots.tolist())

    def vectors(self) -> Array | None:
        """(P, d) of length 1, zeros where an item has none; None where the model has none."""
        if self.offer.vectors is None:
            return None
        found = self.offer.vectors[self.rows]
        found[self.rows == NO_ROW] = 0.0
        return unit(found)

    def _rate(self) -> _Rated:
        scores = self.offer.scores
        if not self.boosts:
            return _Rated(scores, None)
        values = scores.astype(np.float64)
        buried = np.zeros(len(values), bool)
        for i, boost in self.boosts:
            mask = self._mask(self.offer.rows, "boosts", i, boost)
            if boost.times:
                values[mask] += math.log(boost.times)
            else:
                buried |= mask
        values[buried] = -np.inf
        return _Rated(values if self.offer.tiers is None else lowered(values, self.offer.tiers), buried)

    def _mask(self, rows: Rows, list_name: str, place: int, rule: Boost | Share) -> Mask:
        """Which rows a rule is of. A field that no item has just now is no mistake of the request: nothing meets it."""
        at = f"{list_name}[{place}]"
        try:
            return rows.matching_all(rule.filters, self.now_ms, f"{at}.filters")
        except RequestRefused as error:
            if error.code != "unknown_field":
                raise
            self.unknown.setdefault(at)
            return rows.matching_all(rule.filters, self.now_ms, f"{at}.filters", unknown_ok=True)

    def _having(self, rows: Rows, full: Mapping[str, Sequence[Scalar]]) -> Mask:
        """Which rows have one of the values."""
        having = np.zeros(len(rows), bool)
        for name, values in full.items():
            try:
                having |= rows.matching_all({name: list(values)}, self.now_ms)
            except RequestRefused:  # values that no filter may name: looked at one by one
                continue
        return having

    def _buried_slots(self) -> Mask:
        rows = self.offer.all_items or Rows(self.catalogue)
        buried = np.zeros(len(rows), bool)
        for i, boost in self.boosts:
            if not boost.times:
                buried |= self._mask(rows, "boosts", i, boost)
        return buried

    def _best_of(self, mask: Mask, count: int) -> Ints:
        rows = np.flatnonzero(mask & (self._rated.values > -np.inf))
        return np.asarray(rows[top_k(self._rated.values[rows], count)])

    def _add_best_beyond(self) -> None:
        beyond = self.offer.beyond
        assert beyond is not None
        allowed = beyond.allowed()
        plain = allowed & ~self._buried_slots()
        for group, count in zip(self._groups_of_slots(), self._counts, strict=True):
            self._add_slots(beyond.best(plain & group, count), BEYOND)
        if self.wants_new:
            known = self._new_slots()
            self._add_slots(beyond.best(plain if known is None else plain & known, NEW_ITEMS), BEYOND)

    def _add_buried(self) -> None:
        if self._rated.buried is not None:
            rows = np.flatnonzero(self._rated.buried)
            best = rows[top_k(self.offer.scores[rows], self.size)]
            self._add_rows(best[~np.isin(best, self.rows)], BURIED)
        if self.offer.beyond is not None and self.boosts:
            allowed = self.offer.beyond.allowed()
            self._add_slots(self.offer.beyond.best(allowed & self._buried_slots(), self.size), BURIED_BEYOND)

    def _new_slots(self) -> Mask | None:
        """Which slots had few events, where that is known of them; None: all that is beyond is new."""
        return self._new if self.offer.rows is self.offer.all_items else None

    def _groups_of_slots(self) -> list[Mask]:
        if len(self._slot_groups) < len(self.shares):
            rows = self.offer.all_items or Rows(self.catalogue)
            self._slot_groups = [self._mask(rows, "shares", i, one) for i, one in self.shares]
        return self._slot_groups

    def _add_rows(self, rows: Ints, stage: int) -> None:
        offer = self.offer
        values = offer.scores[rows] if stage == BURIED else self._rated.values[rows]
        stages = np.full(len(rows), stage)
        if stage == SCORED and offer.tiers is not None:
            stages += offer.tiers[rows] - self._last_tier
        new = np.zeros(len(rows), bool) if self._new is None else self._new[rows]
        groups = [one[rows] for one in self._row_groups]
        self._append(rows, offer.rows.slots_of(rows), (offer.scores[rows], values), (stages, new), groups)

    def _add_slots(self, slots: Ints, stage: int) -> None:
        slots = slots[~np.isin(slots, self.slots)]
        nothing = np.zeros(len(slots))
        rows, known = np.full(len(slots), NO_ROW), self._new_slots()
        new = np.ones(len(slots), bool) if known is None else known[slots]
        groups = [one[slots] for one in self._groups_of_slots()]
        self._append(rows, slots, (nothing, nothing), (np.full(len(slots), stage), new), groups)

    def _append(
        self, rows: Ints, slots: Ints, numbers: tuple[Array, Array], kind: tuple[Ints, Mask], groups: Iterable[Mask]
    ) -> None:
        self.rows = np.concatenate([self.rows, rows])
        self.slots = np.concatenate([self.slots, slots])
        self.scores = np.concatenate([self.scores, numbers[0]])
        self.values = np.concatenate([self.values, numbers[1]])
        self.stage = np.concatenate([self.stage, kind[0]])
        self.new = np.concatenate([self.new, kind[1]])
        fresh = np.array(list(groups), bool).reshape(len(self.shares), len(rows))
        self.groups = np.concatenate([self.groups, fresh], axis=1)


def places_of(share: Share, k: int) -> int:
    """How many of k places a share is, rounded up.

    >>> places_of(Share(filters={}, least=0.07), 100), places_of(Share(filters={}, least=0.31), 10)
    (7, 4)
    """
    return math.ceil(share.least * k - 1e-9)
