"""More comes than can be learned: what is learned in full is decided, written down, and the same after any kill."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from headwater.kafka import producer, read_topic
from headwater.process import Operations
from headwater.settings import Settings
from headwater.topics import LEARNING, MODEL, topic_name
from models.config import model_config
from models.learner import Learner
from models.published.announcement import read_announcement
from tests.worlds.example_logs import SMALL_MODEL, append, catalogue, ring_records
from tests.worlds.processes import LiveWorker, eventually
from trainer.checkpoints import state_digest
from trainer.examples_log import ExamplesLog, Progress
from trainer.gap import Leave
from trainer.shares import EntryPlace, ShareDecision, Shares, read_decision
from trainer.sharing import Sharing

LAP = 200


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """All is too much: a trainer that is a millisecond behind lets its slow part rest."""
    trainer = settings.trainer.model_copy(
        update={"publish_every_s": 0.1, "checkpoint_every_s": 0.1, "device": "cpu", "keep_up_s": 0.001}
    )
    model = settings.model.model_copy(update={"overrides": {**SMALL_MODEL, "block": 16}})
    return settings.model_copy(update={"trainer": trainer, "model": model})


def elsewhere(settings: Settings, directory: Path) -> Settings:
    trainer = settings.trainer.model_copy(update={"directory": directory, "keep_up_s": 0.0})
    return settings.model_copy(update={"trainer": trainer})


def digest(settings: Settings) -> str:
    return state_digest(max(settings.trainer.directory.glob("checkpoint-*.ckpt")))


def decisions(settings: Settings) -> list[ShareDecision]:
    return [read_decision(record.value) for record in read_topic(settings.kafka, LEARNING)]


def decide(settings: Settings, *values: bytes) -> None:
    writer = producer(settings.kafka)
    try:
        for value in values:
            writer.send(topic_name(LEARNING, settings.kafka.prefix), value, b"0", partition=0).get(timeout=20)
    finally:
        writer.close(timeout=10)


def learned(trainer: LiveWorker, examples: int) -> None:
    eventually(
        lambda: trainer.is_ready() and trainer.metric("headwater_examples_learned_total") == examples,
        50,
        f"{examples} examples:\n{trainer.tail()}",
    )


def rested(trainer: LiveWorker) -> float:
    return trainer.metric("headwater_examples_rested_total")


def test_a_burst_is_learned_in_part_and_killed_in_its_midst_the_weights_are_those_of_an_undisturbed_run(
    settings: Settings, worker: Callable[..., LiveWorker], tmp_path: Path
) -> None:
    records = ring_records(40 * LAP)
    per_lap = LAP // 25
    sent = 0

    def lap() -> int:
        nonlocal sent
        append(settings, records[sent * per_lap : (sent + 1) * per_lap])
        sent += 1
        return sent * LAP

    append(settings, [catalogue()])
    trainer = worker("trainer.worker", given=settings)
    while rested(trainer) < LAP:
        assert sent < 30, f"it never rested: {decisions(settings)}"
        lap()
    trainer.kill()
    again = worker("trainer.worker", given=settings)
    learned(again, lap())
    eventually(lambda: again.metric("headwater_learning_share") == 1.0, 30, f"all is learned again:\n{again.tail()}")
    assert '"all is learned in full again"' in again.tail(10_000)
    before = rested(again)
    assert before >= LAP
    assert again.stop() == 0

    calm = elsewhere(settings, tmp_path / "undisturbed")
    undisturbed = worker("trainer.worker", given=calm)
    learned(undisturbed, sent * LAP)
    eventually(lambda: undisturbed.metric("headwater_learning_share") == 1.0, 30, "the last decision, too, is read")
    assert rested(undisturbed) == before
    assert undisturbed.stop() == 0
    assert digest(settings) == digest(calm)
    assert {one.why for one in decisions(settings)} == {"behind", "room"}
    told = [read_announcement(record.key, record.value)[1] for record in read_topic(settings.kafka, MODEL)]
    newest = [(one.learned_time, one.counted_time) for one in told if one is not None and one.counted_time]
    assert newest
    assert all(learned_time <= counted_time for learned_time, counted_time in newest)


def test_decisions_of_others_are_followed_at_their_places_and_what_is_none_is_counted(
    settings: Settings, worker: Callable[..., LiveWorker], tmp_path: Path
) -> None:
    calm = elsewhere(settings, tmp_path / "calm")
    append(settings, ring_records(LAP))  # eight records of 25
    decide(
        settings,
        b"no decision",
        ShareDecision(offset=2, entry=7, share=0.0, why="behind").encode(),
        ShareDecision(offset=5, share=1.0, before=0.0, why="room").encode(),
        ShareDecision(offset=5, share=1.0, before=0.0, why="room").encode(),  # sent twice
    )
    trainer = worker("trainer.worker", given=calm)
    learned(trainer, LAP)
    assert rested(trainer) == 4 * 16  # of blocks that begin at 64, 80, 96 and 112: 57 is within one, 125 too
    assert 'headwater_foreign_records_total{reason="undecodable",topic="learning"} 1.0' in trainer.get("/metrics")[1]


def test_decisions_of_another_log_hold_no_more(settings: Settings, worker: Callable[..., LiveWorker]) -> None:
    decide(settings, ShareDecision(offset=3, share=0.0, why="behind").encode())
    decide(settings, ShareDecision(offset=4000, share=0.5, before=0.0, why="room").encode())
    append(settings, [catalogue()])
    patient = settings.trainer.model_copy(update={"keep_up_s": 3600.0})
    trainer = worker("trainer.worker", given=settings.model_copy(update={"trainer": patient}))
    append(settings, ring_records(LAP))
    learned(trainer, LAP)
    assert rested(trainer) == 0
    assert [one.why for one in decisions(settings)] == ["behind", "room", "another_log"]


def test_decisions_of_a_log_that_this_one_has_outgrown_hold_no_more_by_leave(settings: Settings) -> None:
    decide(settings, ShareDecision(offset=3, share=0.0, why="behind").encode())
    append(settings, ring_records(LAP))
    operations = Operations("tests", settings.operations)
    with closing(producer(settings.kafka)) as writer:
        log = ExamplesLog(
            settings.kafka, Progress(offset=7), writer, operations.retry, operations.log, Leave.ANOTHER_LOG
        )
        with closing(log):
            sharing = Sharing(settings, Learner(model_config(SMALL_MODEL)), log, writer, operations)
            assert sharing.take(LAP, 1000)
            assert (log.progress.offset, sharing.share) == (LAP // 25, 1.0)
    assert [one.why for one in decisions(settings)] == ["behind", "another_log"]


def test_decisions_that_learning_has_passed_by_are_not_kept_for_ever() -> None:
    shares = Shares()
    for offset in range(0, 1000, 10):
        shares.take(ShareDecision(offset=offset, share=offset / 1000, why="behind"))
        shares.forget_before(EntryPlace(offset + 5, 0))
        assert shares.at(EntryPlace(offset + 5, 0), 1.0) == offset / 1000
    shares.take(ShareDecision(offset=2000, share=1.0, why="room"))
    assert len(shares.decisions) == 2
    assert [shares.at(EntryPlace(offset, 3), 0.5) for offset in (1999, 2000)] == [0.99, 1.0]
    assert shares.after(EntryPlace(999, 0)) == (2000, 0)
