"""A part of a model: weights that are published, kept in checkpoints, grown and cleared.

The experts are parts, and so are the gate and the counts behind the rule `auto`. Publication, checkpoint, graph and
parity loop over parts and know no more of them than this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from models.sequence.optimizer import Adam

__all__ = ["CAPACITY", "LATER", "OWN_ROW", "Changes", "Input", "Part", "weight_of"]

Rows = NDArray[np.int64]

CAPACITY = "capacity"
"""The dimension of a weight that has one row per item."""

LATER = frozenset({"fatigue_weight", "session_start", "session_fresh", "gate_fresh"})
"""Weights that models of an earlier release lack: as long as they are zeros it is as if they were not there."""

OWN_ROW = None
"""Fill of a table of row numbers: a free row holds its own."""


class Input(NamedTuple):
    """A weight of the served model.

    Fields
        dtype: of numpy.
        shape: begins with CAPACITY, of a table that has a row per item; with another name, of arrays (P,) that share
            the places of a pool of this name; else numbers.
        fill: what free rows and places hold. OWN_ROW: the array holds row numbers; free places hold 0.
    """

    dtype: type[np.generic]
    shape: tuple[int | str, ...]
    fill: float | None = 0.0


class Changes(NamedTuple):
    """What a publication has to send of a part: weights that are sent whole, changed rows and changed places by name.

    Places are those of a pool.
    """

    dense: Sequence[str] = ()
    rows: Mapping[str, Rows] = {}
    places: Mapping[str, Rows] = {}


def weight_of(weights: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """A published weight; zeros where its model is of a release that had none."""
    found = weights.get(name)
    return np.zeros(shape, np.float32) if found is None and name in LATER else weights[name]


class Part:
    """Weights: published, kept in checkpoints, grown and cleared. Whatever a part has none of, it leaves out."""

    def inputs(self) -> dict[str, Input]:
        """The weights that the graph takes from this part, by name."""
        return {}

    def weights(self) -> dict[str, NDArray[Any]]:
        """These weights as they are now, views where possible."""
        return {}

    def read(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Become what was published: enough to give opinions, not to learn on."""

    def take_changes(self) -> Changes:
        """What changed since the last publication; forgets it."""
        return Changes()

    def state(self) -> dict[str, NDArray[Any]]:
        """Every array of a checkpoint by name, as views that can be written into."""
        return {}

    def packed(self) -> dict[str, NDArray[Any]]:
        """More arrays of a checkpoint, as long as what is known; `restore` takes them in."""
        return {}

    def adams(self) -> dict[str, Adam]:
        """Optimizers by the name of the weights that they step; their moments and steps are state, too."""
        return {}

    def values(self) -> dict[str, Any]:
        """The rest of the state, as JSON-able values under names that are its own."""
        return {}

    def restore(self, values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Back to what `values` returned. `state` has been written into; `arrays` are all of the checkpoint."""

    def grow(self, capacity: int) -> None:
        """Room for more items."""

    def clear(self, rows: list[int]) -> None:
        """Forget items that were let go."""

    def known_users(self) -> set[str]:
        """Everybody of whose past something is kept."""
        return set()

    def forget_user(self, user_id: str) -> None:
        """Keep nothing of somebody's past."""

    def move(self, device: str) -> None:
        """Take tensors to a device."""
