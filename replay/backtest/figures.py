"""Figures of a backtest from its ledger: means, a curve over time, groups, and intervals. Pure, no model in sight.

Before: `replay.backtest.ledger`. After: the parts of a result. Every query has one target, so recall@k is
the hit rate@k. Intervals resample users, not queries: one user's queries resemble each other (block bootstrap).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replay.backtest.ledger import Ledger
from replay.backtest.result import AgedWeights, Interval, Leads, Measures, Negatives, SeedScores, Slice, Window

__all__ = [
    "BOOTSTRAP_SEED",
    "by_seed",
    "by_type",
    "curve",
    "differences",
    "groups",
    "negatives",
    "results",
    "weight_ages",
]

OURS = "headwater"
REPLICATES = 1000
BOOTSTRAP_SEED = 20_000
NORMAL_95 = 1.959964

NEW_ITEM = 5
"""An item with at most so many earlier events is new."""

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
    """Of every ranker: means over queries, the mean of users' mean NDCG@10, coverage and novelty of its lists."""
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

    1,000 times, as many users as there are are drawn with replacement, each with all their queries; the same draws for
    every ranker (percentile interval, Efron 1979). One user alone says nothing of others: no interval then.
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
    draws = np.empty((REPLICATES, len(names)))
    # scipy.stats.bootstrap draws and gives the same, no shorter, and takes 1.2 s to load
    choose = np.random.default_rng(BOOTSTRAP_SEED)
    for i in range(REPLICATES):
        times = np.bincount(choose.integers(0, len(counts), len(counts)), minlength=len(counts))
        draws[i] = times @ sums / (times @ counts)
    low, high = np.quantile(draws, (0.025, 0.975), axis=0)
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
    new_item = np.array(ledger.earlier, np.int64) <= NEW_ITEM
    new_user = np.array(ledger.entries, np.int64) <= NEW_USER
    masks = {"new_items": new_item, "warm_items": ~new_item, "new_users": new_user, "returning_users": ~new_user}
    return {name: _where(gains, mask) for name, mask in masks.items()}


def negatives(ledger: Ledger, k: int = 10) -> Negatives | None:
    """How often our list of ten held what a user then turned down; None where nobody turned anything down."""
    ranks = np.array(ledger.against, np.int64)
    return Negatives(events=len(ranks), in_top_10=_rounded((ranks <= k).mean())) if len(ranks) else None


def weight_ages(ledger: Ledger) -> list[AgedWeights]:
    """NDCG@10 by how seldom weights are published: 0 the learner itself, N every N events, None never again."""
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
