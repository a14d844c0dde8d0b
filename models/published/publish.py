"""What changed since the last publication, and the arrays that are published.

Before: `learner` marks what it changes. After: `learner.publish` makes a bundle or a delta of it. Knows nothing of
files or topics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.published.bundle import Bundle
from models.published.delta import Delta
from models.published.digest import ModelDigest, hash_all
from models.published.graph import build_graph

if TYPE_CHECKING:
    from models.learner import Learner

__all__ = ["Publication", "publish", "published_weights"]


class Publication:
    """State of publishing: the newest version and digest, and marks of change."""

    def __init__(self, capacity: int) -> None:
        self.version = 0
        self.digest: str | None = None  # of the newest publication
        self.hashes: ModelDigest | None = None  # None: nothing published by this process yet, so the next one is full
        self.counted = np.zeros(capacity, bool)  # rows whose popularity or count changed
        self.dense_changed = True
        self.items: list[str | None] = []  # row owners as published

    def grow(self, capacity: int) -> None:
        """Room for more items."""
        self.counted = np.concatenate([self.counted, np.zeros(capacity - len(self.counted), bool)])

    def stepped(self) -> None:
        """The encoder and the gate took a gradient step."""
        self.dense_changed = True


def published_weights(learner: Learner) -> dict[str, NDArray[Any]]:
    """Every weight input of the graph, by name; row tables have the learner's capacity. Mostly views, not copies."""
    table, bias, dense = learner.encoder.scoring()
    weights: dict[str, NDArray[Any]] = {
        "item_vectors": table.cpu().numpy(),
        "item_bias": bias.cpu().numpy(),
        "popularity": learner.popularity.log.astype(np.float32),
        "popularity_now": learner.popularity.now(learner.popularity.newest_ms).astype(np.float32),
        "return_rate": learner.return_rate.share,
        **learner.gate.weights(),
        **learner.returns.weights(),
    }
    for k, memory in enumerate(learner.memories):
        weights[f"memory{k}_ids"] = memory.ids
        weights[f"memory{k}_weights"] = memory.weights
        weights[f"memory{k}_log_source"] = memory.log_source
        weights[f"memory{k}_target_scale"] = memory.target_scale
    weights |= {name: tensor.cpu().numpy() for name, tensor in learner.encoder.weights(dense).items()}
    return weights


def dense_names(learner: Learner) -> list[str]:
    """Names of the weights that have no row per item."""
    return [*learner.encoder.shapes, *learner.gate.shapes, *learner.returns.shapes]


def take_changed_rows(learner: Learner) -> dict[str, NDArray[np.int64]]:
    """Rows changed since the last publication, by table; forgets the marks."""
    counted = np.flatnonzero(learner.publication.counted)
    vectors = np.flatnonzero(learner.encoder.touched)
    rows = {"item_vectors": vectors, "item_bias": vectors, "popularity": counted}
    for k, memory in enumerate(learner.memories):
        rows |= {f"memory{k}_log_source": np.flatnonzero(memory.touched_source), f"memory{k}_target_scale": counted}
        memory.touched_source[:] = False
    learner.publication.counted[:] = False
    learner.encoder.touched[:] = False
    return rows


def take_changed_slots(learner: Learner) -> dict[str, NDArray[np.int64]]:
    """Places in the flattened memory tables that changed since the last publication; forgets the marks."""
    slots: dict[str, NDArray[np.int64]] = {}
    for k, memory in enumerate(learner.memories):
        rows = np.flatnonzero(memory.touched_rows)
        row, slot = memory.touched[rows].nonzero()
        places = rows[row] * memory.config.slots + slot
        slots |= {f"memory{k}_ids": places, f"memory{k}_weights": places}
        memory.touched[rows] = False
        memory.touched_rows[:] = False
    return slots


def publish(learner: Learner, created_ms: int, extra: dict[str, Any], full: bool) -> Bundle | Delta:
    """Make the next version: a delta since the previous one, or a bundle the first time and when asked."""
    state = learner.publication
    weights = published_weights(learner)
    owners = learner.items.ids
    items = owners + [None] * (learner.capacity - len(owners))
    rows, slots = take_changed_rows(learner), take_changed_slots(learner)
    dense = ["popularity_now", "return_rate"] + (dense_names(learner) if state.dense_changed else [])
    whole = full or state.hashes is None
    if state.hashes is None:
        state.hashes = hash_all(weights)
    else:
        for name in dense:
            state.hashes.update(name, weights[name])
        for name, changed in rows.items():
            state.hashes.update(name, weights[name], changed)
        for name, places in slots.items():
            state.hashes.update(name, weights[name], places // weights[name].shape[1])
    parent, parent_version, before = state.digest, state.version, state.items
    types = list(learner.types)
    state.digest = state.hashes.value(items, types, learner.config)
    state.version += 1
    state.items = items
    state.dense_changed = False
    metrics = learner.prequential.summary()
    if whole:
        return Bundle(
            config=learner.config,
            version=state.version,
            parent=parent,
            weights={name: array.copy() for name, array in weights.items()},
            items=list(items),
            types=types,
            metrics=metrics,
            extra=extra,
            created_ms=created_ms,
            digest=state.digest,
            graph=build_graph(learner.config),
            hashes=state.hashes.copy(),
        )
    before = before + [None] * (len(items) - len(before))
    return Delta(
        version=state.version,
        parent_version=parent_version,
        parent=parent,
        digest=state.digest,
        created_ms=created_ms,
        capacity=len(items),
        metrics=metrics,
        extra=extra,
        types=types,
        items=[(row, now) for row, (now, then) in enumerate(zip(items, before, strict=True)) if now != then],
        dense={name: weights[name].copy() for name in dense},
        rows={
            **{name: (changed, weights[name][changed]) for name, changed in rows.items()},
            **{name: (places, weights[name].reshape(-1)[places]) for name, places in slots.items()},
        },
    )
