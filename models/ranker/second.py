"""The second stage of the learner: what the ranker adds to a query's scores, and what the query teaches it.

Before: `experts.fusion` has the scores of a query, of rows that are open to it. After: ranks with and without, and one
step of the network a block. Nothing of it reaches what the experts or the gate learn. Knows rows, not item ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater.context import clock_ahead_ms
from models.block import Pending, Sparse
from models.config import ModelConfig
from models.experts.expert import Expert
from models.experts.popularity import Popularity
from models.inputs import Steps
from models.part import Part
from models.ranker.affinity import profile_of, teach_taste
from models.ranker.candidates import alike_of, candidates_of, standing_of
from models.ranker.content import ItemContent, Taste
from models.ranker.contributions import Voice, contributions_of
from models.ranker.facts import (
    FIRST,
    POSITIVE,
    AskedMoment,
    ItemTables,
    Past,
    are_new,
    content_facts,
    facts_count,
    facts_of,
    moment_of,
    narrow_facts,
    past_of,
)
from models.ranker.heads import RankerHeads
from models.ranker.lift import NewItemsLift
from models.ranker.network import RankerNetwork
from models.ranker.revision import added_to
from models.ranker.statistics import RankerItems
from models.ranker.told import told_count

__all__ = ["AskedQuery", "Ranker", "Revision"]

Array = NDArray[np.float32]
Rows = NDArray[np.int64]
Marks = NDArray[np.bool_]


RECENT = 1e-3
"""The share of queries that a new item came of is that of about the newest 1 / RECENT."""


class AskedQuery(NamedTuple):
    """One query: its example, the experts' opinions, places of the revisers, the scores before each of them (R, N)."""

    example: Pending
    voices: Sequence[Voice]
    revisers: Sequence[int]
    before: Array
    kind: int = 0
    """Index of the type of what came, 0 where there is none."""


class Revision(NamedTuple):
    """Of a query's candidates: their rows (C,), their fused scores, what is added to these, and their facts (C, F).

    `kind` is the index of the type of what came; `head` that of it, None where it has none, and `by_head` what it says
    (C,).
    """

    rows: Rows
    plain: Array
    added: Array
    facts: Array
    kind: int = 0
    head: int | None = None
    by_head: Array | None = None
    in_full: Array | None = None
    """Of a list that is shown: what is added where what lists taught counts as far as it was earned."""


