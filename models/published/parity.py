"""Does the graph say what the learner says? The check that a guard makes before a publication.

Before: `learner.publish` made a bundle. After: the trainer writes it, or refuses to. Knows no files.

The torch and numpy code that learns is run on the bundle's own weights and compared with ONNX Runtime on the same
inputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from headwater.errors import BundleError
from headwater.examples import Entry
from models.experts.fusion import share_of_highest
from models.experts.gate import Gate, context_of, outputs_of
from models.experts.memory import AssociationMemory
from models.experts.popularity import UNSEEN, relative
from models.experts.repeats import OTHERS, facts_of, return_scores
from models.inputs import behind_ms, encode_histories
from models.published.bundle import Bundle
from models.published.graph import OUTPUTS
from models.sequence.encoder import Encoder, Sequences

__all__ = ["check_parity", "probe_histories", "reference_scores"]

KEPT = "not published, the last good one serves on"

_sessions: dict[bytes, onnxruntime.InferenceSession] = {}


def check_parity(bundle: Bundle, histories: Sequence[Sequence[Entry]] | None = None, bound: float = 1e-3) -> float:
    """Largest absolute difference between graph and learner over some histories (made up from the catalogue if None).

    Raises BundleError when any weight or score is NaN or infinite, or the difference exceeds `bound`.
    """
    for name, array in bundle.weights.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise BundleError(f"version {bundle.version}: weight {name} holds NaN or infinity: {KEPT}")
    histories = histories or probe_histories(bundle)
    now = [(history[-1].time_ms if history else 0) + 60_000 for history in histories]
    inputs = encode_histories(histories, now, bundle.item_rows, bundle.types, bundle.config)
    (served,) = _session(bundle.graph).run([OUTPUTS[0]], {**inputs, **bundle.weights})
    learned = reference_scores(bundle, inputs)
    if not (np.isfinite(served).all() and np.isfinite(learned).all()):
        raise BundleError(f"version {bundle.version}: scores hold NaN or infinity: {KEPT}")
    alive = bundle.weights["popularity"][:, 0] > UNSEEN / 10
    difference = float(np.abs(served - learned)[:, alive].max(initial=0.0))
    if difference > bound:
        raise BundleError(
            f"version {bundle.version}: graph and learner differ by {difference:.2e} (bound {bound:.0e}): {KEPT}"
        )
    return difference


def probe_histories(bundle: Bundle, count: int = 8) -> list[list[Entry]]:
    """Histories of different lengths over the catalogue: none, one item, more than the model reads, repeats."""
    owned = sorted(bundle.item_rows)
    if not owned:
        return [[]]
    kinds = bundle.types or ["view"]
    lengths = np.linspace(0, bundle.config.length + 5, count).astype(int).tolist()
    return [
        [
            Entry(owned[(17 * b + 7 * i) % len(owned)], kinds[i % len(kinds)], 1_000 * 4**b * i, (i % 5) + 1.0)
            for i in range(length)
        ]
        for b, length in enumerate(lengths)
    ]


@torch.no_grad()
def reference_scores(bundle: Bundle, inputs: dict[str, NDArray[np.generic]]) -> NDArray[np.float32]:
    """Fused scores by the code that learns, on the bundle's weights: (B, capacity) float32."""
    config, weights, capacity = bundle.config, bundle.weights, bundle.capacity
    lengths = np.asarray(inputs["lengths"], np.int64)
    history = np.asarray(inputs["history"], np.int64)
    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    encoder = Encoder(config, 1, torch.Generator())
    index = np.arange(len(lengths))
    batch = Sequences(
        history=history,
        types=np.asarray(inputs["types"], np.int64),
        values=np.asarray(inputs["values"], np.float32),
        gaps=np.asarray(inputs["gaps"], np.float32),
        row=index,
        step=np.maximum(lengths - 1, 0),
        target=index,
        weight=np.ones(len(index), np.float32),
        since=np.asarray(inputs["since"], np.float32),
    )
    published = encoder.averages
    published.table, published.bias = tensors["item_vectors"], tensors["item_bias"]
    published.dense = torch.cat([tensors[name].ravel() for name in encoder.shapes])
    slow = encoder.score(batch, capacity)
    empty = lengths == 0  # the recurrent unit has seen nothing: its state is zero, not that of the first padding
    nothing = torch.zeros(int(empty.sum()), config.width)
    unread = encoder.output(nothing, torch.from_numpy(batch.since[empty]), tensors)
    slow[empty] = torch.nn.functional.linear(unread, published.table, published.bias).numpy()
    since, gaps = batch.since, np.asarray(inputs["gaps"], np.float32)
    trust = Gate.trust(weights, context_of(lengths.astype(np.float32), since))  # (B, outputs)
    parts = outputs_of(config)
    fused = trust[:, parts["slow"]] * slow if config.slow else np.zeros_like(slow)
    for p, output in enumerate(range(parts["popularity"].start, parts["popularity"].stop)):
        known = relative(weights["popularity"][:, p], weights["popularity_now"][p])
        fused += trust[:, output, None] * known
    facts = facts_of(history, batch.types, gaps, lengths, since, config)
    returns = return_scores(weights, facts.facts) + trust[:, parts["returns"]]
    for k, memory in enumerate(config.memories):
        tables = AssociationMemory(memory, capacity)
        tables.ids, tables.weights = weights[f"memory{k}_ids"], weights[f"memory{k}_weights"]
        tables.log_source = weights[f"memory{k}_log_source"]
        tables.target_scale = weights[f"memory{k}_target_scale"]
        for b, length in enumerate(lengths.tolist()):
            behind = behind_ms(gaps[b, :length][::-1])
            rows, scores = tables.score(history[b, :length][::-1], behind)
            fused[b, rows] += trust[b, k] * share_of_highest(scores)
    for b in range(len(lengths) if config.repeats else 0):
        steps = np.flatnonzero(facts.newest[b])
        own = history[b, steps]
        fused[b, own] = fused[b, own] * OTHERS + returns[b, steps]
    return np.asarray(fused, np.float32)


def _session(graph: bytes) -> onnxruntime.InferenceSession:
    if graph not in _sessions:
        _sessions.clear()  # one architecture per process: a session for every old one would pile up
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        _sessions[graph] = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return _sessions[graph]
