"""`score`: histories and requests in, recommendations out. No I/O and no clock: `now_ms` is passed in.

Before: whoever has read the histories (the Kafka worker, the gateway, a backtest). After: they send the answers. One
graph run for the whole batch, then the rules and the top-k of each request. A list that comes out shorter than asked
goes on with what the model does not know: whom a list is for never decides what may be in it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from headwater.errors import RequestRefused
from headwater.events import session_number
from headwater.examples import Entry
from headwater.experiments import Dealt
from headwater.recommendations import (
    COLD,
    EXACT,
    FILL,
    SEEN_KEPT,
    ListRow,
    Receipt,
    Recommendation,
    RecommendedItem,
    Refusal,
    Request,
)
from headwater.signals import Signals
from headwater.surfaces import DEFAULT_SURFACE, Surface, SurfaceKind
from models.block import Sparse, Weighed
from models.inputs import Steps
from models.published.bounds import COUNTED_TIME, LEARNED_TIME
from models.top_k import close, drop_not_finite
from serving.arranging import (
    NO_ROW,
    NO_TIER,
    Arranged,
    Beyond,
    Leading,
    Offer,
    arrange,
    arranges,
    few_events,
    spread_of,
)
from serving.cold_items import cold_items, likest
from serving.filters import Mask
from serving.popular import Popular
from serving.reasons import Asker, ModelsWord, Order, Ranking, Why, explain, why_not
from serving.reasons.words import VERBS
from serving.rules import DEFAULT_LIMITS, Rows, Rules, consented, extended, forbid, rules_for
from serving.scorer import Scorer, ServedModel
from serving.second_stage import Situation, asked_outputs, objective_notes, revise
from serving.surfaces import Surfaces, as_asked
from serving.surfaces.kinds import (
    NEAR,
    PINNED,
    UNKNOWN,
    WHOLE,
    Seen,
    asked_about,
    log_weights,
    newest_items,
    reason_of,
    tiers_of,
    title_of,
)
from streams.features.fold import Limits
from streams.features.state import EMPTY, UserState

__all__ = ["Ask", "ScoredBatch", "refuse", "score"]

Array = npt.NDArray[Any]

MAX_REFUSAL_CHARS = 4000
"""A refusal quotes what was sent; longer texts are cut."""

PERSONAL = frozenset({"for-you", "again", "because-you"})
"""Kinds of surface whose lists are about a history."""


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
        attributes: what was told of the user (`headwater.users`).
        denied: what is known of the user may not be used; `_resolved` finds out.
        user_offsets: users partition -> offset of the newest record that they are as of; told on, too.
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
    state: UserState = field(default_factory=lambda: EMPTY)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    user_offsets: Mapping[str, int] = field(default_factory=dict)
    denied: bool = False


@dataclass(slots=True)
class ScoredBatch:
    """The answers in the order of the asks, and how many scores were not finite (each was left out)."""

    answers: list[Recommendation]
    not_finite: int = 0


class _Batch(NamedTuple):
    """What the answers of one batch share. `half`: the model that answers, None before the first."""

    scorer: Scorer
    half: ServedModel | None
    popular: Popular
    now_ms: int
    exclude_seen: Collection[str]


class _Asked(NamedTuple):
    """One ask of a batch, resolved.

    Fields
        request: as asked, with the surface's word where it says nothing.
        surface: by which it is answered.
        dealt: the variant of an experiment that made it so, if any.
        state: what it is answered from, the request's own events included.
        at_ms: the instant, epoch ms.
        refused: why it has no surface; it is answered with that.
    """

    ask: Ask
    request: Request
    surface: Surface
    dealt: Dealt | None
    state: UserState
    at_ms: int
    refused: RequestRefused | None = None

    @property
    def history(self) -> Sequence[Entry]:
        """Of the state."""
        return self.state.history

    @property
    def k(self) -> int:
        """How many items."""
        return self.surface.k if self.request.k is None else self.request.k


class _Listed(NamedTuple):
    """A list, or a run of one, best first. `popular` and `cold`: how many of them no model ranks, and what does; `why`
    of each, and the `order` of all that it was picked from, where asked for.
    """

    ids: list[str]
    values: list[float]
    propensities: list[float]
    popular: int = 0
    cold: int = 0
    notes: tuple[str, ...] = ()
    why: Sequence[Why] = ()
    title: str = ""
    because: str | None = None
    order: Order = MappingProxyType({})

    def told(self, place: int) -> dict[str, Any]:
        """Why one of them is here; nothing unasked."""
        return self.why[place]._asdict() if self.why else {}


def score(
    scorer: Scorer,
    asks: Sequence[Ask],
    *,
    now_ms: int,
    exclude_seen: Collection[str],
    popular: Popular | Callable[[], Popular] | None = None,
    limits: Limits = DEFAULT_LIMITS,
    surfaces: Surfaces | None = None,
    mark: Callable[[str], None] = lambda _step: None,
) -> ScoredBatch:
    """Answer every ask from one version of the model. The catalogue stays as it is meanwhile, so that receipts can name
    its state.

    Parameters
        scorer: holds model and catalogue.
        asks: one batch.
        now_ms: the instant, epoch ms.
        exclude_seen: the rule for requests and surfaces that name none (`models.exclusion`).
        popular: ranks where there is no model or no history that the model knows; without it, a model's own popularity
            does. A function is called where one of these may need it, by the version that they are answered from.
        limits: how much is remembered of a user, and what events mean, for `recent_events`.
        surfaces: those that requests may name.
        mark: called with the name of a step when it has ended, so that a caller with a clock can time it.

    Returns
        The answers in the order of the asks. A request that breaks a rule (an unknown filter field) is answered with
        its refusal.
    """
    asked = _resolved(asks, now_ms, limits, surfaces or Surfaces())
    with scorer.live() as half:
        if callable(popular):
            popular = popular() if _needs_popular(half, asked) else None
        with scorer.catalogue.lock:
            return _scored(_Batch(scorer, half, popular or Popular(), now_ms, exclude_seen), asked, mark)


def _scored(batch: _Batch, asked: Sequence[_Asked], mark: Callable[[str], None]) -> ScoredBatch:
    scored, half = ScoredBatch([]), batch.half
    of_kinds = any(one.surface.kind != "for-you" for one in asked)
    for item_id in batch.popular.weights if of_kinds else ():
        batch.scorer.catalogue.slot(item_id)  # now, so that what is said over slots has one length
    if half is None:
        mark("score")
        scored.answers += [_answered(batch, one, None) for one in asked]
        mark("rules")
        return scored
    sessions = [_session(one.request) for one in asked]
    histories, shown = [one.history for one in asked], [one.state.shown for one in asked]
    outputs, item_rows = ["scores", *asked_outputs(half)], [half.rows_of(_named(one)) for one in asked]
    steps = [half.steps_of(*one) for one in zip(histories, item_rows, strict=True)]
    found = half.say(histories, [one.at_ms for one in asked], outputs, shown, sessions, steps)
    mark("score")
    for i, (one, parts) in enumerate(zip(asked, found, strict=True)):
        scores = parts["scores"]
        assert isinstance(scores, np.ndarray)  # of all rows
        scored.not_finite += close(scores, half.rows.blocked(one.at_ms))
        said = _Said(steps[i], scores, parts, _near(half, batch, one), item_rows[i])
        scored.answers.append(_answered(batch, one, said))
    mark("rules")
    return scored


def _needs_popular(half: ServedModel | None, asked: Sequence[_Asked]) -> bool:
    """Whether one of these may need what is popular: without a model, without a history that it knows, or for a list
    that it cannot fill. A filter leaves nothing but what the catalogue has.
    """
    if half is None:
        return True
    for one in asked:
        request = one.request
        if "popular" in _chain(one):
            return True
        if not half.knows(one.history):
            return True
        if request.candidates is None:
            offered = len(half.rows) - int(np.count_nonzero(half.rows.blocked(one.at_ms)))
            short = one.k + len(one.history) + len(request.exclude) > offered
        else:
            short = not half.bundle.item_rows.keys() >= set(request.candidates)
        if short and not request.filters:
            return True
    return False


class _Said(NamedTuple):
    """What the model says for one ask: the history as it reads it, its scores and their parts, what goes with single
    items, and the row of each item that is named.
    """

    steps: Steps
    scores: Array
    parts: Mapping[str, Array | Sparse | Weighed]
    near: Mapping[str, Array]
    item_rows: Mapping[str, int | None]

    @property
    def length(self) -> int:
        """How many entries of the history it knows."""
        return len(self.steps.rows)


def _named(asked: _Asked) -> list[str]:
    """The items that a history and its request name, which is what rules look up."""
    request, named = asked.request, [entry[0] for entry in asked.history]
    return [*named, *request.exclude, *(request.candidates or ()), *filter(None, (request.context_item,))]


def _resolved(asks: Sequence[Ask], now_ms: int, limits: Limits, surfaces: Surfaces) -> list[_Asked]:
    asked = []
    for ask in asks:
        at_ms = now_ms if ask.at_ms is None else ask.at_ms
        ask = _consented(ask, limits)
        state = extended(ask.request, ask.history or (), at_ms, ask.state, limits)
        try:
            surface, dealt = surfaces.of(ask.request)
            asked.append(_Asked(ask, as_asked(ask.request, surface), surface, dealt, state, at_ms))
        except RequestRefused as error:
            asked.append(_Asked(ask, ask.request, DEFAULT_SURFACE, None, state, at_ms, error))
    return asked


def _consented(ask: Ask, limits: Limits) -> Ask:
    """With what may be used of it."""
    found = consented(ask.request, None if ask.history is None else ask.state, limits)
    if found is None:
        return ask
    told = {} if found.state.word is None and ask.state.word is not None else ask.attributes
    history = None if ask.history is None else found.state.history
    return replace(
        ask, request=found.request, history=history, state=found.state, denied=found.denied,
        attributes={} if found.denied else told,
    )  # fmt: skip


def _answered(batch: _Batch, asked: _Asked, said: _Said | None) -> Recommendation:
    """One answer. `said` is None before the first model."""
    half, request = batch.half, asked.ask.request
    try:
        if asked.refused is not None:
            raise asked.refused
        if asked.surface.kind != "for-you":
            return _answer_of_kinds(batch, asked, said)
        if half is None or said is None:
            return _popular_answer(batch, asked)
        if not said.length and (batch.popular.weights or not half.bundle.item_rows):
            return _popular_answer(batch, asked)
        fallback = None if said.length and asked.ask.history is not None else _nothing_known(batch, asked)
        return _model_answer(batch, half, asked, said, fallback)
    except RequestRefused as error:
        return refuse(request.request_id, request.whose, error.code, str(error), batch.now_ms)


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
    if asked.ask.denied:
        return "no_consent"
    if popular.time_ms is not None and not popular.weights and not (half and half.bundle.item_rows):
        return "no_events"
    if half is None:
        return "no_model"
    if asked.ask.history is None:
        return "no_features"
    return "unknown_history" if asked.history else "no_history"


def _model_answer(batch: _Batch, half: ServedModel, asked: _Asked, said: _Said, fallback: str | None) -> Recommendation:
    """What the model ranks; then, while the list is short, what it does not know. Raises RequestRefused."""
    rules = _rules(batch, asked, half.rows, said.item_rows)
    scores = said.scores
    forbid(scores, rules)
    situation = _situation(asked, said)
    candidates, draws, others = revise(half, situation, scores, said.parts, spread_of(asked.surface.explore))
    offer = Offer(
        scores,
        half.rows,
        half.bundle.weights.get("item_vectors"),
        partial(few_events, half.bundle.weights),
        _beyond(batch, asked, partial(_unknown_to, half, batch), half.rows.cold),
        batch.scorer.all_items,
        half.bundle.item_rows,
        draws=draws,
        leading=Leading(candidates, others),
    )
    found = _arranged(asked, offer)
    why: Sequence[Why] = ()
    if asked.request.explain:
        known = found.rows != NO_ROW
        ranking = Ranking(scores, candidates, found.rows[known], found.scores[known].tolist())
        why = explain(half, situation, ranking, rules, personal=fallback is None)
    answer = _answer(batch, asked, [_listed(batch, asked, found, why)], fallback)
    return _looked_for(batch, asked, answer, ModelsWord(half, situation, scores, candidates))


def _answer_of_kinds(batch: _Batch, asked: _Asked, said: _Said | None) -> Recommendation:
    """What the surface's kind ranks, then the fallbacks. Raises RequestRefused."""
    half, surface, kinds = batch.half, asked.surface, _chain(asked)
    if half is not None and said is not None:
        own = _coming_back(asked) if "again" in kinds else asked
        forbid(said.scores, _rules(batch, own, half.rows, said.item_rows))
        revise(half, _situation(asked, said), said.scores, said.parts)
    seen = _seen(batch, asked, said)
    in_rows = surface.kind == "because-you"
    listed = _rows(batch, asked, seen) if in_rows else [_of_kinds(batch, asked, seen, kinds)]
    personal = asked.ask.history is not None and (seen.personal or surface.kind not in PERSONAL)
    fallback = None if half is not None and personal else _nothing_known(batch, asked)
    popular = batch.popular if "popular" in kinds else None
    answer = _answer(batch, asked, listed, fallback, popular)
    return _looked_for(batch, asked, answer, listed[0].order if listed else {})


