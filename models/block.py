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

from headwater.examples import Entry, Kind
from models.compiled import compiled
from models.config import ModelConfig
from models.inputs import Steps, event_weight, pad_steps
from models.shown.showings import Tired

__all__ = ["Block", "Listed", "Pending", "Sparse", "block_of"]

Array = NDArray[np.float32]


class Sparse(NamedTuple):
    """An opinion of few items: different rows (m,) and their values (m,); all others have 0."""

    rows: NDArray[np.int64]
    values: NDArray[np.float32]


class Weighed(NamedTuple):
    """Opinions of all items (P, N), each times the trust in it (P,): added up where somebody asks."""

    opinions: NDArray[np.float32]
    trusts: NDArray[np.float32]

    def at(self, rows: NDArray[np.int64] | slice) -> NDArray[np.float32]:
        """Of these rows (C,): (C,)."""
        if isinstance(rows, slice):
            said: NDArray[np.float32] = (self.opinions[:, rows] * self.trusts[:, None]).sum(0)
            return said
        return _added_up(self.opinions, self.trusts, rows)


@compiled
def _added_up(
    opinions: NDArray[np.float32], trusts: NDArray[np.float32], rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """In the order of the opinions, of which there is one at least."""
    said = np.empty(len(rows), np.float32)
    for c in range(len(rows)):
        one = opinions[0, rows[c]] * trusts[0]
        for p in range(1, len(trusts)):
            one += opinions[p, rows[c]] * trusts[p]
        said[c] = one
    return said


class Listed(NamedTuple):
    """A list that is shown, as its items looked on arrival; M of them.

    Fields
        items, places, list_id: see `headwater.examples.ShownList`; places from 1, 0 where that is not known.
        rows: of the items; -1 without one.
        counts: all-time events of each item.
        opinions: of each expert that has one on arrival, of each item.
        own: of each item what the user did with it: how many events, how many entries back the newest one is (from 0),
            how long ago (ms) and what it weighed as a target.
        tired: facts of how often it was shown before (`models.shown.showings`).
        numbers: name -> of each item, such as its price in this list (`models.shown.numbers`).
    """

    items: tuple[str, ...]
    places: list[int]
    list_id: str
    rows: list[int]
    counts: list[int]
    opinions: list[list[float]]
    own: list[tuple[int, int, int, float]]
    tired: list[list[float]]
    numbers: dict[str, list[float | None]] = {}  # noqa: RUF012 - nobody writes into it


@dataclass
class Pending:
    """An example of the block that is not full yet: what learning it needs, and what was said of it on arrival."""

    user_id: str
    last: Entry | None  # newest history entry: equal to the target before, this example continues that one
    target: Entry
    row: int  # of the target; -1 without one
    steps: Steps  # of the history
    since: float
    fresh: float = 0.0  # 1: a new session starts with it
    against: bool = False  # the event speaks against its item: a query that teaches nothing
    unranked: bool = False  # a query whose target has no row yet: a miss for every ranker
    popularity_rank: int = 0  # 0: no query
    newest_before: int | None = None  # latest event time so far (epoch ms)
    popularity_before: list[float] = field(default_factory=list)  # the target's log popularity, one per half-life
    excluded: NDArray[np.int64] | None = None  # rows that the rule leaves out; None: no query
    opinions: list[Sparse] | None = None  # of each expert that has one on arrival; None: no query
    capped: bool = False  # its user has taught enough: it is neither asked nor learned
    kind: Kind = Kind.EVENT
    tired: Tired | None = None  # of a query, what its user was shown before
    listed: Listed | None = None  # it is a list that is shown: asked about, and no target
    request_id: str | None = None  # that the event answers
    passed_over: list[int] = field(default_factory=list)  # rows that were shown before it and not reacted to
    told: list[float] | None = None  # of the moment and the user (`ranker.told`); None: nothing
    notes: dict[str, Any] = field(default_factory=dict)  # JSON that `Expert.note` left for `rewind`, by expert's name


@dataclass(frozen=True)
class Block:
    """Examples, and as arrays, right-padded with zeros to L steps, the Q queries among them, then the S lists shown."""

    examples: Sequence[Pending]
    used: int  # rows in use, N
    type_index: Mapping[str, int]
    chances: NDArray[np.float64]  # (N,) of each row to be drawn as a negative
    places: list[int]  # of each query among the examples
    lists: list[int]  # of each list that is shown
    history: NDArray[np.int64]  # (Q + S, L)
    types: NDArray[np.int64]  # (Q + S, L)
    gaps: NDArray[np.float32]  # (Q + S, L)
    lengths: NDArray[np.int32]  # (Q + S,)
    since: NDArray[np.float32]  # (Q + S,)
    fresh: NDArray[np.float32]  # (Q + S,)
    weight: NDArray[np.float32]  # (Q,), how much each counts as a target; sums to 1

    @property
    def asked(self) -> list[Pending]:
        """The queries and the lists, in the order of the arrays."""
        return [self.examples[i] for i in (*self.places, *self.lists)]


def block_of(
    examples: Sequence[Pending],
    used: int,
    type_index: Mapping[str, int],
    chances: NDArray[np.float64],
    config: ModelConfig,
) -> Block:
    """The block of some examples; those that have opinions are its queries."""
    places = [i for i, pending in enumerate(examples) if pending.opinions is not None]
    lists = [i for i, pending in enumerate(examples) if pending.listed is not None]
    asked = [examples[i] for i in (*places, *lists)]
    longest = max((len(one.steps.rows) for one in asked), default=0)
    arrays: dict[str, Any] = pad_steps([one.steps for one in asked], max(longest, 1))
    del arrays["values"], arrays["starts"]
    queries = asked[: len(places)]
    weight = np.array([event_weight(one.target.type, one.target.value, config) for one in queries], np.float32)
    return Block(
        examples=examples,
        used=used,
        type_index=type_index,
        chances=chances,
        places=places,
        lists=lists,
        since=np.array([one.since for one in asked], np.float32),
        fresh=np.array([one.fresh for one in asked], np.float32),
        weight=weight / max(float(weight.sum()), 1e-6),
        **arrays,
    )
