"""What a trainer keeps of people is gone after an erasure, whatever happens to the log and to its files."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from kafka import TopicPartition

from headwater.examples import EventPosition
from headwater.kafka import admin_client
from headwater.kafka.groups import committed_offsets
from headwater.privacy import Erased, fact_of
from headwater.settings import Settings
from headwater.topics import ERASURES, EXAMPLES, topic_name
from headwater.wire import encode
from models.config import ModelConfig, model_config
from models.learner import Learner
from tests.worlds.example_logs import append, ring_examples, ring_records
from tests.worlds.processes import LiveWorker, eventually
from tests.worlds.streams import send_raw
from tests.worlds.tastes import ring
from tests.worlds.trainers import checkpoints, learning
from trainer.checkpoints import Checkpoints
from trainer.erased_users import forget_passed_over
from trainer.examples_log import GROUP, Progress
from trainer.gap import accept_gap
from trainer.same_queries import SameQueries

Start = Callable[..., LiveWorker]
LOG = logging.getLogger("test")


def test_who_was_erased_where_the_trainer_never_read_is_forgotten_and_nobody_else(tmp_path: Path) -> None:
    learner = Learner(ModelConfig(width=16, length=30, replay_windows=4, replay_capacity=64))
    learner.learn(ring(200))
    same_queries = SameQueries(learner, 0.2, tmp_path)
    gone, met, unread, placeless, *others = sorted(learner.known_users())
    places = {gone: Erased(1, 0, 300), met: Erased(1, 0, 100), "nobody": Erased(1, 0, 300), unread: Erased(1, 1, 0)}
    places[placeless] = Erased(1)  # of a log that is gone
    facts = {user: fact_of(user, erased) for user, erased in places.items()}
    marks = {0: EventPosition(199, 0)}
    assert (
        forget_passed_over(facts.values(), marks, learner, same_queries) == 3
    )  # of the other partition nothing was read
    assert learner.known_users() == {met, *others}
    assert forget_passed_over([facts[met]], marks, learner, same_queries) is None


def test_a_trainer_that_goes_on_behind_a_gap_forgets_who_was_erased_there(settings: Settings, worker: Start) -> None:
    world = learning(settings)
    end = append(world, ring_records(200))
    learner = Learner(model_config(world.model.given, world.signals), world.trainer.seed, "cpu")
    learner.learn(ring_examples(200)[:150])
    progress = Progress(offset=6, marks={number: EventPosition(74, 0) for number in (0, 1)})
    with closing(Checkpoints(world.trainer.directory, LOG)) as kept:
        for offset in (5, 6):
            kept.save(learner, offset, {"progress": progress.to_json()}, wait=True)
    assert {"u3", "u5"} <= learner.known_users()
    for user, offset in (("u3", 90), ("u5", 3)):  # behind the gap, and before it
        fact = fact_of(user, Erased(1, 1, offset))
        send_raw(world, encode(fact), ERASURES, key=fact.digest.encode())
    with closing(admin_client(world.kafka)) as admin:
        admin.delete_records({TopicPartition(topic_name(EXAMPLES, world.kafka.prefix), 0): end})
    accept_gap(world.trainer.directory)
    trainer = worker("trainer.worker", given=world)
    eventually(lambda: [f"{end:020d}" in one.name for one in checkpoints(world)] == [True], 60, trainer.tail)
    held = checkpoints(world)[0].read_bytes()
    assert (b'"u3"' in held, b'"u5"' in held) == (False, True)
    taken = world.trainer.directory / f"checkpoint-{end + 1:020d}.ckpt"
    (taken / "in").mkdir(parents=True)
    append(world, ring_records(1, first_offset=200))
    eventually(lambda: "checkpoint not written" in trainer.tail(), 60, "the next one is drafted, and not taken")
    assert committed_offsets(world.kafka, GROUP, [EXAMPLES])[EXAMPLES.name] == {0: end}, "certificates go by it"
    (taken / "in").rmdir()
    taken.rmdir()
    eventually(lambda: committed_offsets(world.kafka, GROUP, [EXAMPLES])[EXAMPLES.name] == {0: end + 1}, 60, "is whole")


def test_after_an_erasure_a_file_stands_alone_also_where_the_first_write_of_it_fails(tmp_path: Path) -> None:
    learner = Learner(ModelConfig(slow=False))
    with closing(Checkpoints(tmp_path, LOG)) as kept:
        for offset in (1, 2):
            kept.save(learner, offset, {}, wait=True)
        (tmp_path / "checkpoint-00000000000000000000.corrupt").touch()
        taken = tmp_path / f"checkpoint-{3:020d}.ckpt"
        (taken / "in").mkdir(parents=True)
        kept.save(learner, 3, {}, alone=True)
        eventually(lambda: kept.failed, what="the write has failed")
        (taken / "in").rmdir()
        taken.rmdir()
        with pytest.raises(OSError, match="irectory"):
            kept.save(learner, 4, {})
        assert len(kept.files()) == 2
        kept.save(learner, 4, {}, wait=True)
        assert [one.name for one in tmp_path.glob("checkpoint-*")] == [f"checkpoint-{4:020d}.ckpt"]
