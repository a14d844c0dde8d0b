"""Turns: what is compared runs one after the other, again and again, so that a neighbour disturbs all alike."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

__all__ = ["Left", "cpu_seconds", "in_turns", "optional", "peak_mb", "resident_mb", "timed"]

TICKS = os.sysconf("SC_CLK_TCK")


class Left(Exception):
    """A peer or tool that is not here; the text says how to get it."""


def in_turns(turns: int, parts: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Samples of each part, one a turn; every second turn goes backwards, so that none is always first.

    >>> in_turns(2, {"a": lambda: 1.0, "b": lambda: 2.0})
    {'a': [1.0, 1.0], 'b': [2.0, 2.0]}
    """
    found: dict[str, list[float]] = {name: [] for name in parts}
    for turn in range(turns):
        for name in reversed(parts) if turn % 2 else parts:
            found[name].append(parts[name]())
    return found


def timed(action: Callable[[], object], calls: int, clock: Callable[[], float] = time.process_time) -> float:
    """Milliseconds that one of `calls` calls takes, after two that find their arrays in memory: processor time, unless
    another clock is given.
    """
    action(), action()
    began = clock()
    for _ in range(calls):
        action()
    return (clock() - began) / calls * 1000


def optional(name: str, how: str = "pip install 'headwater-engine[bench]'") -> ModuleType:
    """A module that need not be installed.

    Raises
        Left: it is not; the text says how to get it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Left(f"{name} is left out, for it is not installed: {how}") from error


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has had, with that of its ended children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(int(one) for one in fields[11:15]) / TICKS


def resident_mb(pid: int) -> float:
    """Memory that a process holds, in MB."""
    return _status_mb(pid, "VmRSS:")


def peak_mb(pid: int) -> float:
    """The most memory that a process has held, in MB."""
    return _status_mb(pid, "VmHWM:")


def _status_mb(pid: int, name: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0
