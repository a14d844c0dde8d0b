"""The slow learner's part of the served graph.

Before: `encoder` trains the same maths in torch. After: `graph` fuses its logits with the other experts. Knows shapes
and names, no numbers.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from models.config import ModelConfig
from models.published.nodes import Nodes
from models.sequence.attention import TIME_RATES
from models.sequence.encoder import SINCE_RATES

__all__ = ["encoder_logits"]


def encoder_logits(add: Nodes, config: ModelConfig) -> str:
    """The slow learner's logits, (B, N)."""
    last = add.ints(-1)
    signal = add("Concat", add("Unsqueeze", "values", last), add("Unsqueeze", "gaps", last), axis=2)  # (B, L, 2)
    signal = add("MatMul", signal, add("Transpose", "signal_weight", perm=[1, 0]))
    x = add("Add", add("Gather", "item_vectors", "history", axis=0), add("Gather", "type_vectors", "types", axis=0))
    x = add("Add", add("Add", x, signal), "signal_bias")  # (B, L, d)
    hidden = _attention(add, config, x) if config.encoder == "attention" else _recurrent(add, config, x)  # (B, d)
    times = [add.rounded("Exp", add("Mul", "since", add.float(-rate))) for rate in SINCE_RATES]
    times = [add("Unsqueeze", time, add.ints(1)) for time in ("since", *times)]
    times_weight = add("Transpose", "since_weight", perm=[1, 0])
    said = add("MatMul", add("Concat", *times, axis=1), times_weight)  # (B, 2d)
    add("Split", said, out="since_says", outputs=2, axis=1, num_outputs=2)
    hidden = add("Add", add("Add", hidden, add("Mul", hidden, "since_says_0")), "since_says_1")
    hidden = add("Gemm", hidden, "output_weight", "output_bias", transB=1)
    return add("Gemm", hidden, "item_vectors", "item_bias", transB=1)  # (B, N)


def _recurrent(add: Nodes, config: ModelConfig, x: str) -> str:
    """State after the last step, (B, d), of step vectors (B, L, d); zero for an empty history."""
    d = config.width
    x = add("Transpose", x, perm=[1, 0, 2])  # (L, B, d)
    weight = add("Unsqueeze", _update_first(add, "gru_input_weight"), add.ints(0))  # (1, 3d, d)
    state = add("Unsqueeze", _update_first(add, "gru_state_weight"), add.ints(0))
    biases = [_update_first(add, "gru_input_bias"), _update_first(add, "gru_state_bias")]
    bias = add("Unsqueeze", add("Concat", *biases, axis=0), add.ints(0))  # (1, 6d)
    add.nodes.append(
        helper.make_node(
            "GRU", [x, weight, state, bias, "lengths"], ["", "gru_last"], hidden_size=d, linear_before_reset=1
        )
    )
    return add("Squeeze", "gru_last", add.ints(0))


def _attention(add: Nodes, config: ModelConfig, x: str) -> str:
    """State after the last step, (B, d), of step vectors (B, L, d); zero for an empty history. See `attention`."""
    d, length, heads = config.width, config.length, config.attention_heads
    last = add.ints(-1)
    seconds = add(
        "Sub", add("Exp", add("Mul", add("Cast", "gaps", to=TensorProto.DOUBLE), add.double(10.0))), add.double(1.0)
    )
    at = add("CumSum", seconds, add.constant(1, np.int64))  # (B, L)
    apart = add("Sub", add("Unsqueeze", at, add.ints(2)), add("Unsqueeze", at, add.ints(1)))  # (B, L, L)
    apart = add("Log", add("Add", add("Max", apart, add.double(0.0)), add.double(1.0)))
    apart = add("Mul", add("Cast", apart, to=TensorProto.FLOAT), add.float(0.1))
    times = [apart, *(add("Exp", add("Mul", apart, add.float(-rate))) for rate in TIME_RATES)]
    read = add("Concat", *(add("Unsqueeze", time, last) for time in times), axis=3)  # (B, L, L, 3)
    distance = np.arange(length)[:, None] - np.arange(length)[None]
    causal = add.constant((distance >= 0) / length, np.float32)
    places = add.constant(np.maximum(distance, 0), np.int64)
    ones = add.constant(np.ones(d), np.float32)
    for i in range(config.attention_blocks):
        y = add("LayerNormalization", x, ones, axis=-1)
        mixed = add("MatMul", y, add("Transpose", f"block{i}_input_weight", perm=[1, 0]))
        mixed = _silu(add, add("Add", mixed, f"block{i}_input_bias"))
        parts = add("Split", mixed, out=f"block{i}_mixed", outputs=4, axis=2, num_outputs=4)
        shape = add.ints(0, 0, heads, d // heads)
        value, query = (
            add("Transpose", add("Reshape", f"{parts}_{k}", shape), perm=[0, 2, 1, 3]) for k in (1, 2)
        )  # (B, H, L, d / H)
        key = add("Transpose", add("Reshape", f"{parts}_3", shape), perm=[0, 2, 3, 1])  # (B, H, d / H, L)
        time = add("MatMul", read, add("Transpose", f"block{i}_time_bias", perm=[1, 0]))  # (B, L, L, H)
        bias = add(
            "Add", add("Gather", f"block{i}_place_bias", places, axis=1), add("Transpose", time, perm=[0, 3, 1, 2])
        )
        attention = add("Mul", _silu(add, add("Add", add("MatMul", query, key), bias)), causal)
        seen = add("Transpose", add("MatMul", attention, value), perm=[0, 2, 1, 3])
        seen = add("LayerNormalization", add("Reshape", seen, add.ints(0, 0, d)), ones, axis=-1)
        out = add("MatMul", add("Mul", seen, f"{parts}_0"), add("Transpose", f"block{i}_output_weight", perm=[1, 0]))
        x = add("Add", x, add("Add", out, f"block{i}_output_bias"))
    x = add("LayerNormalization", x, ones, axis=-1)
    lengths = add("Cast", "lengths", to=TensorProto.INT64)
    newest = add("Unsqueeze", add("Max", add("Sub", lengths, add.ints(1)), add.ints(0)), add.ints(1))  # (B, 1)
    state = add("GatherND", x, newest, batch_dims=1)  # (B, d)
    some = add("Cast", add("Greater", lengths, add.ints(0)), to=TensorProto.FLOAT)
    return add("Mul", state, add("Unsqueeze", some, add.ints(1)))


def _silu(add: Nodes, x: str) -> str:
    return add("Mul", x, add("Sigmoid", x))


def _update_first(add: Nodes, name: str) -> str:
    """torch keeps gates as reset, update, new; ONNX wants update, reset, new."""
    parts = f"{name}_gate"
    add("Split", name, out=parts, outputs=3, axis=0, num_outputs=3)
    return add("Concat", f"{parts}_1", f"{parts}_0", f"{parts}_2", axis=0)
