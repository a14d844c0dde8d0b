"""The two pure verbs of the streams worker: `fold` an event into a user's state, and the `example` it teaches.

Before: `headwater.wire.read_events` gives rows. After: `streams.features.store` writes states and item
statistics, `trainer` learns the examples. Knows nothing of Kafka, of Redis or of a clock, so the worker, the audit and
the backtest share it.

What an event does goes by its meaning (`Limits.meanings`). A list that was shown is kept apart from the history, until
the user reacts to what is in it. An event that undoes another takes it out again, in whatever order the two arrive.
`fold_batch` is the same two verbs for many events at once: it copies a history once a batch and not once an event.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple

from headwater.consent import ALL, CONSENT, Allowed, Said, Word, allowed, next_word, strictest
from headwater.context import Context, named, numbers_of
from headwater.examples import (
    NO_CONTEXT,
    Entry,
    EventPosition,
    Example,
    Kind,
    Segment,
    Shown,
    ShownList,
    place_of,
)
from headwater.histories import PackedHistory
from headwater.privacy import FORGET, Erased
from headwater.settings import Settings
from headwater.signals import Meaning, Signals
from headwater.wire import EventRow
from streams.features.decay import Decay, ItemStatistics
from streams.features.hashes import Hashes, event_digest
from streams.features.state import EMPTY, UserState
from streams.features.undo import Undone, matched

__all__ = ["PLACES", "REACTIONS", "Change", "Folded", "Folding", "Ghost", "KnownBeside", "Limits", "example"]
__all__ += ["fold", "fold_batch", "ghosts_of", "is_gone", "shown_order"]

UNDOS = 128
"""Newest undos of a user, with what they took back, that an event which arrives later is compared with."""

PLACES = frozenset((FORGET, CONSENT))
"""Types of events that say from where on a log is to be read otherwise."""

REACTIONS = (Meaning.POSITIVE, Meaning.NEGATIVE)


class Limits(NamedTuple):
    """How much is remembered per user.

    Fields
        history: newest events.
        dedupe: newest event ids, for finding duplicates.
        shown: newest items that were shown.
        meanings: what an event means.
        context: fields of its properties that count as the context of its moment.
        attributes: those of a user that count.
        unsaid: whether a purpose is granted of which nobody has said anything.
        words: whether anybody may have said something.
    """

    history: int = 1000
    dedupe: int = 128
    shown: int = 100
    meanings: Signals = Signals()
    context: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    unsaid: bool = True
    words: bool = False

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Those that the settings say."""
        streams = settings.streams
        context, attributes = (tuple(settings.model.given.get(one, ())) for one in ("context_fields", "user_fields"))
        meanings = Signals(settings.signals)
        consent = settings.privacy.consent
        most = streams.history_limit, streams.dedupe_window, streams.shown_limit
        return cls(*most, meanings, context, attributes, consent != "opt-in", consent != "off")


def is_gone(erased: Erased | None, row: EventRow, partition: int) -> bool:
    """Whether whoever folds a log for states alone passes an event over: it is from before its user was forgotten. What
    is said of that user further up in the log still tells of when a later word counts.
    """
    if erased is None or not erased.covers(row.time_ms, partition, row.offset):
        return False
    return row.type not in PLACES or not erased.is_below(partition, row.offset)


def is_before(erased: Erased, row: EventRow, partition: int) -> bool:
    """Whether an event is from before its user was forgotten. A denial of personalise that was given since is not,
    wherever it lies: it forgets the user itself, and counts in the place of that erasure.
    """
    if not erased.covers(row.time_ms, partition, row.offset):
        return False
    if row.type != CONSENT or row.consent is None or row.consent.personalise is not False:
        return True
    return not Erased(row.time_ms, partition, row.offset).outlasts(erased)


def _time(entry: Entry | Shown) -> int:
    return entry.time_ms


def shown_order(shown: Shown) -> tuple[int, str, int, str]:
    """Oldest first; of the same moment list by list, in their order, whichever arrived first."""
    return shown.time_ms, shown.list_id, shown.place, shown.item_id


def _newest(past: Sequence[Any], limit: int) -> list[Any]:
    """A copy of the last `limit`."""
    if not past:
        return []
    return list(past if len(past) <= limit else past[len(past) - limit :])


def _own(history: PackedHistory, limit: int) -> PackedHistory:
    """A copy of the newest, which stays packed where it is."""
    own = history.copy()
    if (beyond := len(own) - limit) > 0:
        own.forget(beyond)
    return own


def _newest_ms(past: Sequence[Entry] | Sequence[Shown]) -> int:
    """When the last of them was."""
    return past.newest_ms if isinstance(past, PackedHistory) else past[-1].time_ms