def _rows(batch: _Batch, asked: _Asked, seen: Seen) -> list[_Listed]:
    """A row for each of the newest items of the history that anything goes with, then one for each fallback."""
    most, rows, used = asked.surface.rows, list[_Listed](), list[str]()
    catalogue = batch.scorer.catalogue
    below = asked._replace(surface=asked.surface.model_copy(update={"pins": ()}))  # they have places of the first row

    def add(kinds: Sequence[SurfaceKind], seen: Seen, title: str, because: str | None) -> None:
        if len(rows) < most:
            seed = f"{asked.request.request_id}/{len(rows) + 1}"
            row = _of_kinds(batch, asked if not rows else below, seen, kinds, used, seed)
            if row.ids:
                rows.append(row._replace(title=title, because=because))
                used.extend(row.ids)

    for entry in newest_items(seen, 2 * most):
        page = seen.request.model_copy(update={"context_item": entry.item_id})
        title = f"Because you {VERBS.get(entry.type, 'chose')} {catalogue.title(entry.item_id)}"
        add(("similar",), seen._replace(request=page, personal=False), title, entry.item_id)
    for kind in _chain(asked)[1:]:
        add((kind,), seen, title_of(kind), None)
    return rows


def _of_kinds(
    batch: _Batch,
    asked: _Asked,
    seen: Seen,
    kinds: Sequence[SurfaceKind],
    used: Sequence[str] = (),
    seed: str | None = None,
) -> _Listed:
    """A list of the first kind, and below it of the others. Slots are the rows here. Raises RequestRefused.

    Of a row, `used` are the items of those above, and `seed` is its own.
    """
    catalogue, rows, half = batch.scorer.catalogue, batch.scorer.all_items, batch.half
    blocked = rows.blocked(asked.at_ms)
    again = _coming_back(asked)
    taken = [catalogue.slots[item_id] for item_id in used]

    def allow(scores: Array, kind: SurfaceKind) -> None:
        np.copyto(scores, -np.inf, where=blocked)
        forbid(scores, _rules(batch, again if kind == "again" else asked, rows, catalogue.slots))
        scores[taken] = -np.inf

    scores, which = tiers_of(kinds, seen, allow)

    def others() -> Mask:
        mask = catalogue.listed() & (which < 0)
        mask[taken] = False
        return mask

    beyond = _beyond(batch, asked, dict, others) if WHOLE & set(kinds) else None
    if seed is not None and beyond is None and not (which > NO_TIER).any():
        return _Listed([], [], [])  # a row of nothing but pins is none
    vectors = new = None
    if half is not None and arranges(asked.surface):
        vectors = half.rows.by_slot(half.bundle.weights["item_vectors"], 0.0) if asked.surface.diversity else None
        new = partial(_new_slots, half)
    may_be_pinned = partial(_allowed, batch, partial(allow, kind=kinds[0]))
    offer = Offer(scores, rows, vectors, new, beyond, rows, catalogue.slots, which, may_be_pinned)
    found = arrange(offer, asked.surface, asked.k, seed or asked.request.request_id, asked.at_ms)
    told: list[str] = [*kinds, PINNED]  # NO_TIER is the last
    said = [told[which[slot]] for slot, row in zip(found.slots.tolist(), found.rows.tolist(), strict=True) if row >= 0]
    why = []
    if asked.request.explain:
        why = [
            Why((reason_of(kind, seen),), {kind: value})
            for kind, value in zip(said, found.scores[found.rows != NO_ROW].tolist(), strict=True)
        ]
    listed = _listed(batch, asked, found, why)
    fills = [f"{FILL}{kind}:{said.count(kind)}" for kind in kinds[1:] if kind in said]
    order: dict[str, tuple[str, float]] = {}
    if asked.request.why_not is not None:
        best = np.argsort(-scores, kind="stable")[: int(np.count_nonzero(scores > -np.inf))].tolist()
        order = {catalogue.ids[slot]: (kinds[which[slot]], float(scores[slot])) for slot in best}
    return listed._replace(notes=(*listed.notes, *fills), order=order)


