"""A padded batch of sequences, and which of its places predict what.

Of a block (`sequences_of`, `batch_of`), of the replay buffer or of a recorded history. After: `encoder` reads them.
Knows rows and steps, no weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater.examples import Entry, Kind
from models.block import Pending
from models.config import ModelConfig
from models.inputs import Steps, encode_entries, lesson_weight, pad_steps

__all__ = ["Place", "Sequences", "balanced", "batch_of", "few_of", "join_sequences", "sequences_of"]
__all__ += ["some", "with_passed_over"]

Place = tuple[int, int, int]
"""Of a learnable example: its index in the block, its sequence, the step of the sequence that predicts it."""


PASSED_OVER = 0.1
"""What an item that was shown and passed over weighs in the loss, of one that was turned down with weight 1."""


class Sequences(NamedTuple):
    """A padded batch, and the places that predict: at (`row`[i], `step`[i]) the next item is `target`[i]."""

    history: NDArray[np.int64]  # (B, T)
    types: NDArray[np.int64]  # (B, T)
    values: NDArray[np.float32]  # (B, T)
    gaps: NDArray[np.float32]  # (B, T)
    row: NDArray[np.int64]  # (n,)
    step: NDArray[np.int64]  # (n,)
    target: NDArray[np.int64]  # (n,)
    weight: NDArray[np.float32]  # (n,), how much each place counts in the loss; below 0, the target was turned down
    since: NDArray[np.float32]  # (n,), from the newest event to the target, as `inputs.encode_gap` has it
    starts: NDArray[np.float32] | None = None  # (B, T), 1 where a session starts; None: nowhere
    fresh: NDArray[np.float32] | None = None  # (n,), 1 where one starts with the target; None: nowhere


def some(marks: NDArray[Any]) -> NDArray[np.float32] | None:
    """Marks as `Sequences` has them: None where there is none."""
    return marks.astype(np.float32) if marks.any() else None


def few_of(batch: Sequences, places: slice) -> Sequences:
    """Some of a batch's places, and the sequences that these need."""
    read, row = np.unique(batch.row[places], return_inverse=True)
    return Sequences(
        history=batch.history[read],
        types=batch.types[read],
        values=batch.values[read],
        gaps=batch.gaps[read],
        row=row,
        step=batch.step[places],
        target=batch.target[places],
        weight=batch.weight[places],
        since=batch.since[places],
        starts=None if batch.starts is None else batch.starts[read],
        fresh=None if batch.fresh is None else batch.fresh[places],
    )


def join_sequences(first: Sequences, second: Sequences) -> Sequences:
    """Two batches as one, the shorter padded; places of the first come first."""
    steps = max(first.history.shape[1], second.history.shape[1])

    def joined(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
        both = np.zeros((len(a) + len(b), steps), a.dtype)
        both[: len(a), : a.shape[1]] = a
        both[len(a) :, : b.shape[1]] = b
        return both

    starts, fresh = None, None
    if first.starts is not None or second.starts is not None:
        starts = joined(*(np.zeros_like(one.values) if one.starts is None else one.starts for one in (first, second)))
    if first.fresh is not None or second.fresh is not None:
        fresh = np.concatenate(
            [np.zeros_like(one.since) if one.fresh is None else one.fresh for one in (first, second)]
        )
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
        starts=starts,
        fresh=fresh,
    )


def balanced(weight: NDArray[np.float32], n_new: int) -> NDArray[np.float32]:
    """What each place counts, (n,): targets among the new ones sum to 1, so do the replayed ones; neither crowds the
    other out. What was turned down counts besides, at most ten times as much.
    """
    shares = weight.copy()
    for part in (shares[:n_new], shares[n_new:]):
        against, whole = part < 0, float(part.sum())
        if against.any():
            whole = max(float(part[~against].sum()), -0.1 * float(part[against].sum()))
        part /= max(whole, 1e-6)
    return shares


