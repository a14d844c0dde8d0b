"""What each expert adds to the fused scores of a few rows: `facts` reads it. Knows opinions, not whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.block import Sparse
from models.compiled import compiled
from models.experts.expert import Dense

__all__ = ["Voice", "contributions_of"]

Array = NDArray[np.float32]
Rows = NDArray[np.int64]


class Voice(NamedTuple):
    """One opinion: of the expert at which place, how far it is trusted, and what it says."""

    place: int
    trust: np.float32
    said: Sparse | Dense


def contributions_of(voices: Sequence[Voice], experts: int, rows: Rows, scratch: Array) -> Array:
    """(experts, C) of `rows` (C,), the sum of an expert's opinions. `scratch` (N,) is zeros and stays so."""
    found = np.zeros((experts, len(rows)), np.float32)
    for place, trust, said in voices:
        if isinstance(said, Dense):
            _add_dense(said.values, said.shift, said.floor, trust, rows, found[place])
        else:
            _add_sparse(said.rows, said.values, trust, rows, scratch, found[place])
    return found


@compiled
def _add_dense(values: Array, shift: np.float32, floor: np.float32, trust: np.float32, rows: Rows, out: Array) -> None:
    for c in range(len(rows)):
        value = values[rows[c]] - shift
        out[c] += trust * (floor if value < floor else value)


@compiled
def _add_sparse(where: Rows, values: Array, trust: np.float32, rows: Rows, scratch: Array, out: Array) -> None:
    for i in range(len(where)):
        scratch[where[i]] = values[i]
    for c in range(len(rows)):
        out[c] += trust * scratch[rows[c]]
    for i in range(len(where)):
        scratch[where[i]] = 0.0
