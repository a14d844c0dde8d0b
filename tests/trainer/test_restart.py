"""A trainer that starts again from what one before it left: its newest good checkpoint, or not at all."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from headwater.events import now_ms
from headwater.settings import Settings
from models.learner import Learner
from tests.worlds.example_logs import SMALL_MODEL, append, ring_records
from tests.worlds.processes import LiveWorker, eventually, world_settings
from tests.worlds.trainers import checkpoints, labelled, learned, learning
from trainer.checkpoints import state_digest

Start = Callable[..., LiveWorker]


def damage(path: Path) -> None:
    """Cut a file in half, as a full disk would."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


class Kept(NamedTuple):
    """What a trainer left that learned 400 examples, with its counts before it was told to stop."""

    settings: Settings
    duplicates: float
    dead_letters: dict[str, float]


@pytest.fixture(scope="module")
def kept(kafka_address: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    folder = tmp_path_factory.mktemp("kept")
    with world_settings(kafka_address, redis_url, folder) as world:
        settings = learning(world)
        values = ring_records(200)
        append(settings, [*values[:4], values[3], b"not json", *values[4:]])
        with LiveWorker("trainer.worker", settings, folder / "trainer.log") as trainer:
            learned(trainer, 200)
            eventually(lambda: checkpoints(settings), 60, "a checkpoint")
            append(settings, ring_records(200, first_offset=1_000))
            learned(trainer, 400)
            duplicates = trainer.metric("headwater_example_duplicates_total")
            dead_letters = labelled(trainer, "headwater_dead_letters_total")
            assert trainer.stop() == 0
        assert len(checkpoints(settings)) == 2
        yield Kept(settings, duplicates, dead_letters)


@pytest.fixture
def left(kept: Kept, tmp_path: Path) -> Settings:
    """The same log, and a copy of the directory."""
    shutil.copytree(kept.settings.trainer.directory, tmp_path / "left")
    trainer = kept.settings.trainer.model_copy(update={"directory": tmp_path / "left"})
    return kept.settings.model_copy(update={"trainer": trainer})


def test_duplicates_and_an_unreadable_record_are_counted_and_passed(kept: Kept) -> None:
    assert kept.duplicates == 25
    assert kept.dead_letters == {"undecodable": 1}


def test_a_model_configured_otherwise_than_its_checkpoint_is_refused(left: Settings, worker: Start) -> None:
    wider = {**SMALL_MODEL, "width": 24}
    other = left.model_copy(update={"model": left.model.model_copy(update={"overrides": wider})})
    second = worker("trainer.worker", given=other, wait=False)
    assert second.process is not None
    assert second.process.wait(60) == 2
    assert "width 16 -> 24" in second.tail()


def test_a_truncated_checkpoint_falls_back_to_the_one_before_it(left: Settings, worker: Start) -> None:
    newest, _ = checkpoints(left)
    damage(newest)
    again = worker("trainer.worker", given=left)
    learned(again, 400)
    assert again.metric("headwater_example_duplicates_total") == 25
    assert "checkpoint cannot be used: trying the one before it" in again.tail(200)
    assert again.stop() == 0
    assert checkpoints(left)[0] == newest
    assert state_digest(newest), "a good file took the damaged one's place"


def test_no_good_checkpoint_is_an_exit_and_never_a_new_model(left: Settings, worker: Start) -> None:
    for path in checkpoints(left):
        damage(path)
    for _ in range(2):
        trainer = worker("trainer.worker", given=left, wait=False)
        assert trainer.process is not None
        assert trainer.process.wait(60) == 2
        assert "can be read" in trainer.tail()
        assert "move the directory away to learn anew" in trainer.tail()


def test_a_model_that_was_held_back_is_so_after_a_restart_is_told_and_passes_once_it_does_as_well(
    left: Settings, worker: Start
) -> None:
    """The last of this file: it adds to the log."""
    newest, _ = checkpoints(left)
    learner, extra = Learner.load(newest)
    behind = [[f"u{i % 20}", 0.1, 0.6, 0.2, i // 8] for i in range(60)]
    held = {"outcomes": behind, "held_back": True, "since_ms": now_ms() - 90_000}
    learner.save(newest, {**extra, "guard": held})
    untaught = {**SMALL_MODEL, "teach_per_minute": 0}  # may be another than the checkpoint's
    other = left.model_copy(update={"model": left.model.model_copy(update={"overrides": untaught})})
    again = worker("trainer.worker", given=other)
    eventually(lambda: again.metric("headwater_publications_refused_total") > 0, 30, "a model is refused")
    status, said = again.get("/readyz")
    assert status == 200
    assert re.match(r"ready; publications held back for \d+ s: NDCG@10 is 0\.1000 where version \d+ has 0\.6000", said)
    assert again.metric("headwater_publication_held_back_seconds") >= 90
    assert labelled(again, "headwater_compared_ndcg_at_10")["published"] == pytest.approx(0.6)
    for lap in range(20):
        append(left, ring_records(100, first_offset=20_000 + 1000 * lap))
        learned(again, 400 + 100 * (lap + 1))
        if again.metric("headwater_publication_held_back_seconds") == 0:
            break
    eventually(lambda: again.get("/readyz") == (200, "ready\n"), 60, "the model passes")
    assert again.tail(200).count("publications are held back") == 1
    assert "publications go on" in again.tail(200)
    assert again.stop() == 0
    kept_now = Learner.load(checkpoints(left)[0])[1]["guard"]
    assert kept_now.keys() == held.keys()
    assert (kept_now["held_back"], kept_now["since_ms"]) == (False, 0)
