"""`score`: histories and requests in, recommendations out. No I/O and no clock: `now_ms` is passed in.

Before: whoever has read the histories (the Kafka worker, the gateway, a backtest). After: they send the answers. One
graph run for the whole batch, then the rules and the top-k of each request. A list that comes out shorter than asked
goes on with what the model does not know: whom a list is for never decides what may be in it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from headwater.errors import RequestRefused
from headwater.events import session_number
from headwater.examples import Entry
from headwater.recommendations import COLD, EXACT, Receipt, Recommendation, RecommendedItem, Refusal, Request
from headwater.signals import Signals
from models.top_k import drop_not_finite
from serving.cold_items import cold_items, likest
from serving.filters import Mask
from serving.popular import Popular
from serving.reasons import explain
from serving.rules import DEFAULT_LIMITS, Rows, Rules, best_rows, extended, extended_history, rules_for
from serving.scorer import Half, Scorer
from streams.features.fold import Limits
from streams.features.state import EMPTY, UserState

__all__ = ["Ask", "ScoredBatch", "needs_popular", "refuse", "score"]

Array = npt.NDArray[Any]

MAX_REFUSAL_CHARS = 4000
"""A refusal quotes what was sent; longer texts are cut."""


@dataclass(slots=True)
class Ask:
    """One request with what was read for it.

    Fields
        request: what was asked.
        history: oldest first; None: the features could not be read.
        state: whose history it is, for what it tells beyond it.
        feature_offsets, folded_ms: events partition -> newest offset in the features, and when the user's newest event
            was folded (epoch ms); told on in the receipt.
        at_ms: the instant that it is answered for, where that is not the batch's: a backtest asks about many at once.
        request_at, history_at, history_events: where the request is in its topic, where the user's newest event is, and
            how many events were folded; told on in the receipt.
        people: where several ids are one person, each with how many events of it were folded; told on, too.
    """

    request: Request
    history: Sequence[Entry] | None = ()
    feature_offsets: Mapping[str, int] = field(default_factory=dict)
    folded_ms: int | None = None
    at_ms: int | None = None
    request_at: str | None = None
    history_at: str | None = None
    history_events: int = 0
    people: Mapping[str, int] = field(default_factory=dict)
    state: UserState = EMPTY


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


class _Asked(NamedTuple):
    """One ask of a batch, the history that it is answered from, and the instant, epoch ms."""

    ask: Ask
    history: Sequence[Entry]
    at_ms: int


class _Listed(NamedTuple):
    """Items that no model ranks, best first: how many of them are popular, the others being cold, and why."""

    ids: list[str]
    popular: int
    reasons: list[tuple[str, ...]]


def needs_popular(scorer: Scorer, asks: Sequence[Ask], now_ms: int, limits: Limits = DEFAULT_LIMITS) -> bool:
    """Whether `score` may use what is popular for one of these: without a model, without a history that it knows, or
    for a list that it cannot fill. A filter leaves nothing but what the catalogue has.
    """
    with scorer.live() as half:
        if half is None:
            return True
        offered = len(half.rows) - int(np.count_nonzero(half.rows.blocked(now_ms)))
        for ask in asks:
            request = ask.request
            history = extended_history(request, ask.history or (), now_ms, ask.state, limits)
            if not half.knows(history):
                return True
            if request.candidates is None:
                short = request.k + len(history) + len(request.exclude) > offered
            else:
                short = not half.bundle.item_rows.keys() >= set(request.candidates)
            if short and not request.filters:
                return True
    return False


def score(
    scorer: Scorer,
    asks: Sequence[Ask],
    *,
    now_ms: int,
    exclude_seen: Collection[str],
    popular: Popular | None = None,
    limits: Limits = DEFAULT_LIMITS,
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
        limits: how much is remembered of a user, and what events mean, for `recent_events`.
        mark: called with the name of a step when it has ended, so that a caller with a clock can time it.

    Returns
        The answers in the order of the asks. A request that breaks a rule (an unknown filter field) is answered with
        its refusal.
    """
    instants = [now_ms if ask.at_ms is None else ask.at_ms for ask in asks]
    states = [
        extended(ask.request, ask.history or (), at, ask.state, limits) for ask, at in zip(asks, instants, strict=True)
    ]
    histories = [state.history for state in states]
    asked = [_Asked(*one) for one in zip(asks, histories, instants, strict=True)]
    scored = ScoredBatch([])
    with scorer.live() as half, scorer.catalogue.lock:
        batch = _Batch(scorer, half, popular or Popular(), now_ms, exclude_seen)
        if half is None:
            mark("score")
            scored.answers += [_popular_answer(batch, one) for one in asked]
            mark("rules")
            return scored
        shown, sessions = [state.shown for state in states], [_session(ask.request) for ask in asks]
        lengths, (scores,) = half.run(histories, instants, ["scores"], shown, sessions)
        scored.not_finite = drop_not_finite(scores)
        for row, at in zip(scores, instants, strict=True):
            np.copyto(row, -np.inf, where=half.rows.blocked(at))
        mark("score")
        for i, one in enumerate(asked):
            if not lengths[i] and (batch.popular.weights or not half.bundle.item_rows):
                answer = _popular_answer(batch, one)
            else:
                fallback = None if lengths[i] and one.ask.history is not None else _nothing_known(batch, one)
                answer = _model_answer(batch, half, one, scores[i], fallback)
            scored.answers.append(answer)
        mark("rules")
    return scored


