"""The served form: one ONNX graph whose weights are inputs, so that a new version is new buffers and not a new session.

Before: the experts learn the same maths in torch and numpy, and each adds its nodes here. After: `serving` runs it
under ONNX Runtime; `parity` holds the two together. Knows shapes and names, no numbers: the graph's bytes depend on the
configuration alone.

Runtime inputs are what `opinions.runtime_inputs` returns; the other inputs are the weights of a bundle. Outputs, each
float32 (B, capacity) but the last:

    scores    the sum of the parts; -1e30 for rows that no item owns or that no event has had
    memory, slow, popularity_part, returns, ...    the parts (`Expert.part`), weighted as the gate trusts them

    said_<expert>             what each of several experts adds that share a part, as the memories do
    few_<output>              (B, S), instead of such an output that is of few rows: these alone (`opinions.dense`)

Of associations the graph is told what the learner's own loop says of a history (`Expert.arrive`): a few rows and
values, so that a request pays for what its history knows. A pure graph has their tables as inputs instead and needs no
loop.

ONNX Runtime computes every node of a graph, whatever outputs are asked for. The second stage is a graph of its own
(`ranker_graph`); the metadata `experts` names the output of each expert for it, `few` those that are of few rows.

Nothing is excluded here: masks and top-k are the serving rules' business.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from models.config import ModelConfig
from models.experts.expert import Expert, Reviser
from models.experts.popularity import KNOWN, OPEN, UNSEEN, Popularity
from models.experts.registry import Parts
from models.experts.repeats import NEWEST, OWN
from models.experts.sequence import ENCODED, SequenceExpert
from models.onnx_nodes import IR_VERSION, OPSET, Nodes
from models.part import Part
from models.published.cut import Places
from models.published.names import ALONE, CUT, EXPERTS, FEW, SAID, SCORES, rows_of, said_of
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


ALL_ROWS = "all_rows"
"""The value that has what encoder and popularity say, (B, N)."""

PADDED = ("history", "types", "values", "gaps", "starts", "lengths", "since", "fresh")
"""Those that are multiplied."""


def outputs_of(config: ModelConfig) -> list[str]:
    """What a graph says: the scores, then each part of them. `memory` is always there, zeros without any."""
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


def build_graph(config: ModelConfig, *, pure: bool = False) -> bytes:
    """The serialized graph of a configuration, equal bytes for equal ones. `pure`: it needs no loops beside it."""
    add, parts = Nodes(), Parts(config)
    add.pad(PADDED)
    with add.padded():
        said_by_gate = parts.gate.nodes(add, add("Cast", "lengths", to=TensorProto.FLOAT))
    trusts = [f"trust_{expert.name}" for expert in parts.experts]  # (B, expert.trusts) each
    gated = [expert for expert in parts.experts if expert.trusts]
    sizes, split = add.ints(*(expert.trusts for expert in gated)), [f"trust_{expert.name}" for expert in gated]
    add.nodes.append(helper.make_node("Split", [add.cut(said_by_gate), sizes], split, axis=1))
    shape = add("Concat", add("Shape", "history", start=0, end=1), add("Shape", "item_bias"), axis=0)
    nothing = add("ConstantOfShape", shape)  # (B, N)
    said: dict[str, list[str]] = {"memory": []} if pure else {}
    few: dict[str, list[tuple[str, str]]] = {"memory": []}
    for expert, trust, name in zip(parts.experts, trusts, _said(parts), strict=True):
        if isinstance(expert, Reviser):
            continue
        if expert in parts.memories and not pure:
            few[name] = [(rows_of(expert.name), add("Mul", said_of(expert.name), trust, out=f"few_{name}"))]
            if name != expert.part:
                few.setdefault(expert.part, []).extend(few[name])
            continue
        told = isinstance(expert, Popularity) and not pure
        opinion = parts.popularity.told_nodes(add, trust) if told else expert.nodes(add, trust, nothing)
        said.setdefault(expert.part, []).append(add("Identity", opinion, out=name) if name != expert.part else opinion)
    sums = {part: _part(add, part, opinions, few.get(part, ()), nothing) for part, opinions in said.items()}
    arrived = [one for name in few if name in _said(parts) for one in few[name]]
    fused = _Sum(add, _of_all_rows(add, sums), arrived)
    for expert, trust in zip(parts.experts, trusts, strict=True):
        if isinstance(expert, Reviser):
            revision = expert.revision(add, trust, fused.whole)
            few[expert.part] = (
                [] if revision is None else [(revision[0], add.rename(revision[1], f"few_{expert.part}"))]
            )
            fused.more += few[expert.part]
    add.rename(fused.whole(), SCORES)
    add.drop_unread(nothing)
    return _model(add, config, parts, {part: pairs for part, pairs in few.items() if part not in said}, pure)


def _of_all_rows(add: Nodes, sums: Mapping[str, str]) -> str:
    """What is said of all rows, (B, N), by part, added up, encoder and popularity first; `UNSEEN` of closed rows."""
    first = [sums[part] for part in (SequenceExpert.part, Popularity.part)]
    others = [name for name in sums.values() if name not in first]
    whole = add("Where", OPEN, add("Add", *first), add.float(UNSEEN), out=ALL_ROWS)
    return add("Where", OPEN, add("Sum", whole, *others), add.float(UNSEEN)) if others else whole


def _part(add: Nodes, part: str, opinions: Sequence[str], few: Sequence[tuple[str, str]], nothing: str) -> str:
    """What is said of all rows, (B, N), by the experts of a part; its output has what some say of few, too."""
    name = f"dense_{part}" if few else part
    if len(opinions) == 1 and add.makes(opinions[0]) and opinions[0] != nothing:
        add.rename(opinions[0], name)
    else:
        add("Sum", nothing, *opinions, out=name)
    if few:
        add("Identity", _Sum(add, name, few).whole(), out=part)
    return name


class _Sum:
    """Scores on the way: a sum (B, N), and what is to be added to it of few rows, at one go where anybody asks."""

    def __init__(self, add: Nodes, sums: str, more: Sequence[tuple[str, str]]) -> None:
        self._add, self._sums, self.more = add, sums, list(more)

    def whole(self) -> str:
        """The sum as it is now."""
        if self.more:
            sides = [[one[side] for one in self.more] for side in (0, 1)]
            row, value = (many[0] if len(many) == 1 else self._add("Concat", *many, axis=1) for many in sides)
            self._sums = self._add("ScatterElements", self._sums, row, value, axis=1, reduction="add")
            self.more = []
        return self._sums


def _places(add: Nodes, parts: Parts) -> dict[str, str]:
    """Where the graph can be cut (`names.CUT`); nowhere if others have their say in what a loop would say."""
    slow, popular = parts.sequence, parts.popularity
    if not add.makes(ENCODED) or not {slow.part, popular.part} <= set(_said(parts)):
        return {}
    spoken = {"own": OWN, "newest": NEWEST} if add.makes(OWN) else {}
    places = Places(ENCODED, f"trust_{slow.name}", f"trust_{popular.name}", ALL_ROWS, slow.part, popular.part, **spoken)
    return {CUT: json.dumps(places._asdict())}


def _model(
    add: Nodes, config: ModelConfig, parts: Parts, few: Mapping[str, Sequence[tuple[str, str]]], pure: bool
) -> bytes:
    """The nodes with their inputs and outputs, checked and serialized."""
    loops = [] if pure else parts.memories
    told_of: list[Part] = [] if pure else [*parts.memories, parts.popularity]
    weights = {
        name: (helper.np_dtype_to_tensor_dtype(np.dtype(one.dtype)), one.shape)
        for part in (*parts.experts, parts.gate, parts.return_rate)
        for name, one in (part.inputs().items() if part not in told_of else ())
    }
    outputs = [name for name in dict.fromkeys([*_outputs(parts), *_said(parts)]) if name not in few]
    shape = ("batch", config.length)
    runtime = {
        name: (dtype, shape[:given] if isinstance(given, int) else given)
        for name, (dtype, given) in RUNTIME_INPUTS.items()
    }
    for expert in loops:
        many = ("batch", f"{expert.name}_many")
        runtime |= {rows_of(expert.name): (TensorProto.INT64, many), said_of(expert.name): (TensorProto.FLOAT, many)}
    if not pure:
        runtime |= {f"{KNOWN}{p}": (TensorProto.FLOAT, ("capacity",)) for p in range(parts.popularity.trusts)}
        runtime[OPEN] = TensorProto.BOOL, ("capacity",)
    told = [(name, ("batch", "capacity")) for name in outputs]
    told += [
        (name, ("batch", f"{name}_many")) for name in dict.fromkeys(one[1] for each in few.values() for one in each)
    ]
    graph = helper.make_graph(
        add.nodes,
        "headwater",
        [helper.make_tensor_value_info(name, *spec) for name, spec in {**runtime, **weights}.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in told],
        list(add.constants.values()),
    )
    model = helper.make_model(
        graph, producer_name="headwater", ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)]
    )
    experts = json.dumps([*zip(_said(parts), map(_kind, parts.experts), strict=True)])
    cut = {} if pure else _places(add, parts)
    helper.set_model_props(model, {EXPERTS: experts, FEW: json.dumps(few), ALONE: "yes", **cut})
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data
