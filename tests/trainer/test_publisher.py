"""The publisher alone: what its guard refuses, which bundles it prunes, and a rollback written at the same moment."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from kafka import KafkaProducer
from kafka.errors import TopicAuthorizationFailedError

from headwater.errors import AccessDenied, BundleError, CheckpointError
from headwater.events import now_ms
from headwater.settings import Settings
from models.config import model_config
from models.learner import Learner
from models.published.announcement import LIVE
from models.published.bundle import Bundle
from models.published.graph import build_graph
from models.published.stores import open_store
from tests.worlds.example_logs import SMALL_MODEL, ring_examples
from tests.worlds.publishing import LOG, live_version, registry, settings, writer  # noqa: F401 - fixtures
from tests.worlds.topic_reading import limit_records
from trainer.checkpoints import Checkpoints
from trainer.guard import Outcome
from trainer.publisher import Publisher
from trainer.registry import Registry
from trainer.rollback import rollback
from trainer.same_queries import SameQueries

pytestmark = pytest.mark.any_broker


@pytest.fixture
def learner() -> Learner:
    made = Learner(model_config(SMALL_MODEL))
    made.learn(ring_examples(128))
    return made


def publisher(
    settings: Settings, learner: Learner, registry: Registry, writer: KafkaProducer, bound: float = 0.2
) -> Publisher:
    store = open_store(settings.trainer.bundles)
    queries = SameQueries(learner, bound, settings.trainer.directory)
    return Publisher(settings, store, learner, registry, queries, writer, LOG)


def publish(one: Publisher, *, full: bool = False, at_ms: int | None = None) -> bool:
    return one.publish(examples_offset=0, now_ms=at_ms or now_ms(), full=full, wait=True)


def test_weights_that_are_not_numbers_are_refused_and_the_last_good_model_stays(
    settings: Settings, learner: Learner, registry: Registry, writer: KafkaProducer
) -> None:
    one = publisher(settings, learner, registry, writer)
    assert publish(one)
    good = live_version(registry)
    end = registry.delta_end()
    learner.learn(ring_examples(64, first_offset=1000))
    with torch.no_grad():
        learner.parts.sequence.encoder.scoring()[0][0] = float("nan")
    assert not publish(one)
    assert not publish(one, full=True)
    assert one.broken
    assert one.refused["not_finite"] == 2
    assert (live_version(registry), registry.delta_end()) == (good, end)


def test_a_bundle_of_a_version_that_no_trainer_came_to_uses_up_no_numbers_and_takes_no_place(
    settings: Settings, learner: Learner, registry: Registry, writer: KafkaProducer
) -> None:
    bundles = settings.trainer.bundles
    assert isinstance(bundles, Path)
    for digest in ("ab", "cd", "ef"):
        (bundles / f"v999999999999999-{digest}").mkdir(parents=True)
    few = settings.model_copy(update={"trainer": settings.trainer.model_copy(update={"keep_bundles": 2})})
    one = publisher(few, learner, registry, writer)
    for lap in range(3):
        learner.learn(ring_examples(16, first_offset=1000 * (lap + 1)))
        assert publish(one, full=True)
    assert live_version(registry) == learner.version == 3
    assert {2, 3} <= registry.snapshots.keys()


def test_weights_that_are_not_numbers_are_in_no_checkpoint_and_one_that_holds_such_is_passed_over(
    tmp_path: Path, learner: Learner
) -> None:
    with closing(Checkpoints(tmp_path, LOG)) as kept:
        kept.save(learner, 1, {}, wait=True)
        learner.parts.sequence.encoder.bias.detach()[0] = float("nan")
        with pytest.raises(CheckpointError, match="numbers of bias are NaN"):
            kept.save(learner, 2, {}, wait=True, alone=True)
        assert [file.name for file in kept.files()] == [f"checkpoint-{1:020d}.ckpt"]
        learner.save(tmp_path / f"checkpoint-{2:020d}.ckpt", {"from": "a release before"})
        loaded = kept.load("cpu")
    assert loaded is not None
    assert loaded[1] == {}


def worse(one: Publisher) -> None:
    """From now on the learner is far behind what was published, on the same queries."""
    one.same_queries.outcomes.extend(Outcome(f"u{i % 20}", 0.1, 0.6, 0.2, i // 8) for i in range(40))


def test_a_model_worse_than_one_before_is_held_back_and_that_one_is_live_again_until_it_recovers(
    settings: Settings, learner: Learner, registry: Registry, writer: KafkaProducer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    one = publisher(settings, learner, registry, writer)
    assert publish(one, at_ms=1_000)
    registry.refresh()
    good = registry.live
    assert good is not None
    learner.learn(ring_examples(64, first_offset=1000))
    assert publish(one)
    assert one.version == good.version + 1
    worse(one)
    for lap in range(3):
        learner.learn(ring_examples(64, first_offset=2000 + 1000 * lap))
        assert not publish(one, at_ms=10_000 + lap)
    assert one.refused == {"regression": 3}
    assert (one.held_back_ms, one.held_back is None) == (10_000, False)
    registry.refresh()
    assert registry.live is not None
    assert (registry.live.version, registry.live.digest) == (good.version + 2, good.digest)
    again = open_store(settings.trainer.bundles).read(registry.live.bundle)
    assert again.digest == good.digest
    one.same_queries.outcomes.clear()
    end = registry.delta_end()
    assert publish(one, at_ms=70_000)
    assert (one.held_back_ms, one.held_back) == (0, None)
    assert live_version(registry) == learner.version == good.version + 3
    assert registry.delta_end() == end, "a bundle: no delta follows the model that was live again"
    told = [record.getMessage() for record in caplog.records]
    assert told.count("publications are held back: the last good model stays") == 1
    assert told.count("publications go on") == 1
    learner.learn(ring_examples(64, first_offset=9000))
    assert publish(one)
    assert registry.delta_end() > end


def test_while_a_rollback_holds_a_worse_model_brings_nothing_live(
    settings: Settings, learner: Learner, registry: Registry, writer: KafkaProducer
) -> None:
    one = publisher(settings, learner, registry, writer)
    assert publish(one)
    first = live_version(registry)
    learner.learn(ring_examples(64, first_offset=1000))
    assert publish(one, full=True)
    rollback(settings, first)
    registry.refresh()
    worse(one)
    learner.learn(ring_examples(64, first_offset=2000))
    assert not publish(one, full=True)
    assert live_version(registry) == first
    assert one.held_back is not None


def test_a_bundle_whose_graph_disagrees_with_the_learner_is_refused(
    settings: Settings, learner: Learner, registry: Registry, writer: KafkaProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = publisher(settings, learner, registry, writer)
    faded = [memory.model_copy(update={"read_fade": 0.3}) for memory in learner.config.memories]
    wrong = build_graph(learner.config.model_copy(update={"memories": tuple(faded)}), pure=True)
    honest = learner.publish

    def with_a_wrong_graph(**given: Any) -> Any:
        made = honest(**given)
        if isinstance(made, Bundle):
            made.graph = wrong
        return made

    monkeypatch.setattr(learner, "publish", with_a_wrong_graph)
    assert not publish(one)
    assert one.refused == {"parity": 1}
    assert live_version(registry) == 0
    monkeypatch.undo()
    assert publish(one)
    assert live_version(registry) == learner.version


def test_a_change_that_no_delta_told_is_found_before_a_bundle_of_it_is_written_and_the_next_one_tells_it(
    settings: Settings, learner: Learner, registry: Registry, writer: KafkaProducer
) -> None:
    one = publisher(settings, learner, registry, writer)
    assert publish(one)
    good = live_version(registry)
    learner.popularity.log[-1] *= 2.0  # of a row that nobody has yet: whatever is learned does not come near it
    learner.learn(ring_examples(64, first_offset=1000))
    publish(one, full=True)
    assert one.refused == {"parity": 1}
    assert "deltas led to" in (one.held_back or "")
    assert live_version(registry) == good
    assert len(open_store(settings.trainer.bundles).names()) == 1
    assert publish(one, full=True)
    registry.refresh()
    assert registry.live is not None
    assert registry.live.version == learner.version > good
    assert open_store(settings.trainer.bundles).read(registry.live.bundle).digest == registry.live.digest


def test_old_bundles_are_pruned_and_their_announcements_withdrawn_but_never_the_live_one(
    settings: Settings, learner: Learner, registry: Registry, writer: KafkaProducer
) -> None:
    few = settings.model_copy(update={"trainer": settings.trainer.model_copy(update={"keep_bundles": 3})})
    one = publisher(few, learner, registry, writer)
    assert publish(one)
    first = registry.live
    assert first is not None
    for lap in range(6):
        if lap == 1:
            rollback(settings, first.version)
        learner.learn(ring_examples(64, first_offset=1000 * (lap + 1)))
        assert publish(one, full=True)
    registry.refresh()
    assert registry.live is not None
    assert registry.live.version == first.version
    newest = sorted(registry.snapshots)[-3:]
    assert len(registry.snapshots) == 4
    assert sorted(registry.snapshots) == [first.version, *newest]
    folders = set(open_store(settings.trainer.bundles).names())
    assert folders == {snapshot.bundle for snapshot in registry.snapshots.values()}
    open_store(settings.trainer.bundles).read(first.bundle)


def test_a_rollback_in_the_moment_of_pruning_finds_its_bundle_or_says_that_it_is_gone(
    settings: Settings,
    learner: Learner,
    registry: Registry,
    writer: KafkaProducer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = settings.model_copy(
        update={"trainer": settings.trainer.model_copy(update={"keep_bundles": 1, "anchor_every_s": 0.0})}
    )
    one = publisher(few, learner, registry, writer)
    assert publish(one)
    first = registry.live
    assert first is not None
    learner.learn(ring_examples(64, first_offset=1000))
    remove = registry.remove

    def rolled_back_before(version: int) -> None:
        rollback(settings, first.version)
        remove(version)

    with monkeypatch.context() as patched:
        patched.setattr(registry, "remove", rolled_back_before)
        assert publish(one, full=True)
    assert live_version(registry) == first.version
    open_store(settings.trainer.bundles).read(first.bundle)
    second = max(registry.snapshots)
    with pytest.raises(BundleError, match=f"taken version {second} away"):
        rollback(settings, second, begin=lambda: remove(second))
    registry.refresh()
    assert live_version(registry) == first.version


def test_a_bundle_whose_announcement_the_broker_refuses_is_removed_again(
    settings: Settings, learner: Learner, registry: Registry, writer: KafkaProducer
) -> None:
    one = publisher(settings, learner, registry, writer)
    assert publish(one)
    good = live_version(registry)
    limit_records(settings.kafka, "model", 200)
    limit_records(settings.kafka, "model-deltas", 200)
    for lap in range(4):
        learner.learn(ring_examples(64, first_offset=1000 * (lap + 1)))
        assert not publish(one)
        assert "not taken" in (one.failing or "")
    assert (one.failures, one.refused) == (4, {"unavailable": 4})
    assert live_version(registry) == good
    assert [name[:9] for name in open_store(settings.trainer.bundles).names()] == [f"v{good:08d}"]
    limit_records(settings.kafka, "model")
    assert publish(one)
    assert (one.failing, one.failures) == (None, 4)
    assert live_version(registry) == learner.version > good
    limit_records(settings.kafka, "model-deltas")
    learner.learn(ring_examples(64, first_offset=9000))
    assert publish(one)
    assert (one.published["delta"], one.failures) == (1, 0)


def test_one_bundle_of_each_span_of_time_stays_as_long_as_the_deltas_after_it(
    settings: Settings, learner: Learner, registry: Registry, writer: KafkaProducer
) -> None:
    hour = 3_600_000
    hourly = settings.trainer.model_copy(update={"keep_bundles": 1, "anchor_every_s": 3600.0})
    one = publisher(settings.model_copy(update={"trainer": hourly}), learner, registry, writer)
    made: dict[int, int] = {}
    for lap, minutes in enumerate((0, 20, 40, 60, 80, 26 * 60)):
        learner.learn(ring_examples(64, first_offset=1000 * (lap + 1)))
        assert one.publish(examples_offset=0, now_ms=1000 * hour + minutes * 60_000, full=True, wait=True)
        made[minutes] = learner.version
        registry.refresh()
        if minutes == 80:
            assert sorted(registry.snapshots) == [made[0], made[60], made[80]]
    assert sorted(registry.snapshots) == [made[60], made[26 * 60]]


class Overtaken:
    """A producer before whose next `live` a rollback to a version gets into the log."""

    def __init__(self, writer: KafkaProducer, settings: Settings) -> None:
        self.writer = writer
        self.settings = settings
        self.version: int | None = None

    def send(self, topic: str, value: bytes | None, key: bytes, **more: Any) -> Any:
        if key == LIVE and self.version is not None:
            version, self.version = self.version, None
            rollback(self.settings, version)
        return self.writer.send(topic, value, key, **more)


def test_a_rollback_written_at_the_same_moment_is_not_undone(
    settings: Settings, learner: Learner, writer: KafkaProducer
) -> None:
    overtaken = Overtaken(writer, settings)
    with closing(Registry(settings.kafka, cast("KafkaProducer", overtaken), LOG)) as registry:
        one = publisher(settings, learner, registry, writer)
        assert publish(one)
        first = registry.live
        assert first is not None
        learner.learn(ring_examples(64, first_offset=1000))
        overtaken.version = first.version
        assert publish(one, full=True)
        assert overtaken.version is None
        assert live_version(registry) == first.version
        assert registry.live is not None
        assert registry.live.pinned


class Forbidden:
    """A producer that the broker lets write nothing."""

    def send(self, *_: Any, **__: Any) -> Any:
        raise TopicAuthorizationFailedError


def test_a_publication_that_the_broker_forbids_is_not_tried_for_ever(settings: Settings, learner: Learner) -> None:
    forbidden = cast("KafkaProducer", Forbidden())
    registry = Registry(settings.kafka, forbidden, LOG)
    with closing(registry), pytest.raises(AccessDenied, match="kafka-acls --operation Write"):
        publish(publisher(settings, learner, registry, forbidden))
