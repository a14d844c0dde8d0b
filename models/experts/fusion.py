"""Fusion: all that is known of a block's queries becomes one score per item, its rank, and what to teach the gate.

Before: `learner` took down each example on arrival, the encoder scored the block. After: ranks (`metrics.Scored`), and
one gradient step of `gate` and `returns`. Knows rows, not item ids.

A query is answered as of its own moment: what its own block taught popularity later is undone by walking the block
backwards, so an example need only remember what its target's popularity was before it. The memories' scores are kept as
the few rows that have one. What is as long as the catalogue is one query's: the gradient of a softmax is its
probabilities minus the truth, so every expert's share of it is a dot product, and nothing of size (queries, experts,
items) exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.block import Pending
from models.experts.fusion_loops import add_experts, best_rows, ranks, shares
from models.experts.gate import Gate, context_of, outputs_of
from models.experts.popularity import FLOOR, UNSEEN, Popularity
from models.experts.repeats import OTHERS, Facts, Returns, facts_of, return_scores
from models.inputs import event_weight, pad_steps
from models.quality import Scored

__all__ = ["fuse", "share_of_highest"]

Array = NDArray[np.float32]
Rows = NDArray[np.int64]

TINY = 1e-9

LEAST = np.float32(FLOOR)


def share_of_highest(scores: Array) -> Array:
    """Memory scores (m,) as the fusion takes them: square root of the share of the highest."""
    share: Array = np.sqrt(scores / (scores.max(initial=0) + np.float32(TINY)))
    return share


class _Queries(NamedTuple):
    """The block's queries, Q of them, in its order."""

    at: list[int]  # their places in the block
    context: Array  # (Q, 4)
    trust: Array  # (Q, outputs)
    history: Rows  # (Q, L)
    facts: Facts
    returns: Array  # (Q, L)
    weight: Array  # (Q,), how much each counts as a target; sums to 1


@np.errstate(invalid="ignore")  # BLAS sometimes flags lanes beyond the end of small products; all that counts is finite
def fuse(
    block: Sequence[Pending],
    logits: Array | None,
    place_of: dict[int, int],
    popularity: Popularity,
    used: int,
    gate: Gate,
    returns: Returns,
    list_length: int = 0,
) -> tuple[list[Scored], list[Rows]]:
    """Rank the block's queries, and teach gate and returns by them.

    `logits` (n, used) float32 are the encoder's, in the places that `place_of` gives by place in the block; None where
    it is off. `popularity` is as the block left it; its first `used` rows
    are the catalogue. Returns the Scored of every example, and of each the best `list_length` rows (none where it is no
    query).
    """
    miss = Scored(True, used + 1, used + 1, used + 1, used + 1, 0.0)
    scored = [miss if pending.unranked else Scored(False, 0, 0, 0, 0, 0.0) for pending in block]
    best: list[Rows] = [np.zeros(0, np.int64)] * len(block)
    queries = _queries(block, gate, returns)
    if not queries.at:
        return scored, best
    parts = outputs_of(gate.config)
    memories = range(parts["memory"].stop)
    slow_at, reaches = parts["slow"].start, parts["popularity"]  # next to each other
    returns_at = parts["returns"].start if gate.config.repeats else None
    log = np.ascontiguousarray(popularity.log[:used].T, np.float32)  # (P, N), as of after the block
    closed = log[0] <= UNSEEN / 10  # (N,) free rows; below also what is excluded and what nobody has seen yet
    log[:, closed] = 0.0
    silent = np.zeros(used, np.float32)  # logits where the encoder says nothing
    memory, scores = np.empty((2, used), np.float32)
    shared = np.empty(1 + reaches.stop - reaches.start, np.float32)
    gradient, return_gradient = np.zeros_like(queries.trust), np.zeros_like(queries.returns)
    q = len(queries.at)
    for i in reversed(range(len(block))):
        pending = block[i]
        if pending.row >= 0:
            before = pending.popularity_before
            closed[pending.row] = unseen = before[0] <= UNSEEN / 10
            log[:, pending.row] = 0.0 if unseen else before
        if pending.memories is None or pending.excluded is None:
            continue
        q -= 1
        row, trust = pending.row, queries.trust[q]
        slow = logits[place_of[i]] if logits is not None and i in place_of else silent
        now = popularity.now(pending.newest_before).astype(np.float32)
        memory.fill(0.0)
        for k in memories:
            rows, values = pending.memories[k]
            memory[rows] += trust[k] * values
        add_experts(slow, log, now, LEAST, memory, trust[slow_at], trust[reaches], scores)
        back, steps = _history(queries, q)
        if returns_at is not None:
            scores[back] = scores[back] * OTHERS + trust[returns_at] + queries.returns[q, steps]
        opened = pending.excluded[~closed[pending.excluded]]
        closed[opened] = True
        own = scores[row]
        above, above_memory, above_slow, highest = ranks(scores, memory, slow, closed, row)
        closed[opened] = False
        if list_length:
            best[i] = best_rows(scores, list_length)
        scores -= highest
        chance = np.exp(scores, out=scores)  # times `share`: probabilities, times what the query counts
        total = chance.sum()
        scored[i] = Scored(
            is_query=True,
            headwater=above,
            popularity=pending.popularity_rank,
            memory=above_memory,
            slow=above_slow,
            loss=float(np.log(total) - (own - highest)),
        )
        weight = queries.weight[q]
        share = weight / total
        chance[row] -= total
        if returns_at is not None:
            return_gradient[q, steps] = chance[back] * share
            gradient[q, returns_at] = return_gradient[q].sum()
            chance[back] *= OTHERS  # the gradient at what the others say
        for k in memories:
            rows, values = pending.memories[k]
            gradient[q, k] = chance[rows] @ values * share
        shares(chance, slow, log, now, LEAST, shared)
        gradient[q, slow_at : reaches.stop] = shared * share
    gate.learn(queries.context, gradient)
    if returns_at is not None:
        taught = return_gradient != 0
        returns.learn(queries.facts.facts[taught], return_gradient[taught])
    return scored, best


def _queries(block: Sequence[Pending], gate: Gate, returns: Returns) -> _Queries:
    config = gate.config
    at = [i for i, pending in enumerate(block) if pending.memories is not None]
    steps = [block[i].steps for i in at]
    longest = max((len(one.rows) for one in steps), default=0)
    arrays: dict[str, Any] = pad_steps(steps, max(longest, 1))
    since = np.array([block[i].since for i in at], np.float32)
    context = context_of(arrays["lengths"].astype(np.float32), since)
    facts = facts_of(arrays["history"], arrays["types"], arrays["gaps"], arrays["lengths"], since, config)
    weight = np.array([event_weight(block[i].target.type, block[i].target.value, config) for i in at], np.float32)
    return _Queries(
        at=at,
        context=context,
        trust=gate.trust(gate.weights(), context),
        history=arrays["history"],
        facts=facts,
        returns=return_scores(returns.weights(), facts.facts),
        weight=weight / max(float(weight.sum()), 1e-6),
    )


def _history(queries: _Queries, q: int) -> tuple[Rows, Rows]:
    """Rows of a query's history, all different, and the step of each one's newest entry."""
    steps = np.flatnonzero(queries.facts.newest[q])
    return queries.history[q, steps], steps
