"""Leave to go on behind a gap in `examples`: given by a person, for once, and kept with what was learned.

Before: retention has overtaken a trainer that was stopped, or the topic was lost and made anew; without leave the
trainer refuses to start. After: the trainer takes the leave, begins where the log does, and its checkpoints say from
then on what was passed over. That a log is another one the leave has to say: one that has grown past the trainer's
place looks like the old one.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path

__all__ = ["Leave", "accept_gap", "gap_accepted", "gap_taken"]

LEAVE = "accept-gap"
"""The file in the trainer's directory; it holds which leave it is."""


class Leave(Enum):
    """For what leave is given."""

    GAP = ""
    """Begin where the log does, if it no longer holds the checkpoint's place."""

    ANOTHER_LOG = "another log"
    """Begin where the log does, whatever the checkpoint says: its place and marks are of a log that is gone."""


def accept_gap(directory: Path, leave: Leave = Leave.GAP) -> Path:
    """Give leave for the next start. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / LEAVE
    file.write_text(leave.value, encoding="utf-8")
    return file


def gap_accepted(directory: Path) -> Leave | None:
    """The leave that was given and not taken."""
    try:
        said = (directory / LEAVE).read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return None
    return Leave.ANOTHER_LOG if said == Leave.ANOTHER_LOG.value else Leave.GAP


def gap_taken(directory: Path) -> None:
    """The leave is used up: its gap stands in a checkpoint, or there was none."""
    (directory / LEAVE).unlink(missing_ok=True)
