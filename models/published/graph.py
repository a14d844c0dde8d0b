"""The served form: one ONNX graph whose weights are inputs, so that a new version is new buffers and not a new session.

Before: `learner` trains the same maths in torch and numpy. After: `serving` runs it under ONNX Runtime; `parity`
holds the two together. Knows shapes and names, no numbers: the graph's bytes depend on the configuration alone.

Runtime inputs are what `inputs.encode_histories` returns; the other inputs are the weights of a bundle. Outputs, each
float32 (B, capacity) and each computed only when asked for:

    scores       the sum of the parts; -1e30 for rows that no item owns or that no event has had
    memory, slow, popularity_part, returns    the parts, weighted as the gate trusts them: the reasons of an answer

Nothing is excluded here: masks and top-k are the serving rules' business.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import TensorProto, helper

from models.config import ModelConfig
from models.experts.fusion import TINY
from models.experts.gate import CONTEXT, gate_shapes, outputs_of
from models.experts.memory import NEVER
from models.experts.popularity import FLOOR, UNSEEN
from models.experts.repeats import return_shapes
from models.published.graph_encoder import encoder_logits
from models.published.graph_returns import return_part
from models.published.nodes import Nodes
from models.sequence.encoder import dense_shapes

__all__ = ["OPSET", "OUTPUTS", "RUNTIME_INPUTS", "build_graph", "weight_inputs"]

OPSET = 20
IR_VERSION = 10
RUNTIME_INPUTS = ("history", "types", "values", "gaps", "lengths", "since")
OUTPUTS = ("scores", "memory", "slow", "popularity_part", "returns")


def weight_inputs(config: ModelConfig) -> dict[str, tuple[int, tuple[int | str, ...]]]:
    """Element type and shape of every weight input; "capacity" stands for the number of rows."""
    cap = "capacity"
    inputs: dict[str, tuple[int, tuple[int | str, ...]]] = {
        "item_vectors": (TensorProto.FLOAT, (cap, config.width)),
        "item_bias": (TensorProto.FLOAT, (cap,)),
        "popularity": (TensorProto.FLOAT, (cap, len(config.popularity_half_lives_days))),
        "popularity_now": (TensorProto.FLOAT, (len(config.popularity_half_lives_days),)),
        "return_rate": (TensorProto.FLOAT, (config.max_types + 1,)),
    }
    for k, memory in enumerate(config.memories):
        inputs[f"memory{k}_ids"] = (TensorProto.INT32, (cap, memory.slots))
        inputs[f"memory{k}_weights"] = (TensorProto.FLOAT, (cap, memory.slots))
        inputs[f"memory{k}_log_source"] = (TensorProto.FLOAT, (cap,))
        inputs[f"memory{k}_target_scale"] = (TensorProto.FLOAT, (cap,))
    for name, shape in {**dense_shapes(config), **gate_shapes(config), **return_shapes(config)}.items():
        inputs[name] = (TensorProto.FLOAT, shape)
    return inputs


def build_graph(config: ModelConfig) -> bytes:
    """The serialized graph of a configuration. Equal configurations give equal bytes."""
    add = Nodes()
    parts = outputs_of(config)
    sizes = [part.stop - part.start for part in parts.values()]
    lengths = add("Cast", "lengths", to=TensorProto.FLOAT)  # (B,)
    add.nodes.append(
        helper.make_node("Split", [_gate(add, lengths), add.ints(*sizes)], [f"trust_{name}" for name in parts], axis=1)
    )
    shape = add("Concat", add("Shape", "history", start=0, end=1), add("Shape", "item_bias"), axis=0)
    nothing = add("ConstantOfShape", shape)  # (B, N)
    memories = [nothing]
    for k in range(len(config.memories)):
        trust = add("Slice", "trust_memory", add.ints(k), add.ints(k + 1), add.ints(1))  # (B, 1)
        memories.append(add("Mul", _memory(add, config, k, nothing), trust))
    add("Sum", *memories, out="memory")
    add("Mul", encoder_logits(add, config) if config.slow else nothing, "trust_slow", out="slow")
    first = add("Slice", "popularity", add.ints(0), add.ints(1), add.ints(1))
    alive = add("Squeeze", add("Greater", first, add.float(UNSEEN / 10)), add.ints(1))  # (N,)
    known = add("Max", add("Sub", "popularity", "popularity_now"), add.float(FLOOR))  # (N, P)
    add("Gemm", "trust_popularity", known, transB=1, out="popularity_part")
    others = add("Sum", "memory", "slow", "popularity_part")
    if config.repeats:
        return_part(add, config, nothing, others)
    else:
        add("Identity", nothing, out="returns")
    fused = add("Add", others, "returns")
    add("Where", alive, fused, add.float(UNSEEN), out="scores")
    runtime = {
        "history": (TensorProto.INT64, ("batch", config.length)),
        "types": (TensorProto.INT64, ("batch", config.length)),
        "values": (TensorProto.FLOAT, ("batch", config.length)),
        "gaps": (TensorProto.FLOAT, ("batch", config.length)),
        "lengths": (TensorProto.INT32, ("batch",)),
        "since": (TensorProto.FLOAT, ("batch",)),
    }
    graph = helper.make_graph(
        add.nodes,
        "headwater",
        [helper.make_tensor_value_info(name, *spec) for name, spec in {**runtime, **weight_inputs(config)}.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ("batch", "capacity")) for name in OUTPUTS],
        list(add.constants.values()),
    )
    model = helper.make_model(
        graph, producer_name="headwater", ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)]
    )
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _gate(add: Nodes, lengths: str) -> str:
    """Trust in each expert, (B, outputs); see `gate.context_of`."""
    few = add.rounded("Exp", add("Mul", lengths, add.float(-0.25)))
    many = add("Mul", add.rounded("Log", add("Add", lengths, add.float(1.0))), add.float(0.25))
    fresh = add.rounded("Exp", add("Mul", "since", add.float(-5.0)))
    columns = [add("Unsqueeze", column, add.ints(1)) for column in (many, few, "since", fresh)]
    assert len(columns) == CONTEXT
    context = add("Concat", *columns, axis=1)  # (B, 4)
    hidden = add("Tanh", add("Gemm", context, "gate_hidden_weight", "gate_hidden_bias", transB=1))
    return add("Gemm", hidden, "gate_output_weight", "gate_output_bias", transB=1)


def _faded(add: Nodes, half_life_hours: float, place: str) -> str:
    """By how much the log of each step's say is less than the newest one's, (B, r) newest first; see `behind_ms`."""
    gaps = add("GatherElements", "gaps", place, axis=1)
    seconds = add("Exp", add("Mul", add("Cast", gaps, to=TensorProto.DOUBLE), add.double(10.0)))
    gone = add("Sub", seconds, add.double(1.0))
    behind = add("CumSum", gone, add.constant(1, np.int64), exclusive=1)
    return add("Mul", behind, add.double(math.log(2.0) / (half_life_hours * 3600.0)))


def _memory(add: Nodes, config: ModelConfig, k: int, nothing: str) -> str:
    """sqrt(score / highest score) of one memory, (B, N); see `memory` and `fusion`."""
    memory = config.memories[k]
    newest = add("Sub", add("Cast", "lengths", to=TensorProto.INT64), add.ints(1))  # (B,)
    steps = add.constant(np.arange(memory.reach)[None], np.int64)
    place = add("Sub", add("Unsqueeze", newest, add.ints(1)), steps)  # (B, r), negative where there is no entry
    real = add("GreaterOrEqual", place, add.ints(0))  # (B, r)
    recent = add("GatherElements", "history", add("Max", place, add.ints(0)), axis=1)  # (B, r), newest first
    fade = add.constant((memory.read_fade ** np.arange(memory.reach))[None], np.float32)
    source = add("Cast", add("Gather", f"memory{k}_log_source", recent, axis=0), to=TensorProto.DOUBLE)  # (B, r)
    if memory.half_life_hours:
        source = add("Sub", source, _faded(add, memory.half_life_hours, add("Max", place, add.ints(0))))
    log = add("Where", real, source, add.double(NEVER))
    share = add("Exp", add("Sub", log, add("ReduceMax", log, add.ints(1), keepdims=1)))  # the highest is 1
    worth = add("Cast", share, to=TensorProto.FLOAT)
    say = add("Mul", add("Mul", worth, fade), add("Cast", real, to=TensorProto.FLOAT))
    gain = add("Mul", add("Gather", f"memory{k}_weights", recent, axis=0), add("Unsqueeze", say, add.ints(2)))
    flat = add.ints(0, -1)
    ids = add("Reshape", add("Gather", f"memory{k}_ids", recent, axis=0), flat)  # (B, r * slots)
    score = add("ScatterElements", nothing, ids, add("Reshape", gain, flat), axis=1, reduction="add")
    score = add("Mul", score, f"memory{k}_target_scale")
    highest = add("Add", add("ReduceMax", score, add.ints(1), keepdims=1), add.float(TINY))  # (B, 1)
    return add("Sqrt", add("Div", score, highest))
