"""What the ranker does not know of its last layer: a Gaussian about its weights, for Thompson sampling.

    precision = 1 / PRIOR^2 + sum over queries of sum_c p_c (h_c - mean h)(h_c - mean h)^T
    a draw of the last layer = its weights + factor @ normal numbers, factor @ factor^T = 1 / precision

Before: `network` knows the hidden units h (C, H) of a query's candidates, and their probabilities p. After: the factor
is published as one weight, and `drawn` says what each of a few fixed draws adds to scores. The sum is of the newest
queries (`YOUNG`), for hidden units change as they learn.

Source: Laplace's approximation, whose Hessian is the Fisher information of the softmax; Riquelme, Tucker and Snoek 2018
for the posterior of a last layer alone; Russo et al. 2018 for what is done with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.part import Changes, Input, Part
from models.ranker.bounds import MOST
from models.ranker.revision import added_to

__all__ = ["DRAWS", "POSTERIOR", "Posterior", "drawn"]

POSTERIOR = "ranker_posterior"
"""The published weight, (H, H) float32: the factor. A bundle of an earlier release has none."""

DRAWS = 64
"""Draws of the last layer, the same for every request: chances are multiples of one 64th."""

PRIOR = 1.0
"""How far from 0 a weight of the last layer is before any query, as a standard deviation."""

YOUNG = 10_000.0
"""The information is of about so many of the newest queries."""

Array = NDArray[np.float32]


class Posterior(Part):
    """The information that queries have given of the last layer, and the factor that follows from it."""

    def __init__(self, hidden: int) -> None:
        self.information = np.zeros((hidden, hidden))
        self.factor = np.zeros((hidden, hidden), np.float32)
        self.step()

    @np.errstate(over="ignore", invalid="ignore")
    def hear(self, hidden: Array, chance: Array) -> None:
        """It was seen which of these it is: their hidden units (C, H) and probabilities (C,)."""
        spread = hidden - chance @ hidden
        spread *= np.sqrt(chance)[:, None]
        more = spread.T @ spread
        if np.isfinite(more).all():
            self.information *= 1.0 - 1.0 / YOUNG
            self.information += more

    def step(self) -> None:
        """The factor follows from what was heard: the symmetric root, which no rounding keeps from being."""
        known, axes = np.linalg.eigh(self.information)
        self.factor[:] = (axes / np.sqrt(np.maximum(known, 0.0) + 1 / PRIOR**2)) @ axes.T
        self._stepped = True

    def inputs(self) -> dict[str, Input]:
        """The factor."""
        return {POSTERIOR: Input(np.float32, self.factor.shape)}

    def weights(self) -> dict[str, NDArray[Any]]:
        """The factor."""
        return {POSTERIOR: self.factor}

    def read(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Be what was published; a model of an earlier release says nothing of it."""
        self.factor = weights.get(POSTERIOR, self.factor)

    def take_changes(self) -> Changes:
        """The factor after a step."""
        dense, self._stepped = [POSTERIOR] if self._stepped else [], False
        return Changes(dense=dense)

    def state(self) -> dict[str, NDArray[Any]]:
        """Information and factor."""
        return {"ranker.information": self.information, "ranker.factor": self.factor}


def drawn(factor: Array, hidden: Array, scores: Array, share: np.float32, spread: float) -> Array:
    """What each draw adds to the revised scores of a query's candidates.

    Parameters
        factor: (H, H), the published weight.
        hidden: (C, H) units of the candidates.
        scores: (C,), the ranker's revision in them.
        share: how far the ranker is listened to: so far its draws are, too.
        spread: times the posterior's standard deviations; 1 is Thompson sampling by the book.

    Returns
        (DRAWS, C); as the ranker's own word, it leaves candidates together the probability that they had.
    """
    off = np.minimum(np.maximum((_normal(len(factor)) @ factor.T * np.float32(spread)) @ hidden.T, -MOST), MOST)
    off[~np.isfinite(off)] = 0
    return added_to(scores, off, share)


@cache
def _normal(hidden: int) -> Array:
    """(DRAWS, hidden): by the generator whose numbers numpy has promised never to change."""
    return np.random.RandomState(0).standard_normal((DRAWS, hidden)).astype(np.float32)
