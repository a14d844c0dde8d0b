"""Bayesian personalised ranking from `implicit`, refitted now and then.

Before: the backtest tells each event. After: the items' vectors rank for the user. Knows no order of events.
Rendle, Freudenthaler, Gantner, Schmidt-Thieme (2009).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from implicit.cpu.bpr import BayesianPersonalizedRanking
from numpy.typing import NDArray

from replay.backtest.queries import Query
from replay.peers.refitting import RefittedPeer

__all__ = ["RefittedBPR"]


@dataclass(kw_only=True, eq=False)
class RefittedBPR(RefittedPeer):
    """BPR refitted on the newest events, from the vectors of the last fit.

    A user's vector is that of the fit plus `history_weight` times the mean of the newest `reach` items' vectors; a user
    whom no fit has met has the latter alone.
    """

    name = "bpr"
    random = True

    factors: int = 64
    learning_rate: float = 0.05
    regularization: float = 0.01
    iterations: int = 20
    reach: int = 10
    history_weight: float = 1.0
    refit_every: int = 2000

    def __post_init__(self) -> None:
        super().__post_init__()
        self.choose = np.random.default_rng(self.seed)
        self.vectors = np.zeros((0, self.factors + 1), np.float32)  # implicit keeps the item's bias in the last column
        self.users = np.zeros((0, self.factors + 1), np.float32)
        self.row_of: dict[int, int] = {}

    def scores(self, query: Query) -> NDArray[np.float32]:
        """(known,) inner products; items that no fit has met come last, by popularity."""
        scores = self.popular(query)
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

    def fit(self, items: int) -> None:
        """New vectors of items and users, from those of the last fit."""
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
