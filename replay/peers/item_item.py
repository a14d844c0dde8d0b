"""Item-item cosine over who had an event with what, from `implicit`: a classic that is hard to beat.

Before: the backtest tells each event. After: similarities with the newest items of the history add up to scores. Knows
no order of events; between two fits it knows nothing new, which is how batch recommenders are run.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from implicit.nearest_neighbours import CosineRecommender
from implicit.utils import ParameterWarning
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from replay.backtest.queries import Query
from replay.peers.refitting import RefittedPeer

__all__ = ["ItemItemCosine"]


@dataclass(kw_only=True, eq=False)
class ItemItemCosine(RefittedPeer):
    """An item's score is the sum of its similarities with the newest `reach` items of the history (Sarwar et al. 2001).

    Further back an item has `fade` times the say. `own` is an item's similarity with itself: above 0 where people come
    back to items. Items without any similarity are told apart by popularity.
    """

    name = "item-item"
    random = False

    reach: int = 10
    fade: float = 0.8
    neighbours: int = 200
    own: float = 0.0
    refit_every: int = 500

    def __post_init__(self) -> None:
        super().__post_init__()
        self.step_weights = (self.fade ** np.arange(self.reach, dtype=np.float64)).astype(np.float32)
        self.similarity = csr_matrix((0, 0), dtype=np.float32)

    def scores(self, query: Query) -> NDArray[np.float32]:
        """(known,) sums of similarities, above popularity, which is below every similarity."""
        found = np.zeros(query.known, np.float32)
        similarity, recent = self.similarity, list(dict.fromkeys(reversed(query.history)))[: self.reach]
        for item, weight in zip(recent, self.step_weights, strict=False):
            if item < similarity.shape[0]:
                row = slice(similarity.indptr[item], similarity.indptr[item + 1])
                found[similarity.indices[row]] += weight * similarity.data[row]
        return found + self.popular(query)

    def fit(self, items: int) -> None:
        """Similarities of the items anew."""
        matrix, _ = self.events.matrix(items)
        model = CosineRecommender(K=self.neighbours, num_threads=1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ParameterWarning)  # implicit warns of the format that it made itself
            model.fit(matrix, show_progress=False)
        similarity = csr_matrix(model.similarity, dtype=np.float32)
        similarity.setdiag(self.own)
        self.similarity = similarity
