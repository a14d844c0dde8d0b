"""Associations as tables of one length for every row, as releases before pools kept them.

Before: a memory, or what is published of one. After: tests compare them with what such tables held.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from models.experts.associations import Associations


def dense_of(held: Associations, slots: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """A pool as tables (rows, slots)."""
    rows = len(held.size)
    ids = np.repeat(np.arange(rows, dtype=np.int32)[:, None], slots, 1)
    weights = np.zeros((rows, slots), np.float32)
    for row, (start, size) in enumerate(zip(held.start.tolist(), held.size.tolist(), strict=True)):
        ids[row, :size], weights[row, :size] = held.ids[start : start + size], held.weights[start : start + size]
    return ids, weights
