"""What diversity costs and brings: the first queries after the warm-up, answered at each diversity by serving's code.

Before: `replay.backtest.run` hands over queries. After: `Result.diversity`, from which a person chooses. The weights
are those of the end of the warm-up and stand still, so that every diversity is asked the same of the same model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from headwater.errors import SettingsError
from headwater.events import Item
from headwater.recommendations import Recommendation, Request
from headwater.surfaces import DEFAULT_SURFACE, Surface
from models.published.bundle import Bundle
from models.shown.showings import unanswered
from replay.backtest.queries import Query
from replay.backtest.result import Diversity, DiversityPoint
from serving.arranging import list_diversity
from serving.catalogue import Catalogue
from serving.scorer import Scorer
from serving.scoring import Ask, score
from serving.surfaces import Surfaces
from streams.features.state import UserState

__all__ = ["STEPS", "DiversityCurve"]

STEPS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)

LIST = 10

SURFACE = "asked"

BATCH = 8
"""Queries scored at once, each at every step."""

DIGITS = 6


class DiversityCurve:
    """Collects queries and asks the model about them.

    Parameters
        bundle: the weights of the end of the warm-up; belong to this from now on.
        items: the catalogue, for categories; what is not available counts as if it were, as in the whole backtest.
        exclude_seen: the backtest's rule.
        queries: how many are asked.
        surface: whose diversity is varied; all else of it stays as it is.
    """

    def __init__(
        self,
        bundle: Bundle,
        items: Sequence[Item],
        exclude_seen: tuple[str, ...],
        queries: int,
        surface: Surface = DEFAULT_SURFACE,
    ) -> None:
        self.exclude_seen, self.left = exclude_seen, queries
        self.surfaces = Surfaces({SURFACE: surface})
        self.known = len(bundle.item_rows)
        self._join_window_s = bundle.config.join_window_s
        offered = [item.model_copy(update={"available": True}) for item in items if item.item_id in bundle.item_rows]
        self.scorer = Scorer(Catalogue(offered), "cpu")
        self.scorer.load(bundle, 0)
        self._waiting: list[Query] = []
        self._gains: list[list[float]] = [[] for _ in STEPS]
        self._apart: list[list[float]] = [[] for _ in STEPS]
        self._listed: list[set[str]] = [set() for _ in STEPS]

    def ask(self, query: Query) -> None:
        """One more query of the stream; those after enough of them are passed over."""
        if self.left:
            self.left -= 1
            self._waiting.append(query)
            if len(self._waiting) == BATCH:
                self._answer()

    def result(self) -> Diversity | None:
        """The curve; None without a query."""
        self._answer()
        if not self._gains[0]:
            return None
        points = []
        for step, gains, apart, listed in zip(STEPS, self._gains, self._apart, self._listed, strict=True):
            hits = sum(gain > 0 for gain in gains)
            points.append(
                DiversityPoint(
                    diversity=step,
                    ndcg_10=round(math.fsum(gains) / len(gains), DIGITS),
                    hr_10=round(hits / len(gains), DIGITS),
                    list_diversity_10=round(math.fsum(apart) / len(apart), DIGITS) if apart else None,
                    coverage_10=round(len(listed) / self.known, DIGITS),
                )
            )
        return Diversity(queries=len(self._gains[0]), points=points)

    def _answer(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        asks = [self._asked(query, step) for query in waiting for step in STEPS]
        answers = score(self.scorer, asks, now_ms=0, exclude_seen=self.exclude_seen, surfaces=self.surfaces).answers
        for number, answer in enumerate(answers):
            self._take(number % len(STEPS), waiting[number // len(STEPS)], answer)

    def _asked(self, query: Query, step: float) -> Ask:
        example = query.example
        at_ms = example.target.time_ms
        request = Request(
            request_id=str(query.place),
            user_id=example.user_id,
            k=LIST,
            request_time=at_ms,
            surface=SURFACE,
            overrides={"diversity": step},
        )
        state = UserState(shown=unanswered(example, self._join_window_s))
        return Ask(request, example.history, at_ms=at_ms, state=state)

    def _take(self, step: int, query: Query, answer: Recommendation) -> None:
        if answer.error is not None:
            raise SettingsError(f"diversity: {answer.error.message}")
        ids = [item.item_id for item in answer.items[:LIST]]
        target = query.example.target.item_id
        self._gains[step].append(1 / math.log2(ids.index(target) + 2) if target in ids else 0.0)
        self._listed[step].update(ids)
        with self.scorer.live() as half:
            if half is not None and len(ids) > 1:
                rows = [half.bundle.item_rows[item_id] for item_id in ids if item_id in half.bundle.item_rows]
                self._apart[step].append(list_diversity(half.rows, rows, half.bundle.weights.get("item_vectors")))
