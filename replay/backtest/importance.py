"""What the model goes by: over queries after the warm-up, by the weights of its end.

Before: `replay.backtest.run` hands over queries. After: `Result.importance`. The weights stand still meanwhile, so that
none of them has learned an answer. Four figures of each part of the model, and of each fact of its ranker:

    contribution  mean of what it adds to the ten best of a query, whatever the sign
    apart         the same, less what it adds to the item in the middle: what is the same for all items ranks nothing
    left_out      NDCG@10 lost where it adds nothing
    permuted      NDCG@10 lost where it says of each item what it says of another one of the same query; of a fact
                  that all candidates of a query share, what it was of an earlier query
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater.recommendations import Request
from models.published.names import SCORES
from models.ranker.attribution import attributed
from models.shown.showings import unanswered
from models.top_k import top_k
from replay.backtest.queries import Query
from replay.backtest.result import DependencePoint, Importance, PartImportance
from serving.rules import forbid, rules_for
from serving.scorer import Scorer, ServedModel
from serving.second_stage import Situation, Told, asked_outputs, told
from streams.features.state import UserState

__all__ = ["Importances"]

LIST = 10

RANKER = "ranker"

BATCH = 16
"""Queries scored at once."""

DIGITS = 6

SAMPLED, POINTS = 4, 9
"""Candidates of each query that dependence is measured on, and values of each fact that are tried."""

Array = NDArray[Any]


class _QuerySaid(NamedTuple):
    """One query, scored.

    Fields
        fused: (N,), -inf where the rules let nothing go.
        parts: by name, (N,) each, with the ranker's the scores.
        row: of the answer.
        ranker: what the ranker says; None where it adds nothing.
    """

    fused: Array
    parts: dict[str, Array]
    row: int
    ranker: Told | None

    @property
    def scores(self) -> Array:
        """As an answer has them."""
        return self.fused + self.parts[RANKER] if self.ranker is not None else self.fused


class Importances:
    """Collects queries and asks the model about them.

    Parameters
        scorer: holds the weights of the end of the warm-up; they stay as they are.
        exclude_seen: the backtest's rule.
        every: at most one query of so many events is asked.
        join_window_s: as of the model's configuration.
    """

    def __init__(self, scorer: Scorer, exclude_seen: Sequence[str], every: int, join_window_s: float) -> None:
        self.scorer, self.exclude_seen, self.every, self.join_window_s = scorer, exclude_seen, every, join_window_s
        self._next = 0
        self._random = np.random.default_rng(0)  # the same result for the same stream
        self._waiting: list[Query] = []
        self._gains: list[float] = []
        self._parts: dict[str, list[list[float]]] = {}
        self._facts: dict[str, list[list[float]]] = {}
        self._sample: list[Array] = []  # (SAMPLED, F) facts of each query

    def ask(self, query: Query) -> None:
        """One more query of the stream; most are passed over."""
        if query.place >= self._next:
            self._next = query.place + self.every
            self._waiting.append(query)
            if len(self._waiting) == BATCH:
                self._close()

    def result(self) -> Importance | None:
        """The means; None without a query that could be asked."""
        self._close()
        if not self._gains:
            return None
        return Importance(
            queries=len(self._gains),
            ndcg_10=round(float(np.mean(self._gains)), DIGITS),
            parts=_means(self._parts),
            facts=_means(self._facts),
            dependence=self._dependence(),
        )

    def _close(self) -> None:
        """Take in the queries that wait."""
        waiting, self._waiting = self._waiting, []
        with self.scorer.live() as half:
            if half is None or not waiting:
                return
            for query in self._said(half, waiting):
                self._gains.append(_gain(query.scores, query.row))
                self._take_parts(query)
                if query.ranker is not None:
                    self._take_facts(half, query, query.ranker)

    def _take_parts(self, query: _QuerySaid) -> None:
        scores, gain = query.scores, self._gains[-1]
        best, listed = top_k(scores, LIST), np.isfinite(scores)
        for name, part in query.parts.items():
            middle = float(np.median(part[listed]))
            without, shuffled = scores - part, np.zeros_like(part)
            shuffled[listed] = self._random.permutation(part[listed])
            figures = [
                float(np.abs(part[best]).mean()),
                float(np.abs(part[best] - middle).mean()),
                gain - _gain(without, query.row),
                gain - _gain(without + shuffled, query.row),
            ]
            self._parts.setdefault(name, []).append(figures)

    def _take_facts(self, half: ServedModel, query: _QuerySaid, ranker: Told) -> None:
        assert half.second is not None
        rows, facts, gain = ranker.rows, ranker.facts, self._gains[-1]
        parts = attributed(half.bundle.weights, facts).facts
        best = np.isin(rows, top_k(query.scores, LIST))
        apart = parts - np.median(parts, axis=0)
        for fact, name in enumerate(half.second.fact_names):
            moved = facts.copy()
            if np.ptp(facts[:, fact]) > 0:
                moved[:, fact] = self._random.permutation(facts[:, fact])
            elif self._sample:
                moved[:, fact] = self._sample[int(self._random.integers(len(self._sample)))][0, fact]
            changed = query.fused.copy()
            changed[rows] += half.second.added(moved, query.fused[rows].astype(np.float32), rows)
            without = query.fused.copy()
            without[rows] += ranker.added - parts[:, fact]
            figures = [
                float(np.abs(parts[best, fact]).mean()) if best.any() else 0.0,
                float(np.abs(apart[best, fact]).mean()) if best.any() else 0.0,
                gain - _gain(without, query.row),
                gain - _gain(changed, query.row),
            ]
            self._facts.setdefault(name, []).append(figures)
        self._sample.append(facts[self._random.integers(len(facts), size=SAMPLED)])

    def _dependence(self) -> dict[str, list[DependencePoint]]:
        """Of each fact what the ranker adds to a sampled candidate, by the mean, were it of this value and the others
        as they are: what keeps the sum of a query's chances is the same for all its candidates, and left out.
        """
        with self.scorer.live() as half:
            if half is None or half.second is None or not self._sample:
                return {}
            sample, found = np.concatenate(self._sample), {}
            for fact, name in enumerate(half.second.fact_names):
                values = np.unique(np.quantile(sample[:, fact], np.linspace(0.02, 0.98, POINTS)))
                points = []
                for value in values.tolist():
                    moved = sample.copy()
                    moved[:, fact] = value
                    said = attributed(half.bundle.weights, moved)
                    added = float(said.facts.sum(1).mean()) + said.mean
                    points.append(DependencePoint(round(value, DIGITS), added))
                if len(points) > 1:
                    level = float(np.mean([point.added for point in points]))
                    found[name] = [point._replace(added=round(point.added - level, DIGITS)) for point in points]
            return found

    def _said(self, half: ServedModel, queries: Sequence[Query]) -> Iterator[_QuerySaid]:
        """Queries whose answers the model knows and the rules let go."""
        examples = [query.example for query in queries]
        shown = [unanswered(one, self.join_window_s) for one in examples]
        instants = [one.target.time_ms for one in examples]
        outputs = list(dict.fromkeys([SCORES, *half.parts.values(), *asked_outputs(half)]))
        sessions = [one.target.session for one in examples]
        _, found = half.run([one.history for one in examples], instants, outputs, shown, sessions)
        for i, one in enumerate(examples):
            row = half.bundle.item_rows.get(one.target.item_id)
            said = {name: output[i] for name, output in zip(outputs, found, strict=True)}
            scores = said[SCORES].copy()
            rules = rules_for(
                Request(request_id="-", user_id="-"),
                one.history,
                half.rows,
                half.bundle.item_rows,
                self.exclude_seen,
                half.returning,
                instants[i],
                half.bundle.config.meanings,
            )
            np.copyto(scores, -np.inf, where=half.rows.blocked(instants[i]))
            forbid(scores, rules)
            if row is None or not np.isfinite(scores[row]):
                continue
            state = UserState(history=one.history, shown=shown[i])
            situation = Situation(one.history, instants[i], state, one.context, one.attributes, sessions[i])
            ranker = told(half, situation, scores, said)
            parts = {name: said[output].astype(np.float64) for name, output in half.parts.items()}
            if ranker is not None and ranker.added.any():
                parts[RANKER] = np.zeros(len(scores))
                parts[RANKER][ranker.rows] = ranker.added
            else:
                ranker = None
            yield _QuerySaid(scores.astype(np.float64), parts, row, ranker)


def _means(figures: Mapping[str, list[list[float]]]) -> dict[str, PartImportance]:
    """The most important first."""
    made = {}
    for name, rows in figures.items():
        contribution, apart, left_out, permuted = np.mean(rows, axis=0).round(DIGITS).tolist()
        made[name] = PartImportance(contribution=contribution, apart=apart, left_out=left_out, permuted=permuted)
    return {name: made[name] for name in sorted(made, key=lambda name: -(made[name].apart or 0.0))}


def _gain(scores: Array, row: int) -> float:
    """NDCG@10 of one answer, ties against it."""
    rank = int(np.count_nonzero(scores >= scores[row]))
    return 1.0 / float(np.log2(1 + rank)) if rank <= LIST else 0.0
