"""How far new items are lifted among the candidates: as far as all that is asked can pay for.

    added = what network and lists say, + lift where the candidate is new (`facts.are_new`)

A new item comes in one query of fifty, so a ranker that is right for all queries hardly ever names one, and what nobody
names stays new. Each lift of a ladder is judged by what it would have made of the ranks of queries; the highest is
taken that costs no more than PRICE of their NDCG@10. Where new items cannot be told apart, that is little; where most
that comes is new, it is whatever is best.

Before: `second` has a query's scores. After: `serving.ranker` adds the published lift. Judges queries that it did not
choose itself on: by those before them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled
from models.part import Changes, Input, Part

__all__ = ["NewItemsLift"]

LADDER = np.array([0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3], np.float32)
"""Nats that a new item's score is lifted by."""

PRICE = 0.003
"""Share of the best NDCG@10 that may be given for it: docs/lab-book.md has what others bring."""

RECENT, ENOUGH = 1e-4, 1000
"""Ranks of about the newest 1 / RECENT queries count; none is lifted before so many."""

DEEPEST = 10
"""Places that count."""

Array = NDArray[np.float32]
Marks = NDArray[np.bool_]


class NewItemsLift(Part):
    """The lift, and what each of the ladder would have been worth. All is kept in checkpoints."""

    def __init__(self) -> None:
        self.lift = np.zeros(1, np.float32)
        self.worth = np.zeros(len(LADDER))  # NDCG@10 of the newest queries whose target was a candidate
        self.judged = np.zeros(1, np.int64)
        self._changed = True

    def inputs(self) -> dict[str, Input]:
        """The lift."""
        return {"ranker_lift": Input(np.float32, (1,))}

    def weights(self) -> dict[str, NDArray[Any]]:
        """The lift."""
        return {"ranker_lift": self.lift}

    def read(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Be the published one; a model of an earlier release lifts nothing."""
        self.lift = weights.get("ranker_lift", np.zeros(1, np.float32))

    def take_changes(self) -> Changes:
        """The lift, where it is another one."""
        dense = list(self.inputs()) if self._changed else []
        self._changed = False
        return Changes(dense=dense)

    def of(self, new: Marks) -> Array:
        """What is added to candidates (C,) of which these are new."""
        added: Array = self.lift[0] * new.astype(np.float32)
        return added

    def judge(self, scores: Array, new: Marks, target: Marks) -> None:
        """What each lift would have made of a query whose candidates have `scores` (C,) without one."""
        at = np.flatnonzero(target)
        if len(at):
            _judge(scores, new, int(at[0]), LADDER, self.worth)
            self.judged += 1

    def step(self) -> None:
        """Take the highest lift that does not cost too much."""
        if self.judged[0] < ENOUGH:
            return
        lift = LADDER[np.flatnonzero(self.worth >= (1.0 - PRICE) * self.worth.max())[-1]]
        self._changed |= bool(lift != self.lift[0])
        self.lift[0] = lift

    def state(self) -> dict[str, NDArray[Any]]:
        """The lift and what it is chosen by."""
        return {"ranker.lift": self.lift, "ranker.lift.worth": self.worth, "ranker.lift.judged": self.judged}


@compiled
def _judge(scores: Array, new: Marks, target: int, ladder: Array, worth: NDArray[np.float64]) -> None:
    """Move the running means `worth` by the NDCG@10 of a query by each lift of the ladder; equal scores rank before."""
    for g in range(len(ladder)):
        lift = ladder[g]
        own = scores[target] + (lift if new[target] else np.float32(0))
        rank = 0
        for c in range(len(scores)):
            rank += not scores[c] + (lift if new[c] else np.float32(0)) < own
        gained = 1.0 / np.log2(rank + 1.0) if rank <= DEEPEST else 0.0
        worth[g] += RECENT * (gained - worth[g])
