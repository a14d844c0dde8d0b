"""What was shown as columns, and what changed of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from operator import sub
from typing import Any

from headwater.examples import Shown
from headwater.histories import text_columns, texts

__all__ = ["change_columns", "changed", "shown", "shown_columns"]

_shown = partial(tuple.__new__, Shown)


def shown_columns(past: Sequence[Shown]) -> tuple[Any, ...]:
    """What was shown, as columns."""
    items, times, places, lists = zip(*past, strict=True)
    return (*text_columns(items), [times[0], *map(sub, times[1:], times)], places, *text_columns(lists))


def shown(columns: Sequence[Any]) -> list[Shown]:
    """As `shown_columns` made them."""
    items, item_places, times, places, lists, list_places = columns
    n = len(times)
    columns = texts(items, item_places, n), accumulate(times), places, texts(lists, list_places, n)
    return list(map(_shown, zip(*columns, strict=True)))


def change_columns(before: Sequence[Shown], after: Sequence[Shown]) -> tuple[Any, ...]:
    """The places in `before` that went, the places in `after` that came, and what came."""
    known = {id(one): place for place, one in enumerate(before)}
    kept, came, last = set[int](), [], -1
    for place, one in enumerate(after):
        old = known.get(id(one), -1)
        if old > last:
            kept.add(old)
            last = old
        else:
            came.append(place)
    gone = [place for place in range(len(before)) if place not in kept]
    return gone, came, shown_columns([after[place] for place in came]) if came else 0


def changed(before: Sequence[Shown], columns: Sequence[Any]) -> tuple[Shown, ...]:
    """What was shown after the change that `change_columns` made."""
    gone, came, columns = columns
    gone = {*gone}
    after = [one for place, one in enumerate(before) if place not in gone]
    for place, one in zip(came, shown(columns) if came else (), strict=True):
        after.insert(place, one)
    return tuple(after)
