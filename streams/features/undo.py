"""Which events are undone: one for one, and by the set of events alone, so that no order of arrival matters.

Before: events of one user and one item, and what undoes some of them. After: `streams.features.fold` takes what is
undone out of a user's history; whoever reads several histories as one matches over all of them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from headwater.examples import Entry

__all__ = ["Undone", "matched"]


class Undone(NamedTuple):
    """An undo, and the event that it takes back; None where it finds none."""

    undo: Entry
    event: Entry | None


def matched(events: Iterable[Entry], undos: Iterable[Entry], undoing: Mapping[str, Collection[str]]) -> list[Undone]:
    """What each undo takes back: the newest event that is not newer than it, of the types it names, and that no
    earlier undo took.

    Parameters
        events: of one user and one item, in any order, among them all that undos took.
        undos: of the same user and item, in any order.
        undoing: type -> types that it undoes, as `Signals.undoing`.

    Returns
        One for each undo, oldest first. Equal entries are as good as each other: what counts is how many are taken.
        One event more changes the events in effect by one at most, and so does one undo more.

    >>> liked, again, unlike = (Entry("film", kind, at, None) for kind, at in (("like", 1), ("like", 5), ("unlike", 3)))
    >>> matched([again, liked], [unlike], {"unlike": {"like"}})[0].event == liked
    True
    """
    left: dict[str, list[Entry]] = {}  # by type, so that an undo looks at no events of other types, be they thousands
    for event in sorted(events, key=_order):
        left.setdefault(event.type, []).append(event)
    found: list[Undone] = []
    for undo in sorted(undos, key=_order):
        newest: Entry | None = None
        for some in (left[kind] for kind in undoing.get(undo.type, ()) if kind in left):
            place = bisect_right(some, undo.time_ms, key=_time) - 1
            if place >= 0 and (newest is None or _order(some[place]) > _order(newest)):
                newest = some[place]
        if newest is not None:
            some = left[newest.type]
            del some[bisect_right(some, undo.time_ms, key=_time) - 1]
        found.append(Undone(undo, newest))
    return found


def _time(entry: Entry) -> int:
    return entry.time_ms


def _order(entry: Entry) -> tuple[int, str, float, int]:
    """Oldest first; ties by what else is told, so that the order of arrival has no say."""
    value, session = entry.value, entry.session
    return entry.time_ms, entry.type, float("-inf") if value is None else value, -1 if session is None else session