def _allowed(batch: _Batch, allow: Callable[[Array], None]) -> Mask:
    """(slots,) which items there are that the rules leave."""
    there = batch.scorer.catalogue.listed()
    if batch.half is not None:
        there[batch.half.rows.named()] = True
    scores = np.where(there, 0.0, -np.inf)
    allow(scores)
    return np.asarray(scores == 0.0)


def _new_slots(half: ServedModel) -> Mask:
    """(slots,) which items had few events; what has no row is new."""
    return np.asarray(half.rows.by_slot(few_events(half.bundle.weights)) != 0.0)


def _coming_back(asked: _Asked) -> _Asked:
    """The same for what the person comes back to: nothing is left out as seen, unless request or surface say so."""
    if asked.request.exclude_seen is not None:
        return asked
    return asked._replace(request=asked.request.model_copy(update={"exclude_seen": ()}))


def _chain(asked: _Asked) -> tuple[SurfaceKind, ...]:
    """The kinds that fill a list, in their order; nothing follows on one that ranks all there is."""
    return _chain_of(asked.surface.kind, asked.surface.fallbacks)


@cache
def _chain_of(kind: SurfaceKind, fallbacks: tuple[SurfaceKind, ...]) -> tuple[SurfaceKind, ...]:
    kinds = list(dict.fromkeys((kind, *fallbacks)))
    whole = next((place for place, kind in enumerate(kinds) if kind in WHOLE), len(kinds))
    return tuple(kinds[: whole + 1])


