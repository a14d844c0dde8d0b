"""Workers of a campaign, a supervisor or a demo that are forked, and so start in little time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from console.local.processes import WorkerProcess
from tests.worlds import forking
from tests.worlds.processes import ROOT


class ForkedWorkerProcess(WorkerProcess):
    """As `headwater chaos` and a supervisor start it, but by a process that has its libraries ready."""

    def spawn(self, env: dict[str, str]) -> Any:
        module, *words = self.command
        made = forking.start(
            module, *words, environment=env, folder=ROOT, log=Path(self.log_path), runs="".join(words[:1])
        )
        made.stdin = None  # ended with the tests by whoever forked it
        return made
