"""Writing files and folders so that a crash leaves the old state or the new one, never half of either.

Before: `checkpoint` and `bundle` have bytes to keep. After: the file system has them. Knows nothing of their meaning.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["sync_directory", "write_synced"]


def write_synced(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Write parts to a new file, each as it is made, and wait until the disk has them."""
    with path.open("wb") as file:
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Wait until the disk has a directory's entries: a rename is only durable then."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
