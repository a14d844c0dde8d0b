"""What the second stage does to one request's scores.

Before: the graph's scores and parts of the batch, and the request's rules written into its scores. After: whoever
arranges the list. `serving.ranker` has the maths. Knows no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from models.top_k import drop_not_finite
from serving.ranker import Situation

if TYPE_CHECKING:
    from serving.scorer import Half

__all__ = ["Situation", "asked_outputs", "revise"]

Array = npt.NDArray[Any]
RowIds = npt.NDArray[np.int64]

NO_ROWS: RowIds = np.zeros(0, np.int64)


def asked_outputs(half: Half) -> list[str]:
    """The outputs of the graph that `revise` reads of a model, beside `scores`; none where it has no ranker."""
    return [] if half.second is None else list(dict.fromkeys(name for name, _ in half.second.experts))


def revise(half: Half, situation: Situation, scores: Array, parts: Mapping[str, Array]) -> RowIds:
    """Add to the candidates' scores what the ranker says of them.

    Parameters
        half: the model that answers.
        situation: who asks, and when.
        scores: (capacity,), -inf where the rules let nothing go; written to.
        parts: (capacity,) each, by the names of `asked_outputs`.

    Returns
        The candidates' rows, ascending; none where the model has no ranker.
    """
    stage = half.second
    if stage is None:
        return NO_ROWS
    rows, facts = stage.facts(situation, scores, parts)
    stage.seen.requests += 1
    stage.seen.candidates += len(rows)
    if len(rows):
        added = stage.added(facts, scores[rows])
        if drop_not_finite(added):
            stage.seen.not_finite += int(np.isneginf(added).sum())
            added[~np.isfinite(added)] = 0
        scores[rows] += added
    return rows
