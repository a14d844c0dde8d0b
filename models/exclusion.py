"""Which items of a history are not recommended again: the rule `exclude_seen`, for learner, serving and backtest alike.

A rule names types of event: items that the user had such an event with are left out. `*` is every type. `auto` leaves
out an item whose newest event is of a type after which users seldom come back: that is counted here, not guessed, and
the counts are published as the weight `return_rate`, so that serving applies the rule that the learner was measured
under. Knows neither items nor users.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from headwater.examples import Entry
from headwater.recommendations import ALL_TYPES, AUTO
from headwater.signals import Meaning, Signals
from models.part import Changes, Input, Part

__all__ = ["ReturnRate", "disliked", "left_out", "returning_types"]

RARE = 0.01
"""Below this share of returns per event of a type, its items are not recommended again: people who rate films never
come back to one, shoppers who look around and readers of news after one event in ten and more."""

PRIOR = 100.0
"""Events without a return that every type is presumed to have had: one return proves nothing."""

DAY_MS = 86_400_000

Item = TypeVar("Item")
Array = NDArray[np.float32]


def left_out(
    rule: Collection[str],
    seen: Iterable[tuple[Item, str]],
    newest: Mapping[Item, str],
    returning: Collection[str],
    turned_down: Collection[str] = (),
) -> set[Item]:
    """The items of a history that a rule leaves out.

    Parameters
        rule: types of event, `*` or `auto`.
        seen: (item, type of event) of every entry of the history, oldest first.
        newest: of each item the type of its newest entry.
        returning: types after which users come back to an item, see `returning_types`.
        turned_down: types that always speak against their items, of which `auto` says nothing: `disliked` knows how
            long they hold.

    >>> left_out(["auto"], [("film", "view"), ("song", "rating")], {"film": "view", "song": "rating"}, {"view"})
    {'song'}
    >>> left_out(["auto"], [("film", "view"), ("film", "snooze")], {"film": "snooze"}, {"view"}, {"snooze"})
    set()
    """
    if ALL_TYPES in rule:
        return set(newest)
    named = set(rule) - {AUTO}
    entries = list(seen) if named else None
    out = {item for item, kind in entries if kind in named} if entries is not None else set[Item]()
    if AUTO in rule:
        returned = {*newest.values()}.intersection(returning)
        seldom = {item for item, kind in newest.items() if kind not in returned} if returned else {*newest}
        doubtful = {item for item in seldom if newest[item] in turned_down} if turned_down else set[Item]()
        if doubtful:
            before = {item: kind for item, kind in entries or seen if kind not in turned_down}
            seldom -= {item for item in doubtful if before.get(item) is None or before[item] in returning}
        out |= seldom
    return out


def disliked(history: Iterable[tuple[Item, Entry]], meanings: Signals, now_ms: int) -> set[Item]:
    """The items that a user has turned down, which are not shown again whatever the rule.

    Parameters
        history: every entry with its item, oldest first.
        meanings: what an event means.
        now_ms: the instant that is asked about, epoch ms: what its signal says holds only for a while may be over.

    Returns
        Items whose newest event that speaks for or against them, and still holds, speaks against.

    >>> entries = [Entry("film", "dismiss", 0, None), Entry("song", "dislike", 0, None), Entry("song", "like", 1, None)]
    >>> sorted(disliked([(one.item_id, one) for one in entries], Signals(), now_ms=2))
    ['film']
    """
    out: set[Item] = set()
    for item, (_, kind, time_ms, value, _) in history:
        meaning = meanings.meaning(kind, value)
        if meaning is Meaning.NEGATIVE:
            days = meanings.of(kind).negative_for_days
            if days is None or now_ms <= time_ms + days * DAY_MS:
                out.add(item)
        elif meaning is Meaning.POSITIVE:
            out.discard(item)
    return out


def returning_types(share: Array, types: Iterable[str]) -> frozenset[str]:
    """The types of event after which users come back to an item.

    Parameters
        share: `ReturnRate.share`, published as the weight `return_rate`: (max_types + 1,) float32.
        types: event types in the order of their indices, from 1.
    """
    return frozenset(kind for kind, one in zip(types, share[1:].tolist(), strict=False) if one >= RARE)


class ReturnRate(Part):
    """How often users come back to an item, by the type of their newest event with it. Counted, not learned.

    Fields
        events: targets by type, (max_types + 1,) float64; index 0 is of types that are not told apart.
        returns: those whose item was in the history, by the type of its newest entry there; likewise.
    """

    def __init__(self, max_types: int) -> None:
        self.events = np.zeros(max_types + 1, np.float64)
        self.returns = np.zeros(max_types + 1, np.float64)

    def count(self, kind: int, before: int | None) -> None:
        """Take in a target of type index `kind`; `before` is that of the item's newest entry in the history, if any."""
        self.events[kind] += 1
        if before is not None:
            self.returns[before] += 1

    def take_back(self, kind: int, before: int | None) -> None:
        """What `count` took in did not happen."""
        self.events[kind] = max(self.events[kind] - 1, 0)
        if before is not None:
            self.returns[before] = max(self.returns[before] - 1, 0)

    @property
    def share(self) -> Array:
        """Returns per event, (max_types + 1,) float32; 0 for the types that are not told apart."""
        share: Array = (self.returns / (self.events + PRIOR)).astype(np.float32)
        share[0] = 0.0
        return share

    def inputs(self) -> dict[str, Input]:
        """The shares, which the graph carries and does not read."""
        return {"return_rate": Input(np.float32, (len(self.events),))}

    def weights(self) -> dict[str, NDArray[Any]]:
        """The shares."""
        return {"return_rate": self.share}

    def take_changes(self) -> Changes:
        """Every event changes them."""
        return Changes(dense=["return_rate"])

    def state(self) -> dict[str, NDArray[Any]]:
        """The counts."""
        return {"return_rate.events": self.events, "return_rate.returns": self.returns}
