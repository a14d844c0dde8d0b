"""What the click model is told of an item in a list: the one function for learner, backtest and serving.

Before: what the experts say of the list at that instant, what is counted, what the user did with the items. After:
`clicks` learns from it. Knows no labels and no weights. The place in a list is a fact of its own (`PLACE`), so that it
can be left out where a list is yet to be ordered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.block import Listed
from models.shown.habits import Habit
from models.shown.numbers import COLUMNS
from models.shown.rates import Rate, log_odds

__all__ = ["RATE", "Before", "ListMoment", "count_of", "facts_of", "sizes_of"]

Array = NDArray[np.float32]

RATE = 0
"""The column of the log-odds of the item's smoothed rate, which the click model starts from."""

OF_ITEM = 4 + 5 + 3 + 5
"""Facts of each item alone: rates, what the user did with it, its place, and how far from where the user was."""

OF_NUMBER = 6 + 2
"""Facts of each number of an item: its size, how it compares with those of the others in the list, and with what the
user is used to take."""

IN_LIST = 1
"""Which of them says how a number compares with the list's mean."""

OF_BEFORE = 6
"""Facts of the list that the user was shown before: whether it was the same, and what became of the item there."""

OF_HABIT = 5 + 2
"""Facts of how the user goes on from what they took last, and of how they begin a list without it."""

OF_LIST = 3 + 4
"""Facts that all items of a list share: of the user's rates, of the list and the moment."""

NUMBERS = OF_ITEM + OF_LIST + OF_BEFORE + OF_HABIT
"""The first column of numbers."""

MOST = 1e4
"""No fact is further from 0, whatever an expert says."""

SECONDS = 1000.0
HOUR_MS = 3_600_000
MINUTE_MS = 60_000.0


class Before(NamedTuple):
    """A list that the user was shown before: its items, the weight of the reaction to each (0: none), how long ago."""

    items: Sequence[str]
    label: Sequence[float]
    ago_ms: int


class ListMoment(NamedTuple):
    """All that is known of a list when it is shown.

    Fields
        listed: its items.
        opinions: the experts', (K, M), and scores, all together, (M,).
        items: rate of each item, M.
        user: the user's rate, of_all: everybody's.
        length, since: entries of the history that are read, and `encode_since`.
        time_ms: when, epoch ms.
        numbers: (M, COLUMNS) of `numbers`, NaN where there is none.
        before: the list that the user was shown before this one, if it is kept.
        habit: how the user goes through lists.
    """

    listed: Listed
    opinions: Array
    scores: Array
    items: Sequence[Rate]
    user: Rate
    of_all: float
    length: int
    since: float
    time_ms: int
    numbers: NDArray[np.float64]
    before: Before | None
    habit: Habit


def count_of(experts: int) -> int:
    """How many facts `facts_of` tells where the experts have so many opinions."""
    return NUMBERS + OF_NUMBER * COLUMNS + 2 * (experts + 1) + 2


def facts_of(moment: ListMoment) -> Array:
    """Facts (M, F) float32 of the M items of a list."""
    listed, of_all = moment.listed, moment.of_all
    many, newest = len(listed.items), _newest(listed)
    here = 0 if newest is None else listed.places[newest]
    own = [
        (
            log_odds(rate.smoothed(of_all)),
            log_odds(rate.recently(of_all)),
            math.log1p(rate.exposures),
            math.log1p(count),
            *_of_history(*did),
            1.0 / place if place else 0.0,
            math.log(place) if place else 0.0,
            float(place == 1),
            *_from_here(place, here),
        )
        for rate, count, did, place in zip(moment.items, listed.counts, listed.own, listed.places, strict=True)
    ]
    hour = moment.time_ms % (24 * HOUR_MS) / HOUR_MS * (math.pi / 12)
    user = moment.user
    shared = (
        log_odds(user.smoothed(of_all)),
        log_odds(user.recently(of_all)),
        math.log1p(user.exposures),
        math.log(many),
        math.log1p(moment.length),
        math.sin(hour),
        math.cos(hour),
    )
    said = np.concatenate([moment.opinions.T, moment.scores[:, None]], 1)  # (M, K + 1)
    facts = np.empty((many, count_of(len(moment.opinions))), np.float32)
    facts[:, :OF_ITEM] = own
    facts[:, OF_ITEM : OF_ITEM + OF_LIST] = shared
    at = OF_ITEM + OF_LIST
    facts[:, at : at + OF_BEFORE] = _of_before(listed.items, moment.before)
    facts[:, at + OF_BEFORE : NUMBERS] = _of_habit(listed, moment.habit)
    at = NUMBERS + OF_NUMBER * COLUMNS
    facts[:, NUMBERS:at] = _of_numbers(moment.numbers, newest, moment.habit)
    end = at + said.shape[1]
    facts[:, at:end] = said
    facts[:, end:-2] = said - said.max(0)
    facts[:, -2] = facts[:, RATE] - facts[:, RATE].max()
    facts[:, -1] = moment.since
    return np.nan_to_num(facts, copy=False, nan=0.0, posinf=MOST, neginf=-MOST).clip(-MOST, MOST, out=facts)


