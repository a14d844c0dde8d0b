"""What the ranker adds for one type of event: beside `said`, a head for each of the first positive types.

    said_t = clip(heads[t] . (hidden units, standardised facts), -10, 10)
    P(candidate is next | the next event is of type t) ~ exp(score + share * said + share_t * said_t)

Before: `network` has the hidden units. After: a surface weighs types (`Surface.objectives`): the sum of
weight * share_t * said_t is added, too. Each head is learned on the queries whose target is of its type, and its share
from what it gained on these before it learned from them. Nothing flows back: hidden units and `said` are learned as if
there were no heads. A type may be rare, so each weight steps by how much it was moved so far (Adagrad), which forgets
slowly. Knows indices of types, not their names.

Source: Duchi, Hazan, Singer: Adaptive subgradient methods, 2011.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.part import Changes, Input, Part
from models.ranker.bounds import LISTS, MOST, MOST_SURE, SURE
from models.ranker.lessons import surprise_of
from models.ranker.lists import RankerLists
from models.ranker.network import HIDDEN, Forward

__all__ = ["HEADS", "RankerHeads"]

HEADS = 16
"""Types that are told apart: the first that queries are of."""

LEARNING_RATE, HORIZON = 0.1, 1000.0
"""Of Adagrad, and over how many steps of a head it remembers."""

Array = NDArray[np.float32]
Marks = NDArray[np.bool_]


class RankerHeads(Part):
    """What is published has one head more, `bounds.LISTS`: what lists taught, as far as all answers do not hear it.

    `types` (HEADS,) says which type each head is of, 0: free. As long as all queries are of one type none learns:
    its head would only repeat what `said` says.
    """

    def __init__(self, facts: int, lists: RankerLists) -> None:
        self.lists = lists
        self.heads = np.zeros((HEADS, HIDDEN + facts), np.float32)
        self.square = np.zeros_like(self.heads)  # of gradients, their sum
        self.types = np.zeros(HEADS, np.int64)
        self.gain = np.zeros(HEADS)  # nats, as the network's
        self.share = np.zeros(HEADS, np.float32)
        self._gradient = np.zeros_like(self.heads)
        self._taught = np.zeros(HEADS, np.bool_)
        self._stepped = True  # since the last publication

    def inputs(self) -> dict[str, Input]:
        """Weights, which type each head is of, and the shares."""
        types, share = Input(np.int64, (HEADS + 1,)), Input(np.float32, (HEADS + 1,))
        weights = Input(np.float32, (HEADS + 1, self.heads.shape[1]))
        return {"ranker_heads": weights, "ranker_head_types": types, "ranker_head_share": share}

    def weights(self) -> dict[str, NDArray[Any]]:
        """All of them by name."""
        return {
            "ranker_heads": np.concatenate([self.heads, self.lists.weight[None, : self.heads.shape[1]]]),
            "ranker_head_types": np.append(self.types, LISTS),
            "ranker_head_share": np.append(self.share, self.lists.left),
        }

    def read(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Be the published weights; a model of an earlier release has none, and no head says anything."""
        if "ranker_heads" in weights:
            self.heads, self.types = weights["ranker_heads"][:-1], weights["ranker_head_types"][:-1]
            self.share = weights["ranker_head_share"][:-1]
            row = weights["ranker_heads"][-1]
            self.lists.weight[: len(row)] = row
        elif "ranker_mean" in weights:  # which knew fewer facts
            self.heads = np.zeros((HEADS, HIDDEN + len(weights["ranker_mean"])), np.float32)

    def take_changes(self) -> Changes:
        """All of it after a step."""
        dense = list(self.inputs()) if self._stepped or self.lists.stepped else []
        self._stepped = self.lists.stepped = False
        return Changes(dense=dense)

    def head_of(self, kind: int) -> int | None:
        """The head of the type of this index, None where it has none, or where it has nothing to tell apart."""
        if not kind or not self.types[1]:
            return None
        found = np.flatnonzero(self.types == kind)
        return int(found[0]) if len(found) else None

    def said(self, head: int, asked: Forward) -> Array:
        """What one head says of candidates, before its share: (C,)."""
        weights = self.heads[head]
        said: Array = asked.hidden @ weights[:HIDDEN] + asked.standard @ weights[HIDDEN:][: asked.standard.shape[1]]
        return np.minimum(np.maximum(said, -MOST), MOST)

    def meet(self, kind: int) -> None:
        """A query is of the type of this index: it gets a head, while there are any."""
        if kind and not self.types[-1] and kind not in self.types:
            self.types[np.argmin(self.types > 0)] = kind
            self._stepped = True

    def taught(self, head: int, asked: Forward, chance: Array, said: Array, target: Marks, weight: np.float32) -> None:
        """What a query teaches its head; `said` (C,) is what the head said of it.

        `chance` (C,) is the candidates' probability with what all heads have in common added; see `network.taught`.
        """
        surprise = surprise_of(chance, said, target, weight)
        if surprise is None:
            return
        self.gain[head] = min(max(self.gain[head] + surprise.gained, -SURE), MOST_SURE)
        self._gradient[head, :HIDDEN] += surprise.gradient @ asked.hidden
        self._gradient[head, HIDDEN:][: asked.standard.shape[1]] += surprise.gradient @ asked.standard
        self._taught[head] = True

    def step(self) -> None:
        """One step of the heads that a block taught."""
        if self._taught.any():
            rows, gradient = np.flatnonzero(self._taught), self._gradient[self._taught]
            square = self.square[rows] * np.float32(1 - 1 / HORIZON) + gradient * gradient
            self.heads[rows] -= LEARNING_RATE * gradient / np.sqrt(square + 1e-12)
            self.square[rows] = square
            self.share[:] = np.clip(self.gain / SURE, 0.0, 1.0)
            self._gradient[rows], self._taught[rows], self._stepped = 0.0, False, True

    def state(self) -> dict[str, NDArray[Any]]:
        """Weights, types, and what was gained."""
        mine: dict[str, NDArray[Any]] = {
            "weights": self.heads,
            "square": self.square,
            "types": self.types,
            "gain": self.gain,
            "share": self.share,
        }
        return {f"ranker.heads.{name}": array for name, array in mine.items()}
