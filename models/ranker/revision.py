"""How what the ranker says becomes what is added to scores: the one place for learner and serving. Loads no network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled

__all__ = ["NO_HEADS", "added_to"]

NO_HEADS: Mapping[int, np.float32] = MappingProxyType({})
"""How far heads are listened to where there are no objectives: by number, not at all."""

Array = NDArray[np.float32]


def added_to(scores: Array, said: Array, share: np.float32) -> Array:
    """What is added to the fused scores (C,) of a query's candidates, of which the network says `said`: (C,), or many
    words of it (M, C).

    Together they keep the probability that they had: what is no candidate is neither lifted nor lowered.
    """
    if not len(scores) or not share:
        return np.zeros_like(said)
    added = np.empty_like(said)
    for one, kept in zip(np.atleast_2d(said), np.atleast_2d(added), strict=True):
        _keep(scores, one, share, kept)
    return added


@compiled
def _keep(scores: Array, said: Array, share: np.float32, added: Array) -> None:
    """Write share * said less what it makes of the sum of the candidates' chances, (C,)."""
    highest, before, after = scores.max(), 0.0, 0.0
    for c in range(len(scores)):
        worth = math.exp(scores[c] - highest)
        before += worth
        after += worth * math.exp(share * said[c])
    less = np.float32(math.log(after / before))
    for c in range(len(scores)):
        added[c] = share * said[c] - less
