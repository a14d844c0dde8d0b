"""A trainer's publications: settings that publish at once, the registry and its writer, and the version that is live.

Fixtures: a test module imports them by name.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from kafka import KafkaProducer

from headwater.kafka import producer
from headwater.settings import Settings
from tests.worlds.example_logs import SMALL_MODEL
from trainer.registry import Registry

LOG = logging.getLogger("test")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    trainer = settings.trainer.model_copy(
        update={"publish_every_s": 0.1, "snapshot_every_s": 3600.0, "keep_bundles": 10}
    )
    return settings.model_copy(
        update={"trainer": trainer, "model": settings.model.model_copy(update={"overrides": SMALL_MODEL})}
    )


@pytest.fixture
def writer(settings: Settings) -> Iterator[KafkaProducer]:
    made = producer(settings.kafka)
    yield made
    made.close(timeout=10)


@pytest.fixture
def registry(settings: Settings, writer: KafkaProducer) -> Iterator[Registry]:
    made = Registry(settings.kafka, writer, LOG)
    yield made
    made.close()


def live_version(registry: Registry) -> int:
    registry.refresh()
    return 0 if registry.live is None else registry.live.version
