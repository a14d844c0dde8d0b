"""What came of an experiment: of the lists that people of each variant were shown, how many they reacted to.

Before: events as `headwater experiments` reads them, or the newest of them. After: that command, and the page. An
event answers the list whose `request_id` it has; without one, the user's newest list that holds its item, if that was
shown within `model.overrides.join_window_s`, as the learner joins them. People are dealt to variants, so people are
what is compared: a variant's figure is a ratio of two sums over people, and its variance is by the delta method (Deng,
Knoblich, Lu: "Applying the Delta Method in Metric Analytics", KDD 2018, section 3).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from headwater.experiments import CONTROL, Dealt, Experiment, dealt_in
from headwater.settings import Settings
from headwater.signals import Meaning, Signals
from headwater.surfaces import Surface
from headwater.wire import EventRow
from models.config import JOIN_WINDOW_S

__all__ = ["MEASURES", "Compared", "ExperimentResult", "Outcomes", "VariantResult", "experiments_in"]

MEASURES = ("reacted", "turned_down", "reward")
"""Of each list: whether there was something positive, something negative, and what the former was worth."""

SURE = 1.959964
"""Standard errors to either side of an interval of 95%."""
UNEVEN = 4.0
"""Standard deviations by which the people of a variant may miss its share: once in 16,000 experiments by chance."""
OPEN_LISTS = 20
"""Of each user: the newest lists, which may still be reacted to."""
MOST_EARLY = 10_000
"""Reactions that are kept for a list whose record comes after theirs."""


class Compared(NamedTuple):
    """One measure of a variant.

    Fields
        value: per list.
        difference: to control, of the same measure; None of control itself, or where it has no list.
        low, high: of the difference, 95%; None of fewer than two people on either side.
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
        moved: people who had lists of more than one variant: its shares were changed, or the control.
        uneven: variants whose people are not the share that they should be, with that share.
    """

    name: str
    variants: list[VariantResult]
    from_ms: int
    to_ms: int
    moved: int
    uneven: dict[str, float]

    @property
    def remarks(self) -> list[str]:
        """What a person should know before going by the figures."""
        told = []
        if self.moved:
            told.append(
                f"{self.moved:,} people had lists of more than one variant, so its shares were changed: look at the "
                "days since alone, or give the experiment another name"
            )
        people = sum(one.people for one in self.variants)
        for one in self.variants:
            if one.variant in self.uneven:
                told.append(
                    f"{one.variant} has {one.people:,} of {people:,} people and should have "
                    f"{100 * self.uneven[one.variant]:g}%: its shares were changed, or its lists are sent, shown or "
                    "counted otherwise. Find out which before you go by the figures"
                )
        return told

    def told(self) -> dict[str, Any]:
        """As JSON has it."""
        variants = [
            {**one._asdict(), "measures": {name: of._asdict() for name, of in one.measures.items()}}
            for one in self.variants
        ]
        return {"from_ms": self.from_ms, "to_ms": self.to_ms, "variants": variants, "remarks": self.remarks}


@dataclass
class _List:
    """One that was shown and may still be reacted to."""

    dealt: Dealt
    request_id: str | None
    time_ms: int
    items: set[str]
    heard: set[str] = field(default_factory=set)
    """Ids of events that it has been told of: each counts once."""
    told: set[Meaning] = field(default_factory=set)


@dataclass
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
        self._open: dict[str, list[_List]] = {}
        self._early: dict[tuple[str, str], list[EventRow]] = {}
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
                waiting = self._early.setdefault((row.user_id, row.request_id), [])
                del waiting[OPEN_LISTS:]
                waiting.append(row)
                if len(self._early) > MOST_EARLY:
                    del self._early[next(iter(self._early))]

    def _show(self, row: EventRow, dealt: Dealt) -> None:
        mine = self._open.setdefault(row.user_id, [])
        items = row.items or (row.item_id,)
        for one in mine:
            if row.request_id is not None and one.request_id == row.request_id:
                one.items.update(items)
                return
        mine.append(_List(dealt, row.request_id, row.time_ms, set(items)))
        del mine[:-OPEN_LISTS]
        self._of(row.user_id, dealt).lists += 1
        first, last = self._times.get(dealt.experiment, (row.time_ms, row.time_ms))
        self._times[dealt.experiment] = min(first, row.time_ms), max(last, row.time_ms)
        for early in self._early.pop((row.user_id, row.request_id or ""), ()):
            self.take(early)

    def _of(self, user_id: str, dealt: Dealt) -> _Sums:
        users = self._sums.setdefault(dealt.experiment, {}).setdefault(dealt.variant, {})
        return users.setdefault(user_id, _Sums())

    def _answered(self, row: EventRow) -> _List | None:
        mine = self._open.get(row.user_id, ())
        if row.request_id is not None:
            return next((one for one in mine if one.request_id == row.request_id and row.item_id in one.items), None)
        since_ms = row.time_ms - self._window_ms
        return next(
            (one for one in reversed(mine) if since_ms <= one.time_ms <= row.time_ms and row.item_id in one.items), None
        )

    def _react(self, row: EventRow, shown: _List, meaning: Meaning) -> None:
        if row.event_id in shown.heard:
            return
        shown.heard.add(row.event_id)
        sums = self._of(row.user_id, shown.dealt)
        first = meaning not in shown.told
        shown.told.add(meaning)
        if meaning is Meaning.POSITIVE:
            sums.reacted += first
            sums.reward += self._signals.of(row.type).reward_of(row.value)
        else:
            sums.turned_down += first

    def results(self, in_force: Iterable[Experiment]) -> list[ExperimentResult]:
        """Of each experiment that had a list, by name. `in_force`: those whose shares are known."""
        shares = {one.name: one.shares for one in in_force}
        return [self._result(name, shares.get(name, {})) for name in sorted(self._sums)]

    def _result(self, name: str, shares: Mapping[str, float]) -> ExperimentResult:
        of_all = self._sums[name]
        control = list(of_all.get(CONTROL, {}).values())
        order = sorted(of_all, key=lambda variant: (variant != CONTROL, variant))
        people = Counter(user for users in of_all.values() for user in users)
        return ExperimentResult(
            name,
            [_variant(variant, list(of_all[variant].values()), control) for variant in order],
            *self._times[name],
            moved=sum(many > 1 for many in people.values()),
            uneven=_uneven({variant: len(users) for variant, users in of_all.items()}, shares),
        )


def experiments_in(surfaces: Iterable[Surface]) -> dict[str, Experiment]:
    """By name. Several surfaces may have the same one: people have one variant in all of them."""
    return {one.experiment.name: one.experiment for one in surfaces if one.experiment is not None}


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
    """Of a measure for each list, and its standard error; None of one person, of whom nothing varies.

    >>> _ratio("reacted", [_Sums(lists=2, reacted=1), _Sums(lists=2, reacted=0)])
    (0.25, 0.25)
    """
    lists, many = sum(one.lists for one in users), len(users)
    value = sum(getattr(one, measure) for one in users) / lists
    if many < 2:
        return value, None
    squares = sum((getattr(one, measure) - value * one.lists) ** 2 for one in users)
    return value, math.sqrt(squares * many / (many - 1)) / lists


def _uneven(people: Mapping[str, int], shares: Mapping[str, float]) -> dict[str, float]:
    """The variants with far more or fewer people than their share: something deals them otherwise, or counts them so.

    >>> _uneven({"control": 700, "wide": 300}, {"control": 0.5, "wide": 0.5})
    {'control': 0.5, 'wide': 0.5}
    """
    many = sum(people.values())
    found = {}
    for variant, share in shares.items():
        spread = math.sqrt(many * share * (1 - share))
        if abs(people.get(variant, 0) - many * share) > UNEVEN * spread:
            found[variant] = share
    return found
