"""Figures of a backtest from its ledger: means, a curve over time, groups, and intervals. Pure, no model in sight.

Before: `replay.backtest.ledger`. After: the parts of a result. Every query has one target, so recall@k is
the hit rate@k. Intervals resample users, not queries: one user's queries resemble each other (block bootstrap).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.quality import Prequential, roc_auc
from models.ranker.candidates import MOST as CANDIDATES
from models.ranker.facts import are_new
from replay.backtest.ledger import Ledger
from replay.backtest.resampling import percentiles, ratios
from replay.backtest.result import (
    AgedWeights,
    Fold,
    FoldMeasures,
    FoldSpread,
    HeadFigures,
    Interval,
    Leads,
    Measures,
    Negatives,
    RankerFigures,
    RankerNegatives,
    SeedScores,
    Slice,
    Spread,
    Window,
)

__all__ = [
    "by_seed",
    "by_type",
    "curve",
    "differences",
    "fold_spread",
    "folds",
    "groups",
    "negatives",
    "of_ranker",
    "results",
    "weight_ages",
]

OURS = "headwater"
NORMAL_95 = 1.959964

FULL_RANKING = 100
"""Candidates are compared with the best so many of all items."""

NEW_USER = 3
"""A user with at most so many history entries is new."""

Array = NDArray[Any]


def _rounded(value: float) -> float:
    return round(float(value), 6)


def measures(ranks: Array) -> dict[str, Array]:
    """Per query and measure, float64, of 1-based ranks (Q,)."""
    found: dict[str, Array] = {}
    for k in (10, 20):
        hit = ranks <= k
        found[f"ndcg@{k}"] = np.where(hit, 1.0 / np.log2(ranks + 1.0), 0.0)
        found[f"hr@{k}"] = hit.astype(np.float64)
        found[f"mrr@{k}"] = np.where(hit, 1.0 / ranks, 0.0)
        found[f"recall@{k}"] = found[f"hr@{k}"]
    return found


def _ranks(ledger: Ledger) -> dict[str, Array]:
    return {name: np.array(ranks, np.int64) for name, ranks in ledger.ranks.items()}


def results(ledger: Ledger) -> dict[str, Measures]:
    """Of every ranker: means over queries, the mean of users' mean NDCG@10, coverage and novelty of its lists.

    Nothing where there are no queries, as in a stream in which everybody reacts once.
    """
    if not ledger.queries:
        return {}
    _, users = np.unique(np.array(ledger.user, np.int64), return_inverse=True)
    found = {}
    for name, ranks in _ranks(ledger).items():
        each = measures(ranks)
        row: dict[str, float | None] = {measure: _rounded(values.mean()) for measure, values in each.items()}
        row["user_ndcg@10"] = _rounded((np.bincount(users, each["ndcg@10"]) / np.bincount(users)).mean())
        for measure, value in (("coverage@10", ledger.coverage(name)), ("novelty@10", ledger.novelty(name))):
            row[measure] = None if value is None else _rounded(value)
        found[name] = Measures.model_validate(row)
    return found


def by_seed(each: Sequence[Mapping[str, Measures]]) -> dict[str, SeedScores]:
    """NDCG@10 with each seed, of the results with each; a ranker without chance has that of the first alone."""
    return {
        name: SeedScores(ndcg=[score for found in each if name in found and (score := found[name].ndcg_10) is not None])
        for name in each[0]
    }


def differences(ledger: Ledger) -> dict[str, Leads]:
    """Ours minus each other ranker, on the same queries: [low, mean, high] of a 95% interval.

    Whole users are drawn (`resampling`), the same draws for every ranker. One user alone says nothing of others: no
    interval then.
    """
    _, users = np.unique(np.array(ledger.user, np.int64), return_inverse=True)
    counts = np.bincount(users).astype(np.float64)
    kept = ("ndcg@10", "hr@10", "mrr@10", "ndcg@20")
    all_ranks = _ranks(ledger)
    if len(counts) < 2:
        return {name: Leads() for name in all_ranks if name != OURS}
    ours = measures(all_ranks.pop(OURS))
    names = [(name, measure) for name in all_ranks for measure in kept]
    sums = np.empty((len(counts), len(names)))
    for column, (name, measure) in enumerate(names):
        sums[:, column] = np.bincount(users, ours[measure] - measures(all_ranks[name])[measure])
    # scipy.stats.bootstrap draws and gives the same, no shorter, and takes 1.2 s to load
    low, high = percentiles(ratios(sums, counts[:, None]))
    mean = sums.sum(0) / counts.sum()
    found: dict[str, dict[str, Interval]] = {name: {} for name in all_ranks}
    for column, (name, measure) in enumerate(names):
        found[name][measure] = Interval(_rounded(low[column]), _rounded(mean[column]), _rounded(high[column]))
    return {name: Leads.model_validate(row) for name, row in found.items()}


def _gains(ledger: Ledger) -> dict[str, Array]:
    return {name: ledger.gains(name) for name in ledger.ranks}


def curve(ledger: Ledger, warm_up: int, events: int, window: int) -> list[Window]:
    """NDCG@10 by windows of `window` events after the warm-up, with a 95% band (normal) of each window's mean."""
    gains = _gains(ledger)
    windows = (np.array(ledger.place, np.int64) - warm_up) // window
    found: list[Window] = []
    for number in np.unique(windows).tolist():
        low, high = np.searchsorted(windows, (number, number + 1)).tolist()
        means, bands = {}, {}
        for name, values in gains.items():
            part = values[low:high]
            half = NORMAL_95 * part.std(ddof=1) / np.sqrt(len(part)) if len(part) > 1 else 1.0
            mean = float(part.mean())
            means[name] = _rounded(mean)
            bands[name] = (_rounded(max(mean - half, 0.0)), _rounded(min(mean + half, 1.0)))
        found.append(
            Window(
                events=min(warm_up + (number + 1) * window, events),
                time=ledger.time_ms[high - 1],
                queries=high - low,
                ndcg=means,
                band=bands,
            )
        )
    return found


