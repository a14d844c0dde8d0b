"""Runs benches one after the other, each as a process of its own: one that fails or hangs leaves the others alone."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.ruler.__main__ import broker_name
from benchmarks.ruler.figures import Report
from benchmarks.ruler.machine import ROOT, commit, machine
from benchmarks.ruler.registry import Bench

__all__ = ["RunOptions", "run"]

LONGEST_S = 1800
QUICK_LONGEST_S = 300
DRAIN_S = 30
"""How long a bench that is told to end may take to stop what it started."""


@dataclass(frozen=True)
class RunOptions:
    """How all of them run."""

    out: Path
    quick: bool = False
    broker: str = "embedded"


def run(chosen: Sequence[Bench], asked: RunOptions) -> Iterator[Report]:
    """Each one's report, as soon as it is there; it is saved in `asked.out`."""
    for one in chosen:
        yield _run(one, asked)


def _run(one: Bench, asked: RunOptions) -> Report:
    words = [sys.executable, "-m", "benchmarks.ruler", one.name, "--broker", asked.broker]
    words += ["--quick"] if asked.quick else []
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    began, stamp, load = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds"), os.getloadavg()[0]
    longest = QUICK_LONGEST_S if asked.quick else LONGEST_S
    with tempfile.TemporaryDirectory(prefix="headwater-bench-", ignore_cleanup_errors=True) as folder:
        work = Path(folder, "work")
        work.mkdir()
        with _process([*words, "--out", folder, "--work", str(work)], env) as child:
            try:
                code = child.wait(longest)
                why = f"the process ended with exit code {code}"
            except subprocess.TimeoutExpired:
                why = f"not done within {longest} s"
        found = list(Path(folder).glob("*.json"))
        if found:
            report = Report.load_from(found[0])
        else:
            report = Report(
                bench=one.name,
                about=one.about,
                broker=broker_name(asked.broker) if one.uses_broker else "",
                quick=asked.quick,
                machine=machine(),
                commit=commit(),
                began=stamp,
                seconds=round(time.monotonic() - began, 1),
                load=(round(load, 2), round(os.getloadavg()[0], 2)),
                rows=[],
                failed=why,
            )
    report.save(asked.out)
    return report


@contextlib.contextmanager
def _process(words: list[str], env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is gone afterwards, and had time to stop what it started. What it prints goes to stderr."""
    child = subprocess.Popen(words, env=env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=2)
    try:
        yield child
    finally:
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(DRAIN_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
