"""kill -9 at any point, restart: the weights after example N are those of an undisturbed run, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from headwater.settings import Settings
from tests.worlds.example_logs import SMALL_MODEL, append, catalogue, ring_records
from tests.worlds.processes import LiveWorker, eventually
from trainer.checkpoints import state_digest

EVENTS = 1200


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Dropout and replay stay on: they draw random numbers, and those have to come out the same too."""
    trainer = settings.trainer.model_copy(
        update={"publish_every_s": 0.1, "checkpoint_every_s": 0.05, "snapshot_every_s": 1.0, "device": "cpu"}
    )
    model = settings.model.model_copy(update={"overrides": {**SMALL_MODEL, "replay_windows": 16}})
    return settings.model_copy(update={"trainer": trainer, "model": model})


def elsewhere(settings: Settings, directory: Path) -> Settings:
    trainer = settings.trainer.model_copy(update={"directory": directory, "checkpoint_every_s": 3600.0})
    return settings.model_copy(update={"trainer": trainer})


def digest(settings: Settings) -> str:
    newest = max(settings.trainer.directory.glob("checkpoint-*.ckpt"))
    return state_digest(newest)


def learned(trainer: LiveWorker, at_least: float) -> float:
    def enough() -> bool:
        return trainer.is_ready() and trainer.metric("headwater_examples_learned_total") >= at_least

    eventually(enough, 50, f"{at_least} examples:\n{trainer.tail()}")
    return trainer.metric("headwater_examples_learned_total")


def test_killed_three_times_it_learns_the_same_weights(
    settings: Settings, worker: Callable[..., LiveWorker], tmp_path: Path
) -> None:
    values = [catalogue(), *ring_records(EVENTS)]
    values.insert(35, values[20])  # sent twice by a crash before the trainer
    values.insert(40, b"unreadable")
    append(settings, values[:30])
    calm = elsewhere(settings, tmp_path / "undisturbed")
    undisturbed = worker("trainer.worker", given=calm, wait=False)  # beside the others: what it learns is its own

    killed_at: list[float] = []
    kept: list[Path] = []
    examples = 0.0
    for lap in range(3):
        trainer = worker("trainer.worker", given=settings, wait=False)
        if lap == 1:
            append(settings, values[30:])
        examples = learned(trainer, min(EVENTS, examples + 250))
        trainer.kill()
        killed_at.append(examples)
        kept += settings.trainer.directory.glob("checkpoint-*.ckpt")
    assert killed_at[0] < EVENTS
    assert kept, "no checkpoint was written before a kill: this tests nothing"
    (settings.trainer.directory / ".checkpoint-00000000000000099999.ckpt.writing").write_bytes(b"torn")

    last = worker("trainer.worker", given=settings)
    assert learned(last, EVENTS) == EVENTS
    assert last.metric("headwater_example_duplicates_total") == 25
    assert last.stop() == 0

    assert learned(undisturbed, EVENTS) == EVENTS
    assert undisturbed.stop() == 0
    assert digest(settings) == digest(calm)


def test_another_log_or_seed_gives_another_digest(
    settings: Settings, worker: Callable[..., LiveWorker], tmp_path: Path
) -> None:
    append(settings, ring_records(200))
    seeded = []
    for seed in (0, 1):
        given = elsewhere(settings, tmp_path / f"seed-{seed}")
        seeded.append(given.model_copy(update={"trainer": given.trainer.model_copy(update={"seed": seed})}))
    trainers = [worker("trainer.worker", given=given, wait=False) for given in seeded]
    for trainer in trainers:
        assert learned(trainer, 200) == 200
        assert trainer.stop() == 0
    assert len(set(map(digest, seeded))) == 2
