"""History: recorded examples as the slow learner rehearses them, while the fast parts learn them in passing.

Before: `trainer.pretraining` folds a file into examples. After: `rehearsal` makes epochs of a `History`, and the replay
buffer gets its newest windows. Knows no files and no clock.

Steps are kept flat, 21 bytes each, and by numbers of their own: an item may lose its row before the recording ends.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater.examples import Example
from models.inputs import Steps, encode_entries, event_weight, recent_of
from models.learner import Learner
from models.sequence.batches import Sequences

__all__ = ["History", "Recorder", "absorb"]


class History(NamedTuple):
    """Every user's steps, one user after the other, each oldest first. User u has [starts[u], starts[u + 1])."""

    rows: NDArray[np.int32]  # (n,)
    types: NDArray[np.int16]  # (n,)
    values: NDArray[np.float32]  # (n,), as `inputs` encodes them
    gaps: NDArray[np.float32]  # (n,)
    weights: NDArray[np.float32]  # (n,), of each step as a target
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


class Recorder:
    """Collects examples in log order. `users` are in order of their first event."""

    def __init__(self) -> None:
        self.users: dict[str, int] = {}
        self._items: dict[str, int] = {}
        self._user, self._item, self._kind = array("i"), array("i"), array("h")
        self._value, self._gap, self._weight = array("f"), array("f"), array("f")

    def __len__(self) -> int:
        return len(self._user)

    def add(self, learner: Learner, example: Example) -> None:
        """Keep an example that the learner has absorbed."""
        target, history = example.target, example.history
        pair = [history[-1], target] if history else [target]
        step = encode_entries(pair, {target.item_id: 0}, learner.types, 1)
        self._user.append(self.users.setdefault(example.user_id, len(self.users)))
        self._item.append(self._items.setdefault(target.item_id, len(self._items)))
        self._kind.append(step.types[0])
        self._value.append(step.values[0])
        self._gap.append(step.gaps[0])
        self._weight.append(event_weight(target.type, target.value, learner.config))

    def history(self, learner: Learner) -> History:
        """All that was kept, without the steps of items that have no row now."""
        row_of = np.array([learner.items.rows.get(item_id, -1) for item_id in self._items], np.int32)
        user, rows = np.array(self._user, np.int64), row_of[np.array(self._item, np.int64)]
        order = np.argsort(user, kind="stable")
        order = order[rows[order] >= 0]
        lengths = np.bincount(user[order], minlength=len(self.users))
        return History(
            rows=rows[order],
            types=np.array(self._kind, np.int16)[order],
            values=np.array(self._value, np.float32)[order],
            gaps=np.array(self._gap, np.float32)[order],
            weights=np.array(self._weight, np.float32)[order],
            starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        )

    def newest_first_seen(self) -> list[tuple[str, int]]:
        """(user id, user) of all users, in the order of their newest events."""
        user = np.array(self._user, np.int64)
        last = np.zeros(len(self.users), np.int64)
        last[user] = np.arange(len(user))  # the last assignment stays
        names = list(self.users)
        return [(names[one], one) for one in np.argsort(last).tolist()]


def absorb(learner: Learner, examples: Sequence[Example]) -> None:
    """Let rows, fast memories and popularity learn examples in log order, and no more: no test and no gradient.

    Only between blocks of the learner: raises ValueError inside one.
    """
    if learner.pending:
        raise ValueError(f"{len(learner.pending)} examples of an open block wait for their step: close it first")
    reach = max((memory.reach for memory in learner.config.memories), default=1)
    for example in examples:
        target, history = example.target, example.history
        steps = encode_entries(history, learner.items.rows, learner.types, reach)
        before = next((entry.type for entry in reversed(history) if entry.item_id == target.item_id), None)
        row = learner.observe(target, before)
        if row >= 0:
            learner.count_event(row, target, recent_of(steps, target.time_ms - history[-1].time_ms if history else 0))
        if learner.examples_seen % learner.config.block == 0:
            learner.expire()
