"""Child processes that never outlive their parent, and the embedded broker as one of them.

Before: console and tests, which want a server. After: `python -m embedded.broker` or a store's binary. It knows
nothing of what a server does, only how to see that it is ready.

A small shell stands between parent and server. It holds a pipe from the parent, and when the pipe ends, however the
parent died, it stops the server. (PR_SET_PDEATHSIG would follow the parent's thread, not the process, and exists on
Linux only.)
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

PACKAGE_PARENT = str(Path(__file__).resolve().parents[1])
START_TIMEOUT_S = 30.0
STOP_GRACE_S = 10.0
PORT_ATTEMPTS = 5  # a free port may be taken by someone else before the server binds it
FIRST_PORT = 10_000

_GUARD = """
log=$1; shift
exec 2>>"$log" 3<&0
"$@" 3<&- </dev/null >>"$log" 2>&1 &
child=$!
(
  read -r _ <&3
  kill -TERM "$child"
  n=0
  while [ $n -lt 50 ] && kill -0 "$child"; do sleep 0.1; n=$((n+1)); done
  kill -KILL "$child"
) >/dev/null 2>&1 &
watcher=$!
echo "$child"
exec 3<&-
wait "$child"; code=$?
kill -KILL "$watcher"
exit "$code"
"""


class StartFailed(RuntimeError):
    """A server did not come up; the text ends with what it said last."""


class ServerProcess:
    """A server on this machine: start, stop, kill, start again on the same folder and port.

    Subclasses say what to run (`command`), how it shows that it is ready (`ready`) and what its address looks like. Use
    as a context manager, or call `start` and `stop`. Not thread-safe.
    """

    name = "server"
    announcement = ""
    """What it writes to its log once it listens; somebody else's server at its port does not write there."""
    start_timeout_s = START_TIMEOUT_S
    tunables = ""
    """Of the C library's allocator, for the server, where nobody has set any."""

    def __init__(self, data_dir: str | os.PathLike[str], port: int = 0) -> None:
        self.data_dir = Path(data_dir)
        self.port = port
        self._fixed_port = port != 0
        self._guard: subprocess.Popen[str] | None = None
        self._pid: int | None = None
        self._log_start = 0  # bytes of the log that are of earlier starts

    def command(self) -> list[str]:
        """What to run; `self.port` is set."""
        raise NotImplementedError

    def ready(self) -> bool:
        """True once clients are served."""
        raise NotImplementedError

    @property
    def address(self) -> str:
        """Where clients connect."""
        return f"127.0.0.1:{self.port}"

    @property
    def log_path(self) -> Path:
        """Where the server's output goes."""
        return self.data_dir / f"{self.name}.out"

    @property
    def pid(self) -> int:
        """Process id of the server itself; RuntimeError if it is not running."""
        if self._pid is None or not self.running:
            raise RuntimeError(f"the {self.name} is not running: call start()")
        return self._pid

    @property
    def running(self) -> bool:
        """True from start until the process has ended, for whatever reason."""
        return self._guard is not None and self._guard.poll() is None

    def start(self) -> Self:
        """Starts the server and returns once it is ready; StartFailed, with the end of its log, if it is not."""
        if self.running:
            raise RuntimeError(f"the {self.name} is running already, as process {self._pid}")
        if self._guard is not None:
            self._reap()  # it ended by itself
        self.data_dir.mkdir(parents=True, exist_ok=True)
        for _ in range(PORT_ATTEMPTS):
            if not self._fixed_port:
                self.port = free_port()
            self._spawn()
            if self._wait_ready():
                self._fixed_port = True  # a restart keeps its clients
                return self
            self.kill()
            if self._fixed_port or "listen" not in self._log_tail():  # another port would not help
                break
        raise StartFailed(
            f"the {self.name} did not come up on port {self.port} within {self.start_timeout_s:.0f} s; "
            f"the end of {self.log_path}:\n{self._log_tail()}"
        )

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Asks the server to end and waits; kills it after `grace_s`. Nothing happens if it has ended already."""
        if self._guard is None:
            return
        self._signal(signal.SIGTERM)
        try:
            self._guard.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
        self._reap()

    def kill(self) -> None:
        """Ends the server as a crash would (SIGKILL) and waits until it is gone."""
        if self._guard is not None:
            self._signal(signal.SIGKILL)
            self._reap()

    def __enter__(self) -> Self:
        return self if self.running else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _spawn(self) -> None:
        self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(part for part in (PACKAGE_PARENT, os.environ.get("PYTHONPATH")) if part),
        }
        if self.tunables:
            environment.setdefault("GLIBC_TUNABLES", self.tunables)
        self._guard = subprocess.Popen(
            ["sh", "-c", _GUARD, "guard", str(self.log_path), *self.command()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )  # a terminal's ^C reaches the parent only, which stops us in order
        assert self._guard.stdout is not None
        words = self._guard.stdout.readline()
        if not words:
            raise StartFailed(f"the {self.name} could not be started: no process; see {self.log_path}")
        self._pid = int(words)

    def _wait_ready(self) -> bool:
        deadline = time.monotonic() + self.start_timeout_s
        while time.monotonic() < deadline and self.running:
            if self._announced() and self.ready():
                return self.running
            time.sleep(0.02)
        return False

    def _announced(self) -> bool:
        try:
            with self.log_path.open("rb") as log:
                log.seek(self._log_start)
                return self.announcement.encode() in log.read()
        except FileNotFoundError:
            return False

    def _signal(self, number: int) -> None:
        # while the guard runs it has not reaped the server, so the pid cannot be someone else's
        if self.running and self._pid is not None:
            try:
                os.kill(self._pid, number)
            except ProcessLookupError:
                return

    def _reap(self) -> None:
        assert self._guard is not None
        self._guard.wait()
        for pipe in (self._guard.stdin, self._guard.stdout):
            if pipe is not None:
                pipe.close()
        self._guard = None
        self._pid = None

    def _log_tail(self) -> str:
        try:
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-15:])
        except FileNotFoundError:
            return "(nothing)"


class EmbeddedBroker(ServerProcess):
    """The embedded broker as a child process.

    Parameters
        data_dir: made where it is missing; what is in it is served.
        port: on 127.0.0.1; 0 takes a free one.
        options: further words of the broker's command line.
    """

    name = "embedded broker"
    announcement = "embedded broker ready on"

    def __init__(self, data_dir: str | os.PathLike[str], port: int = 0, options: tuple[str, ...] = ()) -> None:
        super().__init__(data_dir, port)
        self.options = options

    @property
    def log_path(self) -> Path:
        """Where the broker's output goes."""
        return self.data_dir / "broker.out"

    def command(self) -> list[str]:
        """The broker on this interpreter."""
        return [
            sys.executable,
            "-m",
            "embedded.broker",
            "--data-dir",
            str(self.data_dir),
            "--port",
            str(self.port),
            *self.options,
        ]

    def ready(self) -> bool:
        """True once it answers an ApiVersions request."""
        request = struct.pack(">hhih", 18, 0, 7, -1)
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(struct.pack(">i", len(request)) + request)
                return connection.recv(8)[4:8] == struct.pack(">i", 7)
        except OSError:
            return False


def free_port() -> int:
    """A port of the loopback interface that was free just now. It is none of those that the system gives to connections
    that go out, where it says which these are: one of them would take it before the server does.
    """
    try:
        first_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        first_given = 0
    wanted = (
        random.SystemRandom().sample(range(FIRST_PORT, first_given), PORT_ATTEMPTS)
        if first_given > 2 * FIRST_PORT
        else []
    )
    for port in (*wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found: int = probe.getsockname()[1]
            return found
    raise StartFailed("no port of 127.0.0.1 is free")
