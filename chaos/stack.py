"""Everything that a campaign breaks: servers, several workers of each kind as processes of their own, and their logs.

Before: `chaos.campaign` makes one. After: faults end, stop, add and remove parts; what ends is started again, as any
supervisor would, and how it ended is kept. What a worker does unasked is judged: it may leave with 70 (it waited for
somebody for too long) and in no other way.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from chaos.servers import ServerUnderTest
from chaos.waiting import wait
from console.local.processes import WorkerProcess
from embedded import free_port
from headwater.process import EXIT_STALLED, START_S
from headwater.settings import Settings

__all__ = ["CampaignWorker", "Ending", "Stack"]

DOOR = "gateway"
"""The role that apps call over HTTP."""
TAKEN = os.strerror(errno.EADDRINUSE)
AGAIN_S = (0.3, 1.0, 2.0, 4.0, 8.0)
"""How long after its end a part is started again, the later the more often it ended by itself."""
STEADY_S = 60.0
SILENT_S = 10.0
"""Beyond `operations.stall_s` and a start, how long /healthz may be silent."""


class Ending(NamedTuple):
    """A worker that left by itself."""

    worker: str
    code: int
    at_s: float
    lived_s: float
    said: str


@dataclass
class CampaignWorker:
    """One worker, and what a campaign has done to it."""

    name: str
    role: str
    process: WorkerProcess
    clock: Path
    lock: threading.RLock = field(default_factory=threading.RLock)
    wanted: bool = True
    killed: bool = False
    paused: bool = False
    excused: str | None = None
    """A word that it may leave with: somebody has broken it so that it has to."""
    failures: int = 0
    started_s: float = 0.0
    due_s: float | None = None
    heard_s: float = 0.0
    door: int = 0
    """Port of a gateway: another one at each start, as nobody keeps the one before free."""

    def start(self) -> None:
        """Start it, or start it again."""
        if self.role == DOOR:
            self.door, own = free_port(), self.process.settings
            door = own.gateway.model_copy(update={"port": self.door})
            self.process.settings = own.model_copy(update={"gateway": door})
        self.process.start()
        self.killed = self.paused = False
        self.excused = None
        self.due_s = None
        self.started_s = self.heard_s = time.monotonic()

    def kill(self) -> None:
        """kill -9."""
        with self.lock:
            self.killed = True
            self.process.kill()

    def stop(self, grace_s: float) -> int | None:
        """SIGTERM, and its exit code; None where it had to be killed after `grace_s`."""
        with self.lock:
            self.wanted = False
            self.process.terminate()
            return self.process.exit_code() if self.process.wait(grace_s) else None

    def signal(self, number: int) -> None:
        """Send it a signal."""
        if self.process.pid is not None and self.process.running:
            os.kill(self.process.pid, number)

    def processor_s(self) -> float:
        """Processor time that it has had since it was started; 0 where it is gone."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def goes_on_since(self, starts: int) -> bool:
        """Whether it runs, has since that start, and nobody has told it to end."""
        return self.wanted and not self.killed and self.process.starts == starts and self.process.running

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """SIGSTOP, until the end of the block."""
        with self.lock:
            self.paused = True
            self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            with self.lock:
                self.signal(signal.SIGCONT)
                self.paused = False
                self.heard_s = time.monotonic()


