"""Each part alone, against a plain rewriting of what it promises."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from models.config import MemoryConfig, ModelConfig
from models.content import features_of
from models.experts.memory import AssociationMemory
from models.experts.popularity import DAY_MS, Popularity
from models.inputs import Steps
from models.items import ItemRows
from models.quality import Prequential, Scored, rank_of
from models.sequence.losses import (
    LEAST,
    Drawn,
    fused_sampled_softmax,
    fused_softmax,
    log_expected,
    sample_negatives,
)
from models.sequence.optimizer import Adam
from models.sequence.replay_buffer import ReplayBuffer

HOUR_MS = 3_600_000


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("half_life", [None, 0.5])
def test_the_memory_scores_as_the_formula_says_while_no_row_is_full(half_life: float | None, symmetric: bool) -> None:
    config = MemoryConfig(reach=5, symmetric=symmetric, write_fade=0.7, read_fade=0.6, slots=32)
    config = config.model_copy(update={"half_life_hours": half_life, "target_power": 0.0 if half_life else 0.4})
    memory, n, choose = AssociationMemory(config, 20, decay=0.9), 20, random.Random(0)
    dense, counts, time_ms = np.zeros((n, n)), np.zeros(n), 0
    history: list[int] = []
    for _ in range(300):
        passed_ms = choose.randrange(HOUR_MS)
        time_ms += passed_ms
        if half_life:
            dense, counts = (array * 0.5 ** (passed_ms / HOUR_MS / half_life) for array in (dense, counts))
        target = choose.choice([row for row in range(n) if row not in history[-5:]])
        recent = history[::-1][:5]
        dense[target] *= 0.9
        for k, row in enumerate(recent):
            dense[row, target] += 0.7**k
            if symmetric:
                dense[target, row] += 0.7**k
        counts[target] = counts[target] * 0.9 + 1
        memory.update(np.array(recent, np.int64), target, time_ms)
        history.append(target)
    recent = np.array(history[::-1][:5], np.int64)
    expected = sum(0.6**k * dense[row] * counts[row] ** -0.5 for k, row in enumerate(recent))
    expected = expected * counts**-config.target_power
    rows, scores = memory.score(recent)
    assert len(set(rows.tolist())) == len(rows)
    np.testing.assert_allclose(scores / scores.max(), expected[rows] / expected.max(), rtol=1e-4, atol=1e-6)
    assert np.delete(expected, rows).max(initial=0) == 0


def test_an_association_of_long_ago_is_worth_nothing_and_a_late_event_is_harmless() -> None:
    config = MemoryConfig(reach=3, symmetric=True, write_fade=1.0, read_fade=1.0, half_life_hours=0.5)
    memory = AssociationMemory(config, 6)
    year_ms = 365 * 24 * HOUR_MS
    for time_ms, target in ((0, 1), (50 * year_ms, 2), (50 * year_ms - HOUR_MS, 3), (-50 * year_ms, 4)):
        for _ in range(3):
            memory.update(np.array([0]), target, time_ms)
    rows, scores = memory.score(np.array([0]))
    shares = dict(zip(rows.tolist(), (scores / scores.max()).tolist(), strict=True))
    assert {row: share for row, share in shares.items() if share > 0} == {2: 1.0, 3: pytest.approx(0.25)}
    assert np.isfinite(memory.held.log_source).all()
    rows, scores = memory.score(np.array([4, 1]))  # read together with what was written a hundred years later
    assert rows.tolist() == [0]
    assert np.isfinite(scores).all()


def test_a_memory_that_fades_by_event_time_listens_less_to_entries_of_long_ago() -> None:
    for half_life, older in ((None, 1.0), (0.5, 0.25)):
        config = MemoryConfig(reach=2, symmetric=False, write_fade=1.0, read_fade=1.0, half_life_hours=half_life)
        memory = AssociationMemory(config, 6)
        for source, target in ((0, 2), (1, 3)):
            memory.update(np.zeros(0, np.int64), source)
            memory.update(np.array([source]), target)
        rows, scores = memory.score(np.array([0, 1]), np.array([0.0, HOUR_MS]))
        assert dict(zip(rows.tolist(), scores.tolist(), strict=True)) == pytest.approx({2: 1.0, 3: older})


def test_a_memory_that_fades_by_event_time_learns_little_of_what_follows_long_after() -> None:
    for half_life, late in ((None, 1.0), (0.5, 0.25)):
        config = MemoryConfig(reach=1, symmetric=False, write_fade=1.0, read_fade=1.0, half_life_hours=half_life)
        memory = AssociationMemory(config, 6)
        for target, ago_ms in ((2, 0.0), (3, HOUR_MS)):
            memory.update(np.array([0]), target, ago_ms=np.array([ago_ms]))
        rows, scores = memory.score(np.array([0]))
        assert dict(zip(rows.tolist(), scores.tolist(), strict=True)) == pytest.approx({2: 1.0, 3: late})


def test_a_full_row_gives_its_lightest_slot_to_a_new_association() -> None:
    config = MemoryConfig(reach=1, symmetric=False, write_fade=1.0, read_fade=1.0, slots=2)
    memory = AssociationMemory(config, 8)
    for target in (1, 1, 2, 3):
        memory.update(np.array([0]), target)
    rows, scores = memory.score(np.array([0]))
    assert dict(zip(rows.tolist(), scores.tolist(), strict=True)) == {1: 2.0, 3: 1.0}


def test_clearing_an_item_removes_what_points_to_it() -> None:
    config = MemoryConfig(reach=3, symmetric=True, write_fade=1.0, read_fade=1.0, slots=4)
    memory = AssociationMemory(config, 6)
    memory.update(np.array([1, 2]), 3)
    before = memory.take_changes().places["memory0_ids"].tolist()
    memory.clear([3])
    assert not memory.held.weights.any()
    assert memory.take_changes().places["memory0_ids"].tolist() == before


def test_an_item_associated_with_itself_counts_for_nothing() -> None:
    config = MemoryConfig(reach=3, symmetric=True, write_fade=1.0, read_fade=1.0, slots=4)
    memory = AssociationMemory(config, 6)
    memory.update(np.array([2]), 2)
    assert not memory.held.weights.any()


def test_popularity_halves_in_a_half_life_whatever_the_order() -> None:
    one, other = Popularity([7.0], 2), Popularity([7.0], 2)
    week = round(7 * DAY_MS)
    for row, time_ms in ((0, 0), (1, week), (1, 3)):
        one.update(row, time_ms)
    for row, time_ms in ((1, 3), (0, 0), (1, week)):
        other.update(row, time_ms)
    assert np.diff(one.log[:, 0]) == pytest.approx(np.diff(other.log[:, 0]))
    assert np.exp(one.log[1] - one.log[0]) == pytest.approx(3.0)
    assert one.now(one.newest_ms) == pytest.approx(np.log(2))
    assert one.counts.tolist() == [1, 2]


def test_rows_are_never_shared_and_freed_ones_are_used_again() -> None:
    items = ItemRows(max_items=100)
    rows = [items.observe(f"i{n}", n)[0] for n in range(10)]
    assert rows == list(range(10))
    items.remove(4)
    items.remove(7)
    assert items.observe("new", 11) == (7, True)
    assert items.observe("newer", 12) == (4, True)
    assert items.observe("newest", 13) == (10, True)
    assert items.observe("i4", 14) == (11, True)
    assert len(set(items.rows.values())) == len(items.rows)


def test_the_longest_idle_are_let_go_when_room_is_needed() -> None:
    items = ItemRows(max_items=16)
    for n in range(16):
        items.observe(f"i{n}", n)
    items.observe("i0", 99)
    assert items.expire(100, headroom=2) == [1, 2]
    assert "i0" in items.rows
    assert items.let_go == {"row": 2, "waiting": 0}


def test_items_waiting_for_admission_are_bounded_too() -> None:
    items = ItemRows(admit_after=2, max_items=16)
    for n in range(100):
        items.observe(f"once-{n}", n)
    assert len(items.waiting) == 16
    assert not items.rows
    assert items.let_go == {"row": 0, "waiting": 84}
    other = ItemRows(admit_after=2, max_items=16)
    other.load({name: value for name, value in items.state().items() if name != "let_go"})
    assert other.waiting == items.waiting, "of a release that counted none"


def test_the_item_map_comes_back_from_its_state() -> None:
    items = ItemRows(admit_after=2, max_items=16)
    for n in range(20):
        items.observe(f"i{n % 7}", n)
    items.remove(2)
    other = ItemRows(admit_after=2, max_items=16)
    other.load(items.state())
    assert other.state() == items.state()
    assert other.observe("z", 21) == items.observe("z", 21)
    assert other.observe("z", 22) == items.observe("z", 22)


def test_equal_scores_rank_before_the_target() -> None:
    scores = np.array([1.0, 5.0, 5.0, 5.0, 0.0])
    assert rank_of(scores, 2, np.ones(5, bool)) == 3
    assert rank_of(scores, 2, np.array([True, False, True, True, True])) == 2
    assert rank_of(np.array([np.nan, 1.0]), 1, np.ones(2, bool)) == 2


def test_prequential_figures_cover_the_newest_events_only() -> None:
    metrics = Prequential(window_events=4)
    for rank in (1, 1, 1, 2, 100):
        metrics.add(Scored(True, rank, 11, 1, 1, 0.5))
    metrics.add(Scored(False, 0, 0, 0, 0, 0.0))
    summary = metrics.summary()
    assert summary["events"] == 6
    assert summary["queries"] == 3
    assert summary["ndcg_at_10"]["headwater"] == pytest.approx((1 + 1 / np.log2(3)) / 3)
    assert summary["ndcg_at_10"]["popularity"] == 0
    assert summary["hit_rate_at_10"]["headwater"] == pytest.approx(2 / 3)
    assert summary["mrr"]["headwater"] == pytest.approx((1 + 0.5 + 0.01) / 3)


def test_prequential_figures_of_nothing_are_none() -> None:
    assert Prequential(10).summary()["ndcg_at_10"]["headwater"] is None


def test_adam_agrees_with_torch() -> None:
    torch.manual_seed(0)
    ours = torch.randn(5, 3)
    theirs = torch.nn.Parameter(ours.clone())
    adam = Adam(ours, 0.01, weight_decay=0.1)
    reference = torch.optim.AdamW([theirs], lr=0.01, betas=Adam.BETAS, eps=Adam.EPSILON, weight_decay=0.1)
    for _ in range(20):
        gradient = torch.randn(5, 3)
        adam.step(gradient)
        theirs.grad = gradient
        reference.step()
    torch.testing.assert_close(ours, theirs.detach())


def test_adam_by_rows_touches_only_those() -> None:
    weights = torch.ones(6, 2)
    adam = Adam(weights, 0.1)
    adam.step(torch.ones(2, 2), torch.tensor([1, 4]))
    assert (weights != 1).any(1).nonzero().ravel().tolist() == [1, 4]


def test_a_sampled_softmax_of_everything_is_the_full_softmax() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, table, bias = (torch.randn(*shape, generator=generator) for shape in ((7, 4), (30, 4), (30,)))
    targets = torch.arange(7)
    weight = torch.linspace(0.1, 0.7, 7)
    loss, *gradients = fused_sampled_softmax(hidden, table, bias, targets, weight, False, all_drawn(30, generator))
    full, *expected = fused_softmax(hidden, table, bias, targets, weight, half=False)
    assert loss == pytest.approx(full, rel=1e-4)
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def all_drawn(items: int, generator: torch.Generator) -> Drawn:
    chances = torch.full((items,), 1 / items)
    negatives = sample_negatives(chances, 5000, generator)
    assert negatives.tolist() == list(range(items))
    return Drawn(negatives, log_expected(chances, 5000))


@pytest.mark.parametrize("half", [False, True])
def test_a_sampled_softmax_has_the_gradients_of_autograd(half: bool) -> None:
    """Of few rows, some of them targets and drawn, others either."""
    generator = torch.Generator().manual_seed(3)
    leaves = [torch.randn(*shape, generator=generator).requires_grad_() for shape in ((9, 4), (30, 4), (30,))]
    hidden, table, bias = leaves
    targets, negatives = torch.arange(20, 29), torch.arange(0, 26, 2)
    weight, expected = torch.rand(9, generator=generator), torch.randn(30, generator=generator)
    positive = (hidden * table[targets]).sum(-1) + bias[targets] - expected[targets]
    contrast = hidden @ table[negatives].T + bias[negatives] - expected[negatives]
    contrast = contrast.masked_fill(negatives == targets[:, None], -1e9)
    logits, zero = torch.cat([positive[:, None], contrast], 1), torch.zeros(9, dtype=torch.int64)
    whole = torch.nn.functional.cross_entropy(logits, zero, reduction="none") @ weight
    states, rows, offset = (one.detach() for one in leaves)
    loss, *gradients = fused_sampled_softmax(states, rows, offset, targets, weight, half, Drawn(negatives, expected))
    assert loss == pytest.approx(float(whole.detach()), rel=0.02 if half else 1e-5)
    for found, one in zip(gradients, torch.autograd.grad(whole, leaves), strict=True):
        assert (found - one).norm() < one.norm() * (0.02 if half else 1e-5)


@pytest.mark.parametrize("half", [False, True])
def test_the_loss_of_what_is_turned_down_is_that_it_is_named(half: bool) -> None:
    """By hand, by torch's gradients, and sampled with everything drawn."""
    generator = torch.Generator().manual_seed(0)
    hidden, table, bias = (torch.randn(*shape, generator=generator) for shape in ((7, 4), (30, 4), (30,)))
    hidden[6], table[6] = 2.0, 2.0  # as good as sure, and turned down
    weight, targets = torch.tensor([0.1, -0.2, 0.1, -0.1, 0.0, 0.3, -0.2]), torch.arange(7)
    leaves = [one.clone().requires_grad_() for one in (hidden, table, bias)]
    chance = torch.softmax(leaves[0] @ leaves[1].T + leaves[2], -1)[targets, targets]
    expected = torch.where(weight < 0, -torch.log(1 - chance + LEAST), -torch.log(chance)) @ weight.abs()
    loss, *gradients = fused_softmax(hidden, table, bias, targets, weight, half)
    assert loss == pytest.approx(float(expected.detach()), rel=0.05 if half else 1e-4)
    for found, one in zip(gradients, torch.autograd.grad(expected, leaves, retain_graph=True), strict=True):
        assert (found - one).norm() < one.norm() * (0.05 if half else 1e-4)
    drawn = all_drawn(30, generator)
    sampled, *gradients = fused_sampled_softmax(hidden, table, bias, targets, weight, half, drawn)
    assert sampled == pytest.approx(float(expected.detach()), rel=0.05 if half else 1e-3)
    for found, one in zip(gradients, torch.autograd.grad(expected, leaves), strict=True):
        assert (found - one).norm() < one.norm() * (0.05 if half else 1e-3)


