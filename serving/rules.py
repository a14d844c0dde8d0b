"""Which rows an answer may hold: seen items, exclusions, candidates, filters, availability. All masks over rows.
And what of its user it may be made from.

Before: requests and the catalogue. After: the best of what is left. Knows nothing of weights or
scores.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from headwater.consent import Allowed, allowed
from headwater.events import Event, session_number
from headwater.examples import Entry, newest_columns
from headwater.recommendations import Request
from headwater.signals import Signals
from headwater.wire import EventRow
from models.exclusion import disliked, left_out
from models.top_k import top_k
from serving.catalogue import Catalogue
from serving.filters import KeptMask, Mask, filter_key
from streams.features.fold import Limits, fold
from streams.features.state import EMPTY, UserState

__all__ = [
    "Consented",
    "Rows",
    "Rules",
    "best_rows",
    "consented",
    "extended",
    "extended_history",
    "forbid",
    "rules_for",
    "seen_items",
]
__all__ += ["usual"]

CACHED_FILTERS = 256
DAY_MS = 86_400_000.0
RowIds = npt.NDArray[np.int64]


DEFAULT_MEANINGS = Signals()
DEFAULT_LIMITS = Limits()

NEWEST = 200
"""Entries of a history that recent events are compared with."""


class Rows:
    """The catalogue seen through the rows of one half of the scorer, or (`ids` None) through its own slots.

    Masks are kept until the catalogue or the rows change: a filter that many requests name is computed once.
    """

    def __init__(self, catalogue: Catalogue, ids: Sequence[str | None] | None = None) -> None:
        self.catalogue = catalogue
        self._slots: RowIds | None = None
        self._masks: OrderedDict[bytes, KeptMask] = OrderedDict()
        self._stamp = -1
        if ids is not None:
            self.reread(ids, range(len(ids)))

    def reread(self, ids: Sequence[str | None], changed: Iterable[int]) -> None:
        """The item ids of these rows changed, or `ids` grew: their slots are looked up again."""
        capacity = len(ids)
        if self._slots is None or len(self._slots) != capacity:
            grown = np.full(capacity, -1, np.int64)
            if self._slots is not None:
                grown[: len(self._slots)] = self._slots[:capacity]
            self._slots = grown
        for row in changed:
            item_id = ids[row]
            self._slots[row] = -1 if item_id is None else self.catalogue.slot(item_id)
        self._stamp = -1

    def __len__(self) -> int:
        return len(self.catalogue.ids) if self._slots is None else len(self._slots)

    def blocked(self, now_ms: int) -> Mask:
        """(capacity,) True where no answer may go at an instant (epoch ms): free rows, items that are unavailable,
        removed or expired.
        """
        return self._cached(b"blocked", now_ms, lambda: self._of_slots(self.catalogue.blocked(now_ms), free=True))

    def matching_all(
        self, filters: Mapping[str, Any], now_ms: int, place: str = "filters", *, unknown_ok: bool = False
    ) -> Mask:
        """Which items meet a filter. KeptMask: the same filter costs nothing the next time. Not to be written to.

        Parameters
            filters: as in a request; without any, every item of the catalogue meets it.
            now_ms: what `now` means in it, epoch ms.
            place: where it stands, for a refusal: `boosts[0].filters`.
            unknown_ok: of a field that no item has just now, no item meets a condition, and nothing is refused: a
                surface outlives the items of a day.

        Returns
            (capacity,) bool.

        Raises
            RequestRefused: `unknown_field` or `bad_filter`, with the place.
        """

        def compute() -> KeptMask:
            kept = self.catalogue.matching_all(filters, now_ms, place, unknown_ok=unknown_ok)
            return self._of_slots(kept, free=False)

        return self._cached(filter_key(filters, place, unknown_ok=unknown_ok), now_ms, compute)

    def cold(self) -> Mask:
        """(slots,) True for the items that the catalogue offers and that have no row here."""

        def compute() -> KeptMask:
            mask = self.catalogue.listed()
            mask[self.named()] = False
            return KeptMask(mask, -math.inf, math.inf)

        return self._cached(b"cold", 0, compute)

    def slots_of(self, rows: RowIds) -> RowIds:
        """The slots of rows."""
        return rows if self._slots is None else self._slots[rows]

    def by_slot(self, values: npt.NDArray[Any], fill: float = -np.inf) -> npt.NDArray[Any]:
        """(slots, ...) what is said of each row (capacity, ...), and `fill` for items that have none; float64 of one
        dimension.
        """
        if self._slots is None:
            return values.copy()
        found = np.full((len(self.catalogue.ids), *values.shape[1:]), fill, None if values.ndim > 1 else np.float64)
        owned = self._slots >= 0
        found[self._slots[owned]] = values[owned]
        return found

    def named(self) -> RowIds:
        """The slots of the items that have a row, in the order of the rows."""
        return np.arange(len(self)) if self._slots is None else self._slots[self._slots >= 0]

    def _of_slots(self, over_slots: KeptMask, *, free: bool) -> KeptMask:
        """A mask over slots as one over rows; `free` is what free rows get."""
        if self._slots is None:
            return over_slots
        return over_slots._replace(mask=np.append(over_slots.mask, free)[self._slots])

    def _cached(self, key: bytes, now_ms: int, compute: Callable[[], KeptMask]) -> Mask:
        with self.catalogue.lock:
            if self._stamp != self.catalogue.changes:
                self._masks.clear()
                self._stamp = self.catalogue.changes
            kept = self._masks.get(key)
            if kept is None or not kept.holds(now_ms):
                kept = self._masks[key] = compute()
                if len(self._masks) > CACHED_FILTERS:
                    self._masks.popitem(last=False)
            self._masks.move_to_end(key)
            return kept.mask


class Rules(NamedTuple):
    """What one request leaves in. `candidates` are sorted row ids, or None for all; `masks` say where rows may be."""

    candidates: RowIds | None
    excluded: RowIds
    masks: list[Mask]


class Consented(NamedTuple):
    """What is left.

    Fields
        request: with those of its recent events that may be used.
        state: of the user; the empty one where lists may not be made from it.
        denied: nothing is left for want of consent.
    """

    request: Request
    state: UserState
    denied: bool


def usual(state: UserState, limits: Limits) -> Allowed:
    """What may be done with what this user does, where an event says nothing else."""
    return allowed(None if state.word is None else state.word.said, None, limits.unsaid)


def consented(request: Request, state: UserState | None, limits: Limits) -> Consented | None:
    """What may be used; None: all of it.

    Parameters
        request: of somebody who has an id; what a request for nobody tells is used for its answer alone.
        state: None where it could not be read: then nobody knows what its user has withdrawn.
        limits: what is granted of which nobody has said anything.
    """
    known = state or EMPTY
    own = [one.consent for one in request.recent_events]
    may = usual(known, limits)
    unknown = state is None and limits.words
    if request.whose is None or (may.personalise and not unknown and not any(own)):
        return None
    word = None if known.word is None else known.word.said
    kept = tuple(
        event
        for event, said in zip(request.recent_events, own, strict=True)
        if not unknown and allowed(word, said and said.said, limits.unsaid).personalise
    )
    if word is not None and word.personalise is False:  # under another id of the person there may be some
        known = EMPTY
    denied = not (may.personalise or kept or known.history)
    return Consented(request.model_copy(update={"recent_events": kept}), known, denied)


def extended(
    request: Request, stored: Sequence[Entry], now_ms: int, state: UserState = EMPTY, limits: Limits = DEFAULT_LIMITS
) -> UserState:
    """What this answer is made from: what is stored, and what the request adds. Nothing of it is kept.

    `recent_events`, of this id or of `was`, are folded as the events that they are: one that is stored already counts
    once, a late one goes to its place by time, one that undoes another takes it back, one that was shown is no part of
    a history. `context_item` is a view, now.

    Parameters
        request: what was asked.
        stored: the user's history, oldest first.
        now_ms: the instant, epoch ms.
        state: whose history it is, for what it tells beyond it.
        limits: how much is remembered, and what events mean.
    """
    if state.history is not stored:
        state = replace(state, history=stored)
    if request.recent_events:
        known = {(one.item_id, one.type, one.time_ms) for past in _newest(state) for one in past}
        rows = [
            _row(event, place)
            for place, event in enumerate(request.recent_events)
            if (event.item_id, event.type, event.event_time) not in known
        ]
        limits = limits._replace(
            dedupe=len(state.recent) + len(rows), unsaid=True
        )  # who has consented, says `consented`
        for row in sorted(rows, key=lambda row: row.time_ms):
            state = fold(state, row, limits)
    if request.context_item is not None:
        session = None if request.session_id is None else session_number(request.session_id)
        state = replace(state, history=[*state.history, Entry(request.context_item, "view", now_ms, None, session)])
    return state


def extended_history(
    request: Request, stored: Sequence[Entry], now_ms: int, state: UserState = EMPTY, limits: Limits = DEFAULT_LIMITS
) -> Sequence[Entry]:
    """The history of `extended`, oldest first."""
    return extended(request, stored, now_ms, state, limits).history


def _newest(state: UserState) -> tuple[Sequence[Entry], ...]:
    """Where an event is that may come again without the id that it had."""
    return state.history[-NEWEST:], state.undos, state.undone


def _row(event: Event, place: int) -> EventRow:
    session = None if event.session_id is None else session_number(event.session_id)
    return EventRow(
        event.user_id, event.item_id, event.type, event.event_time, event.value, event.event_id, event.request_id, 0,
        place, session, event.items or (), event.properties,
    )  # fmt: skip


def rules_for(
    request: Request,
    history: Sequence[Entry],
    rows: Rows,
    item_rows: Mapping[str, int | None],
    exclude_seen: Collection[str],
    returning: Collection[str] = (),
    now_ms: int = 0,
    meanings: Signals = DEFAULT_MEANINGS,
) -> Rules:
    """The rules of one request over rows. The item on the page (`context_item`) is never recommended.

    `item_rows` has the row of each item that request or history name, as far as there is one.
    `history` is the extended one; `exclude_seen` is the worker's setting, which the request may override; `returning`
    are the types after which users come back to an item, for the rule `auto` (none are known without a model); `now_ms`
    (epoch) is what `exclude_seen_days` and a signal's `negative_for_days` count back from. What the user turned down,
    by `meanings`, is left out whatever the rule. Raises RequestRefused (`unknown_field`, `bad_filter`).
    """
    rule = exclude_seen if request.exclude_seen is None else request.exclude_seen
    out = seen_items(request, history, rule, returning, now_ms, meanings)
    if meanings.against({entry[1] for entry in history}):
        out |= disliked(((entry[0], entry) for entry in history), meanings, now_ms)
    out.update(request.exclude)
    if request.context_item is not None:
        out.add(request.context_item)
    masks = [rows.matching_all(request.filters, now_ms)] if request.filters else []
    candidates = None
    if request.candidates is not None:
        candidates = np.unique(_known(request.candidates, item_rows))
    return Rules(candidates, _known(out, item_rows), masks)


def seen_items(
    request: Request,
    history: Sequence[Entry],
    rule: Collection[str],
    returning: Collection[str],
    now_ms: int,
    meanings: Signals,
) -> set[str]:
    """The items of a history that a rule `exclude_seen` leaves out of one answer; the arguments are `rules_for`'s."""
    if request.exclude_seen_days is not None:
        history = [entry for entry in history if entry.time_ms >= now_ms - request.exclude_seen_days * DAY_MS]
    items, kinds, *_ = newest_columns(history, len(history))
    newest, seen = dict(zip(items, kinds, strict=True)), zip(items, kinds, strict=True)
    return left_out(rule, seen, newest, returning, meanings.turned_down)


def forbid(scores: npt.NDArray[np.floating[Any]], rules: Rules) -> None:
    """Write -inf wherever the rules let nothing go."""
    for mask in rules.masks:
        np.copyto(scores, -np.inf, where=~mask)
    scores[rules.excluded] = -np.inf
    if rules.candidates is not None:
        kept = scores[rules.candidates]
        scores[:] = -np.inf
        scores[rules.candidates] = kept


def best_rows(scores: npt.NDArray[np.floating[Any]], rules: Rules, k: int) -> npt.NDArray[np.int64]:
    """The best rows that the rules leave, best first; `scores` is written to. k is clamped to what is left."""
    forbid(scores, rules)
    return top_k(scores, k)


def _known(item_ids: Iterable[str], item_rows: Mapping[str, int | None]) -> RowIds:
    return np.array([row for row in map(item_rows.get, item_ids) if row is not None], np.int64)
