"""A published model in memory: everything that serving needs, as one object, and how a delta changes it.

Before: `learner.publish`, or `stores` that read it. After: `serving` runs its graph. Knows no file, no topic and no
clock.

A delta is first reckoned with and then written: `prepare` leaves the model as it is, and so a delta that does not lead
to what the trainer had is refused with nothing to mend. `commit` writes rows where they lie, which costs what changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from headwater.errors import BundleError
from models.config import ModelConfig
from models.part import OWN_ROW
from models.published.bounds import only_bundle_errors
from models.published.digest import ModelDigest, Touched

if TYPE_CHECKING:
    from models.published.delta import Delta

__all__ = ["REMEDY", "Bundle", "Kept", "Prepared", "most_rows"]

REMEDY = "delete the folder; serving falls back to an older bundle, and the trainer publishes a new one"
REMEDY_DELTA = "the next full bundle puts it right"

Array = NDArray[Any]
Kept = Callable[[Array], Array]
"""Makes what is kept of an array that somebody else goes on to change."""


def most_rows(config: ModelConfig) -> int:
    """Most rows that tables ever have: they grow by doubling."""
    return 2 * max(config.initial_capacity, config.max_items)


class Prepared(NamedTuple):
    """A delta that leads to what the trainer had: `commit` writes it.

    Fields
        delta: as it came.
        grown: arrays that it makes longer, with what they hold before it.
        digest: of the model afterwards.
    """

    delta: Delta
    grown: Mapping[str, Array]
    digest: str


@dataclass
class Bundle:
    """One version of the model.

    Fields
        config: what the model was trained under.
        version, parent: its number, from 1; the digest of the version before, None for the first.
        weights: exactly what `graph` and the memories' loop read; tables have `capacity` rows.
        items: the item id of each row, None for a free one.
        types: event types; `types[i]` has index i + 1.
        metrics: the trainer's prequential figures at publication, JSON.
        extra: any JSON of the publisher, such as source offsets.
        created_ms: epoch ms.
        digest: of weights, items, types and config only, 64 hexadecimal characters: equal content, equal digest,
            wherever and however it came about.
        graph: a serialized ONNX model.
        hashes: of weights and owners, by which a delta's digest costs only what it touched.
        tables: the weights that have a row per item, each with what free rows hold (`part.Input.fill`).
        reasons: the words, by output of the graph, for an item that ranks high by it.
        pools: the weights that have places of a pool, by pool, each with what free places hold.
        item_rows: row by item id; made from `items` where it is empty.
        signature: what its metadata was signed with, where it was.

    With tables, pools and reasons, serving needs none of the code that learns.
    """

    config: ModelConfig
    version: int
    parent: str | None
    weights: dict[str, Array]
    items: list[str | None]
    types: list[str]
    metrics: dict[str, Any]
    extra: dict[str, Any]
    created_ms: int
    digest: str
    graph: bytes
    hashes: ModelDigest = field(repr=False)
    tables: dict[str, float | None]
    reasons: dict[str, str]
    pools: dict[str, dict[str, float | None]] = field(default_factory=dict)
    item_rows: dict[str, int] = field(default_factory=dict, repr=False)
    signature: dict[str, Any] | None = field(default=None, repr=False)
    _room: dict[str, Array] = field(default_factory=dict, repr=False)  # of arrays that grew, with room to grow

    def __post_init__(self) -> None:
        if not self.item_rows:
            self.item_rows = {item_id: row for row, item_id in enumerate(self.items) if item_id is not None}

    @property
    def capacity(self) -> int:
        """Rows of the tables, free ones included."""
        return len(self.items)

    def copy(self) -> Bundle:
        """An independent copy."""
        return Bundle(
            config=self.config,
            version=self.version,
            parent=self.parent,
            weights={name: array.copy() for name, array in self.weights.items()},
            items=list(self.items),
            types=list(self.types),
            metrics=self.metrics,
            extra=self.extra,
            created_ms=self.created_ms,
            digest=self.digest,
            graph=self.graph,
            hashes=self.hashes.copy(),
            tables=self.tables,
            reasons=self.reasons,
            pools=self.pools,
            item_rows=dict(self.item_rows),
            signature=self.signature,
        )

    def kept(self, kept: Kept) -> Bundle:
        """The same with other arrays; neither may be changed."""
        return replace(self, weights={name: kept(array) for name, array in self.weights.items()})

    def apply(self, delta: Delta) -> None:
        """Become the delta's version, in place: arrays are written into, and replaced only where they grew.

        Raises
            BundleError: the delta does not follow this version, or the result is not what the trainer had; the bundle
                stays as it was.
        """
        self.commit(self.prepare(delta))

    def prepare(self, delta: Delta) -> Prepared:
        """Reckon with a delta, and change nothing that anybody reads; `commit` has to come next, or another `prepare`.

        Raises
            BundleError: the delta does not follow this version, or the result is not what the trainer had.
        """
        if delta.parent_version != self.version:
            raise BundleError(
                f"delta {delta.version} follows version {delta.parent_version}, this model is version {self.version}: "
                "apply the deltas between, or read the newest bundle"
            )
        if delta.parent != self.digest:
            raise BundleError(
                f"delta {delta.version} follows a model with digest {(delta.parent or 'none')[:16]}, this one has the "
                f"same number, {self.version}, and digest {self.digest[:16]}: another trainer made it, or one that "
                "began anew. Read the newest bundle"
            )
        back: Callable[[], None] = _nothing
        try:
            with only_bundle_errors(f"delta {delta.version}", REMEDY_DELTA):
                self._refuse_unfit(delta)
                grown, reowns = self._grown(delta), delta.items or delta.capacity != self.capacity
                owners = _Owners(self.items, delta.capacity, delta.items) if reowns else self.items
                reowned = [row for row, _ in delta.items]
                back = self.hashes.update({**self.weights, **grown}, owners, self._changes(delta), reowned)
                digest = self.hashes.value(owners, delta.types, self.config)
            if digest != delta.digest:
                raise BundleError(
                    f"after delta {delta.version} the model's digest is {digest[:16]}, the trainer had "
                    f"{delta.digest[:16]}: read the newest bundle"
                )
        except BaseException:
            back()
            raise
        return Prepared(delta, grown, digest)

    def commit(self, prepared: Prepared) -> None:
        """Write what was prepared last. It costs what changed, and nothing in it can fail."""
        delta = prepared.delta
        self.weights |= prepared.grown
        for name, array in delta.dense.items():
            self.weights[name][...] = array
        for name, (where, values) in delta.rows.items():
            array = self.weights[name]
            if values.ndim < array.ndim:  # places in the flattened table
                array.reshape(-1)[where] = values
            else:
                array[where] = values
        self.items += [None] * (delta.capacity - self.capacity)
        for row, item_id in delta.items:
            before = self.items[row]
            if before is not None and self.item_rows.get(before) == row:
                del self.item_rows[before]
            self.items[row] = item_id
            if item_id is not None:
                self.item_rows[item_id] = row
        self.types = list(delta.types)
        self.parent, self.digest, self.version = self.digest, prepared.digest, delta.version
        self.metrics, self.extra, self.created_ms = delta.metrics, delta.extra, delta.created_ms
        self.signature = None

    def refuse_untrue(self) -> None:
        """Refuse weights that have another digest than the bundle says. Raises BundleError."""
        hashes = ModelDigest.of(self.weights, self.items, self.tables, self.pools, self.hashes.scheme)
        digest = hashes.value(self.items, self.types, self.config)
        if digest != self.digest:
            raise BundleError(
                f"version {self.version}: its weights have digest {digest[:16]}, and deltas led to {self.digest[:16]}: "
                "not published, the last good one serves on"
            )

    def refuse_unfit(self) -> None:
        """Refuse weights whose shapes contradict one another or the number of rows. Raises BundleError."""
        with only_bundle_errors(f"bundle v{self.version}", REMEDY):
            if not 0 < self.capacity <= most_rows(self.config) or len(self.types) > self.config.max_types:
                raise ValueError(f"it has {self.capacity} rows and {len(self.types)} event types")
            for name in self.tables:
                array = self.weights[name]
                if array.ndim == 0 or len(array) != self.capacity:
                    raise ValueError(f"{name} is {array.shape}, and there are {self.capacity} rows")
                self._refuse_wild(name, self.tables[name], array, self.capacity)
            for pool, fills in self.pools.items():
                shapes = {name: self.weights[name].shape for name in fills}
                if any(len(shape) != 1 for shape in shapes.values()) or len(set(shapes.values())) > 1:
                    raise ValueError(f"the arrays of {pool} are {shapes}, and have to be of one length")
                for name, fill in fills.items():
                    self._refuse_wild(name, fill, self.weights[name], self.capacity)
            for ids, start, size in self._runs():
                _refuse_beyond(start, self.weights[start], self.weights[size], len(self.weights[ids]))

    def _runs(self) -> Iterator[tuple[str, str, str]]:
        """Names of each pool of row numbers, and of where in it the run of each row begins and how long it is."""
        for fills in self.pools.values():
            for name, fill in fills.items():
                if fill is OWN_ROW:
                    yield name, f"{name.removesuffix('_ids')}_start", f"{name.removesuffix('_ids')}_size"

    @property
    def _fills(self) -> dict[str, float | None]:
        """What free rows and places of all arrays hold that have such."""
        return self.tables | {name: fill for fills in self.pools.values() for name, fill in fills.items()}

    def _lengths(self, delta: Delta) -> dict[str, int]:
        """Of all tables and pools afterwards."""
        places = {
            name: delta.pools.get(pool, len(self.weights[name])) for pool in self.pools for name in self.pools[pool]
        }
        return dict.fromkeys(self.tables, delta.capacity) | places

    def _refuse_unfit(self, delta: Delta) -> None:
        """Refuse what does not fit into the arrays that are here, before any is written. Raises ValueError."""
        most = most_rows(self.config)
        if not self.capacity <= delta.capacity <= most:
            raise ValueError(f"it has {delta.capacity} rows: here are {self.capacity}, and at most {most} are allowed")
        if len(delta.types) > self.config.max_types:
            raise ValueError(f"it has {len(delta.types)} event types (max_types is {self.config.max_types})")
        rows = [row for row, _ in delta.items]
        if rows and max(rows) >= delta.capacity:
            raise ValueError(f"it names an item for row {max(rows)} of {delta.capacity}")
        places = most * max((memory.slots for memory in self.config.memories), default=0)
        for pool, length in delta.pools.items():
            held = len(self.weights[next(iter(self.pools[pool]))])
            if not held <= length <= max(places, held):
                raise ValueError(f"{pool} has {length} places: here are {held}, and at most {places} are allowed")
        lengths, fills = self._lengths(delta), self._fills
        for name, array in delta.dense.items():
            here = self.weights[name]
            wanted = (lengths[name], *here.shape[1:]) if name in lengths else here.shape
            if (array.shape, array.dtype) != (wanted, here.dtype):
                raise ValueError(f"{name} is {array.dtype} {array.shape}, not {here.dtype} {wanted}")
            self._refuse_wild(name, fills.get(name, 0.0), array, delta.capacity)
        for name, (where, values) in delta.rows.items():
            here = self.weights[name]
            by_place = values.ndim < here.ndim
            wanted = (len(where), *(() if by_place else here.shape[1:]))
            if name not in lengths or (values.shape, values.dtype) != (wanted, here.dtype):
                raise ValueError(f"{name} is {values.dtype} {values.shape}, not {here.dtype} {wanted}")
            end = lengths[name] * (math.prod(here.shape[1:]) if by_place else 1)
            if len(where) and (int(where.min()) < 0 or int(where.max()) >= end):
                raise ValueError(f"{name} has places {where.min()}..{where.max()} of {end}")
            self._refuse_wild(name, fills[name], values, delta.capacity)
        for ids, start, size in self._runs():
            if {start, size} & (delta.rows.keys() | delta.dense.keys()):
                _refuse_beyond(start, *self._told_runs(delta, start, size), lengths[ids])

    def _told_runs(self, delta: Delta, start: str, size: str) -> tuple[Array, Array]:
        """Where runs begin and how long they are, of rows that a delta tells of: both in one way. Raises ValueError."""
        whole = [name in delta.dense for name in (start, size)]
        if any(whole):
            if not all(whole) or {start, size} & delta.rows.keys():
                raise ValueError(f"{start} and {size} are of other rows")
            return delta.dense[start], delta.dense[size]
        (at, begins), (same, sizes) = delta.rows[start], delta.rows[size]
        if not np.array_equal(at, same):
            raise ValueError(f"{start} and {size} are of other rows")
        return begins, sizes

    def _refuse_wild(self, name: str, fill: float | None, numbers: Array, capacity: int) -> None:
        """A table of row numbers may hold only those of rows: graph and loops would look there. Raises ValueError."""
        if fill is OWN_ROW and numbers.size:
            low, high = int(numbers.min()), int(numbers.max())
            if low < 0 or high >= capacity:
                raise ValueError(f"{name} holds row numbers {low}..{high} of {capacity}")

    def _grown(self, delta: Delta) -> dict[str, Array]:
        """Arrays that become longer, with what new rows and places hold."""
        grown, fills = {}, self._fills
        for name, length in self._lengths(delta).items():
            array, held = self.weights[name], len(self.weights[name])
            if length == held:
                continue
            room = self._room.get(name)
            if room is None or array.base is not room or len(room) < length:
                room = self._room[name] = np.empty((2 * length, *array.shape[1:]), array.dtype)  # no memory until used
                room[:held] = array
            new = room[held:length]
            if fills[name] is OWN_ROW and name in self.tables:
                new[...] = np.arange(held, length, dtype=array.dtype).reshape(-1, *[1] * (array.ndim - 1))
            else:
                new[...] = fills[name] or 0
            grown[name] = room[:length]
        return grown

    def _changes(self, delta: Delta) -> dict[str, Touched | None]:
        """What the digest has to know of a delta."""
        changes: dict[str, Touched | None] = {
            name: Touched(np.arange(len(array)), array) for name, array in delta.dense.items()
        }
        for name, (where, values) in delta.rows.items():
            array = self.weights[name]
            if values.ndim < array.ndim:
                slots = math.prod(array.shape[1:])
                changes[name] = Touched(where // slots, values, where % slots)
            else:
                changes[name] = Touched(where, values)
        return changes


def _refuse_beyond(name: str, start: Array, size: Array, places: int) -> None:
    """Runs have to lie within their pool: graph and loops would look there. Raises ValueError."""
    if start.dtype.kind != "i" or size.dtype.kind != "i" or start.shape != size.shape or start.ndim != 1:
        raise ValueError(f"{name} is {start.dtype} {start.shape} and its sizes {size.dtype} {size.shape}")
    if ((start < 0) | (size < 0) | (start > places - size.astype(np.int64))).any():
        raise ValueError(f"{name} has runs beyond {places} places")


class _Owners(Sequence[str | None]):
    """Owners of rows as they will be, without a copy of all that there are."""

    def __init__(self, items: Sequence[str | None], capacity: int, changed: Iterable[tuple[int, str | None]]) -> None:
        self._items, self._capacity, self._changed = items, capacity, dict(changed)

    def __len__(self) -> int:
        return self._capacity

    @overload
    def __getitem__(self, at: int) -> str | None: ...

    @overload
    def __getitem__(self, at: slice) -> list[str | None]: ...

    def __getitem__(self, at: int | slice) -> str | list[str | None] | None:
        if isinstance(at, slice):
            return [self[row] for row in range(*at.indices(self._capacity))]
        if not 0 <= at < self._capacity:
            raise IndexError(at)
        return self._changed[at] if at in self._changed else self._items[at] if at < len(self._items) else None


def _nothing() -> None:
    """Nothing was changed yet."""
