"""What was shown, and what became of it: the part of a result that is made of the learner's records of shown items.

Before: the learner says of each item that was shown what it thought then, and whether it was reacted to. After: a
`Classification` of the result. Every scorer is measured on the same items; thresholds are chosen on what came before.
Intervals are over users, as those of rankings are.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.quality import losses
from replay.backtest.classification import (
    InOrder,
    best_threshold,
    calibration,
    confusion,
    list_gains,
    precision_recall,
    roc_curve,
    user_aucs,
)
from replay.backtest.resampling import REPLICATES, percentiles, ratios, user_draws
from replay.backtest.result import (
    AtThreshold,
    CalibrationBin,
    Classification,
    Classifier,
    Estimate,
    GroupedAuc,
    Interval,
    TypeOfReaction,
)

__all__ = ["OURS", "ShownItems", "classified"]

OURS = "headwater"

FIRST_SHARE = 0.2
"""Of what was shown after the warm-up, this much is for choosing thresholds where the warm-up has no reaction."""

MOST_WORK = 100_000_000
"""Items times draws that intervals of an area are made of: of a million items, 100 draws instead of 1,000."""

Array = NDArray[Any]


class ShownItems(NamedTuple):
    """Items that were shown, in the order of time; N of them.

    Fields
        time_ms: (N,) when.
        user, list: (N,) whole numbers.
        reacted: (N,) bool.
        scores: scorer -> (N,), higher for what is likelier; `OURS` is one of them.
        chances: the scorers whose scores are chances.
        by_type: type of reaction -> the chance that was given to it (N,), NaN before it was met; whether it came (N,).
    """

    time_ms: Array
    user: Array
    list: Array
    reacted: Array
    scores: Mapping[str, Array]
    chances: frozenset[str]
    by_type: Mapping[str, tuple[Array, Array]] = MappingProxyType({})

    def where(self, mask: Array) -> ShownItems:
        """Some of them."""
        scores = {name: each[mask] for name, each in self.scores.items()}
        columns = (self.time_ms, self.user, self.list, self.reacted)
        time_ms, user, lists, reacted = (each[mask] for each in columns)
        by_type = {name: (chance[mask], came[mask]) for name, (chance, came) in self.by_type.items()}
        return ShownItems(time_ms, user, lists, reacted, scores, self.chances, by_type)


def classified(shown: ShownItems, begin_ms: int) -> Classification | None:
    """The figures of what was shown from `begin_ms` on; None where nothing was.

    Parameters
        shown: all of it.
        begin_ms: when the first event after the warm-up happened.
    """
    asked = shown.time_ms >= begin_ms
    before, chosen_on = shown.where(~asked), "warm-up"
    shown = shown.where(asked)
    if not before.reacted.any() and len(shown.reacted):
        chosen_on = "first fifth"
        early = np.arange(len(shown.reacted)) < FIRST_SHARE * len(shown.reacted)
        early = np.isin(shown.list, shown.list[early])  # whole lists
        before, shown = shown.where(early), shown.where(~early)
    if not len(shown.reacted):
        return None
    _, users = np.unique(shown.user, return_inverse=True)
    drawn = _Drawn(shown, users)
    return Classification(
        items=len(shown.reacted),
        lists=len(np.unique(shown.list)),
        users=drawn.users,
        reacted=int(shown.reacted.sum()),
        ranked_lists=drawn.ranked_lists,
        chosen_on=chosen_on,
        chosen_on_items=len(before.reacted),
        scorers={name: _classifier(name, shown, before, drawn) for name in shown.scores},
        by_type=_by_type(shown),
    )


def _by_type(shown: ShownItems) -> dict[str, TypeOfReaction]:
    """Of each type of reaction; nothing where there is one alone, of which the rest speaks already."""
    found = {}
    for name, (said, happened) in sorted(shown.by_type.items()) if len(shown.by_type) > 1 else ():
        met = ~np.isnan(said)
        chance, came, lists = said[met], happened[met], shown.list[met]
        if not len(came):
            continue
        area = InOrder(chance, came).auc() if 0 < came.sum() < len(came) else None
        ranked, first, _ = list_gains(chance, came, lists)
        found[name] = TypeOfReaction(
            items=len(came),
            reacted=int(came.sum()),
            auc=None if area is None else _rounded(area),
            log_loss=_rounded(losses(chance, came).mean()),
            mrr=_rounded(first.mean()) if len(ranked) else None,
        )
    return found


def _rounded(value: float) -> float:
    return round(float(value), 6)


class _Drawn:
    """Every figure that has an interval: its value and its draws, of all scorers with the same draws of users."""

    def __init__(self, shown: ShownItems, users: Array) -> None:
        self.users = int(users.max()) + 1
        self.values: dict[tuple[str, str], float] = {}
        self._draws: dict[tuple[str, str], Array] = {}
        self.ranked_lists = 0
        self.areas: dict[str, Array] = {}
        owner = np.zeros(int(shown.list.max()) + 1, np.int64)
        owner[shown.list] = users
        columns: dict[tuple[str, str], tuple[Array, Array]] = {}  # sums and counts by user
        for name, scores in shown.scores.items():
            if name in shown.chances:
                columns[name, "log_loss"] = _by_user(losses(scores, shown.reacted), users, self.users)
            who, areas, items = user_aucs(scores, shown.reacted, users)
            self.areas[name] = areas
            columns[name, "weighted"] = _by_user(areas, who, self.users, items)
            columns[name, "unweighted"] = _by_user(areas, who, self.users)
            lists, first, gains = list_gains(scores, shown.reacted, shown.list)
            self.ranked_lists = len(lists)
            columns[name, "mrr"] = _by_user(first, owner[lists], self.users)
            columns[name, "ndcg_10"] = _by_user(gains, owner[lists], self.users)
        columns = {key: each for key, each in columns.items() if each[1].any()}
        if columns:
            sums, counts = (np.stack([each[part] for each in columns.values()], 1) for part in (0, 1))
            draws = ratios(sums, counts)
            for i, key in enumerate(columns):
                self.values[key], self._draws[key] = float(sums[:, i].sum() / counts[:, i].sum()), draws[:, i]
        if 0 < shown.reacted.sum() < len(shown.reacted):
            self._areas_of_all(shown, users)

    def _areas_of_all(self, shown: ShownItems, users: Array) -> None:
        in_order = {name: InOrder(scores, shown.reacted) for name, scores in shown.scores.items()}
        replicates = min(REPLICATES, max(100, MOST_WORK // len(users)))
        draws = np.empty((replicates, len(in_order)))
        for i, times in enumerate(user_draws(self.users, replicates)):
            weights = times[users]
            draws[i] = [each.auc(weights) for each in in_order.values()]
        for i, (name, each) in enumerate(in_order.items()):
            self.values[name, "auc"], self._draws[name, "auc"] = each.auc(), draws[:, i]

    def estimate(self, name: str, figure: str) -> Estimate | None:
        """A figure with its interval; None where it does not exist."""
        key = (name, figure)
        if key not in self.values:
            return None
        value = _rounded(self.values[key])
        ends = self._ends(self._draws[key])
        return Estimate(value=value) if ends is None else Estimate(value=value, low=ends[0], high=ends[1])

    def lead(self, name: str, figure: str) -> Interval | None:
        """Headwater's figure minus another's."""
        ours, theirs = (OURS, figure), (name, figure)
        if name == OURS or ours not in self.values or theirs not in self.values:
            return None
        ends = self._ends(self._draws[ours] - self._draws[theirs])
        mean = _rounded(self.values[ours] - self.values[theirs])
        return None if ends is None else Interval(ends[0], mean, ends[1])

    def _ends(self, draws: Array) -> tuple[float, float] | None:
        low, high = percentiles(draws[:, None])
        if self.users < 2 or np.isnan(low[0]):  # of one user alone nothing is known of others
            return None
        return _rounded(low[0]), _rounded(high[0])


def _by_user(values: Array, owners: Array, users: int, weights: Array | None = None) -> tuple[Array, Array]:
    """(users,) weighted sums and (users,) weights."""
    held = np.ones(len(values)) if weights is None else weights.astype(np.float64)
    return np.bincount(owners, values * held, users), np.bincount(owners, held, users)


def _classifier(name: str, shown: ShownItems, before: ShownItems, drawn: _Drawn) -> Classifier:
    scores, reacted = shown.scores[name], shown.reacted
    bins = calibration(scores, reacted) if name in shown.chances else []
    error = sum(items * abs(chance - share) for items, chance, share in bins) / len(reacted) if bins else None
    told: dict[str, Any] = {
        "auc": drawn.estimate(name, "auc"),
        "auc_lead": drawn.lead(name, "auc"),
        "log_loss": drawn.estimate(name, "log_loss"),
        "grouped": _grouped(name, drawn),
        "calibration": [
            CalibrationBin(items=items, chance=_rounded(chance), reacted=_rounded(share))
            for items, chance, share in bins
        ],
        "calibration_error": None if error is None else _rounded(error),
        "at_threshold": _at_threshold(scores, reacted, best_threshold(before.scores[name], before.reacted)),
        "precision_recall": [
            (_rounded(recall), _rounded(precision)) for recall, precision in precision_recall(scores, reacted)
        ],
        "roc": [(_rounded(across), _rounded(up)) for across, up in roc_curve(scores, reacted)],
        "mrr": drawn.estimate(name, "mrr"),
        "mrr_lead": drawn.lead(name, "mrr"),
        "ndcg_10": drawn.estimate(name, "ndcg_10"),
    }
    return Classifier(**{key: each for key, each in told.items() if each not in (None, [])})


def _grouped(name: str, drawn: _Drawn) -> GroupedAuc | None:
    weighted, unweighted = (drawn.estimate(name, figure) for figure in ("weighted", "unweighted"))
    if weighted is None or unweighted is None:
        return None
    areas = drawn.areas[name]
    return GroupedAuc(
        users=len(areas),
        weighted=weighted,
        unweighted=unweighted,
        histogram=np.histogram(areas, 10, (0.0, 1.0))[0].tolist(),
        lead=drawn.lead(name, "weighted"),
    )


def _at_threshold(scores: Array, reacted: Array, threshold: float | None) -> AtThreshold | None:
    if threshold is None:
        return None
    found = confusion(scores, reacted, threshold)
    return AtThreshold(
        threshold=_rounded(threshold),
        **found._asdict(),
        precision=_rounded(found.precision),
        recall=_rounded(found.recall),
        f1=_rounded(found.f1),
        accuracy=_rounded(found.accuracy),
    )
