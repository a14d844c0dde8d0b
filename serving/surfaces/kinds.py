"""What each kind of surface says of every item of the catalogue: scores over its slots, -inf where it says nothing.

Before: `serving.scoring` has asked the model. After: it fills a list from the kind's scores, then from those of the
fallbacks, each below the one before it. Scores are logarithms of chances, up to a constant. Knows no rules: what may be
listed at all is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from headwater.examples import Entry
from headwater.recommendations import Request
from headwater.signals import Meaning, Signals
from headwater.surfaces import SurfaceKind
from models.experts.popularity import UNSEEN
from models.ranker.facts import FIRST, HOUR_MS
from serving.arranging import NO_TIER, lowered
from serving.catalogue import Catalogue
from serving.cold_items import likeness_to
from serving.popular import Popular

if TYPE_CHECKING:
    from serving.scorer import ServedModel

__all__ = ["NEAR", "PINNED", "WHOLE", "Seen", "asked_about", "log_weights", "newest_items", "reason_of", "tiers_of"]
__all__ += ["title_of"]

Array = npt.NDArray[Any]

WHOLE: frozenset[SurfaceKind] = frozenset({"for-you", "popular"})
"""Kinds that rank all there is: nothing can follow on them."""

NEAR = ("memory", "slow")
"""Parts of the model that say what goes with an item, popularity aside."""

CLOSE = 200
"""Most items that are similar to one."""

NEWEST = 200
"""Most items that are new."""

SLOW_NEWS = 60.0
"""Of the two orders of new items, by age and by what the person likes, how little the first places differ: reciprocal
ranks, Cormack, Clarke and Buettcher 2009."""

GROWN = 0.5
"""Decayed events by which an item has to be ahead of what was to be expected to be counted as growing."""

UNKNOWN = UNSEEN / 10
"""Below, the model has a row and no word on it."""

LEAST_WEIGHT, APART = 1e-300, 1e-12
"""What counts as the least popularity, and how far apart equal ones are put: weights have six digits."""

PINNED = "pinned"
"""Stands for a kind with what has a place of its own and no score."""

REASONS: dict[str, str] = {
    "popular": "popular now",
    "trending": "trending now",
    "new": "new",
    "again": "you come back to it",
    PINNED: "pinned here",
}


class Seen(NamedTuple):
    """What a kind ranks from.

    Fields
        half: the model; None before the first.
        popular: of the store.
        request, history, at_ms: what was asked, from which history (oldest first), and when.
        scores: (capacity,) the model's, for this history; None without a model.
        personal: whether it knows anything of the history.
        near: item id -> (capacity,), what goes with it by the model.
    """

    catalogue: Catalogue
    half: ServedModel | None
    popular: Popular
    request: Request
    history: Sequence[Entry]
    at_ms: int
    scores: Array | None
    personal: bool = False
    near: Mapping[str, Array] = {}

    @property
    def meanings(self) -> Signals:
        """What events mean."""
        return Signals() if self.half is None else self.half.bundle.config.meanings

    def by_slot(self, values: Array) -> Array:
        """(slots,) float64, of what is said of the model's rows."""
        assert self.half is not None
        return self.half.rows.by_slot(values)

    def nothing(self) -> Array:
        """(slots,) of -inf."""
        return np.full(len(self.catalogue.ids), -np.inf)


def newest_items(seen: Seen, count: int) -> list[Entry]:
    """The newest entries of different items of a history that do not speak against them, newest first."""
    meaning, found = seen.meanings.meaning, dict[str, Entry | None]()
    for entry in reversed(seen.history):
        if len(found) >= count + 20:
            break
        spoken = meaning(entry.type, entry.value) not in (Meaning.NEGATIVE, Meaning.EXPOSURE)
        found.setdefault(entry.item_id, entry if spoken else None)
    return [entry for entry in found.values() if entry is not None][:count]


