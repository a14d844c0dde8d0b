"""Cold items, which the catalogue has and the model does not know yet: in what order they follow what it knows.

Before: `serving.scoring`, with a list that is shorter than asked. After: it appends these. Knows no scores.

The newest first. Where something is known of what the user was after, the newest REACH of them are ordered by what they
share with the newest items of the history, rare features counting more, and by newness where that is equal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headwater.examples import Entry
from serving.catalogue import Catalogue
from serving.filters import Mask
from serving.rules import Rules

__all__ = ["cold_items", "likeness_to", "likest"]

REACH = 256
"""Newest items that are compared with a history: about 1 ms."""

LOOKED_AT = 2000
"""Newest items among which those like one are looked for: about 5 ms."""

NEWEST = 8
FADE = 0.8
"""Newest items of a history that are looked at, and what each step back leaves of an item's say."""

Slots = npt.NDArray[np.int64]


def cold_items(
    catalogue: Catalogue, allowed: Mask, rules: Rules, history: Sequence[Entry], count: int, now_ms: int
) -> Slots:
    """The best of the slots `allowed` that the rules leave, best first, at most `count`."""
    allowed = allowed.copy()
    for mask in rules.masks:
        allowed &= mask
    allowed[rules.excluded] = False
    slots = np.flatnonzero(allowed) if rules.candidates is None else rules.candidates[allowed[rules.candidates]]
    asked = _asked(catalogue, history)
    if not asked or not len(slots):
        return catalogue.newest(slots, count, now_ms)
    slots = catalogue.newest(slots, max(count, REACH), now_ms)
    likeness = _likeness(catalogue.contents(slots.tolist()), catalogue.contents(asked))
    return slots[np.argsort(-likeness, kind="stable")][:count]


def likest(catalogue: Catalogue, slot: int, history: Sequence[Entry]) -> str | None:
    """The item of a history that shares most features with a slot; None where none shares any."""
    features = set(catalogue.contents([slot])[0].tolist()) - {0}
    asked = _asked(catalogue, history)
    shared = [len(features.intersection(one)) for one in catalogue.contents(asked).tolist()]
    best = max(shared, default=0)
    return catalogue.ids[asked[shared.index(best)]] if best else None


def likeness_to(catalogue: Catalogue, item_id: str, count: int, now_ms: int) -> dict[int, float]:
    """Slots of the items that share most with an item, of the LOOKED_AT newest: slot -> how much, above 0."""
    slot = catalogue.slots.get(item_id)
    if slot is None or catalogue.get(item_id) is None:
        return {}
    slots = catalogue.newest(np.flatnonzero(catalogue.listed()), LOOKED_AT, now_ms)
    likeness = _likeness(catalogue.contents(slots.tolist()), catalogue.contents([slot]))
    best = np.argsort(-likeness, kind="stable")[:count]
    found = zip(slots[best].tolist(), likeness[best].tolist(), strict=True)
    return {one: value for one, value in found if value > 0 and one != slot}


def _asked(catalogue: Catalogue, history: Sequence[Entry]) -> list[int]:
    """Slots of the newest different items of a history that the catalogue has, newest first."""
    found: dict[int, None] = {}
    for entry in reversed(history[-10 * NEWEST :]):
        if len(found) < NEWEST and catalogue.get(entry.item_id) is not None:
            found.setdefault(catalogue.slots[entry.item_id])
    return list(found)


def _likeness(theirs: npt.NDArray[np.int64], asked: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """How much of what was asked for each item has, (n,): `theirs` is (n, FEATURES), `asked` is (m, FEATURES)."""
    features = np.unique(asked[asked > 0])
    if not len(features):
        return np.zeros(len(theirs))
    place = np.minimum(np.searchsorted(features, theirs), len(features) - 1)  # (n, FEATURES)
    has = features[place] == theirs
    holders = np.bincount(place[has], minlength=len(features))
    rarity = np.log1p(len(theirs) / np.maximum(holders, 1))
    say = np.zeros(len(features))
    for step, one in enumerate(asked):
        own = np.searchsorted(features, one[one > 0])
        if len(own):
            say[own] += FADE**step * rarity[own] / rarity[own].sum()
    likeness: npt.NDArray[np.float64] = np.round(np.where(has, say[place], 0.0).sum(axis=1), 6)
    return likeness
