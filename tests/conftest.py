"""One broker and one store for the whole run, and a world of its own (topic and key prefix) for each test.

HEADWATER_TEST_BROKER=kafka runs the suite against Apache Kafka, HEADWATER_TEST_REDIS_SERVER=/path/to/redis-server
against that store; the default is what is embedded.
"""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from embedded import EmbeddedBroker, EmbeddedStore
from headwater.kafka import ensure_topics
from headwater.settings import Settings, load_settings
from tests.worlds.processes import LiveWorker

# Whoever starts the suite in the background may have switched Ctrl-C off for all that it starts; tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)


LONG = (
    "crash",
    "console_supervisor",
    "trainer_worker",
    "demo",
    "replay_explain",
    "trainer_publications",
    "trainer_kill",
)
"""Files that take longest. They come first: at the end no job is left alone with one of them."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest files first; against Apache Kafka only what meets a broker that it can stand in for."""
    place = {f"test_{name}.py": number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONG)))
    if os.environ.get("HEADWATER_TEST_BROKER", "embedded") == "embedded":
        return
    apart = [item for item in items if not {"kafka_address", "address"} & set(getattr(item, "fixturenames", ()))]
    config.hook.pytest_deselected(items=apart)
    items[:] = [item for item in items if item not in set(apart)]


@pytest.fixture(scope="session")
def kafka_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of the broker that HEADWATER_TEST_BROKER names."""
    directory = tmp_path_factory.mktemp("kafka")
    kind = os.environ.get("HEADWATER_TEST_BROKER", "embedded")
    if kind == "kafka":
        from tests.worlds.kafka_real import ApacheKafka

        with ApacheKafka(directory) as broker:
            yield broker.address
    else:
        assert kind == "embedded", f"HEADWATER_TEST_BROKER is {kind!r}: embedded or kafka"
        with EmbeddedBroker(directory) as broker:
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
