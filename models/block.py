"""A block: the examples between two gradient steps, and the sequences that the encoder learns them as.

Before: `learner` takes each example down on arrival. After: `encoder` gets one padded batch for the whole block. Knows
rows and steps, no weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.examples import Entry
from models.config import ModelConfig
from models.inputs import Steps, encode_entries, event_weight, pad_steps
from models.sequence.encoder import Sequences

__all__ = ["Pending", "Place", "batch_of", "sequences_of"]

Place = tuple[int, int, int]
"""Of a learnable example: its index in the block, its sequence, the step of the sequence that predicts it."""


@dataclass
class Pending:
    """An example of the block that is not full yet: what learning it needs, and what was said of it on arrival."""

    user_id: str | None  # None: forgotten meanwhile
    last: Entry | None  # newest history entry: equal to the target before, this example continues that one
    target: Entry
    row: int  # of the target; -1 without one
    steps: Steps  # of the history
    since: float
    unranked: bool  # a query whose target has no row yet: a miss for every ranker
    popularity_rank: int  # 0: no query
    newest_before: int | None  # latest event time so far (epoch ms)
    popularity_before: list[float] = field(default_factory=list)  # the target's log popularity, one per half-life
    excluded: NDArray[np.int64] | None = None  # rows that the rule leaves out; None: no query
    memories: list[tuple[NDArray[np.int64], NDArray[np.float32]]] | None = None  # of each memory: rows, scores


def _newest(steps: Steps, count: int) -> Steps:
    """A copy of the newest `count` steps."""
    return Steps(steps.rows[-count:], steps.types[-count:], steps.values[-count:], steps.gaps[-count:])


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
        if pending.user_id is None:
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
        one = encode_entries(pair, {pending.target.item_id: pending.row}, types, 1)
        steps.rows.extend(one.rows)
        steps.types.extend(one.types)
        steps.values.extend(one.values)
        steps.gaps.extend(one.gaps)
    return sequences, places


def batch_of(
    block: Sequence[Pending], sequences: list[tuple[str, Steps]], places: list[Place], config: ModelConfig
) -> Sequences:
    """The padded batch of a block's sequences, with its predicting places in the order of the block."""
    longest = max((len(steps.rows) for _, steps in sequences), default=0)
    arrays: dict[str, Any] = pad_steps([steps for _, steps in sequences], max(longest, 1))
    del arrays["lengths"]
    return Sequences(
        **arrays,
        row=np.array([place[1] for place in places], np.int64),
        step=np.array([place[2] for place in places], np.int64),
        target=np.array([block[i].row for i, _, _ in places], np.int64),
        weight=np.array(
            [event_weight(block[i].target.type, block[i].target.value, config) for i, _, _ in places], np.float32
        ),
        since=np.array([block[i].since for i, _, _ in places], np.float32),
    )
