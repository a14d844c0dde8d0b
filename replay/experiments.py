"""What came of an experiment: of the lists that people of each variant were shown, how many they reacted to.

Before: events as `headwater experiments` reads them, or the newest of them. After: that command, and the page. An
event answers the list whose `request_id` it has, whoever did it: a guest who was shown one logs in before she buys.
Without one it answers the user's newest list that holds its item, if that was shown within
`model.overrides.join_window_s`, as the learner joins them. People are dealt to variants, so people are
what is compared: a variant's figure is a ratio of two sums over people, and its variance is by the delta method (Deng,
Knoblich, Lu: "Applying the Delta Method in Metric Analytics", KDD 2018, section 3).
"""

from __future__ import annotations

import math
import sys
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from headwater.experiments import CONTROL, Dealt, Experiment, dealt_in
from headwater.settings import Settings
from headwater.signals import Meaning, Signals
from headwater.wire import EventRow
from models.config import JOIN_WINDOW_S
from serving.surfaces.kept import surfaces_kept

__all__ = ["MEASURES", "Compared", "ExperimentResult", "Outcomes", "VariantResult", "experiments_in_force"]

MEASURES = ("reacted", "turned_down", "reward")
"""Of each list: whether there was something positive, something negative, and what the former was worth."""

SURE = 1.959964
"""Standard errors to either side of an interval of 95%."""
FEWEST_PEOPLE = 20
"""On either side of an interval. With so many, variants that are alike are told apart in 4 to 7% of experiments, with
five in up to 10%, with two in up to 23% (shares of .05 to .5, up to three lists each)."""
UNEVEN = 8.0
"""By how much the people of a variant may miss its share: four standard deviations of many people. In nats, which bound
the chance of it for few people, too (Chernoff): once in 3,000 experiments for far more than the share, or far fewer."""
OPEN_LISTS = 20
"""Of each user: the newest lists, which an event that names none may answer."""
MOST_OPEN = 200_000
"""Lists that may still be reacted to: the newest that were read, of all users. One of twelve items takes 0.7 KB."""
MOST_EARLY = 10_000
"""Reactions that are kept for a list whose record comes after theirs."""


