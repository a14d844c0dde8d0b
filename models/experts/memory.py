"""Association memory: which items follow or accompany which, counted online, readable at the very next event.

The score of item j for history h_1 (newest), h_2, ... is

    sum_k  read_fade^(k-1) * A[h_k, j] / count[h_k]^source_power / count[j]^target_power

where A[i, j] grows by write_fade^(k-1) each time j follows with i at place k (both ways when symmetric). It is the
item-item cosine of Sarwar et al. (2001) made online, with recency in place of a refit. Only the heaviest `slots`
associations of an item are kept; a new one takes the lightest slot.

What is old counts less: a row fades at each of its item's own events, and with `half_life_hours` by event time too.
Then its age also fades what an entry adds to A and what it says: what was read yesterday neither leads to what is read
now nor drowns it. Fading rows are forward decay (Cormode, Shkapenyuk, Srivastava, Xu 2009, section 3): an event at time
t is counted exp(e(t)) times, with e(t) = own events * -ln decay + t * ln 2 / half-life, so that it writes a few slots
and not whole rows. A row's weights are kept relative to exp(base), its count as a logarithm, so nothing overflows
whatever the times are. Only shares of the highest score are used, so a factor that all rows have in common, such as
now's, is left out.

The opinion is the square root of the share of the highest score: it measured .1166 where the plain share had .1155 and
its logarithm .1152 (docs/lab-book.md). Knows rows, not item ids.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from models.block import Sparse
from models.compiled import compiled, compiled_lanes
from models.config import MemoryConfig, ModelConfig
from models.experts.associations import POOLED, PUBLISHED, read_associations, score
from models.experts.expert import Expert, LearnedEvent, LearnedRun
from models.experts.pool import (
    SMALLEST,
    AssociationPool,
    append,
    empty_pool,
    enlarged,
    free_run,
    grown,
    packed,
    published_length,
    take_touched,
    touch,
    unpack,
)
from models.inputs import Recent
from models.onnx_nodes import Nodes
from models.part import CAPACITY, OWN_ROW, Changes, Input

__all__ = ["AssociationMemory"]

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Marks = NDArray[np.bool_]

NEVER = -1e30
"""Log count of an item without events, base of a row without associations."""

HOUR_MS = 3_600_000.0

TINY = 1e-9
"""Added to the highest score, which may be 0."""

HIGHEST = math.log(1e4)
"""A row whose next gain would weigh exp(this) or more is rebased, lest float32 loses small weights."""

NEGLIGIBLE = 1e-6
"""Share of an event below which an association is not worth the slot that it would take from another, and below which
what is left of one after an event was taken back is rounding."""

FORGOTTEN = 1e-10
"""Share of a count below which what is left of it after an event was taken back is rounding."""


@compiled_lanes
def share_of_highest(scores: Floats) -> Floats:
    """Scores (m,) as the fusion takes them: square root of the share of the highest."""
    highest = np.float32(0)
    for j in range(len(scores)):
        highest = max(highest, scores[j])
    return np.sqrt(scores / (highest + np.float32(TINY)))  # type: ignore[no-any-return]


class Tables(NamedTuple):
    """All arrays of a memory, as compiled code takes them."""

    pool: AssociationPool
    own: Doubles  # (capacity,), see the module's text, as the next two
    base: Doubles  # (capacity,)
    log_count: Doubles  # (capacity,)
    touched_source: Marks  # (capacity,), `log_source` changed
    touched_target: Marks  # (capacity,), `target_scale` changed


class Rates(NamedTuple):
    """Numbers of a memory, as compiled code takes them."""

    per_event: float
    per_ms: float
    source_power: float
    target_power: float
    symmetric: bool


BY_ROW = ("own", "base", "log_count")
PUBLISHED_BY_ROW = ("log_source", "target_scale")
"""Names of arrays (capacity,): the learner's own, and of those that are published."""


