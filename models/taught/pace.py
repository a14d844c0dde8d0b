"""Which blocks the slow part of a learner learns: all of them, or a share where more comes than it can learn.

Before: whoever follows the log sets `share` (the trainer from its decisions, a backtest from its options). After: the
learner asks at the first example of each block, and counts what the slow part passed over. By the example's number in
the log alone, so that a restart, a replay and another rank decide alike. Knows no clock and no log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["STEPS", "LearningPace", "in_share"]

STEPS = 1000
"""Shares are whole thousandths: a float's last bit must not decide what is learned."""


def in_share(block: int, share: float) -> bool:
    """Whether a block, numbered from 0, is one of those that a share of all learns; they are spread evenly.

    >>> [block for block in range(12) if in_share(block, 0.25)], any(in_share(block, 0.0) for block in range(12))
    ([3, 7, 11], False)
    """
    steps = round(share * STEPS)
    return (block + 1) * steps // STEPS > block * steps // STEPS


class LearningPace:
    """The share in force, and what became of the blocks.

    Fields
        share: of blocks that the slow part learns, 0 to 1. Set it at any time; a block goes on as it began.
        resting: whether the open block is one that the slow part passes over.
        rested: examples of such blocks so far.
        learned_blocks: blocks that were learned since this object was made.
    """

    def __init__(self) -> None:
        self.share = 1.0
        self.resting = False
        self.rested = 0
        self.learned_blocks = 0

    def begin(self, block: int) -> None:
        """A block begins."""
        self.resting = not in_share(block, self.share)

    def end(self, examples: int) -> None:
        """A block of so many examples has ended."""
        if self.resting:
            self.rested += examples
        else:
            self.learned_blocks += 1

    def state(self) -> dict[str, Any]:
        """All of it, as JSON-able values; nothing as long as every block was learned."""
        if self.share == 1.0 and not (self.resting or self.rested):
            return {}
        return {"share": self.share, "resting": self.resting, "rested": self.rested}

    def load(self, state: Mapping[str, Any]) -> None:
        """Back to what `state` returned; a checkpoint of an earlier release has none of it: all was learned."""
        self.share, self.resting = state.get("share", 1.0), state.get("resting", False)
        self.rested = state.get("rested", 0)