def with_passed_over(
    batch: Sequences, block: Sequence[Pending], places: Sequence[Place], config: ModelConfig
) -> Sequences:
    """A block's batch, and after its places one for each item that was shown before a target and passed over for it."""
    again = [(at, row) for at, place in enumerate(places) for row in block[place[0]].passed_over]
    if not again or not config.negative_loss:
        return batch
    at, rows = np.array(again, np.int64).T
    weight = np.full(len(at), -PASSED_OVER * config.negative_loss, np.float32)
    return batch._replace(
        row=np.concatenate([batch.row, batch.row[at]]),
        step=np.concatenate([batch.step, batch.step[at]]),
        target=np.concatenate([batch.target, rows]),
        weight=np.concatenate([batch.weight, weight]),
        since=np.concatenate([batch.since, batch.since[at]]),
        fresh=None if batch.fresh is None else np.concatenate([batch.fresh, batch.fresh[at]]),
    )


def _newest(steps: Steps, count: int) -> Steps:
    """A copy of the newest `count` steps."""
    starts = steps.starts or [False] * len(steps.rows)
    return Steps(
        steps.rows[-count:], steps.types[-count:], steps.values[-count:], steps.gaps[-count:], (), starts[-count:]
    )


def sequences_of(
    block: Sequence[Pending], types: Mapping[str, int], config: ModelConfig
) -> tuple[list[tuple[str, Steps]], list[Place]]:
    """Sequences of a block and their predicting places.

    Examples that continue one another (same user, history grown by the previous target) share one sequence, until
    it has `shared_targets` of them: a longer one would make the recurrence, which is sequential, the bottleneck.
    Returns (user, steps) per sequence, and the place of each learnable example.
    """
    sequences: list[tuple[str, Steps]] = []
    places: list[Place] = []
    context = config.length - config.shared_targets + 1  # so that the last of a shared sequence reads `length` steps
    newest: dict[str, tuple[int, Entry, int]] = {}  # user -> sequence, last target, targets in it
    for i, pending in enumerate(block):
        if pending.kind is not Kind.EVENT:
            continue
        at, last, shared = newest.get(pending.user_id, (0, None, 0))
        if last is None or pending.last != last or shared == config.shared_targets:
            at, shared = len(sequences), 0
            sequences.append((pending.user_id, _newest(pending.steps, context)))
        steps = sequences[at][1]
        newest[pending.user_id] = (at, pending.target, shared + 1)
        if pending.row < 0:
            continue
        if steps.rows:
            places.append((i, at, len(steps.rows) - 1))
        pair = [pending.last, pending.target] if pending.last is not None else [pending.target]
        one = encode_entries(pair, {pending.target.item_id: pending.row}, types, config, 1)
        steps.rows.extend(one.rows)
        steps.types.extend(one.types)
        steps.values.extend(one.values)
        steps.gaps.extend(one.gaps)
        steps.starts.extend(one.starts)
    return sequences, places


def batch_of(
    block: Sequence[Pending], sequences: list[tuple[str, Steps]], places: list[Place], config: ModelConfig
) -> Sequences:
    """The padded batch of a block's sequences, with its predicting places in the order of the block."""
    longest = max((len(steps.rows) for _, steps in sequences), default=0)
    arrays: dict[str, Any] = pad_steps([steps for _, steps in sequences], max(longest, 1))
    del arrays["lengths"]
    starts = arrays.pop("starts")
    fresh = np.array([block[i].fresh for i, _, _ in places], np.float32)
    return Sequences(
        **arrays,
        row=np.array([place[1] for place in places], np.int64),
        step=np.array([place[2] for place in places], np.int64),
        target=np.array([block[i].row for i, _, _ in places], np.int64),
        weight=np.array(
            [lesson_weight(block[i].target.type, block[i].target.value, config) for i, _, _ in places], np.float32
        ),
        since=np.array([block[i].since for i, _, _ in places], np.float32),
        starts=some(starts),
        fresh=some(fresh),
    )
