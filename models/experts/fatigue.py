"""Fatigue: an item that a user was shown again and again without a reaction loses rank.

What it adds to an item's score is linear in `showings` (how often, how long ago), from weights that start at 0. They
are learned as a part of the click model (`models.shown`), beside all else that says whether what is shown is reacted
to: so an item that nobody wants does not pass for one that somebody is tired of. Log-odds of a reaction there, log-odds
of being next here. What was never shown keeps its score, bit by bit. Knows rows, not item ids.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from models.block import Block
from models.experts.expert import Reviser
from models.experts.network import Network
from models.onnx_nodes import Nodes
from models.shown.showings import FACTS, Tired

__all__ = ["Fatigue"]

LEARNING_RATE = 1e-2
"""Adam step size."""

Array = NDArray[np.float32]


class Fatigue(Network, Reviser):
    """One weight for each of the facts."""

    name = label = "fatigue"
    part = "fatigue"
    trusts = 0

    def __init__(self) -> None:
        super().__init__({"fatigue_weight": torch.zeros(FACTS)}, LEARNING_RATE)
        self._asked: list[Tired | None] = []

    def start(self) -> list[float]:
        """The gate has no say: what is learned is on the scale of the scores."""
        return []

    def ask(self, block: Block) -> None:
        """What the users of all queries were shown."""
        self._asked = [one.tired for one in block.asked]

    def revise(self, q: int, trust: np.float32, scores: Array) -> None:
        """Add to the scores of what was shown before."""
        tired = self._asked[q]
        if tired is not None:
            scores[tired.rows] += self.said(np.array(tired.facts, np.float32))

    def said(self, facts: Array) -> Array:
        """What facts (..., FACTS) add, (...)."""
        said: Array = (facts * self.weights()["fatigue_weight"]).sum(-1)
        return said

    def revision(self, add: Nodes, trust: str, others: Callable[[], str]) -> tuple[str, str]:
        """What is added at the rows that were shown."""
        return "tired_rows", add.total(add("Mul", "tired_facts", "fatigue_weight"), FACTS)  # (B, S)
