"""The loops of the fusion over the items of a catalogue, for one query at a time.

Before: `fusion` walks the queries of a block and says what the arrays mean. After: compiled code, in one pass over the
catalogue where numpy takes ten. Knows arrays only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled, compiled_sums

__all__ = ["add_experts", "best_rows", "ranks", "shares"]

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]
Marks = NDArray[np.bool_]


@compiled
def add_experts(
    logits: Floats, log: Floats, now: Floats, floor: np.float32, memory: Floats, slow: np.float32, reaches: Floats,
    scores: Floats,
) -> None:  # fmt: skip
    """`scores` (N,) of the experts that score every item: the slow learner, popularities and what memories add up to.

    `logits` and `memory` (N,); `log` (P, N) is popularity, compared with `now` (P,) and never below `floor`; `slow` and
    `reaches` (P,) are the trust in each.
    """
    for j in range(len(scores)):
        scores[j] = slow * logits[j] + memory[j]
    for p in range(len(now)):
        trust, moment = reaches[p], now[p]
        for j in range(len(scores)):
            scores[j] += trust * max(log[p, j] - moment, floor)


@compiled
def ranks(scores: Floats, memory: Floats, logits: Floats, closed: Marks, row: int) -> tuple[int, int, int, np.float32]:
    """1-based ranks of a row by three scores, (N,) each, among rows that are not closed; and the highest of the first.

    Equal scores and NaN rank before the row (see `metrics.rank_of`). `scores` of closed rows become -inf.
    """
    own, own_memory, own_logit = scores[row], memory[row], logits[row]
    above, above_memory, above_logit = 0, 0, 0
    highest = np.float32(-np.inf)
    for j in range(len(scores)):
        if closed[j]:
            scores[j] = -np.inf
            continue
        above += not scores[j] < own
        above_memory += not memory[j] < own_memory
        above_logit += not logits[j] < own_logit
        highest = max(highest, scores[j])
    return above, above_memory, above_logit, highest


@compiled_sums
def shares(chance: Floats, logits: Floats, log: Floats, now: Floats, floor: np.float32, gradient: Floats) -> None:
    """`gradient` (1 + P,): of the slow learner and the popularities as `add_experts` has them, each times `chance`."""
    total = np.float32(0)
    for j in range(len(chance)):
        total += chance[j] * logits[j]
    gradient[0] = total
    for p in range(len(now)):
        moment, total = now[p], np.float32(0)
        for j in range(len(chance)):
            total += chance[j] * max(log[p, j] - moment, floor)
        gradient[1 + p] = total


@compiled
def best_rows(scores: Floats, count: int) -> Rows:
    """The rows of the highest scores, best first, equal ones by row; none of those at -inf or NaN."""
    rows, best = np.empty(count, np.int64), np.empty(count, np.float32)
    held = 0
    for j in range(len(scores)):
        score = scores[j]
        if not score > -np.inf or (held == count and not score > best[held - 1]):
            continue
        at = min(held, count - 1)
        held = min(held + 1, count)
        while at and score > best[at - 1]:
            rows[at], best[at] = rows[at - 1], best[at - 1]
            at -= 1
        rows[at], best[at] = j, score
    return rows[:held]
