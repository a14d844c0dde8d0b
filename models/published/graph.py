"""The served form: one ONNX graph whose weights are inputs, so that a new version is new buffers and not a new session.

Before: the experts learn the same maths in torch and numpy, and each adds its nodes here. After: `serving` runs it
under ONNX Runtime; `parity` holds the two together. Knows shapes and names, no numbers: the graph's bytes depend on the
configuration alone.

Runtime inputs are what `inputs.encode_histories` returns; the other inputs are the weights of a bundle. Outputs, each
float32 (B, capacity):

    scores    the sum of the parts; -1e30 for rows that no item owns or that no event has had
    memory, slow, popularity_part, returns, ...    the parts (`Expert.part`), weighted as the gate trusts them

    said_<expert>             what each of several experts adds that share a part, as the memories do

An output that nobody asks for costs its copy at most: ONNX Runtime computes every node of a graph in any case, unless a
run says `only_execute_path_to_fetches`, and scores need all of them. The second stage is a graph of its own
(`ranker_graph`); the metadata `experts` names the output of each expert for it.

Nothing is excluded here: masks and top-k are the serving rules' business.
"""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import onnx
from onnx import TensorProto, helper

from models.config import ModelConfig
from models.experts.expert import Expert, Reviser
from models.experts.popularity import UNSEEN, Popularity
from models.experts.registry import Parts
from models.onnx_nodes import IR_VERSION, OPSET, Nodes
from models.published.names import EXPERTS, SAID, SCORES
from models.shown.showings import FACTS

__all__ = ["RUNTIME_INPUTS", "SCORES", "build_graph", "outputs_of"]

RUNTIME_INPUTS: dict[str, tuple[int, int | tuple[str | int, ...]]] = {
    "history": (TensorProto.INT64, 2),
    "types": (TensorProto.INT64, 2),
    "values": (TensorProto.FLOAT, 2),
    "gaps": (TensorProto.FLOAT, 2),
    "speaks": (TensorProto.FLOAT, 2),
    "starts": (TensorProto.FLOAT, 2),
    "lengths": (TensorProto.INT32, 1),
    "since": (TensorProto.FLOAT, 1),
    "against": (TensorProto.FLOAT, 1),
    "fresh": (TensorProto.FLOAT, 1),
    "tired_rows": (TensorProto.INT64, ("batch", "shown")),
    "tired_facts": (TensorProto.FLOAT, ("batch", "shown", FACTS)),
}
"""What a run is given: type of each, and its shape or how many dimensions it has of (batch, length)."""


def outputs_of(config: ModelConfig) -> list[str]:
    """Names of the graph's outputs: the scores, then each part of them. `memory` is always there, zeros without any."""
    return _outputs(Parts(config))


def _outputs(parts: Parts) -> list[str]:
    return [SCORES, *dict.fromkeys(("memory", *(expert.part for expert in parts.experts)))]


def _said(parts: Parts) -> list[str]:
    """Of each expert the output that holds what it adds to the scores."""
    several = Counter(expert.part for expert in parts.experts)
    return [expert.part if several[expert.part] == 1 else f"{SAID}{expert.name}" for expert in parts.experts]


def _kind(expert: Expert) -> str | None:
    if isinstance(expert, Popularity | Reviser):
        return None
    return "few" if expert.on_arrival else "all"


def build_graph(config: ModelConfig) -> bytes:
    """The serialized graph of a configuration. Equal configurations give equal bytes."""
    add, parts = Nodes(), Parts(config)
    lengths = add("Cast", "lengths", to=TensorProto.FLOAT)  # (B,)
    trusts = [f"trust_{expert.name}" for expert in parts.experts]  # (B, expert.trusts) each
    gated = [expert for expert in parts.experts if expert.trusts]
    sizes, split = add.ints(*(expert.trusts for expert in gated)), [f"trust_{expert.name}" for expert in gated]
    add.nodes.append(helper.make_node("Split", [parts.gate.nodes(add, lengths), sizes], split, axis=1))
    shape = add("Concat", add("Shape", "history", start=0, end=1), add("Shape", "item_bias"), axis=0)
    nothing = add("ConstantOfShape", shape)  # (B, N)
    said: dict[str, list[str]] = {}
    for expert, trust, name in zip(parts.experts, trusts, _said(parts), strict=True):
        if not isinstance(expert, Reviser):
            opinion = expert.nodes(add, trust, nothing)
            if name != expert.part:
                opinion = add("Identity", opinion, out=name)
            said.setdefault(expert.part, []).append(opinion)
    said.setdefault("memory", [])
    for part, opinions in said.items():
        add("Sum", nothing, *opinions, out=part)
    fused = add("Sum", "memory", *(part for part in said if part != "memory"))
    for expert, trust in zip(parts.experts, trusts, strict=True):
        if isinstance(expert, Reviser):
            add("Identity", expert.revision(add, trust, nothing, fused), out=expert.part)
            fused = add("Add", fused, expert.part)
    add("Where", parts.popularity.open_rows(add), fused, add.float(UNSEEN), out=SCORES)
    return _model(add, config, parts)


def _model(add: Nodes, config: ModelConfig, parts: Parts) -> bytes:
    """The nodes with their inputs and outputs, checked and serialized."""
    weights = {
        name: (helper.np_dtype_to_tensor_dtype(np.dtype(one.dtype)), one.shape)
        for part in (*parts.experts, parts.gate, parts.return_rate)
        for name, one in part.inputs().items()
    }
    outputs = list(dict.fromkeys([*_outputs(parts), *_said(parts)]))
    shape = ("batch", config.length)
    runtime = {
        name: (dtype, shape[:given] if isinstance(given, int) else given)
        for name, (dtype, given) in RUNTIME_INPUTS.items()
    }
    graph = helper.make_graph(
        add.nodes,
        "headwater",
        [helper.make_tensor_value_info(name, *spec) for name, spec in {**runtime, **weights}.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ("batch", "capacity")) for name in outputs],
        list(add.constants.values()),
    )
    model = helper.make_model(
        graph, producer_name="headwater", ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)]
    )
    helper.set_model_props(model, {EXPERTS: json.dumps([*zip(_said(parts), map(_kind, parts.experts), strict=True)])})
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data
