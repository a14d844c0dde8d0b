"""What the network of `repeats` says of the items of a history, as one loop: the compiled form of the graph's nodes.

Most facts are zeros of types that a step is not of, and a history repeats itself: so a step costs twenty rows of the
network's first layer and not all 109. Loads nothing that learns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater.errors import BundleError
from models.compiled import compiled

__all__ = ["NUMBERS", "said_of_own"]

NUMBERS = 10
"""Facts that are numbers; `repeats.facts_of` has them in order. Then come three facts per type."""

Array = NDArray[np.float32]


class ReturnInputs(NamedTuple):
    """Of the inputs."""

    history: NDArray[np.int64]
    types: NDArray[np.int64]
    gaps: Array
    lengths: NDArray[np.int32]
    since: Array


class ReturnWeights(NamedTuple):
    """Of the weights."""

    hidden_weight: Array
    hidden_bias: Array
    output_weight: Array
    linear: Array


def said_of_own(
    inputs: Mapping[str, NDArray[Any]], weights: Mapping[str, NDArray[Any]], is_open: NDArray[np.bool_]
) -> tuple[Array, NDArray[np.bool_]]:
    """What is said of each step, and which of them are spoken of.

    Parameters
        inputs: of `models.inputs.encode_histories`.
        weights: of a bundle.
        is_open: which rows an event has had, (capacity,).

    Returns
        float32 (B, L), 0 where nothing is said; and bool (B, L), whether a step is the newest of its item and its row
        is open.

    Raises
        BundleError: the weights do not fit together; the loop would read beyond them.
    """
    read = ReturnInputs(*(inputs[name] for name in ReturnInputs._fields))
    network = ReturnWeights(*(weights[f"return_{name}"] for name in ReturnWeights._fields))
    facts, width = network.linear.size, network.hidden_bias.size
    shapes, kinds = [one.shape for one in network], int(read.types.max(initial=0))
    if shapes != [(facts, width), (width,), (width,), (facts,)] or NUMBERS + 3 * (kinds + 1) > facts:
        raise BundleError(f"return_... of {shapes} are no network of {kinds} types or more. Publish a bundle anew.")
    own, newest = np.zeros(read[0].shape, np.float32), np.zeros(read[0].shape, np.bool_)
    _say(read, network, is_open, own, newest)
    return own, newest


@compiled
def _say(
    read: ReturnInputs, network: ReturnWeights, is_open: NDArray[np.bool_], own: Array, newest: NDArray[np.bool_]
) -> None:
    history, gaps = read.history, read.gaps
    shared, hidden = np.empty_like(network.hidden_bias), np.empty_like(network.hidden_bias)
    for q in range(len(history)):
        many = read.lengths[q]
        if not many:
            continue
        different = _mark_newest(history[q, :many], newest[q, :many])
        shared[:] = network.hidden_bias
        said = _of_history(many, np.float64(read.since[q]), read.types[q, many - 1], different, network, shared)
        after, distance = math.exp(np.float64(read.since[q]) * 10.0) - 1.0, 0
        for s in range(many - 1, -1, -1):
            if newest[q, s]:
                hidden[:] = shared
                one = _of_step(history[q, : s + 1], read.types[q, : s + 1], many, distance, after, network, hidden)
                for h in range(len(hidden)):
                    one += np.float32(math.tanh(hidden[h])) * network.output_weight[h]
                newest[q, s] = is_open[history[q, s]]
                own[q, s] = said + one if newest[q, s] else np.float32(0)
                distance += 1
            after += math.exp(np.float64(gaps[q, s]) * 10.0) - 1.0


@compiled
def _mark_newest(rows: NDArray[np.int64], newest: NDArray[np.bool_]) -> int:
    """Which steps no later one has the row of; how many."""
    different = 0
    for s in range(len(rows)):
        newest[s] = True
        for later in range(s + 1, len(rows)):
            if rows[later] == rows[s]:
                newest[s] = False
                break
        different += newest[s]
    return different


@compiled
def _of_history(
    many: int, since: float, last: int, different: int, network: ReturnWeights, hidden: Array
) -> np.float32:
    """The facts that all steps of a history share."""
    kinds = (len(network.linear) - NUMBERS) // 3
    said = _tell(5, since * 2.0, network, hidden)
    said += _tell(6, math.exp(-5.0 * since), network, hidden)
    said += _tell(7, math.log(many + 1.0) / 2.0, network, hidden)
    said += _tell(8, math.exp(-many / 4.0), network, hidden)
    said += _tell(9, different / many, network, hidden)
    return said + _tell(NUMBERS + kinds + last, 1.0, network, hidden)


@compiled
def _of_step(
    rows: NDArray[np.int64],
    types: NDArray[np.int64],
    many: int,
    distance: int,
    after: float,
    network: ReturnWeights,
    hidden: Array,
) -> np.float32:
    """The facts of the last of these steps."""
    kinds, s, count = (len(network.linear) - NUMBERS) // 3, len(rows) - 1, 0
    had = np.zeros(kinds, np.bool_)
    for other in range(len(rows)):
        if rows[other] == rows[s]:
            count += 1
            had[types[other]] = True
    said = _tell(0, math.log(np.float64(many - s)), network, hidden)
    said += _tell(1, math.log(distance + 1.0), network, hidden)
    if s == many - 1:
        said += _tell(2, 1.0, network, hidden)
    said += _tell(3, math.log(np.float64(count)), network, hidden)
    said += _tell(4, math.log(after + 1.0) / 5.0, network, hidden)
    said += _tell(NUMBERS + types[s], 1.0, network, hidden)
    for kind in range(kinds):
        if had[kind]:
            said += _tell(NUMBERS + 2 * kinds + kind, 1.0, network, hidden)
    return said


@compiled
def _tell(place: int, value: float, network: ReturnWeights, hidden: Array) -> np.float32:
    """One fact to the hidden units; returns what it says without them."""
    fact = np.float32(value)
    row = network.hidden_weight[place]
    for h in range(len(hidden)):
        hidden[h] += fact * row[h]
    return np.float32(fact * network.linear[place])
