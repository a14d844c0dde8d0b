"""What the trainer has learned is what an undisturbed trainer learns from the same log, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from chaos.promises.aftermath import Aftermath
from headwater.errors import CheckpointError
from models.checkpoint import read_checkpoint
from replay.explain.model import learn_log
from trainer.checkpoints import state_digest

__all__ = ["is_undisturbed"]


def is_undisturbed(aftermath: Aftermath) -> Iterator[str]:
    """The trainers are told to stop; the newest checkpoint is compared with one that is learned here, in one go."""
    stack = aftermath.stack
    for part in [part for part in stack.parts.values() if part.role == "trainer"]:
        stack.remove(part)
    files = sorted(aftermath.settings.trainer.directory.glob("checkpoint-*.ckpt"))
    if not files:
        yield "there is no checkpoint"
        return
    calm = Path(stack.folder, "undisturbed.ckpt")
    learner, progress = learn_log(aftermath.settings)
    learner.save(calm, {})
    try:
        found, (_, header) = state_digest(files[-1]), read_checkpoint(files[-1])
    except CheckpointError as error:
        yield f"{files[-1].name} cannot be read: {error}"
        return
    aftermath.figures |= {"learned": learner.examples_seen, "examples dropped as learned": progress.duplicates}
    if state_digest(calm) != found:
        theirs = header.get("examples_seen")
        yield f"{files[-1].name}: {theirs} examples learned; here {learner.examples_seen}, and other weights"
