"""A padded batch of sequences, and which of its places predict what.

Before: `block`, `replay_buffer` and `history` cut sequences. After: `encoder` reads them. Knows rows and steps, no
weights.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Sequences", "balanced", "join_sequences"]


class Sequences(NamedTuple):
    """A padded batch, and the places that predict: at (`row`[i], `step`[i]) the next item is `target`[i]."""

    history: NDArray[np.int64]  # (B, T)
    types: NDArray[np.int64]  # (B, T)
    values: NDArray[np.float32]  # (B, T)
    gaps: NDArray[np.float32]  # (B, T)
    row: NDArray[np.int64]  # (n,)
    step: NDArray[np.int64]  # (n,)
    target: NDArray[np.int64]  # (n,)
    weight: NDArray[np.float32]  # (n,), how much each place counts in the loss
    since: NDArray[np.float32]  # (n,), from the newest event to the target, as `inputs.encode_gap` has it


def join_sequences(first: Sequences, second: Sequences) -> Sequences:
    """Two batches as one, the shorter padded; places of the first come first."""
    steps = max(first.history.shape[1], second.history.shape[1])

    def joined(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
        both = np.zeros((len(a) + len(b), steps), a.dtype)
        both[: len(a), : a.shape[1]] = a
        both[len(a) :, : b.shape[1]] = b
        return both

    return Sequences(
        history=joined(first.history, second.history),
        types=joined(first.types, second.types),
        values=joined(first.values, second.values),
        gaps=joined(first.gaps, second.gaps),
        row=np.concatenate([first.row, second.row + len(first.history)]),
        step=np.concatenate([first.step, second.step]),
        target=np.concatenate([first.target, second.target]),
        weight=np.concatenate([first.weight, second.weight]),
        since=np.concatenate([first.since, second.since]),
    )


def balanced(weight: NDArray[np.float32], n_new: int) -> NDArray[np.float32]:
    """What each place counts, (n,): the new ones sum to 1, so do the replayed ones; neither crowds the other out."""
    shares = weight.copy()
    for part in (shares[:n_new], shares[n_new:]):
        part /= max(float(part.sum()), 1e-6)
    return shares
