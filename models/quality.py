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

__all__ = ["Judged", "Prequential", "Scored", "ShownFigures", "log_loss", "losses", "rank_of", "roc_auc"]

RANKERS = ("headwater", "popularity", "memory", "slow")


class Judged(NamedTuple):
    """One item of a list that was shown: what was thought of it when it was shown, and what came of it.

    Fields
        list_id, user_id, item_id: its name; a later record of the same name takes the place of an earlier one.
        time_ms: when it was shown, epoch ms.
        place: from 1, where in the list; 0 where that is not known.
        chance: of a reaction, by the click model, before anything was known of this list.
        item_rate: the item's own smoothed rate of reactions then.
        rank: from 1, within the list by the fused scores and what the ranker adds; equal scores rank before it.
        reacted: whether a positive event of the item followed within the window, or named the list.
        weight: of the strongest such event, 0 without one.
        corrected: a label that came after the window, or took back what was said.
        by_type: of each type of reaction that is told apart, the chance of one, and whether it came.
        unrevised, in_full: the rank without the ranker, and with what lists taught it in full, as by the objective
            `shown`; 0 where nobody says.
    """

    list_id: str
    user_id: str
    item_id: str
    time_ms: int
    place: int
    chance: float
    item_rate: float
    rank: int
    reacted: bool
    weight: float = 0.0
    corrected: bool = False
    by_type: tuple[tuple[str, float, bool], ...] = ()
    unrevised: int = 0
    in_full: int = 0


class Scored(NamedTuple):
    """What the model made of one example before it learned from it.

    Fields
        is_query: the user had a history, the item had been seen earlier, and the exclusion rule does not forbid it.
        headwater, popularity, memory, slow: 1-based ranks of the target by all experts, by popularity, by the
            association memories and by the encoder alone; 0 where it is no query.
        loss: minus the log-probability of the target under the fused scores.
        items: the best of the fused scores, as many as the learner was asked to name.
        against: where the event speaks against its item, the rank of the item by all experts; then it is no query.
        judged: items of lists that were shown, of which this example, or its time, told what came of them.
        unrevised: rank of the target by all experts without the ranker, 0 where there is none.
        recalled: whether the target was among the candidates that the ranker sees.
        headed: rank of the target by all experts, the ranker and the head of its type, 0 where that has none.
    """

    is_query: bool
    headwater: int
    popularity: int
    memory: int
    slow: int
    loss: float
    items: tuple[str, ...] = ()
    against: int = 0
    judged: tuple[Judged, ...] = ()
    unrevised: int = 0
    recalled: bool = False
    headed: int = 0


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


def roc_auc(scores: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> float | None:
    """The chance that what was reacted to has a higher score than what was not; equal scores count half.

    Parameters
        scores: (n,) float.
        labels: (n,) bool.

    Returns
        None where all labels are the same.

    >>> roc_auc(np.array([0.9, 0.4, 0.4, 0.1]), np.array([True, True, False, False]))
    0.875
    """
    for_it = int(np.count_nonzero(labels))
    if not 0 < for_it < len(labels):
        return None
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    rank = np.cumsum(count) - (count - 1) / 2.0  # mean rank of equal scores
    above = float(rank[place][labels].sum()) - for_it * (for_it + 1) / 2.0
    return above / (for_it * (len(labels) - for_it))


def losses(chances: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Of each, minus the log of the chance that was given to what came of it."""
    given = np.where(labels, chances, 1.0 - chances)
    return np.asarray(-np.log(np.maximum(given, 1e-7)))


def log_loss(chances: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> float:
    """Mean of the losses."""
    return float(losses(chances, labels).mean())


class ShownFigures:
    """How well reactions to what was shown were told, over the newest `window` items of lists.

    `said` (window, 2): the click model's chance and the item's own smoothed rate; `reacted` (window,).
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self.items = 0
        self.closed_early = 0  # lists that were not waited for to the end of their window, for there were too many
        self.said = np.zeros((0, 2), np.float32)
        self.reacted = np.zeros(0, bool)

    def add(self, one: Judged) -> None:
        """Take in one item; a correction comes too late for a running figure."""
        if one.corrected:
            return
        if not len(self.said):
            self.said, self.reacted = np.zeros((self.window, 2), np.float32), np.zeros(self.window, bool)
        place = self.items % self.window
        self.said[place] = one.chance, one.item_rate
        self.reacted[place] = one.reacted
        self.items += 1

    def summary(self) -> dict[str, Any]:
        """Figures of the window, JSON-able."""
        held = min(self.items, self.window)
        said, reacted = self.said[:held].astype(np.float64), self.reacted[:held]
        each = {"headwater": said[:, 0], "item_rate": said[:, 1]}
        return {
            "items": self.items,
            "closed_early": self.closed_early,
            "reacted": float(reacted.mean()),
            "auc": {name: roc_auc(one, reacted) for name, one in each.items()},
            "log_loss": {name: log_loss(one, reacted) for name, one in each.items()},
        }


class Prequential:
    """Running means over the newest `window_events` events, by ranker: NDCG@10, hit rate@10, reciprocal rank."""

    def __init__(self, window_events: int = 20_000) -> None:
        self.window_events = window_events
        self.ranks = np.zeros((window_events, len(RANKERS)), np.int32)  # ring; 0 is no query
        self.losses = np.zeros(window_events, np.float32)
        self.against = np.zeros(window_events, np.int32)  # 0 is no event that speaks against its item
        self.unrevised = np.zeros(window_events, np.int32)  # rank without the ranker; 0 where there is none
        self.recalled = np.zeros(window_events, bool)  # the target was a candidate of the ranker
        self.ranker_share = 0.0  # how much of what the ranker says counts, now
        self.head_shares: dict[str, float] = {}  # the same of what its head for a type of event says
        self.events = 0
        self.shown = ShownFigures(window_events)

    def add(self, scored: Scored) -> None:
        """Take in one scored example; what it judges is for `shown`."""
        place = self.events % self.window_events
        self.ranks[place] = scored[1:5]
        self.losses[place] = scored.loss
        self.against[place] = scored.against
        self.unrevised[place] = scored.unrevised
        self.recalled[place] = scored.recalled
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
        found = {
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
        found |= self._of_ranker(len(ranks), gains[:, 0], queries, k)
        return found | {"shown": self.shown.summary()} if self.shown.items else found

    def _of_ranker(
        self, held: int, gains: np.ndarray[Any, Any], queries: np.ndarray[Any, Any], k: int
    ) -> dict[str, Any]:
        """What the ranker is worth, on the queries that it was asked; nothing where it was asked none."""
        without = self.unrevised[:held][queries]
        asked = without > 0
        if not asked.any():
            return {}
        plain = np.where(without <= k, 1.0 / np.log2(without + 1.0), 0.0)
        figures = {
            "queries": int(asked.sum()),
            "ndcg_at_10": float(gains[asked].mean()),
            "ndcg_at_10_without": float(plain[asked].mean()),
            "candidate_recall": float(self.recalled[:held][queries][asked].mean()),
            "share": self.ranker_share,
            "head_shares": dict(self.head_shares),
        }
        return {"ranker": figures}
