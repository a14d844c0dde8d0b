"""The one shape of a worker process: settings, port, servers, work, drain, exit code.

Before: `python -m streams.worker`, `trainer.worker` or `serving.worker`. After: a supervisor that starts the process
again. Knows nothing of what a worker does: each is a class with the five methods of `Worker`, and `run_worker` is all
that calls them. What the exit codes mean stands in `headwater.process.operations`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import NoReturn, Protocol

from headwater import tracing
from headwater.errors import AccessDenied, HeadwaterError, Stalled, Unavailable
from headwater.process.operations import EXIT_DRAINED, EXIT_STALLED, EXIT_WRONG, Operations
from headwater.process.retry import Stopped, refusal
from headwater.settings import Settings, load_settings

__all__ = ["Worker", "run_worker"]

LOOK_EVERY_S = 0.05

log = logging.getLogger("headwater")


class Worker(Protocol):
    """What a process does between its start and its end. Called in this order, each from the main thread but the first.

    Raises
        HeadwaterError: something that a person has to put right.
        Stalled, or any other exception: a part failed.
        Stopped: from `operations.retry`, which waits for servers that are away.
    """

    def await_servers(self) -> None:
        """Return when every server has answered and has what is needed. In a thread of its own, so that SIGTERM ends
        it."""

    def open(self) -> None:
        """Make what the work needs: clients, models, threads."""

    def run(self) -> None:
        """Work until `operations.stopping` is set."""

    def drain(self) -> None:
        """Finish what was begun, within `operations.drain_s`. Not called when `run` failed or was never called."""

    def close(self) -> None:
        """Leave the servers, whatever has happened and however little was opened."""


def run_worker(name: str, make: Callable[[Settings, Operations], Worker]) -> NoReturn:
    """Be the worker process: its end is the end of this call.

    Parameters
        name: the worker's short name, as in log lines and metrics: `streams`, `trainer`, `serving`.
        make: makes the worker from settings, before any server is asked. Raises HeadwaterError for a wrong setting.
    """
    try:
        settings = load_settings()
        operations = Operations(name, settings.operations)
        worker = make(settings, operations)
        operations.start()
        tracing.begin(f"headwater-{name}")
    except HeadwaterError as error:
        print(f"{name}.worker: {error}", file=sys.stderr)
        _leave(EXIT_WRONG)
    code = _worked(worker, operations)
    try:
        worker.close()
    except Exception as error:  # what was finished is written; the exit code tells of the work, not of this
        log.warning("not everything was closed in order", exc_info=error)
    tracing.finish()
    log.info("stopped", extra={"exit_code": code})
    operations.close()
    _leave(code)


def _worked(worker: Worker, operations: Operations) -> int:
    try:
        with contextlib.suppress(Stopped):
            if not _servers_answer(worker, operations):
                return EXIT_DRAINED
            worker.open()
            with contextlib.suppress(Stopped):
                worker.run()
            operations.retry.begin_drain(operations.settings.drain_s)
            worker.drain()
        return EXIT_DRAINED
    except Exception as error:  # noqa: BLE001 - told below, and what it means for the process
        return _told(error)


def _told(error: Exception) -> int:
    """Tell what ended the work; the exit code."""
    denied = refusal(error)
    if denied is not None and not isinstance(denied, AccessDenied):
        log.error(
            "a server refuses what this worker asks of it: %r. Allow it there (`headwater acls` prints what each "
            "worker needs), then start again; what exactly is missing is told at the start",
            denied,
        )
        return EXIT_WRONG
    if denied is not None or (isinstance(error, HeadwaterError) and not isinstance(error, (Stalled, Unavailable))):
        log.error("%s", denied or error)
        return EXIT_WRONG
    if isinstance(error, HeadwaterError):
        log.error("exiting so that a fresh process takes over", exc_info=error)
    else:
        log.error("failed: exiting so that a fresh process takes over", exc_info=error)
    return EXIT_STALLED


def _servers_answer(worker: Worker, operations: Operations) -> bool:
    """True when they do; False when told to stop before, whatever call is still under way."""
    answer = ThreadPoolExecutor(1, "servers").submit(worker.await_servers)
    while not wait([answer], LOOK_EVERY_S).done:
        if operations.stopping.is_set():
            return False
    answer.result()
    operations.progress()  # what the worker still takes to start is a wait of its own
    return True


def _leave(code: int) -> NoReturn:
    """End the process now: threads and tasks of clients may linger, and what is not written by now is read again."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