def test_a_free_row_is_never_a_negative() -> None:
    chances = torch.tensor([0.75, 0.0, 0.25, 0.0])
    negatives = sample_negatives(chances, 1000, torch.Generator().manual_seed(0))
    assert negatives.tolist() == [0, 2]


def steps(rows: list[int]) -> Steps:
    return Steps(rows, [1] * len(rows), [0.0] * len(rows), [0.1] * len(rows))


def test_replay_keeps_the_newest_and_a_sample_of_the_rest() -> None:
    buffer = ReplayBuffer(20, 4, seed=0)
    for n in range(200):
        buffer.add(f"u{n}", steps([n, n + 1, n + 2]))
    assert len(buffer) == 20
    owners = [int(user[1:]) for user in buffer.users if user is not None]
    assert set(range(190, 200)) <= set(owners)
    assert min(owners) < 150


def test_replayed_places_predict_the_step_that_follows() -> None:
    buffer = ReplayBuffer(8, 4, seed=0)
    for n in range(0, 80, 10):
        buffer.add("u", steps([n, n + 1, n + 2, n + 3, n + 4]))
    batch = buffer.draw(6, 100, {}, ModelConfig())
    assert batch is not None
    assert len(batch.target) == 6 * 3
    assert (batch.history[batch.row, batch.step] + 1 == batch.target).all()