def refuse(request_id: str, user_id: str | None, code: str, message: str, now_ms: int) -> Recommendation:
    """The answer to a request that cannot be answered."""
    if len(message) > MAX_REFUSAL_CHARS:
        message = message[:MAX_REFUSAL_CHARS] + " ..."
    return Recommendation(
        request_id=request_id, user_id=user_id, answered_time=now_ms, error=Refusal(code=code, message=message)
    )


def _session(request: Request) -> int | None:
    return None if request.session_id is None else session_number(request.session_id)


def _nothing_known(batch: _Batch, asked: _Asked) -> str:
    """Why an answer is not personal. Popularity that was read and holds nothing: nobody has done anything yet."""
    half, popular = batch.half, batch.popular
    if popular.time_ms is not None and not popular.weights and not (half and half.bundle.item_rows):
        return "no_events"
    if half is None:
        return "no_model"
    if asked.ask.history is None:
        return "no_features"
    return "unknown_history" if asked.history else "no_history"


def _model_answer(batch: _Batch, half: Half, asked: _Asked, scores: Array, fallback: str | None) -> Recommendation:
    """What the model ranks; then, while the list is short, what it does not know."""
    request = asked.ask.request
    try:
        rules = _rules(batch, asked, half.rows, half.bundle.item_rows)
        best = best_rows(scores, rules, request.k)
        listed = _unknown_to(half, batch, asked, request.k - len(best))
    except RequestRefused as error:
        return refuse(request.request_id, request.whose, error.code, str(error), batch.now_ms)
    reasons: Sequence[Sequence[str]] = ()
    if request.explain:
        why = explain(half, asked.history, scores, best, rules, batch.now_ms, personal=fallback is None)
        reasons = [*why, *listed.reasons]
    values = scores[best].tolist()
    lowest = min(0.0, values[-1]) if values else 0.0
    ids = [half.bundle.items[row] for row in best.tolist()]
    items = _items([*ids, *listed.ids], [*values, *[lowest] * len(listed.ids)], reasons)
    notes = (EXACT, f"{COLD}{len(listed.ids)}") if listed.ids else (EXACT,)
    return _answer(batch, asked, items, fallback, batch.popular if listed.popular else None, notes)


def _unknown_to(half: Half, batch: _Batch, asked: _Asked, count: int) -> _Listed:
    """What a list of the model goes on with: items of recent events that neither it nor the catalogue has, then cold
    ones. Raises RequestRefused.
    """
    if not count:
        return _Listed([], 0, [])
    catalogue = batch.scorer.catalogue
    fresh = {
        item_id: weight
        for item_id, weight in batch.popular.weights.items()
        if item_id not in half.bundle.item_rows and catalogue.get(item_id) is None
    }
    return _listed(batch, asked, fresh, half.rows.cold, count)


