"""What is added to a candidate's score: a small network of its facts, whose output starts at 0, and its share.

    added = share * (relu((facts - mean) * scale @ hidden + bias) @ output + (facts - mean) * scale @ linear)

Before: `facts`. After: `fusion` adds it. It learns by the softmax over a query's candidates, one step a block. The
share, 0 to 1, is learned from what the addition was worth on queries that it had not learned from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.experts.network import Network
from models.part import Changes, Input

__all__ = ["HIDDEN", "RankerNetwork"]

HIDDEN = 32
LEARNING_RATE = 3e-3

Array = NDArray[np.float32]


class RankerNetwork(Network):
    """The weights, and the running means that facts are standardised by."""

    label = "ranker"

    def __init__(self, facts: int) -> None:
        random = np.random.default_rng(0)  # the same for every seed of a learner
        bound = facts**-0.5
        start = {
            "ranker_hidden_weight": torch.from_numpy(random.uniform(-bound, bound, (facts, HIDDEN)).astype(np.float32)),
            "ranker_hidden_bias": torch.zeros(HIDDEN),
            "ranker_output_weight": torch.zeros(HIDDEN),
            "ranker_linear": torch.zeros(facts),
        }
        super().__init__(start, LEARNING_RATE)
        self.mean, self.scale = np.zeros(facts, np.float32), np.ones(facts, np.float32)
        self.share = np.ones(1, np.float32)

    def inputs(self) -> dict[str, Input]:
        """Weights, means and scales of facts, and the share."""
        facts = self.mean.shape
        more = {"ranker_mean": Input(np.float32, facts), "ranker_scale": Input(np.float32, facts)}
        return super().inputs() | more | {"ranker_share": Input(np.float32, (1,))}

    def weights(self) -> dict[str, Array]:
        """All of them by name."""
        more = {"ranker_mean": self.mean, "ranker_scale": self.scale, "ranker_share": self.share}
        return super().weights() | more

    def read(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Be the published weights; a model of an earlier release has none, and adds nothing."""
        if "ranker_mean" in weights:
            super().read(weights)
            self.mean, self.scale = weights["ranker_mean"], weights["ranker_scale"]
            self.share = weights["ranker_share"]

    def take_changes(self) -> Changes:
        """All of it after a step."""
        return Changes(dense=list(self.inputs()) if super().take_changes().dense else [])

    def said(self, facts: Array) -> Array:
        """What is to be added to the scores of candidates with these facts (C, F), before the share: (C,)."""
        return self.forward(facts)[2]

    def forward(self, facts: Array) -> tuple[Array, Array, Array]:
        """Standardised facts (C, F), hidden units (C, HIDDEN), and what is said (C,)."""
        weights = Network.weights(self)
        standard: Array = (facts - self.mean) * self.scale
        hidden: Array = standard @ weights["ranker_hidden_weight"] + weights["ranker_hidden_bias"]
        np.maximum(hidden, 0, out=hidden)
        said: Array = hidden @ weights["ranker_output_weight"] + standard @ weights["ranker_linear"]
        return standard, hidden, said
