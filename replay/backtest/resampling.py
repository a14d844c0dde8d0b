"""Draws of whole users: one user's queries resemble each other, so chance is that of other users (block bootstrap).

After: `replay.backtest.figures` and `replay.backtest.classified` make intervals of what each draw gives. The same
number of users gives the same draws, so that figures of one result are drawn alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BOOTSTRAP_SEED", "REPLICATES", "percentiles", "ratios", "user_draws"]

REPLICATES = 1000
BOOTSTRAP_SEED = 20_000

Array = NDArray[Any]


def user_draws(users: int, replicates: int = REPLICATES) -> Iterator[NDArray[np.int64]]:
    """(users,) how often each user is drawn, `replicates` times: as many users as there are, with replacement."""
    choose = np.random.default_rng(BOOTSTRAP_SEED)
    for _ in range(replicates):
        yield np.bincount(choose.integers(0, users, users), minlength=users)


def ratios(sums: Array, counts: Array, replicates: int = REPLICATES) -> Array:
    """(replicates, M) means of each draw; NaN of a draw in which nothing counts.

    Parameters
        sums, counts: (users, M), or counts (users, 1): a mean is the sum of sums over that of counts.
    """
    drawn = np.empty((replicates, sums.shape[1]))
    with np.errstate(invalid="ignore", divide="ignore"):
        for i, times in enumerate(user_draws(len(sums), replicates)):
            drawn[i] = times @ sums / (times @ counts)
    return drawn


def percentiles(drawn: Array) -> tuple[Array, Array]:
    """Low and high ends (M,) of the 95% percentile interval (Efron 1979) of draws (replicates, M).

    Draws of NaN are left out; where all are, the ends are NaN.
    """
    ends = np.full((2, drawn.shape[1]), np.nan)
    known = np.flatnonzero(np.isfinite(drawn).any(0))
    ends[:, known] = np.nanquantile(drawn[:, known], (0.025, 0.975), axis=0)
    return ends[0], ends[1]