def _place(past: Sequence[Entry] | Sequence[Shown], time_ms: int) -> int:
    """Where what happened at this time belongs: behind all that is not newer."""
    n = len(past)
    if not n or _newest_ms(past) <= time_ms:
        return n
    return bisect_right(_unpacked(past), time_ms, key=_time)


def _unpacked(past: Any) -> Any:
    """A list, or a tuple, of which nothing is packed."""
    return past.whole() if isinstance(past, PackedHistory) else past


def fold(before: UserState, row: EventRow, limits: Limits, partition: int = 0, now_ms: int = 0) -> UserState:
    """The state after one event; `before` itself when the event is a duplicate. An event older than the newest goes to
    its place by time; one older than all of a full history is counted and forgotten. `EMPTY` where the log forgets the
    user.

    Parameters
        before: stays as it is.
        row: the event.
        limits: how much is remembered per user.
        partition, now_ms: what the state says of where and when it was folded.

    >>> first = EventRow("ada", "film-1", "click", 1000, None, "e1", None, 0, 0)
    >>> late = first._replace(item_id="film-2", time_ms=900, event_id="e2", offset=1)
    >>> state = fold(fold(EMPTY, first, Limits()), late, Limits())
    >>> [entry.item_id for entry in state.history], state.count, fold(state, late, Limits()) is state
    (['film-2', 'film-1'], 2, True)
    """
    if row.type == FORGET:
        return EMPTY
    folding = Folding(before, limits)
    if row.type == CONSENT:
        folding = folding.after_word(row)
        return before if folding.word is before.word else folding.freeze(partition, now_ms)
    if folding.is_duplicate(row):
        return before
    if folding.may(row).personalise:
        folding.apply(folding.change(row), row)
    else:
        folding.note(row)
    return folding.freeze(partition, now_ms)


def example(before: UserState, row: EventRow, limits: Limits, partition: int = 0) -> Example | None:
    """What the event teaches.

    Parameters
        before: the user's state before it.
        row: the event.
        limits: how much is remembered per user.
        partition: of `events`, where it came from.

    Returns
        The user's past up to the event's time, and the event; of an undo, what it takes back and what was before that.
        None for what teaches nothing: a duplicate, an undo that finds nothing to take back, an event whose undo came
        first.

    >>> first = EventRow("ada", "film-1", "click", 1000, None, "e1", None, 0, 0)
    >>> state = fold(EMPTY, first, Limits())
    >>> example(state, first._replace(item_id="film-2", time_ms=900, event_id="e2"), Limits()).history
    []
    """
    folding = Folding(before, limits)
    if row.type in (FORGET, CONSENT) or not folding.may(row).train:
        return None
    return None if folding.is_duplicate(row) else folding.example(folding.change(row), row, partition)


class Change(NamedTuple):
    """What one event changes.

    Fields
        kind: of the example that it makes; None if it teaches nothing.
        target: of that example.
        place, shown_place: how much of the history, and of what was shown, lies before the target.
        continues: whether the user's next event may go on in the same segment of examples.
        enters: what comes into the history: the event itself, or one that its undo had taken back and now lets go.
        meaning: of what enters, or leaves.
        clears: whether what enters is a reaction to something that was shown.
        leaves: what is taken out of the history.
        taken, freed: what the memory of undone events gets, and what leaves it.
        undo: the event itself, if it is one that undoes others.
        exposed: the list that it shows.
        shows: those of its items that are now shown and not reacted to.
        answered: those that were reacted to at or after that time.
        again: what the same list had shown before, and these replace.
        counted: its items but for those that the same list had shown before.
    """

    kind: Kind | None
    target: Entry
    place: int
    shown_place: int
    continues: bool = True
    enters: Entry | None = None
    meaning: Meaning = Meaning.CONTEXT
    clears: bool = False
    leaves: Entry | None = None
    taken: Entry | None = None
    freed: Entry | None = None
    undo: Entry | None = None
    exposed: ShownList | None = None
    shows: Sequence[Shown] = ()
    answered: Sequence[Shown] = ()
    again: Sequence[Shown] = ()
    counted: Sequence[str] = ()


_change = partial(tuple.__new__, Change)  # a third of the time; every field has to be given
NOTHING_ELSE = (False, None, None, None, None, None, (), (), (), ())
"""The fields of a Change from `clears` on, of an event that only enters."""

NONE_YET: dict[int, Any] = {}
NO_REACTIONS: set[int] = set()
"""Of segments that have none, as most: nobody writes into these."""

_entry, _position = partial(tuple.__new__, Entry), partial(tuple.__new__, EventPosition)