def _popular_answer(batch: _Batch, asked: _Asked) -> Recommendation:
    """Popular items, then the others that any list may hold, as if they were cold."""
    request, half, popular = asked.ask.request, batch.half, batch.popular
    catalogue = batch.scorer.catalogue

    def others() -> Mask:
        mask = catalogue.listed()
        if half is not None:
            mask[half.rows.named()] = True
        mask[[catalogue.slots[item_id] for item_id in popular.weights]] = False
        return mask

    try:
        listed = _listed(batch, asked, popular.weights, others, request.k)
    except RequestRefused as error:
        return refuse(request.request_id, request.whose, error.code, str(error), batch.now_ms)
    values = [popular.weights.get(item_id, 0.0) for item_id in listed.ids]
    items = _items(listed.ids, values, listed.reasons)
    return _answer(batch, asked, items, _nothing_known(batch, asked), popular)


def _listed(
    batch: _Batch, asked: _Asked, popular: Mapping[str, float], others: Callable[[], Mask], count: int
) -> _Listed:
    """By the rules: popular items in their order, then the best of the others. Slots are the rows here."""
    catalogue, rows = batch.scorer.catalogue, batch.scorer.all_items
    slots = [catalogue.slot(item_id) for item_id in popular]
    blocked = rows.blocked(asked.at_ms)
    rules = _rules(batch, asked, rows, catalogue.slots)
    order = np.full(len(blocked), -np.inf)
    order[slots] = np.arange(len(slots), 0, -1)  # no two are equal here: slots are an accident of this process
    np.copyto(order, -np.inf, where=blocked)
    best = best_rows(order, rules, count).tolist()
    ranked = len(best)
    if ranked < count:
        left = count - ranked
        best += cold_items(catalogue, others() & ~blocked, rules, asked.history, left, asked.at_ms).tolist()
    reasons: list[tuple[str, ...]] = []
    if asked.ask.request.explain:
        like = [likest(catalogue, slot, asked.history) for slot in best[ranked:]]
        reasons = [("popular now",)] * ranked
        reasons += [(f"like {catalogue.title(one)}" if one else "in the catalogue",) for one in like]
    return _Listed([catalogue.ids[slot] for slot in best], ranked, reasons)


def _rules(batch: _Batch, asked: _Asked, rows: Rows, item_rows: Mapping[str, int]) -> Rules:
    returning, meanings = frozenset[str](), Signals()
    if batch.half is not None:
        returning, meanings = batch.half.returning, batch.half.bundle.config.meanings
    rule = batch.exclude_seen
    return rules_for(asked.ask.request, asked.history, rows, item_rows, rule, returning, asked.at_ms, meanings)


def _items(
    ids: Sequence[str | None], values: Sequence[float], reasons: Sequence[Sequence[str]]
) -> tuple[RecommendedItem, ...]:
    items = []
    for place, (item_id, value) in enumerate(zip(ids, values, strict=True)):
        assert item_id is not None  # free rows are blocked
        why = tuple(reasons[place]) if reasons else ()
        items.append(RecommendedItem(item_id=item_id, rank=place + 1, score=value, reasons=why))
    return tuple(items)


def _answer(
    batch: _Batch,
    asked: _Asked,
    items: tuple[RecommendedItem, ...],
    fallback: str | None,
    popular: Popular | None,
    notes: tuple[str, ...] = (EXACT,),
) -> Recommendation:
    ask, half, now_ms = asked.ask, batch.half, batch.now_ms
    rule = ask.request.exclude_seen
    receipt = Receipt(
        feature_offsets=dict(ask.feature_offsets),
        feature_age_ms=None if ask.folded_ms is None else float(max(now_ms - ask.folded_ms, 0)),
        history_at=ask.history_at,
        history_events=ask.history_events,
        people=dict(ask.people),
        history_length=len(asked.history),
        request_at=ask.request_at,
        catalogue_offsets=dict(batch.scorer.catalogue.offsets),
        exclude_seen=tuple(batch.exclude_seen) if rule is None else rule,
        model_version=None if half is None else half.bundle.version,
        model_digest=None if half is None else half.bundle.digest,
        model_examples=None if half is None else half.bundle.extra.get("examples_seen"),
        weight_age_ms=None if half is None else float(max(now_ms - half.published_ms, 0)),
        policy=notes,
        fallback=fallback,
        popular_time=None if popular is None else popular.time_ms,
        popular_offsets={} if popular is None else {str(number): at for number, at in popular.offsets.items()},
    )
    request = ask.request
    return Recommendation(
        request_id=request.request_id, user_id=request.whose, items=items, answered_time=now_ms, receipt=receipt
    )
