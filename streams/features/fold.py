"""The two pure verbs of the streams worker: `fold` an event into a user's state, and the `example` it teaches.

Before: `headwater.wire.read_events` gives rows. After: `streams.features.store` writes states and item
statistics, `trainer` learns the examples. Knows nothing of Kafka, of Redis or of a clock, so the worker, the audit and
the backtest share it.

`fold_batch` is the same two verbs for many events at once: it copies a history once a batch and not once an event.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

from headwater.examples import Entry, EventPosition, Example, Segment
from headwater.settings import Settings
from headwater.signals import Signals
from headwater.wire import EventRow
from streams.features.decay import Decay, ItemStatistics
from streams.features.state import EMPTY, UserState

__all__ = ["Folded", "Limits", "event_hash", "example", "fold", "fold_batch"]


class Limits(NamedTuple):
    """How much is remembered per user.

    Fields
        history: newest events.
        dedupe: newest event ids, for finding duplicates.
        shown: newest items that were shown.
        meanings: what an event means.
    """

    history: int = 1000
    dedupe: int = 128
    shown: int = 100
    meanings: Signals = Signals()

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Those that the settings say."""
        streams = settings.streams
        return cls(streams.history_limit, streams.dedupe_window, streams.shown_limit, Signals(settings.signals))


def event_hash(event_id: str) -> int:
    """64 bits of an event id. Two of one user's newest 128 ids collide once in 10**15 users."""
    return int.from_bytes(blake2b(event_id.encode(), digest_size=8).digest(), "little")


def _time(entry: Entry) -> int:
    return entry.time_ms


def _entry(row: EventRow) -> Entry:
    return Entry(row.item_id, row.type, row.time_ms, row.value, row.session)


def _place(history: Sequence[Entry], time_ms: int) -> int:
    """Where an event of this time belongs: behind all that are not newer."""
    if not history or history[-1].time_ms <= time_ms:
        return len(history)
    return bisect_right(history, time_ms, key=_time)


def fold(before: UserState, row: EventRow, limits: Limits, partition: int = 0, now_ms: int = 0) -> UserState:
    """The state after one event; `before` itself when the event is a duplicate. An event older than the newest goes to
    its place by time; one older than all of a full history is counted and forgotten.

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
    working = _Working(before, limits)
    if working.is_duplicate(row):
        return before
    working.fold(row, _entry(row))
    return working.freeze(partition, now_ms)


def example(before: UserState, row: EventRow, partition: int = 0) -> Example | None:
    """What the event teaches.

    Parameters
        before: the user's state before it.
        row: the event.
        partition: of `events`, where it came from.

    Returns
        The user's history up to the event's time, and the event; None for a duplicate.

    >>> first = EventRow("ada", "film-1", "click", 1000, None, "e1", None, 0, 0)
    >>> state = fold(EMPTY, first, Limits())
    >>> example(state, first._replace(item_id="film-2", time_ms=900, event_id="e2")).history
    []
    """
    if event_hash(row.event_id) in before.recent:
        return None
    known = list(before.history[: _place(before.history, row.time_ms)])
    return Example(row.user_id, known, _entry(row), partition, EventPosition(row.offset, row.place))


class _Working:
    """A private copy of one state, changed in place for the length of a batch."""

    __slots__ = ("before", "count", "hash", "hashes", "history", "limits", "offset", "recent", "segment")

    def __init__(self, before: UserState, limits: Limits) -> None:
        self.before = before
        self.limits = limits
        self.history = list(before.history[max(0, len(before.history) - limits.history) :])
        self.recent = list(before.recent[max(0, len(before.recent) - limits.dedupe) :])
        self.hashes = set(self.recent)
        self.hash = 0
        self.count = before.count
        self.offset = before.offset
        self.segment: Segment | None = None  # the run of examples that the next in-order event extends

    def is_duplicate(self, row: EventRow) -> bool:
        """Whether the event's id is among the newest; asked once before each `fold`."""
        self.hash = event_hash(row.event_id)
        return self.hash in self.hashes

    def fold(self, row: EventRow, entry: Entry) -> None:
        """Take one event in."""
        if self.limits.dedupe:
            self.recent.append(self.hash)
            self.hashes.add(self.hash)
            if len(self.recent) > self.limits.dedupe:
                self.hashes.discard(self.recent.pop(0))
        history = self.history
        history.insert(_place(history, entry.time_ms), entry)
        if len(history) > self.limits.history:
            del history[0]
        self.count += 1
        self.offset = row.offset

    def freeze(self, partition: int, now_ms: int) -> UserState:
        """The state to write. The lists are handed over: this copy is not used again."""
        return UserState(self.history, self.recent, self.count, partition, self.offset, now_ms)


@dataclass(slots=True)
class Folded:
    """What a batch of one source partition makes: states to write, examples to send, statistics to add, counts."""

    states: dict[str, UserState] = field(default_factory=dict)
    segments: list[Segment] = field(default_factory=list)
    items: dict[str, ItemStatistics] = field(default_factory=dict)
    applied: int = 0
    duplicates: int = 0
    late: int = 0


def fold_batch(
    before: Mapping[str, UserState],
    rows: Iterable[EventRow],
    limits: Limits,
    decay: Decay,
    partition: int = 0,
    now_ms: int = 0,
) -> Folded:
    """`example` and `fold` for every row in turn. How rows are cut into batches changes neither states nor examples.

    Parameters
        before: state by user id; stays as it is. A user who is not there has the empty state.
        rows: of one source partition, in order.
        limits: how much is remembered per user.
        decay: of item statistics.
        partition, now_ms: what states say of where and when they were folded.

    Returns
        States to write, examples to send, statistics to add, counts.
    """
    folded = Folded()
    working: dict[str, _Working] = {}
    for row in rows:
        user = working.get(row.user_id)
        if user is None:
            user = working[row.user_id] = _Working(before.get(row.user_id, EMPTY), limits)
        if user.is_duplicate(row):
            folded.duplicates += 1
            continue
        entry = _entry(row)
        segment = user.segment
        place = _place(user.history, row.time_ms)
        late = place < len(user.history)
        if late or segment is None:
            segment = Segment(row.user_id, user.history[:place])
            folded.segments.append(segment)
        segment.targets.append(entry)
        segment.positions.append(EventPosition(row.offset, row.place))
        user.segment = None if late else segment
        user.fold(row, entry)
        folded.applied += 1
        folded.late += late
        item = folded.items.get(row.item_id)
        if item is None:
            item = folded.items[row.item_id] = ItemStatistics()
        item.add(row.type, row.time_ms, decay)
    for user_id, user in working.items():
        if user.count != user.before.count:
            folded.states[user_id] = user.freeze(partition, now_ms)
    return folded
