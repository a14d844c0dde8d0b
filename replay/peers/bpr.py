"""Bayesian personalised ranking from `implicit`, refitted now and then.

Before: the loop tells each event. After: the items' vectors rank for the user. Knows no order of events.
Rendle, Freudenthaler, Gantner, Schmidt-Thieme (2009).
"""

from __future__ import annotations

import numpy as np
from implicit.cpu.bpr import BayesianPersonalizedRanking
from numpy.typing import NDArray

from replay.backtest.queries import Query
from replay.peers.popularity import WindowedPopularity
from replay.peers.refitting import NewestEvents

__all__ = ["RefittedBPR"]


class RefittedBPR:
    """BPR refitted on the newest events, from the vectors of the last fit.

    A user's vector is that of the fit plus `history_weight` times the mean of the newest `reach` items' vectors; a user
    whom no fit has met has the latter alone.
    """

    name = "bpr"
    random = True

    def __init__(
        self,
        factors: int = 64,
        *,
        learning_rate: float = 0.05,
        regularization: float = 0.01,
        iterations: int = 20,
        reach: int = 10,
        history_weight: float = 1.0,
        capacity: int = 200_000,
        refit_every: int = 2000,
        share: float = 0.05,
        window_h: float = 168.0,
        seed: int = 0,
    ) -> None:
        self.factors, self.learning_rate, self.regularization = factors, learning_rate, regularization
        self.iterations, self.reach, self.history_weight = iterations, reach, history_weight
        self.events = NewestEvents(capacity, refit_every, share)
        self.popularity = WindowedPopularity(window_h, seed)
        self.choose = np.random.default_rng(seed)
        self.vectors = np.zeros((0, factors + 1), np.float32)  # implicit keeps the item's bias in the last column
        self.users = np.zeros((0, factors + 1), np.float32)
        self.row_of: dict[int, int] = {}

    def scores(self, query: Query) -> NDArray[np.float32]:
        """(known,) inner products; items that no fit has met come last, by popularity."""
        popular = self.popularity.scores(query)
        scores = popular * np.float32(1e-4 / (1.0 + popular.max()))
        if not len(self.vectors):
            return scores
        user = np.zeros(self.factors + 1, np.float32)
        recent = [item for item in dict.fromkeys(reversed(query.history)) if item < len(self.vectors)][: self.reach]
        if recent:
            user += self.history_weight * self.vectors[recent].mean(0)
        if query.user in self.row_of:
            user += self.users[self.row_of[query.user]]
        user[-1] = 1.0  # the bias counts once
        fitted = self.vectors @ user
        scores[: len(fitted)] += fitted
        scores[len(fitted) :] += fitted.min()
        return scores

    def learn(self, query: Query) -> None:
        """Keep one event; fit anew when it is time."""
        self.popularity.learn(query)
        if self.events.add(query.user, query.item):
            self._fit(max(query.known, query.item + 1))

    def _fit(self, items: int) -> None:
        matrix, users = self.events.matrix(items)
        width = self.factors + 1
        model = BayesianPersonalizedRanking(
            factors=self.factors, learning_rate=self.learning_rate, regularization=self.regularization,
            iterations=self.iterations, num_threads=1, random_state=int(self.choose.integers(2**31)),
        )  # fmt: skip

        def started(rows: int) -> NDArray[np.float32]:
            return (self.choose.random((rows, width), np.float32) - np.float32(0.5)) / np.float32(self.factors)

        model.item_factors = np.concatenate([self.vectors, started(items - len(self.vectors))])
        vectors = started(len(users))
        old = np.array([self.row_of.get(user, -1) for user in users.tolist()], np.int64)
        vectors[old >= 0] = self.users[old[old >= 0]]
        vectors[:, -1] = 1.0
        model.user_factors = vectors
        model.fit(matrix, show_progress=False)
        self.vectors = np.asarray(model.item_factors, np.float32)
        self.users = np.asarray(model.user_factors, np.float32)
        self.row_of = {user: row for row, user in enumerate(users.tolist())}
