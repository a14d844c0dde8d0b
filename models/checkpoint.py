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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
from numpy.typing import NDArray

from headwater.errors import CheckpointError
from models.files import sync_directory
from models.published.weights_file import HashedStream, pack_weights, read_weights

__all__ = ["FORMAT", "draft_checkpoint", "finish_checkpoint", "read_checkpoint", "write_checkpoint"]

MAGIC = b"HWCKPT\x00\x01"
HASH = hashlib.sha256().digest_size
BEFORE = len(MAGIC) + HASH
CHUNK = 1 << 20
WRITTEN = 1 << 24
"""Bytes written at once, before it is told that there is progress."""

FORMAT = 1
REMEDY = "use an older checkpoint, or delete it to learn from the start of the examples log"


def write_checkpoint(path: Path, tensors: Mapping[str, NDArray[Any]], header: Mapping[str, Any]) -> None:
    """Replace a checkpoint: written beside it, synced, renamed, and the directory synced.

    Parameters
        path: the file; its directory is made where it is missing.
        tensors: arrays by name, of any shape and dtype that safetensors has.
        header: any JSON.

    Raises
        OSError: the disk refuses.
    """
    draft_checkpoint(path, tensors, header)
    finish_checkpoint(path)


def draft_checkpoint(
    path: Path,
    tensors: Mapping[str, NDArray[Any]],
    header: Mapping[str, Any],
    progress: Callable[[], None] = lambda: None,
) -> None:
    """Write all of a checkpoint but its checksum beside it, without waiting for the disk; see `write_checkpoint`.

    Afterwards arrays and header may change: what is written is theirs of now, and was copied nowhere else. `progress`
    is called with each part that is written.
    """
    head = orjson.dumps({"format": FORMAT, **header})
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft(path)
    try:
        with draft.open("wb") as file:
            file.write(MAGIC + bytes(HASH))
            file.write(struct.pack("<Q", len(head)) + head)
            for part in _cut(pack_weights(tensors)):
                file.write(part)
                progress()
    except OSError:
        draft.unlink(missing_ok=True)  # what there is room for may be less than this
        raise


def _cut(parts: list[memoryview]) -> Iterator[memoryview]:
    for part in parts:
        for at in range(0, len(part), WRITTEN):
            yield part[at : at + WRITTEN]


def finish_checkpoint(path: Path, progress: Callable[[], None] = lambda: None) -> None:
    """Make a draft the checkpoint, with its checksum, once the disk has it; `progress` is called with each part that is
    read. Raises OSError.
    """
    draft, check = _draft(path), hashlib.sha256()
    try:
        with draft.open("r+b") as file:
            file.seek(BEFORE)
            while chunk := file.read(CHUNK):
                check.update(chunk)
                progress()
            file.seek(len(MAGIC))
            file.write(check.digest())
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.writing")


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
