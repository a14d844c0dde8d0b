"""What encoder and popularity say of every row, in one pass over the table: some of a graph's nodes, compiled.

Before: the first half of a served graph says what the encoder makes of a history, and how far each expert is trusted.
After: the second half adds what is said of few rows. `cut` makes the halves.

A logit is summed up in the order of its vector's numbers, each product fused with its sum, whatever is computed beside
it: so a history gets the same bits alone as among others, and a row wherever it lies. Vectors are kept by blocks of
rows, with numbers of one place side by side: a block stays in the nearest memory while all histories of a batch read
it. Blocks whose rows have had no event are not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater.errors import BundleError
from models.compiled import compiled, compiled_fused
from models.experts.popularity import UNSEEN

__all__ = ["AllRows", "Encoded", "SaidOfRows"]

BLOCK = 128
"""Rows of a block, 32 KB at a width of 64: 64 and 256 take a tenth longer for 32 histories, as long for one."""

TOGETHER = 4
"""Histories that a block is multiplied by at once, by `_multiply_four`."""

SHUT, MIXED, OPEN = 0, 1, 2
"""Of the rows of a block none, some, all have had an event."""

Array = NDArray[np.float32]


class Encoded(NamedTuple):
    """What the encoder makes of histories, (B, d); and how far it is trusted, (B, 1), and each reach of popularity,
    (B, P).
    """

    hidden: Array
    trust: Array
    trusts: Array


class VectorTable(NamedTuple):
    """What is read of rows: vectors by blocks, as one row, biases, log popularity as it counts, (P, capacity), which
    rows an event has had, and of which kind each block is.
    """

    blocks: Array
    bias: Array
    known: Array
    is_open: NDArray[np.bool_]
    kinds: NDArray[np.int64]


class SaidOfRows(NamedTuple):
    """Of all rows, (B, capacity) each: what encoder and popularity say together, -1e30 (`UNSEEN`) of rows that no event
    has had; and the encoder by itself, (0, 0) where nobody asks.
    """

    whole: Array
    slow: Array


class AllRows:
    """The vectors of one bundle, laid out for the pass. `weights` are read where they lie."""

    def __init__(self, weights: Mapping[str, NDArray[Any]]) -> None:
        self._weights = weights
        self._blocks: Array = np.zeros((0, 0, BLOCK), np.float32)  # (M, d, BLOCK)
        self._room: Array = np.zeros((0, 0), np.float32)  # for the sums of a batch: memory that is not asked for anew

    def renew(self, rows: NDArray[np.int64] | None, is_open: NDArray[np.bool_]) -> None:
        """The version is another one.

        Parameters
            rows: whose vectors are others; None: any may be, or there are more.
            is_open: which rows an event has had, (capacity,).
        """
        vectors, bias = self._weights["item_vectors"], self._weights["item_bias"]
        if len({len(vectors), len(is_open), *bias.shape}) != 1:
            raise BundleError(
                f"item_vectors {vectors.shape}, item_bias {bias.shape} and popularity of {len(is_open)} rows do not "
                "fit together. Publish a bundle anew."
            )
        shape = -(-len(vectors) // BLOCK), vectors.shape[1], BLOCK
        if self._blocks.shape != shape:
            self._blocks, rows = np.zeros(shape, np.float32), None
        _lay_out(vectors, np.arange(len(vectors)) if rows is None else rows, self._blocks)
        self._open = is_open
        self._kinds = _kinds_of(is_open)

    def say(self, asked: Encoded, known: Array, *, slow: bool) -> SaidOfRows:
        """One pass.

        Parameters
            asked: of B histories.
            known: log popularity as it counts, (P, capacity).
            slow: whether what the encoder says by itself is asked for.

        Returns
            The sum is good until the next pass, which writes over it.

        Raises
            BundleError: a graph made these of other shapes; the loops would read beyond them.
        """
        many = len(asked.hidden)
        shapes, wanted = [one.shape for one in asked], [(many, n) for n in (self._blocks.shape[1], 1, len(known))]
        if shapes != wanted or known.shape[1:] != self._open.shape:
            raise BundleError(f"The graph makes values of {shapes} that should be {wanted}. Publish a bundle anew.")
        size = many, len(self._open)
        if len(self._room) < many or self._room.shape[1:] != size[1:]:
            self._room = np.empty(size, np.float32)
        said = SaidOfRows(self._room[:many], np.empty(size if slow else (0, 0), np.float32))
        blocks, bias = self._blocks.reshape(-1), self._weights["item_bias"]
        _say(VectorTable(blocks, bias, known, self._open, self._kinds), asked, said)
        return said


@compiled
def _lay_out(vectors: Array, rows: NDArray[np.int64], blocks: Array) -> None:
    for row in rows:
        for place in range(vectors.shape[1]):
            blocks[row // BLOCK, place, row % BLOCK] = vectors[row, place]


@compiled
def _kinds_of(is_open: NDArray[np.bool_]) -> NDArray[np.int64]:
    kinds = np.zeros(-(-len(is_open) // BLOCK), np.int64)
    for m in range(len(kinds)):
        part = is_open[m * BLOCK : (m + 1) * BLOCK]
        kinds[m] = OPEN if part.all() else MIXED if part.any() else SHUT
    return kinds


@compiled
def _say(table: VectorTable, asked: Encoded, said: SaidOfRows) -> None:
    blocks, bias, known, is_open, kinds = table
    hidden, trust, trusts = asked
    whole, slow = said
    count, size = hidden.shape[0], hidden.shape[1] * BLOCK
    sums, popular = np.empty(TOGETHER * BLOCK, np.float32), np.empty(BLOCK, np.float32)
    for m in range(len(kinds)):
        first, end = m * BLOCK, min(len(bias), (m + 1) * BLOCK)
        if kinds[m] == SHUT:
            whole[:, first:end] = np.float32(UNSEEN)
            if len(slow):
                slow[:, first:end] = np.float32(0)
            continue
        block, own_bias = blocks[m * size : (m + 1) * size], bias[first:end]
        for q in range(count):
            if q % TOGETHER == 0 and count - q >= TOGETHER:
                _multiply_four(block, hidden[q : q + TOGETHER], sums)
            elif q >= count // TOGETHER * TOGETHER:
                _multiply(block, hidden[q], sums[q % TOGETHER * BLOCK :])
            own = sums[q % TOGETHER * BLOCK : (q % TOGETHER + 1) * BLOCK]
            _weigh(known[0, first:end], trusts[q, 0], popular, False)
            for p in range(1, len(known)):
                _weigh(known[p, first:end], trusts[q, p], popular, True)
            _add_up(own, own_bias, trust[q, 0], popular, whole[q, first:end])
            if kinds[m] == MIXED:
                for n in range(first, end):
                    if not is_open[n]:
                        whole[q, n] = np.float32(UNSEEN)
            if len(slow):
                _weigh_logits(own, own_bias, trust[q, 0], slow[q, first:end])


@compiled
def _weigh(known: Array, trust: np.float32, popular: Array, more: bool) -> None:
    if more:
        for n in range(len(known)):
            popular[n] += known[n] * trust
    else:
        for n in range(len(known)):
            popular[n] = known[n] * trust


@compiled
def _add_up(sums: Array, bias: Array, trust: np.float32, popular: Array, whole: Array) -> None:
    for n in range(len(bias)):
        whole[n] = (sums[n] + bias[n]) * trust + popular[n]


@compiled
def _weigh_logits(sums: Array, bias: Array, trust: np.float32, slow: Array) -> None:
    for n in range(len(bias)):
        slow[n] = (sums[n] + bias[n]) * trust


@compiled_fused
def _multiply(block: Array, hidden: Array, sums: Array) -> None:
    """(BLOCK,) products of a block, (d, BLOCK) as one row, with one history (d,), eight numbers of it at a time."""
    for n in range(BLOCK):
        sums[n] = np.float32(0)
    whole = len(hidden) // 8 * 8
    for k in range(0, whole, 8):
        a, b, c, d = hidden[k], hidden[k + 1], hidden[k + 2], hidden[k + 3]
        e, f, g, h = hidden[k + 4], hidden[k + 5], hidden[k + 6], hidden[k + 7]
        v = block[k * BLOCK : (k + 8) * BLOCK]
        for n in range(BLOCK):
            x = sums[n] + a * v[n]
            x = x + b * v[n + BLOCK]
            x = x + c * v[n + 2 * BLOCK]
            x = x + d * v[n + 3 * BLOCK]
            x = x + e * v[n + 4 * BLOCK]
            x = x + f * v[n + 5 * BLOCK]
            x = x + g * v[n + 6 * BLOCK]
            sums[n] = x + h * v[n + 7 * BLOCK]
    for k in range(whole, len(hidden)):
        a, v = hidden[k], block[k * BLOCK : (k + 1) * BLOCK]
        for n in range(BLOCK):
            sums[n] = sums[n] + a * v[n]


@compiled_fused
def _multiply_four(block: Array, hidden: Array, sums: Array) -> None:
    """The same with four histories, (4, d): (4, BLOCK) as one row."""
    for n in range(4 * BLOCK):
        sums[n] = np.float32(0)
    whole = hidden.shape[1] // 4 * 4
    for k in range(0, whole, 4):
        a0, a1, a2, a3 = hidden[0, k], hidden[0, k + 1], hidden[0, k + 2], hidden[0, k + 3]
        b0, b1, b2, b3 = hidden[1, k], hidden[1, k + 1], hidden[1, k + 2], hidden[1, k + 3]
        c0, c1, c2, c3 = hidden[2, k], hidden[2, k + 1], hidden[2, k + 2], hidden[2, k + 3]
        d0, d1, d2, d3 = hidden[3, k], hidden[3, k + 1], hidden[3, k + 2], hidden[3, k + 3]
        v = block[k * BLOCK : (k + 4) * BLOCK]
        for n in range(BLOCK):  # numbers at a known distance: so the compiler takes several at once
            v0, v1, v2, v3 = v[n], v[n + BLOCK], v[n + 2 * BLOCK], v[n + 3 * BLOCK]
            x = sums[n] + a0 * v0
            x = x + a1 * v1
            x = x + a2 * v2
            sums[n] = x + a3 * v3
            x = sums[n + BLOCK] + b0 * v0
            x = x + b1 * v1
            x = x + b2 * v2
            sums[n + BLOCK] = x + b3 * v3
            x = sums[n + 2 * BLOCK] + c0 * v0
            x = x + c1 * v1
            x = x + c2 * v2
            sums[n + 2 * BLOCK] = x + c3 * v3
            x = sums[n + 3 * BLOCK] + d0 * v0
            x = x + d1 * v1
            x = x + d2 * v2
            sums[n + 3 * BLOCK] = x + d3 * v3
    for k in range(whole, hidden.shape[1]):
        for q in range(4):
            a, v = hidden[q, k], block[k * BLOCK : (k + 1) * BLOCK]
            for n in range(BLOCK):
                sums[n + q * BLOCK] = sums[n + q * BLOCK] + a * v[n]
