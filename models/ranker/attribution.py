"""What each fact has to do with what the ranker adds to a candidate's score: integrated gradients, exactly.

Before: facts and published weights. After: an answer's contributions, and what the whole model goes by. The path leads
from the running means of the facts, a candidate like any other, straight to the facts. Along it a hidden unit is on in
one piece and off in the other, so the integral is a product: no steps, no library (docs/lab-book.md has why not
captum). What the network cuts off at its bounds is taken off all facts alike.

Source
    Sundararajan, Taly, Yan: Axiomatic Attribution for Deep Networks, 2017.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.ranker.bounds import MOST, WIDEST
from models.ranker.revision import NO_HEADS

__all__ = ["Attributed", "attributed"]

Array = NDArray[np.float64]


class Attributed(NamedTuple):
    """Parts of what the ranker adds: of each fact (C, F), and what it adds to the mean candidate. Together they are
    all of it.
    """

    facts: Array
    mean: float


def attributed(
    weights: Mapping[str, NDArray[Any]], facts: NDArray[Any], by_head: Mapping[int, np.float32] = NO_HEADS
) -> Attributed:
    """Attribute what is added to candidates with these facts (C, F) to the facts, by a bundle's `weights`; `by_head`
    is how far each of its heads is listened to. Facts that are left out behind those are 0, and were of all so far.
    """
    many = facts.shape[1]
    hidden, bias, output, linear, mean, scale = (
        weights[f"ranker_{name}"].astype(np.float64)
        for name in ("hidden_weight", "hidden_bias", "output_weight", "linear", "mean", "scale")
    )
    hidden, linear, mean, scale = hidden[:many], linear[:many], mean[:many], scale[:many]
    apart = np.clip((facts.astype(np.float64) - mean) * scale, -WIDEST, WIDEST)  # (C, F)
    end = apart @ hidden + bias  # (C, hidden); the path starts at the bias
    turns = np.where((bias > 0) != (end > 0), np.abs(bias - end), 1.0)
    on = np.where(end > 0, np.where(bias > 0, 1.0, end / turns), np.where(bias > 0, bias / turns, 0.0))
    outputs = [(float(weights["ranker_share"][0]), output, linear)]
    for head, listened in by_head.items():
        output, linear = np.split(weights["ranker_heads"][head].astype(np.float64), [len(bias)])
        outputs.append((float(listened), output, linear[:many]))
    found, mean_found = np.zeros_like(apart), 0.0
    for share, output, linear in outputs:
        parts = apart * ((on * output) @ hidden.T + linear)
        at_mean = float(np.clip(np.maximum(bias, 0.0) @ output, -MOST, MOST))
        said = parts.sum(1) + at_mean
        cut = np.clip(said, -MOST, MOST) - at_mean
        parts *= (cut / np.where(said == at_mean, 1.0, said - at_mean))[:, None]
        found += share * parts
        mean_found += share * at_mean
    return Attributed(found, mean_found)