class Folding:
    """One user's state while events are folded into it: a private copy, changed in place.

    Parameters
        before: stays as it is.
        limits: how much is remembered.
        attributes: of the user, for what the events teach.
    """

    __slots__ = (
        "attributes",
        "before",
        "count",
        "digest",
        "erased",
        "exposures",
        "history",
        "is_lent",
        "limits",
        "meanings",
        "offset",
        "reacted",
        "recent",
        "segment",
        "shown",
        "undone",
        "undos",
        "usual",
        "word",
    )

    def __init__(self, before: UserState, limits: Limits, attributes: Mapping[str, Any] = NO_CONTEXT) -> None:
        self.before = before
        self.attributes = attributes
        self.limits = limits
        self.meanings = limits.meanings
        history = before.history
        self.is_lent = type(history) is PackedHistory and history.older + len(history.newer) <= limits.history
        """Whether the history is that of `before`, which nobody may change: `_owned` is."""
        if type(history) is PackedHistory:
            self.history: Any = history if self.is_lent else _own(history, limits.history)
        else:
            self.history = _newest(history, limits.history)
        self.recent = Hashes.of(before.recent).newest(limits.dedupe)
        self.shown = _newest(before.shown, limits.shown) if before.shown else []
        self.reacted = _newest(before.reacted, limits.shown) if before.reacted else []
        self.undos = [*before.undos] if before.undos else []
        self.undone = [*before.undone] if before.undone else []
        self.digest = b""
        self.count = before.count
        self.exposures = before.exposures
        self.offset = before.offset
        self.segment: Segment | None = None  # the run of examples that the next in-order event extends
        self.erased: Erased | None = None  # that the user is forgotten, where that is so
        self.word = word = before.word
        self.usual = ALL if word is None and limits.unsaid else allowed(word and word.said, None, limits.unsaid)

    def is_duplicate(self, row: EventRow) -> bool:
        """Whether the event's id is among the newest; asked once before each `change`."""
        self.digest = event_digest(row.event_id)
        return self.recent.has(self.digest)

    def may(self, row: EventRow) -> Allowed:
        """What may be done with an event. One that undoes another takes away, so that is done where a history is."""
        if row.consent is None:
            return self.usual
        may = allowed(None if self.word is None else self.word.said, row.consent, self.limits.unsaid)
        if self.usual.personalise and row.type in self.meanings.undoing:
            return may._replace(personalise=True)
        return may

    def after_word(self, row: EventRow) -> Folding:
        """From the place on at which the log says another word: this one, or a new one where nothing of before is kept.
        What is denied is so whenever it was said; of other words the later counts.
        """
        said, known = row.consent or Said(), self.word
        word = next_word(known, said, row.time_ms)
        if word is None:
            return self
        anew = self
        if said.personalise is False:
            anew = Folding(EMPTY, self.limits, self.attributes)
            anew.erased = self.erased
        elif said.analyse is not None or (known is not None and known.said.analyse is not None):
            word = word._replace(unsure_ms=_newest_ms(self.history) if self.history else -1)
        elif known is not None:
            word = word._replace(unsure_ms=known.unsure_ms)
        anew.go_by(word)
        anew.count, anew.offset = anew.count + 1, row.offset
        return anew

    def go_by(self, word: Word | None) -> None:
        """From here on."""
        self.word, self.usual = word, allowed(None if word is None else word.said, None, self.limits.unsaid)
        self.segment = None

    def countable(self, change: Change) -> Change:
        """What of a change counts for items: no undo of what may not have been counted."""
        if change.leaves is None:
            return change
        is_sure = self.usual.analyse and (self.word is None or change.leaves.time_ms > self.word.unsure_ms)
        return change if is_sure else change._replace(leaves=None)

    def note(self, row: EventRow) -> None:
        """Take in that an event came, and nothing of it."""
        if self.limits.dedupe:
            self.recent = self.recent.grown(self.digest, self.limits.dedupe)
        self.count += 1
        self.offset = row.offset

    def change(self, row: EventRow) -> Change:
        """What the event will change; nothing does yet."""
        entry: Entry = _entry((row.item_id, row.type, row.time_ms, row.value, row.session))
        meanings = self.meanings
        meaning = meanings.meaning(row.type, row.value)
        if meaning is Meaning.EXPOSURE:
            return self._exposure(row, entry)
        if row.type in meanings.undoing:
            return self._matching(entry)
        if self.undos and row.type in meanings.undoable and any(one[0] == row.item_id for one in self.undos):
            return self._matching(entry)
        return self._entering(entry, meaning)

    def _entering(self, entry: Entry, meaning: Meaning) -> Change:
        place = n = len(self.history)
        if n and _newest_ms(self.history) > entry.time_ms:
            place = _place(self.history, entry.time_ms)
        is_newest = place == n
        if not self.shown:
            return _change((Kind.EVENT, entry, place, 0, is_newest, entry, meaning, *NOTHING_ELSE))
        shown_place = _place(self.shown, entry.time_ms)
        continues = is_newest and shown_place == len(self.shown)
        clears = meaning in REACTIONS and entry.item_id in {one.item_id for one in self.shown}
        return Change(Kind.EVENT, entry, place, shown_place, continues, entry, meaning, clears)

    def _matching(self, entry: Entry) -> Change:
        """The change by an undo, or by an event that one which is known may undo."""
        undoing, known = self.meanings.undoing, self._undoable(entry.item_id)
        undos = [one for one in self.undos if one.item_id == entry.item_id]
        is_undo = entry.type in undoing
        was = Counter(one.event for one in matched(known, undos, undoing))
        (undos if is_undo else known).append(entry)
        now = Counter(one.event for one in matched(known, undos, undoing))
        taken = next((one for one in now - was if one is not None), None)
        freed = next((one for one in was - now if one is not None and one in self.undone), None)
        if is_undo:
            if taken is None or taken not in self.history:
                return Change(None, entry, 0, 0, undo=entry)
            history = _unpacked(self.history)
            place = history.index(taken, bisect_left(history, taken.time_ms, key=_time))
            shown_place = _place(self.shown, taken.time_ms)
            return Change(
                Kind.UNDONE, taken, place, shown_place, False, None, self._meaning(taken), leaves=taken, taken=taken,
                undo=entry,
            )  # fmt: skip
        if taken is None:
            return self._entering(entry, self._meaning(entry))
        if freed is None:
            return Change(None, entry, 0, 0, taken=taken)
        return self._entering(freed, self._meaning(freed))._replace(taken=taken, freed=freed, continues=False)

    def _meaning(self, entry: Entry) -> Meaning:
        return self.meanings.meaning(entry.type, entry.value)

    def _undoable(self, item_id: str) -> list[Entry]:
        undoable = self.meanings.undoable
        known = chain(self.history, self.undone)
        return [one for one in known if one[0] == item_id and one[1] in undoable]

    def _exposure(self, row: EventRow, entry: Entry) -> Change:
        at = row.time_ms
        exposed = _shown_list(row, self.limits.context)
        place, shown_place = _place(self.history, at), _place(self.shown, at)
        is_late = place < len(self.history) or shown_place < len(self.shown)
        every = exposed.at(at)
        counted = [one.item_id for one in every]
        fits = every[: self.limits.shown]
        again: list[Shown] = []
        list_id = exposed.list_id
        known = {one[0]: one for one in chain(self.shown, self.reacted) if one[3] == list_id}
        is_known = not known.keys().isdisjoint(counted)
        if is_known:  # a list has an item once, as it was told last: so no order of arrival matters
            counted = [item for item in counted if item not in known]
            fits = [
                one for one in fits if one.item_id not in known or shown_order(known[one.item_id]) < shown_order(one)
            ]
            again = [known[one.item_id] for one in fits if one.item_id in known]
        reactions = self._reactions_since(at) if self.history and _newest_ms(self.history) >= at else {}
        shows, answered = fits, []
        if reactions:
            shows = [one for one in fits if one.item_id not in reactions]
            answered = [one for one in fits if reactions.get(one.item_id)]
        kind = Kind.SHOWN if counted else None
        return Change(
            kind, entry, place, shown_place, exposed=exposed, shows=shows, answered=answered, again=again,
            counted=counted,
            continues=not (is_late or is_known or len(shows) < len(fits)) and self._may_append(shows),
        )  # fmt: skip

    def _reactions_since(self, time_ms: int) -> dict[str, bool]:
        """Items that the user reacted to at or after this time, and whether all of these reactions can be undone."""
        found = dict[str, bool]()
        history = _unpacked(self.history)
        for one in history[bisect_left(history, time_ms, key=_time) :]:
            if self._meaning(one) in REACTIONS:
                found[one.item_id] = found.get(one.item_id, True) and one.type in self.meanings.undoable
        return found

    def example(self, change: Change, row: EventRow, partition: int = 0) -> Example | None:
        """What the event of a change that is not yet applied teaches."""
        if change.kind is None:
            return None
        exposed = change.exposed
        return Example(
            row.user_id,
            self.history[: change.place],
            change.target,
            partition,
            EventPosition(row.offset, row.place),
            change.kind,
            tuple(self.shown[: change.shown_place]),
            () if exposed is None else exposed.items,
            self._request(change, row) if exposed is None else exposed.list_id,
            self._context(change, row),
            self.attributes,
            NO_CONTEXT if exposed is None else exposed.numbers,
        )

    def _context(self, change: Change, row: EventRow) -> Context:
        """Of what came with this event itself; an event that is taken back, or let go, came with another."""
        own = change.kind is not Kind.UNDONE and change.freed is None
        return named(row.properties, self.limits.context) if own else NO_CONTEXT

    @staticmethod
    def _request(change: Change, row: EventRow) -> str | None:
        return row.request_id if change.kind is Kind.EVENT and change.freed is None else None

    def extend(self, change: Change, row: EventRow) -> Segment | None:
        """Write what the event of a change that is not yet applied teaches into a segment; that, if it is a new one."""
        if change.kind is None:
            if not change.continues:
                self.segment = None
            return None
        segment, new = self.segment, None
        if segment is None or not change.continues:
            shown = self.shown[: change.shown_place] if self.shown else ()
            is_whole = self.is_lent and change.continues  # nobody changes it, so it needs no copy
            known = self.history if is_whole else self.history[: change.place]
            undone = change.kind is Kind.UNDONE
            seldom = (NONE_YET, NONE_YET, undone, NO_REACTIONS, NONE_YET)
            targets, positions = [change.target], [_position((row.offset, row.place))]
            segment = new = Segment(row.user_id, known, targets, positions, shown, *seldom, self.attributes)
            place = 0
        else:
            place = len(segment.targets)
            segment.targets.append(change.target)
            segment.positions.append(_position((row.offset, row.place)))
        if change.exposed is not None:
            segment.lists = segment.lists or {}
            segment.lists[place] = change.exposed
        elif row.request_id is not None and (request := self._request(change, row)) is not None:
            segment.requests = segment.requests or {}
            segment.requests[place] = request
        if change.clears:
            segment.reactions = segment.reactions or set()
            segment.reactions.add(place)
        if row.properties and (context := self._context(change, row)):
            segment.contexts = segment.contexts or {}
            segment.contexts[place] = context
        self.segment = segment if change.continues else None
        return new

    def apply(self, change: Change, row: EventRow) -> None:
        """Take one event in."""
        limits = self.limits
        if limits.dedupe:
            self.recent = self.recent.grown(self.digest, limits.dedupe)
        self.count += 1
        self.offset = row.offset
        if row.consent is not None and not self.may(row).analyse:
            known = self.word or Word(Said(), 0)
            self.word = known._replace(unsure_ms=max(known.unsure_ms, row.time_ms))
        if change.taken is not None or change.undo is not None:
            self._undo(change)
        if change.enters is not None:
            history = self._owned()
            history.insert(change.place, change.enters)
            if len(history) > limits.history:
                del history[0]
            if change.clears:
                self._clear(change.enters)
        elif change.exposed is not None:
            self.exposures += 1
            self._show(change)

    def _owned(self) -> Any:
        """The history as this copy's own, to change it."""
        if self.is_lent:
            self.history, self.is_lent = self.history.copy(), False
        return self.history

    def _clear(self, entry: Entry) -> None:
        """What was shown of its item until then is reacted to; that can be taken back only if the reaction can."""
        end = _place(self.shown, entry.time_ms)
        if entry.type in self.meanings.undoable:
            for one in self.shown[:end]:
                if one.item_id == entry.item_id:
                    self._remember(self.reacted, one)
        self.shown[:end] = [one for one in self.shown[:end] if one.item_id != entry.item_id]

    def _show(self, change: Change) -> None:
        for one in change.again:
            (self.shown if one in self.shown else self.reacted).remove(one)
        for one in change.answered:
            self._remember(self.reacted, one)
        if self._may_append(change.shows):
            self.shown += change.shows
        else:
            for one in change.shows:
                insort(self.shown, one, key=shown_order)
        del self.shown[: max(0, len(self.shown) - self.limits.shown)]

    def _may_append(self, shows: Sequence[Shown]) -> bool:
        return not shows or not self.shown or shown_order(self.shown[-1]) < shown_order(shows[0])

    def _remember(self, past: list[Shown], one: Shown) -> None:
        insort(past, one, key=shown_order)
        if len(past) > self.limits.shown:
            del past[0]

    def _undo(self, change: Change) -> None:
        if change.freed is not None:
            self.undone.remove(change.freed)
        if change.taken is not None:
            self.undone.insert(_place(self.undone, change.taken.time_ms), change.taken)
        if change.leaves is not None:
            del self._owned()[change.place]
            self._show_again(change.leaves)
        if change.undo is not None:
            self.undos.insert(_place(self.undos, change.undo.time_ms), change.undo)
            if len(self.undos) > UNDOS:
                self._forget_oldest_undo()

    def _show_again(self, gone: Entry) -> None:
        """What was shown and reacted to by this event alone is not reacted to any more."""
        if not any(one.item_id == gone.item_id for one in self.reacted):
            return
        theirs = [
            one.time_ms for one in self.history if one.item_id == gone.item_id and self._meaning(one) in REACTIONS
        ]
        newest = max(theirs, default=-1)
        for one in [one for one in self.reacted if one.item_id == gone.item_id and one.time_ms > newest]:
            self.reacted.remove(one)
            self._remember(self.shown, one)

    def _forget_oldest_undo(self) -> None:
        """It goes together with what it took back, so that the others keep what they took."""
        oldest = self.undos[0]
        undos = [one for one in self.undos if one.item_id == oldest.item_id]
        found = matched(self._undoable(oldest.item_id), undos, self.meanings.undoing)
        gone: Undone = found[0]
        self.undos.remove(gone.undo)
        if gone.event in self.undone:
            self.undone.remove(gone.event)

    def freeze(self, partition: int, now_ms: int) -> UserState:
        """The state to write. The lists are handed over: this copy is not used again."""
        return UserState(
            self.history, self.recent, self.count, partition, self.offset, now_ms,
            tuple(self.shown), tuple(self.reacted), tuple(self.undos), tuple(self.undone), self.exposures, self.word,
        )  # fmt: skip


