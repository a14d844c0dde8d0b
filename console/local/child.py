"""Runs one worker module in a process that ends when the console that started it ends, even by kill -9.

Before: `console.local.processes` starts `python -m console.local.child streams.worker` and holds the other end of its
stdin. After: the worker, which knows nothing of this. When the pipe breaks, the worker gets the SIGTERM that the
console could not send any more, and is ended if it has not drained in time.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

from headwater.settings import load_settings

GRACE_S = 5.0
"""How long an orphaned worker may take to end beyond its own `operations.drain_s`."""


def _end_with_console() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(load_settings().operations.drain_s + GRACE_S)
    os._exit(1)


if __name__ == "__main__":
    worker, *words = sys.argv[1:]
    threading.Thread(target=_end_with_console, name="console-watch", daemon=True).start()
    sys.argv = [worker, *words]
    runpy.run_module(worker, run_name="__main__", alter_sys=True)
