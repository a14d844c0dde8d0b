"""One broker and one store for the whole run, and a world of its own (topic and key prefix) for each test.

HEADWATER_TEST_BROKER=kafka runs the suite against Apache Kafka, HEADWATER_TEST_REDIS_SERVER=/path/to/redis-server
against that store; the default is what is embedded.
"""

from __future__ import annotations

import os
import re
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from embedded import EmbeddedStore
from headwater.kafka import ensure_topics
from headwater.settings import Settings, load_settings
from tests.worlds.brokers import KIND, chosen_broker
from tests.worlds.processes import LiveWorker

# Whoever starts the suite in the background may have switched Ctrl-C off for all that it starts; tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

CONFORMANCE = Path(__file__).parent / "embedded" / "conformance"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes long comes first, and against Apache Kafka runs only what may go otherwise there.

    Long are tests with a time limit of their own, then those that start workers: short ones fill the gaps at the end.

    The embedded broker is compared with Apache Kafka by tests/embedded/conformance, request by request. Beyond that a
    test runs on both, marked `any_broker`, where it is about what clients and groups do when a broker, a member or a
    partition's leader comes and goes, about positions in logs, or about what a broker refuses. Pages, reports,
    commands and what a worker makes of a record do not change with the broker and run once.
    """
    items.sort(key=lambda item: (not _limit_s(item), "worker" not in getattr(item, "fixturenames", ())))
    if KIND == "embedded":
        return
    apart = []
    for item in items:
        if CONFORMANCE in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("conformance"))  # a second broker, which one job starts and not all
        elif item.get_closest_marker("any_broker") is None:
            apart.append(item)
    config.hook.pytest_deselected(items=apart)
    without = set(apart)
    items[:] = [item for item in items if item not in without]


def _limit_s(item: pytest.Item) -> float:
    """A test's own time limit; 0 where it has none."""
    limit = item.get_closest_marker("timeout")
    return 0.0 if limit is None else float(limit.args[0])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A test's name without the group that pytest-xdist puts behind it: `--last-failed` has to know it without jobs."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        report.nodeid = re.sub(r"@\w+$", "", report.nodeid)


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
def settings(kafka_address: str, redis_url: str, tmp_path: Path) -> Settings:
    """Settings of a fresh world: own prefix with its topics made, own folders."""
    made = load_settings(
        kafka={"bootstrap": kafka_address, "prefix": f"t{uuid.uuid4().hex[:8]}."},
        redis={"url": redis_url},
        trainer={"directory": tmp_path / "trainer", "bundles": tmp_path / "models"},
        serving={"bundles": tmp_path / "models"},
    )
    ensure_topics(made.kafka)
    return made


@pytest.fixture
def worker(settings: Settings, tmp_path: Path) -> Iterator[Callable[..., LiveWorker]]:
    """Starts worker processes by module name: `worker("streams.worker")`; stops them at the end."""
    started: list[LiveWorker] = []

    def start(module: str, *, given: Settings | None = None, wait: bool = True, **env: str) -> LiveWorker:
        one = LiveWorker(module, given or settings, tmp_path / f"{module}-{len(started)}.log", **env)
        started.append(one)
        return one.start(wait=wait)

    yield start
    for one in reversed(started):
        one.__exit__()
