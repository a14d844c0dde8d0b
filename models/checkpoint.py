"""One checkpoint file: arrays and a JSON header in one container, whole or not at all.

Before: `learner.save` has the state. After: `learner.load` reads it back bit by bit. Knows nothing of what the state
means.

Layout: 8 bytes magic, 32 bytes SHA-256 of all that follows, 8 bytes header length, header (JSON), safetensors. No
pickle: a checkpoint from an untrusted place can be wrong, not run code.
"""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from headwater.errors import CheckpointError
from models.files import sync_directory, write_synced

__all__ = ["FORMAT", "read_checkpoint", "write_checkpoint"]

MAGIC = b"HWCKPT\x00\x01"
FORMAT = 1
REMEDY = "use an older checkpoint, or delete it to learn from the start of the examples log"


def write_checkpoint(path: Path, tensors: dict[str, NDArray[Any]], header: dict[str, Any]) -> None:
    """Replace a checkpoint: written beside it, synced, renamed, and the directory synced.

    Parameters
        path: the file; its directory is made where it is missing.
        tensors: arrays by name, of any shape and dtype that safetensors has.
        header: any JSON.

    Raises
        OSError: the disk refuses.
    """
    head = orjson.dumps({"format": FORMAT, **header})
    body = safetensors.numpy.save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()})
    check = hashlib.sha256(struct.pack("<Q", len(head)))
    check.update(head)
    check.update(body)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.writing")
    write_synced(temporary, MAGIC, check.digest(), struct.pack("<Q", len(head)), head, body)
    os.replace(temporary, path)
    sync_directory(path.parent)


def read_checkpoint(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read a checkpoint, its checksum verified.

    Returns
        Arrays by name, and the header.

    Raises
        CheckpointError: the file is missing, truncated, corrupt or of another format; it says what to do.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read ({error}): check the path, or {REMEDY}") from error
    if len(data) < 48 or data[:6] != MAGIC[:6]:
        raise CheckpointError(f"{path} is no checkpoint, or is cut off ({len(data)} bytes): {REMEDY}")
    if data[:8] != MAGIC:
        raise CheckpointError(f"{path} is a checkpoint of container {data[7]}; this release reads {MAGIC[7]}: {REMEDY}")
    rest = memoryview(data)[40:]
    if hashlib.sha256(rest).digest() != data[8:40]:
        raise CheckpointError(f"checkpoint {path} is truncated or corrupt (checksum differs): {REMEDY}")
    (length,) = struct.unpack("<Q", rest[:8])
    try:
        header = orjson.loads(rest[8 : 8 + length])
        tensors = safetensors.numpy.load(bytes(rest[8 + length :]))
    except (orjson.JSONDecodeError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"checkpoint {path} cannot be decoded ({error}): {REMEDY}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise CheckpointError(f"checkpoint {path} has another format than {FORMAT}: {REMEDY}")
    return tensors, header
