"""A published model: everything that serving needs, as one object.

Before: `learner.publish`, or `stores` that read it. After: `serving` runs its graph and applies deltas to it. Knows no
file, no topic and no clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headwater.errors import BundleError
from models.config import ModelConfig
from models.part import OWN_ROW
from models.published.bounds import only_bundle_errors
from models.published.digest import ModelDigest

if TYPE_CHECKING:
    from models.published.delta import Delta

__all__ = ["REMEDY", "Bundle"]

REMEDY = "delete the folder; serving falls back to an older bundle, and the trainer publishes a new one"
REMEDY_DELTA = "the next full bundle puts it right"


def most_rows(config: ModelConfig) -> int:
    """Most rows that tables ever have: they grow by doubling."""
    return 2 * max(config.initial_capacity, config.max_items)


@dataclass
class Bundle:
    """One version of the model.

    Fields
        config: what the model was trained under.
        version, parent: its number, from 1; the digest of the version before, None for the first.
        weights: exactly the weight inputs of `graph`; row tables have `capacity` rows.
        items: the item id of each row, None for a free one.
        types: event types; `types[i]` has index i + 1.
        metrics: the trainer's prequential figures at publication, JSON.
        extra: any JSON of the publisher, such as source offsets.
        created_ms: epoch ms.
        digest: of weights, items, types and config only, 64 hexadecimal characters: equal content, equal digest,
            wherever and however it came about.
        graph: a serialized ONNX model.
        hashes: of the weights, by which a delta's digest costs only what it touched.
        tables: the weights that have a row per item, each with what free rows hold (`part.Input.fill`).
        reasons: the words, by output of the graph, for an item that ranks high by it.
        item_rows: row by item id; made from `items` where it is empty.

    With tables and reasons, serving needs none of the code that learns.
    """

    config: ModelConfig
    version: int
    parent: str | None
    weights: dict[str, NDArray[Any]]
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
    item_rows: dict[str, int] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.item_rows:
            self.item_rows = {item_id: row for row, item_id in enumerate(self.items) if item_id is not None}

    @property
    def capacity(self) -> int:
        """Rows of the tables, free ones included."""
        return len(self.items)

    def copy(self) -> Bundle:
        """An independent copy, for the other half of a double buffer."""
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
            item_rows=dict(self.item_rows),
        )

    def apply(self, delta: Delta) -> None:
        """Become the delta's version, in place: arrays are written into, and replaced only where the capacity grew.

        Raises
            BundleError: the delta does not follow this version, or the result is not what the trainer had; in the
                second case the bundle is unusable and must be read again.
        """
        if delta.parent_version != self.version or delta.parent != self.digest:
            raise BundleError(
                f"delta {delta.version} follows version {delta.parent_version} ({(delta.parent or 'none')[:16]}), this "
                f"model is version {self.version} ({self.digest[:16]}): apply the deltas between, or read the newest "
                "bundle"
            )
        with only_bundle_errors(f"delta {delta.version}", REMEDY_DELTA):
            self._refuse_unfit(delta)
            self._write(delta)
        digest = self.hashes.value(self.items, self.types, self.config)
        if digest != delta.digest:
            raise BundleError(
                f"after delta {delta.version} the model's digest is {digest[:16]}, the trainer had "
                f"{delta.digest[:16]}: read the newest bundle"
            )
        self.parent, self.digest, self.version = self.digest, digest, delta.version
        self.metrics, self.extra, self.created_ms = delta.metrics, delta.extra, delta.created_ms

    def refuse_unfit(self) -> None:
        """Refuse weights whose shapes contradict one another or the number of rows. Raises BundleError."""
        with only_bundle_errors(f"bundle v{self.version}", REMEDY):
            if not 0 < self.capacity <= most_rows(self.config) or len(self.types) > self.config.max_types:
                raise ValueError(f"it has {self.capacity} rows and {len(self.types)} event types")
            for name in self.tables:
                array = self.weights[name]
                if array.ndim == 0 or len(array) != self.capacity:
                    raise ValueError(f"{name} is {array.shape}, and there are {self.capacity} rows")
                self._refuse_wild(name, array, self.capacity)

    def _refuse_unfit(self, delta: Delta) -> None:
        """Refuse what does not fit into the arrays that are here, before any is written. Raises BundleError."""
        most = most_rows(self.config)
        if not self.capacity <= delta.capacity <= most:
            raise ValueError(f"it has {delta.capacity} rows: here are {self.capacity}, and at most {most} are allowed")
        if len(delta.types) > self.config.max_types:
            raise ValueError(f"it has {len(delta.types)} event types (max_types is {self.config.max_types})")
        rows = [row for row, _ in delta.items]
        if rows and max(rows) >= delta.capacity:
            raise ValueError(f"it names an item for row {max(rows)} of {delta.capacity}")
        for name, array in delta.dense.items():
            here = self.weights[name]
            wanted = (delta.capacity, *here.shape[1:]) if name in self.tables else here.shape
            if (array.shape, array.dtype) != (wanted, here.dtype):
                raise ValueError(f"{name} is {array.dtype} {array.shape}, not {here.dtype} {wanted}")
            self._refuse_wild(name, array, delta.capacity)
        for name, (where, values) in delta.rows.items():
            here = self.weights[name]
            by_place = values.ndim < here.ndim
            wanted = (len(where), *(() if by_place else here.shape[1:]))
            if name not in self.tables or (values.shape, values.dtype) != (wanted, here.dtype):
                raise ValueError(f"{name} is {values.dtype} {values.shape}, not {here.dtype} {wanted}")
            end = delta.capacity * (math.prod(here.shape[1:]) if by_place else 1)
            if len(where) and (int(where.min()) < 0 or int(where.max()) >= end):
                raise ValueError(f"{name} has places {where.min()}..{where.max()} of {end}")
            self._refuse_wild(name, values, delta.capacity)

    def _refuse_wild(self, name: str, numbers: NDArray[Any], capacity: int) -> None:
        """A table of row numbers may hold only those of rows: the graph would look there."""
        if name in self.tables and self.tables[name] is OWN_ROW and numbers.size:
            low, high = int(numbers.min()), int(numbers.max())
            if low < 0 or high >= capacity:
                raise ValueError(f"{name} holds row numbers {low}..{high} of {capacity}")

    def _write(self, delta: Delta) -> None:
        if delta.capacity > self.capacity:
            self._grow(delta.capacity)
        for name, array in delta.dense.items():
            self.weights[name][...] = array
            self.hashes.update(name, self.weights[name])
        for name, (rows, values) in delta.rows.items():
            array = self.weights[name]
            if values.ndim < array.ndim:  # places in the flattened table
                array.reshape(-1)[rows] = values
                rows = rows // array.shape[1]
            else:
                array[rows] = values
            self.hashes.update(name, array, rows)
        for row, item_id in delta.items:
            before = self.items[row]
            if before is not None and self.item_rows.get(before) == row:
                del self.item_rows[before]
            self.items[row] = item_id
            if item_id is not None:
                self.item_rows[item_id] = row
        self.types = list(delta.types)

    def _grow(self, capacity: int) -> None:
        old = self.capacity
        self.items += [None] * (capacity - old)
        for name, fill in self.tables.items():
            array = self.weights[name]
            more = np.zeros((capacity - old, *array.shape[1:]), array.dtype)
            if fill is OWN_ROW:  # of other tables the type may be too small for a row number
                more += np.arange(old, capacity, dtype=array.dtype).reshape(-1, *[1] * (array.ndim - 1))
            else:
                more += array.dtype.type(fill)
            self.weights[name] = np.concatenate([array, more])
            self.hashes.update(name, self.weights[name])
