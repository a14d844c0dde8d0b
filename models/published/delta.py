"""What changed between two publications, and how it travels: touched rows, dense weights, item rows.

Before: `learner.publish`. After: `Bundle.apply`, in trainer tests and in serving. Knows bytes, not topics: the parts
are made small enough for one Kafka message each and say what they belong to.

A part is: 4 bytes magic, 32 bytes SHA-256 of the rest, 4 bytes head length, head (JSON), a piece of the payload. The
payload is safetensors; piece p of version v, joined in order, gives it back. No pickle.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import orjson
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, Strict

from headwater.errors import BundleError
from models.published.announcement import DeltaHeaders
from models.published.bounds import (
    MAX_PARTS,
    MAX_VERSION,
    Count,
    Digest,
    SaidOfModel,
    Version,
    checked_body,
    only_bundle_errors,
)

__all__ = ["Delta", "DeltaAssembler", "DeltaPart", "decode_part", "encode_delta"]

MAGIC = b"HWD\x01"
REMEDY = "the next full bundle replaces what is missing"
HEAD_RESERVE = 2048
MOST_CLAIMS = 8
"""Deltas that claim to be the same version and are collected side by side."""


@dataclass(frozen=True)
class Delta:
    """What changed from version `parent_version` (digest `parent`) to `version` (digest `digest`).

    Fields
        capacity: rows of the tables afterwards.
        metrics, extra, created_ms, types: as in a Bundle.
        items: (row, item id or None) of each row that changed hands.
        dense: whole arrays by name.
        rows: by name of a table, row numbers (r,) int64 and their new values (r, ...); of an array of a pool, places
            (s,) and their new values (s,). Memory tables of an earlier release, (capacity, slots), are pools in this.
        pools: how many places each pool has afterwards.
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
    pools: dict[str, int] = field(default_factory=dict)


class _PartHead(BaseModel):
    """What a message says of itself: piece `part` (from 0) of `parts`."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    version: Version
    parent_version: Annotated[int, Field(ge=0, lt=MAX_VERSION)]
    digest: Digest
    part: Annotated[int, Field(ge=0, lt=MAX_PARTS)]
    parts: Annotated[int, Field(ge=1, le=MAX_PARTS)]


class DeltaPart(_PartHead):
    """One message of a delta."""

    payload: bytes


class _PayloadHead(SaidOfModel):
    """What the joined pieces say before the arrays; `places` names the array of row numbers of each of `rows`."""

    capacity: Count
    pools: dict[str, Count] = Field(default_factory=dict)
    items: list[Annotated[tuple[Count, str | None], Strict(False)]]  # JSON has arrays
    places: dict[str, str]


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
        "pools": delta.pools,
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
        BundleError: it is cut off, corrupt or of another format, and nothing else is raised.
    """
    what = f"a model delta of {len(data)} bytes"
    if data[: len(MAGIC)] != MAGIC or len(data) < 40:
        raise BundleError(f"{what} has an unknown format or is cut off: {REMEDY}")
    rest = data[36:]
    if hashlib.sha256(rest).digest() != data[4:36]:
        raise BundleError(f"{what} is corrupt (checksum differs): {REMEDY}")
    with only_bundle_errors(what, REMEDY):
        (length,) = struct.unpack("<I", rest[:4])
        head = checked_body(_PartHead, orjson.loads(rest[4 : 4 + length]), f"the head of {what}", REMEDY)
        if not (head.part < head.parts and head.parent_version < head.version):
            raise BundleError(f"the head of {what} contradicts itself ({head}): {REMEDY}")
        return DeltaPart(**head.model_dump(), payload=rest[4 + length :])


class DeltaAssembler:
    """Collects the parts of deltas, in any order, until one is whole. Parts of a version older than one begun are
    dropped; of one version, several that claim to be it are collected side by side.
    """

    def __init__(self) -> None:
        self._version = 0
        self._begun: dict[tuple[str, int], dict[int, bytes]] = {}  # by digest and number of parts

    def add(self, data: bytes, said: DeltaHeaders | None = None) -> Delta | None:
        """Take in one message.

        Parameters
            data: what `encode_delta` made, in any order; a part that comes twice counts once.
            said: what its headers say, where its reader goes by them: a message that says otherwise is refused.

        Returns
            The delta, when this was its last missing part; else None.

        Raises
            BundleError: the message, or the delta that it completes, cannot be read. Nothing else is raised, and what
                was collected of a good one stays.
        """
        part = decode_part(data)
        if said is not None and said[:3] + said[4:] != (part.version, part.parent_version, part.parts, part.part):
            raise BundleError(f"a model delta's headers ({said}) are not those of its content: {REMEDY}")
        if part.version < self._version:
            return None
        if part.version > self._version:
            self._version, self._begun = part.version, {}
        pieces = self._begun.setdefault((part.digest, part.parts), {})
        if len(self._begun) > MOST_CLAIMS:
            del self._begun[next(iter(self._begun))]
        pieces[part.part] = part.payload
        if len(pieces) < part.parts:
            return None
        del self._begun[part.digest, part.parts]
        return _join(part, b"".join(pieces[i] for i in range(part.parts)))


def _join(part: DeltaPart, payload: bytes) -> Delta:
    what = f"model delta {part.version}"
    with only_bundle_errors(what, REMEDY):
        (length,) = struct.unpack("<Q", payload[:8])
        about = checked_body(_PayloadHead, orjson.loads(payload[8 : 8 + length]), f"the head of {what}", REMEDY)
        tensors = safetensors.numpy.load(payload[8 + length :])
        return Delta(
            version=part.version,
            parent_version=part.parent_version,
            digest=part.digest,
            items=about.items,
            dense={name.removeprefix("dense/"): array for name, array in tensors.items() if name.startswith("dense/")},
            rows={name: (_whole(tensors[at]), tensors[f"values/{name}"]) for name, at in about.places.items()},
            **about.model_dump(exclude={"items", "places"}),
        )


def _whole(numbers: NDArray[Any]) -> NDArray[np.int64]:
    if numbers.dtype.kind != "i" or numbers.ndim != 1:
        raise ValueError(f"row numbers are {numbers.dtype} of {numbers.ndim} dimensions")
    return numbers.astype(np.int64)
