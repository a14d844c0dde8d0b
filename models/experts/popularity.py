"""How popular each item is: decayed at several reaches for the model, all-time for the honest peer.

Forward decay (Cormode, Shkapenyuk, Srivastava, Xu 2009, section 3): an event at time t weighs 2^(t / half-life), so
that order and batching do not matter and nothing is ever rescaled. Kept as logarithms, which cannot overflow. A long
half-life knows what is popular, a short one what is popular now: the gate has a trust in each.

Popularity also says which rows are open at a moment, those that have had an event: the others cannot be recommended.
Knows rows, not item ids.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.block import Block, Pending
from models.compiled import compiled
from models.experts.expert import Dense, Expert, LearnedEvent
from models.onnx_nodes import Nodes
from models.part import CAPACITY, Changes, Input

__all__ = ["KNOWN", "OPEN", "UNSEEN", "Popularity", "known_popularity"]

UNSEEN = -1e30
"""Log popularity, and score, of a row that no event has had: ranks below everything and is still finite."""

FLOOR = -7.0
"""Log popularity counts from here up: what is a thousandth of one event, or less, is all the same."""

NOTHING = 1e-9
"""What an event without weight weighs."""

DAY_MS = 86_400_000.0

KNOWN, OPEN = "popularity_known_", "popularity_open"
"""In the graph, (N,) each: log popularity by half-life as it counts now, and which rows an event has had."""

Array = NDArray[np.float32]


class Popularity(Expert):
    """`log` (capacity, P) float64: log of decayed weight by half-life; `counts` (capacity,) int64: all-time events.

    After `ask`, `closed` (used,) marks the rows that nobody has seen as of the example that was last rewound.
    """

    name = "popularity"
    part = "popularity_part"
    reason = "popular now"

    def __init__(self, half_lives_days: Sequence[float], capacity: int) -> None:
        self.per_ms = np.log(2.0) / (np.array(half_lives_days, np.float64) * DAY_MS)  # (P,)
        self.rates: list[float] = self.per_ms.tolist()
        self.trusts = len(self.rates)
        self.landmark_ms: int | None = None  # the first event's time: weights are relative to it
        self.newest_ms: int | None = None  # the latest time that an event had
        self.log = np.full((capacity, self.trusts), UNSEEN)
        self.counts = np.zeros(capacity, np.int64)
        self.touched = np.zeros(capacity, bool)  # rows changed since the last publication
        self.closed = np.zeros(0, bool)
        self._asked = np.zeros((self.trusts, 0), np.float32)  # `log` of the block that is asked, transposed

    def start(self) -> list[float]:
        """One weight, shared by the half-lives."""
        return [0.2 / self.trusts] * self.trusts

    def grow(self, capacity: int) -> None:
        """Room for more items."""
        more = capacity - len(self.log)
        self.log = np.concatenate([self.log, np.full((more, self.trusts), UNSEEN)])
        self.counts = np.concatenate([self.counts, np.zeros(more, np.int64)])
        self.touched = np.concatenate([self.touched, np.zeros(more, bool)])

    def clear(self, rows: list[int]) -> None:
        """Forget items."""
        self.log[rows] = UNSEEN
        self.counts[rows] = 0
        self.touched[rows] = True

    def note(self, example: Pending) -> None:
        """The clock, and the popularity of the target, as they are before its event."""
        example.newest_before = self.newest_ms
        if example.row >= 0:
            example.popularity_before = self.log[example.row].tolist()

    def count(self, event: LearnedEvent) -> None:
        """Count an event of an item."""
        self.update(event.row, event.time_ms, event.weight)

    def update(self, row: int, time_ms: int, weight: float = 1.0) -> None:
        """Count one event of an item at its own time (epoch ms). One without weight only makes the item known."""
        if self.landmark_ms is None or self.newest_ms is None:
            self.landmark_ms = self.newest_ms = time_ms
        self.newest_ms = max(self.newest_ms, time_ms)
        own, since, log_weight = self.log[row], self.since_ms(time_ms), math.log(max(weight, NOTHING))
        for p, (before, rate) in enumerate(zip(own.tolist(), self.rates, strict=True)):
            event = since * rate + log_weight
            own[p] = max(before, event) + math.log1p(math.exp(-abs(before - event)))
        self.counts[row] += 1
        self.touched[row] = True

    def take_back(self, event: LearnedEvent) -> None:
        """Take off what the event weighed at its own time. One of which nothing is left is as unpopular as can be."""
        row, log_weight = event.row, math.log(max(event.weight, NOTHING))
        if not self.counts[row]:
            return
        own, since = self.log[row], self.since_ms(event.time_ms)
        for p, (before, rate) in enumerate(zip(own.tolist(), self.rates, strict=True)):
            gone = since * rate + log_weight
            left = -math.expm1(gone - before) if gone < before else 0.0
            own[p] = before + math.log(max(left, NOTHING))
        self.counts[row] -= 1
        self.touched[row] = True

    def meet(self, row: int, time_ms: int) -> None:
        """An item had an event that does not speak for it: it is known, and as unpopular as can be."""
        if self.log[row, 0] <= UNSEEN / 10:
            self.log[row] = self.since_ms(time_ms) * self.per_ms + math.log(NOTHING)
            self.touched[row] = True

    def since_ms(self, time_ms: int) -> int:
        """Time since the first event's; that of the first event is 0."""
        return 0 if self.landmark_ms is None else time_ms - self.landmark_ms

    def now(self, time_ms: int | None) -> NDArray[np.float64]:
        """Log weight of one event at a time, (P,): what `log` is to be compared with. None counts as the landmark."""
        if time_ms is None or self.landmark_ms is None:
            return np.zeros(self.trusts)
        log: NDArray[np.float64] = (time_ms - self.landmark_ms) * self.per_ms
        return log

    def rank(self, row: int, excluded: NDArray[np.int64], used: int) -> int:
        """1-based rank of a row by all-time count among the first `used` that are not excluded; equals rank before."""
        counts = self.counts[:used]
        return _as_many(counts, counts[row]) - int(np.count_nonzero(counts[excluded] >= counts[row]))

    def ask(self, block: Block) -> None:
        """Popularity as of after the block; `rewind` goes back from there."""
        log = np.ascontiguousarray(self.log[: block.used].T, np.float32)  # (P, N)
        self.closed = log[0] <= UNSEEN / 10  # (N,) free rows, and rows that nobody has seen
        log[:, self.closed] = 0.0
        self._asked = log

    def rewind(self, example: Pending) -> None:
        """The target's popularity is again what it was before its event."""
        if example.row >= 0:
            before = example.popularity_before
            self.closed[example.row] = unseen = before[0] <= UNSEEN / 10
            self._asked[:, example.row] = 0.0 if unseen else before

    def opinions(self, block: Block, i: int) -> list[Dense]:
        """Log popularity in events that happened just now, one opinion for each half-life."""
        now = self.now(block.examples[i].newest_before).astype(np.float32)
        return [Dense(log, moment, np.float32(FLOOR)) for log, moment in zip(self._asked, now, strict=True)]

    def chances(self, used: int, live: float = 0.0) -> NDArray[np.float64]:
        """Chance of each of the first `used` rows to be drawn as a negative, (used,): 0 for free rows, 1 in all.

        A share `live` follows the popularity of the shortest reach. Half of the rest follows all-time counts and half
        is uniform: frequent rows alone starve the tail, uniform ones alone are too easy.
        """
        counts = self.counts[:used].astype(np.float64)
        known = counts > 0
        chances: NDArray[np.float64] = counts / max(counts.sum(), 1.0) + known / max(known.sum(), 1)
        chances *= (1.0 - live) / 2
        if live and known.any():
            log = self.log[:used, int(self.per_ms.argmax())]
            now = np.where(known, np.exp(log - log.max()), 0.0)
            chances += live * now / now.sum()
        return chances

    def inputs(self) -> dict[str, Input]:
        """Log popularity by row, and what one event weighs now."""
        return {
            "popularity": Input(np.float32, (CAPACITY, self.trusts), UNSEEN),
            "popularity_now": Input(np.float32, (self.trusts,)),
        }

    def weights(self) -> dict[str, NDArray[Any]]:
        """Copies: float32 of what is kept as float64."""
        return {
            "popularity": self.log.astype(np.float32),
            "popularity_now": self.now(self.newest_ms).astype(np.float32),
        }

    def read(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Be the published popularity as of its own now, which becomes the landmark."""
        self.log = weights["popularity"] - weights["popularity_now"]

    def take_changes(self) -> Changes:
        """Rows that were counted or cleared. Now always changes."""
        rows = np.flatnonzero(self.touched)
        self.touched[:] = False
        return Changes(dense=["popularity_now"], rows={"popularity": rows})

    def state(self) -> dict[str, NDArray[Any]]:
        """Logs and counts."""
        return {"popularity.log": self.log, "popularity.counts": self.counts}

    def values(self) -> dict[str, Any]:
        """The first and the latest event time (epoch ms)."""
        return {"landmark_ms": self.landmark_ms, "newest_ms": self.newest_ms}

    def restore(self, values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Back to what `values` returned."""
        self.landmark_ms, self.newest_ms = values["landmark_ms"], values["newest_ms"]

    def nodes(self, add: Nodes, trust: str, nothing: str) -> str:
        """Log popularity as of now, never below the floor, summed up by trust, one half-life after the other."""
        columns = add("Split", "popularity", out="log_popularity", outputs=self.trusts, axis=1, num_outputs=self.trusts)
        now = add("Split", "popularity_now", outputs=self.trusts, axis=0, num_outputs=self.trusts)
        known = []
        for p in range(self.trusts):
            end = "" if self.trusts == 1 else f"_{p}"
            log = add("Reshape", columns + end, add.ints(-1), out=f"log_popularity_of_{p}")  # (N,)
            known.append(add("Clip", add("Sub", log, now + end), add.float(FLOOR)))
        add("Greater", "log_popularity_of_0", add.float(UNSEEN / 10), out=OPEN)
        return self._summed(add, trust, known)

    def told_nodes(self, add: Nodes, trust: str) -> str:
        """The same where a run is told of what `known_popularity` says."""
        return self._summed(add, trust, [f"{KNOWN}{p}" for p in range(self.trusts)])

    def _summed(self, add: Nodes, trust: str, known: Sequence[str]) -> str:
        """Not by a product of matrices, which would be another one for a batch of one."""
        if self.trusts == 1:
            return add("Mul", known[0], trust)
        each = add("Split", trust, outputs=self.trusts, axis=1, num_outputs=self.trusts)
        return add("Sum", *(add("Mul", one, f"{each}_{p}") for p, one in enumerate(known)))


@compiled
def _as_many(counts: NDArray[np.int64], least: int) -> int:
    """How many are at least so many; in one pass, without marks of all."""
    found = 0
    for j in range(len(counts)):
        found += counts[j] >= least
    return found


def known_popularity(weights: Mapping[str, NDArray[Any]], room: NDArray[np.float32] | None = None) -> Array:
    """What log popularity counts as at the moment of a version, and no request changes: (P, N), into `room` where it
    fits, as it is published: (N, P).
    """
    log = weights["popularity"].T
    known = room if room is not None and room.shape == log.shape else np.empty(log.shape, np.float32)
    np.subtract(log, weights["popularity_now"][:, None], out=known)
    return np.maximum(known, np.float32(FLOOR), out=known)
