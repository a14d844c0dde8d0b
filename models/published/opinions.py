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
from models.inputs import Steps, encode_entries, encode_histories, recent_of
from models.published.bundle import Bundle
from models.published.names import FEW, rows_of, said_of

__all__ = ["Opinions", "dense", "few_of", "runtime_inputs"]

Inputs = dict[str, NDArray[Any]]


class Opinions:
    """The memories of a bundle; `renew` where its arrays are others."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._memories = AssociationMemory.named(bundle.config, 0)
        self.renew()

    def renew(self) -> None:
        """Read the arrays of the bundle as they are now."""
        for memory in self._memories:
            memory.read(self.bundle.weights)

    def inputs(
        self,
        histories: Sequence[Sequence[Entry]],
        now_ms: Sequence[int],
        shown: Sequence[Sequence[Shown]] = (),
        sessions: Sequence[int | None] | None = None,
        steps: Sequence[Steps] = (),
    ) -> Inputs:
        """The runtime inputs of the graph: those of `encode_histories`, whose parameters these are, and of each memory
        the rows that it speaks of, int64 (B, S), and what it says, float32 (B, S), padded with zeros.
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


def runtime_inputs(
    bundle: Bundle,
    histories: Sequence[Sequence[Entry]],
    now_ms: Sequence[int],
    shown: Sequence[Sequence[Shown]] = (),
    sessions: Sequence[int | None] | None = None,
) -> Inputs:
    """What a run of a bundle's graph is told of histories, beside its weights; see `Opinions.inputs`."""
    return Opinions(bundle).inputs(histories, now_ms, shown, sessions)


def few_of(told: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """By what a graph says of few rows, the input that names them and the output: its metadata, see `names.FEW`."""
    return {name: (rows, values) for name, (rows, values) in orjson.loads(told.get(FEW, "{}")).items()}


def dense(rows: NDArray[np.int64], values: NDArray[np.float32], capacity: int) -> NDArray[np.float32]:
    """(B, capacity), what a graph says of few rows (B, S), and 0 of the others."""
    found = np.zeros((len(rows), capacity), np.float32)
    np.add.at(found, (np.arange(len(rows))[:, None], rows), values)
    return found


def _padded(said: Sequence[Sparse]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    size = len(said), max(1, *(len(one.rows) for one in said)) if said else 1
    rows, values = np.zeros(size, np.int64), np.zeros(size, np.float32)
    for i, one in enumerate(said):
        rows[i, : len(one.rows)] = one.rows
        values[i, : len(one.rows)] = one.values
    return rows, values
