"""Compiled code that is kept on disk: whatever happens to it there, the program goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import resource, signal, sys
import numpy as np
from models.config import MemoryConfig
from models.experts.memory import AssociationMemory
if sys.argv[1] == "full":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
memory = AssociationMemory(MemoryConfig(reach=2, symmetric=False, write_fade=1.0, read_fade=1.0, slots=4), 4)
memory.tables.weights[1, 0], memory.tables.ids[1, 0] = 1.0, 2
print(memory.score(np.array([1]))[0].tolist())
"""


def found(cache: Path, disk: str = "free") -> str:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, disk], env=environment, capture_output=True, text=True, check=False
    )
    return ended.stdout + ended.stderr


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
def test_a_torn_file_of_compiled_code_is_made_again(kind: str, tmp_path: Path) -> None:
    assert found(tmp_path) == "[2]\n"
    kept = list(tmp_path.rglob(f"*.{kind}"))
    assert kept
    for path in kept:
        path.write_bytes(path.read_bytes()[:40])
    assert found(tmp_path) == "[2]\n"
    assert found(tmp_path) == "[2]\n"


def test_a_full_disk_costs_the_cache_and_not_the_program(tmp_path: Path) -> None:
    assert found(tmp_path, "full") == "[2]\n"
    assert not list(tmp_path.rglob("*.nbc"))