class Compared(NamedTuple):
    """One measure of a variant.

    Fields
        value: per list.
        difference: to control, of the same measure; None of control itself, or where it has no list.
        low, high: of the difference, 95%; None of fewer than FEWEST_PEOPLE on either side.
    """

    value: float
    difference: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def told_apart(self) -> bool:
        """Whether the interval leaves no difference out."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


class VariantResult(NamedTuple):
    """One variant: people who were shown a list, lists, and each of MEASURES."""

    variant: str
    people: int
    lists: int
    measures: dict[str, Compared]


@dataclass(frozen=True)
class ExperimentResult:
    """What came of one experiment.

    Fields
        name: of the experiment.
        variants: control first.
        from_ms, to_ms: event time of the first and the last list, epoch ms.
        moved: people who had lists of more than one variant.
        uneven: variants whose people are not the share that they should be, with that share.
        disputed: surfaces have the experiment with other shares, so that one person may have several variants.
    """

    name: str
    variants: list[VariantResult]
    from_ms: int
    to_ms: int
    moved: int
    uneven: dict[str, float]
    disputed: bool

    @property
    def remarks(self) -> list[str]:
        """What a person should know before going by the figures."""
        told = []
        if all(one.variant != CONTROL for one in self.variants):
            told.append("no list of control was shown, so there is nothing to compare with")
        if self.disputed:
            told.append(
                "its surfaces deal people by other shares, so a person may have one variant here and another there: "
                "give it the same shares everywhere, or another name"
            )
        if self.moved:
            told.append(
                f"{self.moved:,} people had lists of more than one variant, so its shares were changed: look at the "
                "days since alone, or give the experiment another name"
            )
        if any(one.people < FEWEST_PEOPLE for one in self.variants):
            told.append(f"of fewer than {FEWEST_PEOPLE} people in a variant or in control there is no interval")
        people = {one.variant: one.people for one in self.variants}
        for variant, share in self.uneven.items():
            told.append(
                f"{variant} has {people.get(variant, 0):,} of {sum(people.values()):,} people and should have "
                f"{100 * share:g}%: its shares were changed, or its lists are empty, refused, sent, shown or counted "
                "otherwise. Find out which before you go by the figures"
            )
        return told

    def told(self) -> dict[str, Any]:
        """As JSON has it."""
        variants = [
            {**one._asdict(), "measures": {name: of._asdict() for name, of in one.measures.items()}}
            for one in self.variants
        ]
        return {"from_ms": self.from_ms, "to_ms": self.to_ms, "variants": variants, "remarks": self.remarks}


@dataclass(slots=True)
class _List:
    """One that was shown and may still be reacted to.

    Fields
        user_id: who was shown it.
        heard: ids of events that it has been told of: each counts once.
        told: what it has been told.
        theirs: others have a list by the same `request_id`, so that it does not say whose is meant.
    """

    user_id: str
    dealt: Dealt
    request_id: str | None
    time_ms: int
    items: tuple[str, ...]
    heard: set[str] | None = None
    told: tuple[Meaning, ...] = ()
    theirs: bool = False


@dataclass(slots=True)
class _Sums:
    """Of one user in one variant."""

    lists: int = 0
    reacted: int = 0
    turned_down: int = 0
    reward: float = 0.0


class Outcomes:
    """Takes events, each user's in the order of the log.

    Parameters
        settings: what types of events mean, and the window in which they are joined.
    """

    def __init__(self, settings: Settings) -> None:
        self._signals = Signals(settings.signals)
        self._window_ms = 1000 * float(settings.model.given.get("join_window_s", JOIN_WINDOW_S))
        self._lists: deque[_List] = deque()
        self._open: dict[str, list[_List]] = {}
        self._named: dict[str, _List] = {}
        self._early: dict[str, list[EventRow]] = {}
        self._sums: dict[str, dict[str, dict[str, _Sums]]] = {}
        self._times: dict[str, tuple[int, int]] = {}

    def take(self, row: EventRow) -> None:
        """One event."""
        meaning = self._signals.meaning(row.type, row.value)
        if meaning is Meaning.EXPOSURE:
            if (dealt := dealt_in(row.properties)) is not None:
                self._show(row, dealt)
        elif meaning is not Meaning.CONTEXT:
            found = self._answered(row)
            if found is not None:
                self._react(row, found, meaning)
            elif row.request_id is not None:
                waiting = self._early.setdefault(row.request_id, [])
                del waiting[OPEN_LISTS:]
                waiting.append(row)
                if len(self._early) > MOST_EARLY:
                    del self._early[next(iter(self._early))]

    def _show(self, row: EventRow, dealt: Dealt) -> None:
        items = tuple(map(sys.intern, row.items or (row.item_id,)))
        if (same := self._own(row)) is not None:
            same.items += tuple(set(items).difference(same.items))
            return
        one = _List(row.user_id, dealt, row.request_id, row.time_ms, items)
        self._keep(one)
        self._of(row.user_id, dealt).lists += 1
        first, last = self._times.get(dealt.experiment, (row.time_ms, row.time_ms))
        self._times[dealt.experiment] = min(first, row.time_ms), max(last, row.time_ms)
        for early in self._early.pop(row.request_id, ()) if row.request_id is not None else ():
            self.take(early)

    def _keep(self, one: _List) -> None:
        """Among those that may be reacted to, of which the oldest is let go."""
        self._lists.append(one)
        mine = self._open.setdefault(one.user_id, [])
        mine.append(one)
        del mine[:-OPEN_LISTS]
        if one.request_id is not None:
            first = self._named.setdefault(one.request_id, one)
            first.theirs = first is not one
        if len(self._lists) > MOST_OPEN:
            gone = self._lists.popleft()
            left = self._open.get(gone.user_id, [])
            if left and left[0] is gone:
                del left[0]
            if not left:
                self._open.pop(gone.user_id, None)
            if gone.request_id is not None and self._named.get(gone.request_id) is gone:
                del self._named[gone.request_id]

    def _own(self, row: EventRow) -> _List | None:
        """The user's list that the event names."""
        if row.request_id is None:
            return None
        named = self._named.get(row.request_id)
        if named is None or named.user_id == row.user_id:
            return named
        return next((one for one in self._open.get(row.user_id, ()) if one.request_id == row.request_id), None)

    def _of(self, user_id: str, dealt: Dealt) -> _Sums:
        users = self._sums.setdefault(dealt.experiment, {}).setdefault(dealt.variant, {})
        return users.setdefault(user_id, _Sums())

    def _answered(self, row: EventRow) -> _List | None:
        if row.request_id is not None:
            found = self._own(row) or self._named.get(row.request_id)
            if found is None or (found.user_id != row.user_id and found.theirs):
                return None
            return found if row.item_id in found.items else None
        mine = self._open.get(row.user_id, ())
        since_ms = row.time_ms - self._window_ms
        return next(
            (one for one in reversed(mine) if since_ms <= one.time_ms <= row.time_ms and row.item_id in one.items), None
        )

    def _react(self, row: EventRow, shown: _List, meaning: Meaning) -> None:
        if shown.heard is None:
            shown.heard = set()
        if row.event_id in shown.heard:
            return
        shown.heard.add(row.event_id)
        sums = self._of(shown.user_id, shown.dealt)
        first = meaning not in shown.told
        shown.told += (meaning,) if first else ()
        if meaning is Meaning.POSITIVE:
            sums.reacted += first
            sums.reward += self._signals.of(row.type).reward_of(row.value)
        else:
            sums.turned_down += first

    def results(self, in_force: Iterable[Experiment]) -> list[ExperimentResult]:
        """Of each experiment that had a list, by name. `in_force`: those whose shares are known, of each surface."""
        shares: dict[str, list[dict[str, float]]] = {}
        for one in in_force:
            said = shares.setdefault(one.name, [])
            if one.shares not in said:
                said.append(one.shares)
        return [self._result(name, shares.get(name, [])) for name in sorted(self._sums)]

    def _result(self, name: str, shares: Sequence[Mapping[str, float]]) -> ExperimentResult:
        of_all = self._sums[name]
        control = list(of_all.get(CONTROL, {}).values())
        order = sorted(of_all, key=lambda variant: (variant != CONTROL, variant))
        people = Counter(user for users in of_all.values() for user in users)
        counts = {variant: len(users) for variant, users in of_all.items()}
        return ExperimentResult(
            name,
            [_variant(variant, list(of_all[variant].values()), control) for variant in order],
            *self._times[name],
            moved=sum(many > 1 for many in people.values()),
            uneven=_uneven(counts, shares[0]) if len(shares) == 1 else {},
            disputed=len(shares) > 1,
        )


