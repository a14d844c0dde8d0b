"""Matrix factorisation by alternating least squares, from `implicit`, with each user folded in at the moment of asking.

Before: the backtest tells each event. After: the user's vector is solved from the history as it is now, so that only
the items' vectors are as old as the last fit. Knows no order of events.

Hu, Koren, Volinsky (2008), equation 4: x = (Y'Y + Y'(C - I)Y + reg I)^-1 Y'C p. Y'Y is kept from the fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from replay.backtest.queries import Query
from replay.peers.refitting import RefittedPeer

__all__ = ["LiveALS"]


@dataclass(kw_only=True, eq=False)
class LiveALS(RefittedPeer):
    """ALS refitted on the newest events, from the vectors of the last fit; folded in over the newest `reach` items.

    Further back an item has `fade` times the confidence. Items without a vector yet are told apart by popularity.
    """

    name = "als"
    random = True

    factors: int = 64
    regularization: float = 0.1
    alpha: float = 10.0
    iterations: int = 3
    reach: int = 50
    fade: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.confidence = (self.alpha * self.fade ** np.arange(self.reach, dtype=np.float64)).astype(np.float32)
        self.choose = np.random.default_rng(self.seed)
        self.vectors = np.zeros((0, self.factors), np.float32)
        self.gram = np.zeros((self.factors, self.factors), np.float32)  # Y'Y + reg I

    def scores(self, query: Query) -> NDArray[np.float32]:
        """(known,) inner products with the folded-in user, plus a trifle for popularity."""
        scores = self.popular(query)
        recent = [item for item in dict.fromkeys(reversed(query.history)) if item < len(self.vectors)][: self.reach]
        if recent:
            user = self.fold_in(recent)
            scores[: len(self.vectors)] += self.vectors[: query.known] @ user
        return scores

    def fold_in(self, recent: list[int]) -> NDArray[np.float32]:
        """(factors,) the vector of a user with these items, newest first."""
        chosen = self.vectors[recent]  # (r, factors)
        confidence = self.confidence[: len(recent)]
        left = self.gram + (chosen.T * confidence) @ chosen  # C - I is alpha for what was chosen
        return np.asarray(np.linalg.solve(left, chosen.T @ (1.0 + confidence)), np.float32)

    def fit(self, items: int) -> None:
        """New vectors of the items, from those of the last fit."""
        matrix, _ = self.events.matrix(items)
        with threadpool_limits(1, "blas"):  # or implicit takes ten times as long, as it says itself
            model = AlternatingLeastSquares(
                factors=self.factors, regularization=self.regularization, alpha=1.0 + self.alpha,
                iterations=self.iterations if len(self.vectors) else 15, num_threads=1,
                random_state=int(self.choose.integers(2**31)),
            )  # fmt: skip
            new = self.choose.random((items - len(self.vectors), self.factors), np.float32) * np.float32(0.01)
            model.item_factors = np.concatenate([self.vectors, new])
            model.fit(matrix * 1.0, show_progress=False)
        self.vectors = np.asarray(model.item_factors, np.float32)
        self.gram = self.vectors.T @ self.vectors + self.regularization * np.eye(self.factors, dtype=np.float32)
