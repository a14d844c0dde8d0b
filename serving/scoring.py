"""`score`: histories and requests in, recommendations out. No I/O and no clock: `now_ms` is passed in.

Before: whoever has read the histories (the Kafka worker, the gateway, a backtest). After: they send the answers. One
graph run for the whole batch, then the rules and the top-k of each request.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from headwater.errors import RequestRefused
from headwater.examples import Entry
from headwater.recommendations import Receipt, Recommendation, RecommendedItem, Refusal, Request
from models.top_k import drop_not_finite
from serving.popular import Popular
from serving.reasons import explain
from serving.rules import best_rows, extended_history, rules_for
from serving.scorer import Half, Scorer

__all__ = ["Ask", "ScoredBatch", "refuse", "score"]

Array = npt.NDArray[Any]

MAX_REFUSAL_CHARS = 4000
"""A refusal quotes what was sent; longer texts are cut."""


@dataclass(slots=True)
class Ask:
    """One request with what was read for it.

    Fields
        request: what was asked.
        history: oldest first; None: the features could not be read.
        feature_offsets, folded_ms: events partition -> newest offset in the features, and when the user's newest event
            was folded (epoch ms); told on in the receipt.
        at_ms: the instant that it is answered for, where that is not the batch's: a backtest asks about many at once.
        request_at, history_at, history_events: where the request is in its topic, where the user's newest event is, and
            how many events were folded; told on in the receipt.
    """

    request: Request
    history: Sequence[Entry] | None = ()
    feature_offsets: Mapping[str, int] = field(default_factory=dict)
    folded_ms: int | None = None
    at_ms: int | None = None
    request_at: str | None = None
    history_at: str | None = None
    history_events: int = 0


@dataclass(slots=True)
class ScoredBatch:
    """The answers in the order of the asks, and how many scores were not finite (each was left out)."""

    answers: list[Recommendation]
    not_finite: int = 0


class _Batch(NamedTuple):
    """What the answers of one batch share. `half`: the model that answers, None before the first."""

    scorer: Scorer
    half: Half | None
    popular: Popular
    now_ms: int
    exclude_seen: Collection[str]


def score(
    scorer: Scorer,
    asks: Sequence[Ask],
    *,
    now_ms: int,
    exclude_seen: Collection[str],
    popular: Popular | None = None,
    mark: Callable[[str], None] = lambda _step: None,
) -> ScoredBatch:
    """Answer every ask from one version of the model. The catalogue stays as it is meanwhile, so that receipts can name
    its state.

    Parameters
        scorer: holds model and catalogue.
        asks: one batch.
        now_ms: the instant, epoch ms.
        exclude_seen: the rule for requests that name none (`models.exclusion`).
        popular: ranks where there is no model or no history that the model knows; without it, a model's own popularity
            does.
        mark: called with the name of a step when it has ended, so that a caller with a clock can time it.

    Returns
        The answers in the order of the asks. A request that breaks a rule (an unknown filter field) is answered with
        its refusal.
    """
    instants = [now_ms if ask.at_ms is None else ask.at_ms for ask in asks]
    histories = [extended_history(ask.request, ask.history or (), at) for ask, at in zip(asks, instants, strict=True)]
    scored = ScoredBatch([])
    with scorer.live() as half, scorer.catalogue.lock:
        batch = _Batch(scorer, half, popular or Popular(), now_ms, exclude_seen)
        if half is None:
            mark("score")
            for ask, history in zip(asks, histories, strict=True):
                scored.answers.append(_popular_answer(batch, ask, history))
            mark("rules")
            return scored
        lengths, (scores,) = half.run(histories, instants, ["scores"])
        scored.not_finite = drop_not_finite(scores)
        np.copyto(scores, -np.inf, where=half.rows.blocked())
        mark("score")
        for i, (ask, history) in enumerate(zip(asks, histories, strict=True)):
            if batch.popular.weights and not lengths[i]:
                answer = _popular_answer(batch, ask, history)
            else:
                fallback = None if lengths[i] and ask.history is not None else _nothing_known(ask, history)
                answer = _model_answer(batch, half, ask, history, scores[i], fallback)
            scored.answers.append(answer)
        mark("rules")
    return scored


def refuse(request_id: str, user_id: str, code: str, message: str, now_ms: int) -> Recommendation:
    """The answer to a request that cannot be answered."""
    if len(message) > MAX_REFUSAL_CHARS:
        message = message[:MAX_REFUSAL_CHARS] + " ..."
    return Recommendation(
        request_id=request_id, user_id=user_id, answered_time=now_ms, error=Refusal(code=code, message=message)
    )


def _nothing_known(ask: Ask, history: Sequence[Entry]) -> str:
    if ask.history is None:
        return "no_features"
    return "unknown_history" if history else "no_history"


def _model_answer(
    batch: _Batch, half: Half, ask: Ask, history: Sequence[Entry], scores: Array, fallback: str | None
) -> Recommendation:
    request = ask.request
    try:
        rules = rules_for(request, history, half.rows, half.bundle.item_rows, batch.exclude_seen, half.returning)
    except RequestRefused as error:
        return refuse(request.request_id, request.user_id, error.code, str(error), batch.now_ms)
    best = best_rows(scores, rules, request.k)
    reasons: Sequence[Sequence[str]] = ()
    if request.explain:
        reasons = explain(half, history, best, batch.now_ms, personal=fallback is None)
    items = _items(half.bundle.items, best, scores, reasons)
    return _answer(batch, ask, len(history), items, fallback)


def _popular_answer(batch: _Batch, ask: Ask, history: Sequence[Entry]) -> Recommendation:
    """Popular items, then the rest of the catalogue by item id, by the same rules. Slots are the rows here."""
    request, half, popular = ask.request, batch.half, batch.popular
    catalogue, rows = batch.scorer.catalogue, batch.scorer.all_items
    slots = [catalogue.slot(item_id) for item_id in popular.weights]
    scores = np.zeros(len(catalogue.ids))
    scores[slots] = list(popular.weights.values())
    order = np.zeros(len(catalogue.ids))  # no two popular items are equal here: slots are an accident of this process
    order[slots] = np.arange(len(slots), 0, -1)
    np.copyto(order, -np.inf, where=rows.blocked())
    try:
        returning = half.returning if half is not None else ()
        rules = rules_for(request, history, rows, catalogue.slots, batch.exclude_seen, returning)
    except RequestRefused as error:
        return refuse(request.request_id, request.user_id, error.code, str(error), batch.now_ms)
    best = best_rows(order, rules, request.k)
    ranked = int((order[best] > 0).sum())
    if ranked < len(best):
        left = np.arange(len(order)) if rules.candidates is None else rules.candidates
        rest = heapq.nsmallest(len(best) - ranked, left[order[left] == 0].tolist(), key=catalogue.ids.__getitem__)
        best = np.array([*best[:ranked], *rest], np.int64)
    reasons: Sequence[Sequence[str]] = ()
    if request.explain:
        reasons = [("popular now",) if order[row] > 0 else ("in the catalogue",) for row in best]
    items = _items(catalogue.ids, best, scores, reasons)
    fallback = "no_model" if half is None else _nothing_known(ask, history)
    return _answer(batch, ask, len(history), items, fallback, popular)


def _items(
    ids: Sequence[str | None], best: npt.NDArray[np.int64], scores: Array, reasons: Sequence[Sequence[str]]
) -> tuple[RecommendedItem, ...]:
    items = []
    for place, (row, value) in enumerate(zip(best.tolist(), scores[best].tolist(), strict=True)):
        item_id = ids[row]
        assert item_id is not None  # free rows are blocked
        why = tuple(reasons[place]) if reasons else ()
        items.append(RecommendedItem(item_id=item_id, rank=place + 1, score=value, reasons=why))
    return tuple(items)


def _answer(
    batch: _Batch,
    ask: Ask,
    length: int,
    items: tuple[RecommendedItem, ...],
    fallback: str | None,
    popular: Popular | None = None,
) -> Recommendation:
    half, now_ms, asked = batch.half, batch.now_ms, ask.request.exclude_seen
    receipt = Receipt(
        feature_offsets=dict(ask.feature_offsets),
        feature_age_ms=None if ask.folded_ms is None else float(max(now_ms - ask.folded_ms, 0)),
        history_at=ask.history_at,
        history_events=ask.history_events,
        history_length=length,
        request_at=ask.request_at,
        catalogue_offsets=dict(batch.scorer.catalogue.offsets),
        exclude_seen=tuple(batch.exclude_seen) if asked is None else asked,
        model_version=None if half is None else half.bundle.version,
        model_digest=None if half is None else half.bundle.digest,
        model_examples=None if half is None else half.bundle.extra.get("examples_seen"),
        weight_age_ms=None if half is None else float(max(now_ms - half.published_ms, 0)),
        fallback=fallback,
        popular_time=None if popular is None else popular.time_ms,
        popular_offsets={} if popular is None else {str(number): at for number, at in popular.offsets.items()},
    )
    request = ask.request
    return Recommendation(
        request_id=request.request_id, user_id=request.user_id, items=items, answered_time=now_ms, receipt=receipt
    )
