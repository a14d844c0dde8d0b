"""New items: those that few events have spoken for, by what the model has counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from models.ranker.facts import POSITIVE, are_new
from serving.filters import Mask

__all__ = ["few_events"]


def few_events(weights: Mapping[str, npt.NDArray[Any]]) -> Mask:
    """Which rows had few events (`are_new`), (capacity,). Of a model that counts none, of an earlier release: none."""
    items = weights.get("ranker_items")
    if items is None:
        return np.zeros(len(weights["popularity"]), bool)
    return are_new(items[:, POSITIVE])
