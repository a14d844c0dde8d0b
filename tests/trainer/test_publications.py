"""What the trainer publishes: a chain of deltas that leads from one bundle to the next, versions that only rise.

And what it does not: a guard keeps the last good model, and a rollback holds until it is lifted.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from headwater.errors import BundleError
from headwater.kafka import BoundedReader
from headwater.settings import Settings
from headwater.topics import MODEL_DELTAS
from models.published.announcement import read_delta_headers
from models.published.delta import DeltaAssembler
from models.published.stores import open_store
from tests.worlds.example_logs import append, ring_records
from tests.worlds.processes import LiveWorker, eventually
from tests.worlds.publishing import LOG, live_version, registry, settings, writer  # noqa: F401 - fixtures
from trainer.registry import Registry
from trainer.rollback import resume, rollback

Start = Callable[..., LiveWorker]


def deltas(settings: Settings, offset: int, end: int) -> list[Any]:
    """Records of `model-deltas` from `offset` to before `end`."""
    with BoundedReader(settings.kafka, MODEL_DELTAS) as reader:
        return [record for span in reader.spans({0: offset}, {0: end}) for record in reader.records(span)]


def learned(trainer: LiveWorker, examples: int) -> None:
    eventually(
        lambda: trainer.metric("headwater_examples_learned_total") == examples, 30, f"{examples}\n{trainer.tail()}"
    )


def published(trainer: LiveWorker, above: float) -> float:
    """The version published last, once it is above another."""
    eventually(lambda: trainer.metric("headwater_model_version") > above, 60, f"a version above {above}")
    return trainer.metric("headwater_model_version")


def test_the_deltas_applied_to_the_first_bundle_give_the_last(
    settings: Settings, worker: Start, registry: Registry
) -> None:
    trainer = worker("trainer.worker", given=settings)
    registry.refresh()
    first = registry.live
    assert first is not None
    version = float(first.version)
    for lap in range(4):
        append(settings, ring_records(100, users=5 + 20 * lap, items=10 + 40 * lap, first_offset=1_000 * lap))
        learned(trainer, 100 * (lap + 1))
        version = published(trainer, version)
    assert trainer.stop() == 0
    registry.refresh()
    last = registry.live
    assert last is not None
    assert last.version > first.version
    bundle = open_store(settings.trainer.bundles).read(first.bundle)
    assembler = DeltaAssembler()
    applied = 0
    for record in deltas(settings, first.delta_offset, last.delta_offset):
        delta = assembler.add(record.value)
        headers = read_delta_headers(record.headers)
        if delta is not None:
            assert headers.version == delta.version
            assert headers.parent == delta.parent_version == bundle.version
            bundle.apply(delta)
            applied += 1
    assert applied >= 4
    given = open_store(settings.trainer.bundles).read(last.bundle)
    assert (bundle.version, bundle.items, bundle.types) == (given.version, given.items, given.types)
    for name, array in given.weights.items():
        np.testing.assert_array_equal(bundle.weights[name], array, err_msg=name)
    assert bundle.digest == given.digest == last.digest


def test_versions_rise_across_restarts_even_without_the_checkpoint(
    settings: Settings, worker: Start, registry: Registry
) -> None:
    append(settings, ring_records(100))
    first = worker("trainer.worker", given=settings)
    learned(first, 100)
    version = published(first, 1)
    assert live_version(registry) == 1, "the bundle of the start is written once; what is learned comes as deltas"
    first.kill()
    second = worker("trainer.worker", given=settings)
    learned(second, 100)
    newer = published(second, version)
    assert second.stop() == 0
    shutil.rmtree(settings.trainer.directory)
    store = open_store(settings.trainer.bundles)
    for name in store.names():
        store.remove(name)
    seen = live_version(registry)
    assert seen >= newer
    third = worker("trainer.worker", given=settings)
    assert published(third, 0) > seen
    assert live_version(registry) > seen


def test_a_rollback_holds_across_learning_and_restarts_until_resume(
    settings: Settings, worker: Start, registry: Registry
) -> None:
    append(settings, ring_records(100))
    trainer = worker("trainer.worker", given=settings)
    first = live_version(registry)
    learned(trainer, 100)
    published(trainer, first)
    assert trainer.stop() == 0
    newest = live_version(registry)
    assert newest > first
    trainer = worker("trainer.worker", given=settings)
    pinned = rollback(settings, first)
    assert pinned.pinned
    assert pinned.delta_offset == registry.delta_end(), "the deltas that followed it once would undo the rollback"
    eventually(lambda: trainer.metric("headwater_model_pinned"), 60, "the trainer sees the pin")
    end = registry.delta_end()
    append(settings, ring_records(100, first_offset=1_000))
    learned(trainer, 200)
    assert trainer.stop() == 0
    trainer = worker("trainer.worker", given=settings)
    append(settings, ring_records(100, first_offset=2_000))
    learned(trainer, 300)
    assert live_version(registry) == first
    assert registry.delta_end() == end
    resumed = resume(settings)
    assert not resumed.pinned
    eventually(lambda: live_version(registry) > resumed.version, 60, "a fresh model is live")
    assert trainer.stop() == 0


def test_rolling_back_to_a_version_that_is_not_there_names_those_that_are(settings: Settings, worker: Start) -> None:
    trainer = worker("trainer.worker", given=settings)
    version = int(trainer.metric("headwater_model_version"))
    with pytest.raises(BundleError, match=f"no snapshot of version 999 is announced; there are: {version}"):
        rollback(settings, 999)
    assert trainer.stop() == 0