def _where(gains: Mapping[str, Array], mask: Array) -> Slice:
    count = int(mask.sum())
    means = {name: _rounded(values[mask].mean()) if count else None for name, values in gains.items()}
    return Slice(queries=count, ndcg=means)


def by_type(ledger: Ledger) -> dict[str, Slice]:
    """NDCG@10 by the type of the event that was to be predicted."""
    gains, kinds = _gains(ledger), np.array(ledger.kind, np.int64)
    return {kind: _where(gains, kinds == number) for kind, number in sorted(ledger.kinds.items())}


def groups(ledger: Ledger) -> dict[str, Slice]:
    """NDCG@10 by how new the item and the user were when asked."""
    gains = _gains(ledger)
    new_item = are_new(np.array(ledger.earlier, np.int64))
    new_user = np.array(ledger.entries, np.int64) <= NEW_USER
    masks = {"new_items": new_item, "warm_items": ~new_item, "new_users": new_user, "returning_users": ~new_user}
    return {name: _where(gains, mask) for name, mask in masks.items()}


def negatives(ledger: Ledger, k: int = 10) -> Negatives | None:
    """How often a list of ten held what a user then turned down; None where nobody turned anything down."""
    ranks = {name: np.array(each, np.int64) for name, each in ledger.against.items()}
    if OURS not in ranks:
        return None
    _, users = np.unique(np.array(ledger.against_user, np.int64), return_inverse=True)
    counts = np.bincount(users).astype(np.float64)[:, None]
    held = {name: (each <= k).astype(np.float64) for name, each in ranks.items()}
    sums = np.stack([np.bincount(users, held[OURS] - each) for each in held.values()], 1)
    ends = percentiles(ratios(sums, counts)) if len(counts) > 1 else None
    found = {}
    for i, name in enumerate(ranks):
        row: dict[str, Any] = {"in_top_10": _rounded(held[name].mean())}
        if name not in ledger.shallow and (auc := _liked_above(ledger.ranks[name], ranks[name])) is not None:
            row["auc"] = _rounded(auc)
        if name != OURS and ends is not None:
            mean = sums[:, i].sum() / counts.sum()
            row["lead"] = Interval(_rounded(ends[0][i]), _rounded(mean), _rounded(ends[1][i]))
        found[name] = RankerNegatives(**row)
    return Negatives(
        events=len(users),
        in_top_10=found[OURS].in_top_10,
        by_type=dict(sorted(ledger.against_kind.items())),
        by_ranker=found,
    )


def of_ranker(ledger: Ledger, learner: Prequential) -> RankerFigures | None:
    """What the second stage was worth; None where there was none, or nothing was asked. `learner` has its shares."""
    if not ledger.recalled:
        return None
    plain, recalled = np.array(ledger.unrevised, np.int64), np.array(ledger.recalled, np.float64)
    ours, without = ledger.gains(OURS), measures(plain)["ndcg@10"]
    new = are_new(np.array(ledger.earlier, np.int64))

    def of_new(values: Array) -> float | None:
        return _rounded(values[new].mean()) if new.any() else None

    return RankerFigures.model_validate(
        {
            "candidates": CANDIDATES,
            "recall": _rounded(recalled.mean()),
            "full_ranking": _rounded((plain <= FULL_RANKING).mean()),
            "ndcg@10": _rounded(ours.mean()),
            "ndcg@10_without": _rounded(without.mean()),
            "new_items": of_new(ours),
            "new_items_without": of_new(without),
            "new_items_recall": of_new(recalled),
            "share": _rounded(learner.ranker_share),
            "by_type": _by_head(ledger, learner.head_shares),
        }
    )


