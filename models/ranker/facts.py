"""What the ranker is told of a query's candidates: the one function for learner, serving, backtest and explain.

Before: `candidates` chose rows; experts said what they think of them. After: `network` adds something to their scores.

Serving calls `facts_of(said, scores, tables, past, rows, moment)` with, said and scores at the candidates' rows,
    said: (E, C) float32, of each expert of `Parts.experts`, in their order, what it adds to the fused score: in the
        graph the node of each (`Expert.nodes`, which is times trust, or `Reviser.revision`); zeros where it is silent.
    scores: (C,) float32, the fused scores.
    tables: what is known of items, a row each: `ItemTables.of` the published weights.
    past: the history: `past_of` what `encode_entries` makes of it.
    rows: (C,) int64, the candidates, ascending.
    moment: (M,) float32 of `moment_of`; the landmark is the bundle's `ranker_landmark_ms`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled
from models.content import MODALITIES, SIZE, VECTORS
from models.inputs import Steps, behind_ms
from models.ranker.affinity import (
    KNOWN,
    NUMBERS,
    OF_MODALITY,
    OF_NUMBER,
    column_names,
    first_taste,
    profile_of,
    tell_content,
    tell_numbers,
)

__all__ = [
    "FEW_EVENTS",
    "FIRST",
    "ITEM",
    "MOMENT",
    "AskedMoment",
    "ItemTables",
    "Past",
    "are_new",
    "content_facts",
    "fact_names",
    "facts_count",
    "facts_of",
    "first_facts",
    "moment_of",
    "narrow_facts",
    "past_of",
]

Array = NDArray[np.float32]
Rows = NDArray[np.int64]

ITEM = ("first", "last", "positive", "negative", "weight", "exposures")
"""Columns of the item statistics: hours since the landmark of the first and the last event, 0 where there was none;
counts of what spoke for the item and against it; what the former weighed as targets; and how often it was shown."""

FIRST, LAST, POSITIVE, NEGATIVE, WEIGHT, EXPOSURES = range(len(ITEM))

FEW_EVENTS = 5
"""That a new item has at most, which spoke for it."""

MOMENT = (
    "hours",
    "history length",
    "since the newest event",
    "new session",
    "day sine",
    "day cosine",
    "week sine",
    "week cosine",
)
"""`moment_of`, in order. Hours since the landmark are no fact, but what ages are counted from."""

OF_ITEM = ("events", "newness", "age", "idle", "fresh", "turned down", "weight", "shown", "taken")
OF_OWN = ("own", "own recency")
OF_PAST = ("events of own items", "age of own items")

OF_LIKE = ("events of its like", "weight, with its like")

SHRINKAGE = 3.0
"""What items of like content say of an item counts as so many events of its own."""

TYPES = 4
"""Types of events that are told apart in a history, the first that the model met."""

OF_TYPE = ("events", "recency")

OF_CONTENT = MODALITIES * len(OF_MODALITY)

PAST = 8
"""Newest entries of the history that say which kind of item somebody likes."""

MOST = 30.0
"""No fact is further from 0, whatever an expert says."""

HOUR_MS, DAY_H = 3_600_000.0, 24.0


def are_new(counts: NDArray[Any]) -> NDArray[np.bool_]:
    """Which items are new, by how many events spoke for each."""
    new: NDArray[np.bool_] = counts <= FEW_EVENTS
    return new


class ItemTables(NamedTuple):
    """What facts read of items, a row each.

    Fields
        items: (N, len(ITEM)) float32, what is counted of each (`statistics`).
        alike: (N, A) int32, rows of items of like content, its own where there is none.
        content: (N, MODALITIES, SIZE) int8, what each is about (`content`); numbers: (N, NUMBERS) float32.
        known: (KNOWN,) float32, of how many items each of these is told; where it is 0, they are not read.
        taste: (MODALITIES, SIZE + 1, SIZE) float32, which content goes with which.
    """

    items: Array
    alike: NDArray[np.int32]
    content: NDArray[np.int8] = np.zeros((0, MODALITIES, SIZE), np.int8)
    numbers: Array = np.zeros((0, NUMBERS), np.float32)
    known: Array = np.zeros(KNOWN, np.float32)
    taste: Array = first_taste()

    @classmethod
    def of(cls, weights: Mapping[str, NDArray[Any]]) -> ItemTables:
        """Those of a published model; of one of an earlier release nothing is known of content."""
        later = ("ranker_content", "ranker_numbers", "ranker_known", "ranker_taste")
        return cls(weights["ranker_items"], weights["ranker_alike"], *(weights[one] for one in later if one in weights))


class Past(NamedTuple):
    """A history as facts read it, oldest first, L steps.

    Fields
        rows: (L,) int64, of the items.
        types: (L,) int64, index of each event's type.
        speaks: (L,) float32, above 0 where the event speaks for its item, below 0 where against.
        ago_s: (L,) float64, seconds ago.
    """

    rows: Rows
    types: Rows
    speaks: Array
    ago_s: NDArray[np.float64]


def past_of(steps: Steps, since: float) -> Past:
    """The history of `encode_entries`, whose newest entry is `since` ago on the scale of `encode_since`."""
    ago_s = behind_ms(steps.gaps[::-1])[::-1] / 1000.0 + math.expm1(10.0 * since)
    speaks = np.array(steps.speaks or [1.0] * len(steps.rows), np.float32)
    return Past(np.array(steps.rows, np.int64), np.array(steps.types, np.int64), speaks, ago_s)


class AskedMoment(NamedTuple):
    """Who asks, and when.

    Fields
        length: steps of the history that are read.
        since, fresh: `encode_since` and `encode_fresh` of `models.inputs`.
        time_ms: the instant, epoch ms.
        landmark_ms: what the hours of item statistics are counted from.
        ahead_ms: how far the clocks of the users' time zone are ahead of UTC.
        told: of moment and user by the app (`told`), (K,).
    """

    length: int
    since: float
    fresh: float
    time_ms: int
    landmark_ms: int
    ahead_ms: int = 0
    told: Array | Sequence[float] = ()


def moment_of(moment: AskedMoment) -> Array:
    """The person and the moment as numbers, (len(MOMENT) + K,)."""
    hour = (moment.time_ms + moment.ahead_ms) / HOUR_MS
    day, week = hour % DAY_H * (2 * math.pi / DAY_H), hour % (7 * DAY_H) * (2 * math.pi / (7 * DAY_H))
    return np.array(
        [
            (moment.time_ms - moment.landmark_ms) / HOUR_MS,
            math.log1p(moment.length) / 2,
            moment.since,
            moment.fresh,
            math.sin(day),
            math.cos(day),
            math.sin(week),
            math.cos(week),
            *moment.told,
        ],
        np.float32,
    )


def fact_names(experts: Sequence[str], told: Sequence[str] = (), names: NDArray[np.uint8] | None = None) -> list[str]:
    """Names of the facts, in order, of experts with these names, of what is `told`, and of columns with `names`."""
    said = [f"{name}{how}" for name in experts for how in ("", ", from the best")]
    of_types = [f"{what} of type {place + 1}" for place in range(TYPES) for what in OF_TYPE]
    columns = column_names(names)
    modalities = ["kinds", "words", *columns[:VECTORS]]
    content = [f"{name} {what}" for name in modalities for what in OF_MODALITY]
    numbers = [f"{name}{what}" for name in columns[VECTORS:] for what in OF_NUMBER]
    before = [*said, "score, from the best", *OF_ITEM, *OF_OWN, *OF_PAST, *MOMENT[1:], *told]
    return [*before, *of_types, *OF_LIKE, *content, *numbers]


def facts_count(experts: int, told: int = 0) -> int:
    """How many facts there are with so many experts, and so many numbers that are told."""
    return first_facts(experts, told) + len(OF_LIKE) + TYPES * len(OF_TYPE) + OF_CONTENT + NUMBERS * len(OF_NUMBER)


def first_facts(experts: int, told: int = 0) -> int:
    """How many of them the first release with a ranker had; the others come behind them."""
    return 2 * experts + 1 + len(OF_ITEM) + len(OF_OWN) + len(OF_PAST) + len(MOMENT) - 1 + told


def content_facts(experts: int, told: int = 0) -> slice:
    """Which of them say what content has to do with the history's, by modality (`affinity.OF_MODALITY`)."""
    begin = narrow_facts(experts, told) + len(OF_LIKE)
    return slice(begin, begin + OF_CONTENT)


