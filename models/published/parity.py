"""Does the graph say what the learner says? The check that a guard makes before a publication.

Before: `learner.publish` made a bundle. After: the trainer writes it, or refuses to. Knows no files.

The code that learns (the experts' opinions and `fusion.add_up`) is run on the bundle's own weights and compared with
ONNX Runtime on the same histories.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headwater.errors import BundleError
from headwater.examples import Entry, Shown
from models.experts.fusion import asked_block, scores_of
from models.experts.popularity import UNSEEN
from models.experts.registry import Parts
from models.finite import not_finite
from models.published.bundle import Bundle
from models.published.graph import SCORES
from models.published.onnx_runtime import onnxruntime
from models.published.opinions import said_by
from models.published.ranker_graph import BY_HEAD, FACTS, HEAD_WEIGHTS, SAID, WEIGHTS, build_ranker_graph
from models.ranker.heads import HEADS

__all__ = ["check_parity", "probe_histories", "reference_scores"]

KEPT = "not published, the last good one serves on"

PROBED = 64
"""Candidates whose facts are made up to compare the ranker's graph with its network."""

_sessions: dict[bytes, onnxruntime.InferenceSession] = {}


def check_parity(bundle: Bundle, histories: Sequence[Sequence[Entry]] | None = None, bound: float = 1e-3) -> float:
    """Compare the scores of graph and learner.

    Parameters
        bundle: about to be published.
        histories: to ask about, each oldest first; made up from the catalogue if None.
        bound: largest difference of two scores that passes.

    Returns
        The largest absolute difference.

    Raises
        BundleError: a weight or a score is NaN or infinite, or the difference exceeds `bound`.
    """
    broken = not_finite(bundle.weights)
    if broken is not None:
        raise BundleError(f"version {bundle.version}: {broken}: {KEPT}")
    histories = histories or probe_histories(bundle)
    now = [(history[-1].time_ms if history else 0) + 60_000 for history in histories]
    shown = [_shown(history, at) for history, at in zip(histories, now, strict=True)]
    sessions = [0] * len(histories)  # another one than any of the probes
    served = said_by(_session(bundle.graph), bundle, [SCORES], histories, now, shown, sessions)[SCORES]
    learned = reference_scores(bundle, histories, now, shown, sessions)
    if not (np.isfinite(served).all() and np.isfinite(learned).all()):
        raise BundleError(f"version {bundle.version}: scores hold NaN or infinity: {KEPT}")
    alive = bundle.weights["popularity"][:, 0] > UNSEEN / 10
    difference = float(np.abs(served - learned)[:, alive].max(initial=0.0))
    if difference > bound:
        raise BundleError(
            f"version {bundle.version}: graph and learner differ by {difference:.2e} (bound {bound:.0e}): {KEPT}"
        )
    return max(difference, _ranker_difference(bundle, bound))


def _ranker_difference(bundle: Bundle, bound: float) -> float:
    """The same of the ranker's graph, and its network and heads, on made-up facts. Raises BundleError."""
    parts = Parts(bundle.config)
    if parts.ranker is None or "ranker_mean" not in bundle.weights:
        return 0.0
    network, heads, weights = parts.ranker.network, parts.ranker.heads, bundle.weights
    network.read(weights)
    heads.read(weights)
    spread = np.random.default_rng(0).normal(size=(PROBED, len(weights["ranker_mean"]))) * 2.0
    facts = (spread / weights["ranker_scale"] + weights["ranker_mean"]).astype(np.float32)
    with_heads = "ranker_heads" in weights
    given = {FACTS: facts, **{name: weights[name] for name in (*WEIGHTS, *(HEAD_WEIGHTS if with_heads else ()))}}
    served = _session(build_ranker_graph(with_heads)).run([SAID, BY_HEAD] if with_heads else [SAID], given)
    asked = network.forward(facts)
    by_head = [*(heads.said(head, asked) for head in range(HEADS)), network.lists.said(asked.hidden, asked.standard)]
    learned = [asked.said, np.stack(by_head, 1)]
    difference = float(np.max([np.abs(one - other).max() for one, other in zip(served, learned, strict=False)]))
    if not difference <= bound:
        raise BundleError(
            f"version {bundle.version}: the ranker's graph and network differ by {difference:.2e} (bound {bound:.0e}): "
            f"{KEPT}"
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
            Entry(
                owned[(17 * b + 7 * i) % len(owned)], kinds[i % len(kinds)], 1_000 * 4**b * i, (i % 5) + 1.0, 1 + i // 3
            )
            for i in range(length)
        ]
        for b, length in enumerate(lengths)
    ]


def _shown(history: Sequence[Entry], now_ms: int) -> list[Shown]:
    """Items of a history as if they had been shown, some of them often."""
    items = [entry.item_id for entry in history[:12]]
    return [Shown(item, now_ms - 1000 * 3**i, i + 1, "probe") for i in reversed(range(12)) for item in items[: i + 1]]


@np.errstate(invalid="ignore")
def reference_scores(
    bundle: Bundle,
    histories: Sequence[Sequence[Entry]],
    now_ms: Sequence[int],
    shown: Sequence[Sequence[Shown]] = (),
    sessions: Sequence[int | None] | None = None,
) -> NDArray[np.float32]:
    """Fused scores by the code that learns, on a bundle's weights.

    Parameters
        bundle: whose weights are read.
        histories: B of them, each oldest first.
        now_ms: the instant that each is asked about, epoch ms.
        shown: of each, what its user was shown, oldest first; of no user anything where it is empty.
        sessions: that each is asked in, as of `encode_histories`.

    Returns
        (B, capacity) float32.
    """
    parts = Parts(bundle.config)
    for part in parts.all:
        part.read(bundle.weights)
    rows, types = bundle.item_rows, bundle.types
    block = asked_block(parts, histories, now_ms, rows, types, bundle.capacity, shown, sessions)
    return np.stack([sums.scores for _, sums in scores_of(parts, block)])


def _session(graph: bytes) -> onnxruntime.InferenceSession:
    if graph not in _sessions:
        if len(_sessions) > 1:
            _sessions.clear()  # one architecture per process, and the ranker's: one for every old one would pile up
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        _sessions[graph] = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return _sessions[graph]
