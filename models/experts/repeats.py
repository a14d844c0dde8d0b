"""Returns: users come back to items. Which of their own items, and after which types of event at all.

Before: `fusion` has the queries' histories as padded arrays. After: it adds these scores to the rows of the history;
`graph` computes the same. `ReturnRate` decides what the `auto` rule of exclusion leaves out, for learner and serving
alike. Knows rows and steps, not item ids.

The score of an item of the history is a small network of facts: how long ago, how many steps and how many other items
back its newest entry is, how many entries and of which types the item has, and what kind of history it is: how long,
how repetitive, of which type its newest entry is, how long ago that was. One hidden layer and a direct linear part,
which starts from a mild preference for what is recent; both learn by the same cross-entropy as the gate. Facts are not
independent (what was carted but not bought, what was looked at a moment ago after a long visit): sums of one table per
fact reached .2392 where this reaches .2636 (docs/lab-book.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from models.config import ModelConfig
from models.sequence.optimizer import Adam

__all__ = [
    "HIDDEN",
    "NUMBERS",
    "OTHERS",
    "RARE",
    "Facts",
    "ReturnRate",
    "Returns",
    "facts_of",
    "return_scores",
    "return_shapes",
    "returning_types",
]

NUMBERS = 10
"""Facts that are numbers; `facts_of` has them in order. Then come three facts per type."""

HIDDEN = 16
"""Hidden units: 8 measured .2610 where 16 measured .2636 and 32 .2635."""

OTHERS = 0.5
"""What other experts say of an item of the history counts this much: they are about what is next, not what is again."""

RARE = 0.01
"""Below this share of returns per event of a type, its items are not recommended again: people who
rate films never come back to one, shoppers who look around and readers of news after one event in ten and more."""

PRIOR = 100.0
"""Events without a return that every type is presumed to have had: one return proves nothing."""

Array = NDArray[np.float32]
Indices = NDArray[np.int64]


class Facts(NamedTuple):
    """About each step of Q padded histories of L steps."""

    newest: NDArray[np.bool_]  # (Q, L) real, and no later step has the same row
    facts: Array  # (Q, L, facts)


def return_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the network's weights."""
    facts = NUMBERS + 3 * (config.max_types + 1)
    return {
        "return_hidden_weight": (facts, HIDDEN),
        "return_hidden_bias": (HIDDEN,),
        "return_output_weight": (HIDDEN,),
        "return_linear": (facts,),
    }


def facts_of(
    history: Indices, types: Indices, gaps: Array, lengths: NDArray[Any], since: Array, config: ModelConfig
) -> Facts:
    """What the network is told: history, types, gaps (Q, L), lengths and since (Q,), as `inputs` gives them."""
    steps = np.arange(history.shape[1])
    real = steps < lengths[:, None]  # (Q, L)
    same = (history[:, :, None] == history[:, None, :]) & real[:, :, None] & real[:, None, :]  # (Q, L, L)
    newest = real & ~(same & (steps[None, :] > steps[:, None])).any(2)
    place = np.maximum(lengths[:, None] - 1 - steps, 0)
    seconds = (np.exp(gaps * np.float32(10)) - np.float32(1)) * real  # from the step before to each
    after = np.zeros_like(seconds)  # from each step to the last
    after[:, :-1] = np.cumsum(seconds[:, :0:-1], 1)[:, ::-1]
    after += (np.exp(since * np.float32(10)) - np.float32(1))[:, None]
    length = np.maximum(lengths, 1).astype(np.float32)
    query = [since * 2, np.exp(-5 * since), np.log1p(length) / 2, np.exp(-length / 4), newest.sum(1) / length]
    kinds = np.eye(config.max_types + 1, dtype=np.float32)
    kind = kinds[types]  # (Q, L, types)
    last = np.take_along_axis(types, np.maximum(lengths[:, None].astype(np.int64) - 1, 0), 1)[:, 0]
    numbers = np.empty((*history.shape, NUMBERS), np.float32)
    numbers[..., 0] = np.log1p(place)
    numbers[..., 1] = np.log1p(np.cumsum(newest[:, ::-1], 1)[:, ::-1] - newest)  # different items after it
    numbers[..., 2] = place == 0
    numbers[..., 3] = np.log(np.maximum(same.sum(2), 1))  # entries
    numbers[..., 4] = np.log1p(after) / 5
    for i, number in enumerate(query):
        numbers[..., 5 + i] = number[:, None]
    newest_kind = np.broadcast_to(kinds[last][:, None], kind.shape)  # of the newest entry of all
    had = (same.astype(np.float32) @ kind > 0).astype(np.float32)  # types of all entries of the item
    return Facts(newest, np.concatenate([numbers, kind, newest_kind, had], -1))