class Ranker:
    """Item statistics, network and heads. `all` are its parts, which learner, publication and checkpoint loop over."""

    def __init__(self, config: ModelConfig, experts: Sequence[Expert], capacity: int) -> None:
        self.zone, self.nothing_told = config.time_zone, [0.0] * told_count(config)
        self.listened = [e for e, one in enumerate(experts) if not isinstance(one, Popularity)]
        self.experts = len(experts)
        self.growing = False  # lists come in parts here, so that one item may be a part of one (`models.shown`)
        self.statistics = RankerItems(capacity)
        facts = facts_count(self.experts, len(self.nothing_told))
        self.network = RankerNetwork(facts)
        self.heads, self.lift = RankerHeads(facts, self.network.lists), NewItemsLift()
        self.all: list[Part] = [self.statistics, self.network, self.network.lists, self.network.posterior, self.heads]
        self.all.append(self.lift)
        self.content, self.taste = ItemContent(capacity), Taste()
        self.all += [self.content, self.taste]
        self.of_content = content_facts(self.experts, len(self.nothing_told))
        self.narrow = narrow_facts(self.experts, len(self.nothing_told))
        self._past = past_of(Steps([], [], [], []), 0.0)  # of the query that was asked last
        self._common, self._new = np.zeros(0, np.float32), np.zeros(0, bool)  # of the query that was asked last, too
        self._scratch = np.zeros(0, np.float32)

    def ask(self, asked: AskedQuery, scores: Array) -> Revision:
        """What is said of the candidates of a query, which has `scores` (N,), -inf where a row is not open to it."""
        if len(self._scratch) < len(scores):
            self._scratch = np.zeros(len(scores), np.float32)
        example, statistics = asked.example, self.statistics
        past = past_of(example.steps, example.since)
        others = [statistics.standing, alike_of(statistics.asked_alike, past.rows)]
        lists: list[Sparse | Array] = []
        for place, trust, one in asked.voices:
            if isinstance(one, Sparse):
                lists.append(Sparse(one.rows, one.values if trust > 0 else -one.values))
            elif place in self.listened:
                lists.append(one.values if trust > 0 else -one.values)
        rows = candidates_of(scores, lists, past.rows, np.concatenate(others), statistics.asked_positive)
        said, plain = contributions_of(asked.voices, self.experts, rows, self._scratch), scores[rows]
        after = plain
        for place, then in zip(reversed(asked.revisers), reversed(asked.before), strict=True):
            before = then[rows]
            said[place] = after - before
            after = before
        facts, self._past = self._facts(example, said, plain, past, rows), past
        self.network.ask(facts)
        self._common, self._new = self.network.common(self.network.asked), are_new(statistics.asked[rows, POSITIVE])
        added = self._added(plain, self._common, self._new)
        head = self.heads.head_of(asked.kind)
        by_head = None if head is None else self.heads.said(head, self.network.asked)
        return Revision(rows, plain, added, facts, asked.kind, head, by_head)

    def headed(self, revision: Revision) -> Array | None:
        """What is added to the candidates' scores for the type of what came alone, None where it has no head."""
        if revision.by_head is None:
            return None
        more = self._common + self.heads.share[revision.head] * revision.by_head
        return added_to(revision.plain, more + self.lift.of(self._new), np.float32(1))

    def _added(self, plain: Array, said: Array, new: Marks) -> Array:
        return added_to(plain, said + self.lift.of(new), max(self.network.listened, np.float32(self.lift.lift[0] > 0)))

    def of_list(self, example: Pending, rows: Rows, said: Array, plain: Array) -> Revision:
        """What is said of `rows` of a list that is shown, ascending, as an answer among these alone would have it.

        `said` (experts, C) is what each expert adds to the fused scores, which are `plain` (C,).
        """
        facts = self._facts(example, said, plain, past_of(example.steps, example.since), rows)
        network, asked = self.network, self.network.forward(facts)
        common, new = network.common(asked), are_new(self.statistics.asked[rows, POSITIVE])
        more = common + self.lift.of(new) + network.lists.left * network.lists.said(asked.hidden, asked.standard)
        in_full = added_to(plain, more, np.float32(1))
        return Revision(rows, plain, self._added(plain, common, new), facts, in_full=in_full)

    def _facts(self, example: Pending, said: Array, plain: Array, past: Past, rows: Rows) -> Array:
        moment = AskedMoment(
            length=len(past.rows),
            since=example.since,
            fresh=example.fresh,
            time_ms=example.target.time_ms,
            landmark_ms=self.statistics.landmark_ms or 0,
            ahead_ms=clock_ahead_ms(example.target.time_ms, self.zone),
            told=self.nothing_told if example.told is None else example.told,
        )
        tables = self.tables()
        narrow = not (tables.known.any() or self.network.mean[self.narrow :].any())
        facts = facts_of(said, plain, tables, past, rows, moment_of(moment), narrow=narrow)
        return facts[:, : len(self.network.mean)]  # a model of an earlier release has fewer

    def tables(self) -> ItemTables:
        """What facts read of items, as of the example that was last rewound."""
        content = self.content
        return ItemTables(
            items=self.statistics.asked,
            alike=self.statistics.asked_alike,
            content=content.content,
            numbers=content.numbers,
            known=content.known,
            taste=self.taste.taste,
        )

    def learn(self, revision: Revision, chance: Array, total: np.float32, row: int, weight: np.float32) -> None:
        """Take down what a query teaches: `chance` (N,) by `total` are the probabilities without the ranker."""
        among, target = chance[revision.rows] / total, revision.rows == row
        asked = self.network.asked
        if revision.head is not None and revision.by_head is not None:
            common = among * np.exp(self._common)
            self.heads.taught(revision.head, asked, common, revision.by_head, target, weight)
        self.heads.meet(revision.kind)
        self.lift.judge(revision.plain + self._common, self._new, target)
        new, share = are_new(self.statistics.asked[row, POSITIVE]), self.network.new_items
        if new:  # up to twice, the fewer they are: all else would bury what is learned of them (docs/lab-book.md)
            weight = np.float32(weight * (2.0 - share[0]))
        share += RECENT * (new - share)
        self.network.taught(revision.facts, among, target, weight)
        content = self.content
        if content.known.any() and target.any():
            heard, gradient = self.network.at_facts(self.of_content)
            profile = profile_of(content.content, content.known, self._past.rows, self._past.speaks)
            teach_taste(content.content, content.known, profile, revision.rows[heard], gradient, self.taste.taught)

    def shares(self) -> dict[int, float]:
        """By index of a type that has a head, how far that is listened to."""
        kinds, shares = self.heads.types.tolist(), self.heads.share.tolist()
        return {kind: share for kind, share in zip(kinds, shares, strict=True) if kind}

    def step(self, popularity: Popularity, used: int) -> None:
        """The block's queries have taught: take a step, and look what is new and popular for the next block."""
        self.network.step()
        self.heads.step()
        self.lift.step()
        self.taste.step()
        self.look(popularity, used)

    def look(self, popularity: Popularity, used: int) -> None:
        """What is new and popular now, for the queries to come."""
        self.statistics.standing = standing_of(popularity.log[:used], self.statistics.items[:used, FIRST])
