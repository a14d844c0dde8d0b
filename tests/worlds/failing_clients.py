"""A worker process whose real clients fail now and then: `python -m tests.worlds.failing_clients`, set by environment.

Each call of `CALLS` raises the next retriable error of its client every other time, before it reaches the real server,
until each error has come once; then it is left alone. FAILING_WORKER names the module to run, FAILING_FOLDER a folder:

- `raised` there gets a line `call error` for each error;
- once a file `for-ever` is there, the call that it names raises at each time the error that it names behind it.

FAILING_FEW names calls, with commas, that raise three errors only: what is tried again after ever longer waits. Where
it is `all`, nothing fails before `for-ever` is there.
"""

from __future__ import annotations

import importlib
import inspect
import os
import runpy
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from headwater.settings import Settings
from tests.worlds.processes import LiveWorker

KAFKA = {
    "kafka:KafkaAdminClient": ("new", "list_topics"),
    "kafka:KafkaConsumer": (
        "new", "beginning_offsets", "commit", "commit_async", "committed", "end_offsets", "partitions_for_topic",
        "poll", "position", "topics",
    ),
    "kafka:KafkaProducer": ("new", "flush", "partitions_for", "send"),
}  # fmt: skip
AIOKAFKA = {
    "aiokafka:AIOKafkaConsumer": ("commit", "position", "seek_to_committed", "start"),
    "aiokafka:AIOKafkaProducer": ("send", "start"),
    "aiokafka.consumer.fetcher:Fetcher": ("fetched_records",),
}
REDIS = {"redis:Redis": ("execute_command",), "redis.client:Pipeline": ("execute",)}
CALLS = {**KAFKA, **AIOKAFKA, **REDIS}
FEW = 3


def retriable(package: str) -> dict[str, type[Exception]]:
    """The errors by name that a client's errors module, or Redis's, has for what passes by itself."""
    if package == "redis":
        names = "BusyLoadingError ClusterDownError ConnectionError MasterDownError OutOfMemoryError ReadOnlyError"
        module = importlib.import_module("redis.exceptions")
        return {name: getattr(module, name) for name in [*names.split(), "TimeoutError", "TryAgainError"]}
    errors = vars(importlib.import_module(f"{package}.errors"))
    return {
        error.__name__: error  # some have a second name
        for _, error in sorted(errors.items())
        if inspect.isclass(error) and issubclass(error, Exception) and getattr(error, "retriable", False) is True
    }


class FailingWorker(LiveWorker):
    """A worker with failing clients; `few`: see FAILING_FEW."""

    def __init__(self, module: str, settings: Settings, folder: Path, few: str = "", **env: str) -> None:
        self.folder = folder
        env |= {"FAILING_WORKER": module, "FAILING_FOLDER": str(folder), "FAILING_FEW": few}
        super().__init__("tests.worlds.failing_clients", settings, folder / "worker.log", **env)
        self.runs = module

    def raised(self) -> dict[str, set[str]]:
        """Call -> the errors that it has raised."""
        found: dict[str, set[str]] = {}
        path = self.folder / "raised"
        for line in path.read_text().splitlines() if path.exists() else ():
            call, error = line.split()
            found.setdefault(call, set()).add(error)
        return found

    def fail_for_ever(self, call: str, error: str) -> None:
        """From now on `call` raises `error` whenever it is made."""
        written = self.folder / "for-ever.new"
        written.write_text(f"{call} {error}")
        written.rename(self.folder / "for-ever")


class _Injector:
    """Decides which call raises what, and writes it down."""

    def __init__(self, folder: Path, few: set[str]) -> None:
        self._raised = folder / "raised"
        self._for_ever = folder / "for-ever"
        self._few = few
        self._left: dict[str, Iterator[type[Exception]]] = {}
        self._turn: dict[str, bool] = {}
        self._lock = threading.Lock()

    def may_raise(self, package: str, call: str) -> None:
        if self._for_ever.exists():
            victim, name = self._for_ever.read_text().split()
            if victim == call:
                raise getattr(
                    importlib.import_module(f"{package}.{'exceptions' if package == 'redis' else 'errors'}"), name
                )
            return
        with self._lock:
            if call not in self._left:
                errors = list(retriable(package).values())
                self._left[call] = iter(() if "all" in self._few else errors[:FEW] if call in self._few else errors)
            self._turn[call] = not self._turn.get(call, False)
            error = next(self._left[call], None) if self._turn[call] else None
            if error is None:
                return
            with self._raised.open("a") as lines:
                lines.write(f"{call} {error.__name__}\n")
        raise error("injected by the test")

    def inject(self, where: str, methods: tuple[str, ...]) -> None:
        module, _, name = where.partition(":")
        client = getattr(importlib.import_module(module), name)
        package = module.split(".")[0]
        for method in methods:
            call = f"{name}.{method}"
            if method == "new":
                client.__new__ = staticmethod(self._made(package, call))
            else:
                setattr(client, method, self._called(package, call, getattr(client, method)))

    def _made(self, package: str, call: str) -> Callable[..., Any]:
        def new(cls: Any, *_: Any, **__: Any) -> Any:
            self.may_raise(package, call)
            return object.__new__(cls)

        return new

    def _called(self, package: str, call: str, real: Any) -> Any:
        if inspect.iscoroutinefunction(real):

            async def call_async(*arguments: Any, **options: Any) -> Any:
                self.may_raise(package, call)
                return await real(*arguments, **options)

            return call_async

        def call_sync(*arguments: Any, **options: Any) -> Any:
            self.may_raise(package, call)
            return real(*arguments, **options)

        return call_sync


def main() -> None:
    """Be the worker."""
    injector = _Injector(Path(os.environ["FAILING_FOLDER"]), set(os.environ["FAILING_FEW"].split(",")))
    for where, methods in CALLS.items():
        if where in AIOKAFKA and os.environ["FAILING_WORKER"] != "streams.worker":
            continue
        injector.inject(where, methods)
    runpy.run_module(os.environ["FAILING_WORKER"], run_name="__main__")


if __name__ == "__main__":
    main()