def return_scores(weights: dict[str, Array], facts: Array) -> Array:
    """Scores of steps, (...), of their facts (..., facts)."""
    hidden = np.tanh(facts @ weights["return_hidden_weight"] + weights["return_hidden_bias"])
    scores: Array = hidden @ weights["return_output_weight"] + facts @ weights["return_linear"]
    return scores


def returning_types(share: Array, types: Iterable[str]) -> frozenset[str]:
    """The rule `auto`, for learner and serving alike: after events of these types users come back to an item.

    An item whose newest entry in the history is of another type is not recommended again. `share` (max_types + 1,) is
    `ReturnRate.share`, published as the weight `return_rate`; `types` are in the order of their indices, from 1.
    """
    return frozenset(kind for kind, one in zip(types, share[1:].tolist(), strict=False) if one >= RARE)


class Returns:
    """The network, with its moments."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.shapes = return_shapes(config)
        self.sizes = [int(np.prod(shape)) for shape in self.shapes.values()]
        self.flat = torch.zeros(sum(self.sizes))
        weights = self.weights()
        start = np.random.default_rng(0)  # breaks the symmetry of hidden units; the same for every seed of a learner
        hidden, output = weights["return_hidden_weight"], weights["return_output_weight"]
        hidden[:] = start.uniform(-0.5, 0.5, hidden.shape)
        output[:] = start.uniform(-0.05, 0.05, output.shape)
        weights["return_linear"][0] = -0.5
        self.adam = Adam(self.flat, config.return_learning_rate)

    def weights(self) -> dict[str, Array]:
        """The weights by name, as views of the flat vector."""
        pieces = torch.split(self.flat, self.sizes)
        return {
            name: piece.view(shape).numpy() for (name, shape), piece in zip(self.shapes.items(), pieces, strict=True)
        }

    def learn(self, facts: Array, gradient: Array) -> None:
        """One step down the loss, given its gradient (n,) at the scores of steps with these facts (n, facts)."""
        weights = self.weights()
        hidden = np.tanh(facts @ weights["return_hidden_weight"] + weights["return_hidden_bias"])  # (n, hidden)
        inner = gradient[:, None] * weights["return_output_weight"] * (1 - hidden * hidden)
        parts = {
            "return_hidden_weight": facts.T @ inner,
            "return_hidden_bias": inner.sum(0),
            "return_output_weight": gradient @ hidden,
            "return_linear": gradient @ facts,
        }
        flat = np.concatenate([parts[name].ravel() for name in self.shapes]).astype(np.float32)
        self.adam.step(torch.from_numpy(flat))


class ReturnRate:
    """How often users come back to an item, by the type of their newest event with it: (max_types + 1,) each.

    `events` counts targets by type, `returns` those whose item was in the history, by the type of its newest entry.
    """

    def __init__(self, max_types: int) -> None:
        self.events = np.zeros(max_types + 1, np.float64)
        self.returns = np.zeros(max_types + 1, np.float64)

    def count(self, kind: int, before: int | None) -> None:
        """Take in a target of type index `kind`; `before` is that of the item's newest entry in the history, if any."""
        self.events[kind] += 1
        if before is not None:
            self.returns[before] += 1

    @property
    def share(self) -> Array:
        """Returns per event, (max_types + 1,) float32; 0 for the types that are not told apart."""
        share: Array = (self.returns / (self.events + PRIOR)).astype(np.float32)
        share[0] = 0.0
        return share