def _shown_list(row: EventRow, fields: Sequence[str]) -> ShownList:
    """The list that an exposure shows; of a single item its value is the place, if it can be one."""
    first = place_of(row.value) or (1 if row.items else 0)
    items = row.items or (row.item_id,)
    return ShownList(items, row.request_id or row.event_id, first, numbers_of(row.properties, fields, len(items)))


class Ghost(NamedTuple):
    """What somebody had done whose log forgets them further on.

    Fields
        state: as of the newest event folded.
        erased: that they were forgotten before that, too.
    """

    state: UserState
    erased: Erased | None = None


def ghosts_of(
    old: Mapping[str, UserState], last: Mapping[str, Erased], folded: Mapping[str, Ghost]
) -> dict[str, Ghost]:
    """The ghosts that a batch begins with: as they were folded, or as a store has them, which knows more where the log
    has lost some. Of one that begins at an erasure, or at a denial, which no store has of a ghost, nothing is lost.

    Parameters
        old: by user id, a state of the store that is from before the user is forgotten.
        last: where the log forgot the user last up to the marks of the store.
        folded: `KnownBeside.ghosts` as `Folded.carry` or `streams.rebuild.past_ghosts` left them.
    """
    held = {user: Ghost(old.get(user, EMPTY), last.get(user)) for user in {*old, *last}}
    whole = {u: one for u, one in folded.items() if u not in old or one.erased or one.state.count >= old[u].count}
    return held | whole


