"""Item-item cosine over who had an event with what, from `implicit`: a classic that is hard to beat.

Before: the loop tells each event. After: similarities with the newest items of the history add up to scores. Knows no
order of events; between two fits it knows nothing new, which is how batch recommenders are run.
"""

from __future__ import annotations

import warnings

import numpy as np
from implicit.nearest_neighbours import CosineRecommender
from implicit.utils import ParameterWarning
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from replay.backtest.queries import Query
from replay.peers.popularity import WindowedPopularity
from replay.peers.refitting import NewestEvents, neighbours_of

__all__ = ["ItemItemCosine"]


class ItemItemCosine:
    """An item's score is the sum of its similarities with the newest `reach` items of the history (Sarwar et al. 2001).

    Further back an item has `fade` times the say. `own` is an item's similarity with itself: above 0 where people come
    back to items. Items without any similarity are told apart by popularity.
    """

    name = "item-item"
    random = False

    def __init__(
        self,
        reach: int = 10,
        *,
        fade: float = 0.8,
        neighbours: int = 200,
        own: float = 0.0,
        capacity: int = 200_000,
        refit_every: int = 500,
        share: float = 0.05,
        window_h: float = 168.0,
        seed: int = 0,
    ) -> None:
        self.reach, self.neighbours, self.own = reach, neighbours, own
        self.step_weights = (fade ** np.arange(reach, dtype=np.float64)).astype(np.float32)
        self.events = NewestEvents(capacity, refit_every, share)
        self.popularity = WindowedPopularity(window_h, seed)
        self.similarity = csr_matrix((0, 0), dtype=np.float32)

    def scores(self, query: Query) -> NDArray[np.float32]:
        """(known,) sums of similarities, above popularity, which is below every similarity."""
        recent = list(dict.fromkeys(reversed(query.history)))[: self.reach]
        found = neighbours_of(self.similarity, recent, self.step_weights[: len(recent)], query.known)
        popular = self.popularity.scores(query)
        return found + popular * np.float32(1e-4 / (1.0 + popular.max()))

    def learn(self, query: Query) -> None:
        """Keep one event; fit anew when it is time."""
        self.popularity.learn(query)
        if self.events.add(query.user, query.item):
            self._fit(max(query.known, query.item + 1))

    def _fit(self, items: int) -> None:
        matrix, _ = self.events.matrix(items)
        model = CosineRecommender(K=self.neighbours, num_threads=1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ParameterWarning)  # implicit warns of the format that it made itself
            model.fit(matrix, show_progress=False)
        similarity = csr_matrix(model.similarity, dtype=np.float32)
        similarity.setdiag(self.own)
        self.similarity = similarity
