"""A block: the examples between two gradient steps, and its queries as padded arrays.

Before: `learner` takes each example down on arrival. After: experts have their opinions of all its queries and take
their steps. Knows rows and steps, no weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater.examples import Entry
from models.config import ModelConfig
from models.inputs import Steps, event_weight, pad_steps

__all__ = ["Block", "Pending", "Sparse", "block_of"]


class Sparse(NamedTuple):
    """An opinion of few items: different rows (m,) and their values (m,); all others have 0."""

    rows: NDArray[np.int64]
    values: NDArray[np.float32]


@dataclass
class Pending:
    """An example of the block that is not full yet: what learning it needs, and what was said of it on arrival."""

    user_id: str
    last: Entry | None  # newest history entry: equal to the target before, this example continues that one
    target: Entry
    row: int  # of the target; -1 without one
    steps: Steps  # of the history
    since: float
    against: bool = False  # the event speaks against its item: a query that teaches nothing
    unranked: bool = False  # a query whose target has no row yet: a miss for every ranker
    popularity_rank: int = 0  # 0: no query
    newest_before: int | None = None  # latest event time so far (epoch ms)
    popularity_before: list[float] = field(default_factory=list)  # the target's log popularity, one per half-life
    excluded: NDArray[np.int64] | None = None  # rows that the rule leaves out; None: no query
    opinions: list[Sparse] | None = None  # of each expert that has one on arrival; None: no query
    capped: bool = False  # its user has taught enough: it is neither asked nor learned
    notes: dict[str, Any] = field(default_factory=dict)  # JSON that `Expert.note` left for `rewind`, by expert's name


@dataclass(frozen=True)
class Block:
    """Examples, and the Q queries among them as arrays, right-padded with zeros to L steps."""

    examples: Sequence[Pending]
    used: int  # rows in use, N
    type_index: Mapping[str, int]
    chances: NDArray[np.float64]  # (N,) of each row to be drawn as a negative
    places: list[int]  # of each query among the examples
    history: NDArray[np.int64]  # (Q, L)
    types: NDArray[np.int64]  # (Q, L)
    gaps: NDArray[np.float32]  # (Q, L)
    lengths: NDArray[np.int32]  # (Q,)
    since: NDArray[np.float32]  # (Q,)
    weight: NDArray[np.float32]  # (Q,), how much each counts as a target; sums to 1


def block_of(
    examples: Sequence[Pending],
    used: int,
    type_index: Mapping[str, int],
    chances: NDArray[np.float64],
    config: ModelConfig,
) -> Block:
    """The block of some examples; those that have opinions are its queries."""
    places = [i for i, pending in enumerate(examples) if pending.opinions is not None]
    asked = [examples[i] for i in places]
    longest = max((len(one.steps.rows) for one in asked), default=0)
    arrays: dict[str, Any] = pad_steps([one.steps for one in asked], max(longest, 1))
    del arrays["values"]
    weight = np.array([event_weight(one.target.type, one.target.value, config) for one in asked], np.float32)
    return Block(
        examples=examples,
        used=used,
        type_index=type_index,
        chances=chances,
        places=places,
        since=np.array([one.since for one in asked], np.float32),
        weight=weight / max(float(weight.sum()), 1e-6),
        **arrays,
    )
