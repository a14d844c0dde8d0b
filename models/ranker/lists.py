"""A list that was shown, as the ranker learns from it, and how much its places say: both are of learning alone.

Before: `second` made facts of a list at its own moment; `models.shown` waited for what was reacted to. After: the
network learned which of the list it was. Whatever stands first is reacted to more, whatever it is: a number for each
place takes that up in the list's softmax, and no answer has it. So a place is no reason for an item.

Source
    Zhao et al.: Recommending what video to watch next: a multitask ranking system, 2019 (the shallow tower).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from models.experts.network import Network
from models.part import Changes, Input

__all__ = ["PLACES", "PlaceBias", "TaughtList"]

PLACES = 64
"""Places that have a number of their own, from 1; further ones share the last, and 0 is of places that nobody told."""

LEARNING_RATE = 1e-2

Array = NDArray[np.float32]


class TaughtList(NamedTuple):
    """A list of which something was reacted to; C of its items had a row when it was shown.

    Fields
        facts: (C, F), `facts.facts_of`.
        plain: (C,) fused scores.
        places: (C,) from 1, 0 where that is not known.
        chosen: (C,) what the reactions weigh, 0 where there was none.
        types: of each type of reaction that has a head, its index: what these reactions weigh, (C,).
    """

    facts: Array
    plain: Array
    places: NDArray[np.int64]
    chosen: Array
    types: dict[int, Array] = {}  # noqa: RUF012 - nobody writes into it


class PlaceBias(Network):
    """What each place adds to the log-odds of a reaction. It is kept in checkpoints and published nowhere."""

    label = "ranker_places"

    def __init__(self) -> None:
        super().__init__({"ranker_places": torch.zeros(PLACES + 1)}, LEARNING_RATE)

    def of(self, places: NDArray[np.int64]) -> Array:
        """Of each of some places."""
        found: Array = self.flat.numpy()[np.minimum(places, PLACES)]
        return found

    def inputs(self) -> dict[str, Input]:
        """The graph takes none of it."""
        return {}

    def weights(self) -> dict[str, NDArray[Any]]:
        """None are published."""
        return {}

    def read(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """A bundle has none of it."""

    def take_changes(self) -> Changes:
        """None."""
        return Changes()
