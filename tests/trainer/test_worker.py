"""The trainer as a process: it learns what is in the log, publishes it, stops when told, and refuses what it must."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from embedded import EmbeddedBroker
from headwater.errors import SettingsError
from headwater.kafka import ensure_topics
from headwater.settings import Settings, load_settings
from models.published.stores import open_store
from tests.worlds.example_logs import append, catalogue, ring_records
from tests.worlds.processes import LiveWorker, eventually
from tests.worlds.topic_reading import limit_records
from tests.worlds.trainers import checkpoints, labelled, learned, learning

Start = Callable[..., LiveWorker]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return learning(settings)


def test_a_trainer_learns_the_ring_beats_popularity_and_drains_with_a_final_checkpoint(
    settings: Settings, worker: Start
) -> None:
    quiet = settings.model_copy(update={"trainer": settings.trainer.model_copy(update={"checkpoint_every_s": 3600.0})})
    append(quiet, [catalogue(), *ring_records(1500)])
    trainer = worker("trainer.worker", given=quiet)
    learned(trainer, 1500)
    eventually(lambda: trainer.metric("headwater_prequential_queries") > 1000, 60, "queries")
    means = labelled(trainer, "headwater_prequential_ndcg_at_10")
    assert means["headwater"] > 0.3
    assert means["headwater"] > 2 * means["popularity"]
    eventually(lambda: trainer.metric("headwater_lag") == 0, 60, "lag 0")
    version = trainer.metric("headwater_model_version")
    append(quiet, ring_records(50, first_offset=2_000))
    learned(trainer, 1550)
    eventually(lambda: trainer.metric("headwater_model_version") > version, 60, "a delta with what was learned")
    assert 0 <= trainer.metric("headwater_weight_age_seconds") < 60
    assert not checkpoints(quiet)
    assert trainer.stop() == 0
    assert [path.name for path in checkpoints(quiet)] == [f"checkpoint-{63:020d}.ckpt"]
    again = worker("trainer.worker", given=quiet)
    learned(again, 1550)
    append(quiet, ring_records(50, first_offset=3_000))
    learned(again, 1600)
    assert again.stop() == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_publishing_that_fails_for_long_shows_and_ends_when_the_broker_takes_it(
    settings: Settings, worker: Start
) -> None:
    operations = settings.operations.model_copy(update={"stall_s": 4.0})
    settings = settings.model_copy(update={"operations": operations})
    append(settings, ring_records(100))
    trainer = worker("trainer.worker", given=settings)
    learned(trainer, 100)
    for topic in ("model", "model-deltas"):
        limit_records(settings.kafka, topic, 200)
    append(settings, ring_records(50, first_offset=1_000))
    eventually(lambda: trainer.get("/readyz")[0] == 503, 30, f"not ready:\n{trainer.tail()}")
    assert "nothing could be published for" in trainer.get("/readyz")[1]
    assert trainer.metric("headwater_examples_learned_total") == 150
    assert len(open_store(settings.trainer.bundles).names()) <= settings.trainer.keep_bundles
    for topic in ("model", "model-deltas"):
        limit_records(settings.kafka, topic)
    eventually(trainer.is_ready, 30, f"ready again:\n{trainer.tail()}")
    assert trainer.stop() == 0


def test_a_gpu_asked_for_and_not_there_is_a_clear_exit(settings: Settings, worker: Start) -> None:
    trainer = worker("trainer.worker", given=settings, wait=False, HEADWATER_TRAINER__DEVICE="cuda")
    assert trainer.process is not None
    assert trainer.process.wait(60) == 2
    assert "trainer.device is cuda and no GPU can be used" in trainer.tail()
    assert "Traceback" not in trainer.tail()


def test_a_field_that_the_model_does_not_have_is_one_clear_line(settings: Settings, worker: Start) -> None:
    trainer = worker("trainer.worker", given=settings, wait=False, HEADWATER_MODEL__OVERRIDES='{"wdith": 3}')
    assert trainer.process is not None
    assert trainer.process.wait(60) == 2
    assert "wdith" in trainer.tail()
    assert "Traceback" not in trainer.tail()


@pytest.mark.parametrize(("name", "value"), [("device", "tpu"), ("threads", "none")])
def test_a_wrong_setting_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"HEADWATER_TRAINER__{name.upper()}", value)
    with pytest.raises(SettingsError, match=f"trainer.{name}"):
        load_settings()


def test_a_second_trainer_of_the_same_directory_is_refused(settings: Settings, worker: Start) -> None:
    first = worker("trainer.worker", given=settings)
    assert first.process is not None
    second = worker("trainer.worker", given=settings, wait=False)
    assert second.process is not None
    assert second.process.wait(60) == 2
    assert f"belongs to a running trainer (pid {first.process.pid})" in second.tail()
    assert first.stop() == 0


def test_a_trainer_started_before_its_broker_waits_and_stops_when_told(settings: Settings, worker: Start) -> None:
    nowhere = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"bootstrap": "127.0.0.1:9"})})
    trainer = worker("trainer.worker", given=nowhere, wait=False)
    eventually(lambda: "no Kafka answers" in trainer.tail(), 30, trainer.tail())
    assert trainer.get("/readyz")[0] == 503
    assert trainer.get("/healthz")[0] == 200
    assert trainer.stop() == 0


def test_told_to_stop_while_kafka_is_away_it_keeps_what_it_learned(settings: Settings, tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path / "kafka") as broker:
        kafka = settings.kafka.model_copy(update={"bootstrap": broker.address})
        trainer = settings.trainer.model_copy(update={"checkpoint_every_s": 3600.0})
        ours = settings.model_copy(update={"kafka": kafka, "trainer": trainer})
        ensure_topics(ours.kafka)
        append(ours, ring_records(100))
        with LiveWorker("trainer.worker", ours, tmp_path / "trainer.log") as worker:
            learned(worker, 100)
            broker.kill()
            assert worker.stop(30) == 0, worker.tail()
        assert [path.name for path in checkpoints(ours)] == [f"checkpoint-{4:020d}.ckpt"]


@pytest.mark.skipif(not hasattr(os, "getpriority"), reason="no niceness on this system")
def test_the_trainer_yields_to_serving(settings: Settings, worker: Start) -> None:
    trainer = worker("trainer.worker", given=settings, HEADWATER_TRAINER__YIELDS="true")
    assert trainer.process is not None
    if hasattr(os, "SCHED_IDLE"):
        threads = Path(f"/proc/{trainer.process.pid}/task")
        eventually(
            lambda: {os.sched_getscheduler(int(thread.name)) for thread in threads.iterdir()} == {os.SCHED_IDLE},
            10,
            "every thread in the idle class",
        )
    else:
        assert os.getpriority(os.PRIO_PROCESS, trainer.process.pid) >= 19
    trainer.process.send_signal(signal.SIGINT)
    assert trainer.process.wait(60) == 0
