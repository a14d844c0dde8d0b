"""Every user's recorded steps, flat, as epochs of a rehearsal read them.

Before: `models.recorder` collects them. After: `rehearsal` makes batches of windows. Knows rows and steps; 21 bytes a
step.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.inputs import Steps
from models.sequence.batches import Sequences

__all__ = ["History"]


class History(NamedTuple):
    """Every user's steps, one user after the other, each oldest first. User u has [starts[u], starts[u + 1])."""

    rows: NDArray[np.int32]  # (n,)
    types: NDArray[np.int16]  # (n,)
    values: NDArray[np.float32]  # (n,), as `inputs` encodes them
    gaps: NDArray[np.float32]  # (n,)
    weights: NDArray[np.float32]  # (n,), of each step in the loss, see `inputs.lesson_weight`
    starts: NDArray[np.int64]  # (users + 1,)

    def batch(self, first: NDArray[np.int64], last: NDArray[np.int64]) -> Sequences:
        """Windows of inputs [first, last) that predict their next step at each place; `last` is a step, too."""
        lengths = last - first
        inside = np.arange(int(lengths.max()))[None] < lengths[:, None]  # (B, T)
        row, step = np.nonzero(inside)
        at = np.where(inside, first[:, None] + np.arange(inside.shape[1])[None], 0)
        target = at[row, step] + 1
        return Sequences(
            history=np.where(inside, self.rows[at], 0).astype(np.int64),
            types=np.where(inside, self.types[at], 0).astype(np.int64),
            values=np.where(inside, self.values[at], 0).astype(np.float32),
            gaps=np.where(inside, self.gaps[at], 0).astype(np.float32),
            row=row,
            step=step,
            target=self.rows[target].astype(np.int64),
            weight=self.weights[target],
            since=self.gaps[target],
        )

    def of(self, users: NDArray[np.int64]) -> History:
        """The histories of some users, in the order given."""
        lengths = self.starts[users + 1] - self.starts[users]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        at = np.arange(starts[-1]) + np.repeat(self.starts[users] - starts[:-1], lengths)
        return History(
            rows=self.rows[at],
            types=self.types[at],
            values=self.values[at],
            gaps=self.gaps[at],
            weights=self.weights[at],
            starts=starts,
        )

    def steps(self, user: int, count: int) -> Steps:
        """The newest `count` steps of a user."""
        end = int(self.starts[user + 1])
        part = slice(max(int(self.starts[user]), end - count), end)
        return Steps(
            self.rows[part].tolist(), self.types[part].tolist(), self.values[part].tolist(), self.gaps[part].tolist()
        )