@dataclass(slots=True)
class Folded:
    """What a batch of one source partition makes.

    Fields
        states: to write.
        segments: examples to send.
        slots: by slot of the store, statistics to add.
        applied: events folded; of these `exposures` showed something, and `undos` undo others.
        undone: events that were taken back, be it that their undo came first.
        duplicates, late: events known before, and events that go to a place before others.
        forgotten: users who are, at their place in the log; `states` has what they did since, if anything.
        ghosts: what users had done whose log forgets them later; it is written nowhere.
        before_erasure: events of forgotten users that came late, and those of a log that forgets their user later.
        words: of consent, that were met.
        withheld: by purpose, events that may not be used for it.
    """

    states: dict[str, UserState] = field(default_factory=dict)
    segments: list[Segment] = field(default_factory=list)
    slots: dict[int, dict[str, ItemStatistics]] = field(default_factory=dict)
    applied: int = 0
    duplicates: int = 0
    late: int = 0
    exposures: int = 0
    undos: int = 0
    undone: int = 0
    forgotten: dict[str, Erased] = field(default_factory=dict)
    ghosts: dict[str, Ghost] = field(default_factory=dict)
    before_erasure: int = 0
    words: int = 0
    withheld: dict[str, int] = field(default_factory=dict)

    @property
    def items(self) -> dict[str, ItemStatistics]:
        """Statistics to add, where all lies in one slot."""
        assert self.slots.keys() <= {0}
        return self.slots.setdefault(0, {})

    def carry(self, ghosts: dict[str, Ghost]) -> None:
        """Bring what is carried from batch to batch, as `KnownBeside.ghosts`, up to after this one."""
        for user in self.forgotten:
            ghosts.pop(user, None)
        ghosts.update(self.ghosts)

    def withhold(self, may: Allowed) -> None:
        """Count an event that may not be used for everything."""
        for purpose, granted in zip(may._fields, may, strict=True):
            if not granted:
                self.withheld[purpose] = self.withheld.get(purpose, 0) + 1

    def count(self, change: Change, row: EventRow, known: int, decay: Decay, slot: int = 0) -> None:
        """Count one event, and add to the statistics of items what it counts for them.

        Parameters
            change: by the event, not applied yet.
            row: the event.
            known: entries of the history that it comes into.
            decay: of item statistics.
            slot: of the user.
        """
        self.applied += 1
        items = self.slots.get(slot)
        if items is None:
            items = self.slots[slot] = {}
        if (one := change.enters) is not None:
            _item(items, one.item_id).add(one.type, change.meaning, one.time_ms, decay)
            if change.continues:
                return
        self.exposures += change.exposed is not None
        self.undos += change.undo is not None
        self.undone += change.taken is not None and change.freed is None
        self.late += change.kind in (Kind.EVENT, Kind.SHOWN) and change.place < known
        for item_id in change.counted:
            _item(items, item_id).add(row.type, Meaning.EXPOSURE, row.time_ms, decay)
        if (one := change.leaves) is not None:
            _item(items, one.item_id).take(one.type, change.meaning, one.time_ms, decay)


