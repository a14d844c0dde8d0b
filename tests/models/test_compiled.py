"""Compiled code that is kept on disk: whatever happens to it there, the program goes on."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.learner import compile_loops
from models.ranker import second
from tests.worlds.processes import ROOT

PROGRAM = """
import resource, signal, sys
from models.compiled import compiled, compiled_sums
if sys.argv[1] == "full":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

@compiled
def twice(number):
    return 2 * number

@compiled_sums
def sum_of_doubles(upto):
    total = 0
    for number in range(upto):
        total += twice(number)
    return total

print(sum_of_doubles(4))
"""


def found(folder: Path, disk: str = "free") -> str:
    """What the program says, its compiled code kept in the folder."""
    program = folder / "program.py"
    program.write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(folder / "cache")}
    os.utime(program, (0, 0))  # numba takes a newer file for another program
    ended = subprocess.run(
        [sys.executable, str(program), disk], env=environment, capture_output=True, text=True, check=False
    )
    return ended.stdout + ended.stderr


def test_compiled_code_whose_index_names_what_an_upgrade_moved_is_made_again(tmp_path: Path) -> None:
    assert found(tmp_path) == "12\n"
    for path in tmp_path.rglob("*.nbi"):
        version = pickle.dumps(pickle.loads(path.read_bytes()))
        path.write_bytes(version + b"cmodels.compiled\nGone\n.")
    assert found(tmp_path) == "12\n"


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
def test_a_torn_file_of_compiled_code_is_made_again(kind: str, tmp_path: Path) -> None:
    assert found(tmp_path) == "12\n"
    kept = list(tmp_path.rglob(f"*.{kind}"))
    assert kept
    for path in kept:
        path.write_bytes(path.read_bytes()[:40])
    assert found(tmp_path) == "12\n"
    assert found(tmp_path) == "12\n"


def test_a_full_disk_costs_the_cache_and_not_the_program(tmp_path: Path) -> None:
    assert found(tmp_path, "full") == "12\n"
    assert not list(tmp_path.rglob("*.nbc"))


def test_a_trainer_that_is_ready_has_the_loops_of_content_too(monkeypatch: pytest.MonkeyPatch) -> None:
    called: set[str] = set()

    def noted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments: (called.add(name), real(*arguments))[1]

    for name, real in {"profile_of": second.profile_of, "teach_taste": second.teach_taste}.items():
        monkeypatch.setattr(second, name, noted(name, real))
    compile_loops()
    assert called == {"profile_of", "teach_taste"}
