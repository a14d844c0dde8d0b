"""The protocol of an expert: all that learner, publication, checkpoint, graph and parity ask of one.

An expert is one file that holds its opinion, how it learns, its part of the served graph, its arrays and its state. The
others loop over the experts that the configuration names (`registry`). docs/new-expert.md walks through a real one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from models.block import Block, Pending, Sparse
from models.inputs import Recent
from models.onnx_nodes import Nodes
from models.part import CAPACITY, Changes, Input, Part

__all__ = ["Dense", "Expert", "LearnedEvent", "LearnedRun", "OptionalExpert", "Reviser", "Similar"]

Array = NDArray[np.float32]
Rows = NDArray[np.int64]

Similar = Callable[[Array], Array | None]
"""Vectors (used, d) of all items -> the mean (d,) of those that are like the new item; None without any."""


class Dense(NamedTuple):
    """An opinion of every item: `max(values - shift, floor)`, (N,)."""

    values: Array
    shift: np.float32 = np.float32(0)
    floor: np.float32 = np.float32(-np.inf)


class LearnedEvent(NamedTuple):
    """What an expert learns at once."""

    row: int  # of the item
    time_ms: int  # epoch
    since_ms: int  # since the first event of all
    weight: float  # how much it counts as a target
    before: Recent  # the history before it, of repeats the newest alone


class LearnedRun(NamedTuple):
    """Some events that an expert learns at once, in their order: n of them, and M rows of the histories before them."""

    rows: Rows  # (n,), this and the next three as of `LearnedEvent`
    times_ms: Rows  # (n,)
    since_ms: Rows  # (n,)
    weights: NDArray[np.float64]  # (n,)
    recent: Rows  # (M,), as of `Recent`, one history after another
    ago_ms: NDArray[np.float64]  # (M,)
    starts: Rows  # (n + 1,), where each history begins among them

    def events(self) -> Iterator[LearnedEvent]:
        """One by one."""
        columns = (self.rows, self.times_ms, self.since_ms, self.weights, self.starts[:-1], self.starts[1:])
        for row, time_ms, since_ms, weight, begin, end in zip(*(one.tolist() for one in columns), strict=True):
            before = Recent(self.recent[begin:end], self.ago_ms[begin:end])
            yield LearnedEvent(row, time_ms, since_ms, weight, before)


class Expert(Part):
    """Something that has an opinion of items. In log order it is asked of each query, then learns its answer."""

    name: str
    """Of the expert; its trust in the graph is `trust_<name>`."""

    part: str
    """The graph's output that its opinion belongs to: what an answer's reasons are made of."""

    reason: str | None = None
    """What an answer says of an item that has its rank from this expert, where words do."""

    trusts: int = 1
    """How many opinions it has, each with a weight of the gate's."""

    on_arrival: ClassVar[bool] = False
    """Whether it has its one, sparse opinion the moment a query arrives (`arrive`), before the block is full. `nodes`
    say the same; the memories are asked by `arrive` in serving, too, but for a graph that is alone
    (`build_graph(pure=True)`)."""

    def start(self) -> list[float]:
        """The gate's weights for its opinions before anything is learned, `trusts` of them."""
        return [0.0] * self.trusts

    def open(self, row: int, used: int, similar: Similar) -> None:
        """An item got a row; `used` rows are in use now."""

    def arrive(self, recent: Recent) -> Sparse:
        """The opinion of a query with this history, before its answer is learned (`on_arrival`)."""
        return Sparse(np.zeros(0, np.int64), np.zeros(0, np.float32))

    def note(self, example: Pending) -> None:
        """Take down what `rewind` needs, in the example's `notes` under one's name; it is about to be counted."""

    def count(self, event: LearnedEvent) -> None:
        """Learn one event at once."""

    def count_run(self, run: LearnedRun) -> None:
        """Learn some events at once, to the same bits as `count` one by one."""
        for event in run.events():
            self.count(event)

    def take_back(self, event: LearnedEvent) -> None:
        """An event that `count` was told of is undone: take off again what it added, as it was at its own time."""

    def learn(self, block: Block) -> None:
        """The block is full: have an opinion of its queries, by the weights as they are; then take the block's step."""
        self.ask(block)

    def ask(self, block: Block) -> None:
        """Have an opinion of a block's queries and learn nothing."""

    def opinions(self, block: Block, i: int) -> Sequence[Sparse | Dense]:
        """Of the block's example i, after `learn` or `ask`: `trusts` opinions, or none at all."""
        return ()

    def of_rows(self, block: Block, i: int, rows: Rows) -> Sequence[Array]:
        """The same of few rows (m,) alone, (m,) each: the block's example i is a list that is shown."""
        said = np.zeros((self.trusts, len(rows)), np.float32)
        for row, one in zip(said, self.opinions(block, i), strict=False):
            if isinstance(one, Dense):
                row[:] = np.maximum(one.values[rows] - one.shift, one.floor)
            else:
                values = dict(zip(one.rows.tolist(), one.values.tolist(), strict=True))
                row[:] = [values.get(each, 0.0) for each in rows.tolist()]
        return list(said)

    def rewind(self, example: Pending) -> None:
        """The block's queries are answered from the last to the first: undo what this example taught."""

    def nodes(self, add: Nodes, trust: str, nothing: str) -> str:
        """Add the opinion to the graph; the name of its (B, N), times `trust` (B, trusts). `nothing`: zeros (B, N)."""
        return nothing


