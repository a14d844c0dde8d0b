"""What every worker process has: structured logs, /metrics, /healthz, /readyz, SIGTERM, and a watchdog.

Before: settings. After: the loops of the streams, trainer and serving workers. Knows nothing of what they do: a loop
calls `progress()` whenever it has finished some work or has seen that none is waiting. When it has not for `stall_s`
seconds, the process exits with code 70, so that its supervisor starts a fresh one; a worker never dies silently. Time
in which the machine had no core for it does not count: a fresh process would have none either.
Starting is progress, for up to `START_S`, but for waiting for a server that is away. The exit codes of all workers are
here.
"""

from __future__ import annotations

import _thread
import contextlib
import faulthandler
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from headwater.errors import SettingsError
from headwater.process.masks import error_text, show_user_ids, traceback_text, user_text
from headwater.process.retry import Retry
from headwater.settings import OperationsSettings

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["EXIT_DRAINED", "EXIT_STALLED", "EXIT_WRONG", "START_S", "Operations", "family_of", "in_url"]

START_S = 600.0
"""Longest time that a start may take from one step to the next. On a full machine a first import of torch and the
compiling of loops take minutes, and a fresh process would take no less."""

EXIT_DRAINED = 0
"""Told to stop (SIGTERM, SIGINT), and what was begun is finished."""

EXIT_WRONG = 2
"""A person has to put something right, and one line says what: a setting, a file, a taken port, another log."""

EXIT_STALLED = 70
"""No progress for `stall_s`, or a part of the worker failed for another reason than a server that is away for a while
(EX_SOFTWARE of sysexits): a fresh process takes over."""

STOP_LOOK_S = 0.1
"""Between two looks of the port's thread whether it is told to stop: a worker's end waits for one."""

TELL_S = 5.0
"""What the last words of a stalled process may take: that nobody reads its log may be why it stands still."""

SILENT_S = 10.0
"""Who connects to the port and neither sends nor takes anything for so long is gone: a thread waits for each."""

log = logging.getLogger("headwater")

_PLAIN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class _JsonLines(logging.Formatter):
    """One JSON object a line: time, level, worker, message, and whatever `extra` holds."""

    def __init__(self, worker: str) -> None:
        super().__init__()
        self.worker = worker

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "worker": self.worker,
            "message": _message(record),
        }
        line.update({name: _shown(name, value) for name, value in record.__dict__.items() if name not in _PLAIN})
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = traceback_text(record.exc_info[1])
        return json.dumps(line, default=str)


def _message(record: logging.LogRecord) -> str:
    if isinstance(record.args, tuple) and any(isinstance(one, BaseException) for one in record.args):
        shown = tuple(_ErrorText(error_text(one)) if isinstance(one, BaseException) else one for one in record.args)
        return str(record.msg) % shown
    return record.getMessage()


