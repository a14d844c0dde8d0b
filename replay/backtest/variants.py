"""Our model as it would have been served: published now and then, scored by the serving code, histories always live.

Before: one learner, which publishes at the finest cadence that any variant needs. After: ranks in the ledger. Each
variant holds a scorer of its own and takes the waiting deltas when it is due, so one learner feeds them all. Queries
between two publications share weights, and are scored in batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from headwater.recommendations import Recommendation, Request
from models.learner import Learner
from models.published.bundle import Bundle
from models.published.delta import Delta
from replay.backtest.queries import Query
from serving.catalogue import Catalogue
from serving.scorer import Scorer
from serving.scoring import Ask, score

__all__ = ["DEEPEST", "Variant", "Variants", "merged"]

DEEPEST = 20
"""Ranks up to here are exact; whatever is behind is written as 21."""

BATCH = 64
"""Queries scored at once."""

WAITING_DELTAS = 16
"""Deltas that wait for a variant before they are made into one: their dense weights repeat."""

HOUR_MS = 3_600_000


class Variant:
    """One cadence: every so many events, at every new hour of event time, or never after the first."""

    def __init__(self, name: str, catalogue: Catalogue, *, every: int = 0, hourly: bool = False) -> None:
        self.name = name
        self.every = every
        self.hourly = hourly
        self.scorer = Scorer(catalogue, "cpu")
        self.waiting: list[Delta] = []
        self.asked: list[Query] = []
        self.hour: int | None = None

    def is_due(self, place: int, time_ms: int) -> bool:
        """Whether the weights learned from the `place` events so far are to be published before the next one."""
        if self.every:
            return place % self.every == 0
        return self.hourly and self.hour is not None and time_ms // HOUR_MS > self.hour


class Variants:
    """All cadences of one learner. `answer(name, rank, item ids)` is called in stream order for every variant."""

    def __init__(
        self,
        learner: Learner,
        cadences: Sequence[int],
        exclude_seen: tuple[str, ...],
        answer: Callable[[str, int, Sequence[str]], None],
        *,
        frozen: bool = True,
        hourly: str = "",
    ) -> None:
        """`hourly` is the name of the variant that is published every hour; empty for none."""
        catalogue = Catalogue()
        self.learner = learner
        self.exclude_seen = exclude_seen
        self.answer = answer
        self.all = [Variant(f"headwater@{every}", catalogue, every=every) for every in sorted(set(cadences)) if every]
        if hourly:
            self.all.append(Variant(hourly, catalogue, hourly=True))
        if frozen:
            self.all.append(Variant("frozen", catalogue))

    def start(self, time_ms: int) -> None:
        """The end of the warm-up: every variant begins with the model as it is now."""
        if not self.all:
            return
        bundle = self.learner.publish(created_ms=time_ms, full=True)
        assert isinstance(bundle, Bundle)
        for variant in self.all:
            variant.scorer.load(bundle.copy(), time_ms)
            variant.hour = time_ms // HOUR_MS

    def advance(self, place: int, time_ms: int) -> None:
        """`place` events have been learned and the next one is at `time_ms`: publish to the variants that are due."""
        due = [variant for variant in self.all if variant.is_due(place, time_ms)]
        if not due:
            return
        delta = self.learner.publish(created_ms=time_ms)
        assert isinstance(delta, Delta)
        for variant in self.all:
            if not (variant.every or variant.hourly):
                continue
            variant.waiting.append(delta)
            if variant in due:
                self._flush(variant)
                for waiting in variant.waiting:
                    variant.scorer.apply(waiting, time_ms)
                variant.waiting = []
                variant.hour = time_ms // HOUR_MS
            elif len(variant.waiting) > WAITING_DELTAS:
                variant.waiting = [merged(variant.waiting)]

    def ask(self, query: Query) -> None:
        """Let every variant answer a query, now or when its batch is full or its weights change."""
        for variant in self.all:
            variant.asked.append(query)
            if len(variant.asked) == BATCH:
                self._flush(variant)

    def finish(self) -> None:
        """Answer what waits."""
        for variant in self.all:
            self._flush(variant)

    def _flush(self, variant: Variant) -> None:
        if not variant.asked:
            return
        asks = [
            Ask(
                Request(request_id="-", user_id=example.user_id, k=DEEPEST + 1, request_time=example.target.time_ms),
                example.history,
                at_ms=example.target.time_ms,
            )
            for example in (query.example for query in variant.asked)
        ]
        scored = score(variant.scorer, asks, now_ms=0, exclude_seen=self.exclude_seen)
        for query, answer in zip(variant.asked, scored.answers, strict=True):
            found = rank_in(answer, query.example.target.item_id)
            self.answer(variant.name, found, [item.item_id for item in answer.items])
        variant.asked = []


def rank_in(answer: Recommendation, item_id: str) -> int:
    """1-based rank in a list one longer than the deepest exact rank, ties against the item; else `DEEPEST + 1`.

    Whatever ties with the item is in the list too or the list ends with the tie, and then the rank is past the deepest.
    """
    mine = next((item.score for item in answer.items if item.item_id == item_id), None)
    if mine is None:
        return DEEPEST + 1
    return sum(item.score >= mine for item in answer.items)


def merged(deltas: Sequence[Delta]) -> Delta:
    """One delta from the first one's parent to the last one's version: of each number, the newest value."""
    first, last = deltas[0], deltas[-1]
    rows = {}
    for name in last.rows:
        places = np.concatenate([delta.rows[name][0] for delta in reversed(deltas)])
        values = np.concatenate([delta.rows[name][1] for delta in reversed(deltas)])
        kept, newest = np.unique(places, return_index=True)  # the first occurrence, which is the newest
        rows[name] = kept, values[newest]
    dense = {name: array for delta in deltas for name, array in delta.dense.items()}
    items = {row: owner for delta in deltas for row, owner in delta.items}
    return Delta(
        version=last.version,
        parent_version=first.parent_version,
        parent=first.parent,
        digest=last.digest,
        created_ms=last.created_ms,
        capacity=last.capacity,
        metrics=last.metrics,
        extra=last.extra,
        types=last.types,
        items=sorted(items.items()),
        dense=dense,
        rows=rows,
    )
