"""A published model that is kept to be asked what the learner is asked, so that the two compare on the same queries.

Before: a bundle as serving has it. After: the trainer's guard. The code that learns is run on the published weights,
as in `parity`. Knows item ids and ranks, no files and no topics.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater.examples import Example
from models.experts.fusion import asked_block, revised_of
from models.experts.registry import Parts
from models.published.bundle import Bundle
from models.quality import rank_of
from models.ranker.told import told_of
from models.shown.showings import unanswered

__all__ = ["Asked", "Shadow"]


class Asked(NamedTuple):
    """A query of the learner's: the example, and the items that the rule left out of its answer."""

    example: Example
    excluded: Set[str]


class Shadow:
    """A bundle that nobody changes any more, and its answers.

    Fields
        bundle: as it was given.
        examples_seen: how many examples the learner had learned when it was published.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.examples_seen = int(bundle.extra.get("examples_seen", 0))
        self._parts = Parts(bundle.config)
        for part in self._parts.all:
            part.read(bundle.weights)
        if self._parts.ranker is not None:
            self._parts.ranker.look(self._parts.popularity, bundle.capacity)

    @np.errstate(invalid="ignore")
    def ranks(self, asked: Sequence[Asked]) -> list[int]:
        """The 1-based rank of each query's target among the items this model knows, less those left out.

        A target that it does not know is a miss: the rank after all items.
        """
        if not asked:
            return []
        bundle, examples = self.bundle, [one.example for one in asked]
        block = asked_block(
            self._parts,
            [one.history for one in examples],
            [one.target.time_ms for one in examples],
            bundle.item_rows,
            bundle.types,
            bundle.capacity,
            [unanswered(one, bundle.config.join_window_s) for one in examples],
            [one.target.session for one in examples],
        )
        known = ~self._parts.popularity.closed  # (capacity,)
        for one, pending in zip(examples, block.examples, strict=True):
            pending.told = told_of(bundle.config, one.context, one.attributes).tolist()
        allowed = [self._allowed(one, known) for one in asked]
        scores = revised_of(self._parts, block, allowed)
        return [self._rank(*each) for each in zip(asked, scores, allowed, strict=True)]

    def _allowed(self, asked: Asked, known: NDArray[np.bool_]) -> NDArray[np.bool_]:
        allowed, rows = known.copy(), self.bundle.item_rows
        allowed[[rows[one] for one in asked.excluded if one in rows]] = False
        return allowed

    def _rank(self, asked: Asked, scores: NDArray[np.float32], allowed: NDArray[np.bool_]) -> int:
        row = self.bundle.item_rows.get(asked.example.target.item_id)
        if row is None or self._parts.popularity.closed[row]:
            return self.bundle.capacity + 1
        return rank_of(scores, row, allowed)
