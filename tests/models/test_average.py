"""What scores is a running mean of the weights: of a row's own steps, and the weights themselves once they rest."""

from __future__ import annotations

import numpy as np
import torch

from models.config import ModelConfig
from models.learner import Learner
from models.sequence.averages import Averages
from models.sequence.rehearsal import Plan
from tests.models.test_encoder import circle, rehearsal
from tests.worlds.tastes import ring

WIDTH = 3


def zeros(rows: int, keep: float) -> Averages:
    return Averages(torch.zeros(rows, WIDTH), torch.zeros(rows), torch.zeros(5), keep)


def ones(rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.ones(rows, WIDTH), torch.ones(rows), torch.ones(5)


def test_a_mean_keeps_its_share_and_a_young_row_takes_more() -> None:
    means = zeros(3, keep=0.9)
    means.taken[0] = 10_000
    means.follow(*ones(3), 2, step=1)
    assert torch.allclose(means.table[:, 0], torch.tensor([0.1, 0.9, 0.0]))  # the last row took no step
    assert torch.allclose(means.bias, means.table[:, 0])
    assert torch.allclose(means.dense, torch.full((5,), 1 - 2 / 11))


def test_a_row_that_waited_between_its_steps_forgets_as_if_it_had_not() -> None:
    means = zeros(2, keep=0.9)
    means.taken[:] = 10_000
    means.last[:] = torch.tensor([19, 10])
    means.follow(*ones(2), torch.tensor([0, 1]), step=20)
    assert torch.allclose(means.bias, torch.tensor([0.1, 1 - 0.9**10]))


def test_without_a_share_to_keep_the_newest_weights_score() -> None:
    learner = Learner(ModelConfig(average=0.0, width=16, block=16), seed=0)
    learner.learn(ring(100))
    encoder = learner.parts.sequence.encoder
    assert torch.equal(encoder.averages.table, encoder.table)
    assert torch.equal(encoder.averages.dense, encoder.dense)


def test_what_is_published_is_the_mean() -> None:
    learner = Learner(ModelConfig(width=16, block=16), seed=0)
    learner.learn(ring(100))
    means, used = learner.parts.sequence.encoder.averages, learner.items.used
    means.gain[0] = 1.0
    assert not torch.equal(means.table[:used], learner.parts.sequence.encoder.table[:used])
    weights = learner.parts.sequence.weights()
    assert np.array_equal(weights["item_vectors"], means.table.numpy())
    assert np.array_equal(weights["item_bias"], means.bias.numpy())
    assert np.array_equal(
        weights["output_bias"], learner.parts.sequence.encoder.weights(means.dense)["output_bias"].numpy()
    )


def test_after_a_rehearsal_the_weights_as_they_came_to_rest_score() -> None:
    one = rehearsal(circle(users=20, steps=25, items=12), Plan(epochs=2, batch_steps=100), 12)
    start = one.encoder.averages.table.clone()
    one.step()
    assert torch.equal(one.encoder.averages.table, start)
    one.encoder.touched[:] = False
    while not one.done:
        one.step()
    assert torch.equal(one.encoder.averages.table, one.encoder.table)
    assert torch.equal(one.encoder.averages.dense, one.encoder.dense)
    assert one.encoder.touched.all()


def test_the_newest_weights_score_while_the_means_lag_behind() -> None:
    learner = Learner(ModelConfig(width=16, block=16), seed=0)
    learner.learn(ring(100))
    encoder = learner.parts.sequence.encoder
    encoder.averages.gain[0] = 1.0
    assert not encoder.averages.judge(0.5)
    assert encoder.averages.judge(-90.0)
    assert np.array_equal(learner.parts.sequence.weights()["item_vectors"], encoder.table.numpy())
