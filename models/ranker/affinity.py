"""What a candidate's content has to do with a history's: loops over the sketches and numbers that the catalogue gave.

Before: `content` holds tables and what is learned of tastes. After: `facts` writes these numbers behind its others, and
`content` learns by them. A modality or a number that no item has costs nothing here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled, compiled_sums
from models.content import FULL, MODALITIES, SIZE, VECTORS

__all__ = ["CONTENT_ROWS", "KNOWN", "MISSING", "NAMED", "NAME_BYTES", "NUMBERS", "OF_MODALITY", "OF_NUMBER"]
__all__ += ["column_names", "first_taste", "profile_of", "teach_taste", "tell_content", "tell_numbers"]

Array = NDArray[np.float32]
Rows = NDArray[np.int64]

OF_MODALITY = ("like the history", "liked by all", "is told")
OF_NUMBER = ("", ", from the candidates", ", from the history", " is told")

NUMBERS = 4
"""Numeric attributes that count, the first columns of `models.shown.numbers`."""

MISSING = -1e30
"""In place of a number that an item has not."""

KNOWN = MODALITIES + NUMBERS

CONTENT_ROWS = {"ranker_content": (MODALITIES, SIZE), "ranker_numbers": (NUMBERS,)}
"""What each table holds of a row."""

NAMED = VECTORS + NUMBERS
"""Columns that the catalogue names."""

NAME_BYTES = 64
"""Of a column's name as it is published, in UTF-8."""

FADE = 0.9
"""Of a history each step counts so much of the one after it."""


def column_names(published: NDArray[np.uint8] | None) -> list[str]:
    """What vectors and numbers are called, from `ranker_names` (NAMED, NAME_BYTES); by their place where nobody named
    them."""
    by_place = [f"vector {n + 1}" for n in range(VECTORS)] + [f"number {n + 1}" for n in range(NUMBERS)]
    told = [] if published is None else [bytes(one).rstrip(b"\0").decode(errors="replace") for one in published]
    named = [f"{place.split()[0]} {name}" if name else place for place, name in zip(by_place, told, strict=False)]
    return named or by_place


def first_taste() -> Array:
    """(MODALITIES, SIZE + 1, SIZE), before anything is learned: cosines, and some direction that all like."""
    taste = np.eye(SIZE + 1, SIZE, dtype=np.float32)
    taste[SIZE] = 0.1 * np.random.RandomState(0).standard_normal(SIZE)  # of zeros the network could learn nothing
    return np.repeat(taste[None], MODALITIES, 0)


@compiled
def profile_of(content: NDArray[np.int8], known: Array, history: Rows, speaks: Array) -> Array:
    """What a history is about, (MODALITIES, SIZE): mean sketch of what speaks for its item, the newest most."""
    profile = np.zeros((MODALITIES, SIZE), np.float32)
    for m in range(MODALITIES):
        if known[m] == 0:
            continue
        weight, total = np.float32(1.0 / FULL), np.float32(0)
        for step in range(len(history) - 1, -1, -1):
            if speaks[step] <= 0:
                continue
            sketch, there = content[history[step], m], False
            for d in range(SIZE):
                profile[m, d] += weight * sketch[d]
                there |= sketch[d] != 0
            if there:
                total += weight * FULL
            weight *= np.float32(FADE)
        if total > 0:
            for d in range(SIZE):
                profile[m, d] /= total
    return profile


@compiled_sums
def tell_content(
    content: NDArray[np.int8], known: Array, taste: Array, profile: Array, rows: Rows, facts: Array
) -> None:
    """Into `facts` (C, 3 * MODALITIES) of each candidate, by modality, `OF_MODALITY`."""
    asked = np.empty(SIZE, np.float32)
    for m in range(MODALITIES):
        at = 3 * m
        if known[m] == 0:
            facts[:, at : at + 3] = 0.0
            continue
        by_all = taste[m, SIZE]
        for d in range(SIZE):
            asked[d] = 0.0
        for i in range(SIZE):
            for d in range(SIZE):
                asked[d] += profile[m, i] * taste[m, i, d]
        for c in range(len(rows)):
            sketch = content[rows[c], m]
            alike, liked, size = np.float32(0), np.float32(0), 0
            for d in range(SIZE):
                alike += asked[d] * sketch[d]
                liked += by_all[d] * sketch[d]
                size += abs(sketch[d])
            facts[c, at] = alike / np.float32(FULL)
            facts[c, at + 1] = liked / np.float32(FULL)
            facts[c, at + 2] = 1.0 if size else 0.0


@compiled_sums
def teach_taste(
    content: NDArray[np.int8], known: Array, profile: Array, rows: Rows, gradient: Array, taught: Array
) -> None:
    """Add to `taught`, of the shape of the taste, its gradient, from that at the facts of `tell_content`, (C, ...)."""
    alike, liked = np.empty(SIZE, np.float32), np.empty(SIZE, np.float32)
    for m in range(MODALITIES):
        if known[m] == 0:
            continue
        for d in range(SIZE):
            alike[d] = liked[d] = 0.0
        for c in range(len(rows)):
            sketch = content[rows[c], m]
            for d in range(SIZE):
                alike[d] += gradient[c, 3 * m] * sketch[d]
                liked[d] += gradient[c, 3 * m + 1] * sketch[d]
        for d in range(SIZE):
            alike[d] /= np.float32(FULL)
            taught[m, SIZE, d] += liked[d] / np.float32(FULL)
        for i in range(SIZE):
            for d in range(SIZE):
                taught[m, i, d] += profile[m, i] * alike[d]


@compiled
def tell_numbers(numbers: Array, known: Array, history: Rows, speaks: Array, rows: Rows, facts: Array) -> None:
    """Into `facts` (C, 4 * NUMBERS) of each candidate, by number, `OF_NUMBER`; 0 of one that it has not."""
    for n in range(NUMBERS):
        at = 4 * n
        facts[:, at : at + 4] = 0.0
        if known[MODALITIES + n] == 0:
            continue
        total, many = 0.0, 0
        for c in range(len(rows)):
            if numbers[rows[c], n] > MISSING:
                total += numbers[rows[c], n]
                many += 1
        mean = total / max(many, 1)
        total, weight, weights = 0.0, 1.0, 0.0
        for step in range(len(history) - 1, -1, -1):
            if speaks[step] > 0:
                if numbers[history[step], n] > MISSING:
                    total += weight * numbers[history[step], n]
                    weights += weight
                weight *= FADE
        for c in range(len(rows)):
            value = numbers[rows[c], n]
            if value > MISSING:
                facts[c, at] = value
                facts[c, at + 1] = value - mean
                facts[c, at + 2] = value - total / weights if weights > 0 else 0.0
                facts[c, at + 3] = 1.0