class _ErrorText(str):
    """A text that `%r` writes as it is, as the error in whose place it stands would be."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _shown(name: str, value: Any) -> Any:
    if isinstance(value, BaseException):
        return error_text(value)
    return user_text(value) if name == "user" and isinstance(value, str) else value


class Operations:
    """Health, metrics and stopping of one worker process.

    Parameters
        worker: its short name.
        settings: port, log level, `stall_s`, `drain_s`.

    `stopping` is set by SIGTERM or SIGINT; the loop then drains and returns. `retry` waits for servers that are away,
    until then. `registry` is the prometheus registry that /metrics shows. /healthz answers 200 while the process lives;
    /readyz answers 200 when `ready` was called, progress is recent, and no `trouble` and no end was told, else 503 with
    the reason; either has the `remark` beside it.
    """

    def __init__(self, worker: str, settings: OperationsSettings) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge

        self.worker = worker
        self.settings = settings
        self.stopping = threading.Event()
        self.registry: CollectorRegistry = CollectorRegistry()
        self.log = logging.getLogger("headwater")
        self.port = 0
        self._ready = threading.Event()
        self._started = threading.Event()
        self._parts_starting = 0
        self._trouble: str | None = None
        self._remark: str | None = None
        self._last_progress = (time.monotonic(), core_wait_s())
        self._server: ThreadingHTTPServer | None = None
        self._closed = threading.Event()
        Gauge(
            "headwater_seconds_since_progress",
            "Seconds since the worker last made progress; 0 while it starts.",
            registry=self.registry,
        ).set_function(lambda: time.monotonic() - self._last_progress[0] if self._started.is_set() else 0.0)
        retries = Counter("headwater_retries", "Waits for a server that was away.", ["server"], registry=self.registry)
        self.retry = Retry(self.stopping, lambda server: retries.labels(server).inc())

    def start(self, *, signals: bool = True) -> None:
        """Open the port, start the watchdog, take over the log, SIGTERM and SIGINT.

        Parameters
            signals: False leaves signals alone; only the main thread may take them.

        Raises
            SettingsError: the port cannot be had.
        """
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_JsonLines(self.worker))
        show_user_ids(self.settings.log_user_ids)
        logging.basicConfig(handlers=[handler], level=self.settings.log_level, force=True)
        logging.getLogger("kafka").setLevel(logging.WARNING)
        logging.getLogger("kafka.net.selector").setLevel(logging.ERROR)  # warns whenever the worker computes for 0.1 s
        if signals:
            for number in (signal.SIGTERM, signal.SIGINT):
                # a handler runs between two lines of the main thread, which may hold the event's own lock, as a handler
                # does that a second signal has interrupted: setting it there could wait for itself for ever
                signal.signal(number, lambda *_: _thread.start_new_thread(self.stopping.set, ()))
            if hasattr(signal, "SIGUSR1"):
                faulthandler.register(signal.SIGUSR1)  # tells where it stands, of every thread
        self._server = self._listening()
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(STOP_LOOK_S,), name="metrics", daemon=True).start()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        self.log.info("started", extra={"pid": os.getpid(), "port": self.port})

    def _listening(self) -> ThreadingHTTPServer:
        host, port = self.settings.host, self.settings.port
        try:
            return _Port(host, port, _handler(self))
        except OSError as error:
            raise SettingsError(
                f"cannot listen on {in_url(host)}:{port} ({error.strerror}). Set HEADWATER_OPERATIONS__PORT to a port "
                "that is free (0 takes any), HEADWATER_OPERATIONS__HOST to an address of this machine."
            ) from None

    def progress(self) -> None:
        """Work was finished, or none was waiting."""
        self._last_progress = (time.monotonic(), core_wait_s())

    def started(self) -> None:
        """The worker begins to work: from now on `stall_s` counts."""
        self.progress()
        self._started.set()

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """For a part of the worker that begins its work later than the rest, such as the first model: it may stand
        still for as long as a start may. From one thread alone.
        """
        self._parts_starting += 1
        try:
            yield
        finally:
            self._parts_starting -= 1

    def ready(self) -> None:
        """The worker has what it needs to do its work. It may still have to compile before it begins."""
        self.progress()
        self._ready.set()

    def trouble(self, reason: str | None) -> None:
        """What part of its work a worker that makes progress cannot do, for /readyz; None: there is none any more."""
        self._trouble = reason

    def remark(self, text: str | None) -> None:
        """What a person should know of a worker that does its work, for /readyz; None: nothing any more."""
        self._remark = text

    def readiness(self) -> str:
        """What /readyz says."""
        said = self.stalled() or "ready"
        return said if self._remark is None else f"{said}; {self._remark}"

    def stalled(self) -> str | None:
        """Why the worker is not to be trusted with work, or None."""
        stalled = self._stalled_for()
        if stalled is not None:
            return stalled
        if self._trouble is not None:
            return self._trouble
        if self.stopping.is_set():
            return "stopping"
        return None if self._ready.is_set() else "starting"

    def _stalled_for(self) -> str | None:
        """For how long nothing has moved that should have, in words, when that is too long."""
        idle, away = self._idle_s(), self.retry.away_s()
        starts = not self._started.is_set() or self._parts_starting > 0
        limit = max(START_S, self.settings.stall_s) if starts else self.settings.stall_s
        if idle > limit:
            what = "no progress while starting" if starts else "no progress"
            return f"{what} for {idle:.0f} s (limit {limit:.0f} s)"
        if not self._started.is_set() and away > self.settings.stall_s:
            return f"a server is away for {away:.0f} s (limit {self.settings.stall_s:.0f} s)"
        return None

    def _idle_s(self, since: float = 0.0) -> float:
        """Seconds without progress in which the main thread could have made some."""
        at, waited = self._last_progress
        return time.monotonic() - max(at, since) - (core_wait_s() - waited)

    def close(self) -> None:
        """Close the port and end the watch."""
        self._closed.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _watch(self) -> None:
        told: float | None = None
        while not self._closed.wait(min(1.0, self.settings.stall_s / 4)):
            if told is None and self.stopping.is_set():
                told = time.monotonic()  # what came before is over: draining has a time of its own
            stalled = self._stalled_for() if told is None else self._undrained_for(told)
            if stalled is not None:
                telling = threading.Thread(target=self._tell, args=(stalled,), name="last words", daemon=True)
                telling.start()
                telling.join(TELL_S)
                os._exit(EXIT_STALLED)

    def _tell(self, stalled: str) -> None:
        sys.stderr.write(_stacks())
        self.log.error("stalled: exiting so that a fresh process takes over", extra={"why": stalled})
        sys.stderr.flush()

    def _undrained_for(self, told: float) -> str | None:
        idle, limit = self._idle_s(told), self.settings.stall_s + self.settings.drain_s
        return f"no progress in draining for {idle:.0f} s (limit {limit:.0f} s)" if idle > limit else None


def _stacks() -> str:
    """Where each thread stands, as far as a pipe takes it."""
    taking, giving = os.pipe()
    os.set_blocking(giving, False)
    faulthandler.dump_traceback(giving)  # which holds the interpreter while it writes: it must wait for nobody
    os.close(giving)
    with open(taking, errors="replace") as told:
        return told.read()


def core_wait_s() -> float:
    """Seconds that this process's main thread was ready to run and had no core; 0 where the system does not tell.

    Source
        Linux, Documentation/scheduler/sched-stats.rst: the second field of /proc/PID/schedstat, in ns.
    """
    try:
        with open(f"/proc/{os.getpid()}/schedstat", "rb") as file:
            return int(file.read().split()[1]) * 1e-9
    except (OSError, IndexError, ValueError):
        return 0.0


def family_of(host: str) -> socket.AddressFamily:
    """Of an address to listen on: IPv6 has colons. `::` is every address of either family.

    >>> family_of("::1").name, family_of("0.0.0.0").name
    ('AF_INET6', 'AF_INET')
    """
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def in_url(host: str) -> str:
    """An address as it stands before a port.

    >>> in_url("::1"), in_url("127.0.0.1")
    ('[::1]', '127.0.0.1')
    """
    return f"[{host}]" if ":" in host else host


class _Port(ThreadingHTTPServer):
    """Of either family of addresses: Kubernetes gives its pods IPv6 alone, where it has no other."""

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = family_of(host)
        super().__init__((host, port), handler)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Who hangs up, as a balancer does that only looks whether a port is open, is no news."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError):
            log.error("a look at this worker's port failed", exc_info=error)


def _handler(operations: Operations) -> type[BaseHTTPRequestHandler]:
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    class Handler(BaseHTTPRequestHandler):
        timeout = SILENT_S

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._answer(200, generate_latest(operations.registry), CONTENT_TYPE_LATEST)
            elif path == "/healthz":
                self._answer(200, b"alive\n")
            elif path == "/readyz":
                reason = operations.stalled()
                self._answer(200 if reason is None else 503, f"{operations.readiness()}\n".encode())
            else:
                self._answer(404, b"try /metrics, /healthz or /readyz\n")

        def do_HEAD(self) -> None:
            self.do_GET()

        def _answer(self, status: int, body: bytes, content_type: str = "text/plain; charset=utf-8") -> None:
            with contextlib.suppress(ConnectionError):  # a scraper that has hung up
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Scrapes are not worth a line."""

    return Handler
