"""Publishing: the next version of a model, as a bundle or as a delta since the version before.

Before: learning marks what it changes, each part its own. After: the trainer writes a bundle's files or sends a delta's
messages. Knows nothing of files or topics.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.config import ModelConfig
from models.experts.registry import Parts
from models.part import Changes
from models.published.bundle import Bundle
from models.published.delta import Delta
from models.published.digest import ModelDigest, hash_all
from models.published.graph import build_graph

__all__ = ["Publication", "Release"]


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
        self._items: list[str | None] = []  # row owners as published

    def next(self, parts: Parts, config: ModelConfig, release: Release, full: bool) -> Bundle | Delta:
        """Make the next version: a delta since the one before; a bundle the first time, and when `full`."""
        weights = {name: array for part in parts.all for name, array in part.weights().items()}
        changes = _joined([part.take_changes() for part in parts.all])
        whole = full or self._hashes is None
        self._hashes = _hashed(self._hashes, weights, changes)
        parent, parent_version, before = self.digest, self.version, self._items
        self.digest = self._hashes.value(release.items, release.types, config)
        self.version += 1
        self._items = release.items
        if whole:
            return Bundle(
                config=config,
                version=self.version,
                parent=parent,
                weights={name: array.copy() for name, array in weights.items()},
                digest=self.digest,
                graph=build_graph(config),
                hashes=self._hashes.copy(),
                tables=parts.tables(),
                reasons=parts.reasons(),
                **{**release._asdict(), "items": list(release.items)},
            )
        before = before + [None] * (len(release.items) - len(before))
        owners = enumerate(zip(release.items, before, strict=True))
        return Delta(
            version=self.version,
            parent_version=parent_version,
            parent=parent,
            digest=self.digest,
            capacity=len(release.items),
            dense={name: weights[name].copy() for name in changes.dense},
            rows={
                **{name: (rows, weights[name][rows]) for name, rows in changes.rows.items()},
                **{name: (places, weights[name].reshape(-1)[places]) for name, places in changes.places.items()},
            },
            **{**release._asdict(), "items": [(row, now) for row, (now, then) in owners if now != then]},
        )


def _joined(changes: Sequence[Changes]) -> Changes:
    return Changes(
        dense=[name for one in changes for name in one.dense],
        rows={name: rows for one in changes for name, rows in one.rows.items()},
        places={name: places for one in changes for name, places in one.places.items()},
    )


def _hashed(hashes: ModelDigest | None, weights: dict[str, NDArray[Any]], changes: Changes) -> ModelDigest:
    """Hashes of the weights, anew or where they changed."""
    if hashes is None:
        return hash_all(weights)
    for name in changes.dense:
        hashes.update(name, weights[name])
    for name, rows in changes.rows.items():
        hashes.update(name, weights[name], rows)
    for name, places in changes.places.items():
        hashes.update(name, weights[name], np.asarray(places) // weights[name].shape[1])
    return hashes
