"""What queries teach the network, taken down in one pass each: candidates and the gradient at what is said of them.

Before: `network` and `heads` have said something. After: their step. Candidates whose probability is hardly off teach
one of so many, and for the others. Compiled, for every event passes through.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled

__all__ = ["Lessons", "Surprise", "surprise_of"]

LEAST, ONE_OF = 2e-3, 4
"""Of candidates whose probability is off by less than LEAST one of so many teaches, and for the others."""

ROOM = 4096
"""Candidates that there is room for at first."""

Array = NDArray[np.float32]
Marks = NDArray[np.bool_]


class Surprise(NamedTuple):
    """Of a query whose target is a candidate: what its candidates' probabilities are by what was said, (C,), less the
    truth, times what the query counts, (C,); and what saying so gained, in nats.
    """

    among: Array
    gradient: Array
    gained: float


def surprise_of(chance: Array, said: Array, target: Marks, weight: np.float32) -> Surprise | None:
    """`chance` (C,) is without what is `said` (C,); None where no candidate is the `target`."""
    among = np.exp(said)
    among *= chance
    gradient = np.empty_like(among)
    at, total, before = _gap(among, chance, target, weight, gradient)
    return None if at < 0 else Surprise(among, gradient, float(said[at] - np.log(total / before)))


class Lessons:
    """Candidates that a block's queries teach by: standardised facts (n, F), hidden units (n, H), gradient (n,)."""

    def __init__(self, hidden: int) -> None:
        self._facts, self._hidden = np.zeros((ROOM, 0), np.float32), np.zeros((ROOM, hidden), np.float32)
        self._gradient = np.zeros(ROOM, np.float32)
        self._last = self._used = self._queries = 0

    def __len__(self) -> int:
        return self._used

    def add(self, standard: Array, hidden: Array, gradient: Array, weight: np.float32) -> Marks:
        """Take down a query that counts `weight`; which of its candidates teach, (C,). It may have fewer facts."""
        many, more = len(gradient), standard.shape[1] - self._facts.shape[1]
        if more > 0:
            self._facts = np.concatenate([self._facts, np.zeros((len(self._facts), more), np.float32)], 1)
        while self._used + many > len(self._gradient):
            self._facts, self._hidden = (np.concatenate([one, one]) for one in (self._facts, self._hidden))
            self._gradient = np.concatenate([self._gradient, self._gradient])
        heard, steeper = _sampled(gradient, np.float32(LEAST) * weight, self._queries % ONE_OF)
        into = self._facts, self._hidden, self._gradient
        self._last, self._queries = self._used, self._queries + 1
        self._used = _take(standard, hidden, steeper, heard, self._used, *into)
        return heard

    def read(self) -> tuple[Array, Array, Array]:
        """All of them, views."""
        return self._facts[: self._used], self._hidden[: self._used], self._gradient[: self._used]

    def last(self) -> tuple[Array, Array, Array]:
        """Those of the query that was taken down last."""
        facts, hidden, gradient = self.read()
        return facts[self._last :], hidden[self._last :], gradient[self._last :]

    def clear(self) -> None:
        """The step was taken."""
        self._last = self._used = self._queries = 0


@compiled
def _gap(among: Array, chance: Array, target: Marks, weight: np.float32, gradient: Array) -> tuple[int, float, float]:
    """Where the target is, -1 without one; the sums of `among`, which becomes probabilities, and of `chance`."""
    at, total, before = -1, 0.0, 0.0
    for c in range(len(among)):
        total += among[c]
        before += chance[c]
        if target[c]:
            at = c
    if at >= 0:
        for c in range(len(among)):
            among[c] = np.float32(among[c] / total)
            gradient[c] = among[c] * weight
        gradient[at] -= weight
    return at, total, before


@compiled
def _sampled(gradient: Array, least: np.float32, first: int) -> tuple[Marks, Array]:
    """Which of the candidates teach, and the gradient, of those that do so for others times as much."""
    heard, steeper = np.ones(len(gradient), np.bool_), gradient.copy()
    for c in range(len(gradient)):
        if abs(gradient[c]) < least:
            heard[c] = c % ONE_OF == first
            steeper[c] *= np.float32(ONE_OF)
    return heard, steeper


@compiled
def _take(
    standard: Array,
    hidden: Array,
    gradient: Array,
    heard: Marks,
    used: int,
    facts: Array,
    hiddens: Array,
    gradients: Array,
) -> int:
    """Write into the last three from place `used` on what is `heard`; the place after it."""
    many = standard.shape[1]
    for c in range(len(gradient)):
        if heard[c]:
            facts[used, :many] = standard[c]
            facts[used, many:] = np.float32(0)
            hiddens[used] = hidden[c]
            gradients[used] = gradient[c]
            used += 1
    return used
