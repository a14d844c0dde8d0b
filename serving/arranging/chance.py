"""Chance: the probability of each item at a place, and the draw.

Before: `arrange` says what a place may hold, and what each is worth there. After: one of them, with its propensity: the
very number that it was drawn by.

The base takes the best, or draws by softmax(value / temperature): with the items above gone from the next place this is
the Plackett-Luce model (Plackett 1975); or it is what draws of the ranker say (`thompson`). With chance `epsilon` any
item is as good as another, and then with chance `new_items` any new one.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from headwater.surfaces import Exploration
from serving.filters import Mask

__all__ = ["chances", "draw", "explores", "mixed", "spread_of", "uniform"]

Array = npt.NDArray[Any]


def explores(explore: Exploration) -> bool:
    """Whether anything is left to chance."""
    return bool((explore.temperature and explore.by != "epsilon") or explore.epsilon or explore.new_items)


def spread_of(explore: Exploration) -> float:
    """How far draws of what the ranker could mean go from what it says; 0: there are none."""
    return explore.temperature if explore.by == "thompson" else 0.0


def chances(explore: Exploration, values: Array, new: Mask, drawn: Mask, base: Array | None = None) -> Array:
    """The probability of each item of a place, (n,): their sum is 1.

    Parameters
        explore: how far it is left to chance.
        values: (n,) float64, best first where they are equal.
        new: which had few events.
        drawn: what base and epsilon may draw; the others have no more than the share of new items.
        base: what it is before epsilon and new items, where draws say so.
    """
    if base is None:
        base = _base(explore, values, drawn)
    chance = mixed(explore, base, new, drawn)
    likely = np.flatnonzero(chance)
    if len(likely) == 1:
        chance[likely] = 1.0  # whatever rounding left of it
    return np.minimum(chance, 1.0)


def _base(explore: Exploration, values: Array, drawn: Mask) -> Array:
    chance = np.zeros(len(values))
    if explore.by == "plackett-luce" and explore.temperature:
        with np.errstate(over="ignore"):  # of a temperature that is next to none: what is not the best has no chance
            worth = np.exp((values[drawn] - values[drawn].max()) / explore.temperature)
        chance[drawn] = worth / worth.sum()
    else:
        best = np.flatnonzero(drawn)
        chance[best[np.argmax(values[best])]] = 1.0
    return chance


def mixed(explore: Exploration, chance: Array, new: Mask, drawn: Mask) -> Array:
    """What epsilon and new items make of each item's chance, (n,), whatever the others' is."""
    if explore.epsilon:
        chance = (1 - explore.epsilon) * chance + explore.epsilon * drawn / drawn.sum()
    if explore.new_items and new.any():
        chance = (1 - explore.new_items) * chance + explore.new_items * new / new.sum()
    return chance


def draw(chance: Array, number: float) -> int:
    """The item that a number of [0, 1) falls on; never one without a chance."""
    reach = np.cumsum(chance)
    found = int(np.searchsorted(reach, number * reach[-1], side="right"))
    return min(found, int(np.flatnonzero(chance)[-1]))  # rounded up to the end


def uniform(seed: str, place: int) -> float:
    """A number of [0, 1) for a place of a list, the same wherever the list is made anew."""
    digest = blake2b(f"{place}:{seed}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) * 2.0**-53
