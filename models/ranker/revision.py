"""How what the ranker says becomes what is added to scores: the one place for learner and serving. Loads no network."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

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
    worth, more = np.exp(scores - scores.max()), share * said
    added: Array = more - np.log((worth * np.exp(more)).sum(-1, keepdims=True) / worth.sum())
    return added
