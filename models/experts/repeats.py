"""Repeat consumption: which of their own items users come back to.

The score of an item of the history is a small network of facts: how long ago, how many steps and how many other items
back its newest entry is, how many entries and of which types the item has, and what kind of history it is: how long,
how repetitive, of which type its newest entry is, how long ago that was. One hidden layer and a direct linear part,
which starts from a mild preference for what is recent; both learn by the same cross-entropy as the gate. Facts are not
independent (what was carted but not bought, what was looked at a moment ago after a long visit): sums of one table per
fact reached .2392 where this reaches .2636 (docs/lab-book.md).

    fused[j] = OTHERS * fused[j] + trust + score[j] for an item j of the history

Knows rows and steps, not item ids. Its weights are published under the names of the first release, `return_...`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import TensorProto

from models.block import Block
from models.config import ModelConfig
from models.experts.expert import Reviser
from models.experts.network import Network
from models.experts.own_items import NUMBERS
from models.experts.popularity import OPEN
from models.onnx_nodes import Nodes

__all__ = ["NEWEST", "OWN", "Facts", "Repeats"]

OWN, NEWEST = "returns_said", "returns_newest"
"""In the graph, (B, L) each: what is said of steps, and which of them are spoken of."""

HIDDEN = 16
"""Hidden units: 8 measured .2610 where 16 measured .2636 and 32 .2635."""

OTHERS = 0.5
"""What other experts say of an item of the history counts this much: they are about what is next, not what is again."""

Array = NDArray[np.float32]
Indices = NDArray[np.int64]


class Facts(NamedTuple):
    """About each step of Q padded histories of L steps."""

    newest: NDArray[np.bool_]  # (Q, L) real, and no later step has the same row
    facts: Array  # (Q, L, facts)


def repeat_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
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


def repeat_scores(weights: dict[str, Array], facts: Array) -> Array:
    """Scores of steps, (...), of their facts (..., facts)."""
    hidden = np.tanh(facts @ weights["return_hidden_weight"] + weights["return_hidden_bias"])
    scores: Array = hidden @ weights["return_output_weight"] + facts @ weights["return_linear"]
    return scores


class Repeats(Network, Reviser):
    """The network that scores the user's own items."""

    name = label = "returns"
    part = "returns"

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        super().__init__(
            {name: torch.zeros(shape) for name, shape in repeat_shapes(config).items()}, config.return_learning_rate
        )
        weights = self.weights()
        start = np.random.default_rng(0)  # breaks the symmetry of hidden units; the same for every seed of a learner
        hidden, output = weights["return_hidden_weight"], weights["return_output_weight"]
        hidden[:] = start.uniform(-0.5, 0.5, hidden.shape)
        output[:] = start.uniform(-0.05, 0.05, output.shape)
        weights["return_linear"][0] = -0.5
        self._block: Block | None = None
        self._own = (np.zeros(0, np.int64),) * 2  # rows of the query's history, all different, and their newest steps
        self._facts = Facts(np.zeros((0, 0), bool), np.zeros((0, 0, 0), np.float32))
        self._scores = self._gradient = np.zeros((0, 0), np.float32)  # (Q, L)

    def ask(self, block: Block) -> None:
        """The facts of all queries, and what the network says of them."""
        if not self.config.repeats:
            return
        self._block = block
        self._facts = facts_of(block.history, block.types, block.gaps, block.lengths, block.since, self.config)
        self._scores = repeat_scores(self.weights(), self._facts.facts)
        self._gradient = np.zeros_like(self._scores)

    def revise(self, q: int, trust: np.float32, scores: Array) -> None:
        """Give the items of the history their own scores."""
        if self.config.repeats:
            assert self._block is not None  # `ask` comes first
            steps = np.flatnonzero(self._facts.newest[q])
            rows = self._block.history[q, steps]
            self._own = rows, steps
            scores[rows] = scores[rows] * OTHERS + trust + self._scores[q, steps]

    def taught(self, q: int, chance: Array, share: np.float32) -> np.float32:
        """Keeps the gradient at the network's scores until `step`."""
        if not self.config.repeats:
            return np.float32(0)
        rows, steps = self._own
        self._gradient[q, steps] = chance[rows] * share
        chance[rows] *= OTHERS
        return np.float32(self._gradient[q].sum())

    def step(self) -> None:
        """One step on the facts that were taught."""
        if self.config.repeats:
            taught = self._gradient != 0
            self.learn_facts(self._facts.facts[taught], self._gradient[taught])

    def learn_facts(self, facts: Array, gradient: Array) -> None:
        """One step down the loss, given its gradient (n,) at the scores of steps with these facts (n, facts)."""
        weights = self.weights()
        hidden = np.tanh(facts @ weights["return_hidden_weight"] + weights["return_hidden_bias"])  # (n, hidden)
        inner = gradient[:, None] * weights["return_output_weight"] * (1 - hidden * hidden)
        gradients = {
            "return_hidden_weight": facts.T @ inner,
            "return_hidden_bias": inner.sum(0),
            "return_output_weight": gradient @ hidden,
            "return_linear": gradient @ facts,
        }
        self.descend(gradients)

    def revision(self, add: Nodes, trust: str, others: Callable[[], str]) -> tuple[str, str] | None:
        """Scores at the rows of the history, less what these rows lose of the others' (B, N)."""
        if not self.config.repeats:
            return None
        with add.padded():
            own, newest = self._own_scores(add)
        own = add.cut(own, out=OWN)
        newest = add("And", add.cut(newest), add("Gather", OPEN, "history"), out=NEWEST)  # closed rows stay closed
        score = add("Sum", own, trust)  # (B, L)
        score = add(
            "Add", score, add("Mul", add("GatherElements", others(), "history", axis=1), add.float(OTHERS - 1.0))
        )
        return "history", add("Where", newest, score, add.float(0.0))

    def _own_scores(self, add: Nodes) -> tuple[str, str]:
        """Of each step what the network says, and whether it is the newest of its item, (B, L) each."""
        length = self.config.length
        place = _places(add, length)  # (B, L), below 0 where there is no step
        real = add("GreaterOrEqual", place, add.ints(0))
        place = add("Max", place, add.ints(0))
        same = add("Equal", add("Unsqueeze", "history", add.ints(2)), add("Unsqueeze", "history", add.ints(1)))
        same = add("And", same, add("Unsqueeze", real, add.ints(1)))  # (B, L, L)
        later = add.constant(np.arange(length)[None, None, :] > np.arange(length)[None, :, None], np.bool_)
        again = add("ReduceMax", _float(add, add("And", same, later)), add.ints(2), keepdims=0)
        newest = add("And", real, add("Less", again, add.float(0.5)))
        facts = _facts(add, self.config, place, real, _float(add, same), _float(add, newest))
        both = add("Concat", "return_hidden_weight", add("Unsqueeze", "return_linear", add.ints(1)), axis=1)
        said = add("Split", add("MatMul", facts, both), add.ints(HIDDEN, 1), outputs=2, axis=2)
        hidden, linear = add("Tanh", add("Add", f"{said}_0", "return_hidden_bias")), f"{said}_1"
        output = add.total(add("Mul", hidden, "return_output_weight"), HIDDEN)
        return add("Add", output, add("Squeeze", linear, add.ints(2))), newest


