"""One broker for the whole suite, and a new topic for each test.

HEADWATER_TEST_BROKER chooses: `embedded` (the default) or `kafka`, Apache Kafka itself. Every test here must pass on
both.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import kafka
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from embedded import EmbeddedBroker, ServerProcess
from tests.embedded.conformance.clients import Raw, eventually
from tests.worlds.brokers import KIND, ApacheKafka


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The broker's process; tests may kill it if they start it again."""
    folder = tmp_path_factory.mktemp("broker")
    if KIND == "kafka":
        quick = {
            "log.initial.task.delay.ms": "100",
            "log.retention.check.interval.ms": "300",
            "log.cleaner.backoff.ms": "200",
            "offsets.topic.num.partitions": "1",
        }
        with ApacheKafka(folder, settings=quick) as process:
            yield process
    else:
        with EmbeddedBroker(folder, options=("--cleanup-interval-s", "0.3")) as process:
            yield process


@pytest.fixture(scope="session")
def address(broker: ServerProcess) -> str:
    return broker.address


@pytest.fixture
def coordinator(address: str) -> None:
    """Kafka has one when a client has asked for it, and a while after its start; raw members never ask."""
    consumer = kafka.KafkaConsumer(bootstrap_servers=address, group_id="nobody")
    try:
        assert consumer.committed(kafka.TopicPartition("none", 0)) is None
    finally:
        consumer.close()


@pytest.fixture(scope="session")
def admin(address: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": address, "log_level": 0})


@pytest.fixture
def raw(address: str) -> Iterator[Raw]:
    with Raw(address) as connection:
        yield connection


@pytest.fixture
def make_topic(admin: AdminClient, address: str) -> Callable[..., str]:
    """`make_topic(partitions=1, **config)` with dots in config names written as double underscores."""

    def make(partitions: int = 1, **config: object) -> str:
        name = f"t-{uuid.uuid4().hex[:12]}"
        settings = {key.replace("__", "."): str(value) for key, value in config.items()}
        admin.create_topics([NewTopic(name, partitions, config=settings)])[name].result(30)
        with Raw(address) as connection:  # Kafka answers for a new topic a moment before it leads it
            eventually(lambda: connection.fetch(name, 0).error_code == 0, f"topic {name} served")
        return name

    return make


@pytest.fixture
def topic(make_topic: Callable[..., str]) -> str:
    """A topic with one partition and nothing special."""
    return make_topic()
