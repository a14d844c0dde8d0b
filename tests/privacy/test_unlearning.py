"""The model that is left after somebody was unlearned is that of a run which never saw them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import orjson

from headwater.settings import Settings
from headwater.topics import EXAMPLES, LEARNING, topic_name
from models.checkpoint import read_checkpoint
from models.config import model_config
from models.learner import Learner
from tests.worlds.commands import headwater
from tests.worlds.example_logs import SMALL_MODEL, append, catalogue, ring_examples, ring_records
from tests.worlds.processes import LiveWorker, eventually, world_settings
from tests.worlds.streams import send_raw
from tests.worlds.trainers import checkpoints, learning
from trainer.checkpoints import Checkpoints, state_digest
from trainer.examples_log import Progress
from trainer.shares import ShareDecision
from trainer.unlearning import UnlearnedModel, Unlearning, UnlearningCost

Start = Callable[..., LiveWorker]


def without(values: list[bytes], user: str) -> list[bytes]:
    """The same records, but for one user's segments."""
    found = []
    for value in values:
        body = orjson.loads(value)
        body["segments"] = [one for one in body["segments"] if one["user"] != user]
        found.append(orjson.dumps(body))
    return found


def learned_all(worker: Start, settings: Settings, records: int) -> LiveWorker:
    trainer = worker("trainer.worker", given=settings)
    eventually(
        lambda: any(f"{records:020d}" in one.name for one in checkpoints(settings)), 60, "all is in a checkpoint"
    )
    assert trainer.stop() == 0
    return trainer


def environment(settings: Settings) -> dict[str, str]:
    return {
        "HEADWATER_KAFKA__BOOTSTRAP": settings.kafka.bootstrap,
        "HEADWATER_KAFKA__PREFIX": settings.kafka.prefix,
        "HEADWATER_MODEL__OVERRIDES": orjson.dumps(SMALL_MODEL).decode(),
        "HEADWATER_TRAINER__DIRECTORY": str(settings.trainer.directory),
        "HEADWATER_TRAINER__BUNDLES": str(settings.trainer.bundles),
    }


def test_the_digest_is_that_of_a_run_which_never_saw_them_and_the_trainer_goes_on(
    settings: Settings, worker: Start, kafka_address: str, redis_url: str, tmp_path: Path
) -> None:
    ours = learning(settings)
    values = [catalogue(), *ring_records(300)]
    append(ours, values)
    with world_settings(kafka_address, redis_url, tmp_path / "never") as other:
        never = learning(other)
        append(never, [values[0], *without(values[1:], "u3")])
        learned_all(worker, never, len(values))
        wanted = state_digest(checkpoints(never)[0])
    learned_all(worker, ours, len(values))
    assert state_digest(checkpoints(ours)[0]) != wanted

    empty = tmp_path / "empty"
    refused = headwater("unlearn", "u3", "--yes", "--directory", str(empty), **environment(ours))
    assert (refused.returncode, f"{empty} has no checkpoint" in refused.stderr) == (2, True), refused.stderr
    assert not empty.exists()
    nobody = headwater("unlearn", "u3-misspelt", "--yes", **environment(ours))
    assert (nobody.returncode, "is the id right?" in nobody.stderr) == (1, True)
    assert not headwater("audit", "log", **environment(ours)).stdout, "what was refused is no deed"

    done = headwater("unlearn", "u3", "--yes", "--json", **environment(ours))
    assert done.returncode == 0, done.stderr + done.stdout
    said = orjson.loads(done.stdout)
    assert (said["digest"], said["learned"] + said["left_out"]) == (wanted, 300)
    assert said["cost"]["examples"] == said["learned"]
    assert said["cost"]["seconds"] > 0
    assert len(checkpoints(ours)) == 1
    assert b'"u3"' not in checkpoints(ours)[0].read_bytes()

    trainer = worker("trainer.worker", given=ours)
    asked = headwater("unlearn", "u3", "--yes", **environment(ours))
    assert asked.returncode == 2
    assert "belongs to a running trainer" in asked.stderr
    append(ours, ring_records(50, first_offset=5_000))
    eventually(lambda: trainer.metric("headwater_examples_learned_total") == said["learned"] + 50, 60, "it goes on")
    end = len(values) + 2
    eventually(lambda: f"{end:020d}" in checkpoints(ours)[0].name, 60, "all is in a checkpoint")
    before = state_digest(checkpoints(ours)[0])
    append(ours, [value.replace(b'"user":"u', b'"user":"late-') for value in ring_records(25, first_offset=9_000)])
    eventually(lambda: f"{end + 1:020d}" in checkpoints(ours)[0].name, 60, "those of the late ones, too")
    assert trainer.stop() == 0
    late = [f"late-{number}" for number in range(20)]
    again = headwater("unlearn", *late, "--yes", "--json", **environment(ours))
    assert again.returncode == 0, again.stderr
    cut = orjson.loads(again.stdout)
    assert f"{end:020d}" in cut["cost"]["base"]  # the checkpoint of before, and not the beginning of the log
    assert (cut["digest"], cut["learned"], cut["left_out"]) == (before, 0, 25)


