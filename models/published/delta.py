"""What changed between two publications, and how it travels: touched rows, dense weights, item rows.

Before: `learner.publish`. After: `Bundle.apply`, in trainer tests and in serving. Knows bytes, not topics: the parts
are made small enough for one Kafka message each and say what they belong to.

A part is: 4 bytes magic, 32 bytes SHA-256 of the rest, 4 bytes head length, head (JSON), a piece of the payload. The
payload is safetensors; piece p of version v, joined in order, gives it back. No pickle.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from headwater.errors import BundleError

__all__ = ["Delta", "DeltaAssembler", "DeltaPart", "decode_part", "encode_delta"]

MAGIC = b"HWD\x01"
REMEDY = "the next full bundle replaces what is missing"
HEAD_RESERVE = 2048


@dataclass(frozen=True)
class Delta:
    """What changed from version `parent_version` (digest `parent`) to `version` (digest `digest`).

    Fields
        capacity: rows of the tables afterwards.
        metrics, extra, created_ms, types: as in a Bundle.
        items: (row, item id or None) of each row that changed hands.
        dense: whole arrays by name.
        rows: by name of a row table, row numbers (r,) int64 and their new values (r, ...). Of the memory tables,
            (capacity, slots), places in the flattened table (s,) and their new values (s,): an event changes a few
            slots of many rows.
    """

    version: int
    parent_version: int
    parent: str | None
    digest: str
    created_ms: int
    capacity: int
    metrics: dict[str, Any]
    extra: dict[str, Any]
    types: list[str]
    items: list[tuple[int, str | None]]
    dense: dict[str, NDArray[Any]]
    rows: dict[str, tuple[NDArray[np.int64], NDArray[Any]]]


@dataclass(frozen=True)
class DeltaPart:
    """One message of a delta: piece `part` (from 0) of `parts`."""

    version: int
    parent_version: int
    digest: str
    part: int
    parts: int
    payload: bytes


def encode_delta(delta: Delta, max_bytes: int = 900_000) -> list[bytes]:
    """The messages of a delta.

    Parameters
        delta: stays as it is.
        max_bytes: none is longer; at least 4096.

    Raises
        ValueError: the limit is too low.
    """
    if max_bytes < 4096:
        raise ValueError(f"max_bytes is {max_bytes}; a part needs at least 4096")
    tensors: dict[str, NDArray[Any]] = {f"dense/{name}": np.ascontiguousarray(a) for name, a in delta.dense.items()}
    shared: dict[bytes, str] = {}  # tables changed in the same places share one copy of these
    places: dict[str, str] = {}
    for name, (where, values) in delta.rows.items():
        key = where.tobytes()
        if key not in shared:
            shared[key] = f"rows/{len(shared)}"
            small = not len(where) or int(where.max()) < 2**31
            tensors[shared[key]] = where.astype(np.int32 if small else np.int64)
        places[name] = shared[key]
        tensors[f"values/{name}"] = np.ascontiguousarray(values)
    about = {
        "created_ms": delta.created_ms,
        "capacity": delta.capacity,
        "parent": delta.parent,
        "metrics": delta.metrics,
        "extra": delta.extra,
        "types": delta.types,
        "items": delta.items,
        "places": places,
    }
    head = orjson.dumps(about)
    payload = struct.pack("<Q", len(head)) + head + safetensors.numpy.save(tensors)
    size = max_bytes - HEAD_RESERVE
    parts = max(-(-len(payload) // size), 1)
    return [_part(delta, i, parts, payload[i * size : (i + 1) * size]) for i in range(parts)]


def _part(delta: Delta, part: int, parts: int, piece: bytes) -> bytes:
    head = orjson.dumps(
        {
            "version": delta.version,
            "parent_version": delta.parent_version,
            "digest": delta.digest,
            "part": part,
            "parts": parts,
        }
    )
    rest = struct.pack("<I", len(head)) + head + piece
    return MAGIC + hashlib.sha256(rest).digest() + rest


def decode_part(data: bytes) -> DeltaPart:
    """One message of a delta.

    Raises
        BundleError: it is cut off, corrupt or of another format.
    """
    if data[: len(MAGIC)] != MAGIC or len(data) < 40:
        raise BundleError(f"a model delta of {len(data)} bytes has an unknown format or is cut off: {REMEDY}")
    rest = data[36:]
    if hashlib.sha256(rest).digest() != data[4:36]:
        raise BundleError(f"a model delta of {len(data)} bytes is corrupt (checksum differs): {REMEDY}")
    (length,) = struct.unpack("<I", rest[:4])
    try:
        return DeltaPart(**orjson.loads(rest[4 : 4 + length]), payload=rest[4 + length :])
    except (orjson.JSONDecodeError, TypeError) as error:
        raise BundleError(f"a model delta has a head that this release cannot read ({error}): {REMEDY}") from error


class DeltaAssembler:
    """Collects the parts of deltas, in any order, until one is whole. Parts of a version older than one begun are
    dropped.
    """

    def __init__(self) -> None:
        self.key: tuple[int, str, int] | None = None
        self.pieces: dict[int, bytes] = {}

    def add(self, data: bytes) -> Delta | None:
        """Take in one message.

        Parameters
            data: what `encode_delta` made, in any order; a part that comes twice counts once.

        Returns
            The delta, when this was its last missing part; else None.

        Raises
            BundleError: the message, or the delta that it completes, cannot be read.
        """
        part = decode_part(data)
        key = (part.version, part.digest, part.parts)
        if key != self.key:
            if self.key is not None and part.version < self.key[0]:
                return None
            self.key, self.pieces = key, {}
        self.pieces[part.part] = part.payload
        if len(self.pieces) < part.parts:
            return None
        payload = b"".join(self.pieces[i] for i in range(part.parts))
        self.pieces = {}
        return _join(part, payload)


def _join(part: DeltaPart, payload: bytes) -> Delta:
    try:
        (length,) = struct.unpack("<Q", payload[:8])
        about = orjson.loads(payload[8 : 8 + length])
        tensors = safetensors.numpy.load(payload[8 + length :])
        places: dict[str, str] = about.pop("places")
        rows = {name: (tensors[at].astype(np.int64), tensors[f"values/{name}"]) for name, at in places.items()}
        items = [(int(row), item_id) for row, item_id in about.pop("items")]
        dense = {name.removeprefix("dense/"): array for name, array in tensors.items() if name.startswith("dense/")}
        return Delta(
            version=part.version,
            parent_version=part.parent_version,
            digest=part.digest,
            items=items,
            dense=dense,
            rows=rows,
            **about,
        )
    except (struct.error, orjson.JSONDecodeError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"model delta {part.version} cannot be decoded ({error!r}): {REMEDY}") from error
