"""The loops of the fast memory: adding up what a history is associated with, and writing what an event teaches.

Before: `memory.AssociationMemory` holds the arrays and says what they mean. After: compiled code, some microseconds a
call. Knows arrays only.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled

__all__ = ["add_up", "write"]

HIGHEST = math.log(1e4)
"""A row whose next gain would weigh exp(this) or more is rebased, lest float32 loses small weights."""

NEGLIGIBLE = 1e-6
"""Share of an event below which an association is not worth the slot that it would take from another."""


Rows = NDArray[np.int64]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Marks = NDArray[np.bool_]


@compiled
def add_up(
    ids: NDArray[np.int32],
    weights: Floats,
    log_source: Floats,
    target_scale: Floats,
    recent: Rows,
    ago_ms: Doubles,
    per_ms: float,
    read_weight: Floats,
    sums: Doubles,
) -> tuple[Rows, Floats]:
    """Rows (m,) that rows `recent` are associated with, in the order they are met, and their scores (m,).

    `recent` and `ago_ms` (n,), newest first; the newest `len(read_weight)` of them are heard. `sums` (capacity,) is
    scratch: zeros before and after.
    """
    slots = ids.shape[1]
    heard = min(len(recent), len(read_weight))
    log, highest = np.empty(heard), -np.inf
    for k in range(heard):
        if recent[k] >= len(ids):
            raise IndexError("a row beyond the tables")  # compiled loops read whatever is there
        log[k] = log_source[recent[k]] - ago_ms[k] * per_ms
        highest = max(highest, log[k])
    rows = np.empty(min(heard * slots, len(sums)), np.int64)
    found = 0
    for k in range(heard):
        row, say = recent[k], np.float32(math.exp(log[k] - highest)) * read_weight[k]
        for slot in range(slots):
            gain = weights[row, slot] * say
            if gain > 0:
                item = ids[row, slot]
                if sums[item] == 0:
                    rows[found] = item
                    found += 1
                sums[item] += gain
    scores = np.empty(found, np.float32)
    for i in range(found):
        scores[i] = sums[rows[i]] * target_scale[rows[i]]
        sums[rows[i]] = 0.0
    return rows[:found], scores


@compiled
def _value(
    row: int, own: Doubles, base: Doubles, log_count: Doubles, power: float, log_source: Floats, touched: Marks
) -> None:
    """Log of what the weights of a row are worth now, but for the factor that all rows have in common."""
    log_source[row] = base[row] - own[row] - power * (log_count[row] - own[row])
    touched[row] = True


@compiled
def _lightest(weights: Floats, taken: Marks) -> int:
    """The first lightest slot of a row that is not taken; -1 when all are."""
    best = -1
    for slot in range(len(weights)):
        if not taken[slot] and (best < 0 or weights[slot] < weights[best]):
            best = slot
    return best


@compiled
def write(
    ids: NDArray[np.int32],
    weights: Floats,
    touched: Marks,
    touched_rows: Marks,
    own: Doubles,
    base: Doubles,
    log_count: Doubles,
    log_source: Floats,
    touched_source: Marks,
    target_scale: Floats,
    recent: Rows,
    ago_ms: Doubles,
    target: int,
    now: float,
    weight: float,
    per_event: float,
    per_ms: float,
    source_power: float,
    target_power: float,
    write_weight: Floats,
    symmetric: bool,
) -> None:
    """Count an event of `target` at `now`, and associate it with the newest `len(write_weight)` rows of `recent`."""
    slots = ids.shape[1]
    own[target] += per_event
    event, before = own[target] + now, log_count[target]
    log_count[target] = max(before, event) + math.log1p(math.exp(-abs(before - event)))
    target_scale[target] = math.exp(-target_power * (log_count[target] - own[target])) if target_power else 1.0
    _value(target, own, base, log_count, source_power, log_source, touched_source)
    rows = np.empty(min(len(recent), len(write_weight)), np.int64)
    gains = np.empty(len(rows), np.float32)
    held = 0
    for k in range(len(rows)):
        gain = np.float32(write_weight[k] * weight * math.exp(-per_ms * ago_ms[k]))
        if recent[k] != target and gain > NEGLIGIBLE:
            rows[held], gains[held] = recent[k], gain
            held += 1
    rows, gains = rows[:held], gains[:held]
    taken = np.zeros(slots, np.bool_)
    for place in range(held + 1 if symmetric and held else held):
        row = rows[place] if place < held else target
        worth = _worth(
            row, now, weights, touched, touched_rows, own, base, log_count, source_power, log_source, touched_source
        )
        if worth == 0:
            continue  # so late that it counts for nothing
        touched_rows[row] = True
        if place == held:
            _write_row(ids[row], weights[row], touched[row], rows, gains * worth, taken)
            continue
        slot = 0
        while slot < slots and ids[row, slot] != target:
            slot += 1
        if slot == slots:
            slot = _lightest(weights[row], taken)
            ids[row, slot] = target
            weights[row, slot] = 0.0
        weights[row, slot] += gains[place] * worth
        touched[row, slot] = True


@compiled
def _worth(
    row: int,
    now: float,
    weights: Floats,
    touched: Marks,
    touched_rows: Marks,
    own: Doubles,
    base: Doubles,
    log_count: Doubles,
    source_power: float,
    log_source: Floats,
    touched_source: Marks,
) -> np.float32:
    """What an event of now weighs in a row's units. Where that is too much, it becomes the unit: the row is rebased."""
    exponent = own[row] + now - base[row]
    if exponent < HIGHEST:
        return np.float32(math.exp(exponent))
    keep = np.float32(math.exp(-exponent))
    for slot in range(weights.shape[1]):
        if weights[row, slot] > 0:
            touched[row, slot] = True
            touched_rows[row] = True
            weights[row, slot] *= keep
    base[row] = own[row] + now
    _value(row, own, base, log_count, source_power, log_source, touched_source)
    return np.float32(1.0)


@compiled
def _write_row(
    ids: NDArray[np.int32], weights: Floats, touched: Marks, items: Rows, gain: Floats, taken: Marks
) -> None:
    """One row's associations with many different items, the newest first. `taken` (slots,) is scratch, all False."""
    at = np.full(len(items), -1, np.int64)
    for i in range(len(items)):
        for slot in range(len(ids)):
            if ids[slot] == items[i]:
                at[i] = slot
                taken[slot] = True
                break
    for i in range(len(items)):
        slot = at[i]
        if slot < 0:
            slot = _lightest(weights, taken)
            if slot < 0:
                continue  # fewer slots than the reach: the newest entries have them
            taken[slot] = True
            ids[slot] = items[i]
            weights[slot] = 0.0
        weights[slot] += gain[i]
        touched[slot] = True
