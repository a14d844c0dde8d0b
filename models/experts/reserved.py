"""Arrays of zeros that take memory only where they are written to, so that they can be as long as may ever be needed.

Before: nothing. After: what grows without end is written into one from its beginning on and is never copied. The system
gives address space, and a page of memory at the first write to it.
"""

from __future__ import annotations

import mmap
import sys
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["copied", "reserved"]

NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)
"""Python names it from 3.13 on: what is reserved does not count against the machine's memory."""


STRETCH = 1 << 16
"""Bytes that a copy looks at together."""


def copied(array: NDArray[Any]) -> NDArray[Any]:
    """A copy that takes no memory where a long array holds zeros, as tables do whose rows nobody has yet."""
    if not array.flags.c_contiguous or array.nbytes < 16 * STRETCH:
        return np.array(array)
    new = np.zeros(array.shape, array.dtype)
    held, found = array.reshape(-1).view(np.uint8), new.reshape(-1).view(np.uint8)
    for begin in range(0, len(held), STRETCH):
        some = held[begin : begin + STRETCH]
        if some.any():
            found[begin : begin + STRETCH] = some
    return new


def reserved(length: int, dtype: DTypeLike) -> NDArray[Any]:
    """An array (length,) of zeros.

    Raises
        OSError: the system gives no such stretch of addresses.
    """
    size = max(length * np.dtype(dtype).itemsize, 1)
    return np.frombuffer(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | NO_RESERVE), dtype, length)
