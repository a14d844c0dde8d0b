"""Arrays that take memory only where they are written to or read.

Before: nothing. After: what grows without end is written into a `reserved` array of zeros from its beginning on and is
never copied: the system gives address space, and a page of memory at the first write to it. What is seldom read is
`filed`: the system reads a page where it is asked for, and may drop it again.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["copied", "filed", "give_back", "reserved"]

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


def filed(array: NDArray[Any], directory: Path) -> NDArray[Any]:
    """A copy in a file without a name, gone with the last array of it; a copy in memory where the disk takes none.

    What is written into it stays in memory.
    """
    if array.nbytes < STRETCH:
        return np.array(array)
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
            file.flush()
            held = mmap.mmap(file.fileno(), array.nbytes, access=mmap.ACCESS_COPY)
    except (OSError, ValueError):
        return copied(array)
    return np.frombuffer(held, array.dtype).reshape(array.shape)


def give_back() -> None:
    """Give the system what was freed within the C library's heap, 5 ms for each gigabyte, where the library can.

    Arrays of some MB, once freed, leave gaps that are kept for the next one: after a bundle and a checkpoint these were
    an eighth of a trainer.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
