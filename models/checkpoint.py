"""One checkpoint file: arrays and a JSON header in one container, whole or not at all.

Before: `learner.save` has the state. After: `learner.load` reads it back bit by bit. Knows nothing of what the state
means.

Layout: 8 bytes magic, 32 bytes SHA-256 of all that follows, 8 bytes header length, header (JSON), safetensors. No
pickle: a checkpoint from an untrusted place can be wrong, not run code. Arrays are written from where they lie and read
into what they become: no byte of them is held twice.
"""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path
from typing import Any

import orjson
from numpy.typing import NDArray

from headwater.errors import CheckpointError
from models.files import sync_directory, write_synced
from models.published.weights_file import HashedStream, pack_weights, read_weights

__all__ = ["FORMAT", "read_checkpoint", "write_checkpoint"]

MAGIC = b"HWCKPT\x00\x01"
BEFORE = len(MAGIC) + 32
CHUNK = 1 << 20
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
    parts = [memoryview(struct.pack("<Q", len(head))), memoryview(head), *pack_weights(tensors)]
    check = hashlib.sha256()
    for part in parts:
        check.update(part)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.writing")
    write_synced(temporary, MAGIC, check.digest(), *parts)
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
        with path.open("rb") as file:
            size, start = os.fstat(file.fileno()).st_size, file.read(BEFORE)
            _refuse_foreign(path, start, size)
            stream, wrong = HashedStream(iter(lambda: file.read(CHUNK), b"")), None
            tensors, header = {}, None
            try:
                (length,) = struct.unpack("<Q", stream.take(8))
                header = orjson.loads(stream.take(min(length, size)))
                tensors = read_weights(stream)
            except OSError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever the bytes made of it: their checksum tells first
                wrong = error
            damaged = stream.digest() != start[len(MAGIC) :].hex()
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read ({error}): check the path, or {REMEDY}") from error
    if damaged:
        raise CheckpointError(f"checkpoint {path} is truncated or corrupt (checksum differs): {REMEDY}")
    if wrong is not None:
        raise CheckpointError(f"checkpoint {path} cannot be decoded ({wrong}): {REMEDY}") from wrong
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise CheckpointError(f"checkpoint {path} has another format than {FORMAT}: {REMEDY}")
    return tensors, header


def _refuse_foreign(path: Path, start: bytes, size: int) -> None:
    """Refuse what begins as no checkpoint of this release does. Raises CheckpointError."""
    if size < BEFORE + 8 or start[:6] != MAGIC[:6]:
        raise CheckpointError(f"{path} is no checkpoint, or is cut off ({size} bytes): {REMEDY}")
    if start[: len(MAGIC)] != MAGIC:
        raise CheckpointError(
            f"{path} is a checkpoint of container {start[7]}; this release reads {MAGIC[7]}: {REMEDY}"
        )