def _by_head(ledger: Ledger, shares: Mapping[str, float]) -> dict[str, HeadFigures]:
    """What each type's head was worth on the queries of its type; nothing where there is but one type."""
    plain, headed = np.array(ledger.ranks[OURS], np.int64), np.array(ledger.headed, np.int64)
    headed, kinds = np.where(headed > 0, headed, plain), np.array(ledger.kind, np.int64)
    found = {}
    for kind, number in sorted(ledger.kinds.items()):
        of_type = kinds == number
        if kind not in shares or len(shares) < 2:
            continue
        row: dict[str, Any] = {"queries": int(of_type.sum()), "share": _rounded(shares[kind])}
        for end, ranks in (("", headed), ("_without", plain)):
            each = measures(ranks[of_type])
            row |= {f"{measure}{end}": _rounded(each[measure].mean()) for measure in ("ndcg@10", "hr@10")}
        found[kind] = HeadFigures.model_validate(row)
    return found


def _liked_above(liked: Sequence[int], turned_down: Array) -> float | None:
    """The chance that an item that was chosen ranks above one that was turned down, ties half."""
    ranks = np.concatenate([np.array(liked, np.int64), turned_down])
    return roc_auc(-ranks, np.arange(len(ranks)) < len(liked))


FOLD_MEASURES = ("ndcg@10", "hr@10", "mrr@10")

NO_FOLDS = ("frozen",)
"""Rankers that learn nothing between folds: what falls from fold to fold is their age, and its spread no chance."""


def folds(ledger: Ledger, warm_up: int, events: int, count: int) -> list[Fold]:
    """The events after the warm-up in `count` equal spans, each asked with all before it learned; none for 0."""
    each = {name: measures(ranks) for name, ranks in _ranks(ledger).items() if name not in NO_FOLDS}
    edges = [warm_up + (events - warm_up) * i // count for i in range(count + 1)] if count else []
    places = np.array(ledger.place, np.int64)
    found: list[Fold] = []
    for begin, end in pairwise(edges):
        low, high = np.searchsorted(places, (begin, end)).tolist()
        means = {
            name: FoldMeasures.model_validate(
                {key: _rounded(values[key][low:high].mean()) if high > low else None for key in FOLD_MEASURES}
            )
            for name, values in each.items()
        }
        time = ledger.time_ms[high - 1] if high > low else None
        found.append(Fold(begin=begin, end=end, time=time, queries=high - low, results=means))
    return found


def fold_spread(found: Sequence[Fold]) -> dict[str, FoldSpread]:
    """Of every ranker and measure the mean, deviation and range over the folds that have queries."""
    asked = [fold.results for fold in found if fold.queries]
    if not asked:
        return {}
    return {
        name: FoldSpread(
            ndcg_10=_spread([fold[name].ndcg_10 for fold in asked]),
            hr_10=_spread([fold[name].hr_10 for fold in asked]),
            mrr_10=_spread([fold[name].mrr_10 for fold in asked]),
        )
        for name in asked[0]
    }


def _spread(each: Sequence[float | None]) -> Spread | None:
    values = [value for value in each if value is not None]
    if not values:
        return None
    deviation = _rounded(float(np.std(values, ddof=1))) if len(values) > 1 else None
    return Spread(mean=_rounded(float(np.mean(values))), deviation=deviation, least=min(values), most=max(values))


def weight_ages(ledger: Ledger) -> list[AgedWeights]:
    """NDCG@10 by how seldom weights are published: 0 the learner itself, N every N events, None never again."""
    if not ledger.queries:
        return []
    ages: dict[str, int | None] = {OURS: 0}
    for name in ledger.ranks:
        if name.startswith(f"{OURS}@"):
            ages[name] = int(name.partition("@")[2])
    if "frozen" in ledger.ranks:
        ages["frozen"] = None
    return [
        AgedWeights(age_events=age, name=name, ndcg=_rounded(ledger.gains(name).mean()), queries=ledger.queries)
        for name, age in ages.items()
    ]