def _item(items: dict[str, ItemStatistics], item_id: str) -> ItemStatistics:
    item = items.get(item_id)
    if item is None:
        item = items[item_id] = ItemStatistics()
    return item


class KnownBeside(NamedTuple):
    """What is known of users beside their states, by id.

    Fields
        people: of ids that are one person with others, what is known of that person, in which the events are folded,
            too: what they teach has the person's past.
        attributes: for what their events teach.
        slot_of: the slot of the store that each lies in; all in one where nothing is said.
        erased: of users who were forgotten.
        ghosts: of some of these, what they had done before, as far as the log was folded: what a batch before made of
            them, which `Folded.carry` keeps, or what a store still holds.
    """

    people: Mapping[str, Folding] = MappingProxyType({})
    attributes: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    slot_of: Mapping[str, int] = MappingProxyType({})
    erased: Mapping[str, Erased] = MappingProxyType({})
    ghosts: Mapping[str, Ghost] = MappingProxyType({})

    def after(self, folded: Folded) -> KnownBeside:
        """The same for what comes after a batch, with those who were forgotten in it."""
        new = {user: one for user, one in folded.forgotten.items() if one.outlasts(self.erased.get(user))}
        return self._replace(erased={**self.erased, **new}) if new else self


def fold_batch(
    before: Mapping[str, UserState],
    rows: Iterable[EventRow],
    limits: Limits,
    decay: Decay,
    partition: int = 0,
    now_ms: int = 0,
    beside: KnownBeside = KnownBeside(),
    teaches: bool = True,
) -> Folded:
    """`example` and `fold` for every row in turn. How rows are cut into batches changes neither states nor examples.

    Parameters
        before: state by user id; stays as it is. A user who is not there has the empty state.
        rows: of one source partition, in order.
        limits: how much is remembered per user.
        decay: of item statistics.
        partition, now_ms: what states say of where and when they were folded.
        beside: what else is known of the users.
        teaches: make examples, too.

    Returns
        States to write, examples to send, statistics to add, counts.
    """
    folded = Folded()
    users: dict[str, Folding] = {}
    people, attributes, slot_of, erased, _ = beside
    batch = _Folds(folded, users, {}, beside, limits, partition, teaches)
    for each in people.values():
        each.segment = None  # what is sent for another batch goes on in no other record
    for row in rows:
        user = users.get(row.user_id)
        if user is None:
            known = before.get(row.user_id, EMPTY)
            user = users[row.user_id] = Folding(known, limits, attributes.get(row.user_id, NO_CONTEXT))
            if erased:
                user.erased = erased.get(row.user_id)
        is_ghost = False
        if user.erased is not None and is_before(user.erased, row, partition):
            folded.before_erasure += 1
            if not user.erased.is_below(partition, row.offset):
                continue
            is_ghost = True
        if row.type in PLACES and (not is_ghost or row.type == FORGET):
            people = batch.forget(people, row) if row.type == FORGET else batch.go_by(people, row)
            continue
        if is_ghost:
            user = batch.ghost(row)
            if user is None:
                continue
        if user.is_duplicate(row):
            folded.duplicates += 1
            continue
        change = user.change(row)
        if row.consent is not None or user.usual is not ALL:
            batch.take_some(user, change, row, decay, None if is_ghost else people)
            continue
        if teaches and not is_ghost:
            person = people.get(row.user_id)
            segment = user.extend(change, row) if person is None else _taught(person, row)
            if segment is not None:
                folded.segments.append(segment)
        counted = user.countable(change) if user.word else change
        length = 0 if change.continues else len(user.history)  # what continues is not late
        folded.count(counted, row, length, decay, slot_of.get(row.user_id, 0))
        user.apply(change, row)
    folded.states |= dict.fromkeys(folded.forgotten, EMPTY)
    for user_id, user in users.items():
        if user.count != user.before.count:
            folded.states[user_id] = user.freeze(partition, now_ms)
    folded.ghosts = {user_id: Ghost(one.freeze(partition, now_ms), one.erased) for user_id, one in batch.ghosts.items()}
    return folded


