"""Measures of classification against their definitions, and the part of a result that is made of them."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.quality import losses, roc_auc
from replay.backtest.classification import (
    Counts,
    InOrder,
    best_threshold,
    calibration,
    confusion,
    list_gains,
    precision_recall,
    roc_curve,
    user_aucs,
)
from replay.backtest.classified import ShownItems, classified

Shown = list[tuple[float, bool, int]]
"""(score, reacted, user or list)"""

shown_items = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]), st.booleans(), st.integers(0, 3)), max_size=24
)


def columns(items: Shown) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    return (
        np.array([score for score, _, _ in items], np.float64),
        np.array([reacted for _, reacted, _ in items], np.bool_),
        np.array([owner for _, _, owner in items], np.int64),
    )


def pairs_won(items: Shown) -> float | None:
    """The area under the ROC curve by its meaning: pairs of a positive and a negative in the right order, ties half."""
    yes = [score for score, reacted, _ in items if reacted]
    no = [score for score, reacted, _ in items if not reacted]
    if not yes or not no:
        return None
    return sum((a > b) + (a == b) / 2 for a in yes for b in no) / (len(yes) * len(no))


@settings(max_examples=60, deadline=None)
@given(shown_items)
def test_an_area_is_the_share_of_pairs_in_the_right_order(items: Shown) -> None:
    scores, reacted, users = columns(items)
    assert roc_auc(scores, reacted) == pytest.approx(pairs_won(items))
    times = np.array([2, 0, 1, 3])[users] if items else np.zeros(0)
    repeated = [item for item in items for _ in range((2, 0, 1, 3)[item[2]])]
    found = InOrder(scores, reacted).auc(times)
    expected = pairs_won(repeated)
    assert math.isnan(found) if expected is None else found == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(shown_items)
def test_an_area_by_user_is_that_of_the_users_items_alone(items: Shown) -> None:
    scores, reacted, users = columns(items)
    found = {int(user): (area, count) for user, area, count in zip(*user_aucs(scores, reacted, users), strict=True)}
    own = {user: [item for item in items if item[2] == user] for user in range(4)}
    assert found == {
        user: (pytest.approx(area), len(each)) for user, each in own.items() if (area := pairs_won(each)) is not None
    }


@settings(max_examples=60, deadline=None)
@given(shown_items)
def test_the_curve_has_the_area_and_rises_from_corner_to_corner(items: Shown) -> None:
    scores, reacted, _ = columns(items)
    curve = roc_curve(scores, reacted)
    expected = pairs_won(items)
    if expected is None:
        assert curve == []
        return
    assert (curve[0], curve[-1]) == ((0.0, 0.0), (1.0, 1.0))
    assert curve == sorted(curve)
    area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(curve))
    assert area == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(shown_items)
def test_precision_and_recall_are_those_of_each_threshold(items: Shown) -> None:
    scores, reacted, _ = columns(items)
    expected = []
    for threshold in sorted(set(scores.tolist()), reverse=True) if reacted.any() else ():
        counts = confusion(scores, reacted, threshold)
        expected.append((pytest.approx(counts.recall), pytest.approx(counts.precision)))
    assert precision_recall(scores, reacted) == expected


def test_a_long_curve_is_cut_to_its_points_and_keeps_its_area() -> None:
    choose = np.random.default_rng(0)
    reacted = choose.random(5000) < 0.2
    scores = choose.normal(reacted * 1.0)
    curve = roc_curve(scores, reacted)
    assert len(curve) <= 102
    area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(curve))
    assert area == pytest.approx(roc_auc(scores, reacted), abs=0.002)


@settings(max_examples=60, deadline=None)
@given(shown_items)
def test_no_threshold_has_a_higher_f1_than_the_chosen_one(items: Shown) -> None:
    scores, reacted, _ = columns(items)
    chosen = best_threshold(scores, reacted)
    if not reacted.any():
        assert chosen is None
        return
    assert chosen is not None
    best = confusion(scores, reacted, chosen).f1
    for score in set(scores.tolist()):
        other = confusion(scores, reacted, score).f1
        assert other < best or (other == pytest.approx(best) and score <= chosen)


def test_counts_at_a_threshold_are_those_of_the_confusion_matrix() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    reacted = np.array([True, False, True, False, False, True])
    found = confusion(scores, reacted, 0.7)
    assert found == Counts(true_positive=2, false_positive=1, false_negative=1, true_negative=2)
    assert (found.precision, found.recall, found.f1, found.accuracy) == pytest.approx((2 / 3, 2 / 3, 2 / 3, 4 / 6))
    nothing = confusion(scores, np.zeros(6, np.bool_), 2.0)
    assert (nothing.precision, nothing.recall, nothing.f1, nothing.accuracy) == (0.0, 0.0, 0.0, 1.0)


def test_the_loss_of_a_chance_is_that_of_the_published_example() -> None:
    # scikit-learn, log_loss: ["spam", "ham", "ham", "spam"], [[.1, .9], [.9, .1], [.8, .2], [.35, .65]] -> 0.21616...
    found = losses(np.array([0.9, 0.1, 0.2, 0.65]), np.array([True, False, False, True])).mean()
    assert found == pytest.approx(0.216162, abs=1e-6)
    assert np.isfinite(losses(np.array([0.0, 1.0]), np.array([True, False]))).all()


def test_bins_hold_as_many_items_and_equal_chances_are_together() -> None:
    chances = np.linspace(0, 1, 1000)
    reacted = np.arange(1000) % 2 == 0
    found = calibration(chances, reacted)
    assert [items for items, _, _ in found] == [100] * 10
    assert [share for _, _, share in found] == [0.5] * 10
    assert found[0][1] == pytest.approx(chances[:100].mean())
    assert calibration(np.full(7, 0.1), np.ones(7, np.bool_)) == [(7, pytest.approx(0.1), 1.0)]
    # scikit-learn, calibration_curve(strategy="quantile", n_bins=3)
    told = np.array([0.1, 0.2, 0.3, 0.4, 0.65, 0.7, 0.8, 0.9, 1.0])
    became = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1]).astype(np.bool_)
    assert [(round(chance, 2), round(share, 2)) for _, chance, share in calibration(told, became, 3)] == [
        (0.2, 0.0), (0.58, 0.67), (0.9, 1.0),
    ]  # fmt: skip
    assert calibration(np.zeros(0), np.zeros(0, np.bool_)) == []


@settings(max_examples=60, deadline=None)
@given(shown_items)
def test_what_was_reacted_to_is_ranked_within_its_list_and_ties_count_against_it(items: Shown) -> None:
    scores, reacted, lists = columns(items)
    found = {int(one): (first, gain) for one, first, gain in zip(*list_gains(scores, reacted, lists), strict=True)}
    expected = {}
    for one in range(4):
        own = sorted((-score, yes) for score, yes, held in items if held == one)
        ranks = [place + 1 for place, (_, yes) in enumerate(own) if yes]
        if len(own) < 2 or not ranks:
            continue
        ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(ranks), 10) + 1))
        gain = sum(1 / math.log2(rank + 1) for rank in ranks if rank <= 10) / ideal
        expected[one] = (pytest.approx(1 / ranks[0]), pytest.approx(gain))
    assert found == expected


def shown(lists: int, *, seed: int = 0, users: int = 40, reacts: float = 0.3) -> ShownItems:
    """Lists of five, of which one item in three is reacted to; our chance knows it a little, the order not at all."""
    choose = np.random.default_rng(seed)
    count = lists * 5
    chance = choose.uniform(0.05, 0.95, count) * reacts * 2
    return ShownItems(
        time_ms=np.repeat(np.arange(lists), 5),
        user=np.repeat(choose.integers(0, users, lists), 5),
        list=np.repeat(np.arange(lists), 5),
        reacted=choose.random(count) < chance,
        scores={"headwater": chance, "shown order": -np.tile(np.arange(1.0, 6.0), lists)},
        chances=frozenset({"headwater"}),
    )


def test_a_scorer_that_knows_is_above_one_that_does_not_and_its_chances_hold() -> None:
    found = classified(shown(600), begin_ms=200)
    assert found is not None
    assert (found.lists, found.items, found.chosen_on, found.chosen_on_items) == (400, 2000, "warm-up", 1000)
    ours, order = found.scorers["headwater"], found.scorers["shown order"]
    assert ours.auc is not None
    assert order.auc is not None
    assert order.auc_lead is not None
    assert ours.auc.value > 0.65
    assert ours.auc.low is not None
    assert ours.auc.low < ours.auc.value < (ours.auc.high or 0)
    assert order.auc.value == pytest.approx(0.5, abs=0.05)
    assert order.auc_lead.says == "better"
    assert order.auc_lead.mean == pytest.approx(ours.auc.value - order.auc.value, abs=2e-6)
    assert ours.calibration_error is not None
    assert ours.calibration_error < 0.05
    assert (order.log_loss, order.calibration) == (None, [])
    assert ours.grouped is not None
    assert sum(ours.grouped.histogram) == ours.grouped.users
    at = ours.at_threshold
    assert at is not None
    assert at.true_positive + at.false_negative == found.reacted
    assert at.true_positive + at.false_positive + at.false_negative + at.true_negative == found.items
    assert ours.mrr is not None
    assert order.mrr is not None
    assert ours.mrr.value > order.mrr.value


def test_without_a_reaction_in_the_warm_up_the_first_fifth_chooses_and_does_not_count() -> None:
    given_items = shown(500)
    found = classified(given_items, begin_ms=0)
    assert found is not None
    assert (found.chosen_on, found.chosen_on_items, found.items) == ("first fifth", 500, 2000)


def test_what_cannot_be_said_is_not_said() -> None:
    items = shown(100)
    assert classified(items, begin_ms=1000) is None
    empty = items.where(np.zeros(500, np.bool_))
    assert classified(empty, begin_ms=0) is None
    nobody = classified(items._replace(reacted=np.zeros(500, np.bool_)), begin_ms=50)
    assert nobody is not None
    assert nobody.reacted == 0
    ours = nobody.scorers["headwater"]
    assert (ours.auc, ours.grouped, ours.at_threshold, ours.roc, ours.mrr) == (None, None, None, [], None)
    assert ours.log_loss is not None
    alone = classified(items._replace(user=np.zeros(500, np.int64)), begin_ms=50)
    assert alone is not None
    assert alone.scorers["headwater"].auc is not None
    assert alone.scorers["headwater"].auc.low is None  # of one user nothing is known of others
    assert alone.scorers["shown order"].auc_lead is None
