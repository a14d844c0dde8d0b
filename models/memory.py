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

__all__ = ["AssociationMemory"]

Rows = NDArray[np.int64]

DENSE = 4
"""Scores are added up over the whole catalogue while it has at most this many rows per association that is read."""


HIGHEST = math.log(1e4)
"""A row whose next gain would weigh exp(this) or more is rebased, lest float32 loses small weights."""

NEVER = -1e30
"""Log count of an item without events, base of a row without associations."""

NEGLIGIBLE = 1e-6
"""Share of an event below which an association is not worth the slot that it would take from another."""

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
        self.slot_of = np.full(capacity, -1, np.int64)  # scratch: item -> slot of the row being written
        self.place_of = np.zeros(capacity, np.int64)  # scratch: item -> place among what is being summed
        self.every_slot = np.arange(config.slots)
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
        self.slot_of = np.full(capacity, -1, np.int64)
        self.place_of = np.zeros(capacity, np.int64)

    def score(
        self, recent: Rows, used: int, ago_ms: NDArray[np.float64] | None = None
    ) -> tuple[Rows, NDArray[np.float32]]:
        """The rows that have a score above 0, (m,) int64 and all different, and their scores (m,) float32.

        `recent` are history rows, newest first; rows from `used` on are not in use. `ago_ms`, (len(recent),), is how
        long before any one moment each was: a memory that fades by event time listens to them as they fade. Scores are
        relative: all have the same unknown factor. Costs what is associated with the history, or the catalogue where
        that is less.
        """
        recent = recent[: self.config.reach]
        log = self.log_source[recent].astype(np.float64)
        if self.per_ms and ago_ms is not None:
            log -= ago_ms[: len(recent)] * self.per_ms
        say = self.read_weight[: len(recent)] * np.exp(log - log.max(initial=NEVER))  # (r,)
        gains = (self.weights[recent] * say.astype(np.float32)[:, None]).ravel()  # (r * slots,)
        ids = self.ids[recent].ravel()
        if DENSE * len(ids) >= used:  # a small catalogue: adding up in place is cheaper than finding what is equal
            sums = np.bincount(ids, gains, used)
            rows = np.flatnonzero(sums)
            return rows, (sums[rows] * self.target_scale[rows]).astype(np.float32)
        held = np.flatnonzero(gains)
        rows, gains = ids[held].astype(np.int64), gains[held]
        every = np.arange(len(rows))
        self.place_of[rows] = every  # the last place of an id stands for all of its places
        place = self.place_of[rows]
        sums = np.bincount(place, gains, len(rows))
        first = np.flatnonzero(place == every)
        rows = rows[first]
        return rows, (sums[first] * self.target_scale[rows]).astype(np.float32)

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
        now = since_ms * self.per_ms
        self._count(target, now)
        if not weight:
            return
        recent = recent[: self.config.reach]
        gain = self.write_weight[: len(recent)] * np.float32(weight)
        if self.per_ms and ago_ms is not None:
            gain = (gain * np.exp(-self.per_ms * ago_ms[: len(recent)])).astype(np.float32)
        other = (recent != target) & (gain > NEGLIGIBLE)
        if not other.all():
            recent, gain = recent[other], gain[other]
        if not len(recent):
            return
        worth = self._worth(recent, now)
        if worth.all():
            self._write_column(recent, target, gain * worth)
        else:  # so late that it counts for nothing
            seen = worth > 0
            self._write_column(recent[seen], target, (gain * worth)[seen])
        if self.config.symmetric:
            self._write_row(target, recent, gain * self._worth(np.array([target]), now))

    def _count(self, row: int, now: float) -> None:
        """One more event of an item: its past fades, its count grows."""
        self.own[row] += self.per_event
        own, before = float(self.own[row]), float(self.log_count[row])
        event = own + now
        log_count = max(before, event) + math.log1p(math.exp(-abs(before - event)))
        self.log_count[row] = log_count
        power = self.config.target_power
        self.target_scale[row] = math.exp(-power * (log_count - own)) if power else 1.0
        self._value(row)

    def _value(self, rows: int | Rows) -> None:
        """Log of what the weights of rows are worth now, but for the factor that all rows have in common."""
        own = self.own[rows]
        self.log_source[rows] = self.base[rows] - own - self.config.source_power * (self.log_count[rows] - own)
        self.touched_source[rows] = True

    def _worth(self, rows: Rows, now: float) -> NDArray[np.float32]:
        """What an event weighs in the units of different rows, (r,), which are rebased where it would be too much."""
        exponent = self.own[rows] + now - self.base[rows]
        high = exponent >= HIGHEST
        if high.any():
            self._rebase(rows[high], exponent[high], now)
            exponent[high] = 0.0
        worth: NDArray[np.float32] = np.exp(exponent).astype(np.float32)
        return worth

    def _rebase(self, rows: Rows, moved: NDArray[np.float64], now: float) -> None:
        """Take an event of now as the unit of rows, where it was exp(moved) units: what they hold gets less."""
        held = self.weights[rows] > 0
        self.touched[rows] |= held
        self.touched_rows[rows] |= held.any(1)
        self.weights[rows] *= np.exp(-moved)[:, None].astype(np.float32)
        self.base[rows] = self.own[rows] + now
        self._value(rows)

    def _write_column(self, rows: Rows, item: int, gain: NDArray[np.float32]) -> None:
        """A[row, item] += gain for many different rows and one item."""
        same = self.ids[rows] == item  # (r, slots), at most one a row
        slot = same.argmax(1)
        missed = ~same[np.arange(len(rows)), slot]
        if missed.any():
            new = rows[missed]
            lightest = self.weights[new].argmin(1)
            slot[missed] = lightest
            self.ids[new, lightest] = item
            self.weights[new, lightest] = 0.0
        self.weights[rows, slot] += gain
        self.touched[rows, slot] = True
        self.touched_rows[rows] = True

    def _write_row(self, row: int, items: Rows, gain: NDArray[np.float32]) -> None:
        """A[row, item] += gain for one row and many different items."""
        ids, weights = self.ids[row], self.weights[row]  # views: writes land in the tables
        self.slot_of[ids] = self.every_slot
        slot = self.slot_of[items]
        self.slot_of[ids] = -1
        missed = slot < 0
        if missed.any():
            new = items[missed]
            lightest = np.argsort(weights, kind="stable")[: len(new)]
            if len(lightest) < len(new):  # fewer slots than the reach: the newest entries have them
                kept = np.flatnonzero(missed)[len(lightest) :]
                items, slot = np.delete(items, kept), np.delete(slot, kept)
                gain, missed = np.delete(gain, kept), np.delete(missed, kept)
            slot[missed] = lightest
            weights[lightest] = 0.0
            ids[lightest] = items[missed]
        weights[slot] += gain
        self.touched[row, slot] = True
        self.touched_rows[row] = True

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