def experiments_in_force(settings: Settings) -> list[Experiment]:
    """Of each surface that has one. Several may have the same: people have one variant in all of them.

    Raises
        Unavailable: Kafka does not answer.
    """
    named = surfaces_kept(settings).named.values()
    return [one.surface.experiment for one in named if one.surface.experiment is not None]


def _variant(name: str, users: Sequence[_Sums], control: Sequence[_Sums]) -> VariantResult:
    lists = sum(one.lists for one in users)
    compared = {measure: _compared(measure, users, () if name == CONTROL else control) for measure in MEASURES}
    return VariantResult(name, len(users), lists, compared)


def _compared(measure: str, users: Sequence[_Sums], control: Sequence[_Sums]) -> Compared:
    value, error = _ratio(measure, users)
    if not control:
        return Compared(value)
    other, other_error = _ratio(measure, control)
    difference = value - other
    if error is None or other_error is None:
        return Compared(value, difference)
    around = SURE * math.hypot(error, other_error)
    return Compared(value, difference, difference - around, difference + around)


def _ratio(measure: str, users: Sequence[_Sums]) -> tuple[float, float | None]:
    """Of a measure for each list, and its standard error; None of a few people, who do not say how far they vary.

    >>> value, error = _ratio("reacted", [_Sums(lists=2, reacted=number % 2) for number in range(100)])
    >>> value, round(error, 4)
    (0.25, 0.0251)
    """
    lists, many = sum(one.lists for one in users), len(users)
    value = sum(getattr(one, measure) for one in users) / lists
    if many < FEWEST_PEOPLE:
        return value, None
    squares = sum((getattr(one, measure) - value * one.lists) ** 2 for one in users)
    return value, math.sqrt(squares * many / (many - 1)) / lists


def _uneven(people: Mapping[str, int], shares: Mapping[str, float]) -> dict[str, float]:
    """The variants with far more or fewer people than their share: something deals them otherwise, or counts them so.

    >>> _uneven({"control": 700, "wide": 300}, {"control": 0.5, "wide": 0.5})
    {'control': 0.5, 'wide': 0.5}
    >>> _uneven({"control": 19, "wide": 1}, {"control": 0.999, "wide": 0.001})
    {}
    """
    many = sum(people.values())
    return {
        variant: share
        for variant, share in shares.items()
        if many * _divergence(people.get(variant, 0) / many, share) > UNEVEN
    }


def _divergence(found: float, share: float) -> float:
    """Of a share that was found from the one that should be (Kullback, Leibler), in nats."""
    parts = ((found, share), (1 - found, 1 - share))
    return sum(one * math.log(one / of) if of > 0 else math.inf for one, of in parts if one > 0)
