"""Gate: how much to trust each expert, given what is known of the user.

Before: `fusion` has the experts' scores. After: it adds them up with these weights, and says how they should have been;
`graph` computes the same. Knows a few context numbers, not items, users or scores.

    fused[j] = sum_k w_k(context) * sqrt(memory_k[j] / max memory_k)
             + w_slow(context) * logit[j] + sum_p w_p(context) * log pop_p[j]
    fused[j] = fused[j] / 2 + w_returns(context) + return[j] for an item of the history

A log-linear pool (product of experts) with context-dependent weights, trained online by softmax cross-entropy on the
same stream. The square root measured .1166 where the plain value had .1155 and its logarithm .1152 (docs/lab-book.md).

A network this small is trained by hand: `learn` is the chain rule for one tanh layer. Its gradient at the outputs costs
one dot product per expert and query, where autograd would keep every expert's score of every item.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from models.config import ModelConfig
from models.sequence.optimizer import Adam

__all__ = ["CONTEXT", "Gate", "context_of", "gate_shapes", "outputs_of"]

CONTEXT = 4
"""Context numbers per query."""

Array = NDArray[np.float32]


def context_of(length: Array, since: Array) -> Array:
    """Context (B, 4) float32 from `lengths` and `since`, (B,) float32 each, as `inputs` gives them."""
    return np.stack([np.log1p(length) / 4, np.exp(-length / 4), since, np.exp(-since * 5)], -1).astype(np.float32)


def outputs_of(config: ModelConfig) -> dict[str, slice]:
    """Which outputs are whose: memories, slow, popularity (one per half-life), returns."""
    memories, reaches = len(config.memories), len(config.popularity_half_lives_days)
    return {
        "memory": slice(0, memories),
        "slow": slice(memories, memories + 1),
        "popularity": slice(memories + 1, memories + 1 + reaches),
        "returns": slice(memories + 1 + reaches, memories + 2 + reaches),
    }


def gate_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the gate's weights; `outputs_of` says what the outputs are."""
    outputs = outputs_of(config)["returns"].stop
    return {
        "gate_hidden_weight": (config.gate_hidden, CONTEXT),
        "gate_hidden_bias": (config.gate_hidden,),
        "gate_output_weight": (outputs, config.gate_hidden),
        "gate_output_bias": (outputs,),
    }


START = {"memory": 3.0, "slow": 0.5, "popularity": 0.2, "returns": 0.0}
"""What the experts' weights start from; that of popularity is shared by its half-lives. A memory that fades by time
starts from nothing: whether now differs from always is for the stream to say."""


class Gate:
    """A one-hidden-layer network from context to weights, with its moments. On the CPU wherever the encoder is."""

    def __init__(self, config: ModelConfig, generator: torch.Generator) -> None:
        self.config = config
        self.shapes = gate_shapes(config)
        self.sizes = [int(np.prod(shape)) for shape in self.shapes.values()]
        start = {name: torch.zeros(shape) for name, shape in self.shapes.items()}
        start["gate_hidden_weight"].uniform_(-0.5, 0.5, generator=generator)
        if config.learned_gate:
            start["gate_output_weight"].uniform_(-0.02, 0.02, generator=generator)
        for expert, outputs in outputs_of(config).items():
            share = outputs.stop - outputs.start if expert == "popularity" else 1
            start["gate_output_bias"][outputs] = START[expert] / share
        for k, memory in enumerate(config.memories):
            if memory.half_life_hours:
                start["gate_output_bias"][k] = 0.0
        self.flat = torch.cat([part.ravel() for part in start.values()])
        self.adam = Adam(self.flat, config.gate_learning_rate)

    def weights(self) -> dict[str, Array]:
        """The gate's weights by name, as views of the flat vector."""
        pieces = torch.split(self.flat, self.sizes)
        return {
            name: piece.view(shape).numpy() for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)
        }

    @staticmethod
    def trust(weights: dict[str, Array], context: Array) -> Array:
        """Weights of the experts, (Q, outputs)."""
        hidden = np.tanh(context @ weights["gate_hidden_weight"].T + weights["gate_hidden_bias"])
        trust: Array = hidden @ weights["gate_output_weight"].T + weights["gate_output_bias"]
        return trust

    def learn(self, context: Array, gradient: Array) -> None:
        """One step down the loss, given its gradient (Q, outputs) at what `trust` said of these contexts (Q, 4)."""
        if not self.config.learned_gate:
            return
        weights = self.weights()
        hidden = np.tanh(context @ weights["gate_hidden_weight"].T + weights["gate_hidden_bias"])  # (Q, hidden)
        inner = gradient @ weights["gate_output_weight"] * (1 - hidden * hidden)
        parts = {
            "gate_hidden_weight": inner.T @ context,
            "gate_hidden_bias": inner.sum(0),
            "gate_output_weight": gradient.T @ hidden,
            "gate_output_bias": gradient.sum(0),
        }
        flat = np.concatenate([parts[name].ravel() for name in self.shapes]).astype(np.float32)
        self.adam.step(torch.from_numpy(flat))