def asked_about(kinds: Sequence[SurfaceKind], seen: Seen, rows: int) -> list[Entry]:
    """Entries of the items that the model is asked about by themselves, for `near`."""
    found = newest_items(seen, 2 * rows) if "because-you" in kinds else []
    if "similar" in kinds:
        page = seen.request.context_item
        found += newest_items(seen, 1) if page is None else [Entry(page, "view", seen.at_ms, None)]
    return list({entry.item_id: entry for entry in found}.values())


def title_of(kind: SurfaceKind) -> str:
    """Over a row of this kind, among others."""
    return {"for-you": "For you", "popular": "Popular now", "trending": "Trending now", "new": "New"}.get(
        kind, "Once more" if kind == "again" else "Similar"
    )


def reason_of(kind: str, seen: Seen) -> str:
    """Why an item of this kind is in the list, in words."""
    if kind == "similar":
        newest = newest_items(seen, 1)
        page = seen.request.context_item or (newest[0].item_id if newest else "")
        return f"like {seen.catalogue.title(page)}"
    return REASONS.get(kind, "for you")


def tiers_of(
    kinds: Sequence[SurfaceKind], seen: Seen, allow: Callable[[Array, SurfaceKind], None]
) -> tuple[Array, npt.NDArray[np.int64]]:
    """Several kinds one below the other.

    Parameters
        kinds: in their order; none after one that is whole counts.
        seen: what they rank from.
        allow: writes -inf to the scores (slots,) of a kind wherever the rules let nothing go.

    Returns
        (slots,) scores, of each item by the first kind that says anything of it; and (slots,) which kind that was, by
        its place in `kinds`, NO_TIER for none.
    """
    scores, which = seen.nothing(), np.full(len(seen.catalogue.ids), NO_TIER)
    for place, kind in enumerate(kinds):
        said = scores_of(kind, seen)
        allow(said, kind)
        said[which >= 0] = -np.inf
        known = said > -np.inf
        scores[known] = said[known]
        which[known] = place
        if kind in WHOLE:
            break
    return lowered(scores, which), which


def scores_of(kind: SurfaceKind, seen: Seen) -> Array:
    """(slots,) float64, written to by the caller."""
    return SCORES[kind](seen)


def _for_you(seen: Seen) -> Array:
    return seen.nothing() if seen.scores is None else _open(seen.by_slot(seen.scores))


def _open(scores: Array) -> Array:
    """Without the rows that the model has but knows nothing of: these are as low as can be."""
    scores[scores < UNKNOWN] = -np.inf
    return scores


def _again(seen: Seen) -> Array:
    """The items of the history, as the model ranks them; below, the newest first, what it does not know."""
    scores, said = seen.nothing(), _for_you(seen)
    own = [seen.catalogue.slots.get(entry.item_id, -1) for entry in newest_items(seen, len(seen.history))]
    slots = np.array([slot for slot in own if slot >= 0], np.int64)
    values = said[slots]
    unknown = values == -np.inf
    lowest = float(values[~unknown].min()) if not unknown.all() else 0.0
    values[unknown] = lowest - np.arange(1, int(unknown.sum()) + 1)
    scores[slots] = values
    return scores


def _similar(seen: Seen) -> Array:
    """Like the item on the page, or the newest of the history; of those like it, what the person likes is raised."""
    newest = newest_items(seen, 1)
    item_id = seen.request.context_item or (newest[0].item_id if newest else None)
    return seen.nothing() if item_id is None else similar_to(item_id, seen, personal=True)


def similar_to(item_id: str, seen: Seen, *, personal: bool) -> Array:
    """What goes with an item: by the model, else by what the catalogue says of them.

    Parameters
        item_id: like which.
        seen: the model's word is in its `near`.
        personal: whether what the person likes counts as well.
    """
    near = seen.near.get(item_id)
    if near is None:
        return _like(item_id, seen)
    scores = _open(seen.by_slot(near))
    scores[seen.catalogue.slots[item_id]] = -np.inf
    if np.count_nonzero(scores > -np.inf) > CLOSE:
        floor = np.partition(scores, len(scores) - CLOSE)[len(scores) - CLOSE]
        scores[scores < floor] = -np.inf
    if personal and seen.personal and seen.scores is not None:
        known = scores > -np.inf
        scores[known] += seen.by_slot(seen.scores)[known]
    return scores


