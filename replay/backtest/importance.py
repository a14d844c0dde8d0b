"""What the model goes by: over the first queries after the warm-up, by the weights of its end.

Before: `replay.backtest.run` hands over queries. After: `Result.importance`. The weights stand still meanwhile, so that
none of them has learned an answer. Four figures of each part of the model, and of each fact of its ranker:

    contribution  mean of what it adds to the ten best of a query, whatever the sign
    apart         the same, less what it adds to the item in the middle: what is the same for all items ranks nothing
    left_out      NDCG@10 lost where it adds nothing
    permuted      NDCG@10 lost where it says of each item what it says of another one of the same query
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headwater.recommendations import Request
from models.published.names import SCORES
from models.shown.showings import unanswered
from models.top_k import top_k
from replay.backtest.queries import Query
from replay.backtest.result import Importance, PartImportance
from serving.rules import forbid, rules_for
from serving.scorer import Half, Scorer

__all__ = ["Importances"]

LIST = 10

BATCH = 16
"""Queries scored at once."""

DIGITS = 6

Array = NDArray[Any]


class _Asked(NamedTuple):
    """One query, scored.

    Fields
        scores: (N,), -inf where the rules let nothing go.
        parts: by name, (N,) each; together the scores.
        row: of the answer.
    """

    scores: Array
    parts: dict[str, Array]
    row: int


class Importances:
    """Collects queries and asks the model about them.

    Parameters
        scorer: holds the weights of the end of the warm-up; they stay as they are.
        exclude_seen: the backtest's rule.
        queries: how many are asked.
        join_window_s: as of the model's configuration.
    """

    def __init__(self, scorer: Scorer, exclude_seen: Sequence[str], queries: int, join_window_s: float) -> None:
        self.scorer, self.exclude_seen, self.left, self.join_window_s = scorer, exclude_seen, queries, join_window_s
        self._random = np.random.default_rng(0)  # the same result for the same stream
        self._waiting: list[Query] = []
        self._gains: list[float] = []
        self._sums: dict[str, list[Array]] = {}

    def ask(self, query: Query) -> None:
        """One more query of the stream; those after enough of them are passed over."""
        if self.left:
            self.left -= 1
            self._waiting.append(query)
            if len(self._waiting) == BATCH:
                self._close()

    def result(self) -> Importance | None:
        """The means; None without a query that could be asked."""
        self._close()
        if not self._gains:
            return None
        parts = {}
        for name, rows in self._sums.items():
            contribution, apart, left_out, permuted = np.mean(rows, axis=0).round(DIGITS).tolist()
            parts[name] = PartImportance(contribution=contribution, apart=apart, left_out=left_out, permuted=permuted)
        ranked = sorted(parts, key=lambda name: -(parts[name].apart or 0.0))
        return Importance(
            queries=len(self._gains),
            ndcg_10=round(float(np.mean(self._gains)), DIGITS),
            parts={name: parts[name] for name in ranked},
        )

    def _close(self) -> None:
        """Take in the queries that wait."""
        waiting, self._waiting = self._waiting, []
        with self.scorer.live() as half:
            if half is None or not waiting:
                return
            asked = [one for one in self._scored(half, waiting) if one is not None]
        for one in asked:
            gain = _gain(one.scores, one.row)
            self._gains.append(gain)
            best = top_k(one.scores, LIST)
            listed = np.isfinite(one.scores)
            for name, part in one.parts.items():
                middle = float(np.median(part[listed]))
                without = one.scores - part
                lost = gain - _gain(without, one.row)
                shuffled = np.zeros_like(part)
                shuffled[listed] = self._random.permutation(part[listed])
                permuted = gain - _gain(without + shuffled, one.row)
                figures = [np.abs(part[best]).mean(), np.abs(part[best] - middle).mean(), lost, permuted]
                self._sums.setdefault(name, []).append(np.array(figures))

    def _scored(self, half: Half, queries: Sequence[Query]) -> list[_Asked | None]:
        """Each query; None where the model does not know the answer or the rules let nothing go."""
        examples = [query.example for query in queries]
        shown = [unanswered(one, self.join_window_s) for one in examples]
        instants = [one.target.time_ms for one in examples]
        outputs = [SCORES, *half.parts.values()]
        _, found = half.run([one.history for one in examples], instants, outputs, shown)
        asked: list[_Asked | None] = []
        for i, one in enumerate(examples):
            scores = found[0][i].astype(np.float64)
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
            parts = {name: part[i].astype(np.float64) for name, part in zip(half.parts, found[1:], strict=True)}
            row = half.bundle.item_rows.get(one.target.item_id)
            asked.append(_Asked(scores, parts, row) if row is not None and np.isfinite(scores[row]) else None)
        return asked


def _gain(scores: Array, row: int) -> float:
    """NDCG@10 of one answer, ties against it."""
    rank = int(np.count_nonzero(scores >= scores[row]))
    return 1.0 / float(np.log2(1 + rank)) if rank <= LIST else 0.0
