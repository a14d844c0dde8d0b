"""What the trainer has learned is what an undisturbed trainer learns from the same log, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from chaos.promises.aftermath import Aftermath
from headwater.errors import CheckpointError
from headwater.topics import EXAMPLES
from models.checkpoint import read_checkpoint
from replay.explain.model import learn_log
from trainer.checkpoints import state_digest
from trainer.examples_log import Progress

__all__ = ["is_undisturbed"]


def is_undisturbed(aftermath: Aftermath) -> Iterator[str]:
    """The trainers are told to stop; the newest checkpoint is compared with one that is learned here, in one go. Where
    the trainer was given leave to pass over a part of the log, each stretch between two gaps is compared.
    """
    stack = aftermath.stack
    for part in [part for part in stack.parts.values() if part.role == "trainer"]:
        stack.remove(part)
    files = sorted(aftermath.settings.trainer.directory.glob("checkpoint-*.ckpt"))
    if not files:
        yield "there is no checkpoint"
        return
    aftermath.figures["gaps in what was learned"] = len(stack.stretches)
    begins = [None, *(behind for _, behind in stack.stretches)]
    ends = [*(before for before, _ in stack.stretches), files[-1]]
    for begin, end in zip(begins, ends, strict=True):
        yield from _differences(aftermath, begin, end)


def _differences(aftermath: Aftermath, begin: Path | None, end: Path) -> Iterator[str]:
    calm = Path(aftermath.stack.folder, "undisturbed.ckpt")
    try:
        found, (_, header) = state_digest(end), read_checkpoint(end)
    except CheckpointError as error:
        yield f"{end.name} cannot be read: {error}"
        return
    place = Progress.from_json(header["extra"]["progress"]).place
    learner, progress = learn_log(aftermath.settings, begin, aftermath.records(EXAMPLES), place)
    learner.save(calm, {})
    aftermath.figures |= {"learned": learner.examples_seen, "examples dropped as learned": progress.duplicates}
    if state_digest(calm) != found:
        theirs = header.get("examples_seen")
        yield f"{end.name}: {theirs} examples learned; here {learner.examples_seen}, and other weights"
