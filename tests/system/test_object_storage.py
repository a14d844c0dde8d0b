"""Trainer and serving as processes that share no disk: bundles go through object storage, which comes and goes."""

from __future__ import annotations

from collections.abc import Callable

from headwater.settings import Settings
from tests.worlds.example_logs import SMALL_MODEL, append, ring_records
from tests.worlds.object_storage import SECRET, Bucket, bucket, object_storage  # noqa: F401 - fixtures
from tests.worlds.processes import LiveWorker, eventually


def test_a_model_gets_to_serving_through_a_bucket_and_goes_on_while_that_is_away(
    settings: Settings,
    worker: Callable[..., LiveWorker],
    bucket: Bucket,
) -> None:
    trainer_section = settings.trainer.model_copy(
        update={"bundles": bucket.url, "publish_every_s": 0.1, "snapshot_every_s": 0.3}
    )
    settings = settings.model_copy(
        update={
            "trainer": trainer_section,
            "serving": settings.serving.model_copy(update={"bundles": bucket.url}),
            "model": settings.model.model_copy(update={"overrides": SMALL_MODEL}),
        }
    )
    trainer = worker("trainer.worker", given=settings)
    serving = worker("serving.worker", given=settings)
    assert serving.metric("headwater_model_version") >= 1

    bucket.away()
    append(settings, ring_records(100))
    eventually(lambda: trainer.metric("headwater_publications_refused_total") >= 1, 30, "it is counted")
    newest = trainer.metric("headwater_model_version")
    assert newest > 1, "deltas go on"
    eventually(lambda: serving.metric("headwater_model_version") >= newest, 30, "and are followed")
    late = worker("serving.worker", given=settings)
    assert late.metric("headwater_model_version") == 0, "it answers with popular items"
    assert late.metric("headwater_model_refused_total") >= 1
    assert trainer.metric("headwater_examples_learned_total") == 100

    bucket.back()
    eventually(lambda: late.metric("headwater_model_version") >= newest, 30, f"it has the model:\n{late.tail()}")
    assert trainer.stop() == 0
    for one in (trainer, serving, late):
        assert SECRET not in one.tail(1000)
