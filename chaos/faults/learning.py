"""What goes wrong with learning itself: its log is gone before it was read; weights are no numbers any more."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

from chaos.faults.fault import Fault, NoEffect, Stage
from chaos.stack import CampaignWorker, Stack
from chaos.tampered import WEIGHTS, broken_by
from chaos.waiting import wait
from headwater.errors import CheckpointError
from headwater.kafka import admin_client, end_offsets, read_topic
from headwater.process import START_S
from headwater.topics import EXAMPLES, topic_name
from models.checkpoint import read_checkpoint
from trainer.checkpoints import Checkpoints
from trainer.examples_log import Progress
from trainer.gap import accept_gap, gap_accepted

__all__ = ["FAULTS"]

SOON_S = 30.0
NOTICED_S, STARVED_S = 10.0, 150.0
"""Processor time within which a trainer sees that its weights are broken; how long it may take to get that: it runs at
the lowest priority.
"""
FEW = 3
"""Records that a stopped trainer has missed, at least."""
LEAVE, NO_NUMBER = "accept-gap", "NaN"
"""What a trainer says that leaves for these reasons."""


def _trainer(stage: Stage) -> CampaignWorker:
    """One that runs, or will within a moment: another fault may have ended it just now."""
    try:
        wait(lambda: stage.stack.living("trainer"), SOON_S, lambda: "no trainer runs")
    except TimeoutError as error:
        raise NoEffect(str(error)) from error
    return stage.chance.choice(stage.stack.living("trainer"))


def _overtaken(stage: Stage) -> Iterator[str]:
    """The trainer stands still for so long that retention takes what it has not learned. It refuses to go on, a person
    gives leave, and it goes on where the log begins.
    """
    stack = stage.stack
    part = _trainer(stage)
    with part.lock:
        part.wanted = False
    try:
        if stage.chance.random() < 0.5:
            part.kill()
        else:
            part.stop(stack.grace_s)
        last, at = _newest(stack)
        try:
            wait(lambda: end_offsets(stack.settings.kafka, EXAMPLES).get(0, 0) >= at + FEW, SOON_S, lambda: "")
        except TimeoutError as error:
            raise NoEffect("nothing came that it could miss") from error
        first = stage.chance.randint(at + 1, end_offsets(stack.settings.kafka, EXAMPLES)[0])
        before = _kept(stack, last)
        _remove(stack, first)
        _refuses(stack, part)
        stack.stretches.append((before, _goes_on(stack, part)))
    finally:
        with part.lock:
            part.wanted = True
    yield f"{part.name} missed {first - at} records; it refused to go on, was given leave, and did"


def _newest(stack: Stack) -> tuple[Path, int]:
    """The newest checkpoint, and the record that it goes on at."""
    for file in sorted(stack.settings.trainer.directory.glob("checkpoint-*.ckpt"), reverse=True):
        with contextlib.suppress(CheckpointError, KeyError):
            return file, Progress.from_json(read_checkpoint(file)[1]["extra"]["progress"]).offset
    raise NoEffect("there is no checkpoint yet")


def _kept(stack: Stack, file: Path) -> Path:
    """A copy that nobody replaces."""
    folder = stack.folder / "stretches"
    folder.mkdir(exist_ok=True)
    return Path(shutil.copy(file, folder / f"{len(list(folder.iterdir()))}.ckpt"))


def _remove(stack: Stack, first: int) -> None:
    """Do what retention does, and keep what it takes for the verdict."""
    from kafka import TopicPartition

    kafka = stack.settings.kafka
    taken = [record for record in read_topic(kafka, EXAMPLES) if record.offset < first]
    with contextlib.closing(admin_client(kafka)) as admin:
        admin.delete_records({TopicPartition(topic_name(EXAMPLES, kafka.prefix), 0): first})
    stack.removed.setdefault(EXAMPLES.name, []).extend(taken)


def _refuses(stack: Stack, part: CampaignWorker) -> None:
    """Without leave it says what to do, and goes."""
    part.start()
    try:
        wait(lambda: not part.process.running, START_S, lambda: f"{part.name} goes on behind a gap without leave")
    except TimeoutError as error:
        stack.wrong.append(str(error))
        part.kill()
    if not part.process.exit_code() or LEAVE not in (said := part.process.log_tail(5)):
        stack.wrong.append(f"{part.name} does not say {LEAVE} and ended with {part.process.exit_code()}: {said[-300:]}")


def _goes_on(stack: Stack, part: CampaignWorker) -> Path:
    """Its first checkpoint behind the gap."""
    directory = stack.settings.trainer.directory
    checkpoints = Checkpoints(
        directory, logging.getLogger("headwater.chaos")
    )  # as the verb does, which sees that none runs
    checkpoints.close()
    accept_gap(directory)
    part.start()
    wait(lambda: gap_accepted(directory) is None, START_S, part.process.health, 0.02)
    return _kept(stack, _newest(stack)[0])


def _not_a_number(stage: Stage) -> Iterator[str]:
    """A number of the trainer's weights is none: it has to notice before anybody is told, and to go back to where all
    was well.
    """
    part = _trainer(stage)
    try:  # what learns before that is a model that is thrown away
        wait(part.process.ready, SOON_S, lambda: f"{part.name} is not ready: {part.process.health()}")
    except TimeoutError as error:
        raise NoEffect(str(error)) from error
    name, starts, file = stage.chance.choice(WEIGHTS), part.process.starts, broken_by(part.clock)
    part.excused = NO_NUMBER
    file.write_text(name)

    def has_left() -> bool:
        return part.process.starts > starts or not part.process.running

    try:
        wait(lambda: has_left() or not file.exists(), SOON_S, lambda: "")
    except TimeoutError as error:
        raise NoEffect(f"{part.name} learned nothing meanwhile") from error
    finally:
        file.unlink(missing_ok=True)
    had_s = part.processor_s()
    try:
        wait(lambda: has_left() or part.processor_s() - had_s > NOTICED_S, STARVED_S, lambda: "")
    except TimeoutError as error:
        part.kill()
        raise NoEffect(f"{part.name} had no processor to see it with") from error
    if not has_left():
        stage.stack.wrong.append(f"{part.name} learns on with a NaN in {name}")
        part.kill()
    yield f"{part.name}: a number of {name} was none, and it left"


FAULTS = [
    Fault("overtaken_trainer", "retention takes what a stopped trainer has not learned", _overtaken),
    Fault("nan_in_weights", "a number of the trainer's weights is NaN", _not_a_number),
]
