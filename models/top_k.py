"""The k best of a row of scores: exact, over the whole catalogue, ties to the lowest row.

Before: scores with -inf where something is forbidden. After: an answer, or a backtest's list. Knows nothing of what the
scores mean.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from models.compiled import compiled

__all__ = ["close", "drop_not_finite", "top_k"]

BLOCK = 256
Scores = npt.NDArray[np.floating[Any]]


def _block_maxima(scores: Scores) -> Scores:
    """Maxima of blocks of 256 along the last axis: (..., N) -> (..., ceil(N / 256)). NaN wins its block."""
    whole = scores.shape[-1] // BLOCK * BLOCK
    maxima = scores[..., :whole].reshape(*scores.shape[:-1], whole // BLOCK, BLOCK).max(axis=-1)
    if whole == scores.shape[-1]:
        return np.asarray(maxima)
    return np.concatenate([maxima, scores[..., whole:].max(axis=-1, keepdims=True)], axis=-1)


def drop_not_finite(scores: Scores) -> int:
    """Set NaN and +inf to -inf, in place: a NaN compares false, so it would vanish unseen.

    Parameters
        scores: float, of any shape.

    Returns
        How many there were.
    """
    if (scores < np.inf).all():
        return 0
    bad = np.isnan(scores) | (scores == np.inf)
    scores[bad] = -np.inf
    return int(bad.sum())


@compiled
def close(scores: npt.NDArray[np.float32], closed: npt.NDArray[np.bool_]) -> int:
    """`drop_not_finite`, and -inf where `closed`, in one pass. How many were not finite, closed or not."""
    bad, most, lowest = 0, np.float32(np.inf), np.float32(-np.inf)
    for n in range(len(scores)):
        fine = scores[n] < most
        bad += not fine
        scores[n] = scores[n] if fine & (not closed[n]) else lowest
    return bad


def top_k(scores: Scores, k: int) -> npt.NDArray[np.int64]:
    """The highest scores, exactly.

    Parameters
        scores: (N,) float without NaN; -inf is never chosen.
        k: how many.

    Returns
        At most k indices, int64, best first; ties go to the lowest index.

    >>> top_k(np.array([1, 3, 2, 3], np.float32), 3)
    array([1, 3, 2])
    """
    # the k-th highest maximum of blocks is at most the k-th highest score: what lies below needs no sorting
    floor = -np.inf
    if scores.shape[0] > 4 * BLOCK:
        maxima = _block_maxima(scores)
        if k < len(maxima):
            floor = np.partition(maxima, len(maxima) - k)[len(maxima) - k]
    reach = np.flatnonzero(scores >= floor if floor > -np.inf else scores > floor)
    values = scores[reach]
    if len(reach) > 4 * k + 64:
        values_floor = np.partition(values, len(values) - k)[len(values) - k]
        keep = values >= values_floor
        reach, values = reach[keep], values[keep]
    return np.asarray(reach[np.argsort(-values, kind="stable")[:k]])