def _seen(batch: _Batch, asked: _Asked, said: _Said | None) -> Seen:
    seen = Seen(batch.scorer.catalogue, batch.half, batch.popular, asked.request, asked.history, asked.at_ms, None)
    if said is None:
        return seen
    return seen._replace(scores=said.scores, personal=said.length > 0, near=said.near)


def _near(half: ServedModel, batch: _Batch, asked: _Asked) -> dict[str, Array]:
    """What goes with single items, of one ask: item id -> (capacity,). A run of its own where any are needed: those of
    a whole batch at once would be thousands of rows as wide as the catalogue.
    """
    wanted = [
        entry._replace(time_ms=asked.at_ms)
        for entry in asked_about(_chain(asked), _seen(batch, asked, None), asked.surface.rows)
        if entry.item_id in half.bundle.item_rows
    ]
    if not wanted:
        return {}
    names = [name for name in NEAR if name in half.outputs]
    _, parts = half.run([[entry] for entry in wanted], asked.at_ms, names)
    closed = half.bundle.weights["popularity"][:, 0] <= UNKNOWN
    found = {}
    for place, entry in enumerate(wanted):
        said = np.sum([part[place] for part in parts], axis=0)
        drop_not_finite(said)
        said[closed] = -np.inf
        found[entry.item_id] = said
    return found


