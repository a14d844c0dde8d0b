"""What is published of a memory, and the one loop that scores a history by it.

Before: `memory` learns and publishes; a bundle holds the arrays. After: learner, parity and serving score histories by
`score`, so that all three say the same bits. Knows rows, not item ids.

The associations of an item are one run of places in a pool: `size` of them from `start` on, in the order in which their
slots were taken. What lies between runs belongs to nobody.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled

__all__ = ["POOLED", "PUBLISHED", "Associations", "read_associations", "score"]

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

PUBLISHED = ("ids", "weights", "start", "size", "log_source", "target_scale")
"""Names of the arrays, after the memory's own and an underscore."""

POOLED = ("ids", "weights")
"""Those that lie in the pool."""


class Associations(NamedTuple):
    """Associations of all rows, as compiled code takes them."""

    ids: NDArray[np.int32]  # (P,), the pool: rows that are associated with; its owner's own where a slot was let go
    weights: Floats  # (P,), 0 where a slot was let go
    start: Rows  # (capacity,), where in the pool the run of a row begins
    size: NDArray[np.int32]  # (capacity,), how many places it has; 0: the row is associated with nothing
    log_source: Floats  # (capacity,), log of what a row's weights are worth
    target_scale: Floats  # (capacity,), by what scores of a row are multiplied


def read_associations(weights: Mapping[str, NDArray[Any]], name: str) -> Associations:
    """The published arrays of the memory `name`, views of `weights`.

    Models of an earlier release have as many places for every row, (capacity, slots): runs of one length.
    """
    ids, values = weights[f"{name}_ids"], weights[f"{name}_weights"]
    worth = weights[f"{name}_log_source"], weights[f"{name}_target_scale"]
    if ids.ndim == 1:
        return Associations(ids, values, weights[f"{name}_start"], weights[f"{name}_size"], *worth)
    capacity, slots = ids.shape
    start = np.arange(capacity) * slots
    return Associations(ids.reshape(-1), values.reshape(-1), start, np.full(capacity, slots, np.int32), *worth)


@compiled
def score(held: Associations, recent: Rows, faded: Doubles, read_weight: Floats, sums: Doubles) -> tuple[Rows, Floats]:
    """Rows that a history is associated with and how much.

    Parameters
        held: what is known of all rows.
        recent: rows of the history, (n,), newest first; the newest `len(read_weight)` are heard.
        faded: by how much the log of each one's say has fallen, (n,).
        read_weight: how much each place of a history says, (reach,).
        sums: scratch, (capacity,): zeros before and after.

    Returns
        The rows that have a score above 0, (m,), all different, in the order they are met, and their scores, (m,).

    Raises
        IndexError: a row of the history, or its run, lies beyond the arrays.
    """
    heard, most = min(len(recent), len(read_weight)), 0
    log, highest = np.empty(heard), -np.inf
    for k in range(heard):
        row = recent[k]
        if row < 0 or row >= len(held.size) or row >= len(sums):
            raise IndexError("a row beyond the tables")  # compiled loops read whatever is there
        if held.start[row] < 0 or held.size[row] < 0 or held.start[row] + held.size[row] > len(held.ids):
            raise IndexError("a run of places beyond the pool")
        log[k] = held.log_source[row] - faded[k]
        highest = max(highest, log[k])
        most += held.size[row]
    rows = np.empty(min(most, len(sums)), np.int64)
    found = 0
    for k in range(heard):
        row, say = recent[k], np.float32(math.exp(log[k] - highest)) * read_weight[k]
        for place in range(held.start[row], held.start[row] + held.size[row]):
            gain = held.weights[place] * say
            if gain > 0:
                item = held.ids[place]
                if sums[item] == 0:
                    rows[found] = item
                    found += 1
                sums[item] += gain
    scores = np.empty(found, np.float32)
    for i in range(found):
        scores[i] = sums[rows[i]] * held.target_scale[rows[i]]
        sums[rows[i]] = 0.0
    return rows[:found], scores
