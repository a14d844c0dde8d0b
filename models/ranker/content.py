"""What the catalogue tells of each item, a row each, and what is learned of which content goes with which.

Before: the learner tells of each item that gets a row, and of new records of those that have one. After: `facts` reads
tables and taste, the learner's as of the start of a query's block, serving's as published. Knows rows, not item ids.

Of a modality, with the profile p of a history and the sketch c of a candidate (`models.content`),

    like the history = p @ taste[:SIZE] @ c        at first the cosine: the taste starts as 1 on its diagonal
    liked by all     = taste[SIZE] @ c             at first some direction

and both are facts like others: what they teach the taste is the network's gradient at them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.content import MODALITIES, SIZE, VECTORS, Sketch
from models.experts.network import Network
from models.part import CAPACITY, Changes, Input, Part
from models.ranker.affinity import KNOWN, MISSING, NAME_BYTES, NAMED, NUMBERS, first_taste

__all__ = ["ItemContent", "Taste"]

LEARNING_RATE = 5e-3

Array = NDArray[np.float32]


class ItemContent(Part):
    """`content` (capacity, MODALITIES, SIZE) int8 and `numbers` (capacity, NUMBERS) float32, logarithms, sign kept.

    `known` (KNOWN,) says of how many rows each modality and each number is told. `stale` are rows whose item has a new
    record: they are told anew when the block is over, so that no query sees what came after it.
    """

    def __init__(self, capacity: int) -> None:
        self.content = np.zeros((capacity, MODALITIES, SIZE), np.int8)
        self.numbers = np.full((capacity, NUMBERS), MISSING, np.float32)
        self.known = np.zeros(KNOWN, np.float32)
        self.names = np.zeros((NAMED, NAME_BYTES), np.uint8)  # UTF-8, then zeros
        self.touched = np.zeros(capacity, bool)
        self.stale: dict[int, None] = {}

    def put(self, row: int, sketch: Sketch, numbers: Mapping[int, float]) -> None:
        """What is told of a row's item from now on, its numbers by column."""
        self.stale.pop(row, None)
        if not (self.known.any() or sketch.any() or numbers):
            return
        self.known -= self._told([row])
        self.content[row] = sketch
        self.numbers[row] = [_log(numbers[n]) if n in numbers else MISSING for n in range(NUMBERS)]
        self.known += self._told([row])
        self.touched[row] = True

    def name(self, vectors: Iterable[str], numbers: Iterable[str]) -> None:
        """What the catalogue calls the columns, in their order; a column keeps its name."""
        for first, names in ((0, vectors), (VECTORS, numbers)):
            for place, name in zip(range(first, VECTORS if first == 0 else NAMED), names, strict=False):
                if not self.names[place].any():
                    text = name.encode(errors="replace")[:NAME_BYTES]
                    self.names[place, : len(text)] = np.frombuffer(text, np.uint8)

    def _told(self, rows: list[int]) -> NDArray[np.int64]:
        """Of how many of these rows each modality and each number is told, (KNOWN,)."""
        told = np.concatenate([self.content[rows].any(2), self.numbers[rows] > MISSING], 1)
        found: NDArray[np.int64] = told.sum(0)
        return found

    def grow(self, capacity: int) -> None:
        """Room for more items."""
        more = capacity - len(self.content)
        self.content = np.concatenate([self.content, np.zeros((more, MODALITIES, SIZE), np.int8)])
        self.numbers = np.concatenate([self.numbers, np.full((more, NUMBERS), MISSING, np.float32)])
        self.touched = np.concatenate([self.touched, np.zeros(more, bool)])

    def clear(self, rows: list[int]) -> None:
        """Forget items."""
        for row in rows:
            self.stale.pop(row, None)
        if self.known.any():
            self.known -= self._told(rows)
            self.content[rows], self.numbers[rows], self.touched[rows] = 0, MISSING, True

    def inputs(self) -> dict[str, Input]:
        """Tables by row, of how many rows each is told, and what it is called."""
        return {
            "ranker_content": Input(np.int8, (CAPACITY, MODALITIES, SIZE)),
            "ranker_numbers": Input(np.float32, (CAPACITY, NUMBERS), MISSING),
            "ranker_known": Input(np.float32, (KNOWN,)),
            "ranker_names": Input(np.uint8, (NAMED, NAME_BYTES)),
        }

    def weights(self) -> dict[str, NDArray[Any]]:
        """The tables as they are."""
        tables: dict[str, NDArray[Any]] = {"ranker_content": self.content, "ranker_numbers": self.numbers}
        return tables | {"ranker_known": self.known, "ranker_names": self.names}

    def read(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Be the published tables; of a model of an earlier release nothing is told."""
        if "ranker_content" in weights:
            self.content, self.numbers = weights["ranker_content"], weights["ranker_numbers"]
            self.known, self.names = weights["ranker_known"], weights["ranker_names"]

    def take_changes(self) -> Changes:
        """Rows that were told anew."""
        rows = np.flatnonzero(self.touched)
        self.touched[:] = False
        return Changes(["ranker_known", "ranker_names"], {"ranker_content": rows, "ranker_numbers": rows})

    def state(self) -> dict[str, NDArray[Any]]:
        """The tables."""
        return {name.replace("_", "."): table for name, table in self.weights().items()}

    def values(self) -> dict[str, Any]:
        """Rows that wait for the block's end."""
        return {"ranker_stale": list(self.stale)} if self.stale else {}

    def restore(self, values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:  # noqa: ARG002
        """Back to what `values` returned."""
        self.stale = dict.fromkeys(values.get("ranker_stale", ()))


class Taste(Network):
    """The learned weights, `ranker_taste`."""

    label = "ranker.taste"

    def __init__(self) -> None:
        super().__init__({"ranker_taste": torch.from_numpy(first_taste())}, LEARNING_RATE)
        self.taught = np.zeros(first_taste().shape, np.float32)
        self._taste: Array | None = None

    @property
    def taste(self) -> Array:
        """(MODALITIES, SIZE + 1, SIZE)."""
        if self._taste is None:
            self._taste = self.weights()["ranker_taste"]
        return self._taste

    def read(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Be the published weights; a model of an earlier release has none."""
        if "ranker_taste" in weights:
            super().read(weights)
            self._taste = None

    def step(self) -> None:
        """One step on what a block taught."""
        if self.taught.any():
            self.descend({"ranker_taste": self.taught})
            self.taught[:] = 0.0


def _log(number: float) -> float:
    return math.copysign(math.log1p(abs(number)), number)