def narrow_facts(experts: int, told: int = 0) -> int:
    """How many there are where a catalogue has told of nothing: all others, behind them, are 0."""
    return first_facts(experts, told) + TYPES * len(OF_TYPE)


def facts_of(
    said: Array, scores: Array, tables: ItemTables, past: Past, rows: Rows, moment: Array, *, narrow: bool = False
) -> Array:
    """Facts (C, F) float32 of C candidates, which are `rows`; the module says what is passed. All are finite.

    `narrow` leaves out those behind `narrow_facts`, which is right where nothing is known of content.
    """
    experts, told = len(said), len(moment) - len(MOMENT)
    many = narrow_facts(experts, told) if narrow else facts_count(experts, told)
    facts = np.zeros((len(rows), many), np.float32)
    if len(rows):
        _tell(said, scores, tables.items, past.rows, rows, moment, facts)
        _tell_person(past.types, past.speaks, past.ago_s, facts[:, first_facts(experts, told) :])
        if tables.known.any():
            at, content = narrow_facts(experts, told), content_facts(experts, told)
            _tell_like(tables.items, tables.alike, rows, facts[:, at:])
            profile = profile_of(tables.content, tables.known, past.rows, past.speaks)
            tell_content(tables.content, tables.known, tables.taste, profile, rows, facts[:, content])
            tell_numbers(tables.numbers, tables.known, past.rows, past.speaks, rows, facts[:, content.stop :])
    return facts


