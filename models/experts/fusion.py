"""Fusion: what all experts say of a query becomes one score per item; its rank; and what the query teaches.

Before: `learner` took down each example on arrival, and the experts had their opinions of the block. After: ranks
(`quality.Scored`), and one step of the gate and of each `Reviser`. `add_up` is the one place where opinions become
scores in numpy; parity holds the ONNX graph, the only other, to it. Knows rows, not item ids.

A query is answered as of its own moment: what its own block taught later is undone by walking the block backwards
(`Expert.rewind`). Sparse opinions stay the few rows that have one. What is as long as the catalogue is one query's: the
gradient of a softmax is its probabilities minus the truth, so every expert's share of it is a dot product, and nothing
of size (queries, experts, items) exists.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater.examples import Entry, Shown
from models.block import Block, Pending, Sparse, block_of
from models.compiled import compiled, compiled_sums, exp_lanes
from models.experts.expert import Dense, Expert, Reviser
from models.experts.gate import context_of
from models.experts.registry import Parts
from models.inputs import encode_entries, encode_fresh, encode_since, recent_of
from models.quality import Scored
from models.ranker.contributions import Voice
from models.ranker.second import AskedQuery, Revision
from models.shown.showings import tired_of
from models.top_k import top_k

__all__ = ["Fused", "Heard", "Opinion", "Sums", "asked_block", "fuse", "revised_of", "scores_of"]

STRETCH = 512
"""Rows between two looks at whether the highest score is among them."""

NEGLIGIBLE = np.float32(-80)
"""A score that is so much lower than the highest has no chance."""

NO_TRUST = np.float32(0)
"""What the gate says of a reviser that it has no weight for."""

Array = NDArray[np.float32]
Rows = NDArray[np.int64]
Marks = NDArray[np.bool_]


class Opinion(NamedTuple):
    """One opinion of one query: by which expert, at which place, and which of the gate's weights is the trust in it."""

    expert: Expert
    place: int
    trust: int
    said: Sparse | Dense


class Heard(NamedTuple):
    """What was said of the M items of a list that is shown; 0 of one without a row.

    Fields
        opinions: by the gate's weights, those of a reviser what it added, (outputs, M).
        scores: of all together but fatigue, (M,).
        served: the same with fatigue, as an answer would rank them without the ranker, (M,).
        revision: what the ranker says of those with a row; None where there is no ranker, or nothing to compare.
        known: the place in the list of each row of the revision, (C,).
    """

    opinions: Array
    scores: Array
    served: Array
    revision: Revision | None
    known: Rows


class Fused(NamedTuple):
    """Of each example of a block the Scored and the best rows (none where it is no query); of each list by its place
    among the examples what was heard."""

    scored: list[Scored]
    best: list[Rows]
    lists: dict[int, Heard]


class Sums(NamedTuple):
    """Scores of one query: of the memories alone, (N,), of all experts, (N,), and before each of the revisers, (R, N).

    `before` is empty where nobody asks for it.
    """

    memory: Array
    scores: Array
    before: Array


def _sums(used: int, revisers: int = 0) -> Sums:
    return Sums(np.zeros(used, np.float32), np.zeros(used, np.float32), np.zeros((revisers, used), np.float32))


def opinions_of(parts: Parts, block: Block, i: int) -> list[Opinion]:
    """All opinions of the query that is the block's example i, in the order of the experts."""
    arrived = iter(block.examples[i].opinions or ())
    found = []
    for place, (expert, at) in enumerate(zip(parts.experts, parts.trusts, strict=True)):
        said = (next(arrived),) if expert.on_arrival else expert.opinions(block, i)
        found += [Opinion(expert, place, at + k, one) for k, one in enumerate(said)]
    return found


def add_up(parts: Parts, opinions: Sequence[Opinion], q: int, trust: Array, sums: Sums) -> None:
    """Scores of the block's query q, into `sums`, by the gate's weights `trust` (outputs,)."""
    sums.memory.fill(0.0)
    for expert, _, at, said in opinions:
        if isinstance(said, Sparse) and expert.part == "memory":
            sums.memory[said.rows] += trust[at] * said.values
    scores = sums.scores
    scores[:] = sums.memory
    for expert, _, at, said in opinions:
        if isinstance(said, Dense):
            _add_dense(said.values, said.shift, said.floor, trust[at], scores)
        elif expert.part != "memory":
            scores[said.rows] += trust[at] * said.values
    for k, (reviser, at) in enumerate(parts.revisers):
        if len(sums.before):
            sums.before[k] = scores
        reviser.revise(q, trust[at] if reviser.trusts else NO_TRUST, scores)


