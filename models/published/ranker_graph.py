"""The ranker's network as a small ONNX graph, run for one request's candidates at a time.

Before: `models.ranker.network` and `heads` learn the same maths in numpy. After: `serving.second_stage` runs it;
`parity` holds them together. Its weights are inputs, so one session serves every version; it is no part of a bundle,
for it is made where it is needed. Alone for each request, so that no answer's bits depend on who shares its batch.
"""

from __future__ import annotations

from functools import cache

import onnx
from onnx import TensorProto, helper

from models.onnx_nodes import IR_VERSION, OPSET, Nodes
from models.ranker.bounds import MOST, WIDEST

__all__ = ["BY_HEAD", "FACTS", "HEAD_WEIGHTS", "HIDDEN", "SAID", "WEIGHTS", "build_ranker_graph"]

FACTS, SAID, BY_HEAD = "facts", "said", "by_head"
"""Its runtime input, (C, F) float32, and its outputs: `RankerNetwork.said`, (C,) float32, before `added_to`; and of the
graph with heads what each of them says, (C, HEADS + 1) float32, that of lists last."""

HIDDEN = "hidden"
"""Its other output, (C, H) float32: the hidden units, for `models.ranker.posterior`."""

WEIGHTS: dict[str, tuple[str | int, ...]] = {
    "ranker_mean": ("facts",),
    "ranker_scale": ("facts",),
    "ranker_hidden_weight": ("facts", "hidden"),
    "ranker_hidden_bias": ("hidden",),
    "ranker_output_weight": ("hidden",),
    "ranker_linear": ("facts",),
}
"""With the names of their sizes."""

HEAD_WEIGHTS: dict[str, tuple[str | int, ...]] = {"ranker_heads": ("heads", "hidden and facts")}
"""Those that the graph with heads takes, too."""


@cache
def build_ranker_graph(heads: bool = False) -> bytes:
    """The serialized graph, the same for every configuration: sizes are those of the weights that come with a run.

    With `heads` it says what these say, too, which answers without objectives have no use for.
    """
    add = Nodes()
    standard = add("Mul", add("Sub", FACTS, "ranker_mean"), "ranker_scale")  # (C, F)
    standard = add("Clip", standard, add.float(-WIDEST), add.float(WIDEST))
    hidden = add("Relu", add("Gemm", standard, "ranker_hidden_weight", "ranker_hidden_bias"), out=HIDDEN)  # (C, H)
    output, linear = (add("Unsqueeze", name, add.ints(1)) for name in ("ranker_output_weight", "ranker_linear"))
    said = add(
        "Add", add("MatMul", hidden, output), add("MatMul", standard, linear)
    )  # by a column: a vector takes 4 times as long
    add("Clip", add("Squeeze", said, add.ints(1)), add.float(-MOST), add.float(MOST), out=SAID)
    inputs: dict[str, tuple[str | int, ...]] = {FACTS: ("candidates", "facts"), **WEIGHTS}
    outputs: dict[str, tuple[str, ...]] = {SAID: ("candidates",), HIDDEN: ("candidates", "hidden")}
    if heads:
        by_head = add("Gemm", add("Concat", hidden, standard, axis=1), "ranker_heads", transB=1)  # (C, HEADS)
        add("Clip", by_head, add.float(-MOST), add.float(MOST), out=BY_HEAD)
        inputs |= HEAD_WEIGHTS
        outputs[BY_HEAD] = ("candidates", "heads")
    graph = helper.make_graph(
        add.nodes,
        "headwater-ranker",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        list(add.constants.values()),
    )
    model = helper.make_model(
        graph, producer_name="headwater", ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)]
    )
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data
