"""Recorded examples, kept for a rehearsal of the encoder while the experts that learn at once learn them in passing.

Before: `trainer.pretraining` folds a file into examples. After: `sequence.rehearsal` makes epochs of a `History`, and
the replay buffer gets its newest windows. Knows no files and no clock.

Items have numbers of their own here: one may lose its row before the recording ends.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np

from headwater.examples import Example, Kind
from models.inputs import encode_entries, lesson_weight, recent_of
from models.learner import Learner
from models.sequence.history import History

__all__ = ["Recorder", "absorb"]


class Recorder:
    """Collects examples in log order, for a rehearsal. `users` are in order of their first event."""

    def __init__(self) -> None:
        self.users: dict[str, int] = {}
        self._items: dict[str, int] = {}
        self._user, self._item, self._kind = array("i"), array("i"), array("h")
        self._value, self._gap, self._weight = array("f"), array("f"), array("f")

    def __len__(self) -> int:
        return len(self._user)

    def add(self, learner: Learner, example: Example) -> None:
        """Keep an example that the learner has absorbed, unless its item was merely shown."""
        target, history = example.target, example.history
        pair = [history[-1], target] if history else [target]
        step = encode_entries(pair, {target.item_id: 0}, learner.types, learner.config, 1)
        if not step.rows:
            return  # merely shown
        self._user.append(self.users.setdefault(example.user_id, len(self.users)))
        self._item.append(self._items.setdefault(target.item_id, len(self._items)))
        self._kind.append(step.types[0])
        self._value.append(step.values[0])
        self._gap.append(step.gaps[0])
        self._weight.append(lesson_weight(target.type, target.value, learner.config))

    def history(self, learner: Learner) -> History:
        """All that was kept, by user, without the steps of items that have no row in `learner` now."""
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


def absorb(learner: Learner, examples: Sequence[Example]) -> list[Example]:
    """Let rows, association memories and popularity learn examples, and no more: no test and no gradient.

    What is undone they take back; a rehearsal learns from it all the same.

    Parameters
        learner: between two blocks.
        examples: in log order.

    Returns
        Those that their users may teach (`Learner.admits`).

    Raises
        ValueError: a block of the learner is open.
    """
    if learner.pending:
        raise ValueError(f"{len(learner.pending)} examples of an open block wait for their step: close it first")
    admitted = []
    for example in examples:
        if example.kind is Kind.UNDONE:
            learner.take_back(example)
        if example.kind is not Kind.EVENT or not learner.admits(example):
            continue
        admitted.append(example)
        target, history = example.target, example.history
        steps = encode_entries(history, learner.items.rows, learner.types, learner.config)
        before = next((entry.type for entry in reversed(history) if entry.item_id == target.item_id), None)
        row = learner.observe(target, before)
        if row >= 0:
            since_ms = target.time_ms - history[-1].time_ms if history else 0
            learner.count_event(row, target, recent_of(steps, since_ms).distinct())
        if learner.examples_seen % learner.config.block == 0:
            learner.expire()
    return admitted
