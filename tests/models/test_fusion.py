"""The gradients that are written by hand are those of the loss, and every query is scored as of its own moment."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from models.block import block_of
from models.experts.fusion import fuse
from models.experts.gate import Gate
from models.experts.registry import Parts
from models.experts.repeats import Repeats
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


def fused(learner: Learner, parts: Parts) -> list[Scored]:
    """The open block, scored; only the gate and the repeats of `parts` take a step."""
    block = block_of(learner.pending, learner.items.used, learner.types, np.zeros(0), learner.config)
    for expert in parts.listeners:
        expert.ask(block)
    return fuse(parts, block)[0]


def test_gate_and_repeats_step_against_the_gradient_of_the_loss(learner: Learner) -> None:
    """Adam's first moment after one step is a tenth of the gradient; finite differences say what that should be."""

    def loss(parts: Parts) -> float:
        return float(np.mean([one.loss for one in fused(learner, copy.deepcopy(parts)) if one.is_query]))

    for name in ("gate", "repeats"):
        after = copy.deepcopy(learner.parts)
        part: Gate | Repeats = getattr(after, name)
        part.adam.first.zero_()
        fused(learner, after)
        gradient, begin = part.adam.first / 0.1, 0
        for weight, shape in part.shapes.items():
            size = int(np.prod(shape))
            found = gradient[begin : begin + size]
            begin += size
            for index in found.abs().topk(min(size, 3)).indices.tolist():
                sides = []
                for by in (-2e-2, 2e-2):
                    moved = copy.deepcopy(learner.parts)
                    getattr(moved, name).weights()[weight].flat[index] += by
                    sides.append(loss(moved))
                assert (sides[1] - sides[0]) / 4e-2 == pytest.approx(float(found[index]), abs=2e-3, rel=0.05), weight


def test_what_a_block_learns_later_is_not_known_to_its_earlier_queries(learner: Learner) -> None:
    whole = fused(learner, copy.deepcopy(learner.parts))
    earlier = Learner(learner.config, seed=0)
    earlier.learn(parade(16 * 20 + 8))
    part = fused(earlier, copy.deepcopy(earlier.parts))
    assert len(part) == 8
    for one, other in zip(whole[:8], part, strict=True):
        assert one[:5] == other[:5]
        assert one.loss == pytest.approx(other.loss, rel=1e-5)
