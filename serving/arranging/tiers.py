"""Several kinds of score in one list: what a later kind says comes after all that an earlier one says."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["NO_TIER", "lowered"]

NO_TIER = -1
"""Of what no kind says anything of."""

APART = 30.0
"""How far the highest of a tier is below the lowest of the one before it, at least."""


def lowered(scores: npt.NDArray[Any], tiers: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Scores, each tier below the one before it; the order within a tier stays.

    Parameters
        scores: (N,) float64, -inf where nothing may go; written to.
        tiers: (N,) which kind an item's score is of, 0 first.

    >>> lowered(np.array([1.0, 50.0, 2.0, -np.inf]), np.array([0, 1, 0, 1])).tolist()
    [1.0, -29.0, 2.0, -inf]
    """
    floor = np.inf
    for tier in range(int(tiers.max(initial=NO_TIER)) + 1):
        known = (tiers == tier) & (scores > -np.inf)
        if known.any():
            scores[known] += min(0.0, floor - APART - float(scores[known].max()))
            floor = float(scores[known].min())
    return scores
