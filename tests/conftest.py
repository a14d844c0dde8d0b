"""One broker and one store for the whole run, and a world of its own (topic and key prefix) for each test.

HEADWATER_TEST_BROKER=kafka runs the suite against Apache Kafka, HEADWATER_TEST_REDIS_SERVER=/path/to/redis-server
against that store; the default is what is embedded.
"""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from xdist.scheduler import LoadScopeScheduling

from embedded import EmbeddedStore
from headwater.settings import Settings
from tests.worlds.brokers import KIND, chosen_broker
from tests.worlds.processes import ROOT, LiveWorker, ask_where_they_stand, logs_in, world_settings

if TYPE_CHECKING:
    from streams.features.store import FeatureStore

# Whoever starts the suite in the background may have switched Ctrl-C off for all that it starts; tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says how busy the machine is.
hypothesis_settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("untimed")

MOST_LINES = 100
"""Shown of each log when a test fails."""

CONFORMANCE = ROOT / "tests" / "embedded" / "conformance"


def pytest_configure(config: pytest.Config) -> None:
    """On a fresh clone one process compiles the loops while the jobs collect: else each of them, and of the first
    workers, would do so for itself."""
    if not hasattr(config, "workerinput") and not config.option.collectonly and not _loops_are_compiled():
        compiling = subprocess.Popen(
            [sys.executable, "-c", "from models.learner import compile_loops; compile_loops()"], cwd=ROOT
        )
        config.add_cleanup(lambda: bool(compiling.wait()))


def _loops_are_compiled() -> bool:
    """Whether what numba keeps beside the sources is newer than they are; the SDK's tests alone need none of it."""
    if importlib.util.find_spec("numba") is None:
        return True
    for source in (ROOT / "models").rglob("*.py"):
        if "\n@compiled" in source.read_text():
            kept = source.parent.glob(f"__pycache__/{source.stem}.*.nbi")
            if not any(one.stat().st_mtime > source.stat().st_mtime for one in kept):
                return False
    return True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes long comes first, and against Apache Kafka runs only what may go otherwise there.

    Long are tests with a time limit of their own, then files that one job runs as a whole, then tests that start
    workers: short ones fill the gaps at the end.

    The embedded broker is compared with Apache Kafka by tests/embedded/conformance, request by request. Beyond that a
    test runs on both, marked `any_broker`, where it is about what clients and groups do when a broker, a member or a
    partition's leader comes and goes, about positions in logs, or about what a broker refuses. Pages, reports,
    commands and what a worker makes of a record do not change with the broker and run once.
    """
    items.sort(
        key=lambda item: (
            item.get_closest_marker("timeout") is None,
            not _shares_a_world(item.nodeid.partition("::")[0]),
            "worker" not in getattr(item, "fixturenames", ()),
        )
    )
    if KIND == "embedded":
        return
    apart = [
        item for item in items if CONFORMANCE not in item.path.parents and item.get_closest_marker("any_broker") is None
    ]
    config.hook.pytest_deselected(items=apart)
    without = set(apart)
    items[:] = [item for item in items if item not in without]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails shows the end of the logs in its folders, with where its workers stand."""
    report = yield
    if report.failed:
        logs = logs_in([one for one in getattr(item, "funcargs", {}).values() if isinstance(one, Path)])
        ask_where_they_stand(logs)
        for log in logs:
            lines = log.read_text(errors="replace").splitlines()[-MOST_LINES:]
            report.sections.append((f"the end of {log.name}", "\n".join(lines)))
    return report


class Distribution(LoadScopeScheduling):
    """Gives a free job the next test; a file whose tests share a fixture of module scope, as a whole.

    Files that knock at the same gateway (tests/gateway/conftest.py) are one such group; against Apache Kafka the
    conformance tests are, too: their broker is a second one, which one job starts.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if KIND == "kafka" and CONFORMANCE in (ROOT / file).parents:
            return "conformance"
        if _knocks(file):
            return "door"
        return file if _shares_a_world(file) else nodeid


@cache
def _shares_a_world(file: str) -> bool:
    return 'scope="module"' in (ROOT / file).read_text() or _knocks(file)


@cache
def _knocks(file: str) -> bool:
    """Whether its tests take the gateway of the whole run."""
    text = (ROOT / file).read_text()
    return "(door: Front" in text and "def door(" not in text


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Distribution:
    """What pytest-xdist has for this, groups by mark, groups nothing with pytest 9.2."""
    return Distribution(config, log)


@pytest.fixture(scope="session")
def kafka_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of the broker that HEADWATER_TEST_BROKER names."""
    with chosen_broker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker.address


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of the store."""
    with EmbeddedStore(tmp_path_factory.mktemp("redis")) as store:
        yield store.address


@pytest.fixture
def settings(kafka_address: str, redis_url: str, tmp_path: Path) -> Iterator[Settings]:
    """Settings of a fresh world: own prefix with its topics made, own folders; removed at the end."""
    with world_settings(kafka_address, redis_url, tmp_path) as made:
        yield made


@pytest.fixture
def store(settings: Settings) -> Iterator[FeatureStore]:
    """The store of that world."""
    from tests.worlds.streams import storing

    with storing(settings) as one:
        yield one


@pytest.fixture
def worker(settings: Settings, tmp_path: Path) -> Iterator[Callable[..., LiveWorker]]:
    """Starts worker processes by module name: `worker("streams.worker")`; stops them at the end."""
    started: list[LiveWorker] = []

    def start(module: str, *, given: Settings | None = None, wait: bool = True, **env: str) -> LiveWorker:
        one = LiveWorker(module, given or settings, tmp_path / f"{module}-{len(started)}.log", **env)
        started.append(one)
        return one.start(wait=wait)

    yield start
    for one in started:  # they end beside each other
        one.tell_to_stop()
    for one in reversed(started):
        one.__exit__()
