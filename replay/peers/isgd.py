"""Incremental matrix factorisation: one gradient step an event, nothing ever refitted.

Before: the backtest tells each event. After: inner products of user and item vectors are the scores. Knows no order but
the stream's own.

ISGD: Vinagre, Jorge, Gama (2014), "Fast incremental matrix factorization for recommendation with positive-only
feedback". RAISGD: the same (2015), "Collaborative filtering with recency-based negative feedback": before each step the
user's vector unlearns the items that have gone longest without an event, so that scores do not all grow towards one.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from replay.backtest.queries import Query
from replay.peers.growing import room

__all__ = ["ISGD", "RAISGD"]


@dataclass(kw_only=True, eq=False)
class ISGD:
    """`users` (users, factors) and `items` (items, factors) float32; an event's target is 1."""

    name = "isgd"
    random = True

    factors: int = 64
    learning_rate: float = 0.05
    regularization: float = 0.01
    spread: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        self.choose = np.random.default_rng(self.seed)
        self.users = np.zeros((1024, self.factors), np.float32)
        self.items = np.zeros((1024, self.factors), np.float32)
        self.user_count = 0
        self.item_count = 0

    def scores(self, query: Query) -> NDArray[np.float32]:
        """(known,) inner products with the user's vector; all the same for a user of whom nothing is known."""
        self.users, self.items = room(self.users, query.user + 1), room(self.items, query.known)
        return np.asarray(self.items[: query.known] @ self.users[query.user], np.float32)

    def learn(self, query: Query) -> None:
        """One step."""
        self._start(query)
        self._step(query.user, query.item, 1.0)

    def _start(self, query: Query) -> None:
        """Random vectors for whoever and whatever is new, lower numbers too: nothing is learned from two zeros."""
        self.users, self.items = room(self.users, query.user + 1), room(self.items, query.item + 1)
        for number in range(self.user_count, query.user + 1):
            self.users[number] = self._random()
        for number in range(self.item_count, query.item + 1):
            self.items[number] = self._random()
        self.user_count, self.item_count = max(self.user_count, query.user + 1), max(self.item_count, query.item + 1)

    def _random(self) -> NDArray[np.float32]:
        return self.choose.standard_normal(self.users.shape[1], np.float32) * np.float32(self.spread)

    def _step(self, user: int, item: int, target: float, *, move_item: bool = True) -> None:
        chooser, chosen = self.users[user], self.items[item]
        error = target - float(chooser @ chosen)
        rate = self.learning_rate
        before = chooser.copy()
        chooser += rate * (error * chosen - self.regularization * chooser)
        if move_item:
            chosen += rate * (error * before - self.regularization * chosen)


@dataclass(kw_only=True, eq=False)
class RAISGD(ISGD):
    """ISGD with `negatives` items a step from the old end of a queue of all items, ordered by their last event."""

    name = "raisgd"

    negatives: int = 1
    move_negatives: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.queue: OrderedDict[int, None] = OrderedDict()  # the item with the oldest last event or use comes first

    def learn(self, query: Query) -> None:
        """The negative steps, then the positive one."""
        self._start(query)
        used = [self.queue.popitem(last=False)[0] for _ in range(min(self.negatives, len(self.queue)))]
        for item in used:
            if item != query.item:
                self._step(query.user, item, 0.0, move_item=self.move_negatives)
            self.queue[item] = None
        self._step(query.user, query.item, 1.0)
        self.queue[query.item] = None
        self.queue.move_to_end(query.item)