class _Folds(NamedTuple):
    """What `fold_batch` has in hand, and what it does seldom: at a place where the log forgets a user, or says another
    word of one, and with an event that may not be used for everything.
    """

    folded: Folded
    users: dict[str, Folding]
    ghosts: dict[str, Folding]
    beside: KnownBeside
    limits: Limits
    partition: int
    teaches: bool

    def take_some(
        self, user: Folding, change: Change, row: EventRow, decay: Decay, people: Mapping[str, Folding] | None
    ) -> None:
        """Take in of an event what may be; without people it teaches nothing."""
        may, folded = user.may(row), self.folded
        folded.withhold(may)
        if self.teaches and people is not None and may.personalise:
            person = people.get(row.user_id)
            segment = _extended(user, change, row, may.train) if person is None else _taught(person, row, may.train)
            if segment is not None:
                folded.segments.append(segment)
        if may.analyse:
            slot = self.beside.slot_of.get(row.user_id, 0)
            folded.count(user.countable(change), row, len(user.history), decay, slot)
        else:
            folded.applied += 1
        if may.personalise:
            user.apply(change, row)
        else:
            user.note(row)

    def ghost(self, row: EventRow) -> Folding | None:
        """What an event of somebody is folded into whose log forgets them later: it counts for its item as it did,
        teaches nothing, and is in nobody's state. None where nothing is to be counted.
        """
        ghost = self.ghosts.get(row.user_id)
        if ghost is None:
            state, erased = self.beside.ghosts.get(row.user_id, Ghost(EMPTY))
            ghost = self.ghosts[row.user_id] = Folding(state, self.limits)
            ghost.erased = erased
        if ghost.erased is not None and ghost.erased.covers(row.time_ms, self.partition, row.offset):
            return None
        if row.type != CONSENT:
            return ghost
        anew = self.ghosts[row.user_id] = ghost.after_word(row)
        if anew is not ghost:
            anew.erased = Erased(row.time_ms, self.partition, row.offset)
        return None

    def forget(
        self, people: Mapping[str, Folding], row: EventRow, anew: Folding | None = None
    ) -> Mapping[str, Folding]:
        """Begin anew with a user whose log forgets here; the people of whom more is known than their ids do."""
        user_id = row.user_id
        earlier = (self.ghosts.get(user_id) or self.beside.ghosts.get(user_id, Ghost(EMPTY))).erased
        if anew is None and earlier is not None and earlier.covers(row.time_ms, self.partition, row.offset):
            return people  # as when it was folded first
        erased = self.folded.forgotten[user_id] = Erased(row.time_ms, self.partition, row.offset)
        known, anew = self.users[user_id].erased, anew or Folding(EMPTY, self.limits)
        anew.erased = erased
        self.users[user_id] = anew
        self.ghosts.pop(user_id, None)
        if known is not None and known.outlasts(erased):  # it is forgotten once more, further on
            anew.erased = known
            self.ghosts[user_id] = ghost = Folding(EMPTY, self.limits)
            ghost.erased, ghost.offset, ghost.word, ghost.usual = erased, row.offset, anew.word, anew.usual
        if self.teaches:
            self.folded.segments.append(_erased_segment(row))
        person = people.get(user_id)
        return people if person is None else {one: of for one, of in people.items() if of is not person}

    def go_by(self, people: Mapping[str, Folding], row: EventRow) -> Mapping[str, Folding]:
        """Go by another word of a user from here on. Who may not be known by a history any more is forgotten here, and
        of whom may not be learned, the trainer forgets what it would rehearse. The people then.
        """
        user_id = row.user_id
        user, person = self.users[user_id], people.get(user_id)
        self.folded.words += 1
        if user.erased == (row.time_ms, self.partition, row.offset) and user.word is None:
            ghost = self.ghosts.get(user_id) or self.beside.ghosts.get(user_id, Ghost(EMPTY)).state
            user.word = ghost.word  # a rebuild has it with what it forgets here
        anew = user.after_word(row)
        if anew is not user:
            left = self.forget(people, row, anew)
        else:
            left = people
            if self.teaches and not user.usual.train:
                self.folded.segments.append(_erased_segment(row))
        if person is None:
            return left
        # where an id is forgotten, no more is known of the others until the next batch
        rest = Folding(EMPTY, self.limits, person.attributes) if anew is not user else person
        rest.go_by(strictest((person.word, anew.word)))
        return {**left, **{one: rest for one, of in people.items() if of is person}}


def _erased_segment(row: EventRow) -> Segment:
    """The trainer forgets the user there."""
    target = Entry(row.item_id, FORGET, row.time_ms, None)
    return Segment(row.user_id, [], [target], [EventPosition(row.offset, row.place)], erased=True)


def _extended(user: Folding, change: Change, row: EventRow, teaches: bool) -> Segment | None:
    """The new segment, if what the event teaches begins one. What teaches nothing and is kept ends the one before."""
    if teaches:
        return user.extend(change, row)
    user.segment = None
    return None


def _taught(person: Folding, row: EventRow, teaches: bool = True) -> Segment | None:
    """Fold an event of one of a person's ids: the new segment, if what it teaches begins one. The same event under
    another id has taught already.
    """
    if person.is_duplicate(row):
        return None
    if person.segment is not None and person.segment.user_id != row.user_id:
        person.segment = None
    change = person.change(row)
    segment = _extended(person, change, row, teaches and person.may(row).train)
    person.apply(change, row)
    return segment