def hear(parts: Parts, block: Block, i: int, q: int, trust: Array, scratch: Array) -> Heard:
    """What all say of the list that is the block's example i, query q. `scratch` (N,) holds any finite numbers."""
    listed = block.examples[i].listed
    assert listed is not None
    rows = np.array(listed.rows, np.int64)
    known = rows >= 0
    opinions, own = np.zeros((len(trust), len(rows)), np.float32), rows[known]
    added = np.zeros((len(parts.experts), len(rows)), np.float32)  # by each expert to the scores
    arrived = iter(listed.opinions)
    for place, (expert, at) in enumerate(zip(parts.experts, parts.trusts, strict=True)):
        if expert.on_arrival:
            opinions[at] = next(arrived)
        elif expert.trusts and not isinstance(expert, Reviser):
            for k, said in enumerate(expert.of_rows(block, i, own)):
                opinions[at + k, known] = said
        spoken = slice(at, at + expert.trusts)
        added[place] = (trust[spoken, None] * opinions[spoken]).sum(0)
    scores = (trust[:, None] * opinions).sum(0)
    served = scores.copy()
    scratch[own] = scores[known]
    for place, (reviser, at) in zip(parts.reviser_places, parts.revisers, strict=True):
        before = scratch[own]
        if not reviser.trusts:
            scores[known] = before
        reviser.revise(q, trust[at] if reviser.trusts else NO_TRUST, scratch)
        added[place, known] = scratch[own] - before
        if reviser.trusts:
            opinions[at, known] = added[place, known]
    served[known] = scratch[own]
    return Heard(opinions, scores, served, *_heard_by_ranker(parts, block.examples[i], added, served))


def _heard_by_ranker(parts: Parts, example: Pending, added: Array, served: Array) -> tuple[Revision | None, Rows]:
    """What the ranker says of the rows of a list, lowest first, and the place of each in the list."""
    listed = example.listed
    assert listed is not None
    rows = np.array(listed.rows, np.int64)
    known = np.argsort(rows, kind="stable")[np.count_nonzero(rows < 0) :]
    if parts.ranker is None or len(known) <= (0 if parts.ranker.growing else 1):
        return None, known
    return parts.ranker.of_list(example, rows[known], added[:, known], served[known]), known


def _teach(
    opinions: Sequence[Opinion],
    revisers: Sequence[tuple[Reviser, int]],
    q: int,
    chance: Array,
    share: np.float32,
    gradient: Array,
) -> None:
    """The loss's gradient at the gate's weights of query q, into `gradient` (outputs,), and at what revisers changed.

    `chance` (N,) times `share` is the gradient at the scores.
    """
    for reviser, at in reversed(revisers):
        taught = reviser.taught(q, chance, share)
        if reviser.trusts:
            gradient[at] = taught
    for _, _, at, said in opinions:
        if isinstance(said, Dense):
            gradient[at] = np.float32(_share(chance, said.values, said.shift, said.floor)) * share
        else:
            gradient[at] = chance[said.rows] @ said.values * share


def asked_block(
    parts: Parts,
    histories: Sequence[Sequence[Entry]],
    now_ms: Sequence[int],
    item_rows: Mapping[str, int],
    types: Sequence[str],
    used: int,
    shown: Sequence[Sequence[Shown]] = (),
    sessions: Sequence[int | None] | None = None,
) -> Block:
    """A block that asks about histories, and of which nothing is learned. The experts have had their opinions of it.

    Parameters
        parts: experts and gate, by whose weights it is asked.
        histories: each oldest first.
        now_ms: the instant that each is asked about, epoch ms.
        item_rows: row by item id.
        types: event types in the order of their indices, from 1.
        used: rows of the catalogue in use.
        shown: of each, what its user was shown, oldest first; of no user anything where it is empty.
        sessions: that each is asked in, as of `encode_histories`.
    """
    config, type_index = parts.config, {name: i + 1 for i, name in enumerate(types)}
    asked = []
    nothing = [None] * len(histories)
    for history, now, before, session in zip(
        histories, now_ms, shown or [()] * len(histories), sessions or nothing, strict=True
    ):
        steps = encode_entries(history, item_rows, type_index, config)
        recent = recent_of(steps, now - history[-1].time_ms if history else 0)
        one = Pending("", None, Entry("", "", now, None), -1, steps, encode_since(history, now))
        one.newest_before, one.tired = parts.popularity.newest_ms, tired_of(before, now, item_rows)
        one.fresh = encode_fresh(history, session)
        one.opinions = [expert.arrive(recent) for expert in parts.experts if expert.on_arrival]
        asked.append(one)
    block = block_of(asked, used, type_index, np.zeros(used), config)
    for expert in parts.listeners:
        expert.ask(block)
    return block


