"""Worker processes that begin with their libraries imported: forked by a process that has imported them and waits.

Importing torch, numba and the clients is most of what a short-lived worker computes, and the suite starts a worker 150
times. All jobs of a run ask the same such processes, which end with the last that asks. Libraries are imported ahead,
and what of a worker's own modules costs most; its `worker.py` it imports itself, as `python -m` does. Nothing with
threads is among them, for threads do not survive a fork: onnxruntime has one. Whole starts, as a user's, are those of
`headwater up` in tests/system and tests/console.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from functools import cache
from pathlib import Path
from typing import Any

CLIENTS = (
    *("kafka", "orjson", "prometheus_client", "pydantic_settings", "redis"),
    *("headwater.client", "headwater.process"),
)
LEARNING = ("torch", "numba", "numpy", "onnx", *CLIENTS)
LOOPS = "models.learner"
"""Whoever has imported it has every compiled loop ready, too."""

AHEAD = {
    "streams.worker": ("faust.app", "faust.transport.drivers.aiokafka", "uvloop", *CLIENTS, "streams.agents"),
    "serving.worker": (
        *("numba", "numpy", "onnx", "safetensors", *CLIENTS),
        *("streams.features.store", "models.published.bundle", "serving.filters"),
    ),
    "trainer.worker": (*LEARNING, LOOPS),
    "gateway.worker": ("uvicorn", "starlette.applications", "uvloop", *CLIENTS),
    "console": LEARNING,
}
"""Program -> libraries."""

POSSIBLE = sys.platform == "linux"
"""Elsewhere libraries that talk to the system may not be used after a fork."""


ENVIRONMENT = dict(os.environ)
"""What the suite was started with, and nothing that a test has set since."""


class Forked:
    """A process that a `Nursery` has forked, with what tests use of `subprocess.Popen`."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._nursery = nursery
        self._lock = threading.Lock()  # whoever learns of the end is the last who may ask for it

    def poll(self) -> int | None:
        """The exit code, or minus the signal that ended it; None while it runs."""
        with self._lock:
            if self.returncode is None:
                self.returncode = self._nursery.ask(ended=self.pid)
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once there is one. TimeoutExpired after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"worker {self.pid}", timeout or 0)
            time.sleep(0.01)
        return code

    def send_signal(self, number: int) -> None:
        """Nothing where it has ended: its pid is its own until then."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Nursery:
    """A process with the libraries of one worker or of a few, which it forks; started by the first job that asks."""

    def __init__(self, libraries: tuple[str, ...], folder: Path) -> None:
        self._lock = threading.Lock()
        self._socket = _greeted(libraries, folder)
        self._answers = self._socket.makefile("rb")
        atexit.register(self.close)

    def ask(self, **asked: Any) -> Any:
        """One question, its answer."""
        with self._lock:
            self._socket.sendall(json.dumps(asked).encode() + b"\n")
            answer = self._answers.readline()
        assert answer, "the process that forks workers has ended"
        return json.loads(answer)

    def close(self) -> None:
        """Whatever it has forked for this job, and still runs, ends."""
        self._socket.shutdown(socket.SHUT_WR)
        self._answers.read()  # to its end: it has ended them
        self._answers.close()
        self._socket.close()


def _greeted(libraries: tuple[str, ...], folder: Path) -> socket.socket:
    """A connection to the run's process with these libraries, once it has imported them."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or str(os.getpid())
    name = f"headwater-{run}-{zlib.crc32(repr((libraries, str(folder))).encode())}"
    for _ in range(3):  # one that is just ending greets nobody
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(f"\0{name}")
        except ConnectionRefusedError:
            command = [sys.executable, "-m", __name__, name, *libraries]
            nothing = subprocess.DEVNULL
            subprocess.run(command, cwd=folder, env=ENVIRONMENT, stdin=nothing, stdout=nothing, check=True)
            connection.connect(f"\0{name}")
        if connection.recv(1):
            return connection
        connection.close()
    raise AssertionError(f"the process that forks workers has ended: does it import {', '.join(libraries)}?")


@cache
def _nursery(libraries: tuple[str, ...], folder: Path) -> Nursery:
    return Nursery(libraries, folder)


def start(
    module: str, *words: str, environment: dict[str, str], folder: Path, log: Path, runs: str = ""
) -> Forked | subprocess.Popen[bytes]:
    """`python -m module words` in a folder, with this environment; what it prints is appended to the log. `runs` is the
    module that it runs in turn, where it does."""
    if POSSIBLE and (runs or module) in AHEAD:
        nursery = _nursery(AHEAD[runs or module], folder)
        return Forked(nursery, nursery.ask(words=[module, *words], log=str(log), environment=environment))
    with log.open("ab") as output:
        command = [sys.executable, "-m", module, *words]
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)


def _listening(name: str) -> socket.socket:
    """Where jobs connect, held by a process of its own: whoever started this one learns that it may connect."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(f"\0{name}")
    except OSError:  # another job has just started one
        sys.exit()
    listener.listen(64)
    if os.fork():
        os._exit(0)
    return listener


def _serve(listener: socket.socket) -> list[str]:
    """Answer questions until nobody is left who asks; in a forked process, return the words of its command."""
    running: dict[socket.socket, set[int]] = {}
    unread: dict[socket.socket, bytes] = {}
    while True:
        for ready in select.select([listener, *running], [], [])[0]:
            if ready is listener:
                asking, _ = listener.accept()
                if struct.unpack("3i", asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1] == os.getuid():
                    running[asking], unread[asking] = set(), b""
                    asking.sendall(b"\n")
                else:
                    asking.close()
            elif received := _received(ready):
                *lines, unread[ready] = (unread[ready] + received).split(b"\n")
                for asked in map(json.loads, lines):
                    if "ended" in asked:
                        answer = _ended(asked["ended"], running[ready])
                    elif answer := os.fork():
                        running[ready].add(answer)
                    else:
                        for one in (listener, *running):
                            one.close()
                        _become(asked["log"], asked["environment"])
                        return list(asked["words"])
                    with contextlib.suppress(OSError):  # a job that was killed
                        ready.sendall(json.dumps(answer).encode() + b"\n")
            else:
                for pid in running.pop(ready):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                ready.close()
                if not running:
                    os._exit(0)


def _received(asking: socket.socket) -> bytes:
    """What it has sent; nothing when it has ended."""
    try:
        return asking.recv(65536)
    except ConnectionError:
        return b""


def _ended(pid: int, running: set[int]) -> int | None:
    """The exit code of a process that was forked; None while it runs."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    running.discard(ended)
    return os.waitstatus_to_exitcode(status) if ended else None


def _become(log: str, environment: dict[str, str]) -> None:
    """A process that has this environment and log, no input, and ends on Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for given, wanted in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(given, wanted)
    os.close(nothing)
    os.close(output)
    os.environ.clear()
    os.environ.update(environment)


def _main(name: str, *libraries: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: whoever asks ends, and this with it
    listener = _listening(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in libraries:
            importlib.import_module(name)
        if "numba" in sys.modules:  # which imports most of itself, and scipy, at its first function
            sys.modules["numba"].njit(lambda number: number)(0)
        if LOOPS in sys.modules and os.environ.get("OMP_NUM_THREADS") == "1":  # else torch starts threads for them
            sys.modules[LOOPS].compile_loops()
    threads = len(os.listdir("/proc/self/task"))
    assert threads == 1, f"one of {', '.join(libraries)} has started a thread: do not import it here"
    gc.collect()
    gc.freeze()  # what is never looked at again stays shared
    sys.argv = _serve(listener)
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
