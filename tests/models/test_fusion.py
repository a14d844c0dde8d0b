"""The gradients that are written by hand are those of the loss, and every query is scored as of its own moment."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from models.block import batch_of, sequences_of
from models.experts.fusion import fuse
from models.experts.fusion_loops import best_rows
from models.experts.gate import Gate
from models.experts.repeats import Returns
from models.learner import Learner
from models.quality import Scored
from tests.models.test_learner import SMALL
from tests.worlds.tastes import parade


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def learner() -> Learner:
    """One whose block is nearly full; users come back to items, and items are new within the block."""
    config = SMALL.model_copy(update={"exclude_seen": (), "type_weights": {"view": 2.0}})
    learner = Learner(config, seed=0)
    learner.learn(parade(16 * 20 + 15))
    assert len(learner.pending) == 15
    return learner


def fused(
    learner: Learner, gate: Gate, returns: Returns, list_length: int = 0
) -> tuple[list[Scored], list[np.ndarray]]:
    sequences, places = sequences_of(learner.pending, learner.types, learner.config)
    logits = learner.encoder.score(batch_of(learner.pending, sequences, places, learner.config), learner.items.used)
    place_of = {place[0]: i for i, place in enumerate(places)}
    return fuse(learner.pending, logits, place_of, learner.popularity, learner.items.used, gate, returns, list_length)


def moved(part: Gate | Returns, name: str, index: int, by: float) -> Gate | Returns:
    other = copy.deepcopy(part)
    other.weights()[name].flat[index] += by
    return other


def test_gate_and_returns_step_against_the_gradient_of_the_loss(learner: Learner) -> None:
    """Adam's first moment after one step is a tenth of the gradient; finite differences say what that should be."""

    def loss(gate: Gate, returns: Returns) -> float:
        scored, _ = fused(learner, copy.deepcopy(gate), copy.deepcopy(returns))
        return float(np.mean([one.loss for one in scored if one.is_query]))

    for part, names in (
        (learner.gate, list(learner.gate.shapes)),
        (learner.returns, list(learner.returns.shapes)),
    ):
        after = [copy.deepcopy(learner.gate), copy.deepcopy(learner.returns)]
        at = 0 if part is learner.gate else 1
        after[at].adam.first.zero_()
        fused(learner, *after)
        gradient = after[at].adam.first / 0.1
        begin = 0
        for name in names:
            size = int(np.prod(part.shapes[name]))
            found = gradient[begin : begin + size]
            begin += size
            for index in found.abs().topk(min(size, 3)).indices.tolist():
                sides = []
                for by in (-2e-2, 2e-2):
                    parts = [learner.gate, learner.returns]
                    parts[at] = moved(part, name, index, by)
                    sides.append(loss(*parts))
                assert (sides[1] - sides[0]) / 4e-2 == pytest.approx(float(found[index]), abs=2e-3, rel=0.05), name


def test_what_a_block_learns_later_is_not_known_to_its_earlier_queries(learner: Learner) -> None:
    whole, _ = fused(learner, copy.deepcopy(learner.gate), copy.deepcopy(learner.returns))
    earlier = Learner(learner.config, seed=0)
    earlier.learn(parade(16 * 20 + 8))
    part, _ = fused(earlier, copy.deepcopy(earlier.gate), copy.deepcopy(earlier.returns))
    assert len(part) == 8
    for one, other in zip(whole[:8], part, strict=True):
        assert one[:5] == other[:5]
        assert one.loss == pytest.approx(other.loss, rel=1e-5)


def test_the_best_rows_are_in_order_and_never_closed_ones() -> None:
    scores = np.array([1.0, 5.0, -np.inf, 5.0, 2.0], np.float32)
    assert best_rows(scores, 3).tolist() == [1, 3, 4]
    assert best_rows(scores, 10).tolist() == [1, 3, 4, 0]
    many = np.random.default_rng(0).permutation(1000).astype(np.float32)
    assert many[best_rows(many, 4)].tolist() == [999, 998, 997, 996]
