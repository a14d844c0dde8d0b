"""Arrays over items, which grow as items appear.

Knows no peer.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["room"]

Number = TypeVar("Number", bound=np.generic)


def room(array: NDArray[Number], rows: int) -> NDArray[Number]:
    """The array if it has `rows` rows, else a copy with at least twice its rows, the new ones zero."""
    if rows <= len(array):
        return array
    grown = np.zeros((max(rows, 2 * len(array)), *array.shape[1:]), array.dtype)
    grown[: len(array)] = array
    return grown
