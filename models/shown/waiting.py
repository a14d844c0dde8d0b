"""Lists that were shown and wait for reactions, in event time.

Before: `lists` opens a list with what was thought of it. After: it learns from what a list has become. A reaction joins
the list that its request_id names, else the newest showing of its item within the window; it may come before its list
or after the window's end. Knows ids, times and weights.

Everything that waits is bounded. Of the closed lists a sample is kept, the newest likeliest: labels may come late, and
the click model rehearses them. Where too many are open, the oldest is closed early, and counted.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import starmap
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["AtShowing", "Reaction", "ToRank", "Waiting", "WaitingList", "scattered"]

MOST_OPEN, MOST_CLOSED = 131_072, 65_536
"""Items of open lists, and of closed ones, that are kept; some 200 bytes each, and 150 for the ranker while open."""

MOST_EARLY = 8_192
"""Reactions without a list that are kept, should it come yet."""


def scattered(number: int, many: int) -> int:
    """A place below `many` that looks as if by chance, the same of a number each time (Knuth's multiplicative hash)."""
    return (number * 2_654_435_761 % 2**32) * many >> 32


class Reaction(NamedTuple):
    """An event that speaks for an item, or against it (weight below 0)."""

    item_id: str
    time_ms: int
    request_id: str | None
    weight: float
    head: int = 0  # of the click model, by the type of event; 0 for one without


class AtShowing(NamedTuple):
    """What was thought of a list when it was shown; M items.

    Fields
        facts: (M, F) float16, `facts.facts_of`.
        tired: (M, T) float16, `showings`.
        said: (M, 5 + HEADS) float64: chance of a reaction, the item's smoothed rate, fused score, chance by head, and
            the fused score with what the ranker adds: as answers have it, and with what lists taught in full.
    """

    facts: NDArray[np.float16]
    tired: NDArray[np.float16]
    said: NDArray[np.float64]


class ToRank(NamedTuple):
    """What the ranker is to learn a list from; kept while the list is open.

    Fields
        facts: (M, F) float16, `ranker.facts`.
        plain: (M,) float32 fused scores; NaN of an item without a row.
    """

    facts: NDArray[np.float16]
    plain: NDArray[np.float32]


@dataclass(eq=False)
class WaitingList:
    """A list, and what came of it so far.

    Fields
        label: by item, the weight of the strongest reaction for it; 0 for none, -1 where it was turned down.
        kinds: by item, which outputs of the click model are true: bit 0 of any reaction, bit k of head k.
        counted: by item, whether a reaction is counted in the rates.
        learned: by item, the kinds that were learned; None before they were.
        reactions: place of the item, weight, time and head of each reaction that joined, so that one can be taken back.
        number: of lists opened so far.
        ranked: of the ranker; None where there is none, where it has nothing to compare, and once the list is closed.
    """

    user_id: str
    list_id: str
    time_ms: int
    items: list[str]
    places: list[int]
    asked: AtShowing
    number: int = 0
    label: list[float] = field(default_factory=list)
    counted: list[bool] = field(default_factory=list)
    learned: list[int | None] = field(default_factory=list)
    reactions: list[tuple[int, float, int, int]] = field(default_factory=list)
    closed: bool = False
    kinds: list[int] = field(default_factory=list)
    ranked: ToRank | None = None

    def extend(self, more: WaitingList) -> list[str]:
        """Take in the items of another part of this list that are not in it; they are returned."""
        fresh = [i for i, item_id in enumerate(more.items) if item_id not in self.items]
        self.items += [more.items[i] for i in fresh]
        self.places += [more.places[i] for i in fresh]
        self.label += [0.0] * len(fresh)
        self.kinds += [0] * len(fresh)
        self.counted += [False] * len(fresh)
        self.learned += [None] * len(fresh)
        here, there = self.asked, more.asked
        self.asked = AtShowing(
            np.concatenate([here.facts, there.facts[fresh]]),
            np.concatenate([here.tired, there.tired[fresh]]),
            np.concatenate([here.said, there.said[fresh]]),
        )
        if self.ranked is None or more.ranked is None:
            self.ranked = None
        else:
            self.ranked = ToRank(
                np.concatenate([self.ranked.facts, more.ranked.facts[fresh]]),
                np.concatenate([self.ranked.plain, more.ranked.plain[fresh]]),
            )
        return [more.items[i] for i in fresh]

    def react(self, i: int, reaction: Reaction) -> None:
        """A reaction to the item at place i of the list."""
        self.reactions.append((i, reaction.weight, reaction.time_ms, reaction.head))
        self.relabel(i)

    def relabel(self, i: int) -> None:
        """The label of an item by its reactions; the newest dismissal or reaction decides between the two."""
        own = [(weight, head) for at, weight, _, head in self.reactions if at == i]
        self.label[i] = 0.0 if not own else -1.0 if own[-1][0] < 0 else max(own)[0]
        self.kinds[i] = 0
        for weight, head in own if self.label[i] > 0 else ():
            self.kinds[i] |= 1 | 1 << head if weight > 0 else 0


class Waiting:
    """All lists that may yet be reacted to.

    Parameters
        window_ms: `join_window_s`.
        most_open, most_closed: items of such lists that are kept.

    `closed` are the lists whose window is over and which are kept, in no order.
    """

    def __init__(self, window_ms: int, most_open: int = MOST_OPEN, most_closed: int = MOST_CLOSED) -> None:
        self.window_ms, self.most_open, self.most_closed = window_ms, most_open, most_closed
        self.now_ms = 0  # the stream's own clock: the latest event time
        self.opened = 0
        self.closed_early = 0
        self.growing = False  # a list has come in parts
        self.closed: list[WaitingList] = []
        self._held_open = self._held_closed = 0  # items
        self._lists: dict[str, dict[str, WaitingList]] = {}  # by user, by list_id
        self._due: list[tuple[int, int, str, str]] = []  # heap: showing, number, user, list_id of those that are open
        self._places: dict[int, int] = {}  # of closed lists, by number
        self._showings: dict[tuple[str, str], list[WaitingList]] = {}  # by user and item
        self._early: dict[str, list[Reaction]] = {}  # by user; longest without news first
        self._early_count = 0

    def open(self, made: WaitingList) -> list[tuple[WaitingList, int]]:
        """Take in a list; what an open list of the same name lacks joins it there.

        Returns
            The items, each with its list, that had a reaction before they came.
        """
        before = self._lists.get(made.user_id, {}).get(made.list_id)
        if before is not None and before.closed:
            self._forget(before)
            before = None
        if before is None:
            self.opened += 1
            made.number = self.opened
            many = len(made.items)
            made.label, made.counted, made.learned, made.kinds = [0.0] * many, [False] * many, [None] * many, [0] * many
            self._insert(made)
            heapq.heappush(self._due, (made.time_ms, made.number, made.user_id, made.list_id))
            return self._came_before(made)
        fresh = before.extend(made)
        self.growing |= bool(fresh)
        self._held_open += len(fresh)
        for item_id in fresh:
            self._showings.setdefault((before.user_id, item_id), []).append(before)
        return self._came_before(before)

    def new_items(self, user_id: str, list_id: str, items: Sequence[str]) -> Sequence[str]:
        """Those that the open list of this name, if there is one, has not: a list that grows shows the rest once."""
        before = self._lists.get(user_id, {}).get(list_id)
        return items if before is None or before.closed else [one for one in items if one not in before.items]

    def react(self, user_id: str, reaction: Reaction) -> tuple[WaitingList, int] | None:
        """Join a reaction; where there is no list for it, it is kept for one that comes late.

        Returns
            The list, with the reaction's label, and the place of the item.
        """
        found = self._showing(user_id, reaction)
        if found is None:
            self._keep(user_id, reaction)
            return None
        found[0].react(found[1], reaction)
        return found

    def take_back(self, user_id: str, reaction: Reaction) -> tuple[WaitingList, int] | None:
        """Undo a reaction, whatever list it named or joined: an undo names none. None where it had joined no list."""
        item_id, time_ms, _, weight, head = reaction
        kept = self._early.get(user_id, [])
        early = next((one for one in kept if one._replace(request_id=reaction.request_id) == reaction), None)
        if early is not None:
            self._leave(user_id, [one for one in kept if one is not early])
            return None
        for one in self._showings.get((user_id, item_id), ()):
            i = one.items.index(item_id)
            if (told := (i, weight, time_ms, head)) in one.reactions:
                one.reactions.remove(told)
                one.relabel(i)
                return one, i
        return None

    def forget_user(self, user_id: str) -> None:
        """Drop the open lists of somebody who teaches no more."""
        for one in [one for one in self._lists.get(user_id, {}).values() if not one.closed]:
            self._forget(one)

    def known_users(self) -> set[str]:
        """Of whom a list or a reaction is kept."""
        return {*self._lists, *self._early, *(user_id for _, _, user_id, _ in self._due)}

    def forget_whole(self, user_id: str) -> None:
        """Drop all lists of somebody, closed ones too, and reactions that wait for one."""
        for one in list(self._lists.get(user_id, {}).values()):
            self._forget(one)
        self._due = [one for one in self._due if one[2] != user_id]
        heapq.heapify(self._due)
        self._early_count -= len(self._early.pop(user_id, ()))

    def advance(self, time_ms: int) -> Iterator[WaitingList]:
        """Move the clock, and close the lists whose window is over, the oldest first."""
        self.now_ms = max(self.now_ms, time_ms)
        while self._due and self._due[0][0] + self.window_ms < self.now_ms:
            if (one := self._close()) is not None:
                yield one
        while self._held_open > self.most_open and self._due:
            if (one := self._close()) is not None:
                self.closed_early += 1
                yield one
        while self._held_closed > self.most_closed:
            self._forget(self.closed[scattered(self.opened + len(self.closed), len(self.closed))])

    def before(self, user_id: str, list_id: str) -> WaitingList | None:
        """The newest list that is kept of a user, but for the one of this name."""
        kept = reversed(self._lists.get(user_id, {}).values())
        return next((one for one in kept if one.list_id != list_id), None)

    def open_lists(self) -> list[WaitingList]:
        """Those whose window is not over, the oldest first."""
        found = (self._lists.get(user, {}).get(name) for _, _, user, name in sorted(self._due))
        return [one for one in found if one is not None and not one.closed]

    def _insert(self, one: WaitingList) -> None:
        self._lists.setdefault(one.user_id, {})[one.list_id] = one
        if one.closed:
            self._held_closed += len(one.items)
        else:
            self._held_open += len(one.items)
        for item_id in one.items:
            self._showings.setdefault((one.user_id, item_id), []).append(one)

    def _close(self) -> WaitingList | None:
        _, number, user_id, list_id = heapq.heappop(self._due)
        one = self._lists.get(user_id, {}).get(list_id)
        if one is None or one.number != number:
            return None  # forgotten
        one.closed = True
        self._held_open -= len(one.items)
        self._held_closed += len(one.items)
        self._places[number] = len(self.closed)
        self.closed.append(one)
        return one

    def _showing(self, user_id: str, reaction: Reaction) -> tuple[WaitingList, int] | None:
        """Which showing a reaction is to: that which it names, else the newest within the window."""
        item_id, time_ms = reaction.item_id, reaction.time_ms
        shown = self._showings.get((user_id, item_id), ())
        found = next((one for one in shown if one.list_id == reaction.request_id), None)
        if found is None:
            within = [one for one in shown if one.time_ms <= time_ms <= one.time_ms + self.window_ms]
            found = max(within, key=lambda one: (one.time_ms, one.number), default=None)
        return None if found is None else (found, found.items.index(item_id))

    def _came_before(self, one: WaitingList) -> list[tuple[WaitingList, int]]:
        """Join what was kept for this list."""
        found, left = [], []
        for reaction in self._early.get(one.user_id, ()):
            at = self._showing(one.user_id, reaction)
            if at is None:
                left.append(reaction)
            else:
                at[0].react(at[1], reaction)
                found.append(at)
        if found:
            self._leave(one.user_id, left)
        return found

    def _leave(self, user_id: str, kept: list[Reaction]) -> None:
        """Of the reactions that are kept of a user no more than these; who has none is forgotten."""
        self._early_count += len(kept) - len(self._early[user_id])
        if kept:
            self._early[user_id] = kept
        else:
            del self._early[user_id]

    def _keep(self, user_id: str, reaction: Reaction) -> None:
        before = self._early.pop(user_id, [])
        kept = [one for one in before if one.time_ms + self.window_ms >= self.now_ms]
        self._early[user_id] = [*kept, reaction]
        self._early_count += 1 + len(kept) - len(before)
        while self._early_count > MOST_EARLY:
            self._early_count -= len(self._early.pop(next(iter(self._early))))

    def _forget(self, one: WaitingList) -> None:
        own = self._lists[one.user_id]
        del own[one.list_id]
        if not own:
            del self._lists[one.user_id]
        if one.closed:
            self._held_closed -= len(one.items)
            place, last = self._places.pop(one.number), self.closed.pop()
            if last is not one:
                self.closed[place], self._places[last.number] = last, place
        else:
            self._held_open -= len(one.items)
        for item_id in one.items:
            shown = self._showings[one.user_id, item_id]
            shown.remove(one)
            if not shown:
                del self._showings[one.user_id, item_id]

    def values(self) -> dict[str, Any]:
        """All of it but the facts, JSON-able."""
        return {
            "now_ms": self.now_ms,
            "opened": self.opened,
            "closed_early": self.closed_early,
            "growing": self.growing,
            "lists": [
                [one.user_id, one.list_id, one.time_ms, one.number, one.items, one.places, one.label, one.counted,
                 one.learned, one.reactions, one.closed, one.kinds]
                for one in self._all()
            ],
            "due": self._due,
            "closed": [one.number for one in self.closed],
            "ranked": [one.number for one in self._all() if one.ranked is not None],
            "early": [[user_id, list(map(list, kept))] for user_id, kept in self._early.items()],
        }  # fmt: skip

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The facts of all lists, one below the other."""
        columns = zip(*(one.asked for one in self._all()), strict=True)
        found = {name: np.concatenate(parts) for name, parts in zip(AtShowing._fields, columns, strict=False)}
        ranked = zip(*(one.ranked for one in self._all() if one.ranked is not None), strict=True)
        names = (f"rank_{name}" for name in ToRank._fields)
        return found | {name: np.concatenate(parts) for name, parts in zip(names, ranked, strict=False)}

    def _all(self) -> list[WaitingList]:
        return sorted((one for own in self._lists.values() for one in own.values()), key=lambda one: one.number)

    def load(self, values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Back to what `values` and `arrays` returned."""
        self.now_ms, self.opened, self.closed_early = (values[name] for name in ("now_ms", "opened", "closed_early"))
        self.growing = values["growing"]
        by_number, first, first_ranked, ranked = {}, 0, 0, set(values["ranked"])
        for *named, items, places, label, counted, learned, reactions, closed, kinds in values["lists"]:
            user_id, list_id, time_ms, number = named
            end = first + len(items)
            asked = AtShowing(*(np.array(arrays[name][first:end]) for name in AtShowing._fields))
            one = WaitingList(user_id, list_id, time_ms, items, places, asked, number, label, counted, learned)
            one.reactions, one.closed, one.kinds = [(*reaction,) for reaction in reactions], closed, kinds
            if number in ranked:
                last = first_ranked + len(items)
                one.ranked = ToRank(*(np.array(arrays[f"rank_{name}"][first_ranked:last]) for name in ToRank._fields))
                first_ranked = last
            by_number[number], first = one, end
            self._insert(one)
        self._due = [(*one,) for one in values["due"]]
        self.closed = [by_number[number] for number in values["closed"]]
        self._places = {number: place for place, number in enumerate(values["closed"])}
        self._early = {user_id: list(starmap(Reaction, kept)) for user_id, kept in values["early"]}
        self._early_count = sum(map(len, self._early.values()))
