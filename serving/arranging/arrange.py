"""`arrange`: one list from the scores of what may be in it, place by place, by the policy of a surface.

Before: the rules have written -inf wherever nothing may go, and the ranker has revised the scores. After: the items of
an answer. Knows no clock: `now_ms` is passed in.

Where rules are at odds, the first of these holds: what may be listed at all; a pin; caps; shares, in their order;
boosts and buried items; diversity; chance. So a pin counts for caps and shares and heeds none, and chance draws only
among what caps and shares leave at a place.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from headwater.surfaces import Surface
from models.top_k import top_k
from serving.arranging.chance import chances, draw, explores, mixed, spread_of, uniform
from serving.arranging.likeness import Likeness, diversity_price
from serving.arranging.limits import ListLimits
from serving.arranging.pool import NO_ROW, SCORED, Offer, Pool, places_of
from serving.arranging.thompson import Agreement, Draws
from serving.filters import Mask

__all__ = ["Arranged", "arrange", "arranges", "warm_up"]

Array = npt.NDArray[Any]
RowIds = npt.NDArray[np.int64]


DOUBTED = 64
"""Where chance draws: of the items that could put a share out of reach, so many of the best are looked at for a place;
the others have no chance there."""


class Arranged(NamedTuple):
    """A list, in its order; (n,) each, n at most k.

    Fields
        rows: of the items; NO_ROW for those beyond.
        slots: of the same items in the catalogue.
        scores: as they were offered; of items that have none, the lowest of the list, and 0 at most.
        propensities: the chance of each at its place, given what is above it; 1 where nothing is left to chance.
        notes: for the receipt's policy.
    """

    rows: RowIds
    slots: RowIds
    scores: Array
    propensities: Array
    notes: tuple[str, ...] = ()


def arranges(surface: Surface) -> bool:
    """Whether a surface does anything to a list beyond its order by score: most do not, and need nothing but scores."""
    return bool(
        surface.boosts or surface.pins or surface.max_per or surface.shares or surface.diversity
        or explores(surface.explore)
    )  # fmt: skip


def arrange(offer: Offer, surface: Surface, k: int, seed: str, now_ms: int) -> Arranged:
    """Pick k items, place by place.

    Parameters
        offer: what may be picked.
        surface: by which policy.
        k: places.
        seed: the request_id: an answer to the same request is drawn alike. One seed a list.
        now_ms: the instant that the answer is for, epoch ms: which campaigns hold.

    Returns
        At most k items. Without anything that `arranges`: the k best rows, ties to the lowest, and the best beyond.

    Raises
        RequestRefused: `bad_filter`, a condition of the surface means nothing for its field.
    """
    if arranges(surface):
        return _Pass(offer, surface, k, seed, now_ms).run()
    leading = offer.leading.best(offer.scores, k)
    rows = top_k(offer.scores, k) if leading is None else leading
    slots, beyond = offer.rows.slots_of(rows), offer.beyond
    if beyond is None or len(rows) == k:
        return Arranged(rows, slots, offer.scores[rows], np.ones(len(rows)))
    if len(rows) < k:
        more = beyond.best(beyond.allowed(), k - len(rows))
        rows, slots = np.append(rows, np.full(len(more), NO_ROW)), np.append(slots, more)
    return Arranged(rows, slots, _scores(rows, offer.scores), np.ones(len(rows)))


def warm_up() -> None:
    """The loops that only lists run, which a machine compiles once: 1.6 s that no request should wait for."""
    value, row = np.zeros(1), np.zeros(1, np.int64)
    likeness = Likeness(None, [()])
    likeness.greedy(value, 0.0, np.ones(1, bool), 1)
    likeness.take(0)
    Agreement(Draws(row, np.zeros((1, 1))), row).chances(value, row)


def _scores(rows: RowIds, offered: Array) -> Array:
    """Those offered; of items that have none the lowest, and 0 at most."""
    scores = np.where(rows == NO_ROW, -np.inf, offered[rows]) if len(offered) else np.full(len(rows), -np.inf)
    known = scores > -np.inf
    scores[~known] = 0.0
    if not known.all() and known.any():
        scores[~known] = min(0.0, float(scores[known].min()))
    return scores


class _Pass:
    """One list on its way."""

    def __init__(self, offer: Offer, surface: Surface, k: int, seed: str, now_ms: int) -> None:
        self.surface, self.k, self.seed, self.now_ms = surface, k, seed, now_ms
        self.pool = pool = Pool(offer, surface, k, now_ms)
        self.price = diversity_price(surface.diversity, pool.values[pool.stage <= SCORED])
        self.notes: list[str] = []
        self.explore = surface.explore
        self.draws: Agreement | None = None
        self.listed: list[int] = []
        self.propensities: list[float] = []
        self.pins = self._pins(offer.item_rows)
        self.free = np.ones(len(pool), bool)
        self.free[list(self.pins.values())] = False
        self.limits = ListLimits(surface.max_per, self._values(), pool.groups)
        for item in self.pins.values():
            self.limits.take(item, self.free, k)
        self.likeness: Likeness | None = None
        self._aim()
        self.likeness = self._likeness() if self.price else None
        if spread_of(self.explore):
            self._prepare_draws(offer.draws)

    def run(self) -> Arranged:
        """Fill the places."""
        pins = dict(self.pins)
        self._fill_by_likeness()
        while len(self.listed) < self.k:
            place = len(self.listed) + 1
            if place in pins:
                self._put(pins.pop(place), 1.0)
                continue
            places = self.k - len(self.listed) - len(pins)
            picked = self._pick(place, places)
            if picked is not None:
                item, chance = picked
                self.limits.take(item, self.free, places)
                self.free[item] = False
                self._put(item, chance)
            elif pins:
                self._put(pins.pop(min(pins)), 1.0)  # the list ends here, and what is pinned further down with it
            else:
                break
        return self._arranged()

    def _fill_by_likeness(self) -> None:
        """All places in one loop, where nothing but value and likeness decides: the same list as place by place."""
        surface, first = self.surface, self.pool.stage == self.pool.stage.min(initial=SCORED)
        if self.likeness is None or self.pins or surface.max_per or self.pool.shares or explores(self.explore):
            return
        self.listed = self.likeness.greedy(self.pool.values, self.price, first, self.k)
        self.propensities = [1.0] * len(self.listed)
        self.free[self.listed] = False

    def _pick(self, place: int, places: int) -> tuple[int, float] | None:
        """The item of the next place, with its chance; None where nothing may be there, wherever it is looked for."""
        sure, doubtful = self.limits.allowed(self.free, places)
        while not (sure.any() or doubtful.any()) and self.pool.more(self.limits.full):
            self._grow()
            sure, doubtful = self.limits.allowed(self.free, places)
        if not (sure.any() or doubtful.any()):
            return None
        values = self.pool.values if self.likeness is None else self.pool.values - self.price * self.likeness.most
        if not explores(self.explore):
            return self._best(values, sure, doubtful, places), 1.0
        items, hoped = np.flatnonzero(doubtful), values if self.draws is None else values + self.draws.most
        items = items[np.lexsort((items, -hoped[items], self.pool.stage[items]))[:DOUBTED]]
        sure[items] = self.limits.kept(items.tolist(), self.free, places)
        return self._drawn(values, np.flatnonzero(sure), place)

    def _drawn(self, values: Array, items: RowIds, place: int) -> tuple[int, float]:
        """One of the items by chance, and what its chance was."""
        explore, draws, stages = self.explore, self.draws, self.pool.stage[items]
        if stages.min() > SCORED:  # nothing has a score: in their order
            explore, draws = explore.model_copy(update={"temperature": 0.0, "epsilon": 0.0}), None
        new, first = self.pool.new[items], stages == stages.min()
        base = None
        if draws is not None:
            base = np.zeros(len(items))
            base[first] = draws.chances(values, items[first])
        chance = chances(explore, values[items], new, first, base)
        chosen = draw(chance, uniform(self.seed, place))
        if draws is not None:
            sure, never = (mixed(explore, np.full(len(items), one), new, first)[chosen] for one in (1.0, 0.0))
            draws.take(int(items[chosen]), sure, never)
        return int(items[chosen]), float(chance[chosen])

    def _prepare_draws(self, draws: Draws | str) -> None:
        """Where there are none, the rest of the policy holds, and the receipt says so."""
        if isinstance(draws, str):
            self.explore = self.explore.model_copy(update={"temperature": 0.0})
            self._note("not_explored", [draws])
        else:
            self.draws = Agreement(draws, self.pool.rows)

    def _best(self, values: Array, sure: Mask, doubtful: Mask, places: int) -> int:
        """The best of the first stage that has any."""
        allowed = sure | doubtful
        while True:
            items = np.flatnonzero(allowed)
            stages = self.pool.stage[items]
            first = items[stages == stages.min()]
            item = int(first[np.argmax(values[first])])
            if not doubtful[item] or self.limits.kept([item], self.free, places)[0]:
                return item
            allowed[item] = False

    def _put(self, item: int, chance: float) -> None:
        self.listed.append(item)
        self.propensities.append(chance)
        if self.likeness is not None:
            self.likeness.take(item)

    def _pins(self, item_rows: Mapping[str, int]) -> dict[int, int]:
        """Place -> item. Of several pins on a place the first holds whose item may be listed; an item has one place."""
        pins: dict[int, int] = {}
        taken, missing = set[int](), set[int]()
        for pin in self.surface.pins:
            if not pin.holds(self.now_ms) or pin.place > self.k:
                continue
            item = self.pool.find(pin.item_id, item_rows.get(pin.item_id))
            if item is None:
                missing.add(pin.place)
            elif pin.place in pins or item in pins.values():
                taken.add(pin.place)
            else:
                pins[pin.place] = item
        self._note("pins_missing", sorted(missing))
        self._note("pins_taken", sorted(taken))
        return pins

    def _aim(self) -> None:
        """What the shares need beside the pins; more of their items are looked for while caps keep one short."""
        shares, pinned = self.pool.shares, list(self.pins.values())
        have = self.pool.groups[:, pinned].sum(axis=1).tolist()
        needs = [max(places_of(one, self.k) - own, 0) for (_, one), own in zip(shares, have, strict=True)]
        places = self.k - len(self.pins)
        lacking = self.limits.aim(needs, self.free, places)
        while any(lack and self.pool.more_of(share) for share, lack in enumerate(lacking)):
            self._grow()
            lacking = self.limits.aim(needs, self.free, places)
        self._note("shares_short", [number + 1 for (number, _), lack in zip(shares, lacking, strict=True) if lack])

    def _note(self, name: str, found: Collection[int | str]) -> None:
        if found:
            self.notes.append(f"{name}={','.join(map(str, found))}")

    def _values(self) -> dict[str, Any]:
        return {name: self.pool.field(name) for name in self.surface.max_per}

    def _likeness(self) -> Likeness:
        return Likeness(self.pool.vectors(), self.pool.field("categories"))

    def _grow(self) -> None:
        more = len(self.pool) - len(self.free)
        self.free = np.concatenate([self.free, np.ones(more, bool)])
        self.limits.grow(self._values(), self.pool.groups)
        if self.draws is not None:
            self.draws.grow(self.pool.rows)
        if self.likeness is not None:
            self.likeness = self._likeness()
            for item in self.listed:
                self.likeness.take(item)

    def _arranged(self) -> Arranged:
        rows, slots = self.pool.rows[self.listed], self.pool.slots[self.listed]
        scores = _scores(rows, self.pool.offer.scores)
        self._note("unknown_fields", self.pool.unknown)
        return Arranged(rows, slots, scores, np.array(self.propensities), tuple(self.notes))
