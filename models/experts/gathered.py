"""Events of blocks that rest, gathered until one compiled loop a memory learns all of them.

Before: the learner adds each event, in log order, with the newest of its history. After: every expert that learns at
once, but popularity and the ranker's counts, was told of all of them, the same bits as one by one. Whoever looks at
such an expert, or changes its tables, calls `settle` first. Knows rows, and of a history only what a memory hears.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater.examples import Entry, newest_columns
from headwater.signals import Meaning
from models.compiled import compiled
from models.config import ModelConfig
from models.experts.expert import Expert, LearnedRun

__all__ = ["GatheredEvents"]

Rows = NDArray[np.int64]
Doubles = NDArray[np.float64]

NO_ROW, NOT_LIKED = -1, -2
"""What stands for an entry without a row, or merely shown; and for one that does not speak for its item."""


class HeardHistory(NamedTuple):
    """The newest of a history, oldest first: rows, see `NO_ROW`, and epoch ms."""

    rows: list[int]
    times: Sequence[int]


class GatheredEvents:
    """Waits between two calls of `settle`, never longer than a call of the learner.

    Parameters
        config: of the model: how much of a history is read, and what its entries mean.
        experts: to be told of the events.
    """

    def __init__(self, config: ModelConfig, experts: Sequence[Expert]) -> None:
        self._experts = [one for one in experts if (type(one).count, type(one).count_run) != NOTHING_TO_COUNT]
        self._meanings = config.meanings
        self._length = config.length
        self._most = max((one.reach for one in config.memories), default=0)
        self._timed = max((one.reach for one in config.memories if one.half_life_hours), default=0)
        self._plain: set[str] = set()  # types that speak for their item whatever the value
        self._begin()

    def _begin(self) -> None:
        self._rows: list[int] = []  # of the entries of all histories, see `NO_ROW`
        self._times: list[int] = []  # of each of these
        self._ends: list[int] = [0]  # where the history of each event ends among them
        self._targets: list[tuple[int, int, int, float]] = []  # row, time, since the first event, weight
        self._since: list[int] = []  # ms from the newest entry to the event

    def heard(self, history: Sequence[Entry], item_rows: Mapping[str, int]) -> HeardHistory:
        """What memories hear of a history, by the rows that items have now: before the event's own item gets one."""
        items, kinds, times, values, _ = newest_columns(history, self._length + 1)
        rows = [*map(item_rows.get, items, repeat(NO_ROW))]
        if not self._plain.issuperset(kinds):
            rows = [self._said(*one) for one in zip(rows, kinds, values, strict=True)]
        return HeardHistory(rows, times)

    def add(self, heard: HeardHistory, row: int, time_ms: int, since_ms: int, weight: float) -> None:
        """One event more: what `heard` said of the history before it, and the rest as of `LearnedEvent`."""
        rows, times = heard
        self._rows += rows
        self._times += times
        self._ends.append(len(self._rows))
        self._targets.append((row, time_ms, since_ms, weight))
        self._since.append(max(time_ms - times[-1], 0) if times else 0)

    def _said(self, row: int, kind: str, value: float | None) -> int:
        meaning = self._meanings.meaning(kind, value)
        if meaning is Meaning.POSITIVE:
            if not self._meanings.of(kind).by_value:
                self._plain.add(kind)
            return row
        return NO_ROW if row < 0 or meaning is Meaning.EXPOSURE else NOT_LIKED

    def settle(self) -> None:
        """Let the experts learn what was added."""
        if not self._targets:
            return
        rows, times, ends = (np.array(one, np.int64) for one in (self._rows, self._times, self._ends))
        recent, starts, gaps, gap_starts, steps = _distinct(rows, times, ends, self._length, self._most, self._timed)
        ago_ms = np.zeros(len(recent))
        if self._timed:
            gone = np.expm1(gaps * 10.0) * 1000.0
            _tell_ago(ago_ms, starts, gone, gap_starts, steps, np.array(self._since, np.int64), self._timed)
        row, time_ms, since_ms, weight = zip(*self._targets, strict=True)
        run = LearnedRun(
            rows=np.array(row, np.int64),
            times_ms=np.array(time_ms, np.int64),
            since_ms=np.array(since_ms, np.int64),
            weights=np.array(weight, np.float64),
            recent=recent,
            ago_ms=ago_ms,
            starts=starts,
        )
        self._begin()
        for expert in self._experts:
            expert.count_run(run)


NOTHING_TO_COUNT = (Expert.count, Expert.count_run)


@compiled
def _distinct(
    rows: Rows, times: Rows, ends: Rows, length: int, most: int, timed: int
) -> tuple[Rows, Rows, Doubles, Rows, Rows]:
    """Of each history the newest `most` different rows that are liked, newest first, and the gaps before the newest
    steps, as `encode_entries` has them, as far as `timed` rows ask for: `steps` says at which of them a row stands.

    Of histories that are longer than `length` the first entry only tells when it was.
    """
    events = len(ends) - 1
    recent, steps = np.empty(events * most, np.int64), np.empty(events * most, np.int64)
    gaps = np.empty(len(rows))
    starts, gap_starts = np.zeros(events + 1, np.int64), np.zeros(events + 1, np.int64)
    found = kept = 0
    for event in range(events):
        begin, end = ends[event], ends[event + 1]
        first = begin + 1 if end - begin > length else begin
        for at in range(end - 1, first - 1, -1):
            row = rows[at]
            if row == NO_ROW:
                continue
            if row >= 0:
                known = False
                for other in range(starts[event], found):
                    if recent[other] == row:
                        known = True
                        break
                if not known:
                    recent[found], steps[found] = row, kept - gap_starts[event]
                    found += 1
            if found - starts[event] <= timed:
                gap_ms = times[at] - times[max(at - 1, begin)]
                gaps[kept] = math.log1p(gap_ms / 1000.0) / 10.0 if gap_ms > 0 else 0.0
                kept += 1
            if found - starts[event] >= most:
                break
        starts[event + 1], gap_starts[event + 1] = found, kept
    return recent[:found], starts, gaps[:kept], gap_starts, steps[:found]


@compiled
def _tell_ago(
    ago_ms: Doubles, starts: Rows, gone: Doubles, gap_starts: Rows, steps: Rows, since_ms: Rows, timed: int
) -> None:
    """How long before its event each of the newest `timed` rows was, added up as `behind_ms` does; 0 of the others."""
    for event in range(len(since_ms)):
        row, last = starts[event], min(starts[event + 1], starts[event] + timed)
        total, since = 0.0, float(since_ms[event])
        for step in range(gap_starts[event + 1] - gap_starts[event]):
            one = gone[gap_starts[event] + step]
            total += one
            while row < last and steps[row] == step:
                ago_ms[row] = total - one + since
                row += 1
