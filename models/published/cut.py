"""A served graph in two halves, between which compiled loops say what its other nodes would.

Before: a graph whose metadata names the values at which it may be cut (`names.CUT`). After: serving runs the halves on
the CPU (`serving.runs`); on other devices, and where a graph names none, the graph is run whole. Knows no numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import onnx
import orjson
from onnx import helper

from models.published.names import CUT

__all__ = ["Halves", "Places", "halves_of"]


class Places(NamedTuple):
    """Names of values of a graph.

    Fields
        hidden, trust, trusts: taken from the first half: what `AllRows.say` is told.
        whole, slow, popular: given to the second: of all rows, what encoder and popularity say together, and each.
        own, newest: given, too, where there are any: what `said_of_own` returns.
    """

    hidden: str
    trust: str
    trusts: str
    whole: str
    slow: str
    popular: str
    own: str | None = None
    newest: str | None = None


class Halves(NamedTuple):
    """Two graphs, the first with the second's other inputs among its outputs; and of the whole its outputs, in order,
    and its metadata.
    """

    before: bytes
    after: bytes
    places: Places
    outputs: list[str]
    told: dict[str, str]


def halves_of(graph: bytes) -> Halves | None:
    """The halves of a graph; None where it names no places."""
    model = onnx.load_from_string(graph)
    told = {one.key: one.value for one in model.metadata_props}
    if CUT not in told:
        return None
    places = Places(**orjson.loads(told[CUT]))
    nodes, outputs = list(model.graph.node), [one.name for one in model.graph.output]
    loops = places.whole, places.slow, places.popular, places.own, places.newest
    made = {name for name in loops if name is not None}
    given, after = set(made), []
    for node in nodes:
        if not made.isdisjoint(_read(node)) and made.isdisjoint(node.output):
            after.append(node)
            made.update(node.output)
    there = {one.name for one in (*model.graph.input, *model.graph.initializer)}
    wanted = {places.hidden, places.trust, places.trusts}
    wanted |= {name for node in after for name in _read(node)} - made - there
    wanted |= set(outputs) - made
    types = {one.name: one for one in onnx.shape_inference.infer_shapes(model).graph.value_info}
    types |= {one.name: one for one in model.graph.output}
    first = _leading_to(wanted, [node for node in nodes if node not in after])
    second = _leading_to(made & set(outputs), after)
    between = [types[name] for name in sorted(given | wanted)]
    return Halves(
        _graph(model, first, (), [types[name] for name in sorted(wanted)]),
        _graph(model, second, between, [types[name] for name in outputs if name in made - given]),
        places,
        outputs,
        told,
    )


def _read(node: Any) -> Iterator[str]:
    """Names that a node reads, in its branches, too."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from _read(inner)


def _leading_to(wanted: Iterable[str], nodes: Sequence[Any]) -> list[Any]:
    """Those of some nodes, in order, that these values are made by."""
    needed, kept = set(wanted), []
    for node in reversed(nodes):
        if not needed.isdisjoint(node.output):
            kept.append(node)
            needed.update(_read(node))
    return kept[::-1]


def _graph(model: Any, nodes: Sequence[Any], more: Sequence[Any], outputs: Sequence[Any]) -> bytes:
    """A graph of some nodes of another, with what they read of its inputs, and `more` of them."""
    read = {name for node in nodes for name in _read(node)}
    inputs = [one for one in (*model.graph.input, *more) if one.name in read]
    constants = [one for one in model.graph.initializer if one.name in read]
    half = helper.make_graph(nodes, model.graph.name, inputs, outputs, constants)
    made = helper.make_model(half, ir_version=model.ir_version, opset_imports=model.opset_import)
    data: bytes = made.SerializeToString(deterministic=True)
    return data
