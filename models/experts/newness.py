"""Newness: how long an item has been in the stream. The expert that docs/new-expert.md builds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from models.block import Block
from models.experts.expert import Dense, LearnedEvent, OptionalExpert
from models.onnx_nodes import Nodes

HOUR_MS = 3_600_000.0
NEVER = -1e9  # the hour of the first event of a row that has had none


class Newness(OptionalExpert):
    """Says exp(-age / `hours`), (N,): 1 for what had its first event just now. Hours count from the first event."""

    name = part = "newness"
    reason = "new"

    class Settings(BaseModel, extra="forbid", frozen=True):
        """How long new lasts."""

        hours: float = Field(default=24.0, gt=0, description="Age at which newness has fallen to 1/e.")

    def __init__(self, settings: Settings, capacity: int) -> None:
        super().__init__(settings, capacity)
        self.table("first", fill=NEVER)
        self.numbers["now"] = np.zeros(1, np.float32)
        self.landmark_ms = 0  # epoch, of hour 0

    def count(self, event: LearnedEvent) -> None:
        self.landmark_ms = event.time_ms - event.since_ms
        self.numbers["now"][0] = max(self.numbers["now"][0], event.since_ms / HOUR_MS)
        if self.tables["first"][event.row] == np.float32(NEVER):
            self.tables["first"][event.row] = event.since_ms / HOUR_MS
            self.touched[event.row] = True

    def opinions(self, block: Block, i: int) -> list[Dense]:
        latest_ms = block.examples[i].newest_before  # the query's own now
        now = self.numbers["now"] if latest_ms is None else np.float32((latest_ms - self.landmark_ms) / HOUR_MS)
        age = np.maximum(now - self.tables["first"][: block.used], 0)  # 0: its first event is later in this block
        return [Dense(np.exp(-age / np.float32(self.settings.hours)))]

    def nodes(self, add: Nodes, trust: str, nothing: str) -> str:
        age = add("Sub", "newness_first", "newness_now")  # (N,), negative
        return add("Mul", trust, add("Exp", add("Div", age, add.float(self.settings.hours))))

    def values(self) -> dict[str, Any]:
        return {"newness_landmark_ms": self.landmark_ms}

    def restore(self, values: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
        self.landmark_ms = values["newness_landmark_ms"]
