"""What the ranker makes of lists that were shown: a head of its own, and how much the places of a list say.

    said = clip(list . (hidden units, standardised facts), -10, 10)
    P(item of the list is reacted to) ~ exp(score + what queries taught + said + place), among the list's items
    added to the scores of answers, beside what queries taught: share * said

Before: `second` made facts of a list at its own moment; `models.shown` waited for what was reacted to. After: `network`
publishes it as a part of what it says. What stands first is reacted to more, whatever it is: a number for each place
takes that up, and no answer has it. Nothing flows back: hidden units and what queries teach are learned as if nobody
were shown anything.

Chances of what was shown correct nothing here. Given the list, which of its items it was depends on the items and their
places alone, however the list was drawn; weighing by propensities only spreads the estimate (docs/lab-book.md).

Source
    Zhao et al.: Recommending what video to watch next: a multitask ranking system, 2019 (the shallow tower).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from models.experts.network import Network
from models.part import Changes, Input
from models.ranker.bounds import MOST, MOST_SURE, SURE

__all__ = ["PLACES", "RankerLists", "TaughtList"]

PLACES = 64
"""Places that have a number of their own, from 1; further ones share the last, and 0 is of places that nobody told."""

LEARNING_RATE, QUICKER = 5e-3, np.float32(10)
"""Places learn so many times as fast: they are few numbers, and what they do not account for yet the head takes for its
own."""

Array = NDArray[np.float32]
Marks = NDArray[np.bool_]


class TaughtList(NamedTuple):
    """A list of which something was reacted to; C of its items had a row when it was shown.

    Fields
        facts: (C, F), `facts.facts_of`.
        plain: (C,) fused scores.
        places: (C,) from 1, 0 where that is not known.
        chosen: (C,) what the reactions weigh, 0 where there was none.
    """

    facts: Array
    plain: Array
    places: NDArray[np.int64]
    chosen: Array


class RankerLists(Network):
    """The head, the places, and the share. All is kept in checkpoints; nothing is published under a name of its own.

    The share is earned in lists, by what the head gained on their reactions before it learned from them, and lost where
    queries pay: by what it costs the candidates that came next. So it needs no proof that queries gain, too.
    """

    label = "ranker.lists"

    def __init__(self, hidden: int, facts: int) -> None:
        super().__init__({"places": torch.zeros(PLACES + 1), "list": torch.zeros(hidden + facts)}, LEARNING_RATE)
        own = Network.weights(self)
        self.weight, self._places = own["list"], own["places"]  # views: (hidden + facts,), (PLACES + 1,)
        self.hidden = hidden
        self.gain = np.zeros(2)  # nats, of the newest lists and of the newest queries
        self.share = np.zeros(1, np.float32)
        self._gradient, self._of_places = np.zeros(len(self.weight)), np.zeros(PLACES + 1)
        self._weight = 0.0

    @property
    def places(self) -> Array:
        """What each place adds, (PLACES + 1,)."""
        return QUICKER * self._places

    @property
    def earned(self) -> float:
        """The share that it would have if queries had no say."""
        return float(np.clip(self.gain[0] / SURE, 0.0, 1.0))

    @property
    def left(self) -> np.float32:
        """How much of what it earned is not in every answer."""
        return np.float32(self.earned - self.share[0])

    @property
    def begun(self) -> bool:
        """Whether it has learned anything."""
        return self.adam.steps > 0

    def said(self, hidden: Array, standard: Array) -> Array:
        """What it says of candidates, before its share: (C,)."""
        said: Array = hidden @ self.weight[: self.hidden] + standard @ self.weight[self.hidden :][: standard.shape[1]]
        return np.minimum(np.maximum(said, -MOST), MOST)

    def asked(self, said: Array, chance: Array, target: Marks) -> None:
        """What it would have been worth to a query; `chance` (C,) is of the candidates without it."""
        gained = float(said[target][0] - np.log((chance * np.exp(said)).sum() / chance.sum()))
        self._gained(1, gained)

    def taught(self, hidden: Array, standard: Array, scores: Array, taught: TaughtList) -> None:
        """What a list teaches; `scores` (C,) are the fused ones with what queries taught."""
        said, places = self.said(hidden, standard), np.minimum(taught.places, PLACES)
        total = float(taught.chosen.sum())
        among = _softmax(scores + said + self.places[places])
        without = _softmax(scores + self.places[places])
        if not np.isfinite(among).all():
            return  # an expert said what is no number
        chosen = taught.chosen / total
        self._gained(0, float(chosen @ np.log(np.maximum(among, 1e-30) / np.maximum(without, 1e-30))))
        gradient = total * among - taught.chosen
        self._gradient[: self.hidden] += gradient @ hidden
        self._gradient[self.hidden :][: standard.shape[1]] += gradient @ standard
        np.add.at(self._of_places, places, gradient)
        self._weight += total

    def _gained(self, which: int, nats: float) -> None:
        if np.isfinite(nats):
            self.gain[which] = min(max(self.gain[which] + nats, -SURE), MOST_SURE)

    def step(self) -> bool:
        """One step on what the lists of a block taught; whether there was one."""
        if self._weight:
            gradients = {"places": self._of_places / self._weight, "list": self._gradient / self._weight}
            self.descend({name: one.astype(np.float32) for name, one in gradients.items()})
            self._gradient[:] = self._of_places[:] = 0.0
            self._weight = 0.0
        before = self.share[0], self.left
        self.share[0] = self.earned * np.clip(1.0 + self.gain[1] / SURE, 0.0, 1.0)
        self.stepped |= before != (self.share[0], self.left)
        return bool(before[0] or self.share[0])

    def heard_in(self, weights: Mapping[str, Array]) -> dict[str, Array]:
        """The network's `weights` with this head's in them, as far as it has a share: together they say what both do.

        The published share is the larger of the two, so that what is said stays within its bounds.
        """
        own = self.share[0]
        if not own:
            return dict(weights)
        share = max(weights["ranker_share"][0], own)
        parts = {"ranker_output_weight": self.weight[: self.hidden], "ranker_linear": self.weight[self.hidden :]}
        mixed = {
            name: (weights["ranker_share"][0] / share * weights[name] + own / share * one).astype(np.float32)
            for name, one in parts.items()
        }
        return {**weights, **mixed, "ranker_share": np.array([share], np.float32)}

    def inputs(self) -> dict[str, Input]:
        """None: `heard_in` has what is published."""
        return {}

    def weights(self) -> dict[str, NDArray[Any]]:
        """None."""
        return {}

    def read(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """A bundle has it in what the network says."""

    def take_changes(self) -> Changes:
        """None."""
        return Changes()

    def state(self) -> dict[str, NDArray[Any]]:
        """Weights, and what was gained."""
        return super().state() | {"ranker.lists.gain": self.gain, "ranker.lists.share": self.share}


def _softmax(odds: Array) -> NDArray[np.float64]:
    worth: NDArray[np.float64] = np.exp(odds.astype(np.float64) - odds.max())
    worth /= worth.sum()
    return worth
