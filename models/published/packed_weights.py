"""Arrays as one small file: each block of an array byte by byte of its numbers (all first bytes, all second), by LZ4.

Before: `layout` packs a bundle. After: a file or an object has the bytes. The high bytes of row numbers and of
exponents are nearly alike and places that nobody uses are zeros, so that a model takes a third of what its arrays do,
and no bit is lost. Packing costs less than hashing and writing what it saves.

Layout: 8 bytes head length, head (JSON: dtype and shape of each array, in order), then all blocks: 4 bytes length and
as many bytes. A block that would not get shorter is kept as it is.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import lz4.block
import numpy as np
import orjson
from numpy.typing import NDArray

from models.published.weights_file import DTYPES, MOST_HEAD, NAMES, HashedStream

__all__ = ["pack_arrays", "read_arrays"]

BLOCK = 1 << 20
"""Bytes of an array that are packed together; a multiple of every number's."""

MOST_TIMES = 256
"""LZ4 makes nothing shorter than by this factor: what claims more is no such file."""

Array = NDArray[Any]


def pack_arrays(arrays: Mapping[str, Array]) -> Iterator[bytes]:
    """The file of arrays, block by block."""
    said = orjson.dumps(
        {
            name: {"dtype": NAMES[array.dtype.newbyteorder("<")], "shape": list(array.shape)}
            for name, array in sorted(arrays.items())
        }
    )
    yield struct.pack("<Q", len(said))
    yield said
    for _, array in sorted(arrays.items()):
        held = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        for begin in range(0, len(held), BLOCK):
            turned = np.ascontiguousarray(held[begin : begin + BLOCK].reshape(-1, array.itemsize).T)
            packed = lz4.block.compress(turned, store_size=False)
            block = packed if len(packed) < turned.nbytes else turned.tobytes()
            yield struct.pack("<I", len(block))
            yield block


def read_arrays(stream: HashedStream) -> dict[str, Array]:
    """Arrays by name, writable, each in memory of its own.

    Raises
        ValueError, KeyError, TypeError, lz4.block.LZ4BlockError: it is no such file, or its head contradicts what
            follows.
    """
    (length,) = struct.unpack("<Q", stream.take(8))
    if length > MOST_HEAD:
        raise ValueError(f"its head would be {length:,} bytes long")
    found: dict[str, Array] = {}
    for name, said in orjson.loads(stream.take(length)).items():
        dtype, shape = np.dtype(DTYPES[said["dtype"]]), tuple(said["shape"])
        if min(shape, default=0) < 0:
            raise ValueError(f"{name} is {said['dtype']} {shape}")
        found[name] = np.empty(shape, dtype)
        held = found[name].reshape(-1).view(np.uint8)
        for begin in range(0, math.prod(shape) * dtype.itemsize, BLOCK):
            block = held[begin : begin + BLOCK]
            block.reshape(-1, dtype.itemsize)[...] = _block(stream, name, len(block)).reshape(dtype.itemsize, -1).T
    return found


def _block(stream: HashedStream, name: str, size: int) -> NDArray[np.uint8]:
    """The next block, byte by byte of its numbers, (size,)."""
    (length,) = struct.unpack("<I", stream.take(4))
    if not size // MOST_TIMES <= length <= size:
        raise ValueError(f"{name} has a block of {length:,} bytes for {size:,}")
    block = stream.take(length)
    if length < size:
        block = lz4.block.decompress(block, uncompressed_size=size)
        if len(block) != size:
            raise ValueError(f"{name} has a block that holds {len(block):,} bytes, not {size:,}")
    return np.frombuffer(block, np.uint8)
