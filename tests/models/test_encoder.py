"""The sequence encoder's parts: weights of targets, the fused softmax, rehearsal over a history."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.nn import functional

from headwater.examples import Entry
from models.checks import check_learner
from models.config import ModelConfig
from models.content import Content
from models.inputs import Steps, encode_entries, event_weight, step_weights
from models.learner import Learner
from models.sequence.encoder import Encoder
from models.sequence.history import History
from models.sequence.losses import fused_softmax
from models.sequence.recurrent import recurrent_states
from models.sequence.rehearsal import Plan, Rehearsal
from models.sequence.replay_buffer import ReplayBuffer
from tests.worlds.tastes import ring

CONFIG = ModelConfig(type_weights={"purchase": 5.0, "view": 0.5}, value_weight=2.0)


def test_a_step_weighs_what_its_event_weighs() -> None:
    entries = [Entry("a", "view", 1, None), Entry("a", "purchase", 2, 19.5), Entry("a", "rating", 3, -4.0)]
    index = {"purchase": 1, "view": 2}
    steps = encode_entries(entries, {"a": 0}, index, CONFIG)
    encoded = step_weights(np.array(steps.types), np.array(steps.values, np.float32), index, CONFIG)
    assert np.allclose(encoded, [event_weight(e.type, e.value, CONFIG) for e in entries], rtol=1e-5)
    assert event_weight("view", None, ModelConfig()) == 1.0


def test_replayed_places_carry_the_weights_of_their_targets() -> None:
    buffer = ReplayBuffer(8, 4, seed=0)
    buffer.add("u", Steps([1, 2, 3], [0, 1, 2], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]))
    batch = buffer.draw(1, 10, {"purchase": 1, "view": 2}, CONFIG)
    assert batch is not None
    assert dict(zip(batch.target.tolist(), batch.weight.tolist(), strict=True)) == {2: 5.0, 3: 0.5}


def test_the_fused_softmax_has_the_gradients_of_autograd() -> None:
    generator = torch.Generator().manual_seed(1)
    hidden, table, bias = (
        torch.randn(shape, generator=generator).requires_grad_() for shape in ((700, 8), (50, 8), (50,))
    )
    targets = torch.randint(50, (700,), generator=generator)
    weight = torch.rand(700, generator=generator)
    weight /= weight.sum()
    logits = functional.linear(hidden, table, bias)
    loss = (functional.cross_entropy(logits, targets, reduction="none") * weight).sum()
    expected = torch.autograd.grad(loss, [hidden, table, bias])
    found, *gradients = fused_softmax(hidden, table, bias, targets, weight, half=False)
    assert abs(found - float(loss.detach())) < 1e-5
    for one, other in zip(gradients, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("half", [False, True])
def test_the_recurrent_unit_and_its_gradients_are_torchs(half: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = ((5, 7, 16), (48, 16), (48, 16), (48,), (48,))
    x, *weights = (torch.randn(shape, generator=generator).requires_grad_() for shape in shapes)
    unit = torch.nn.GRU(16, 16, batch_first=True)
    for (name, _), weight in zip(list(unit.named_parameters()), weights, strict=True):
        setattr(unit, name, torch.nn.Parameter(weight.detach()))
    theirs, at = unit(x)[0], torch.randn((5, 7, 16), generator=generator)
    ours = recurrent_states(x, (weights[0], weights[1], weights[2], weights[3]), half)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        assert torch.equal(recurrent_states(x, (weights[0], weights[1], weights[2], weights[3]), half), ours)
    expected = torch.autograd.grad((theirs * at).sum(), [x, *unit.parameters()])
    for found, one in zip(torch.autograd.grad((ours * at).sum(), [x, *weights]), expected, strict=True):
        assert (found - one).norm() < one.norm() * (0.01 if half else 1e-5)


def test_gates_of_any_input_stay_within_their_bounds() -> None:
    x = torch.tensor([[[1e30], [-1e30], [300.0], [-300.0], [1e-30], [0.0]]])
    weights = torch.ones(3, 1), torch.ones(3, 1), torch.zeros(3), torch.zeros(3)
    states = recurrent_states(x, weights, False)
    assert states.isfinite().all()
    assert (states.abs() <= 1).all()


def circle(users: int, steps: int, items: int) -> History:
    """Every user goes around a circle of items, each from another place."""
    rows = (np.arange(users)[:, None] + np.arange(steps)[None]) % items
    size = users * steps
    zeros = np.zeros(size, np.float32)
    return History(
        rows.ravel().astype(np.int32),
        np.ones(size, np.int16),
        zeros,
        zeros,
        np.ones(size, np.float32),
        np.arange(0, size + 1, steps),
    )


def rehearsal(history: History, plan: Plan, items: int) -> Rehearsal:
    config = ModelConfig(length=32, width=16, dropout=0.1, state_dropout=0.1)
    encoder = Encoder(config, items, torch.Generator().manual_seed(0))
    for row in range(items):
        encoder.start_row(row, None)
    return Rehearsal(encoder, history, np.bincount(history.rows, minlength=items).astype(float), plan)


def test_a_rehearsal_learns_what_follows_what() -> None:
    history = circle(users=40, steps=45, items=12)
    one = rehearsal(history, Plan(epochs=8, batch_steps=200, learning_rate=1e-2, table_learning_rate=2e-2), 12)
    while not one.done:
        one.step()
    assert one.losses[-1] < 0.5 < 2.0 < one.losses[0]
    batch = history.batch(np.array([0]), np.array([10]))
    assert (one.encoder.score(batch, 12).argmax(1) == batch.target).all()


def test_every_step_is_predicted_once_an_epoch_and_cuts_move() -> None:
    history = circle(users=7, steps=75, items=12)
    one = rehearsal(history, Plan(batch_steps=80), 12)
    cuts = []
    for epoch in range(2):
        one.epoch = epoch
        one.batches()
        places = np.concatenate(
            [np.arange(f, e) for first, last in one._batches for f, e in zip(first, last, strict=True)]
        )
        expected = np.setdiff1d(np.arange(7 * 75), history.starts[1:] - 1)
        assert np.array_equal(np.sort(places), expected)
        assert all(len(first) * (last - first).max() <= 80 for first, last in one._batches)
        cuts.append(sorted(f for first, _ in one._batches for f in first))
    assert cuts[0] != cuts[1]


def test_a_rehearsal_that_was_interrupted_goes_on_as_if_it_had_not_been() -> None:
    history = circle(users=20, steps=25, items=12)
    whole, half = (rehearsal(history, Plan(epochs=3, batch_steps=100), 12) for _ in range(2))
    while not whole.done:
        whole.step()
    for _ in range(7):
        half.step()
    rest = rehearsal(history, Plan(epochs=99), 12)
    before, after = half.encoder, rest.encoder
    after.table.copy_(before.table)
    after.bias.copy_(before.bias)
    after.dense.copy_(before.dense)
    for mine, other in zip(
        (after.table_adam, after.bias_adam, after.dense_adam),
        (before.table_adam, before.bias_adam, before.dense_adam),
        strict=True,
    ):
        mine.first.copy_(other.first)
        mine.second.copy_(other.second)
        mine.steps = other.steps
    after.generator.set_state(before.generator.get_state())
    rest.load(half.state())
    while not rest.done:
        rest.step()
    assert torch.equal(rest.encoder.table, whole.encoder.table)
    assert torch.equal(rest.encoder.dense, whole.encoder.dense)
    assert rest.losses == whole.losses


def test_the_attention_encoder_keeps_the_learners_contract() -> None:
    config = ModelConfig(
        encoder="attention", width=16, attention_heads=2, length=32, block=32, replay_windows=4, initial_capacity=32
    )
    check_learner(lambda: Learner(config, seed=3), ring(200))


def test_attention_sees_no_future_and_no_neighbour_in_the_batch() -> None:
    config = ModelConfig(encoder="attention", width=16, length=32)
    encoder = Encoder(config, 12, torch.Generator().manual_seed(0))
    for row in range(12):
        encoder.start_row(row, None)
    for name, part in encoder.weights().items():
        if name.endswith(("place_bias", "time_bias")):
            part.copy_(torch.randn(part.shape, generator=encoder.generator))
    history = circle(users=3, steps=40, items=12)
    long, short = np.array([0, 40, 80]), np.array([33, 60, 110])  # one step more than the model is asked to read
    whole = encoder.score(history.batch(long, short), 12).copy()  # the next call writes there
    cut = encoder.score(history.batch(long[:1], np.array([9])), 12)
    assert np.allclose(whole[:9], cut, atol=1e-5)


def test_a_new_row_starts_from_the_rows_that_share_its_rarest_features() -> None:
    content = Content(limit=100)
    for row, words in enumerate(("drama war", "drama love", "drama war epic", "drama")):
        content.observe(f"i{row}", {"title": words}, row)
    vectors = np.eye(4, dtype=np.float32)
    mean = content.similar_mean(content.likes(2, 4), vectors)
    assert mean is not None
    assert np.allclose(mean, [4 / 6, 1 / 6, 0, 1 / 6])  # war: 1; drama: 1/3 each
    content.set_row(0, None)
    mean = content.similar_mean(content.likes(2, 4), vectors)
    assert mean is not None
    assert np.allclose(mean, [0, 0.5, 0, 0.5])
    content.observe("i3", None, 3)
    assert content.similar_mean(content.likes(3, 4), vectors) is None
    assert sorted(map(len, content.holders.values())) == [1, 1, 1, 2]


def test_a_feature_that_everybody_has_is_not_walked_through_for_each_new_row(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unwalked(set[int]):
        def __iter__(self) -> Iterator[int]:
            raise AssertionError("all of the catalogue was walked through")

    monkeypatch.setattr("models.content.LOOKED_AT", 3)
    content = Content(16)
    for row in range(8):
        content.observe(f"{row}", {"item_id": f"{row}", "title": "film", "categories": [f"shelf-{row % 3}"]}, row)
    expected = content.likes(7, 8)
    everywhere = max(content.holders, key=lambda feature: len(content.holders[feature]))
    content.holders[everywhere] = Unwalked(content.holders[everywhere])
    (found,), (before,) = content.likes(7, 8), expected
    np.testing.assert_array_equal(found[0], before[0])
    assert found[0].tolist() == [1, 4]