def _like(item_id: str, seen: Seen) -> Array:
    scores, likeness = seen.nothing(), likeness_to(seen.catalogue, item_id, CLOSE, seen.at_ms)
    for slot, value in likeness.items():
        scores[slot] = np.log(value)
    return scores


def _popular(seen: Seen) -> Array:
    """By the store; by the model's longest half-life where the store was not asked."""
    scores, half = seen.nothing(), seen.half
    if seen.popular.weights:
        scores[[seen.catalogue.slots[item_id] for item_id in seen.popular.weights]] = log_weights(seen.popular.weights)
    elif half is not None:
        longest = int(np.argmax(half.bundle.config.popularity_half_lives_days))
        scores = _open(seen.by_slot(half.bundle.weights["popularity"][:, longest].astype(np.float64)))
    return scores


def log_weights(weights: Mapping[str, float]) -> Array:
    """Logarithms of popularity, best first: no two are equal, for slots are an accident of this process."""
    logs = np.log(np.maximum(np.fromiter(weights.values(), np.float64), LEAST_WEIGHT))
    return np.asarray(logs - np.arange(len(logs)) * APART)


def _trending(seen: Seen) -> Array:
    """What grows: how far the events of the short half-life are ahead of what the long one lets expect, in standard
    deviations of a Poisson count. Expected is an item's share of all events, so a busy hour makes nothing trend.
    """
    half = seen.half
    if half is None or len(half.bundle.config.popularity_half_lives_days) < 2:
        return seen.nothing()
    days = half.bundle.config.popularity_half_lives_days
    logs = half.bundle.weights["popularity"].astype(np.float64)  # (N, P)
    known = logs[:, 0] > UNKNOWN
    counts = np.where(known[:, None], np.exp(logs - half.bundle.weights["popularity_now"]), 0.0)
    now, usual = counts[:, int(np.argmin(days))], counts[:, int(np.argmax(days))]
    if not usual.sum() or not now.sum():
        return seen.nothing()
    expected = usual * (now.sum() / usual.sum())
    ahead = (now - expected) / np.sqrt(expected + 1.0)
    ahead[~known | (now - expected < GROWN)] = -np.inf
    return seen.by_slot(ahead)


def _new(seen: Seen) -> Array:
    """The newest items, in an order between their age and what the person likes of them."""
    catalogue = seen.catalogue
    candidates = np.flatnonzero(catalogue.listed() | (_first_ms(seen) > 0))
    slots = catalogue.newest(candidates, NEWEST, seen.at_ms, _first_ms(seen))
    scores = seen.nothing()
    order = 1 / (SLOW_NEWS + np.arange(len(slots)))
    said = seen.by_slot(seen.scores)[slots] if seen.scores is not None and seen.personal else None
    if said is not None and len(slots):
        said[said < UNKNOWN] = -np.inf
        liked = np.empty(len(slots))
        liked[np.argsort(-said, kind="stable")] = np.arange(len(slots))
        liked[said == -np.inf] = len(slots) / 2  # nobody knows
        order = order + 1 / (SLOW_NEWS + liked)
    scores[slots] = np.log(order) - np.arange(len(slots)) * APART
    return scores


def _first_ms(seen: Seen) -> Array:
    """(slots,) epoch ms of the first event that the model has counted of each item, 0 for none."""
    if seen.half is None or "ranker_items" not in seen.half.bundle.weights:
        return np.zeros(len(seen.catalogue.ids))
    hours = seen.half.bundle.weights["ranker_items"][:, FIRST].astype(np.float64)
    first = np.where(hours > 0, seen.half.bundle.weights["ranker_landmark_ms"][0] + hours * HOUR_MS, 0.0)
    found = seen.by_slot(first)
    return np.where(found > 0, found, 0.0)


SCORES: dict[SurfaceKind, Callable[[Seen], Array]] = {
    "for-you": _for_you,
    "similar": _similar,
    "popular": _popular,
    "trending": _trending,
    "new": _new,
    "again": _again,
    "because-you": _similar,
}