class AssociationMemory(Expert):
    """Sparse associations of one kind."""

    part = "memory"
    on_arrival = True

    def __init__(
        self, config: MemoryConfig, capacity: int, decay: float = 1.0, number: int = 0, most_rows: int = 0
    ) -> None:
        self.config = config
        self.most_rows = most_rows  # that will ever be in use together
        self.name = f"memory{number}"
        self.rates = Rates(
            per_event=-math.log(decay),
            per_ms=math.log(2.0) / (config.half_life_hours * HOUR_MS) if config.half_life_hours else 0.0,
            source_power=config.source_power,
            target_power=config.target_power,
            symmetric=config.symmetric,
        )
        self.aversion = 0.0
        self.tables = _empty_tables(capacity, config.slots)
        self.held = self.tables.pool.held
        self.sums = np.zeros(capacity)  # scratch of `score`
        steps = np.arange(config.reach, dtype=np.float64)
        self.read_weight = (config.read_fade**steps).astype(np.float32)  # (reach,)
        self.write_weight = (config.write_fade**steps).astype(np.float32)  # (reach,)

    @classmethod
    def named(cls, config: ModelConfig, capacity: int) -> list[AssociationMemory]:
        """The memories that the configuration names."""
        memories = [
            cls(one, capacity, config.memory_decay, k, config.max_items) for k, one in enumerate(config.memories)
        ]
        if memories:  # one is averse: the one that hears most of a history
            max(memories, key=lambda one: one.config.reach).aversion = config.aversion
        return memories

    def start(self) -> list[float]:
        """One that fades by time starts from nothing: whether now differs from always is for the stream to say."""
        return [0.0 if self.config.half_life_hours else 3.0]

    def arrive(self, recent: Recent) -> Sparse:
        """Rows that are associated with a history, and the square root of their shares of the highest score.

        Less, where the memory is averse, what is associated with what was turned down, as far as that is all there is.
        """
        rows, scores = self.score(recent.rows, recent.ago_ms)
        said, against = share_of_highest(scores), recent.against
        if not self.aversion or against is None:
            return Sparse(rows, said)
        others, scores = self.score(against.rows, against.ago_ms)
        averse = share_of_highest(scores) * np.float32(self.aversion * against.much)
        rows, place = np.unique(np.concatenate([rows, others]), return_inverse=True)
        values = np.bincount(place, np.concatenate([said, -averse]), len(rows))
        return Sparse(rows, values.astype(np.float32))

    def count(self, event: LearnedEvent) -> None:
        """Associate the item with the history before it."""
        self.update(event.before.rows, event.row, event.since_ms, event.weight, event.before.ago_ms)

    def count_run(self, run: LearnedRun) -> None:
        """The same of some events, by one compiled loop."""
        self._make_room_for(len(run.rows))
        _write_run(self.tables, self.rates, run, self.write_weight)

    def take_back(self, event: LearnedEvent) -> None:
        """Take off what the event weighed at its own time, as far as it is still there: an association whose slot
        another took has nothing left, and what faded at later events of its item is taken off as if it had not.
        """
        before, now = event.before, event.since_ms * self.rates.per_ms
        _take_back(self.tables, self.rates, before.rows, before.ago_ms, event.row, now, event.weight, self.write_weight)

    def score(self, recent: Rows, ago_ms: Doubles | None = None) -> tuple[Rows, Floats]:
        """The rows that have a score above 0, (m,) int64 and all different, and their scores (m,) float32.

        `recent` are history rows, newest first. `ago_ms`, (len(recent),), is how long before any one moment each was: a
        memory that fades by event time listens to them as they fade. Scores are relative: all have the same unknown
        factor. Costs what is associated with the history, whatever the size of the catalogue.
        """
        faded = np.zeros(len(recent)) if ago_ms is None else ago_ms * self.rates.per_ms
        return score(self.held, np.ascontiguousarray(recent), faded, self.read_weight, self.sums)

    def update(
        self, recent: Rows, target: int, since_ms: float = 0, weight: float = 1.0, ago_ms: Doubles | None = None
    ) -> None:
        """Count a target and associate it with the history before it.

        `recent` are the history's rows, newest first, without repeats, and `ago_ms`, (len(recent),), how long before
        the event each one was: with entries of long ago a memory that fades by event time associates it as little.
        `since_ms` is the event's time since any fixed landmark, `weight` how much it counts as a target.
        """
        if ago_ms is None:
            ago_ms = np.zeros(len(recent))
        self._make_room_for(1)
        now = since_ms * self.rates.per_ms
        _write(self.tables, self.rates, recent, ago_ms, target, now, weight, self.write_weight)

    def grow(self, capacity: int) -> None:
        """Room for more items; what is known stays."""
        tables = self.tables
        more = _empty_tables(capacity - len(tables.own), self.config.slots)
        rows = {
            name: np.concatenate([getattr(tables, name), getattr(more, name)])
            for name in (*BY_ROW, "touched_source", "touched_target")
        }
        self._be(Tables(pool=grown(tables.pool, capacity), **rows))
        self.sums = np.zeros(capacity)

    def _be(self, tables: Tables) -> None:
        self.tables, self.held = tables, tables.pool.held

    def _make_room_for(self, events: int) -> None:
        self._make_room(events * (self.config.reach + 3) * max(self.config.slots, SMALLEST))  # more than they ever take

    def _make_room(self, places: int) -> None:
        """See to it that the pool has room for so many places more."""
        pool = self.tables.pool
        if pool.top[0] + places > len(pool.held.ids):
            self._be(self.tables._replace(pool=enlarged(pool, places, max(self.most_rows, len(self.tables.own)))))

    def clear(self, rows: list[int]) -> None:
        """Forget items: their rows, and every association that points to them."""
        tables = self.tables
        for array in (tables.own, self.held.log_source, self.held.target_scale):
            array[rows] = 0
        tables.base[rows] = tables.log_count[rows] = NEVER
        tables.touched_source[rows] = tables.touched_target[rows] = True
        gone = np.zeros(len(tables.own), bool)
        gone[rows] = True
        _clear(tables.pool, gone)

    def inputs(self) -> dict[str, Input]:
        """The pool, the run of each row in it, and what rows are worth."""
        return {
            f"{self.name}_ids": Input(np.int32, (f"{self.name}_places",), OWN_ROW),
            f"{self.name}_weights": Input(np.float32, (f"{self.name}_places",)),
            f"{self.name}_start": Input(np.int64, (CAPACITY,)),
            f"{self.name}_size": Input(np.int32, (CAPACITY,)),
            f"{self.name}_log_source": Input(np.float32, (CAPACITY,)),
            f"{self.name}_target_scale": Input(np.float32, (CAPACITY,)),
        }

    def weights(self) -> dict[str, NDArray[Any]]:
        """Views of the pool as far as it is in use, and of the tables."""
        length = published_length(self.tables.pool)
        self._make_room(length - int(self.tables.pool.top[0]))
        places, found = slice(length), self.tables.pool.held._asdict()
        return {f"{self.name}_{name}": found[name][places] if name in POOLED else found[name] for name in PUBLISHED}

    def read(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Be what was published."""
        self.held = read_associations(weights, self.name)
        self.sums = np.zeros(len(self.held.size))

    def take_changes(self) -> Changes:
        """Rows of the tables, and single places of the pool."""
        tables, pool = self.tables, self.tables.pool
        places, runs = take_touched(pool), np.flatnonzero(pool.touched_runs)
        source, target = np.flatnonzero(tables.touched_source), np.flatnonzero(tables.touched_target)
        for marks, rows in (
            (pool.touched_runs, runs),
            (tables.touched_source, source),
            (tables.touched_target, target),
        ):
            marks[rows] = False
        by_row = {"start": runs, "size": runs, "log_source": source, "target_scale": target}
        return Changes(
            rows={f"{self.name}_{name}": rows for name, rows in by_row.items()},
            places={f"{self.name}_{name}": places for name in POOLED},
        )

    def state(self) -> dict[str, NDArray[Any]]:
        """The tables."""
        arrays = {name: getattr(self.tables, name) for name in BY_ROW}
        arrays |= {name: getattr(self.held, name) for name in PUBLISHED_BY_ROW}
        return {f"{self.name}.{name}": array for name, array in arrays.items()}

    def packed(self) -> dict[str, NDArray[Any]]:
        """The pool, without what is free in it."""
        return {f"{self.name}.pool.{name}": array for name, array in packed(self.tables.pool).items()}

    def restore(self, values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """The pool as it was; from a checkpoint of an earlier release the associations of its tables, row by row."""
        dense = arrays.get(f"{self.name}.ids")
        if dense is not None:
            weights = arrays[f"{self.name}.weights"]
            slots = self.config.slots
            if dense.shape != weights.shape or dense.shape[1:] != (slots,) or len(dense) > len(self.tables.own):
                raise ValueError(f"{self.name} is {dense.shape} and {weights.shape}, not (rows, {slots})")
            self._make_room(len(dense) * 2 * slots)
            _take_tables(self.tables.pool, dense, weights)
            return
        named = f"{self.name}.pool."
        pool = {name.removeprefix(named): array for name, array in arrays.items() if name.startswith(named)}
        self._make_room(int(pool["top"][0]))
        unpack(self.tables.pool, pool)

    def nodes(self, add: Nodes, trust: str, nothing: str) -> str:
        """sqrt(score / highest score), less the same of what was turned down where it is averse; times trust."""
        liked = said = self._said(add, nothing, "Greater")
        if self.aversion:
            turned_down = add("Greater", add("ReduceMax", "against", keepdims=0), add.float(0.0))
            said = add.only_if(turned_down, liked, lambda then: self._less_averse(then, liked, nothing))
        return add("Mul", said, trust)

    def _less_averse(self, add: Nodes, said: str, nothing: str) -> str:
        """What is said, (B, N), less what is associated with what was turned down."""
        averse = add("Mul", add("Unsqueeze", "against", add.ints(1)), add.float(self.aversion))  # (B, 1)
        return add("Sub", said, add("Mul", self._said(add, nothing, "Less"), averse))

    def _said(self, add: Nodes, nothing: str, speaks: str) -> str:
        """sqrt(score / highest score), (B, N), of the steps that speak for their items (Greater) or against (Less)."""
        memory = self.config
        length = add("Squeeze", add("Shape", "history", start=1))
        step = add("Range", add.constant(0, np.int64), length, add.constant(1, np.int64))  # (L,)
        heard = add("Where", add(speaks, "speaks", add.float(0.0)), step, add.ints(-1))  # (B, L)
        out = f"{add.prefix}{self.name}_{speaks}"
        add("TopK", heard, add.ints(memory.reach), out=out, outputs=2, axis=1)
        place = f"{out}_0"  # (B, r), the newest first, -1 where there is none
        real = add("GreaterOrEqual", place, add.ints(0))  # (B, r)
        recent = add("GatherElements", "history", add("Max", place, add.ints(0)), axis=1)  # (B, r), newest first
        fade = add.constant((memory.read_fade ** np.arange(memory.reach))[None], np.float32)
        source = add("Gather", f"{self.name}_log_source", recent, axis=0)  # (B, r)
        source = add("Cast", source, to=TensorProto.DOUBLE)
        if memory.half_life_hours:
            faded = add("GatherElements", _faded(add, memory.half_life_hours), add("Max", place, add.ints(0)), axis=1)
            source = add("Sub", source, faded)
        log = add("Where", real, source, add.double(NEVER))
        share = add("Exp", add("Sub", log, add("ReduceMax", log, add.ints(1), keepdims=1)))  # the highest is 1
        worth = add("Cast", share, to=TensorProto.FLOAT)
        say = add("Mul", add("Mul", worth, fade), add("Cast", real, to=TensorProto.FLOAT))
        slot, two = add.constant(np.arange(memory.slots), np.int64), add.ints(2)
        size = add("Cast", add("Gather", f"{self.name}_size", recent, axis=0), to=TensorProto.INT64)
        inside = add("Less", slot, add("Unsqueeze", size, two))  # (B, r, slots), places of the run
        start = add("Unsqueeze", add("Gather", f"{self.name}_start", recent, axis=0), two)
        at = add("Where", inside, add("Add", start, slot), add.ints(0))
        weights = add("Where", inside, add("Gather", f"{self.name}_weights", at, axis=0), add.float(0.0))
        gain = add("Mul", weights, add("Unsqueeze", say, two))
        flat = add.ints(0, -1)
        ids = add("Reshape", add("Gather", f"{self.name}_ids", at, axis=0), flat)  # (B, r * slots)
        score = add("ScatterElements", nothing, ids, add("Reshape", gain, flat), axis=1, reduction="add")
        score = add("Mul", score, f"{self.name}_target_scale")
        highest = add("Add", add("ReduceMax", score, add.ints(1), keepdims=1), add.float(TINY))  # (B, 1)
        return add("Sqrt", add("Div", score, highest))


def _empty_tables(capacity: int, slots: int) -> Tables:
    """Tables of rows without an event."""
    return Tables(
        pool=empty_pool(capacity, slots),
        own=np.zeros(capacity),
        base=np.full(capacity, NEVER),
        log_count=np.full(capacity, NEVER),
        touched_source=np.zeros(capacity, bool),
        touched_target=np.zeros(capacity, bool),
    )


def _faded(add: Nodes, half_life_hours: float) -> str:
    """By how much the log of each step's say is less than the newest one's, (B, L); see `behind_ms`."""
    seconds = add("Exp", add("Mul", add("Cast", "gaps", to=TensorProto.DOUBLE), add.double(10.0)))
    gone = add("Sub", seconds, add.double(1.0))
    behind = add("CumSum", gone, add.constant(1, np.int64), exclusive=1, reverse=1)
    return add("Mul", behind, add.double(math.log(2.0) / (half_life_hours * 3600.0)))


@compiled
def _value(tables: Tables, row: int, power: float) -> None:
    """Log of what the weights of a row are worth now, but for the factor that all rows have in common."""
    own = tables.own[row]
    tables.pool.held.log_source[row] = tables.base[row] - own - power * (tables.log_count[row] - own)
    tables.touched_source[row] = True


@compiled
def _slot(pool: AssociationPool, row: int, item: int) -> int:
    """The slot of a row's association with an item; -1 where it has none."""
    start = pool.held.start[row]
    for slot in range(pool.held.size[row]):
        if pool.held.ids[start + slot] == item:
            return slot
    return -1


@compiled
def _take_slot(pool: AssociationPool, row: int, item: int, taken: Marks) -> int:
    """Give an item the first lightest slot of a row that is not taken, the first without weight where there are any;
    -1 when all are taken."""
    held = pool.held
    best, start = -1, held.start[row]
    for slot in range(held.size[row]):
        if not taken[slot] and (best < 0 or held.weights[start + slot] < held.weights[start + best]):
            best = slot
    if (best < 0 or held.weights[start + best] > 0) and held.size[row] < pool.slots:
        append(pool, row, item)
        best = held.size[row] - 1
    elif best >= 0:
        held.ids[start + best] = item
        held.weights[start + best] = 0.0
    return best


@compiled
def _worth(tables: Tables, rates: Rates, row: int, now: float) -> np.float32:
    """What an event of now weighs in a row's units. Where that is too much, it becomes the unit: the row is rebased."""
    exponent = tables.own[row] + now - tables.base[row]
    if exponent < HIGHEST:
        return np.float32(math.exp(exponent))
    keep = np.float32(math.exp(-exponent))
    held = tables.pool.held
    for place in range(held.start[row], held.start[row] + held.size[row]):
        if held.weights[place] > 0:
            touch(tables.pool, place)
            held.weights[place] *= keep
    tables.base[row] = tables.own[row] + now
    _value(tables, row, rates.source_power)
    return np.float32(1.0)


@compiled
def _write_row(pool: AssociationPool, row: int, items: Rows, gain: Floats, taken: Marks) -> None:
    """One row's associations with many different items, the newest first. `taken` (slots,) is scratch, all False."""
    at = np.full(len(items), -1, np.int64)
    for i in range(len(items)):
        at[i] = _slot(pool, row, items[i])
        if at[i] >= 0:
            taken[at[i]] = True
    for i in range(len(items)):
        slot = at[i]
        if slot < 0:
            slot = _take_slot(pool, row, items[i], taken)
            if slot < 0:
                continue  # fewer slots than the reach: the newest entries have them
            taken[slot] = True
        place = pool.held.start[row] + slot
        pool.held.weights[place] += gain[i]
        touch(pool, place)


@compiled
def _gains(
    rates: Rates, recent: Rows, ago_ms: Doubles, target: int, weight: float, write_weight: Floats
) -> tuple[Rows, Floats]:
    """Of the newest `len(write_weight)` rows of `recent` those that a target is associated with, and how much."""
    rows = np.empty(min(len(recent), len(write_weight)), np.int64)
    gains = np.empty(len(rows), np.float32)
    held = 0
    for k in range(len(rows)):
        gain = np.float32(write_weight[k] * weight * math.exp(-rates.per_ms * ago_ms[k]))
        if recent[k] != target and gain > NEGLIGIBLE:
            rows[held], gains[held] = recent[k], gain
            held += 1
    return rows[:held], gains[:held]


@compiled
def _write(
    tables: Tables,
    rates: Rates,
    recent: Rows,
    ago_ms: Doubles,
    target: int,
    now: float,
    weight: float,
    write_weight: Floats,
) -> None:
    """Count an event of `target` at `now`, and associate it with the newest `len(write_weight)` rows of `recent`."""
    own, pool = tables.own, tables.pool
    own[target] += rates.per_event
    event, before = own[target] + now, tables.log_count[target]
    counted = tables.log_count[target] = max(before, event) + math.log1p(math.exp(-abs(before - event)))
    power = rates.target_power
    pool.held.target_scale[target] = math.exp(-power * (counted - own[target])) if power else 1.0
    tables.touched_target[target] = True
    _value(tables, target, rates.source_power)
    rows, gains = _gains(rates, recent, ago_ms, target, weight, write_weight)
    held = len(rows)
    taken = np.zeros(pool.slots, np.bool_)
    for place in range(held + 1 if rates.symmetric and held else held):
        row = rows[place] if place < held else target
        worth = _worth(tables, rates, row, now)
        if worth == 0:
            continue  # so late that it counts for nothing
        if place == held:
            _write_row(pool, row, rows, gains * worth, taken)
            continue
        slot = _slot(pool, row, target)
        if slot < 0:
            slot = _take_slot(pool, row, target, taken)
        at = pool.held.start[row] + slot
        pool.held.weights[at] += gains[place] * worth
        touch(pool, at)


@compiled
def _write_run(tables: Tables, rates: Rates, run: LearnedRun, write_weight: Floats) -> None:
    """`_write` of one event after another."""
    for i in range(len(run.rows)):
        begin, end = run.starts[i], run.starts[i + 1]
        recent, ago_ms, now = run.recent[begin:end], run.ago_ms[begin:end], run.since_ms[i] * rates.per_ms
        _write(tables, rates, recent, ago_ms, run.rows[i], now, run.weights[i], write_weight)


@compiled
def _lower(tables: Tables, row: int, item: int, gain: float) -> None:
    """Take a gain off a row's association with an item. One of which nothing is left gives its slot free."""
    held, slot = tables.pool.held, _slot(tables.pool, row, item)
    place = held.start[row] + slot
    if slot < 0 or held.weights[place] <= 0:
        return
    left = held.weights[place] - gain
    if left <= gain * NEGLIGIBLE:
        left, held.ids[place] = 0.0, row
    held.weights[place] = left
    touch(tables.pool, place)


@compiled
def _take_back(
    tables: Tables,
    rates: Rates,
    recent: Rows,
    ago_ms: Doubles,
    target: int,
    now: float,
    weight: float,
    write_weight: Floats,
) -> None:
    """The reverse of `_write`: of the count of `target`, and of its associations with `recent`."""
    own, before = tables.own, tables.log_count[target]
    if before <= NEVER:
        return  # no event of it is counted
    rows, gains = _gains(rates, recent, ago_ms, target, weight, write_weight)
    for k in range(len(rows)):
        row = rows[k]
        if tables.base[row] > NEVER:
            _lower(tables, row, target, gains[k] * _worth(tables, rates, row, now))
    if rates.symmetric and tables.base[target] > NEVER:
        worth = _worth(tables, rates, target, now)
        for k in range(len(rows)):
            _lower(tables, target, rows[k], gains[k] * worth)
    event = own[target] + now
    left = -math.expm1(event - before) if event < before else 0.0
    own[target] = max(own[target] - rates.per_event, 0.0)
    counted = tables.log_count[target] = before + math.log(max(left, FORGOTTEN))
    power = rates.target_power
    if power:
        tables.pool.held.target_scale[target] = math.exp(-power * (counted - own[target])) if left > FORGOTTEN else 0.0
        tables.touched_target[target] = True
    _value(tables, target, rates.source_power)


@compiled
def _clear(pool: AssociationPool, gone: Marks) -> None:
    """Free the runs of rows that are gone; slots of others that point to these are let go."""
    held = pool.held
    for row in range(len(gone)):
        if gone[row]:
            free_run(pool, row)
            continue
        for place in range(held.start[row], held.start[row] + held.size[row]):
            if gone[held.ids[place]]:
                held.ids[place], held.weights[place] = row, 0.0
                touch(pool, place)


@compiled
def _take_tables(pool: AssociationPool, ids: NDArray[np.int32], weights: Floats) -> None:
    """Become what tables of one length for all rows say, (rows, slots)."""
    for row in range(len(ids)):
        size = ids.shape[1]
        while size and ids[row, size - 1] == row and weights[row, size - 1] <= 0:
            size -= 1
        for slot in range(size):
            pool.held.weights[append(pool, row, ids[row, slot])] = weights[row, slot]