def _float(add: Nodes, value: str) -> str:
    return add("Cast", value, to=TensorProto.FLOAT)


def _facts(add: Nodes, config: ModelConfig, place: str, real: str, same: str, newest: str) -> str:
    """What `facts_of` says of each step, (B, L, facts)."""
    one, two, quarter = add.float(1.0), add.float(2.0), add.float(0.25)
    distance = add("CumSum", newest, add.constant(1, np.int64), exclusive=1, reverse=1)
    count = add("Max", add("ReduceSum", same, add.ints(2), keepdims=0), one)
    steps = add("Unsqueeze", add("Max", _float(add, "lengths"), one), add.ints(1))  # (B, 1), as all of a query
    since = add("Unsqueeze", "since", add.ints(1))
    each = [
        add.rounded("Log", add("Add", _float(add, place), one)),
        add.rounded("Log", add("Add", distance, one)),
        _float(add, add("Equal", place, add.ints(0))),
        add.rounded("Log", count),
        add("Div", _age(add, real), add.float(5.0)),
    ]
    query = [
        add("Mul", since, two),
        add.rounded("Exp", add("Mul", since, add.float(-5.0))),
        add("Div", add.rounded("Log", add("Add", steps, one)), two),
        add.rounded("Exp", add("Neg", add("Mul", steps, quarter))),
        add("Div", add("ReduceSum", newest, add.ints(1), keepdims=1), steps),
    ]
    shape = add("Shape", "history")
    each += [add("Expand", fact, shape) for fact in query]
    assert len(each) == NUMBERS
    numbers = [add("Unsqueeze", fact, add.ints(2)) for fact in each]
    kind = _kinds(add, config, "types")  # (B, L, types)
    end = add("Max", add("Sub", add("Cast", "lengths", to=TensorProto.INT64), add.ints(1)), add.ints(0))
    last = _kinds(add, config, add("GatherElements", "types", add("Unsqueeze", end, add.ints(1)), axis=1))
    last = add("Expand", last, add("Shape", kind))
    had = _float(add, add("Greater", add("MatMul", same, kind), add.float(0.5)))
    return add("Concat", *numbers, kind, last, had, axis=2)


def _kinds(add: Nodes, config: ModelConfig, types: str) -> str:
    """Which type, one number per type."""
    return add("OneHot", types, add.constant(config.max_types + 1, np.int64), add.constant([0, 1], np.float32))


def _places(add: Nodes, length: int) -> str:
    """Steps from the end, (B, L): 0 for the newest."""
    newest = add("Sub", add("Cast", "lengths", to=TensorProto.INT64), add.ints(1))
    return add("Sub", add("Unsqueeze", newest, add.ints(1)), add.constant(np.arange(length)[None], np.int64))


def _age(add: Nodes, real: str) -> str:
    """Logarithm of the seconds since each step, (B, L)."""
    ten, one = add.float(10.0), add.float(1.0)
    seconds = add("Sub", add.rounded("Exp", add("Mul", "gaps", ten)), one)
    seconds = add("Where", real, seconds, add.float(0.0))
    after = add("CumSum", seconds, add.constant(1, np.int64), exclusive=1, reverse=1)
    since = add("Sub", add.rounded("Exp", add("Mul", "since", ten)), one)
    after = add("Add", after, add("Unsqueeze", since, add.ints(1)))
    return add.rounded("Log", add("Add", after, one))