def scores_of(parts: Parts, block: Block) -> Iterator[tuple[list[Opinion], Sums]]:
    """Opinions and scores of each query of an `asked_block`, in order, in arrays of their own."""
    trust = parts.gate.trust(context_of(block.lengths.astype(np.float32), block.since), block.fresh)
    for q in range(len(block.places)):
        opinions, sums = opinions_of(parts, block, q), _sums(block.used)
        add_up(parts, opinions, q, trust[q], sums)
        yield opinions, sums


def revised_of(parts: Parts, block: Block, allowed: Sequence[Marks]) -> Iterator[Array]:
    """Scores of each query of an `asked_block` as they rank items, by the ranker, too: -inf but in `allowed` (N,)."""
    trust = parts.gate.trust(context_of(block.lengths.astype(np.float32), block.since), block.fresh)
    for q, rows in enumerate(allowed):
        opinions, sums = opinions_of(parts, block, q), _sums(block.used, len(parts.revisers))
        add_up(parts, opinions, q, trust[q], sums)
        sums.scores[~rows] = -np.inf
        revision = _revision(parts, block.examples[q], opinions, trust[q], sums)
        if revision is not None:
            sums.scores[revision.rows] += revision.added
        yield sums.scores


def _revision(
    parts: Parts, example: Pending, opinions: Sequence[Opinion], trust: Array, sums: Sums, kind: int = 0
) -> Revision | None:
    """What the ranker says of a query, where there is one. `kind`: index of the type of what came."""
    if parts.ranker is None:
        return None
    voices = [Voice(place, trust[at], said) for _, place, at, said in opinions]
    return parts.ranker.ask(AskedQuery(example, voices, parts.reviser_places, sums.before, kind), sums.scores)


class Tested(NamedTuple):
    """Of a query its Scored and the best rows; what its scores divide by to be probabilities; what the ranker says."""

    scored: Scored
    best: Rows
    total: np.float32
    revision: Revision | None


def _tested(
    parts: Parts, example: Pending, opinions: Sequence[Opinion], trust: Array, sums: Sums, list_length: int, kind: int
) -> Tested:
    """How a query's answer ranks among rows that are neither closed nor excluded; `kind` is the index of its type.

    Leaves in `sums.scores` what is, divided by the total, each row's probability without the ranker.
    """
    scores, row, closed, excluded = sums.scores, example.row, parts.popularity.closed, example.excluded
    assert excluded is not None
    slow = next((one.said.values for one in opinions if one.expert.part == "slow"), np.zeros_like(scores))
    opened = excluded[~closed[excluded]]
    closed[opened] = True
    own = scores[row]
    above, above_memory, above_slow, highest = _ranks(scores, sums.memory, slow, closed, row)
    closed[opened] = False
    revision, rank, headed = _revision(parts, example, opinions, trust, sums, kind), above, 0
    if parts.ranker is not None and revision is not None:
        if (added := parts.ranker.headed(revision)) is not None:
            scores[revision.rows] += added
            headed = _rank(scores, row)
            scores[revision.rows] = revision.plain
        scores[revision.rows] += revision.added
        rank = _rank(scores, row)
    best = top_k(scores, list_length) if list_length else np.zeros(0, np.int64)
    if revision is not None:
        scores[revision.rows] = revision.plain
    total = _exponentials(scores, highest)
    loss = float(np.log(total) - (own - highest))
    scored = Scored(True, rank, example.popularity_rank, above_memory, above_slow, loss)
    if revision is not None:
        scored = scored._replace(unrevised=above, recalled=bool((revision.rows == row).any()), headed=headed)
    return Tested(scored, best, total, revision)