@compiled
def _tell(said: Array, scores: Array, items: Array, history: Rows, rows: Rows, moment: Array, facts: Array) -> None:
    """Write the facts, in the order of `fact_names`."""
    experts, many = said.shape
    own = 2 * experts + 1 + 9
    highest = np.float32(-np.inf)
    for c in range(many):
        highest = max(highest, scores[c])
    events, age, past = 0.0, 0.0, history[-PAST:]
    for row in past:
        events += math.log1p(items[row, POSITIVE]) / len(past)
        age += math.log1p(60.0 * max(moment[0] - items[row, FIRST], 0.0)) / len(past)
    for c in range(many):
        facts[c, 2 * experts] = _bounded(scores[c] - highest)
        _tell_item(items[rows[c]], moment[0], facts[c, 2 * experts + 1 :])
        facts[c, own] = facts[c, own + 1] = 0.0
        facts[c, own + 2], facts[c, own + 3] = events, age
        for m in range(1, len(moment)):
            facts[c, own + 3 + m] = moment[m]
    for e in range(experts):
        highest = np.float32(-np.inf)
        for c in range(many):
            highest = max(highest, said[e, c])
        for c in range(many):
            facts[c, 2 * e] = _bounded(said[e, c])
            facts[c, 2 * e + 1] = _bounded(said[e, c] - highest)
    for step in range(len(history)):
        c = np.searchsorted(rows, history[step])
        if c < many and rows[c] == history[step]:
            facts[c, own] += 1.0
            facts[c, own + 1] = 1.0 / (len(history) - step)


@compiled
def _tell_like(items: Array, alike: NDArray[np.int32], rows: Rows, facts: Array) -> None:
    """What is counted of items of like content, into the first of `facts`, in the order of `OF_LIKE`."""
    for c in range(len(rows)):
        row, many = rows[c], 0
        positive, weight = 0.0, 0.0
        for k in range(alike.shape[1]):
            other = alike[row, k]
            if other != row:
                many += 1
                positive += items[other, POSITIVE]
                weight += items[other, WEIGHT]
        facts[c, 0] = math.log1p(positive / max(many, 1))
        rate = (weight + 1.0) / (positive + 1.0)
        facts[c, 1] = min((items[row, WEIGHT] + SHRINKAGE * rate) / (items[row, POSITIVE] + SHRINKAGE), MOST)


@compiled
def _tell_person(types: Rows, speaks: Array, ago_s: NDArray[np.float64], facts: Array) -> None:
    """Of each type how many events of the history spoke for their items, and how long ago the newest was."""
    for kind in range(TYPES):
        many, recency = 0, 0.0
        for step in range(len(types)):
            if types[step] == kind + 1 and speaks[step] > 0:
                many += 1
                recency = max(1.0 - math.log1p(max(ago_s[step], 0.0)) / 20.0, 0.0)
        for c in range(len(facts)):
            facts[c, 2 * kind] = math.log1p(many)
            facts[c, 2 * kind + 1] = recency


@compiled
def _bounded(value: np.float32) -> np.float32:
    """At most MOST from 0, and 0 for what is not a number."""
    return np.float32(0) if value != value else min(max(value, np.float32(-MOST)), np.float32(MOST))


@compiled
def _tell_item(item: Array, hours: np.float32, facts: Array) -> None:
    """What is counted of one item, into the first of `facts`, in the order of `OF_ITEM`."""
    positive, negative, exposures = item[POSITIVE], item[NEGATIVE], item[EXPOSURES]
    known = item[FIRST] > 0
    age = max(hours - item[FIRST], np.float32(0)) if known else np.float32(0)
    idle = max(hours - item[LAST], np.float32(0)) if known else np.float32(0)
    facts[0] = math.log1p(positive)
    facts[1] = math.exp(-positive / 3.0) if positive < 60.0 else 0.0
    facts[2] = math.log1p(60.0 * age)
    facts[3] = math.log1p(60.0 * idle)
    facts[4] = math.exp(-age / 24.0) if age < 600.0 else 0.0
    facts[5] = (negative + 0.1) / (positive + negative + 1.0)
    facts[6] = min((item[WEIGHT] + 1.0) / (positive + 1.0), MOST)
    facts[7] = math.log1p(exposures) if exposures > 0.0 else 0.0
    facts[8] = math.log((positive + 0.5) / (exposures + 5.0)) if exposures > 0.0 else 0.0
