"""Newness: how long an item has been in the stream. The example of docs/new-expert.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from models.block import Block
from models.experts.expert import Dense, Event, OptionalExpert
from models.onnx_nodes import Nodes
from models.part import CAPACITY, Changes, Input

NEVER_H = -1e9
"""Hour of the first event of a row that has had none."""


class Newness(OptionalExpert):
    """Says exp(-age / `hours`), (N,): 1 for what has just had its first event. `first` (capacity,) is in hours."""

    name = part = "newness"
    reason = "new"

    class Settings(BaseModel, extra="forbid", frozen=True):
        """Settings of `model.overrides.experts.newness`."""

        hours: float = Field(default=24.0, gt=0, description="Age at which newness has fallen to 1/e.")

    def __init__(self, settings: Settings, capacity: int) -> None:
        self.hours = settings.hours
        self.first, self.now = np.full(capacity, NEVER_H, np.float32), np.zeros(1, np.float32)
        self.touched: set[int] = set()

    def count(self, event: Event) -> None:
        self.now[0] = max(self.now[0], event.since_ms / 3.6e6)
        if self.first[event.row] == np.float32(NEVER_H):
            self.first[event.row] = event.since_ms / 3.6e6
            self.touched.add(event.row)

    def opinions(self, block: Block, i: int) -> list[Dense]:
        return [Dense(np.exp((self.first[: block.used] - self.now) / np.float32(self.hours)))]

    def grow(self, capacity: int) -> None:
        self.first = np.concatenate([self.first, np.full(capacity - len(self.first), NEVER_H, np.float32)])

    def clear(self, rows: list[int]) -> None:
        self.first[rows] = NEVER_H
        self.touched.update(rows)

    def inputs(self) -> dict[str, Input]:
        return {"newness_first": Input(np.float32, (CAPACITY,), NEVER_H), "newness_now": Input(np.float32, (1,))}

    def weights(self) -> dict[str, NDArray[Any]]:
        return {"newness_first": self.first, "newness_now": self.now}

    def read(self, weights: Mapping[str, NDArray[Any]]) -> None:
        self.first, self.now = weights["newness_first"], weights["newness_now"]

    def take_changes(self) -> Changes:
        rows, self.touched = np.array(sorted(self.touched), np.int64), set()
        return Changes(dense=["newness_now"], rows={"newness_first": rows})

    def state(self) -> dict[str, NDArray[Any]]:
        return self.weights()

    def nodes(self, add: Nodes, trust: str, nothing: str) -> str:
        age = add("Div", add("Sub", "newness_first", "newness_now"), add.float(self.hours))
        return add("Mul", trust, add("Exp", age))
