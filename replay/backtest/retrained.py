"""Our model as a batch job would keep it: retrained at every hour of event time, and frozen in between.

Before: `replay.backtest` hands over every query of the stream. After: ranks in the ledger, as of any variant. It is a
model of its own, of the same configuration and seed. At each hour it learns what happened since, as ours does, and
then rehearses its users' whole histories and those of as many others, epoch after epoch. So it has seen whatever ours
has, more often; but only until the hour struck.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from headwater.examples import Example
from models.config import ModelConfig
from models.history import Recorder
from models.learner import Learner
from models.sequence.rehearsal import Plan, Rehearsal
from replay.backtest.queries import Query
from replay.backtest.variants import Variants

__all__ = ["NAME", "Batch"]

NAME = "retrained"

EPOCHS = 2
BATCH_STEPS = 1_600
LEARNING_RATE = 1e-3
TABLE_LEARNING_RATE = 2e-3
"""Of each retraining, falling to nothing. docs/lab-book.md has what else was tried."""

CHUNK = 1024
"""Events of the warm-up that are learned at a time."""

LEAST_USERS = 64
"""Users of the past that are rehearsed at least."""


class Batch:
    """The model, its hour, and everybody's recorded steps."""

    def __init__(
        self, config: ModelConfig, seed: int, answer: Callable[[str, int, Sequence[str]], None], device: str
    ) -> None:
        self.learner = Learner(config, seed, device)
        self.variants = Variants(self.learner, (), config.exclude_seen, answer, frozen=False, hourly=NAME)
        self._recorder = Recorder()
        self._waiting: list[Example] = []
        self._seed = seed

    def next(self, query: Query, warm_up: int) -> None:
        """The next query is about to be asked: retrain and publish if an hour has struck, then take it down."""
        time_ms = query.example.target.time_ms
        if query.place == warm_up:
            self._learn()
            self._rehearse(np.arange(len(self._recorder.users)))
            self.variants.start(time_ms)
        elif query.place > warm_up and self.variants.all[0].is_due(query.place, time_ms):
            active = {example.user_id for example in self._waiting}
            self._learn()
            self._rehearse(self._chosen(active))
            self.variants.advance(query.place, time_ms)
        self._waiting.append(query.example)
        if query.place < warm_up and len(self._waiting) == CHUNK:
            self._learn()

    def _learn(self) -> None:
        self.learner.learn(self._waiting)
        self.learner.close()
        for example in self._waiting:
            self._recorder.add(self.learner, example)
        self._waiting = []

    def _chosen(self, active: set[str]) -> NDArray[np.int64]:
        """The numbers of the active users and of as many others, at least `LEAST_USERS`."""
        users = self._recorder.users
        random = np.random.Generator(np.random.PCG64([self._seed, self.learner.examples_seen]))
        others = random.choice(len(users), min(len(users), max(len(active), LEAST_USERS)), replace=False)
        return np.union1d(np.array([users[user_id] for user_id in active], np.int64), others)

    def _rehearse(self, users: NDArray[np.int64]) -> None:
        if not self.learner.config.slow:
            return
        plan = Plan(EPOCHS, BATCH_STEPS, LEARNING_RATE, TABLE_LEARNING_RATE, seed=self._seed)
        chances = self.learner.popularity.chances(self.learner.items.used)
        rehearsal = Rehearsal(self.learner.encoder, self._recorder.history(self.learner).of(users), chances, plan)
        while not rehearsal.done:
            rehearsal.step()
        self.learner.publication.stepped()