@np.errstate(invalid="ignore")  # BLAS sometimes flags lanes beyond the end of small products; all that counts is finite
def fuse(parts: Parts, block: Block, list_length: int = 0, *, learn: bool = True) -> Fused:
    """Rank the block's queries, then let the gate and the revisers take their step.

    Parameters
        parts: experts and gate; the experts have had their opinions of the block.
        block: of examples, in log order.
        list_length: how many of the best rows to name.
        learn: whether anything is learned; where not, ranks are all.

    A list that is shown is heard at its own moment, too, and teaches neither.

    Source
        The gradient of a softmax cross-entropy is probabilities minus truth; docs/decisions/0005-fusion-by-hand.md.
    """
    gate, used = parts.gate, block.used
    miss = Scored(True, used + 1, used + 1, used + 1, used + 1, 0.0, unrevised=used + 1 if parts.ranker else 0)
    nothing = Scored(False, 0, 0, 0, 0, 0.0)
    scored = [miss if one.unranked and not one.against else nothing for one in block.examples]
    found = Fused(scored, [np.zeros(0, np.int64)] * len(scored), {})
    if not block.asked:
        return found
    context = context_of(block.lengths.astype(np.float32), block.since)
    trust = gate.trust(context, block.fresh)
    gradient = np.zeros_like(trust)
    sums, scratch = (
        _sums(used, len(parts.revisers) if parts.ranker else 0),
        np.zeros(used if block.lists else 0, np.float32),
    )
    q, s = len(block.places), len(block.asked)
    for i in reversed(range(len(block.examples))):
        example, excluded = block.examples[i], block.examples[i].excluded
        for expert in parts.listeners:
            expert.rewind(example)
        if example.listed is not None:
            s -= 1
            found.lists[i] = hear(parts, block, i, s, trust[s], scratch)
        if excluded is None:
            continue
        q -= 1
        opinions = opinions_of(parts, block, i)
        add_up(parts, opinions, q, trust[q], sums)
        kind = 0 if example.against else block.type_index.get(example.target.type, 0)
        scored[i], found.best[i], total, revision = _tested(parts, example, opinions, trust[q], sums, list_length, kind)
        if example.against:
            scored[i] = nothing._replace(against=scored[i].headwater)
            continue
        if not learn:
            continue
        chance = sums.scores
        if parts.ranker is not None and revision is not None:
            parts.ranker.learn(revision, chance, total, example.row, block.weight[q])
        chance[example.row] -= total
        share = block.weight[q] / total  # times `chance`: probabilities less the truth, times what the query counts
        _teach(opinions, parts.revisers, q, chance, share, gradient[q])
    if not learn:
        return found
    if block.places:
        asked = slice(len(block.places))
        gate.learn(context[asked], block.fresh[asked], gradient[asked])
        for reviser, _ in parts.revisers:
            reviser.step()
    if parts.ranker is not None:
        parts.ranker.step(parts.popularity, used)
    return found


@compiled
def _add_dense(values: Array, shift: np.float32, floor: np.float32, trust: np.float32, scores: Array) -> None:
    """Add `trust * max(values - shift, floor)` to the scores; what is not a number stays none."""
    if len(values) < len(scores):
        raise IndexError("an opinion of fewer rows than are in use")  # compiled loops read whatever is there
    for j in range(len(scores)):
        value = values[j] - shift
        scores[j] += trust * (floor if value < floor else value)


@compiled
def _rank(scores: Array, row: int) -> int:
    """1-based rank of a row by scores (N,), -inf where a row does not count; equal scores and NaN rank before it."""
    own, above = scores[row], 0
    for j in range(len(scores)):
        above += not scores[j] < own
    return above


@compiled_sums
def _exponentials(scores: Array, highest: np.float32) -> np.float32:
    """Scores become e to what they are less than the highest, 0 where that is next to nothing; returns their sum."""
    total = np.float32(0)
    for j in range(len(scores)):
        below = scores[j] - highest
        share = exp_lanes(below)
        share = share if below > NEGLIGIBLE else np.float32(0)
        scores[j] = share
        total += share
    return total


@compiled_sums
def _share(chance: Array, values: Array, shift: np.float32, floor: np.float32) -> np.float32:
    """Dot product of `chance` with the opinion that `_add_dense` adds."""
    total = np.float32(0)
    for j in range(len(chance)):
        total += chance[j] * max(values[j] - shift, floor)
    return total


@compiled
def _ranks(scores: Array, memory: Array, logits: Array, closed: Marks, row: int) -> tuple[int, int, int, np.float32]:
    """1-based ranks of a row by three scores, (N,) each, among rows that are not closed; and the highest of the first.

    Equal scores and NaN rank before the row (see `quality.rank_of`). `scores` of closed rows become -inf.
    """
    own, own_memory, own_logit = scores[row], memory[row], logits[row]
    above, above_memory, above_logit = 0, 0, 0
    highest = lowest = np.float32(-np.inf)
    for j in range(len(scores)):  # no branches: many rows in one instruction
        known = not closed[j]
        above += known & (not scores[j] < own)
        above_memory += known & (not memory[j] < own_memory)
        above_logit += known & (not logits[j] < own_logit)
        scores[j] = scores[j] if known else lowest
    for begin in range(0, len(scores), STRETCH):
        some, higher = scores[begin : begin + STRETCH], 0
        for j in range(len(some)):
            higher += some[j] > highest
        if higher:
            for j in range(len(some)):
                highest = max(highest, some[j])
    return above, above_memory, above_logit, highest
