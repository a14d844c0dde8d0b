"""One content digest for a model, wherever it is held: trainer, serving or backtest.

Before: a publication or an applied delta says which rows changed. After: receipts and announcements carry the digest.
Knows arrays and names, not what they mean.

Arrays are hashed in chunks of rows, and the digest is the hash of the chunks' hashes (Merkle 1987, two levels), so
that a delta costs what it touched and not the whole model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.config import ModelConfig
from models.part import LATER

__all__ = ["ModelDigest", "hash_all"]

CHUNK_ROWS = 256

Array = NDArray[Any]


class ModelDigest:
    """Chunk hashes of a set of arrays."""

    def __init__(self) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.chunks: dict[str, list[bytes]] = {}

    def update(self, name: str, array: Array, rows: NDArray[np.int64] | None = None) -> None:
        """Hash an array again: all of it, or the chunks that hold `rows` if its shape is as before.

        What models of an earlier release lack leaves no trace while it is zeros: it says as much as nothing.
        """
        if name in LATER and not array.any():
            self.shapes.pop(name, None)
            self.chunks.pop(name, None)
            return
        if rows is None or self.shapes.get(name) != array.shape:
            self.shapes[name] = array.shape
            self.chunks[name] = [_hash(array, i) for i in range(-(-len(array) // CHUNK_ROWS))]
            return
        for i in np.unique(rows // CHUNK_ROWS).tolist():
            self.chunks[name][i] = _hash(array, i)

    def value(self, items: Sequence[str | None], types: Sequence[str], config: ModelConfig) -> str:
        """The digest, 64 hexadecimal characters, of arrays, row owners, type vocabulary and configuration."""
        whole = hashlib.sha256()
        for name in sorted(self.chunks):
            whole.update(f"{name}{self.shapes[name]}".encode())
            whole.update(b"".join(self.chunks[name]))
        whole.update(json.dumps([list(items), list(types), config.model_dump(mode="json")]).encode())
        return whole.hexdigest()

    def copy(self) -> ModelDigest:
        """An independent copy."""
        other = ModelDigest()
        other.shapes = dict(self.shapes)
        other.chunks = {name: list(chunks) for name, chunks in self.chunks.items()}
        return other


def hash_all(weights: Mapping[str, Array]) -> ModelDigest:
    """Chunk hashes of whole arrays."""
    digest = ModelDigest()
    for name, array in weights.items():
        digest.update(name, array)
    return digest


def _hash(array: Array, chunk: int) -> bytes:
    part = np.ascontiguousarray(array[chunk * CHUNK_ROWS : (chunk + 1) * CHUNK_ROWS])
    return hashlib.sha256(part.data if part.size else b"").digest()
