"""A worker that somebody can tamper with: `python -m chaos.tampered streams.worker FILE`, FILE holding seconds that its
clock is off. Of a trainer FILE.nan names an array of the sequence encoder of which a number is no number from then on,
as bad memory leaves it.

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
from typing import Any

__all__ = ["WEIGHTS", "broken_by", "turn_clock"]

LOOK_EVERY_S = 0.2
WEIGHTS = ("table", "bias", "dense")


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


def broken_by(clock: Path) -> Path:
    """The file that breaks the weights of the trainer whose clock goes by a file."""
    return clock.with_suffix(".nan")


def break_weights(file: Path) -> None:
    """From now on the learner of this process has a NaN once the file is there; it is taken away."""
    from models.learner import Learner

    learn = Learner.learn

    def learn_and_break(self: Any, examples: Any) -> Any:
        found = learn(self, examples)
        with contextlib.suppress(FileNotFoundError):
            name = file.read_text()
            file.unlink()
            getattr(self.parts.sequence.encoder, name).detach().view(-1)[0] = float("nan")
        return found

    Learner.learn = learn_and_break  # type: ignore[method-assign]


if __name__ == "__main__":
    worker, clock = sys.argv[1:]
    turn_clock(Path(clock))
    if worker == "trainer.worker":
        break_weights(broken_by(Path(clock)))
    sys.argv = [worker]
    runpy.run_module(worker, run_name="__main__", alter_sys=True)
