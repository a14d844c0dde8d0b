"""Will it be reacted to? Measures of binary classification, of arrays alone: no model, users are numbers, no chance.

After: `replay.backtest.classified` makes a part of a result of them. N is the number of items that were shown, each
with what became of it (`positive`) and what a scorer said before: a score, higher for what is likelier, or a chance.

Source
    Definitions are those of scikit-learn (Pedregosa et al. 2011), whose names stand in the docstrings, so that others'
    figures compare. It would be 90 MB for ten formulas, and draws of users would be slow. Log loss and plain area stand
    in `models.quality`. Grouped AUC: Zhu et al. (2017), "Optimized cost per click in Taobao display advertising".
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Counts",
    "InOrder",
    "best_threshold",
    "calibration",
    "confusion",
    "list_gains",
    "precision_recall",
    "roc_curve",
    "user_aucs",
]

Array = NDArray[Any]


class InOrder:
    """Scores sorted once, so that the area under the ROC curve is cheap for every weighing of the items.

    Parameters
        scores: (N,) finite.
        positive: (N,) bool.
    """

    def __init__(self, scores: Array, positive: Array) -> None:
        order = np.argsort(scores, kind="stable")
        ranked = scores[order]
        self.positive = positive[order]
        self.order = order
        self.starts = np.flatnonzero(np.diff(ranked, prepend=np.nan) != 0)  # of each run of equal scores
        self.thresholds = ranked[self.starts]

    def sums(self, weights: Array | None = None) -> tuple[Array, Array]:
        """(T,) positive and (T,) negative weight of each run of equal scores, lowest scores first."""
        if not len(self.order):
            return np.zeros(0), np.zeros(0)
        held = np.ones(len(self.order)) if weights is None else weights[self.order].astype(np.float64)
        yes = np.where(self.positive, held, 0.0)
        return np.add.reduceat(yes, self.starts), np.add.reduceat(held - yes, self.starts)

    def auc(self, weights: Array | None = None) -> float:
        """The area under the ROC curve (`roc_auc_score`); NaN where all are of one class."""
        yes, no = self.sums(weights)
        below = np.cumsum(no) - no
        pairs = yes.sum() * no.sum()
        return float((yes * (below + no / 2)).sum() / pairs) if pairs > 0 else float("nan")


def roc_curve(scores: Array, positive: Array, points: int = 100) -> list[tuple[float, float]]:
    """(false positive rate, true positive rate) at falling thresholds, from (0, 0) to (1, 1) (`roc_curve`).

    Of more than `points` thresholds as many are kept, even along the curve. Empty where all are of one class.
    """
    yes, no = InOrder(scores, positive).sums()
    if not yes.sum() or not no.sum():
        return []
    rates = np.zeros((len(yes) + 1, 2))
    rates[1:, 0] = np.cumsum(no[::-1]) / no.sum()
    rates[1:, 1] = np.cumsum(yes[::-1]) / yes.sum()
    return _thinned(rates, rates.sum(1), points)


def precision_recall(scores: Array, positive: Array, points: int = 100) -> list[tuple[float, float]]:
    """(recall, precision) at falling thresholds, to recall 1 (`precision_recall_curve`); of at most about `points`.

    >>> precision_recall(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))[:2]
    [(0.5, 1.0), (0.5, 0.5)]
    """
    yes, no = InOrder(scores, positive).sums()
    if not yes.sum():
        return []
    hits, called = np.cumsum(yes[::-1]), np.cumsum((yes + no)[::-1])
    recall = hits / hits[-1]
    return _thinned(np.stack([recall, hits / called], 1), recall, points)


def _thinned(pairs: Array, along: Array, points: int) -> list[tuple[float, float]]:
    """About as many of the pairs, even in what grows along them; the ends are kept."""
    if len(pairs) > points:
        even = np.searchsorted(along, np.linspace(along[0], along[-1], points)).clip(max=len(pairs) - 1)
        pairs = pairs[np.union1d(even, [0, len(pairs) - 1])]
    return [(float(across), float(up)) for across, up in pairs]


def calibration(chances: Array, positive: Array, bins: int = 10) -> list[tuple[int, float, float]]:
    """(items, mean chance, share that was reacted to) of at most `bins` bins of about as many items, lowest first.

    Equal chances are in one bin (`calibration_curve(strategy="quantile")`): most of what is shown is reacted to seldom,
    so that bins of equal width would leave nine of ten empty.
    """
    if not len(chances):
        return []
    edges = np.percentile(chances, np.linspace(0, 100, bins + 1))
    places = np.searchsorted(edges[1:-1], chances)
    items = np.bincount(places, minlength=bins)
    told = np.bincount(places, chances, bins)
    found = np.bincount(places, positive, bins)
    return [(int(n), float(told[i] / n), float(found[i] / n)) for i, n in enumerate(items) if n]


class Counts(NamedTuple):
    """The confusion matrix at a threshold: an item is called positive when it scores at least that."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def precision(self) -> float:
        """Share of what was called positive that is; 0 where nothing was called so."""
        return _share(self.true_positive, self.true_positive + self.false_positive)

    @property
    def recall(self) -> float:
        """Share of what is positive that was called so; 0 where nothing is."""
        return _share(self.true_positive, self.true_positive + self.false_negative)

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        return _share(2 * self.true_positive, 2 * self.true_positive + self.false_positive + self.false_negative)

    @property
    def accuracy(self) -> float:
        """Share of what was called right."""
        return _share(self.true_positive + self.true_negative, sum(self))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def confusion(scores: Array, positive: Array, threshold: float) -> Counts:
    """The confusion matrix of calling positive what scores at least `threshold` (`confusion_matrix`).

    >>> confusion(np.array([0.2, 0.5, 0.7]), np.array([True, False, True]), 0.5)
    Counts(true_positive=1, false_positive=1, false_negative=1, true_negative=0)
    """
    called = scores >= threshold
    hits, alarms = int((called & positive).sum()), int((called & ~positive).sum())
    return Counts(hits, alarms, int(positive.sum()) - hits, int((~positive).sum()) - alarms)


