"""What the ranker adds is all attributed to its facts, and as the integral of its gradients says."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.ranker.attribution import attributed
from models.ranker.bounds import MOST, WIDEST

FACTS, HIDDEN = 7, 5
BY_HEAD = {0: np.float32(0.5), 2: np.float32(-1.5)}


def weights(seed: int) -> dict[str, np.ndarray[Any, Any]]:
    random = np.random.default_rng(seed)
    shapes = {"hidden_weight": (FACTS, HIDDEN), "hidden_bias": HIDDEN, "output_weight": HIDDEN, "linear": FACTS}
    shapes["heads"] = (3, HIDDEN + FACTS)
    made = {f"ranker_{name}": random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    made["ranker_mean"] = random.normal(size=FACTS).astype(np.float32)
    made["ranker_scale"] = random.uniform(0.5, 2.0, FACTS).astype(np.float32)
    return made | {"ranker_share": np.array([0.7], np.float32)}


def added(one: dict[str, np.ndarray[Any, Any]], facts: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    standard = np.clip((facts - one["ranker_mean"]) * one["ranker_scale"], -WIDEST, WIDEST)
    hidden = np.maximum(standard @ one["ranker_hidden_weight"] + one["ranker_hidden_bias"], 0)
    units = np.concatenate([hidden, standard], 1)
    heads = sum(by * np.clip(units @ one["ranker_heads"][head], -MOST, MOST) for head, by in BY_HEAD.items())
    return heads + 0.7 * np.clip(hidden @ one["ranker_output_weight"] + standard @ one["ranker_linear"], -MOST, MOST)


def test_all_that_the_ranker_adds_is_attributed_as_the_integral_of_its_gradients_says() -> None:
    one = weights(1)
    facts = one["ranker_mean"] + np.random.default_rng(2).uniform(-1.5, 1.5, (20, FACTS))  # within the bounds
    found = attributed(one, facts, BY_HEAD)
    np.testing.assert_allclose(found.facts.sum(1) + found.mean, added(one, facts), atol=1e-5)
    mean, steps = one["ranker_mean"].astype(np.float64), 400
    wanted, small = np.zeros_like(facts), 1e-6
    for step in range(steps):
        at = mean + (step + 0.5) / steps * (facts - mean)
        for fact in range(FACTS):
            moved = at.copy()
            moved[:, fact] += small
            wanted[:, fact] += (added(one, moved) - added(one, at)) / small / steps
    np.testing.assert_allclose(found.facts, wanted * (facts - mean), atol=3e-2)


def test_what_is_cut_off_at_the_bounds_is_attributed_to_nothing() -> None:
    one, facts = weights(4), np.random.default_rng(5).normal(size=(50, FACTS)) * 20
    found = attributed(one, facts, BY_HEAD)
    np.testing.assert_allclose(found.facts.sum(1) + found.mean, added(one, facts), atol=1e-5)
    assert np.abs(added(one, facts)).max() > 2 * MOST


def test_a_mean_candidate_owes_nothing_to_its_facts_and_an_untrained_ranker_says_nothing() -> None:
    one = weights(3)
    assert not attributed(one, one["ranker_mean"][None], BY_HEAD).facts.any()
    young = one | {"ranker_output_weight": np.zeros(HIDDEN), "ranker_linear": np.zeros(FACTS)}
    found = attributed(young, np.ones((3, FACTS)))
    assert not found.facts.any()
    assert found.mean == 0.0