class OptionalExpert(Expert):
    """An expert that a configuration names under `experts`, with settings of its own.

    It keeps its weights, all float32, in `tables` (capacity, ...), which have a row per item, and in `numbers`, which
    have not; it sets `touched` (capacity,) where it changes a row. Growth, publication and checkpoint follow from that.
    In graph, bundle and checkpoint the names are `<expert>_<key>`.
    """

    Settings: ClassVar[type[BaseModel]]
    """What `model.overrides.experts.<name>` may hold."""

    def __init__(self, settings: Any, capacity: int) -> None:
        """`settings` are an object of `Settings`; `capacity` rows are allocated."""
        self.settings = settings
        self.touched = np.zeros(capacity, bool)  # rows that changed since the last publication
        self.tables: dict[str, Array] = {}
        self.numbers: dict[str, Array] = {}
        self._fills: dict[str, float] = {}

    def table(self, key: str, *shape: int, fill: float = 0.0) -> Array:
        """A new table; rows that belong to no item hold `fill`."""
        self._fills[key] = fill
        self.tables[key] = np.full((len(self.touched), *shape), fill, np.float32)
        return self.tables[key]

    def grow(self, capacity: int) -> None:
        """Room for more items."""
        more = capacity - len(self.touched)
        self.touched = np.concatenate([self.touched, np.zeros(more, bool)])
        for key, table in self.tables.items():
            fill = np.full((more, *table.shape[1:]), self._fills[key], np.float32)
            self.tables[key] = np.concatenate([table, fill])

    def clear(self, rows: list[int]) -> None:
        """Forget items that were let go."""
        for key, table in self.tables.items():
            table[rows] = self._fills[key]
        self.touched[rows] = True

    def inputs(self) -> dict[str, Input]:
        """Tables and numbers."""
        tables = {
            key: Input(np.float32, (CAPACITY, *one.shape[1:]), self._fills[key]) for key, one in self.tables.items()
        }
        numbers = {key: Input(np.float32, one.shape) for key, one in self.numbers.items()}
        return {f"{self.name}_{key}": one for key, one in (tables | numbers).items()}

    def weights(self) -> dict[str, NDArray[Any]]:
        """Views of tables and numbers."""
        return {f"{self.name}_{key}": one for key, one in (self.tables | self.numbers).items()}

    def read(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Be the published tables and numbers."""
        self.tables = {key: weights[f"{self.name}_{key}"] for key in self.tables}
        self.numbers = {key: weights[f"{self.name}_{key}"] for key in self.numbers}

    def take_changes(self) -> Changes:
        """Touched rows of all tables, and all numbers."""
        rows = np.flatnonzero(self.touched)
        self.touched[:] = False
        return Changes(
            [f"{self.name}_{key}" for key in self.numbers], {f"{self.name}_{key}": rows for key in self.tables}
        )

    def state(self) -> dict[str, NDArray[Any]]:
        """Tables and numbers."""
        return self.weights()


class Reviser(Expert):
    """An expert that changes what all others said together, of a few items; it has no opinion of its own."""

    def revise(self, q: int, trust: np.float32, scores: Array) -> None:
        """Change the scores (N,) of the block's query q, in place."""

    def taught(self, q: int, chance: Array, share: np.float32) -> np.float32:
        """The loss's gradient at its trust, from `chance` (N,) times `share`, the gradient at the revised scores.

        Leaves in `chance` the gradient at the scores before its revision.
        """
        return np.float32(0)

    def step(self) -> None:
        """All of the block's queries have taught: take a step."""

    def revision(self, add: Nodes, trust: str, others: Callable[[], str]) -> tuple[str, str] | None:
        """Add the revision of the sum `others()` (B, N) to the graph: the names of rows, (B, S), and of what is added
        there, (B, S), as often as a row is among them. None: nothing is.
        """
        return None
