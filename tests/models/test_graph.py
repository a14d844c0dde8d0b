"""The graph says what the learner says, in every corner, and a poisoned model is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from headwater.errors import BundleError
from headwater.examples import Entry
from models.config import MemoryConfig, ModelConfig
from models.experts.registry import Parts
from models.inputs import encode_histories
from models.learner import Learner
from models.published.bundle import Bundle
from models.published.graph import RUNTIME_INPUTS, build_graph, outputs_of
from models.published.onnx_runtime import onnxruntime
from models.published.opinions import said_by
from models.published.parity import check_parity, probe_histories, reference_scores
from models.published.ranker_graph import FACTS, build_ranker_graph
from tests.worlds.tastes import START_MS, parade, ring

SMALL = ModelConfig(
    width=8,
    length=12,
    block=8,
    initial_capacity=8,
    replay_windows=4,
    replay_capacity=32,
    memories=(
        MemoryConfig(reach=4, symmetric=False, write_fade=0.8, read_fade=0.7, slots=8),
        MemoryConfig(reach=12, symmetric=True, write_fade=0.9, read_fade=0.8, target_power=0.4, slots=8),
    ),
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def trained(**changes: object) -> Bundle:
    learner = Learner(SMALL.model_copy(update=changes), seed=0)
    learner.learn(parade(150))
    bundle = learner.publish(created_ms=0)
    assert isinstance(bundle, Bundle)
    return bundle


def run(bundle: Bundle, histories: list[list[Entry]]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(bundle.graph, providers=["CPUExecutionProvider"])
    now = [START_MS + 10_000_000] * len(histories)
    return said_by(session, bundle, outputs_of(bundle.config), histories, now)


def test_graph_and_learner_agree_over_short_long_empty_and_repeating_histories() -> None:
    bundle = trained()
    assert check_parity(bundle) < 1e-4
    pure = replace(bundle, graph=build_graph(SMALL, pure=True))
    assert check_parity(pure) < 1e-4, "which needs no loop beside it"
    asked = probe_histories(bundle)
    for name, found in run(bundle, asked).items():
        np.testing.assert_allclose(run(pure, asked)[name], found, rtol=1e-4, atol=1e-5, err_msg=name)


def test_graph_and_learner_agree_for_an_untrained_model() -> None:
    bundle = Learner(SMALL, seed=0).publish(created_ms=0)
    assert isinstance(bundle, Bundle)
    assert check_parity(bundle, [[], [Entry("unknown", "view", START_MS, 3.0)]]) == 0.0


def test_graph_and_learner_agree_after_expiry_left_free_rows() -> None:
    bundle = trained(expire_idle_events=20)
    assert None in bundle.items[: len(bundle.item_rows)]
    assert check_parity(bundle) < 1e-4
    scores = run(bundle, probe_histories(bundle))["scores"]
    free = [row for row, item in enumerate(bundle.items) if item is None]
    assert (scores[:, free] == np.float32(-1e30)).all()


def test_what_the_learner_ranked_is_what_the_graph_would_have_ranked() -> None:
    learner = Learner(SMALL.model_copy(update={"block": 1, "replay_windows": 0}), seed=0)
    learner.learn(ring(150))
    learner.parts.sequence.replay.draw(1, 1, {}, learner.config)
    for example in ring(160)[150:]:
        bundle = learner.publish(created_ms=0, full=True)
        assert isinstance(bundle, Bundle)
        (scored,) = learner.learn([example])
        if not scored.is_query:
            continue
        scores = reference_scores(bundle, [example.history], [example.target.time_ms])[0]
        seen = {entry.item_id for entry in example.history}
        target = scores[bundle.item_rows[example.target.item_id]]
        rivals = [scores[row] for item, row in bundle.item_rows.items() if item not in seen]
        assert scored.headwater == sum(score >= target for score in rivals)


def test_scores_are_the_sum_of_their_parts() -> None:
    bundle = trained()
    outputs = run(bundle, probe_histories(bundle))
    alive = [row for row, item in enumerate(bundle.items) if item is not None]
    parts = outputs["memory"] + outputs["slow"] + outputs["popularity_part"] + outputs["returns"]
    np.testing.assert_allclose(outputs["scores"][:, alive], parts[:, alive], rtol=1e-5, atol=1e-5)


def test_one_history_scores_alike_alone_and_in_a_batch() -> None:
    bundle = trained()
    histories = probe_histories(bundle)
    together = run(bundle, histories)["scores"]
    for history, expected in zip(histories, together, strict=True):
        np.testing.assert_allclose(run(bundle, [history])["scores"][0], expected, rtol=1e-4, atol=1e-4)


def test_returns_are_scored_bit_by_bit_alike_whoever_shares_the_batch() -> None:
    """Whatever multiple of 16 bytes a row of a batch begins at: 13 steps are none."""
    bundle = trained(length=13)
    bundle.weights["return_linear"] += np.random.default_rng(0).normal(size=bundle.weights["return_linear"].shape)
    owned = sorted(bundle.item_rows)
    histories = [
        [Entry(owned[(5 * b + i * i) % len(owned)], "click", START_MS + 777 * i * (b + 1), None) for i in range(4 + b)]
        for b in range(9)
    ]
    together = run(bundle, histories)["returns"]
    for history, expected in zip(histories, together, strict=True):
        np.testing.assert_array_equal(run(bundle, [history])["returns"][0], expected)


def test_equal_configurations_give_equal_graphs_and_the_inputs_are_the_weights_of_a_bundle() -> None:
    assert build_graph(SMALL) == build_graph(SMALL.model_copy())
    bundle = trained()
    pure = build_graph(SMALL, pure=True)
    session = onnxruntime.InferenceSession(pure, providers=["CPUExecutionProvider"])
    ranker = onnxruntime.InferenceSession(build_ranker_graph(heads=True), providers=["CPUExecutionProvider"])
    told = {"ranker_items", "ranker_alike", "ranker_landmark_ms"}  # read before its graph, and after it
    told |= {"ranker_share", "ranker_lift", "ranker_posterior", "ranker_head_share", "ranker_head_types"}
    told |= {"ranker_content", "ranker_numbers", "ranker_known", "ranker_names", "ranker_taste"}
    given = {one.name for one in (*session.get_inputs(), *ranker.get_inputs())}
    assert given | told == {*RUNTIME_INPUTS, FACTS, *bundle.weights}
    assert set(Parts(SMALL).inputs()) == set(bundle.weights)
    assert all(len(bundle.weights[name]) == bundle.capacity for name in bundle.tables)


@pytest.mark.parametrize("name", ["item_vectors", "gate_output_bias", "memory0_weights", "popularity"])
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_weight_that_is_not_finite_is_refused_before_publishing(name: str, poison: float) -> None:
    bundle = trained()
    bundle.weights[name].flat[0] = poison
    with pytest.raises(BundleError, match=f"of {name} are NaN"):
        check_parity(bundle)


def test_a_graph_that_differs_from_the_learner_is_refused() -> None:
    bundle = trained()
    other = SMALL.model_copy(
        update={"memories": (SMALL.memories[0], SMALL.memories[1].model_copy(update={"read_fade": 0.1}))}
    )
    bundle.graph = build_graph(other, pure=True)
    with pytest.raises(BundleError, match="differ by"):
        check_parity(bundle)


def test_only_the_newest_entries_and_known_items_are_read() -> None:
    long = [Entry(f"i{n % 3}", "view", START_MS + n * 1000, None) for n in range(40)]
    long[-2] = Entry("unknown", "view", START_MS + 38_000, None)
    arrays = encode_histories([long, []], [START_MS + 60_000] * 2, {"i0": 5, "i1": 6, "i2": 7}, ["view"], SMALL)
    assert arrays["lengths"].tolist() == [11, 0]
    assert arrays["history"][0].tolist() == [6, 7, 5, 6, 7, 5, 6, 7, 5, 6, 5, 0]
    assert set(arrays["types"][0].tolist()) == {0, 1}
    assert (arrays["gaps"][0, :11] > 0).all()
    assert arrays["since"][1] == 0


def test_serving_and_learning_read_a_history_alike() -> None:
    learner = Learner(SMALL, seed=0)
    examples = ring(100)
    learner.learn(examples[:97])
    pending = learner.pending[-1]
    example = examples[96]
    arrays = encode_histories(
        [example.history], [example.target.time_ms], learner.items.rows, list(learner.types), SMALL
    )
    n = int(arrays["lengths"][0])
    assert arrays["history"][0, :n].tolist() == pending.steps.rows
    assert arrays["gaps"][0, :n].tolist() == torch.tensor(pending.steps.gaps).tolist()
    assert float(arrays["since"][0]) == pytest.approx(pending.since)
