"""A campaign in the suite: workers that are forked, and so start in little time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from console.local.processes import WorkerProcess
from tests.worlds import forking
from tests.worlds.processes import ROOT


class ForkedWorkerProcess(WorkerProcess):
    """As `headwater chaos` starts it, but by a process that has its libraries ready."""

    def spawn(self, env: dict[str, str]) -> Any:
        module, *words = self.command
        made = forking.start(module, *words, environment=env, folder=ROOT, log=Path(self.log_path), runs=words[0])
        made.stdin = None  # ended with the tests by whoever forked it
        return made
