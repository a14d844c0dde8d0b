"""Worlds for tests, and worker processes: watched through /readyz, ended by pid."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headwater.kafka import admin_client, ensure_topics
from headwater.settings import Settings, load_settings
from tests.worlds import forking
from tests.worlds.forking import Forked

ROOT = Path(__file__).resolve().parents[2]
PAUSE_S = 0.05
"""Between two looks of `eventually`: most ask a worker over HTTP, which costs it some milliseconds."""

ANSWER_S = 30.0
"""A worker that is stopped for some seconds by a full machine is none that does not answer."""

UNYIELDING = {"HEADWATER_TRAINER__YIELDS": "false"}
"""The tests beside it must not starve a trainer: one that yields gets only the time that nobody else wants."""

MARK = "MARK_OF_A_TEST"
"""A variable that every process inherits from the one that a test has started."""


def has_ipv6() -> bool:
    """Whether this machine has the loopback of IPv6: containers often have none."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as one:
        one.bind(("::1", 0))
        return True
    return False


def eventually(condition: Callable[[], Any], timeout_s: float = 30.0, what: str | Callable[[], str] = "") -> Any:
    """The first truthy value of `condition`, asked again and again; AssertionError after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:.0f} s: {(what() if callable(what) else what) or condition}")
        time.sleep(PAUSE_S)


def processes_marked(mark: str) -> list[str]:
    """Command lines of the running processes that inherited the mark; Linux tells."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # ended meanwhile, or somebody else's
            continue
    return found


def ask_where_they_stand(logs: list[Path]) -> None:
    """Have the workers that still run and write these logs add the stacks of their threads."""
    for line in [line for log in logs for line in log.read_text(errors="replace").splitlines()]:
        if '"message": "started"' not in line:
            continue
        pid = json.loads(line)["pid"]
        with contextlib.suppress(OSError):  # it has ended
            if re.search(rb"\.(worker|forking)\0", Path(f"/proc/{pid}/cmdline").read_bytes()):
                os.kill(pid, signal.SIGUSR1)
    time.sleep(0.2)  # they write at once, and nobody tells when they have


def logs_in(folders: list[Path]) -> list[Path]:
    """Logs of workers and of `headwater up` in folders of a test."""
    found = {log for folder in folders for kind in ("*.log", "*.err") for log in folder.rglob(kind)}
    return sorted(log for log in found if log.is_file() and log.stat().st_size)


@contextmanager
def world_settings(kafka_address: str, redis_url: str, folder: Path) -> Iterator[Settings]:
    """Settings of a fresh world on these servers: own prefix with its topics made, own folders; removed at the end."""
    made = load_settings(
        kafka={"bootstrap": kafka_address, "prefix": f"t{uuid.uuid4().hex[:8]}."},
        redis={"url": redis_url},
        trainer={"directory": folder / "trainer", "bundles": folder / "models", "keep_up_s": 0.0},
        serving={"bundles": folder / "models"},
    )
    ensure_topics(made.kafka)
    yield made
    remove_world(made)


def remove_world(settings: Settings) -> None:
    """Take its topics and keys off the servers: every client asks a broker for all topics, and an audit a store for
    all keys, so that each world left there makes all later tests slower."""
    prefix = settings.kafka.prefix
    with contextlib.closing(admin_client(settings.kafka)) as admin:
        topics = [name for name in admin.list_topics() if name.startswith(prefix)]
        if topics:
            admin.delete_topics(topics)
    if importlib.util.find_spec("redis") is None:
        return  # the SDK's tests alone, and nothing of the SDK speaks to the store
    import redis

    with contextlib.closing(redis.Redis.from_url(settings.redis.url.get_secret_value())) as server:
        keys = list(server.scan_iter(f"{prefix}*", count=10_000))
        if keys:
            server.unlink(*keys)


def environment(settings: Settings, **more: str) -> dict[str, str]:
    """The process environment that makes a worker load these settings."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
    return {**clean, **UNYIELDING, **ours(settings), **more}


def ours(settings: Settings) -> dict[str, str]:
    """The variables that say what these settings say."""
    env: dict[str, str] = {}
    for section, values in settings.model_dump(exclude_unset=True).items():
        for field, value in values.items():
            plain = value.get_secret_value() if hasattr(value, "get_secret_value") else value
            if isinstance(plain, (dict, list, tuple)):
                plain = json.dumps(plain)
            env[f"HEADWATER_{section.upper()}__{field.upper()}"] = str(plain)
    return env


class LiveWorker:
    """One worker process: `LiveWorker("streams.worker", settings)`; a context manager that leaves no process behind."""

    def __init__(self, module: str, settings: Settings, log: Path, **env: str) -> None:
        self.module = module
        self.runs = ""  # the worker's module, where `module` runs it in turn
        self.settings = settings
        self.log = log
        self.env = env
        self.process: Forked | subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True) -> LiveWorker:
        env = environment(self.settings, **{"PYTHONWARNINGS": "default", **self.env})
        self.process = forking.start(self.module, environment=env, folder=ROOT, log=self.log, runs=self.runs)
        if wait:
            eventually(self.is_ready, 120, lambda: f"{self.module} ready; its log:\n{self.tail()}")
        return self

    def is_ready(self) -> bool:
        assert self.process is not None
        code = self.process.poll()
        assert code is None, f"{self.module} exited with {code}:\n{self.tail()}"
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    @property
    def port(self) -> int:
        """Where this process answers, as its log says: it takes any free port. URLError before it has one."""
        assert self.process is not None
        for line in self.log.read_text(errors="replace").splitlines():
            if '"started"' in line:
                said = json.loads(line)
                if said["pid"] == self.process.pid:
                    return int(said["port"])
        raise urllib.error.URLError("it has not started to listen")

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=ANSWER_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, name: str) -> float:
        """The sum of a metric's samples over its labels; 0 when there is none yet, or nobody listens yet."""
        assert self.process is not None
        code = self.process.poll()
        assert code is None, f"{self.module} exited with {code}:\n{self.tail()}"
        try:
            lines = self.get("/metrics")[1].splitlines()
        except urllib.error.URLError:
            return 0.0
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)

    def has_loaded(self, library: str) -> bool:
        """Whether the process holds a shared library of this name; Linux tells."""
        assert self.process is not None
        return library in Path(f"/proc/{self.process.pid}/maps").read_text()

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(60)

    def stop(self, timeout_s: float = 60.0) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.tell_to_stop()
        return self.process.wait(timeout_s)

    def __enter__(self) -> LiveWorker:
        return self.start()

    def tell_to_stop(self) -> None:
        """SIGTERM, if it runs; `stop` waits for its end."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGUSR1)  # it says where each of its threads stands
                time.sleep(1)
                self.kill()
                raise AssertionError(f"{self.module} did not stop on SIGTERM:\n{self.tail(200)}") from None
