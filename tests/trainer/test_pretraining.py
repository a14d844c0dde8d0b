"""Training on history: what it learns, that a kill costs nothing, and that the stream goes on from its checkpoint."""

from __future__ import annotations

import json
import logging
import math
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from headwater.errors import SettingsError
from headwater.events import Event
from models.config import ModelConfig
from models.sequence.rehearsal import Plan
from streams.features.fold import Limits
from streams.features.recording import recorded
from tests.worlds import forking
from tests.worlds.example_logs import START_MS
from tests.worlds.forking import Forked
from tests.worlds.processes import ROOT, eventually
from trainer.checkpoints import Checkpoints, state_digest
from trainer.pretraining import HistoryTraining, TrainingReport

ITEMS = 40
MODEL = {"width": 16, "length": 30, "replay_windows": 4, "replay_capacity": 64, "initial_capacity": 64}
PLAN = Plan(epochs=6, batch_steps=400, learning_rate=2e-2, table_learning_rate=4e-2)
LOG = logging.getLogger("test")


def ring(events: int) -> Iterator[Event]:
    """Users walk round a ring of items and leave before they come back to where they began."""
    chance = random.Random(0)
    at = {f"u{n}.0": chance.randrange(ITEMS) for n in range(20)}
    left = dict.fromkeys(at, ITEMS // 2)
    for i in range(events):
        user = chance.choice(list(at))
        yield Event(
            event_id=f"e{i}",
            user_id=user,
            item_id=f"i{at[user]}",
            type="view",
            event_time=START_MS + 1000 * i,
            value=1.0,
        )
        at[user] = (at[user] + 1) % ITEMS
        left[user] -= 1
        if not left[user]:
            name, visit = user.split(".")
            del at[user]
            at[f"{name}.{int(visit) + 1}"], left[f"{name}.{int(visit) + 1}"] = chance.randrange(ITEMS), ITEMS // 2


def trained(directory: Path, stop_at: int | None = None) -> HistoryTraining:
    """Train in a directory; `stop_at` breaks off at that call about progress, a negative one while streaming."""
    torch.set_num_threads(1)  # as the command does; two would wait for each other on these small matrices
    calls = 0

    def tell(report: TrainingReport) -> None:
        nonlocal calls
        calls += 1
        if stop_at is not None and (calls == stop_at or report.streamed >= 64 * -stop_at > 0):
            raise KeyboardInterrupt

    checkpoints = Checkpoints(directory, LOG)
    try:
        training = HistoryTraining(
            recorded(ring(1200), Limits()), checkpoints, ModelConfig(**MODEL), plan=PLAN, checkpoint_every_s=0.0
        )
        training.run(on_progress=tell)
    finally:
        checkpoints.close()
    return training


def checkpoint(directory: Path) -> Path:
    (found,) = directory.glob("checkpoint-*.ckpt")
    return found


def test_the_newest_slice_is_predicted_by_what_was_rehearsed_on_the_older(tmp_path: Path) -> None:
    report = trained(tmp_path).report
    assert (report.absorbed, report.streamed, report.epoch) == (1080, 120, 6)
    assert report.loss is not None
    assert report.loss < math.log(ITEMS) - 0.5  # chance is log(ITEMS)
    assert report.quality["ndcg_at_10"]["slow"] > 2 * report.quality["ndcg_at_10"]["popularity"]
    assert report.quality["ndcg_at_10"]["headwater"] > 0.8
    assert not (tmp_path / "history.ckpt").exists()


def test_training_that_was_broken_off_ends_with_the_same_bits(tmp_path: Path) -> None:
    trained(tmp_path / "whole")
    expected = state_digest(checkpoint(tmp_path / "whole"))
    calls_absorbing = -(-1080 // 64)
    for part, stop_at in (("rehearsing", calls_absorbing + 7), ("streaming", -1)):
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / part, stop_at=stop_at)
        assert (tmp_path / part / "history.ckpt").exists(), part
        again = trained(tmp_path / part)
        assert again.report.resumed, part
        assert state_digest(checkpoint(tmp_path / part)) == expected, part


def test_the_stream_goes_on_from_the_checkpoint(tmp_path: Path) -> None:
    learner = trained(tmp_path).checkpoints
    del learner
    checkpoints = Checkpoints(tmp_path, LOG)
    try:
        found = checkpoints.load("cpu")
    finally:
        checkpoints.close()
    assert found is not None
    learner, extra = found
    assert "progress" not in extra, "the trainer starts at the beginning of its log"
    assert learner.examples_seen == 1200
    later = list(recorded(ring(1600), Limits()).examples())[1200:]
    ranks = [one.headwater for one in learner.learn(later) if one.is_query]
    assert sum(rank <= 2 for rank in ranks) > 0.8 * len(ranks)


def test_training_never_puts_a_trainers_checkpoints_aside(tmp_path: Path) -> None:
    trained(tmp_path)
    with pytest.raises(SettingsError, match="holds checkpoints of a trainer"):
        trained(tmp_path)


def test_a_kill_of_the_command_costs_nothing(tmp_path: Path) -> None:
    source = tmp_path / "events.jsonl"
    source.write_text(
        "".join(
            json.dumps({"user": e.user_id, "item": e.item_id, "type": e.type, "time": e.event_time, "value": e.value})
            + "\n"
            for e in ring(900)
        )
    )
    environment = {
        **os.environ,
        "HEADWATER_MODEL__OVERRIDES": json.dumps(MODEL),
        "HEADWATER_TRAINER__CHECKPOINT_EVERY_S": "0.001",
        "HEADWATER_TRAINER__DEVICE": "cpu",
        "OMP_NUM_THREADS": "1",
    }

    def start(directory: Path) -> Forked | subprocess.Popen[bytes]:
        flags = ["--from", str(source), "--directory", str(directory), "--batch-steps", "200", "--json"]
        log = tmp_path / f"{directory.name}.json"
        log.unlink(missing_ok=True)
        return forking.start("console", "train", *flags, environment=environment, folder=ROOT, log=log)

    killed = start(tmp_path / "killed")
    eventually((tmp_path / "killed" / "history.ckpt").exists, 60, "the work under way")
    killed.kill()
    killed.wait()
    assert not list((tmp_path / "killed").glob("checkpoint-*.ckpt")), "it was killed too late to show anything"
    for directory in (tmp_path / "killed", tmp_path / "whole"):
        assert start(directory).wait(100) == 0
        told = (tmp_path / f"{directory.name}.json").read_text().splitlines()[-1]  # after what it says of its progress
        assert json.loads(told)["resumed"] == (directory.name == "killed")
    assert state_digest(checkpoint(tmp_path / "killed")) == state_digest(checkpoint(tmp_path / "whole"))
