"""Leave to go on behind a gap in `examples`: given by a person, for once, and kept with what was learned.

Before: retention has overtaken a trainer that was stopped, or the topic was lost and made anew; without leave the
trainer refuses to start. After: the trainer takes the leave, begins where the log does, and its checkpoints say from
then on what was passed over.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["accept_gap", "gap_accepted", "gap_taken"]

LEAVE = "accept-gap"
"""The file in the trainer's directory."""


def accept_gap(directory: Path) -> Path:
    """Give leave for the next start. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    leave = directory / LEAVE
    leave.touch()
    return leave


def gap_accepted(directory: Path) -> bool:
    """Whether leave was given and not taken."""
    return (directory / LEAVE).exists()


def gap_taken(directory: Path) -> None:
    """The leave is used up: its gap stands in a checkpoint, or there was none."""
    (directory / LEAVE).unlink(missing_ok=True)