def _situation(asked: _Asked, said: _Said) -> Situation:
    request = asked.request
    return Situation(
        history=asked.history,
        at_ms=asked.at_ms,
        state=asked.state,
        context=request.context,
        attributes=asked.ask.attributes,
        session=_session(asked.ask.request),
        objectives=asked.surface.objectives,
        steps=said.steps,
    )


def _unknown_to(half: ServedModel, batch: _Batch) -> Mapping[str, float]:
    """Items of recent events that neither the model nor the catalogue has, by popularity."""
    return {
        item_id: weight
        for item_id, weight in batch.popular.weights.items()
        if item_id not in half.bundle.item_rows and batch.scorer.catalogue.get(item_id) is None
    }


def _popular_answer(batch: _Batch, asked: _Asked) -> Recommendation:
    """Popular items, then the others that any list may hold, as if they were cold. Slots are the rows here. Raises
    RequestRefused.
    """
    half, popular, catalogue = batch.half, batch.popular.weights, batch.scorer.catalogue

    def others() -> Mask:
        mask = catalogue.listed()
        if half is not None:
            mask[half.rows.named()] = True
        mask[[catalogue.slots[item_id] for item_id in popular]] = False
        return mask

    rows = batch.scorer.all_items
    slots = [catalogue.slot(item_id) for item_id in popular]
    order = np.full(len(rows), -np.inf)
    order[slots] = log_weights(popular)
    np.copyto(order, -np.inf, where=rows.blocked(asked.at_ms))
    forbid(order, _rules(batch, asked, rows, catalogue.slots))
    new = None if half is None else partial(_new_slots, half)
    found = _arranged(asked, Offer(order, rows, None, new, _beyond(batch, asked, dict, others), rows, catalogue.slots))
    values = [popular.get(catalogue.ids[slot], 0.0) for slot in found.slots.tolist()]
    ranked = [value for value, row in zip(values, found.rows.tolist(), strict=True) if row != NO_ROW]
    why = [Why(("popular now",), {"popular": value}) for value in ranked] if asked.request.explain else []
    listed = _listed(batch, asked, found._replace(scores=np.array(values)), why)
    answer = _answer(batch, asked, [listed._replace(cold=0)], _nothing_known(batch, asked), batch.popular)
    return _looked_for(batch, asked, answer, {item_id: ("popular", weight) for item_id, weight in popular.items()})


