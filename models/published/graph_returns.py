"""The graph's part for returns: which items of the history users come back to.

Before: `graph` has the inputs and the gate's trust. After: the output `returns`. See `returns` for the maths.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from models.config import ModelConfig
from models.experts.repeats import NUMBERS, OTHERS
from models.published.nodes import Nodes

__all__ = ["return_part"]


def return_part(add: Nodes, config: ModelConfig, nothing: str, others: str) -> None:
    """The output `returns`, (B, N): `nothing` (B, N) with scores at the rows of the history.

    `others` (B, N) is the sum of the other parts, of which the history's rows lose all but `OTHERS`.
    """
    length = config.length
    place = _places(add, length)  # (B, L), below 0 where there is no step
    real = add("GreaterOrEqual", place, add.ints(0))
    place = add("Max", place, add.ints(0))
    same = add("Equal", add("Unsqueeze", "history", add.ints(2)), add("Unsqueeze", "history", add.ints(1)))
    same = add("And", same, add("Unsqueeze", real, add.ints(1)))  # (B, L, L)
    later = add.constant(np.arange(length)[None, None, :] > np.arange(length)[None, :, None], np.bool_)
    again = add("ReduceMax", _float(add, add("And", same, later)), add.ints(2), keepdims=0)
    newest = add("And", real, add("Less", again, add.float(0.5)))
    facts = _facts(add, config, place, real, _float(add, same), _float(add, newest))
    hidden = add("Tanh", add("Add", add("MatMul", facts, "return_hidden_weight"), "return_hidden_bias"))
    # no product of a matrix and a vector: its rounding could depend on how many queries share the batch
    output = add("ReduceSum", add("Mul", hidden, "return_output_weight"), add.ints(2), keepdims=0)
    linear = add("ReduceSum", add("Mul", facts, "return_linear"), add.ints(2), keepdims=0)
    score = add("Sum", output, linear, "trust_returns")  # (B, L)
    score = add("Add", score, add("Mul", add("GatherElements", others, "history", axis=1), add.float(OTHERS - 1.0)))
    score = add("Where", newest, score, add.float(0.0))
    add("ScatterElements", nothing, "history", score, axis=1, reduction="add", out="returns")


def _float(add: Nodes, value: str) -> str:
    return add("Cast", value, to=TensorProto.FLOAT)


def _facts(add: Nodes, config: ModelConfig, place: str, real: str, same: str, newest: str) -> str:
    """What `returns.facts_of` says of each step, (B, L, facts)."""
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
