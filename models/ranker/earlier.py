"""A checkpoint of a release whose ranker was told fewer facts: it goes on, and the facts that came later start at 0.

Before: `learner` reads a checkpoint whose arrays are shorter than its own. After: the network says what it said before.
Later facts stand behind the earlier ones (`facts.first_facts`), so the weights of a fact keep their place among facts.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from models.ranker.network import HIDDEN

__all__ = ["widen"]

OF_WEIGHTS = frozenset({"ranker", "ranker.first", "ranker.second"})
"""Flat vectors: hidden weights (F, HIDDEN), then what no fact has a part in, then linear weights (F,)."""


def widen(name: str, earlier: NDArray[Any], array: NDArray[Any]) -> None:
    """Write an array of a checkpoint into the longer one, (n,) or (heads, n), that this release has in its place."""
    if array.ndim == 2:
        array[:, : earlier.shape[1]] = earlier
        return
    if name not in OF_WEIGHTS:
        array[: len(earlier)] = earlier
        return
    before, now = _facts(earlier), _facts(array)
    array[:] = 0.0
    array[: before * HIDDEN] = earlier[: before * HIDDEN]
    array[now * HIDDEN : -now] = earlier[before * HIDDEN : -before]
    array[len(array) - now : len(array) - now + before] = earlier[-before:]


def _facts(flat: NDArray[Any]) -> int:
    return (len(flat) - 2 * HIDDEN) // (HIDDEN + 1)
