"""`arrange`: one list from the scores of what may be in it, place by place, by the policy of a surface.

Before: the rules have written -inf wherever nothing may go, and the ranker has revised the scores. After: the items of
an answer. Knows no clock: `now_ms` is passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from headwater.surfaces import Surface
from models.top_k import top_k
from serving.filters import Mask
from serving.rules import Rows

__all__ = ["NO_ROW", "Arranged", "Offer", "arrange", "arranges"]

Array = npt.NDArray[Any]
RowIds = npt.NDArray[np.int64]

NO_ROW = -1
"""Stands for the row of an item that the model does not know."""


class Offer(NamedTuple):
    """What a list may be of.

    Fields
        scores: (N,), -inf where the rules let nothing go; logits, so that a boost multiplies the odds.
        rows: the catalogue seen through the same rows.
        vectors: (N, d) of the model, by which items are alike; None: by their categories alone.
        new: which rows had few events, (N,); asked for only where the surface gives new items a share.
        beyond: the best so many slots of the catalogue that have no row here and that the rules leave, best first; they
            follow on the rows, count as new, and can be pinned. None: the list ends with the rows.
    """

    scores: Array
    rows: Rows
    vectors: Array | None = None
    new: Callable[[], Mask] | None = None
    beyond: Callable[[int], RowIds] | None = None


class Arranged(NamedTuple):
    """A list, in its order; (n,) each, n at most k.

    Fields
        rows: of the items; NO_ROW for those beyond.
        slots: of the same items in the catalogue; None where `arranges` says no.
        scores: as they were offered; of items beyond, the lowest of the list, and 0 at most.
        propensities: the chance of each at its place, given what is above it; 1 where nothing is left to chance.
        notes: for the receipt's policy.
    """

    rows: RowIds
    slots: RowIds | None
    scores: Array
    propensities: Array
    notes: tuple[str, ...] = ()


def arranges(surface: Surface) -> bool:
    """Whether a surface does anything to a list beyond its order by score: most do not, and need nothing but scores."""
    explore = surface.explore
    return bool(
        surface.boosts or surface.pins or surface.max_per or surface.shares or surface.diversity
        or explore.epsilon or explore.temperature or explore.new_items
    )  # fmt: skip


def arrange(offer: Offer, surface: Surface, k: int, seed: str, now_ms: int) -> Arranged:  # noqa: ARG001
    """Pick k items, place by place.

    Parameters
        offer: what may be picked.
        surface: by which policy.
        k: places.
        seed: the request_id: an answer to the same request is drawn alike.
        now_ms: the instant that the answer is for, epoch ms: which campaigns hold.

    Returns
        At most k items. Without anything that `arranges`, the k best rows, ties to the lowest.

    Raises
        RequestRefused: `bad_filter`, a condition of the surface means nothing for its field.
    """
    best = top_k(offer.scores, k)
    return Arranged(best, None, offer.scores[best], np.ones(len(best)))