def _looked_for(batch: _Batch, asked: _Asked, answer: Recommendation, ranked: ModelsWord | Order) -> Recommendation:
    """The answer, with where the item was lost that its request asks about."""
    if asked.request.why_not is None:
        return answer
    own = _coming_back(asked) if "again" in _chain(asked) else asked  # no item is lost there as seen
    rule, returning, meanings = _seen_rule(batch)
    asker = Asker(own.request, asked.surface, asked.history, asked.at_ms, rule, returning, meanings)
    said = why_not(asked.request.why_not, answer.items, batch.scorer.all_items, asker, ranked)
    return answer.model_copy(update={"why_not": said})


def _beyond(
    batch: _Batch, asked: _Asked, popular: Callable[[], Mapping[str, float]], cold: Callable[[], Mask]
) -> Beyond:
    """What no score ranks, and the rules leave: popular items in their order, then cold ones."""
    catalogue, rows = batch.scorer.catalogue, batch.scorer.all_items

    def first() -> npt.NDArray[np.int64]:
        return np.array([catalogue.slot(item_id) for item_id in popular()], np.int64)

    def rules() -> Rules:
        return _rules(batch, asked, rows, catalogue.slots)

    def allowed() -> Mask:
        ahead, ruled = first(), rules()
        mask = cold().copy()
        mask[ahead] = True
        order = np.where(mask & ~rows.blocked(asked.at_ms), 0.0, -np.inf)
        forbid(order, ruled)
        return np.asarray(order == 0.0)

    def best(mask: Mask, count: int) -> npt.NDArray[np.int64]:
        ahead = first()
        ahead = ahead[mask[ahead]][:count]
        left = mask.copy()
        left[ahead] = False
        return np.append(ahead, cold_items(catalogue, left, rules(), asked.history, count - len(ahead), asked.at_ms))

    return Beyond(allowed, best)