def test_replayed_windows_with_a_forgotten_item_are_empty() -> None:
    buffer = ReplayBuffer(8, 4, seed=0)
    for n in range(4):
        buffer.add(f"u{n % 2}", steps([n, n + 10]))
    buffer.forget_items([10, 11, 12])
    assert buffer.lengths.tolist() == [0, 0, 0, 2, 0, 0, 0, 0]
    assert not buffer.history[:3].any()


def test_features_are_bounded_and_ignore_case_and_order_of_attributes() -> None:
    one = features_of({"title": "The Big Sleep", "attributes": {"year": 1946, "cast": ["x"], "studio": "WB"}})
    other = features_of({"title": "the big SLEEP", "attributes": {"studio": "wb", "year": 1946}})
    assert one == other
    assert len(features_of({"title": " ".join(f"word{n}" for n in range(300))})) == 32
    assert features_of({}) == []


def test_the_default_configuration_comes_back_from_json() -> None:
    config = ModelConfig()
    assert ModelConfig.model_validate_json(config.model_dump_json()) == config


def test_a_row_beyond_the_tables_is_an_error_and_not_somebody_elses_memory() -> None:
    memory = AssociationMemory(MemoryConfig(reach=3, symmetric=False, write_fade=1.0, read_fade=1.0, slots=4), 6)
    with pytest.raises(IndexError, match="beyond the tables"):
        memory.score(np.array([6]))


def test_a_model_smaller_than_two_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 128 are needed"):
        ModelConfig(max_items=100)
