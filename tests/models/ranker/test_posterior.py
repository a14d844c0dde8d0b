"""What the ranker does not know: the posterior against the loss that it is of, and its draws."""

from __future__ import annotations

import numpy as np

from models.ranker.posterior import DRAWS, POSTERIOR, PRIOR, Posterior, drawn

HIDDEN = 4
RANDOM = np.random.default_rng(0)
QUERIES = [np.maximum(RANDOM.normal(size=(9, HIDDEN)), 0).astype(np.float32) for _ in range(5)]
ODDS = RANDOM.normal(size=9)


def loss(output: np.ndarray) -> float:
    """Of the queries' softmax, as far as it bends, and of the prior."""
    found = [np.log(np.exp(ODDS + one.astype(np.float64) @ output).sum()) for one in QUERIES]
    return float(sum(found) + (output**2).sum() / (2 * PRIOR**2))


def test_the_posterior_is_the_inverse_of_the_losss_second_derivative() -> None:
    posterior, output = Posterior(HIDDEN), RANDOM.normal(size=HIDDEN) / 2
    for one in QUERIES:
        chance = np.exp(ODDS + one @ output)
        posterior.hear(one, (chance / chance.sum()).astype(np.float32))
    posterior.step()
    step, axes = 1e-3, np.eye(HIDDEN) * 1e-3
    bends = [
        [(loss(output + a + b) - loss(output + a) - loss(output + b) + loss(output)) / step**2 for a in axes]
        for b in axes
    ]
    factor = posterior.weights()[POSTERIOR].astype(np.float64)
    np.testing.assert_allclose(np.linalg.inv(factor @ factor.T), bends, rtol=2e-2, atol=2e-2)


def test_it_stays_young_and_whatever_is_heard_it_is_a_number() -> None:
    posterior, chance = Posterior(HIDDEN), np.full(9, 1 / 9, np.float32)
    for one in (QUERIES[0], QUERIES[0] * np.float32(1e30), np.full_like(QUERIES[0], np.nan)):
        posterior.hear(one, chance)
    heard = posterior.information.copy()
    posterior.hear(np.zeros_like(QUERIES[0]), chance)
    assert 0 < posterior.information.trace() < heard.trace()
    posterior.information[:] = np.diag([1e30, 1e-30, -1e-9, 0.0])
    posterior.step()
    assert np.isfinite(posterior.weights()[POSTERIOR]).all()


def test_draws_spread_as_the_posterior_says_and_leave_candidates_together_what_they_had() -> None:
    scores, factor = ODDS.astype(np.float32), np.diag([0.5, 0.1, 0.0, 0.0]).astype(np.float32)
    found = drawn(factor, np.eye(9, HIDDEN, dtype=np.float32), scores, np.float32(1), 1.0)
    assert found.shape == (DRAWS, 9)
    np.testing.assert_allclose(np.exp(scores + found).sum(axis=1), np.exp(scores).sum(), rtol=1e-5)
    np.testing.assert_allclose(np.std(found - found[:, 8:], axis=0)[:4], [0.5, 0.1, 0, 0], rtol=0.2, atol=1e-6)
    for share, spread in ((0, 1.0), (1, 0.0)):
        found = drawn(factor, np.eye(9, HIDDEN, dtype=np.float32), scores, np.float32(share), spread)
        assert np.abs(found).max() < 1e-6