def _listed(batch: _Batch, asked: _Asked, found: Arranged, known: Sequence[Why]) -> _Listed:
    """As it was arranged. `known` says why of what has a row, in order, where asked for; what is beyond has its score
    from nothing else.
    """
    catalogue, popular = batch.scorer.catalogue, batch.popular.weights
    ids, values = [catalogue.ids[slot] for slot in found.slots.tolist()], found.scores.tolist()
    cold = [item_id for item_id, row in zip(ids, found.rows.tolist(), strict=True) if row == NO_ROW]
    fresh = {item_id for item_id in cold if item_id in popular and catalogue.get(item_id) is None}
    why: list[Why] = []
    if asked.request.explain:
        told = iter(known)
        for item_id, row, value in zip(ids, found.rows.tolist(), values, strict=True):
            if row != NO_ROW:
                why.append(next(told))
            elif item_id in fresh:
                why.append(Why(("popular now",), {"popular": value}))
            else:
                like = likest(catalogue, catalogue.slots[item_id], asked.history)
                text = f"like {catalogue.title(like)}" if like else "in the catalogue"
                why.append(Why((text,), {"cold": value}))
    return _Listed(ids, values, found.propensities.tolist(), len(fresh), len(cold), found.notes, why)


def _arranged(asked: _Asked, offer: Offer) -> Arranged:
    return arrange(offer, asked.surface, asked.k, asked.request.request_id, asked.at_ms)


def _rules(batch: _Batch, asked: _Asked, rows: Rows, item_rows: Mapping[str, int | None]) -> Rules:
    rule, returning, meanings = _seen_rule(batch)
    rules = rules_for(asked.request, asked.history, rows, item_rows, rule, returning, asked.at_ms, meanings)
    if not asked.surface.filters:
        return rules
    own = rows.matching_all(asked.surface.filters, asked.at_ms, "surface.filters", unknown_ok=True)
    return rules._replace(masks=[*rules.masks, own])


def _titled(listed: Sequence[_Listed]) -> tuple[ListRow, ...]:
    """The rows of an answer, if it has any."""
    rows, first = list[ListRow](), 1
    for run in listed:
        if run.title:
            rows.append(ListRow(title=run.title, because=run.because, first=first, count=len(run.ids)))
        first += len(run.ids)
    return tuple(rows)


def _seen_rule(batch: _Batch) -> tuple[Collection[str], Collection[str], Signals]:
    """The worker's rule, after which types of event users come back, and what events mean."""
    if batch.half is None:
        return batch.exclude_seen, (), Signals()
    return batch.exclude_seen, batch.half.returning, batch.half.bundle.config.meanings