class Stack:
    """A world that runs; a context manager.

    Parameters
        servers: broker, store, and object storage where bundles are in one.
        counts: role -> how many workers of it.
        key: that gateways take.
        make_worker: makes their processes.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        servers: tuple[ServerUnderTest, ServerUnderTest, ServerUnderTest | None],
        counts: dict[str, int],
        key: str,
        make_worker: Callable[..., WorkerProcess] = WorkerProcess,
    ) -> None:
        self.folder = folder
        self.settings = settings
        self.kafka, self.store, self.objects = servers
        self.key = key
        self.parts: dict[str, CampaignWorker] = {}
        self.endings: list[Ending] = []
        self.wrong: list[str] = []
        """What nobody may do, in words: ends in the verdict."""
        self.peaks: dict[str, list[tuple[float, int]]] = {}
        """Role -> (seconds, bytes resident) of its largest worker, one a look."""
        self.removed: dict[str, list[Any]] = {}
        """Topic -> records that retention has taken, oldest first."""
        self.stretches: list[tuple[Path, Path]] = []
        """Of each gap in what the trainer learned: its last checkpoint before, and the first behind it."""
        self._counts = counts
        self._make_worker = make_worker
        self._numbers = dict.fromkeys(counts, 0)
        self._began_s = time.monotonic()
        self._done = threading.Event()
        self._threads = [
            threading.Thread(target=work, name=work.__name__, daemon=True) for work in (self._restart, self._listen)
        ]

    @property
    def logs(self) -> Path:
        """Folder of the workers' logs."""
        return self.folder / "logs"

    def __enter__(self) -> Stack:
        self.logs.mkdir(parents=True, exist_ok=True)
        for role, count in self._counts.items():
            for _ in range(count):
                self.add(role)
        try:
            self.await_ready(START_S)
        except BaseException:
            self.close()
            raise
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, role: str) -> CampaignWorker:
        """One more worker of a role."""
        self._numbers[role] += 1
        name = f"{role}-{self._numbers[role]}"
        clock = self.folder / f"{name}.clock"
        words = ("chaos.tampered", f"{role}.worker", str(clock))
        part = CampaignWorker(
            name, role, self._make_worker(name, self.settings, self.logs / f"{name}.log", *words), clock
        )
        part.start()
        self.parts[name] = part
        return part

    def remove(self, part: CampaignWorker) -> None:
        """Have a worker drain and leave, as an autoscaler does."""
        began_ready = part.process.ready()
        code = part.stop(self.grace_s)
        self.parts.pop(part.name, None)
        if code is None:
            self.wrong.append(f"{part.name} did not drain within {self.grace_s:.0f} s of SIGTERM")
        elif code and began_ready:
            self.wrong.append(f"{part.name} was told to stop and ended with {code}: {part.process.log_tail(2)[:400]}")

    @property
    def grace_s(self) -> float:
        """How long a worker may take to leave."""
        operations = self.settings.operations
        return operations.drain_s + operations.stall_s + SILENT_S

    def living(self, role: str) -> list[CampaignWorker]:
        """The workers of a role that run and are not held, by name."""
        found = [one for one in list(self.parts.values()) if one.role == role and one.process.running]
        return sorted((one for one in found if one.wanted and not one.paused), key=lambda one: one.name)

    def pick(self, role: str, chance: random.Random) -> CampaignWorker | None:
        """One of them."""
        found = self.living(role)
        return chance.choice(found) if found else None

    def doors(self) -> list[CampaignWorker]:
        """The gateways that apps know of: also one that is held, or has just died."""
        return [one for one in list(self.parts.values()) if one.role == DOOR and one.wanted]

    def ready(self) -> bool:
        """Whether every worker says so."""
        return all(part.process.running and part.process.ready() for part in list(self.parts.values()))

    def await_ready(self, timeout_s: float) -> None:
        """Wait until every worker is ready. Raises TimeoutError, which says who is not, and why."""
        wait(self.ready, timeout_s, lambda: "; ".join(f"{n}: {p.process.health()}" for n, p in self.parts.items()))

    def close(self) -> None:
        """Stop the workers that are left: each drains, and ends with 0."""
        self._done.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        for part in list(self.parts.values()):
            part.wanted = False
            part.process.terminate()
        for part in list(self.parts.values()):
            self.remove(part)

    def _restart(self) -> None:
        while not self._done.wait(0.1):
            for part in list(self.parts.values()):
                with part.lock:
                    if part.wanted and not part.process.running:
                        self._again(part)

    def _again(self, part: CampaignWorker) -> None:
        now = time.monotonic()
        if part.due_s is None:
            if not part.killed:
                part.failures = 0 if now - part.started_s > STEADY_S else part.failures
                code = part.process.exit_code() or 0
                said = part.process.log_tail(1)[-300:]
                ending = Ending(part.name, code, now - self._began_s, now - part.started_s, said)
                self.endings.append(ending)
                excused = part.excused is not None and part.excused in part.process.log_tail(12)
                excused |= part.role == DOOR and TAKEN in said  # which was free when it was drawn: it gets another
                if code != EXIT_STALLED and not excused:
                    self.wrong.append(f"{part.name} ended by itself with {code}: {said}")
                part.failures += 1
            part.due_s = now + AGAIN_S[min(part.failures, len(AGAIN_S) - 1)]
        elif now >= part.due_s:
            part.start()

    def _listen(self) -> None:
        """Ask each worker now and then whether it lives, and how much memory it takes."""
        while not self._done.wait(1.0):
            largest: dict[str, int] = {}
            for part in list(self.parts.values()):
                now = time.monotonic()
                if not part.wanted or part.paused or not part.process.running:
                    part.heard_s = now
                elif part.process.answers(4.0):
                    part.heard_s = now
                    largest[part.role] = max(largest.get(part.role, 0), _resident(part.process.pid))
                else:
                    self._may_hang(part)
            for role, size in largest.items():
                self.peaks.setdefault(role, []).append((time.monotonic() - self._began_s, size))

    def largest_mb(self) -> dict[str, list[int]]:
        """Role -> the largest of its workers in each minute."""
        return {
            role: [
                round(max(size for _, size in group) / 2**20)
                for _, group in groupby(peaks, lambda one: int(one[0] // 60))
            ]
            for role, peaks in self.peaks.items()
        }

    def _may_hang(self, part: CampaignWorker) -> None:
        silent_s = time.monotonic() - part.heard_s
        most_s = self.settings.operations.stall_s + SILENT_S
        most_s += START_S if part.heard_s <= part.started_s else 0.0
        if silent_s > most_s:
            self.wrong.append(f"{part.name} hangs: /healthz is silent for {silent_s:.0f} s: {part.process.log_tail(2)}")
            part.kill()


def _resident(pid: int | None) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0
