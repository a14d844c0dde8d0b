"""The pieces that each expert puts its part of an ONNX graph together from. Knows no model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["IR_VERSION", "OPSET", "Nodes", "refuse_files", "smallest_graph"]

OPSET = 20
IR_VERSION = 10
"""Of all graphs that are served."""


class Nodes:
    """Collects nodes and constants; every call returns the name of its (first) output."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix  # of names: those of a branch must not be those of the graph around it
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.instead: dict[str, str] = {}  # what is read for a name, within `padded`
        self._padded: dict[str, str] = {}

    def __call__(self, op: str, *inputs: str, out: str | None = None, outputs: int = 1, **attributes: Any) -> str:
        name = out or f"{self.prefix}{op.lower()}_{len(self.nodes)}"
        names = [name] if outputs == 1 else [f"{name}_{i}" for i in range(outputs)]
        read = [self.instead.get(one, one) for one in inputs]
        self.nodes.append(helper.make_node(op, read, names, **attributes))
        return name

    def pad(self, names: Sequence[str]) -> None:
        """Give a batch of one a second row, of zeros, where these inputs (B, ...) are read within `padded`.

        A matrix of one row is multiplied by another kernel, with other last bits, than one of two or more.
        """
        many = self("Shape", names[0], start=0, end=1)
        more = self("Max", self("Sub", self.ints(2), many), self.ints(0))  # (1,)
        pads = self("Concat", self.ints(0), more, axis=0)
        for name in names:
            self._padded[name] = self("Pad", name, pads, "", self.ints(0), out=f"padded_{name}")
        self._many = many

    @contextmanager
    def padded(self) -> Iterator[None]:
        """Nodes that are added meanwhile read inputs with at least two rows (`pad`)."""
        self.instead = self._padded
        yield
        self.instead = {}

    def cut(self, value: str, out: str | None = None) -> str:
        """As many rows as there are histories, of what was made with at least two."""
        return self("Slice", value, self.ints(0), self._many, self.ints(0), out=out)

    def makes(self, name: str) -> bool:
        """Whether a node has this output."""
        return any(name in node.output for node in self.nodes)

    def drop_unread(self, name: str) -> None:
        """Leave out the node that makes this if no other reads it: ONNX Runtime would run it."""
        if not any(name in node.input for node in self.nodes):
            self.nodes = [node for node in self.nodes if name not in node.output]

    def rename(self, name: str, new: str) -> str:
        """Call the output of a node otherwise, wherever it is read."""
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [new if one == name else one for one in names]
        return new

    def rounded(self, op: str, value: str) -> str:
        """A function of float32 numbers by way of float64, so that a number's place in its batch cannot show.

        ONNX Runtime takes several numbers at once and the rest of a tensor one by one, by other code: in float32 their
        last bits differ, and a past answer could not be rebuilt alone.
        """
        found = self(op, self("Cast", value, to=TensorProto.DOUBLE))
        return self("Cast", found, to=TensorProto.FLOAT)

    def total(self, value: str, many: int) -> str:
        """The sum over the last of three axes, which has `many` places: (B, L, many) to (B, L), term by term.

        How a product with a vector, or ReduceSum, rounds depends on where in memory a row begins, and so on who shares
        the batch.
        """
        parts = self("Split", value, outputs=many, axis=2, num_outputs=many)
        return self("Squeeze", self("Sum", *(f"{parts}_{i}" for i in range(many))), self.ints(2))

    def only_if(self, condition: str, value: str, other: Callable[[Nodes], str]) -> str:
        """What `other` adds where the condition, one bool, holds for the run, else `value`; only then is it computed.

        Both are float32. Names of the graph around it can be read in a branch.
        """
        then, otherwise = Nodes(f"then_{len(self.nodes)}_"), Nodes(f"else_{len(self.nodes)}_")
        found = {"then_branch": then("Identity", other(then)), "else_branch": otherwise("Identity", value)}
        self.constants |= then.constants
        graphs = {
            name: helper.make_graph(
                branch.nodes, name, [], [helper.make_tensor_value_info(found[name], TensorProto.FLOAT, None)]
            )
            for name, branch in (("then_branch", then), ("else_branch", otherwise))
        }
        return self("If", condition, **graphs)

    def constant(self, value: Any, dtype: Any) -> str:
        array = np.array(value, dtype)
        name = f"constant_{array.dtype}_{'_'.join(map(str, array.shape))}_{abs(hash_text(array))}"
        self.constants[name] = numpy_helper.from_array(array, name)
        return name

    def ints(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def double(self, value: float) -> str:
        return self.constant(value, np.float64)

    def float(self, value: float) -> str:
        return self.constant(value, np.float32)


def hash_text(array: Any) -> int:
    """A number for an array's content that is the same in every process."""
    return int.from_bytes(array.tobytes()[:4096], "little") % 1_000_000_007


def refuse_files(graph: bytes) -> None:
    """Refuse a graph of which some lies in files: ONNX Runtime would read them, from the folder that it runs in.

    Raises
        ValueError: it is such a graph.
        google.protobuf.message.DecodeError: it is none.
    """
    waiting: list[Any] = [onnx.load_from_string(graph)]
    while waiting:
        part = waiting.pop()
        if isinstance(part, TensorProto) and (part.external_data or part.data_location == TensorProto.EXTERNAL):
            raise ValueError(f"its tensor {part.name!r:.80} lies in a file, and a bundle's graph is whole")
        for field, value in part.ListFields():
            if field.message_type is not None:
                waiting += [value] if hasattr(value, "ListFields") else value


def smallest_graph() -> bytes:
    """A graph that copies one number: what an execution provider is tried with."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "smallest", [value], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
