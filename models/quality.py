"""Prequential quality: test, then train, over the newest events of the stream.

Before: `learner` scores every example before it learns from it. After: the trainer reports the summary and its guard
compares it. Knows ranks, not models.

Ranks are 1-based over the full catalogue known at that instant, seen items excluded, ties against the target. All
rankers are measured on identical queries (Dawid 1984 for the prequential principle; full ranking because sampled
metrics mislead: Krichene & Rendle 2020).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Prequential", "Scored", "rank_of"]

RANKERS = ("headwater", "popularity", "memory", "slow")


class Scored(NamedTuple):
    """What the model made of one example before it learned from it.

    Fields
        is_query: the user had a history, the item had been seen earlier, and the exclusion rule does not forbid it.
        headwater, popularity, memory, slow: 1-based ranks of the target by all experts, by popularity, by the
            association memories and by the encoder alone; 0 where it is no query.
        loss: minus the log-probability of the target under the fused scores.
        items: the best of the fused scores, as many as the learner was asked to name.
        against: where the event speaks against its item, the rank of the item by all experts; then it is no query.
    """

    is_query: bool
    headwater: int
    popularity: int
    memory: int
    slow: int
    loss: float
    items: tuple[str, ...] = ()
    against: int = 0


def rank_of(scores: np.ndarray[Any, Any], target: int, allowed: np.ndarray[Any, Any]) -> int:
    """The rank of a target among allowed rows; equal scores rank before it, so that ties cannot flatter.

    Parameters
        scores: (N,) float. A NaN anywhere counts against the target.
        target: its row.
        allowed: (N,) bool, True at the target.

    Returns
        1 is best.

    >>> rank_of(np.array([3.0, 2.0, 2.0, 1.0]), 1, np.ones(4, bool))
    3
    """
    below = scores < scores[target]
    return int(np.count_nonzero(allowed & ~below))


class Prequential:
    """Running means over the newest `window_events` events, by ranker: NDCG@10, hit rate@10, reciprocal rank."""

    def __init__(self, window_events: int = 20_000) -> None:
        self.window_events = window_events
        self.ranks = np.zeros((window_events, len(RANKERS)), np.int32)  # ring; 0 is no query
        self.losses = np.zeros(window_events, np.float32)
        self.against = np.zeros(window_events, np.int32)  # 0 is no event that speaks against its item
        self.events = 0

    def add(self, scored: Scored) -> None:
        """Take in one scored example."""
        place = self.events % self.window_events
        self.ranks[place] = scored[1:5]
        self.losses[place] = scored.loss
        self.against[place] = scored.against
        self.events += 1

    def summary(self, k: int = 10) -> dict[str, Any]:
        """Figures of the window, JSON-able. A mean over no queries is None."""
        ranks = self.ranks[: min(self.events, self.window_events)]
        losses = self.losses[: len(ranks)]
        queries = ranks[:, 0] > 0
        asked = ranks[queries]  # (Q, rankers)
        hits = asked <= k
        gains = np.where(hits, 1.0 / np.log2(np.maximum(asked, 1) + 1.0), 0.0)

        def means(values: np.ndarray[Any, Any]) -> dict[str, float | None]:
            return {name: float(values[:, i].mean()) if len(values) else None for i, name in enumerate(RANKERS)}

        against = self.against[: len(ranks)]
        against = against[against > 0]
        loss = float(losses[queries].mean()) if len(asked) else None
        return {
            "events": self.events,
            "window_events": self.window_events,
            "queries": len(asked),
            "ndcg_at_10": means(gains),
            "hit_rate_at_10": means(hits.astype(np.float64)),
            "mrr": means(1.0 / np.maximum(asked, 1)),
            "negatives": len(against),
            "negatives_in_top_k": float((against <= k).mean()) if len(against) else None,
            "loss": loss if loss is not None and math.isfinite(loss) else None,
        }
