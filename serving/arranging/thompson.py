"""Thompson sampling: a list is that of one draw of what the ranker could mean, and each place's chance is counted out.

Before: `models.ranker.posterior` says what each of a few draws adds to the scores of candidates. After: `arrange` fills
each place by what it was told here. A list is as likely as the draw that it is of; so at each place an item's chance is
the share of the draws, of those that agree with the list above, that have it best there, under what caps, shares and
diversity leave. Where places are given away by chance as well (`epsilon`, `new_items`), a draw that would have picked
something else still counts, for as much as that is likely (Bayes' rule).

Source
    Thompson 1933; Russo et al.: A tutorial on Thompson sampling, 2018; Lu and Van Roy: Ensemble sampling, 2017.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from models.compiled import compiled

__all__ = ["Agreement", "Draws"]

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]


class Draws(NamedTuple):
    """What each of M draws adds to the scores of some rows, ascending: (C,) and (M, C)."""

    rows: Ints
    added: Array


class Agreement:
    """The draws of one list, and how well each agrees with what is listed.

    Parameters
        draws: of the request.
        rows: of the pool's items (P,), `NO_ROW` for what has none; no draw adds to those.
    """

    def __init__(self, draws: Draws, rows: Ints) -> None:
        self._draws = draws
        self._agree = np.ones(len(draws.added))  # how likely the list above is, by each draw
        self._picks = np.zeros(0, np.int64)
        self.grow(rows)

    def grow(self, rows: Ints) -> None:
        """The pool holds these rows now."""
        known, added = self._draws
        place = np.minimum(np.searchsorted(known, rows), max(len(known) - 1, 0))
        found = known[place] == rows if len(known) else np.zeros(len(rows), bool)
        self._added = np.zeros((len(added), len(rows)))  # (M, P)
        self._added[:, found] = added[:, place[found]]
        self.most = self._added.max(axis=0, initial=0.0)  # (P,), what the draw adds that thinks most of an item

    def chances(self, values: Array, items: Ints) -> Array:
        """The chance of each of some items (n,) to be the best of a draw; `values` (P,) are without the draws."""
        best = _best_of_each(values, self._added, self._agree, items)
        self._picks = items[best]
        return np.asarray(np.bincount(best, self._agree, len(items)) / self._agree.sum())

    def take(self, chosen: int, agreed: float, otherwise: float) -> None:
        """One of those that `chances` was asked about last is listed: as likely as `agreed` by a draw that has it best,
        and as `otherwise` by another.
        """
        self._agree *= np.where(self._picks == chosen, agreed, otherwise)
        self._agree /= self._agree.max()


@compiled
def _best_of_each(values: Array, added: Array, agree: Array, items: Ints) -> Ints:
    """Which of the items each draw has best, the first of equal ones; 0 by a draw that agrees with nothing above."""
    best = np.zeros(len(added), np.int64)
    for draw in range(len(added)):
        if agree[draw] > 0:
            most = -np.inf
            for place in range(len(items)):
                value = values[items[place]] + added[draw, items[place]]
                if value > most:
                    most = value
                    best[draw] = place
    return best