def _asks_for_unknown(batch: _Batch, asked: _Asked) -> bool:
    """Whether the surface's filters name a field that no item has just now: the reason of many an empty list."""
    try:
        batch.scorer.all_items.matching_all(asked.surface.filters, asked.at_ms, "surface.filters")
    except RequestRefused:
        return True
    return False


def _items(listed: Sequence[_Listed]) -> tuple[RecommendedItem, ...]:
    items: list[RecommendedItem] = []
    for run in listed:
        for place, (item_id, value) in enumerate(zip(run.ids, run.values, strict=True)):
            items.append(
                RecommendedItem(
                    item_id=item_id,
                    rank=len(items) + 1,
                    score=value,
                    propensity=run.propensities[place] if run.propensities else 1.0,
                    **run.told(place),
                )
            )
    return tuple(items)


def _age_ms(half: ServedModel | None, name: str, now_ms: int) -> float | None:
    """How old what the model says of its newest example is."""
    at_ms = 0 if half is None else half.bundle.extra.get(name, 0)
    return float(max(now_ms - at_ms, 0)) if at_ms else None


def _answer(
    batch: _Batch,
    asked: _Asked,
    listed: Sequence[_Listed],
    fallback: str | None,
    popular: Popular | None = None,
) -> Recommendation:
    """From the runs of its list. `popular`: what ranked all of it."""
    ask, request, half, now_ms = asked.ask, asked.request, batch.half, batch.now_ms
    cold = sum(run.cold for run in listed)
    notes = [EXACT, *([f"{COLD}{cold}"] if cold else []), *(note for run in listed for note in run.notes)]
    if asked.surface.filters and not any(run.ids for run in listed) and _asks_for_unknown(batch, asked):
        notes.append("unknown_fields=filters")
    if half is not None:
        notes += objective_notes(half, asked.surface.objectives)
    rule = tuple(batch.exclude_seen) if request.exclude_seen is None else request.exclude_seen
    chain = _chain(asked)
    if rule and request.exclude_seen is None and "again" in chain:
        if len(chain) > 1:
            notes.append(f"{SEEN_KEPT}again")
        else:
            rule = ()
    if popular is None and any(run.popular for run in listed):
        popular = batch.popular
    receipt = Receipt(
        feature_offsets=dict(ask.feature_offsets),
        feature_age_ms=None if ask.folded_ms is None else float(max(now_ms - ask.folded_ms, 0)),
        history_at=ask.history_at,
        history_events=ask.history_events,
        people=dict(ask.people),
        history_length=len(asked.history),
        request_at=ask.request_at,
        user_offsets=dict(ask.user_offsets),
        catalogue_offsets=dict(batch.scorer.catalogue.offsets),
        exclude_seen=rule,
        model_version=None if half is None else half.bundle.version,
        model_digest=None if half is None else half.bundle.digest,
        model_examples=None if half is None else half.bundle.extra.get("examples_seen"),
        weight_age_ms=None if half is None else float(max(now_ms - half.published_ms, 0)),
        counted_age_ms=_age_ms(half, COUNTED_TIME, now_ms),
        learned_age_ms=_age_ms(half, LEARNED_TIME, now_ms),
        policy=tuple(dict.fromkeys(notes)),
        fallback=fallback,
        popular_time=None if popular is None else popular.time_ms,
        popular_offsets={} if popular is None else {str(number): at for number, at in popular.offsets.items()},
        surface=request.surface,
        surface_version=asked.surface.version if request.surface or request.overrides else None,
        experiment=asked.dealt and asked.dealt.experiment,
        variant=asked.dealt and asked.dealt.variant,
    )
    return Recommendation(
        request_id=request.request_id,
        user_id=request.whose,
        items=_items(listed),
        rows=_titled(listed),
        answered_time=now_ms,
        receipt=receipt,
    )
