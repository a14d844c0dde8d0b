"""Fast memory: which items follow or accompany which, counted online, readable at the very next event.

Before: `learner` passes each example's recent rows and target row. After: `gate` fuses its scores with the slow
learner's; `graph` computes the same scores from the same tables. Knows rows, not item ids.

The score of item j for history h_1 (newest), h_2, ... is

    sum_k  read_fade^(k-1) * A[h_k, j] / count[h_k]^source_power / count[j]^target_power

where A[i, j] grows by write_fade^(k-1) each time j follows with i at place k (both ways when symmetric). It is the
item-item cosine of Sarwar et al. (2001) made online, with recency in place of a refit. Only the heaviest `slots`
associations of an item are kept; a new one takes the lightest slot.

What is old counts less: a row fades at each of its item's own events, and with `half_life_hours` by event time too.
Then its age also fades what an entry adds to A and what it says: what was read yesterday neither leads to what is read
now nor drowns it. Fading rows are forward decay (Cormode, Shkapenyuk, Srivastava, Xu 2009, section 3): an event at time
t is counted exp(e(t)) times, with e(t) = own events * -ln decay + t * ln 2 / half-life, so that it writes a few slots
and not whole rows. A
row's weights are kept relative to exp(base), its count as a logarithm, so nothing overflows whatever the times are.
Only shares of the highest score are used, so a factor that all rows have in common, such as now's, is left out.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from models.config import MemoryConfig
from models.experts.memory_loops import add_up, write

__all__ = ["AssociationMemory"]

Rows = NDArray[np.int64]

NEVER = -1e30
"""Log count of an item without events, base of a row without associations."""

HOUR_MS = 3_600_000.0


class AssociationMemory:
    """Sparse associations of one kind: `ids` (capacity, slots) int32 and `weights` (capacity, slots) float32.

    A slot that was never taken has weight 0 and the id of its own row, which no association has. By row there are also
    `own`, `base` and `log_count` (capacity,) float64, see above, and what scores are made with: `log_source` float32,
    log of what a row's weights are worth, and `target_scale` float32, count^-target_power, (capacity,) both.

    `touched` (capacity, slots), `touched_rows` and `touched_source` (capacity,) mark what changed since the last
    publication: slots, rows that have such, and `log_source`.
    """

    def __init__(self, config: MemoryConfig, capacity: int, decay: float = 1.0) -> None:
        self.config = config
        self.per_event = -math.log(decay)
        self.per_ms = math.log(2.0) / (config.half_life_hours * HOUR_MS) if config.half_life_hours else 0.0
        self.own = np.zeros(capacity)
        self.base, self.log_count = np.full((2, capacity), NEVER)
        self.log_source = np.zeros(capacity, np.float32)
        self.target_scale = np.zeros(capacity, np.float32)
        self.touched_source = np.zeros(capacity, bool)
        self.ids = _own_rows(0, capacity, config.slots)
        self.weights = np.zeros((capacity, config.slots), np.float32)
        self.touched = np.zeros((capacity, config.slots), bool)
        self.touched_rows = np.zeros(capacity, bool)
        self.sums = np.zeros(capacity)  # scratch of `add_up`
        steps = np.arange(config.reach, dtype=np.float64)
        self.read_weight = (config.read_fade**steps).astype(np.float32)  # (reach,)
        self.write_weight = (config.write_fade**steps).astype(np.float32)  # (reach,)

    def grow(self, capacity: int) -> None:
        """Room for more items; what is known stays."""
        more = capacity - len(self.ids)
        for name in ("own", "base", "log_count", "log_source", "target_scale", "touched_source"):
            array = getattr(self, name)
            start = NEVER if name in ("base", "log_count") else 0
            setattr(self, name, np.concatenate([array, np.full(more, start, array.dtype)]))
        self.ids = np.concatenate([self.ids, _own_rows(len(self.ids), capacity, self.config.slots)])
        self.weights = np.concatenate([self.weights, np.zeros((more, self.config.slots), np.float32)])
        self.touched = np.concatenate([self.touched, np.zeros((more, self.config.slots), bool)])
        self.touched_rows = np.concatenate([self.touched_rows, np.zeros(more, bool)])
        self.sums = np.zeros(capacity)

    def score(self, recent: Rows, ago_ms: NDArray[np.float64] | None = None) -> tuple[Rows, NDArray[np.float32]]:
        """The rows that have a score above 0, (m,) int64 and all different, and their scores (m,) float32.

        `recent` are history rows, newest first. `ago_ms`, (len(recent),), is how long before any one moment each was: a
        memory that fades by event time listens to them as they fade. Scores are relative: all have the same unknown
        factor. Costs what is associated with the history, whatever the size of the catalogue.
        """
        if ago_ms is None:
            ago_ms = np.zeros(len(recent))
        return add_up(
            self.ids, self.weights, self.log_source, self.target_scale, np.ascontiguousarray(recent), ago_ms,
            self.per_ms, self.read_weight, self.sums,
        )  # fmt: skip

    def update(
        self,
        recent: Rows,
        target: int,
        since_ms: float = 0,
        weight: float = 1.0,
        ago_ms: NDArray[np.float64] | None = None,
    ) -> None:
        """Count a target and associate it with the history before it.

        `recent` are the history's rows, newest first, without repeats, and `ago_ms`, (len(recent),), how long before
        the event each one was: with entries of long ago a memory that fades by event time associates it as little.
        `since_ms` is the event's time since any fixed landmark, `weight` how much it counts as a target.
        """
        if ago_ms is None:
            ago_ms = np.zeros(len(recent))
        write(
            self.ids, self.weights, self.touched, self.touched_rows, self.own, self.base, self.log_count,
            self.log_source, self.touched_source, self.target_scale, recent, ago_ms, target, since_ms * self.per_ms,
            weight, self.per_event, self.per_ms, self.config.source_power, self.config.target_power, self.write_weight,
            self.config.symmetric,
        )  # fmt: skip

    def clear(self, rows: list[int]) -> None:
        """Forget items: their rows, and every association that points to them."""
        if not rows:
            return
        for array in (self.own, self.log_source, self.target_scale):
            array[rows] = 0
        self.base[rows] = self.log_count[rows] = NEVER
        self.touched_source[rows] = True
        gone = np.zeros(len(self.ids), bool)
        gone[rows] = True
        pointing = gone[self.ids]  # (capacity, slots)
        pointing[rows] = True
        self.touched |= pointing
        self.touched_rows |= pointing.any(1)
        self.weights[pointing] = 0
        self.ids[pointing] = pointing.nonzero()[0]


def _own_rows(first: int, stop: int, slots: int) -> NDArray[np.int32]:
    return np.repeat(np.arange(first, stop, dtype=np.int32)[:, None], slots, 1)  # (rows, slots)
