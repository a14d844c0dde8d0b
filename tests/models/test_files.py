"""Files that are written whole or not at all."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from models.files import write_synced


def test_parts_are_not_gathered_before_they_are_written(tmp_path: Path) -> None:
    made: list[weakref.ref[np.ndarray]] = []

    def parts() -> Iterator[memoryview]:
        for number in range(4):
            held = [one for one in made if one() is not None]
            assert len(held) <= 1  # the one that was written last
            part = np.full(8, number, np.uint8)
            made.append(weakref.ref(part))
            yield memoryview(part)

    write_synced(tmp_path / "file", parts())
    assert (tmp_path / "file").read_bytes() == b"".join(bytes([number] * 8) for number in range(4))
