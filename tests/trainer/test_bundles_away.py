"""A store of bundles that is away: learning and deltas go on, and what serving needs is there as soon as it is back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kafka import KafkaProducer

from headwater.errors import BundleError, Unavailable
from headwater.settings import Settings
from models.config import model_config
from models.learner import Learner
from models.published.stores import objects, open_store
from tests.worlds.example_logs import SMALL_MODEL, ring_examples
from tests.worlds.object_storage import SECRET, Bucket, bucket, object_storage  # noqa: F401 - fixtures
from tests.worlds.publishing import LOG, live_version, registry, settings, writer  # noqa: F401 - fixtures
from trainer.publisher import Publisher
from trainer.registry import Registry
from trainer.rollback import resume, rollback
from trainer.same_queries import SameQueries

SECOND = 1_000


@pytest.fixture
def settings(settings: Settings, bucket: Bucket) -> Settings:
    trainer = settings.trainer.model_copy(update={"bundles": bucket.url, "keep_bundles": 2, "anchor_every_s": 0.0})
    return settings.model_copy(update={"trainer": trainer})


@pytest.fixture
def learner() -> Learner:
    made = Learner(model_config(SMALL_MODEL))
    made.learn(ring_examples(64))
    return made


@pytest.fixture
def publisher(settings: Settings, learner: Learner, registry: Registry, writer: KafkaProducer) -> Iterator[Publisher]:
    store = open_store(settings.trainer.bundles)
    queries = SameQueries(learner, 0.2, settings.trainer.directory)
    made = Publisher(settings, store, learner, registry, queries, writer, LOG)
    yield made
    made.close()


class Clock:
    """Publishes after more examples, some seconds later each time."""

    def __init__(self, publisher: Publisher, learner: Learner) -> None:
        self.publisher = publisher
        self.learner = learner
        self.now_ms = 1_000_000

    def publish(self, *, after_s: float = 1.0, full: bool = False) -> bool:
        self.now_ms += int(after_s * SECOND)
        self.learner.learn(ring_examples(32, first_offset=self.now_ms))
        return self.publisher.publish(examples_offset=0, now_ms=self.now_ms, full=full, wait=True)

    def trouble(self) -> str | None:
        return self.publisher.bundle_retry.trouble(self.now_ms / SECOND)


@pytest.fixture
def clock(publisher: Publisher, learner: Learner) -> Clock:
    return Clock(publisher, learner)


def test_while_it_is_away_deltas_go_on_and_the_bundle_follows_as_soon_as_it_is_back(
    settings: Settings, clock: Clock, registry: Registry, bucket: Bucket
) -> None:
    publisher = clock.publisher
    assert clock.publish()
    first = live_version(registry)
    bucket.away()
    for _ in range(5):
        assert clock.publish(after_s=10, full=True), "a delta"
    assert publisher.published == {"bundle": 1, "delta": 5}
    assert publisher.refused["store"] >= 2
    assert publisher.failing is None
    assert live_version(registry) == first
    told = clock.trouble()
    assert told is not None
    assert "no bundle could be written for 40 s" in told
    assert "is it away? Check the network and AWS_ACCESS_KEY_ID" in told
    assert SECRET not in told
    bucket.back()
    assert clock.publish(after_s=20)
    assert clock.publish()
    registry.refresh()
    assert registry.live is not None
    assert first < registry.live.version < publisher.version, "of the moment when it was made; deltas lead on from it"
    assert clock.trouble() is None
    assert open_store(settings.trainer.bundles).read(registry.live.bundle).version == registry.live.version


def test_a_trainer_that_starts_while_it_is_away_publishes_as_soon_as_it_is_back(
    clock: Clock, registry: Registry, bucket: Bucket
) -> None:
    bucket.away()
    for _ in range(3):
        assert not clock.publish(after_s=10)
    assert clock.publisher.published.total() == 0
    assert live_version(registry) == clock.publisher.version == 0
    bucket.back()
    assert clock.publish(after_s=20)
    assert live_version(registry) == 1
    assert clock.publish()
    assert clock.publisher.published == {"bundle": 1, "delta": 1}, "a delta brings what was learned meanwhile"


def test_half_an_upload_is_not_announced_and_goes_on(
    settings: Settings, clock: Clock, registry: Registry, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "PIECE_BYTES", 20_000)
    bucket.server.refuses = lambda _, path: 503 if path.endswith("weights.packed.0002") else None
    assert not clock.publish()
    half = len(bucket.objects)
    assert half > 2
    assert registry.snapshots == {}
    bucket.back()
    bucket.server.asked.clear()
    assert clock.publish(after_s=20)
    assert live_version(registry) == 1
    written = [path for method, path in bucket.server.asked if method == "PUT"]
    assert len(written) == len(bucket.objects) - half
    assert registry.live is not None
    open_store(settings.trainer.bundles).read(registry.live.bundle)


def test_retention_and_rollback_are_those_of_a_folder(
    settings: Settings, clock: Clock, registry: Registry, bucket: Bucket
) -> None:
    for _ in range(4):
        assert clock.publish(full=True)
    registry.refresh()
    store = open_store(settings.trainer.bundles)
    assert store.names() == [registry.snapshots[version].bundle for version in sorted(registry.snapshots)]
    older = min(registry.snapshots)
    assert rollback(settings, older).version == older
    for _ in range(3):
        clock.publish(full=True)
    assert registry.snapshots[older].bundle in store.names(), "the live one is kept"
    assert len(store.names()) == 3
    bucket.delete(f"{registry.snapshots[older].bundle}/items.json")
    with pytest.raises(BundleError, match=r"lacks items.json"):
        rollback(settings, older)
    bucket.away()
    with pytest.raises(Unavailable, match=r"is it away\?"):
        resume(settings)


def test_what_could_not_be_removed_is_removed_next_time(
    clock: Clock, bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        assert clock.publish(full=True)
    bucket.server.refuses = lambda method, _: 403 if method in ("POST", "DELETE") else None
    assert clock.publish(full=True)
    assert "bundle not removed" in caplog.text
    bucket.back()
    assert clock.publish(full=True)
    assert len({key.partition("/")[0] for key in bucket.objects}) == 2
