"""Numbers behind a score: what each part of the model adds, and which entries of the history it comes from.

Before: `evidence`. After: an answer's `contributions`, which add up to the score, and `because`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from headwater.recommendations import Because
from models.ranker.attribution import attributed
from serving.reasons.evidence import MOVED, Evidence

if TYPE_CHECKING:
    from serving.scorer import ServedModel

__all__ = ["because", "contributions", "whole"]

RANKER = "ranker"
"""What the second stage adds: that of the largest facts each by itself, and by this name the rest."""

NEW_ITEM = f"{RANKER}: lift of new items"
"""What it adds because an item is new (`models.ranker.lift`)."""

MOST_FACTS = 8
"""Facts of the ranker that are named of one item, those with the largest parts."""

MOST_ENTRIES = 5
"""Entries that are named of one item, those with the largest shares."""


def contributions(half: ServedModel, evidence: Evidence, row: int, value: float) -> dict[str, float]:
    """What each part adds to the score of a row, which is `value` in the answer; parts that add nothing are left out.

    Their sum is the score: the parts are added up in float32, and the few last digits that this rounds off are with the
    largest part.
    """
    fused = evidence.fused(row)
    found = whole({name: float(evidence.outputs[part][0, row]) for name, part in half.parts.items()}, fused)
    if value != fused:
        facts = _of_facts(half, evidence, row)
        found |= whole({**facts, RANKER: value - fused - math.fsum(facts.values())}, value - fused)
    return {name: part for name, part in found.items() if part and math.isfinite(part)}


def _of_facts(half: ServedModel, evidence: Evidence, row: int) -> dict[str, float]:
    """What each fact of a candidate has to do with what the ranker adds to it."""
    told = evidence.ranker
    if told is None or half.second is None:
        return {}
    parts = attributed(half.bundle.weights, told.facts[told.rows == row], told.by_head).facts[0]
    names = half.second.fact_names
    largest = np.argsort(-np.abs(parts), kind="stable")[:MOST_FACTS].tolist()
    found = {f"{RANKER}: {names[fact]}": float(parts[fact]) for fact in largest}
    return found | {NEW_ITEM: float(half.second.lifted(np.array([row]))[0])}


def whole(parts: Mapping[str, float], total: float) -> dict[str, float]:
    """Parts whose exact sum is the total: the largest one takes what rounding left over."""
    found = dict(parts)
    if not found:
        return found
    largest = max(found, key=lambda name: abs(found[name]))
    found[largest] = math.fsum([total, *(-part for name, part in found.items() if name != largest)])
    return found


def because(evidence: Evidence, row: int) -> tuple[Because, ...]:
    """The entries without which a row's score would be another one, by how much of it they are."""
    scores = evidence.revised
    lost = [float(scores[0, row]) - float(scores[at, row]) for at in evidence.without_entry]
    shares = [share if math.isfinite(share) else 0.0 for share in lost]
    largest = np.argsort([-abs(share) for share in shares], kind="stable")[:MOST_ENTRIES].tolist()
    named = sorted((i for i in largest if abs(shares[i]) > MOVED), key=lambda i: -shares[i])
    return tuple(
        Because(item_id=evidence.entries[i].item_id, type=evidence.entries[i].type, share=shares[i]) for i in named
    )