def test_what_came_since_the_cost_was_shown_is_learned_and_what_is_passed_over_is_counted(settings: Settings) -> None:
    ours = learning(settings)
    append(ours, [*ring_records(50), b"not json"])
    checkpoints_of = Checkpoints(ours.trainer.directory, logging.getLogger("test"))
    with closing(checkpoints_of):
        unlearning = Unlearning(ours, {"u3"}, checkpoints_of)
        cost = unlearning.cost()
        end = append(ours, ring_records(50, first_offset=100))
        done = unlearning.run(cost)
    assert (done.learned + done.left_out, done.passed_over) == (100, {"undecodable": 1})
    assert f"{end:020d}" in done.path.name


def unlearned(settings: Settings, *users: str) -> tuple[UnlearningCost, UnlearnedModel]:
    with closing(Checkpoints(settings.trainer.directory, logging.getLogger("test"))) as files:
        unlearning = Unlearning(settings, users, files)
        cost = unlearning.cost()
        return cost, unlearning.run(cost)


def test_who_was_unlearned_before_stays_so(settings: Settings, tmp_path: Path) -> None:
    ours = learning(settings)
    append(ours, ring_records(100))
    _, first = unlearned(ours, "u3")
    cost, second = unlearned(ours, "u4")
    assert (cost.base, cost.elsewhere) == (None, 0)
    assert first.left_out < second.left_out
    trainer = ours.trainer.model_copy(update={"directory": tmp_path / "both"})
    _, both = unlearned(ours.model_copy(update={"trainer": trainer}), "u3", "u4")
    assert (second.digest, second.left_out) == (both.digest, both.left_out)
    append(ours, ring_records(50, first_offset=5_000))
    _, third = unlearned(ours, "u5")
    assert b'"u4"' in third.path.read_bytes(), "what came since is learned"
    assert b'"u5"' not in third.path.read_bytes()


def test_what_the_model_knows_of_a_log_that_is_gone_is_not_taken_for_unlearned(settings: Settings) -> None:
    ours = learning(settings)
    append(ours, ring_records(50))
    learner = Learner(model_config(ours.model.given, ours.signals), 0, "cpu")
    learner.learn(ring_examples(30))
    with closing(Checkpoints(ours.trainer.directory, logging.getLogger("test"))) as files:
        files.save(learner, 0, {"progress": Progress(gaps=[[9, 0, 1]]).to_json()}, wait=True)
        cost = Unlearning(ours, ["u3"], files).cost()
    assert (cost.base, cost.elsewhere, cost.loses) == (None, 30, True)
    refused = headwater("unlearn", "u3", "--yes", **environment(ours))
    assert (refused.returncode, "30 examples that the log does not hold" in refused.stderr) == (2, True), refused.stderr


def test_what_is_learned_again_is_learned_under_the_shares_that_the_trainer_decided_on(settings: Settings) -> None:
    ours = learning(settings)
    append(ours, ring_records(300))
    for offset, share in ((1, 0.0), (7, 1.0)):
        decision = ShareDecision(offset=offset, share=share, before=1.0 - share, why="behind")
        send_raw(ours, decision.encode(), LEARNING, key=b"0", partition=0)
    _, done = unlearned(ours, "u3")
    _, header = read_checkpoint(done.path)
    block = header["config"]["block"]
    assert header["pace"] == {"share": 1.0, "resting": False, "rested": 2 * block}, "those that begin from 25 to 174"


def test_without_the_beginning_of_the_log_it_says_what_is_missing(settings: Settings) -> None:
    from kafka import TopicPartition

    from headwater.kafka import admin_client

    append(settings, ring_records(100))
    admin = admin_client(settings.kafka)
    try:
        admin.delete_records({TopicPartition(topic_name(EXAMPLES, settings.kafka.prefix), 0): 2})
    finally:
        admin.close()
    refused = headwater("unlearn", "u3", "--yes", **environment(settings))
    assert refused.returncode == 2
    assert "begins at record 2" in refused.stderr
    done = headwater("unlearn", "u3", "--yes", "--accept-gap", **environment(settings))
    assert done.returncode == 0, done.stderr
    assert "examples learned" in done.stdout
