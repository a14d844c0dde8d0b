"""Gate: how much to trust each expert, given what is known of the user.

Before: `fusion` has the experts' opinions. After: it adds them up with these weights, and says how they should have
been. Knows a few context numbers, not items, users or scores.

A log-linear pool (product of experts) with context-dependent weights, trained online by softmax cross-entropy on the
same stream.

A network this small is trained by hand: `learn` is the chain rule for one tanh layer. Its gradient at the outputs costs
one dot product per expert and query, where autograd would keep every expert's score of every item.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from models.config import ModelConfig
from models.experts.expert import Expert
from models.experts.network import Network
from models.onnx_nodes import Nodes

__all__ = ["Gate", "context_of"]

CONTEXT = 4
"""Context numbers per query."""

Array = NDArray[np.float32]


def context_of(length: Array, since: Array) -> Array:
    """Context (B, 4) float32 from `lengths` and `since`, (B,) float32 each, as `inputs` gives them."""
    return np.stack([np.log1p(length) / 4, np.exp(-length / 4), since, np.exp(-since * 5)], -1).astype(np.float32)


class Gate(Network):
    """A one-hidden-layer network from context to weights.

    `experts` say how many weights each of them needs and what these start from, in their order.
    """

    label = "gate"

    def __init__(self, config: ModelConfig, experts: Sequence[Expert], generator: torch.Generator) -> None:
        self.learned, hidden = config.learned_gate, config.gate_hidden
        biases = [one for expert in experts for one in expert.start()]
        shapes: dict[str, tuple[int, ...]] = {
            "gate_hidden_weight": (hidden, CONTEXT),
            "gate_hidden_bias": (hidden,),
            "gate_output_weight": (len(biases), hidden),
            "gate_output_bias": (len(biases),),
            "gate_fresh": (hidden,),
        }
        start = {name: torch.zeros(shape) for name, shape in shapes.items()}
        start["gate_hidden_weight"].uniform_(-0.5, 0.5, generator=generator)
        if self.learned:
            start["gate_output_weight"].uniform_(-0.02, 0.02, generator=generator)
        start["gate_output_bias"][:] = torch.tensor(biases)
        super().__init__(start, config.gate_learning_rate)

    def _hidden(self, weights: dict[str, Array], context: Array, fresh: Array) -> Array:
        before = context @ weights["gate_hidden_weight"].T + weights["gate_hidden_bias"]
        if fresh.any():
            before += fresh[:, None] * weights["gate_fresh"]
        hidden: Array = np.tanh(before)
        return hidden

    def trust(self, context: Array, fresh: Array) -> Array:
        """Weights of the experts' opinions, (Q, outputs), of contexts (Q, 4), and where a session starts, (Q,)."""
        weights = self.weights()
        hidden = self._hidden(weights, context, fresh)
        trust: Array = hidden @ weights["gate_output_weight"].T + weights["gate_output_bias"]
        return trust

    def learn(self, context: Array, fresh: Array, gradient: Array) -> None:
        """One step down the loss, given its gradient (Q, outputs) at what `trust` said of these contexts (Q, 4)."""
        if not self.learned:
            return
        weights = self.weights()
        hidden = self._hidden(weights, context, fresh)  # (Q, hidden)
        inner = gradient @ weights["gate_output_weight"] * (1 - hidden * hidden)
        gradients = {
            "gate_hidden_weight": inner.T @ context,
            "gate_hidden_bias": inner.sum(0),
            "gate_output_weight": gradient.T @ hidden,
            "gate_output_bias": gradient.sum(0),
            "gate_fresh": fresh @ inner,
        }
        self.descend(gradients)

    def nodes(self, add: Nodes, lengths: str) -> str:
        """What `trust` says, (B, outputs), in the graph; `lengths` (B,) float32. Also reads `since` and `fresh`."""
        few = add.rounded("Exp", add("Mul", lengths, add.float(-0.25)))
        many = add("Mul", add.rounded("Log", add("Add", lengths, add.float(1.0))), add.float(0.25))
        soon = add.rounded("Exp", add("Mul", "since", add.float(-5.0)))
        columns = [add("Unsqueeze", column, add.ints(1)) for column in (many, few, "since", soon)]
        context = add("Concat", *columns, axis=1)  # (B, 4)
        hidden = add("Gemm", context, "gate_hidden_weight", "gate_hidden_bias", transB=1)
        hidden = add("Add", hidden, add("Mul", add("Unsqueeze", "fresh", add.ints(1)), "gate_fresh"))
        hidden = add("Tanh", hidden)
        return add("Gemm", hidden, "gate_output_weight", "gate_output_bias", transB=1)
