"""What a served graph is told of histories: the steps, and what associations say of them.

Before: histories of the feature store, or a guard's probes. After: a run of the graph. The memories are asked as the
learner asks them, by the one compiled loop, on a bundle's own arrays; nothing here loads what learns by gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from headwater.examples import Entry, Shown
from models.block import Sparse
from models.experts.memory import AssociationMemory
from models.experts.popularity import KNOWN, OPEN, UNSEEN, known_popularity
from models.inputs import Steps, encode_entries, encode_histories, recent_of
from models.published.bundle import Bundle
from models.published.names import FEW, rows_of, said_of

__all__ = ["Opinions", "dense", "few_of", "said_by"]

Inputs = dict[str, NDArray[Any]]


class Opinions:
    """The memories and the popularity of a bundle.

    Fields
        known: log popularity as it counts (`known_popularity`), (P, capacity).
        is_open: which rows an event has had, (capacity,).
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._memories = AssociationMemory.named(bundle.config, 0)
        self.known: NDArray[np.float32] = np.zeros((0, 0), np.float32)
        self.is_open: NDArray[np.bool_] = np.zeros(0, bool)
        self.renew(grown=True)

    def renew(self, *, grown: bool) -> None:
        """The bundle is another version; `grown`: some of its arrays are others."""
        weights = self.bundle.weights
        if grown:
            for memory in self._memories:
                memory.read(weights)
        self.known = known_popularity(weights, self.known)
        if grown:
            self.is_open = np.zeros(len(weights["popularity"]), bool)
        np.greater(weights["popularity"][:, 0], UNSEEN / 10, out=self.is_open)

    def of_version(self) -> Inputs:
        """Those of the runtime inputs that are the same for all requests of a version."""
        return {OPEN: self.is_open, **{f"{KNOWN}{p}": one for p, one in enumerate(self.known)}}

    def inputs(
        self,
        histories: Sequence[Sequence[Entry]],
        now_ms: Sequence[int],
        shown: Sequence[Sequence[Shown]] = (),
        sessions: Sequence[int | None] | None = None,
        steps: Sequence[Steps] = (),
    ) -> Inputs:
        """The other runtime inputs: those of `encode_histories`, whose parameters these are, and of each memory the
        rows that it speaks of, int64 (B, S), and what it says, float32 (B, S), padded with zeros.
        """
        bundle = self.bundle
        rows, types, config = bundle.item_rows, bundle.types, bundle.config
        if not steps:
            type_index = {name: i + 1 for i, name in enumerate(types)}
            steps = [encode_entries(history, rows, type_index, config) for history in histories]
        arrays = encode_histories(histories, now_ms, rows, types, config, shown, sessions, steps)
        each = zip(histories, now_ms, steps, strict=True)
        recents = [recent_of(read, now - history[-1].time_ms if history else 0) for history, now, read in each]
        for memory in self._memories:
            said = [memory.arrive(recent) for recent in recents]
            arrays[rows_of(memory.name)], arrays[said_of(memory.name)] = _padded(said)
        return arrays


def said_by(
    session: Any,
    bundle: Bundle,
    outputs: Sequence[str],
    histories: Sequence[Sequence[Entry]],
    now_ms: Sequence[int],
    shown: Sequence[Sequence[Shown]] = (),
    sessions: Sequence[int | None] | None = None,
) -> dict[str, NDArray[np.float32]]:
    """What a bundle's graph says of histories, once, where nobody serves it.

    Parameters
        session: of ONNX Runtime, for the graph.
        bundle: whose weights are read.
        outputs: names (`graph.outputs_of`).
        histories, now_ms, shown, sessions: as of `encode_histories`.

    Returns
        By name, (B, capacity).
    """
    opinions, few = Opinions(bundle), few_of(session.get_modelmeta().custom_metadata_map)
    inputs = opinions.of_version() | opinions.inputs(histories, now_ms, shown, sessions)
    known = {one.name for one in session.get_inputs()}  # of an earlier release's graph not all
    given = {name: array for name, array in {**inputs, **bundle.weights}.items() if name in known}
    names = dict.fromkeys(one for name in outputs for one in ([v for _, v in few[name]] if name in few else [name]))
    said = dict(zip(names, session.run(list(names), given), strict=True)) if names else {}
    size = len(histories), bundle.capacity
    return {
        name: dense([(inputs[rows], said[values]) for rows, values in few[name]], size) if name in few else said[name]
        for name in outputs
    }


def few_of(told: Mapping[str, str]) -> dict[str, list[tuple[str, str]]]:
    """By what a graph says of few rows, the inputs that name them and the outputs: its metadata, see `names.FEW`."""
    found = orjson.loads(told.get(FEW, "{}"))
    return {name: [(rows, values) for rows, values in each] for name, each in found.items()}


def dense(few: Sequence[tuple[NDArray[np.int64], NDArray[np.float32]]], size: tuple[int, int]) -> NDArray[np.float32]:
    """(B, capacity), the sum of what a graph says of few rows, (B, S), and 0 of the others."""
    found = np.zeros(size, np.float32)
    for rows, values in few:
        np.add.at(found, (np.arange(len(rows))[:, None], rows), values)
    return found


def _padded(said: Sequence[Sparse]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    size = len(said), max(1, *(len(one.rows) for one in said)) if said else 1
    rows, values = np.zeros(size, np.int64), np.zeros(size, np.float32)
    for i, one in enumerate(said):
        rows[i, : len(one.rows)] = one.rows
        values[i, : len(one.rows)] = one.values
    return rows, values
