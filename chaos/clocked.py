"""A worker whose clock somebody can turn: `python -m chaos.clocked streams.worker FILE`, FILE holding seconds to add.

Before: `chaos.stack`. After: the worker, which asks the time as always. Only what asks Python for the wall clock is
turned (`time.time`, `time.time_ns`); waiting and time-outs go by another clock that no step reaches, as on a real
machine.
"""

from __future__ import annotations

import contextlib
import runpy
import sys
import time
from pathlib import Path

__all__ = ["turn_clock"]

LOOK_EVERY_S = 0.2


def turn_clock(file: Path) -> None:
    """From now on the wall clock of this process is the machine's and what the file says, in seconds."""
    wall_ns, steady = time.time_ns, time.monotonic
    offset_ns, due = 0, 0.0

    def time_ns() -> int:
        nonlocal offset_ns, due
        if (now := steady()) >= due:
            due = now + LOOK_EVERY_S
            with contextlib.suppress(OSError, ValueError):  # not there, or half written: as before
                offset_ns = int(float(file.read_text()) * 1e9)
        return wall_ns() + offset_ns

    time.time_ns = time_ns
    time.time = lambda: time_ns() / 1e9


if __name__ == "__main__":
    worker, clock = sys.argv[1:]
    turn_clock(Path(clock))
    sys.argv = [worker]
    runpy.run_module(worker, run_name="__main__", alter_sys=True)
