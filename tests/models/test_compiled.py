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
from models.experts.fusion_loops import best_rows
if sys.argv[1] == "full":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
print(best_rows(np.array([1.0, 3.0, 2.0], np.float32), 2).tolist())
"""


def best(cache: Path, disk: str = "free") -> str:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, disk], env=environment, capture_output=True, text=True, check=False
    )
    return ended.stdout + ended.stderr


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
def test_a_torn_file_of_compiled_code_is_made_again(kind: str, tmp_path: Path) -> None:
    assert best(tmp_path) == "[1, 2]\n"
    kept = list(tmp_path.rglob(f"*.{kind}"))
    assert kept
    for path in kept:
        path.write_bytes(path.read_bytes()[:40])
    assert best(tmp_path) == "[1, 2]\n"
    assert best(tmp_path) == "[1, 2]\n"


def test_a_full_disk_costs_the_cache_and_not_the_program(tmp_path: Path) -> None:
    assert best(tmp_path, "full") == "[1, 2]\n"
    assert not list(tmp_path.rglob("*.nbc"))
