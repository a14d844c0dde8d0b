"""Publishing: the next version of a model, as a bundle or as a delta since the version before.

Before: learning marks what it changes, each part its own. After: the trainer writes a bundle's files or sends a delta's
messages. Knows nothing of files or topics.

A version is not kept: until something more is learned, the parts hold it, and `whole` makes a bundle of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.config import ModelConfig
from models.experts.registry import Parts
from models.experts.reserved import copied
from models.part import Changes
from models.published.bundle import Bundle, Kept
from models.published.delta import Delta
from models.published.digest import ModelDigest, Touched
from models.published.graph import build_graph

__all__ = ["Publication", "Release"]

SLICE = 1024


class Release(NamedTuple):
    """What is published beside weights. `items` are the owners of all rows, None for a free one."""

    items: list[str | None]
    types: list[str]
    metrics: dict[str, Any]
    extra: dict[str, Any]
    created_ms: int


class Publication:
    """The newest version and its digest, and what of it the next delta has to be told against."""

    def __init__(self) -> None:
        self.version = 0
        self.digest: str | None = None  # of the newest publication
        self._hashes: ModelDigest | None = None  # None: nothing published by this process yet, so the next one is full
        self._made = 0  # the version of the newest publication, and the digest of the one before
        self._parent: str | None = None
        self._release: Release | None = None  # the newest, its items the row owners as published

    def next(self, parts: Parts, config: ModelConfig, release: Release, full: bool) -> Bundle | Delta:
        """Make the next version: a delta since the one before; a bundle the first time, and when `full`."""
        weights = {name: array for part in parts.all for name, array in part.weights().items()}
        whole, pools = full or self._hashes is None, parts.pools()
        if whole or self._hashes is None:
            for part in parts.all:  # one by one, for it may be all places of a pool: 300 MB at 400,000 items
                part.take_changes()
            self._hashes = ModelDigest.of(weights, release.items, parts.tables(), pools)
        else:
            changes = _joined([part.take_changes() for part in parts.all])
            reowned = _reowned(self._release.items if self._release else [], release.items)
            self._hashes.update(weights, release.items, _changed(weights, changes), reowned)
        self._parent, parent_version = self.digest, self.version
        self.digest = self._hashes.value(release.items, release.types, config)
        self.version += 1
        self._made, self._release = self.version, release
        if whole:
            return self.whole(parts, config)
        return Delta(
            version=self.version,
            parent_version=parent_version,
            parent=self._parent,
            digest=self.digest,
            capacity=len(release.items),
            dense={name: weights[name].copy() for name in changes.dense},
            rows={
                **{name: (rows, weights[name][rows]) for name, rows in changes.rows.items()},
                **{name: (places, weights[name].reshape(-1)[places]) for name, places in changes.places.items()},
            },
            pools={pool: len(weights[next(iter(names))]) for pool, names in pools.items()},
            **{**release._asdict(), "items": [(row, release.items[row]) for row in reowned]},
        )

    def whole(self, parts: Parts, config: ModelConfig, kept: Kept = copied) -> Bundle:
        """The newest version as a bundle; ask before anything more is learned.

        It has the digest that deltas led to. Whether its weights do, `Bundle.refuse_untrue` tells.
        """
        if self._hashes is None or self._release is None or self.digest is None:
            raise ValueError("nothing was published yet")
        return Bundle(
            config=config,
            version=self._made,
            parent=self._parent,
            weights={name: kept(array) for part in parts.all for name, array in part.weights().items()},
            digest=self.digest,
            graph=build_graph(config),
            hashes=self._hashes.copy(),
            tables=parts.tables(),
            reasons=parts.reasons(),
            pools=parts.pools(),
            **{**self._release._asdict(), "items": list(self._release.items)},
        )


def _joined(changes: Sequence[Changes]) -> Changes:
    return Changes(
        dense=[name for one in changes for name in one.dense],
        rows={name: rows for one in changes for name, rows in one.rows.items()},
        places={name: places for one in changes for name, places in one.places.items()},
    )


def _changed(weights: dict[str, NDArray[Any]], changes: Changes) -> dict[str, Touched | None]:
    """What the digest has to know; the arrays hold it already."""
    changed: dict[str, Touched | None] = dict.fromkeys(changes.dense)
    changed |= {name: Touched(rows) for name, rows in changes.rows.items()}
    for name, places in changes.places.items():
        slots = math.prod(weights[name].shape[1:])
        changed[name] = Touched(np.asarray(places) // slots)
    return changed


def _reowned(before: Sequence[str | None], now: Sequence[str | None]) -> list[int]:
    """Rows whose owner is another, compared by the slice: nearly all are as they were."""
    found = [row for row in range(len(before), len(now)) if now[row] is not None]
    for first in range(0, len(before), SLICE):
        some = before[first : first + SLICE]
        others = now[first : first + len(some)]
        if some != others:
            found += [first + i for i, (one, other) in enumerate(zip(some, others, strict=True)) if one != other]
    return sorted(found)
