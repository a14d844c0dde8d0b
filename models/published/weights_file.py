"""Arrays as one file, safetensors: written from where they lie, read straight into arrays of their own.

Before: `layout` packs a bundle. After: a file or an object has the bytes. The library reads and writes whole files as
one value in memory, which is the model once or twice more; here it is held once.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from headwater.errors import BundleError

__all__ = ["MOST_HEAD", "HashedStream", "pack_weights", "read_weights"]

Array = NDArray[Any]

MOST_HEAD = 1 << 26
"""Bytes of the head, which names each array: some KB as we write it."""

DTYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "F16": "<f2", "U32": "<u4", "I32": "<i4",
    "F32": "<f4", "U64": "<u8", "I64": "<i8", "F64": "<f8",
}  # fmt: skip
NAMES = {np.dtype(code): name for name, code in DTYPES.items()}


class HashedStream:
    """The bytes of one file in order, hashed as they pass.

    Parameters
        chunks: of any length.
    """

    def __init__(self, chunks: Iterable[bytes | memoryview]) -> None:
        self._chunks = iter(chunks)
        self._left = memoryview(b"")
        self._hash = hashlib.sha256()

    def fill(self, target: memoryview) -> None:
        """Fill a buffer with the bytes that come next. Raises ValueError when there are fewer."""
        at = 0
        while at < len(target):
            while not self._left:
                self._left = self._next()
            taken = min(len(self._left), len(target) - at)
            target[at : at + taken] = self._left[:taken]
            self._left = self._left[taken:]
            at += taken

    def take(self, length: int) -> bytearray:
        """So many bytes. Raises ValueError when there are fewer."""
        taken = bytearray(length)
        self.fill(memoryview(taken))
        return taken

    def rest(self, most: int) -> bytes:
        """All that is left. Raises BundleError where that is more than so many bytes: nobody waits for its checksum."""
        taken, size = [self._left], len(self._left)
        for chunk in self._chunks:
            taken.append(memoryview(self._hashed(chunk)))
            size += len(taken[-1])
            if size > most:
                raise BundleError(
                    f"a file of a bundle has over {most:,} bytes, more than there can be: delete the folder"
                )
        return b"".join(taken)

    def digest(self) -> str:
        """SHA-256 of the whole file; what was not taken is passed over."""
        self._left = memoryview(b"")
        for chunk in self._chunks:
            self._hash.update(chunk)
        return self._hash.hexdigest()

    def _hashed(self, chunk: bytes | memoryview) -> bytes | memoryview:
        self._hash.update(chunk)
        return chunk

    def _next(self) -> memoryview:
        chunk = next(self._chunks, None)
        if chunk is None:
            raise ValueError("it ends early")
        return memoryview(self._hashed(chunk)).cast("B")


def pack_weights(weights: Mapping[str, Array]) -> list[memoryview]:
    """The file of arrays in parts, which lie where the arrays lie (or copies of those that are not contiguous)."""
    head: dict[str, dict[str, Any]] = {}
    parts: list[memoryview] = []
    at = 0
    for name, array in sorted(weights.items(), key=lambda one: (-one[1].itemsize, one[0])):  # aligned, as others do it
        whole = np.ascontiguousarray(array)
        head[name] = {
            "dtype": NAMES[whole.dtype.newbyteorder("<")],
            "shape": list(array.shape),
            "data_offsets": [at, at + whole.nbytes],
        }
        parts.append(_bytes_of(whole))
        at += whole.nbytes
    packed = orjson.dumps(head)
    packed += b" " * (-len(packed) % 8)
    return [memoryview(struct.pack("<Q", len(packed)) + packed), *parts]


def read_weights(stream: HashedStream) -> dict[str, Array]:
    """Arrays by name, writable, each in memory of its own.

    Raises
        ValueError, KeyError, TypeError: it is no such file, or its head contradicts what follows.
    """
    (length,) = struct.unpack("<Q", stream.take(8))
    if length > MOST_HEAD:
        raise ValueError(f"its head would be {length:,} bytes long")
    head = orjson.loads(stream.take(length))
    head.pop("__metadata__", None)
    found: dict[str, Array] = {}
    at = 0
    for name, said in sorted(head.items(), key=lambda one: tuple(one[1]["data_offsets"])):
        begin, end = said["data_offsets"]
        dtype, shape = np.dtype(DTYPES[said["dtype"]]), tuple(said["shape"])
        if begin != at or end - begin != math.prod(shape) * dtype.itemsize or min(shape, default=0) < 0:
            raise ValueError(f"{name} is {said['dtype']} {shape} and lies at {begin}..{end}, after byte {at}")
        found[name] = np.empty(shape, dtype)
        stream.fill(_bytes_of(found[name]))
        at = end
    return found


def _bytes_of(array: Array) -> memoryview:
    return array.reshape(-1).view(np.uint8).data