def best_threshold(scores: Array, positive: Array) -> float | None:
    """The threshold of the highest F1; of equal ones the highest, which calls the fewest. None without a positive.

    >>> best_threshold(np.array([0.2, 0.4, 0.6, 0.8]), np.array([False, True, False, True]))
    0.4
    """
    if not positive.any():
        return None
    ranked = InOrder(scores, positive)
    yes, no = ranked.sums()
    hits, called = np.cumsum(yes[::-1])[::-1], np.cumsum((yes + no)[::-1])[::-1]
    gains = 2 * hits / (called + yes.sum())
    return float(ranked.thresholds[len(gains) - 1 - gains[::-1].argmax()])


def user_aucs(scores: Array, positive: Array, users: Array) -> tuple[Array, Array, Array]:
    """The area under the ROC curve of every user who has both classes, ties half.

    Parameters
        users: (N,) whole numbers.

    Returns
        (U,) users, (U,) areas, (U,) items that each was shown.
    """
    order = np.lexsort((scores, users))
    held, ranked, yes = users[order], scores[order], positive[order]
    run = np.ones(len(order), np.bool_)  # a run of one user's equal scores begins
    run[1:] = (held[1:] != held[:-1]) | (ranked[1:] != ranked[:-1])
    first = np.ones(len(order), np.bool_)
    first[1:] = held[1:] != held[:-1]
    starts, ends = np.flatnonzero(run), np.flatnonzero(np.append(run[1:], True)) if len(run) else np.zeros(0, int)
    middle = ((starts + ends) / 2)[np.cumsum(run) - 1]  # (N,) mean place of the run
    number = np.cumsum(first) - 1  # (N,) of the user, from 0
    shown = np.bincount(number)
    liked = np.bincount(number, yes)
    places = np.bincount(number, np.where(yes, middle - np.flatnonzero(first)[number], 0.0))
    pairs = liked * (shown - liked)
    both = pairs > 0
    areas = (places[both] - liked[both] * (liked[both] - 1) / 2) / pairs[both]
    return held[first][both], areas, shown[both]


def list_gains(scores: Array, positive: Array, lists: Array) -> tuple[Array, Array, Array]:
    """How high a scorer puts what was reacted to, in each list of two items or more with a reaction. Ties against it.

    Parameters
        lists: (N,) whole numbers.

    Returns
        (L,) lists; (L,) 1 / rank of the first that was reacted to; (L,) NDCG@10, an item's gain is 1 or 0.
    """
    order = np.lexsort((positive, -scores, lists))  # of equal scores the negative first
    held, yes = lists[order], positive[order]
    first = np.ones(len(order), np.bool_)
    first[1:] = held[1:] != held[:-1]
    starts, number = np.flatnonzero(first), np.cumsum(first) - 1
    ranks = np.arange(len(order)) - starts[number] + 1 if len(order) else np.zeros(0, np.int64)
    items = np.bincount(number)
    reacted = np.bincount(number, yes).astype(np.int64)
    gains = np.bincount(number, np.where(yes & (ranks <= 10), 1 / np.log2(ranks + 1.0), 0.0))
    best = np.full(len(starts), np.iinfo(np.int64).max)
    np.minimum.at(best, number[yes], ranks[yes])
    kept = (items > 1) & (reacted > 0)
    ideal = np.cumsum(1 / np.log2(np.arange(2.0, 12.0)))[np.minimum(reacted[kept], 10) - 1]
    return held[first][kept], 1.0 / best[kept], gains[kept] / ideal
