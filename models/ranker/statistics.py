"""What is counted of each item for the ranker: events for and against it, first and last, and how often it was shown.

Before: the learner tells of every event and of every list that is shown. After: `facts` reads rows of it, the learner's
as of a query's own moment, serving's as published. Knows rows, not item ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.block import Block, Pending
from models.experts.expert import Expert, LearnedEvent
from models.part import CAPACITY, OWN_ROW, Changes, Input
from models.ranker.facts import EXPOSURES, FIRST, HOUR_MS, ITEM, LAST, NEGATIVE, POSITIVE, WEIGHT

__all__ = ["ALIKE", "RankerItems"]

ALIKE = 8
"""Items of like content that are kept of each: what came last of those that it is like."""

LEAST_HOURS = 1e-3
"""No event is earlier: 0 is none. The landmark is an hour before the first event."""

Array = NDArray[np.float32]
Rows = NDArray[np.int64]


class RankerItems(Expert):
    """`items` (capacity, len(ITEM)) float32; `alike` (capacity, ALIKE) int32, rows, its own where there is none.

    It has no opinion and is asked as experts are only to go back to a query's moment: after `ask`, `asked` (used, ...)
    is `items` as of the example that was last rewound, and `asked_alike` is `alike`.
    """

    name = "ranker_items"
    part = "ranker"
    trusts = 0

    def __init__(self, capacity: int) -> None:
        self.landmark_ms: int | None = None
        self.items = np.zeros((capacity, len(ITEM)), np.float32)
        self.alike = np.repeat(np.arange(capacity, dtype=np.int32)[:, None], ALIKE, 1)
        self.touched = np.zeros(capacity, bool)
        self.touched_alike = np.zeros(capacity, bool)
        self.asked, self.asked_alike = self.items[:0], self.alike[:0]
        self.asked_positive = self.asked[:, POSITIVE].copy()  # for whoever looks at it of all rows
        self._related: list[Any] = []  # by the example that arrives: rows of `alike` and what they were
        self.standing = np.zeros(0, np.int64)  # `candidates.standing_of` at the end of the last block

    def start(self) -> list[float]:
        """The gate has no say."""
        return []

    def hours(self, time_ms: int) -> float:
        """Since the landmark."""
        if self.landmark_ms is None:
            self.landmark_ms = time_ms - round(HOUR_MS)
        return max((time_ms - self.landmark_ms) / HOUR_MS, LEAST_HOURS)

    def note(self, example: Pending) -> None:
        """What is counted of the item, or of the items of a list, before it."""
        if example.listed is not None:
            rows = [row for row in example.listed.rows if row >= 0]
            example.notes[self.name] = [rows, self.items[rows].tolist()]
            self.show(rows)
        elif example.row >= 0:
            example.notes[self.name] = [[example.row], self.items[[example.row]].tolist(), *self._related]
        self._related = []

    def show(self, rows: Sequence[int]) -> None:
        """Items were shown."""
        self.items[rows, EXPOSURES] += 1
        self.touched[rows] = True

    def count(self, event: LearnedEvent) -> None:
        """An event spoke for its item."""
        item = self._seen(event.row, event.time_ms)
        item[POSITIVE] += 1
        item[WEIGHT] += event.weight

    def meet(self, row: int, time_ms: int, against: bool) -> None:
        """An event did not speak for its item."""
        self._seen(row, time_ms)[NEGATIVE] += against

    def _seen(self, row: int, time_ms: int) -> Array:
        item: Array = self.items[row]
        hours = self.hours(time_ms)
        if not item[FIRST]:
            item[FIRST] = hours
        item[LAST] = max(item[LAST], hours)
        self.touched[row] = True
        return item

    def take_back(self, event: LearnedEvent) -> None:
        """An event is undone; when it was stays."""
        item = self.items[event.row]
        if item[POSITIVE] > 0:
            item[POSITIVE] -= 1
            item[WEIGHT] = max(item[WEIGHT] - event.weight, 0)
            self.touched[event.row] = True

    def relate(self, row: int, others: Sequence[int]) -> None:
        """An item got a row and is like these, the most like it first: each knows of the other.

        `note` of the example that brought the item comes next.
        """
        rows = [row, *others[:ALIKE]]
        self._related = [rows, self.alike[rows].tolist()]
        self.alike[row, : len(others)] = others[:ALIKE]
        for other in others[:ALIKE]:
            self.alike[other, 1:] = self.alike[other, :-1].copy()
            self.alike[other, 0] = row
        self.touched_alike[rows] = True

    def pass_over(self) -> None:
        """The example that arrives is not noted: nobody goes back to before it."""
        self._related = []

    def ask(self, block: Block) -> None:
        """As of after the block; `rewind` goes back from there."""
        self.asked, self.asked_alike = self.items[: block.used].copy(), self.alike[: block.used]
        self.asked_positive = self.asked[:, POSITIVE].copy()
        if any(len(example.notes.get(self.name, ())) > 2 for example in block.examples):
            self.asked_alike = self.asked_alike.copy()

    def rewind(self, example: Pending) -> None:
        """What the example told is not yet known."""
        noted = example.notes.get(self.name)
        if noted:
            rows, before, *related = noted
            self.asked[rows] = np.array(before, np.float32).reshape(-1, len(ITEM))
            self.asked_positive[rows] = self.asked[rows, POSITIVE]
            if related:
                self.asked_alike[related[0]] = np.array(related[1], np.int32)

    def grow(self, capacity: int) -> None:
        """Room for more items."""
        before = len(self.items)
        more = capacity - before
        self.items = np.concatenate([self.items, np.zeros((more, len(ITEM)), np.float32)])
        rows = np.arange(before, capacity, dtype=np.int32)
        self.alike = np.concatenate([self.alike, np.repeat(rows[:, None], ALIKE, 1)])
        self.touched = np.concatenate([self.touched, np.zeros(more, bool)])
        self.touched_alike = np.concatenate([self.touched_alike, np.zeros(more, bool)])

    def clear(self, rows: list[int]) -> None:
        """Forget items, and that others are like them."""
        self.items[rows] = 0
        self.touched[rows] = True
        gone = np.zeros(len(self.items), bool)
        gone[rows] = True
        pointing = gone[self.alike]
        pointing[rows] = True
        self.alike[pointing] = pointing.nonzero()[0]
        self.touched_alike |= pointing.any(1)

    def inputs(self) -> dict[str, Input]:
        """Tables by row, and what their hours are counted from (epoch ms, float64)."""
        return {
            "ranker_items": Input(np.float32, (CAPACITY, len(ITEM))),
            "ranker_alike": Input(np.int32, (CAPACITY, ALIKE), OWN_ROW),
            "ranker_landmark_ms": Input(np.float64, (1,)),
        }

    def weights(self) -> dict[str, NDArray[Any]]:
        """The tables as they are."""
        landmark = np.array([self.landmark_ms or 0], np.float64)
        return {"ranker_items": self.items, "ranker_alike": self.alike, "ranker_landmark_ms": landmark}

    def read(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Be the published tables; a model of an earlier release has none."""
        if "ranker_items" in weights:
            self.items, self.alike = weights["ranker_items"], weights["ranker_alike"]
            self.landmark_ms = int(weights["ranker_landmark_ms"][0]) or None

    def take_changes(self) -> Changes:
        """Rows that were told of."""
        rows, alike = np.flatnonzero(self.touched), np.flatnonzero(self.touched_alike)
        self.touched[:] = self.touched_alike[:] = False
        return Changes(dense=["ranker_landmark_ms"], rows={"ranker_items": rows, "ranker_alike": alike})

    def state(self) -> dict[str, NDArray[Any]]:
        """The tables."""
        return {"ranker.items": self.items, "ranker.alike": self.alike}

    def values(self) -> dict[str, Any]:
        """The landmark, and what is a candidate of every query until the next step."""
        return {"ranker_landmark_ms": self.landmark_ms, "ranker_standing": self.standing.tolist()}

    def restore(self, values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Back to what `values` returned; a checkpoint of an earlier release tells what popularity knows."""
        self.landmark_ms = values.get("ranker_landmark_ms")
        self.standing = np.array(values.get("ranker_standing", []), np.int64)
        if "ranker.items" not in arrays:
            counts = arrays["popularity.counts"]
            self.items[: len(counts), POSITIVE] = self.items[: len(counts), WEIGHT] = counts