def sizes_of(facts: Sequence[float]) -> Sequence[float]:
    """Of an item's facts, how each of its numbers compares with the list's mean."""
    return facts[NUMBERS + IN_LIST : NUMBERS + OF_NUMBER * COLUMNS : OF_NUMBER]


def _newest(listed: Listed) -> int | None:
    """Which of the items the user did something with last."""
    touched = [(did[1], i) for i, did in enumerate(listed.own) if did[0]]
    return min(touched)[1] if touched else None


def _of_before(items: Sequence[str], before: Before | None) -> NDArray[np.float64]:
    """(M, OF_BEFORE); zeros where nothing was shown before."""
    found = np.zeros((len(items), OF_BEFORE))
    if before is None:
        return found
    where = {item_id: i for i, item_id in enumerate(before.items)}
    fresh = math.exp(-max(before.ago_ms, 0) / MINUTE_MS)
    for row, (i, item_id) in zip(found, enumerate(items), strict=True):
        then = where.get(item_id)
        if then is not None:
            label = before.label[then]
            row[:5] = 1.0, fresh, float(then == i), label, label * fresh
    found[:, 5] = found[:, 2].mean()
    return found


def _of_habit(listed: Listed, habit: Habit) -> NDArray[np.float64]:
    """(M, OF_HABIT); zeros where no place is known."""
    places = np.array(listed.places, np.float64)
    known, found = places > 0, np.zeros((len(places), OF_HABIT))
    here = places[listed.items.index(habit.item_id)] if habit.item_id in listed.items else 0.0
    if here:
        run = math.log1p(habit.run)
        found[:, 0] = (places == here) * habit.stays
        found[:, 1] = (places == here) * run
        found[:, 2] = (places != here) * run
        found[:, 3] = (places > here) * habit.goes_down
        found[:, 4] = (places < here) * (1.0 - habit.goes_down)
    else:
        found[:, 5] = np.abs(np.log(np.maximum(places, 1.0)) - habit.depth)
        found[:, 6] = (places == 1) * habit.starts
    return found * known[:, None]


def _of_numbers(numbers: NDArray[np.float64], newest: int | None, habit: Habit) -> NDArray[np.float64]:
    """(M, OF_NUMBER * COLUMNS); zeros of what is not known."""
    found = np.zeros((len(numbers), COLUMNS, OF_NUMBER))
    for column in np.flatnonzero(~np.isnan(numbers).all(0)):
        size = np.sign(numbers[:, column]) * np.log1p(np.abs(numbers[:, column]))
        known = np.flatnonzero(~np.isnan(size))
        own = size[known]
        found[known, column, 0] = own
        if len(own) > 1:
            below = (own[:, None] > own).sum(1)
            found[known, column, IN_LIST] = compared = (own - own.mean()) / (own.std() + 1e-3)
            found[known, column, 2] = below / (len(own) - 1.0)
            found[known, column, 3] = below == 0
            used_to, sure = habit.size(int(column))
            found[known, column, 6] = sure * np.abs(compared - used_to)
            found[known, column, 7] = sure * compared * used_to
        if newest is not None and not np.isnan(size[newest]):
            found[known, column, 4] = own - size[newest]
            found[known, column, 5] = np.abs(own - size[newest])
    return found.reshape(len(numbers), -1)


def _from_here(place: int, here: int) -> tuple[float, float, float, float, float]:
    """How far below or above the item that the user did something with last: people go on from where they are."""
    if not (place and here):
        return 0.0, 0.0, 0.0, 0.0, 0.0
    below = place - here
    return 1.0, float(below == 1), float(below == -1), math.log1p(max(below, 0)), math.log1p(max(-below, 0))


def _of_history(events: int, back: int, ago_ms: int, weight: float) -> tuple[float, float, float, float, float]:
    """What the user did with an item."""
    if not events:
        return 0.0, 0.0, 0.0, 0.0, 0.0
    return float(back == 0), 1.0, math.log(events), math.log1p(back) + math.log1p(ago_ms / SECONDS) / 5.0, weight
