"""Rehearsal: many epochs of the encoder over recorded histories, before the stream goes on.

Before: `history` has recorded every user's steps. After: `learner` takes the encoder on, one event after the other.
Knows rows and steps; no events, no files, no clock.

An epoch predicts every step of every user once. Users longer than the encoder reads are cut into windows, elsewhere in
each epoch. Windows of like length share a batch. Everything an epoch does follows from (seed, epoch), so that a
rehearsal that was interrupted between two batches goes on as if it had not been.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.sequence.encoder import Encoder
from models.sequence.history import History

__all__ = ["Plan", "Rehearsal"]


@dataclass(frozen=True)
class Plan:
    """How to rehearse. Rates rise over the first `warm_up` share of all steps, then fall to nothing as a cosine.

    Parameters
        epochs: passes over all histories.
        batch_steps: most steps of a batch, padding included.
        learning_rate, table_learning_rate: highest step sizes of the dense weights and of the item vectors.
        warm_up: a share of all steps, 0 to 1.
        seed: of the windows and their order.
    """

    epochs: int = 20
    batch_steps: int = 12_800
    learning_rate: float = 2e-3
    table_learning_rate: float = 2e-3
    warm_up: float = 0.02
    seed: int = 0

    def rate(self, share: float) -> float:
        """Factor of the learning rates when `share` of all steps are done."""
        if share < self.warm_up:
            return max(share / self.warm_up, 0.01)
        return 0.5 * (1.0 + math.cos(math.pi * min((share - self.warm_up) / (1.0 - self.warm_up), 1.0))) + 1e-3


class Rehearsal:
    """Epochs of an encoder over recorded histories, one batch a call. `epoch` and `batch` are the next ones to do.

    Parameters
        encoder: steps in place.
        history: of the same rows that the encoder has.
        chances: how likely each row is drawn as a negative, (rows,), where the softmax is sampled.
        plan: epochs, rates and seed.
    """

    def __init__(self, encoder: Encoder, history: History, chances: NDArray[Any], plan: Plan) -> None:
        self.encoder, self.history, self.chances, self.plan = encoder, history, chances, plan
        self.epoch, self.batch = 0, 0
        self.losses: list[float] = []  # mean of each epoch that is done
        self._sum, self._places = 0.0, 0.0
        self._planned = -1
        self._batches: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []

    @property
    def done(self) -> bool:
        """Whether all epochs are over."""
        return self.epoch >= self.plan.epochs

    def batches(self) -> int:
        """Batches of the epoch under way."""
        if self._planned != self.epoch:
            self._batches = self._cut(np.random.Generator(np.random.PCG64([self.plan.seed, self.epoch])))
            self._planned = self.epoch
        return len(self._batches)

    def step(self) -> float:
        """One gradient step on the next batch; its mean loss before the step."""
        count = self.batches()
        if not count:
            self.epoch = self.plan.epochs
            return 0.0
        factor = self.plan.rate((self.epoch + self.batch / count) / self.plan.epochs)
        batch = self.history.batch(*self._batches[self.batch])
        with self.encoder.rates(self.plan.learning_rate * factor, self.plan.table_learning_rate * factor):
            loss = self.encoder.rehearse(batch, self.chances)
        weight = float(np.abs(batch.weight).sum())
        self._sum, self._places = self._sum + loss * weight, self._places + weight
        self.batch += 1
        if self.batch == count:
            self.losses.append(self._sum / max(self._places, 1e-6))
            self._sum, self._places = 0.0, 0.0
            self.epoch, self.batch = self.epoch + 1, 0
            if self.done:
                self.encoder.settle()
        return loss

    def _cut(self, random: np.random.Generator) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Windows of an epoch, in batches of at most `batch_steps` padded steps, in random order."""
        length, starts = self.encoder.config.length, self.history.starts
        inputs = np.diff(starts) - 1  # (users,): the last step is only predicted
        short = np.flatnonzero((inputs > 0) & (inputs <= length))
        first, last = [starts[short]], [starts[short] + inputs[short]]
        for user in np.flatnonzero(inputs > length):
            begin, end = int(starts[user]), int(starts[user] + inputs[user])
            cuts = np.arange(begin + int(random.integers(1, length + 1)), end, length)
            first.append(np.concatenate([[begin], cuts]))
            last.append(np.concatenate([cuts, [end]]))
        firsts, lasts = np.concatenate(first), np.concatenate(last)
        lengths = lasts - firsts
        order = np.argsort(lengths + random.random(len(lengths)) * 0.1 * lengths, kind="stable")
        found, begin = [], 0
        while begin < len(order):
            end, longest = begin, 0
            while end < len(order) and max(longest, lengths[order[end]]) * (end - begin + 1) <= self.plan.batch_steps:
                longest = max(longest, int(lengths[order[end]]))
                end += 1
            chosen = order[begin : max(end, begin + 1)]
            found.append((firsts[chosen], lasts[chosen]))
            begin = max(end, begin + 1)
        return [found[i] for i in random.permutation(len(found))]

    def state(self) -> dict[str, Any]:
        """Where it is, JSON-able. The encoder's own state is the owner's to keep."""
        place = {"epoch": self.epoch, "batch": self.batch, "losses": self.losses}
        return {**place, "sum": self._sum, "places": self._places, "plan": asdict(self.plan)}

    def load(self, state: dict[str, Any]) -> None:
        """Back to what `state()` returned, plan included."""
        self.plan = Plan(**state["plan"])
        self.epoch, self.batch, self.losses = state["epoch"], state["batch"], list(state["losses"])
        self._sum, self._places = state["sum"], state["places"]
        self._planned = -1
