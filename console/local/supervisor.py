"""Starts broker, store and workers, restarts what ends or hangs, stops all in order and leaves no process behind.

Before: `up` and `demo`. After: `embedded` (unless addresses of Kafka and Redis were given) and worker processes. Knows
nothing of events or models.

Whatever ends the console, nothing stays: Ctrl-C, SIGTERM and exceptions unwind through `__exit__`; after a kill -9 the
broken pipes end the workers (`console.local.child`), and broker and store end in the same way.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Protocol

from console.local.processes import WorkerProcess
from headwater.errors import HeadwaterError, Unavailable
from headwater.process import START_S
from headwater.settings import Settings

if TYPE_CHECKING:
    from embedded import ServerProcess

__all__ = ["WORKERS", "Supervisor", "stopping_signals"]

WORKERS = ("streams", "trainer", "serving")
SAY_EVERY_S = 30.0
"""While workers start, it is said so often which ones and what they do."""
BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
ASK_EVERY_S = 1.0
ANSWER_S = 5.0
"""Longest wait for one answer of /healthz; a trainer that yields to everybody else may be slow to give it."""
SILENCE_MARGIN_S = 10.0
"""A worker that makes no progress ends itself after operations.stall_s; one silent for this much longer cannot."""
STEADY_S = 60.0
"""A worker that lived this long starts the backoff anew."""


@contextlib.contextmanager
def stopping_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP unwind the main thread as SystemExit, so that context managers stop what they started."""

    def stop(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Stopping takes seconds; a second Ctrl-C must not leave half of it undone."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Restartable(Protocol):
    """A process that can be watched and started again: a worker, the embedded broker, the store."""

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        ...

    @property
    def log_path(self) -> Path:
        """Where its output goes."""
        ...

    def start(self) -> object:
        """Start it, or start it again."""
        ...


class _HealthCheck:
    """Asks one worker's /healthz now and then. After a start it has START_S for its first answer."""

    def __init__(self, worker: WorkerProcess, silence_s: float) -> None:
        self._worker = worker
        self._silence_s = silence_s
        self._starts = worker.starts
        self._answered = True
        self._unanswered_since: float | None = None
        self._due = 0.0

    def hangs(self) -> bool:
        """Whether it runs and has been asked in vain for too long."""
        now = time.monotonic()
        if not self._worker.running or now < self._due:
            return False
        self._due = now + ASK_EVERY_S
        if self._starts != self._worker.starts:
            self._starts, self._answered, self._unanswered_since = self._worker.starts, False, None
        if self._worker.answers(min(ANSWER_S, self._silence_s / 2)):
            self._answered, self._unanswered_since = True, None
            return False
        # from the first question in vain, not from the last answer: this process, too, may have been stopped meanwhile
        self._unanswered_since = now if self._unanswered_since is None else self._unanswered_since
        limit_s = self._silence_s if self._answered else max(START_S, self._silence_s)
        return time.monotonic() - self._unanswered_since >= limit_s


class Supervisor:
    """Broker, store and workers of one folder; a context manager.

    `embedded_kafka` and `embedded_redis` say which of the two servers to bring; the other's address is in `settings`.
    `say` gets one line for each thing that ended by itself or goes wrong; `restarts` names them.
    `ports` of broker and store are taken where nobody else has them; 0 takes a free one. A worker whose /healthz is
    silent for `silence_s` (by default operations.stall_s and a margin) is killed and started again.
    """

    def __init__(
        self,
        directory: Path,
        settings: Settings,
        *,
        embedded_kafka: bool,
        embedded_redis: bool,
        say: Callable[[str], None],
        ports: tuple[int, int] = (0, 0),
        names: tuple[str, ...] = WORKERS,
        silence_s: float | None = None,
    ) -> None:
        self.directory = directory
        self.settings = settings
        self.workers: dict[str, WorkerProcess] = {}
        self.restarts: list[str] = []
        self._embedded = (embedded_kafka, embedded_redis)
        self._ports = ports
        self._names = names
        self._silence_s = settings.operations.stall_s + SILENCE_MARGIN_S if silence_s is None else silence_s
        self._say = say
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._servers = contextlib.ExitStack()
        self._parts: dict[str, Restartable] = {}
        self._restarting: threading.Thread | None = None

    @property
    def logs(self) -> Path:
        """Folder of the workers' logs."""
        return self.directory / "logs"

    def __enter__(self) -> Supervisor:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self) -> None:
        from headwater.kafka import ensure_topics

        self.logs.mkdir(parents=True, exist_ok=True)
        self._start_servers()
        ensure_topics(self.settings.kafka)
        for name in self._names:
            worker = WorkerProcess(name, self.settings, self.logs / f"{name}.log")
            self.workers[name] = self._parts[name] = worker
            worker.start()
        self._wait_ready(START_S)
        self._restarting = threading.Thread(target=self._restart_ended, name="supervisor", daemon=True)
        self._restarting.start()

    def _start_servers(self) -> None:
        from embedded import NoStore, StartFailed

        try:
            if self._embedded[0]:
                self._start_broker()
            if self._embedded[1]:
                self._start_store()
        except (NoStore, StartFailed) as error:
            raise Unavailable(str(error)) from error

    def _start_broker(self) -> None:
        from embedded import EmbeddedBroker

        broker = self._started(partial(EmbeddedBroker, self.directory / "kafka"), self._ports[0])
        kafka = self.settings.kafka
        # It wants no linger: a record on its own costs it 0.3 ms.
        linger_ms = kafka.linger_ms if "linger_ms" in kafka.model_fields_set else 0
        kafka = kafka.model_copy(update={"bootstrap": broker.address, "linger_ms": linger_ms})
        self.settings = self.settings.model_copy(update={"kafka": kafka})
        self._parts["broker"] = broker

    def _start_store(self) -> None:
        from pydantic import SecretStr

        from embedded import EmbeddedStore

        store = self._started(partial(EmbeddedStore, self.directory / "redis"), self._ports[1])
        redis = self.settings.redis.model_copy(update={"url": SecretStr(store.address)})
        self.settings = self.settings.model_copy(update={"redis": redis})
        self._parts["store"] = store

    def _started(self, make: Callable[[int], ServerProcess], port: int) -> ServerProcess:
        """A server on this port; on any free one where somebody else took it meanwhile."""
        from embedded import StartFailed

        try:
            return self._servers.enter_context(make(port))
        except StartFailed:
            if port == 0:
                raise
            return self._servers.enter_context(make(0))

    def _wait_ready(self, timeout_s: float) -> None:
        began = time.monotonic()
        say_at = began + SAY_EVERY_S
        waiting = list(self.workers.values())
        while waiting:
            for worker in waiting:
                code = worker.exit_code()
                if code is not None:
                    raise HeadwaterError(
                        f"the {worker.name} worker ended with exit code {code} while starting. "
                        f"The end of {worker.log_path}:\n{worker.log_tail()}"
                    )
            waiting = [worker for worker in waiting if not worker.ready()]
            now = time.monotonic()
            if waiting and now > min(say_at, began + timeout_s):
                states = "; ".join(f"{worker.name}: {worker.health()}" for worker in waiting)
                if now > began + timeout_s:
                    raise Unavailable(f"not ready within {timeout_s:.0f} s: {states}. Their logs are in {self.logs}")
                self._say(f"not ready after {now - began:.0f} s: {states} (given up after {timeout_s:.0f} s)")
                say_at = now + SAY_EVERY_S
            self._stopping.wait(0.1)

    def _restart_ended(self) -> None:
        """The thread that starts again what ended, the later the more often it ended."""
        failures = dict.fromkeys(self._parts, 0)
        started = dict.fromkeys(self._parts, time.monotonic())
        due: dict[str, float] = {}
        checks = {name: _HealthCheck(worker, self._silence_s) for name, worker in self.workers.items()}
        while not self._stopping.wait(0.2):
            hung = {name for name, check in checks.items() if check.hangs()}
            for name in hung:
                self.workers[name].kill()
            now = time.monotonic()
            for name, part in self._parts.items():
                if part.running:
                    continue
                if name not in due:
                    failures[name] = 0 if now - started[name] > STEADY_S else failures[name]
                    delay_s = BACKOFF_S[min(failures[name], len(BACKOFF_S) - 1)]
                    failures[name] += 1
                    due[name] = now + delay_s
                    self.restarts.append(name)
                    killed = f"did not answer /healthz for {self._silence_s:g} s and was killed"
                    why = killed if name in hung else "ended by itself"
                    self._say(f"the {name} {why}; starting it again in {delay_s:g} s (log: {part.log_path})")
                elif now >= due[name]:
                    del due[name]
                    started[name] = now
                    self._start_again(name, part)

    def _start_again(self, name: str, part: Restartable) -> None:
        from embedded import StartFailed

        with self._lock:
            if self._stopping.is_set():
                return
            try:
                part.start()
            except (StartFailed, OSError) as error:
                self._say(f"the {name} did not start: {error}")

    def stop(self) -> None:
        """Workers (each drains what it began), then store and broker. Returns when all processes are gone."""
        in_main = threading.current_thread() is threading.main_thread()
        with _uninterrupted() if in_main else contextlib.nullcontext():
            self._stopping.set()
            if self._restarting is not None:
                self._restarting.join()
            with self._lock:
                for worker in self.workers.values():
                    worker.terminate()
                deadline = time.monotonic() + self.settings.operations.drain_s + 5
                for worker in self.workers.values():
                    if not worker.wait(deadline - time.monotonic()):
                        self._say(f"{worker.name} did not drain in time and was killed ({worker.log_path})")
            self._servers.close()
