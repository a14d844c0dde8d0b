"""New items: those that few events have spoken for, by what the model has counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from models.ranker.facts import FEW_EVENTS, POSITIVE
from serving.filters import Mask

__all__ = ["few_events"]


def few_events(weights: Mapping[str, npt.NDArray[Any]]) -> Mask:
    """Which rows had at most FEW_EVENTS, (capacity,). Of a model that counts none, of an earlier release: none."""
    items = weights.get("ranker_items")
    if items is None:
        return np.zeros(len(weights["popularity"]), bool)
    return np.asarray(items[:, POSITIVE] <= FEW_EVENTS)
