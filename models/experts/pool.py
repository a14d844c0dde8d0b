"""The pool in which a memory keeps the associations of all its rows, in blocks of as many places as a row needs.

Before: `memory` says which row gets another association. After: `associations` reads the runs. Knows rows and places,
no events.

Blocks have 8 places, 16, and so on up to the slots that a row may have at most. A row whose block is full moves to one
of twice the size; the block that it leaves is zeroed and given to the next row that needs one of its size. So at most
half of the places in use stand empty, a row costs what is known of it, and nothing depends on how many slots a row may
have. The pool lies in memory that is taken where it is written to (`reserved`): it grows without being copied.

Within its run a row has its associations in the order in which it took slots, as if it had all its slots from the
start: places that were let go stay in it, with the row itself and no weight.

Where anything lies is a function of what was written, so that two who are told of the same changed places hold the same
bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled
from models.experts.associations import Associations
from models.experts.reserved import reserved

__all__ = [
    "SMALLEST",
    "AssociationPool",
    "append",
    "empty_pool",
    "enlarged",
    "free_run",
    "grown",
    "packed",
    "published_length",
    "take_touched",
    "touch",
    "unpack",
]

SMALLEST = 8
"""Places of the smallest block."""

PAGE = 9
"""Places whose changes are marked together: 2 to the power of this."""

FEWEST = 64
"""Places of a pool at least: what is published is never empty."""

STEPS = 16
"""What is published grows by one of so many parts of the power of two below it: whoever holds it seldom has to move."""

Rows = NDArray[np.int64]
Marks = NDArray[np.bool_]


class AssociationPool(NamedTuple):
    """Runs of all rows and the blocks that are free, as compiled code takes them."""

    held: Associations
    slots: int  # places that a row has at most
    top: Rows  # (1,), places from here on were never given out
    free: Rows  # (classes,), start of the free block of each size that is given out next; -1: there is none
    next_free: Rows  # by the start of a free block through the smallest size, the one after it
    touched: Marks  # (P,), places that changed since the last publication
    touched_pages: Marks  # pages that have such
    touched_runs: Marks  # (capacity,), rows whose run began elsewhere or got longer


def classes(slots: int) -> int:
    """How many sizes of blocks there are."""
    return max(slots - 1, 0).bit_length() - SMALLEST.bit_length() + 2 if slots > SMALLEST else 1


def empty_pool(capacity: int, slots: int) -> AssociationPool:
    """A pool in which no row has an association. Little fits in yet: see `enlarged`."""
    held = Associations(
        ids=np.zeros(FEWEST, np.int32),
        weights=np.zeros(FEWEST, np.float32),
        start=np.zeros(capacity, np.int64),
        size=np.zeros(capacity, np.int32),
        log_source=np.zeros(capacity, np.float32),
        target_scale=np.zeros(capacity, np.float32),
    )
    free = np.full(classes(slots), -1, np.int64)
    next_free, marks = np.zeros(FEWEST + 1, np.int64), np.zeros(FEWEST, bool)
    return AssociationPool(
        held, slots, np.zeros(1, np.int64), free, next_free, marks, np.zeros(1, bool), np.zeros(capacity, bool)
    )


def enlarged(pool: AssociationPool, places: int, rows: int) -> AssociationPool:
    """A pool with room for `places` more. What may ever be needed for `rows` is reserved, so that it happens once.

    Where the system does not give that much the pool gets twice as long and is copied.
    """
    top, smallest = int(pool.top[0]), min(SMALLEST, pool.slots)
    all_sizes = sum(min(SMALLEST << k, pool.slots) for k in range(len(pool.free)))
    enough = 2 * (top + places)
    for length in (max((rows + 1) * all_sizes, enough), enough):
        try:
            new: tuple[NDArray[Any], ...] = (
                reserved(length, np.int32),
                reserved(length, np.float32),
                reserved(length // smallest + 1, np.int64),
                reserved(length, np.bool_),
                reserved((length >> PAGE) + 1, np.bool_),
            )
        except (OSError, OverflowError, MemoryError):
            if length == enough:
                raise
            continue
        break
    before: list[NDArray[Any]] = [pool.held.ids, pool.held.weights, pool.next_free, pool.touched, pool.touched_pages]
    for array, old in zip(new, before, strict=True):
        kept = min(len(old), top + 1)
        array[:kept] = old[:kept]
    ids, weights, next_free, touched, pages = new
    held = pool.held._replace(ids=ids, weights=weights)
    return pool._replace(held=held, next_free=next_free, touched=touched, touched_pages=pages)


def grown(pool: AssociationPool, capacity: int) -> AssociationPool:
    """Room for more rows."""
    more = capacity - len(pool.touched_runs)
    rows = {
        name: np.concatenate([array, np.zeros(more, array.dtype)])
        for name, array in pool.held._asdict().items()
        if name not in ("ids", "weights")
    }
    marks = np.concatenate([pool.touched_runs, np.zeros(more, bool)])
    return pool._replace(held=pool.held._replace(**rows), touched_runs=marks)


def published_length(pool: AssociationPool) -> int:
    """Places that are published: those given out, and some."""
    top = max(int(pool.top[0]), FEWEST)
    step = max((1 << (top.bit_length() - 1)) // STEPS, 1)
    return -(-top // step) * step


def take_touched(pool: AssociationPool) -> Rows:
    """Places that changed since the last time, ascending; costs the pages that hold them."""
    pages = np.flatnonzero(pool.touched_pages[: (int(pool.top[0]) >> PAGE) + 1])
    found = _touched(pool.touched, pages)
    pool.touched_pages[pages] = False
    return found


@compiled
def _touched(touched: Marks, pages: Rows) -> Rows:
    many = 0
    for page in pages:
        for mark in touched[page << PAGE : (page + 1) << PAGE]:
            many += int(mark)
    found, at = np.empty(many, np.int64), 0
    for page in pages:
        for place in range(page << PAGE, min((page + 1) << PAGE, len(touched))):
            if touched[place]:
                touched[place] = False
                found[at] = place
                at += 1
    return found


def packed(pool: AssociationPool) -> dict[str, NDArray[Any]]:
    """All of it by name, for a checkpoint: runs one after another, in the order of their rows, and what is free."""
    free: list[list[int]] = []
    for first in pool.free.tolist():
        free.append([])
        while first >= 0:
            free[-1].append(first)
            first = int(pool.next_free[first // min(SMALLEST, pool.slots)])
    ids, weights = _gathered(pool.held)
    return {
        "ids": ids,
        "weights": weights,
        "start": pool.held.start,
        "size": pool.held.size,
        "top": pool.top,
        "free": np.array([start for one in free for start in one], np.int64),
        "free_counts": np.array([len(one) for one in free], np.int64),
    }


def unpack(pool: AssociationPool, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Into an empty pool that has room, what `packed` returned. Raises ValueError where that contradicts itself."""
    start, size, top = arrays["start"], arrays["size"].astype(np.int64), int(arrays["top"][0])
    held, ids, free, counts = pool.held, arrays["ids"], arrays["free"], arrays["free_counts"]
    if not (
        len(start) == len(size) <= len(held.size)
        and 0 <= top <= len(held.ids)
        and ((start >= 0) & (size >= 0) & (size <= pool.slots) & (start + size <= top)).all()
        and len(ids) == len(arrays["weights"]) == size.sum()
        and (not len(ids) or 0 <= ids.min() <= ids.max() < len(held.size))
        and (counts >= 0).all()
        and (len(counts), counts.sum()) == (len(pool.free), len(free))
        and (not len(free) or 0 <= free.min() <= free.max() < top)
    ):
        raise ValueError(f"a pool of {top} places and {len(start)} rows contradicts itself")
    held.start[: len(start)], held.size[: len(size)], pool.top[0] = start, size, top
    _scatter(held, ids, arrays["weights"])
    for number, one in enumerate(np.split(free, np.cumsum(counts)[:-1])):
        chain = [*one.tolist(), -1]
        pool.free[number] = chain[0]
        pool.next_free[one // min(SMALLEST, pool.slots)] = chain[1:]


@compiled
def _gathered(held: Associations) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    many = held.size.sum()
    ids, weights, at = np.empty(many, np.int32), np.empty(many, np.float32), 0
    for row in range(len(held.size)):
        for place in range(held.start[row], held.start[row] + held.size[row]):
            ids[at], weights[at] = held.ids[place], held.weights[place]
            at += 1
    return ids, weights


@compiled
def _scatter(held: Associations, ids: NDArray[np.int32], weights: NDArray[np.float32]) -> None:
    at = 0
    for row in range(len(held.size)):
        for place in range(held.start[row], held.start[row] + held.size[row]):
            held.ids[place], held.weights[place] = ids[at], weights[at]
            at += 1


@compiled
def touch(pool: AssociationPool, place: int) -> None:
    """A place changed."""
    pool.touched[place] = True
    pool.touched_pages[place >> PAGE] = True


@compiled
def _class(size: int) -> int:
    """Which size of block a run of `size` places lies in."""
    number = 0
    while SMALLEST << number < size:
        number += 1
    return number


@compiled
def _take_block(pool: AssociationPool, number: int) -> int:
    start: int = pool.free[number]
    if start >= 0:
        pool.free[number] = pool.next_free[start // min(SMALLEST, pool.slots)]
        return start
    start = pool.top[0]
    if start + min(SMALLEST << number, pool.slots) > len(pool.held.ids):
        raise IndexError("no room in the pool")  # whoever writes sees to it first
    pool.top[0] = start + min(SMALLEST << number, pool.slots)
    return start


@compiled
def _free_block(pool: AssociationPool, start: int, size: int) -> None:
    """Zero a run, and let others have its block."""
    for place in range(start, start + size):
        pool.held.ids[place] = 0
        pool.held.weights[place] = 0.0
        touch(pool, place)
    number = _class(size)
    pool.next_free[start // min(SMALLEST, pool.slots)] = pool.free[number]
    pool.free[number] = start


@compiled
def append(pool: AssociationPool, row: int, item: int) -> int:
    """The place after a row's run becomes its own, for `item`, of no weight yet. The run has fewer than `slots`."""
    held = pool.held
    size, start = held.size[row], held.start[row]
    if size == 0 or size == SMALLEST << _class(size):
        held.start[row] = _take_block(pool, _class(size + 1))
        for k in range(size):
            at = held.start[row] + k
            held.ids[at], held.weights[at] = held.ids[start + k], held.weights[start + k]
            touch(pool, at)
        if size:
            _free_block(pool, start, size)
    held.size[row] = size + 1
    pool.touched_runs[row] = True
    place: int = held.start[row] + size
    held.ids[place] = item
    touch(pool, place)
    return place


@compiled
def free_run(pool: AssociationPool, row: int) -> None:
    """A row is associated with nothing any more."""
    held = pool.held
    if held.size[row]:
        _free_block(pool, held.start[row], held.size[row])
        held.start[row] = held.size[row] = 0
        pool.touched_runs[row] = True
