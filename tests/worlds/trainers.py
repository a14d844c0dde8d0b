"""A trainer at work in a test: its settings, and what it says of itself."""

from __future__ import annotations

from pathlib import Path

from headwater.settings import Settings
from tests.worlds.example_logs import SMALL_MODEL
from tests.worlds.processes import LiveWorker, eventually


def learning(settings: Settings) -> Settings:
    """A small model, and deadlines that a test need not wait for."""
    trainer = settings.trainer.model_copy(update={"publish_every_s": 0.2, "checkpoint_every_s": 0.5})
    return settings.model_copy(
        update={"trainer": trainer, "model": settings.model.model_copy(update={"overrides": SMALL_MODEL})}
    )


def learned(trainer: LiveWorker, examples: int) -> None:
    eventually(
        lambda: trainer.is_ready() and trainer.metric("headwater_examples_learned_total") >= examples,
        50,
        f"{examples} examples learned:\n{trainer.tail()}",
    )
    assert trainer.metric("headwater_examples_learned_total") == examples


def labelled(trainer: LiveWorker, name: str) -> dict[str, float]:
    """A metric's values by their only label."""
    lines = trainer.get("/metrics")[1].splitlines()
    return {line.split('"')[1]: float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name}{{")}


def checkpoints(settings: Settings) -> list[Path]:
    return sorted(settings.trainer.directory.glob("checkpoint-*.ckpt"), reverse=True)
