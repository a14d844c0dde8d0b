"""What the sections of a report show: charts, tables by ranker, and rows of plain tables, as values for the templates.

Before: a `Result`. After: `replay.report.page` puts them into templates/report.html, which has the words around them. A
section that has nothing to show is empty here, and the template says so.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from replay.backtest.result import AgedWeights, Interval, Measures, Result, Slice, Spread, Window
from replay.report.verdict import OURS, REDUCED, best_peer, is_peer, outcome
from replay.report.wording import (
    DASH,
    described,
    inline,
    label,
    meant,
    number,
    percent,
    score,
    signed,
    time_text,
    whole,
)
from viewing.charts import (
    NARROW,
    QUIET,
    WIDE,
    Dots,
    IntervalRow,
    Line,
    dots_chart,
    intervals_chart,
    lines_chart,
)

__all__ = [
    "WITHOUT",
    "Charted",
    "Column",
    "Curve",
    "Folds",
    "Rows",
    "Slices",
    "ablation",
    "ages",
    "asked",
    "both",
    "by_type",
    "cold_and_warm",
    "coverage",
    "curve",
    "folds",
    "further_measures",
    "groups_of_rankers",
    "leads",
    "led",
    "meanings",
    "measures",
    "objectives",
    "pace",
    "seeds",
    "styles",
    "tiles",
]

WITHOUT = "Headwater without a part"

SIGNS = {"better": "▲", "level": "=", "worse": "▼"}

EXCLUDED = {
    "no_history": "the user had no history yet",
    "no_consent": "the user has not consented to lists of their own",
    "new_item": "the item had never been seen before",
    "seen": "the rules keep items already seen out of answers",
    "capped": "the user did more than a person can (model.overrides.teach_per_minute)",
    "not_positive": "the event does not speak for its item",
    "shown": "a list that was shown",
    "undone": "an event that was taken back (it was a query when it happened)",
}

GROUPS = {
    "new_users": "New users",
    "returning_users": "Returning users",
    "new_items": "New items",
    "warm_items": "Warm items",
}

BANDS = ("s0", "s1")
"""Styles whose band is drawn: ours and the best other; more of them hide one another."""

Rows = list[list[str]]


class Column(NamedTuple):
    """A column of a table by ranker: its head, its cells, and whose cells are the best of those that compare."""

    head: str
    cells: Mapping[str, str]
    best: frozenset[str] = frozenset()


class Charted(NamedTuple):
    """A chart, and the same numbers as a table."""

    title: str
    charts: Markup
    heads: Sequence[str]
    rows: Rows


class Curve(NamedTuple):
    """As `Charted`; and the rankers drawn, what is read out of the newest window, and of each, as JSON."""

    title: str
    charts: Markup
    heads: Sequence[str]
    rows: Rows
    shown: list[str]
    newest: list[str]
    readout: str


class Folds(NamedTuple):
    """A chart, columns of all rankers, and every fold as a table."""

    charts: Markup
    columns: list[Column]
    heads: Sequence[str]
    rows: Rows


class Slices(NamedTuple):
    """As `Charted`, for the rankers with a colour; `columns` are of all rankers."""

    title: str
    charts: Markup
    heads: Sequence[str]
    rows: Rows
    columns: list[Column]


def both(draw: Callable[[int], Markup]) -> Markup:
    """A chart in both of its widths."""
    return draw(WIDE) + draw(NARROW)


def styles(result: Result) -> dict[str, str]:
    """The rankers that get a colour in every chart, in the order of their weight; all others are context."""
    values = result.ndcg
    first = best_peer(values)
    second = best_peer({name: each for name, each in values.items() if name != first})
    chosen: dict[str, str] = {}
    for name in (OURS, first, "frozen", "popularity", second):
        if name in values and name is not None and name not in chosen:
            chosen[name] = f"s{len(chosen)}"
    return chosen


def groups_of_rankers(result: Result) -> list[tuple[str, list[str]]]:
    """(head, names) of ours, the peers, our parts and ours without a part; best first by NDCG@10."""
    names = sorted(result.results, key=lambda name: (-(result.ndcg[name] or 0.0), name))
    groups = (
        ("Headwater", [name for name in names if name == OURS]),
        ("Peers", [name for name in names if is_peer(name)]),
        (
            "Headwater with older weights, or parts alone",
            [n for n in names if n != OURS and not is_peer(n) and not n.startswith(REDUCED)],
        ),
        (WITHOUT, [n for n in names if n.startswith(REDUCED)]),
    )
    return [(head, members) for head, members in groups if members]


def _column(head: str, values: Mapping[str, float | None]) -> Column:
    """Scores of rankers; the best of Headwater and the peers are bold."""
    fair = {name: score(each) for name, each in values.items() if each is not None and (name == OURS or is_peer(name))}
    best = frozenset(name for name, each in fair.items() if len(fair) > 1 and each == max(fair.values()))
    return Column(head, {name: score(each) for name, each in values.items()}, best)


def _measure(result: Result, head: str, of: Callable[[Measures], float | None]) -> Column:
    return _column(head, {name: of(each) for name, each in result.results.items()})


def tiles(result: Result) -> list[tuple[str, str]]:
    """The four figures at the top, each with what it is."""
    ours = result.results.get(OURS, Measures())
    peer = best_peer(result.ndcg)
    theirs = result.ndcg[peer] if peer else None
    lead = percent(ours.ndcg_10 / theirs - 1, sign=True) if ours.ndcg_10 is not None and theirs else DASH
    hits, speed = ours.hr_10, result.learner_events_per_s
    return [
        (score(ours.ndcg_10), "NDCG@10 of Headwater: 1 would be the next item always on top"),
        (DASH if hits is None else f"{hits * 100:.1f} of 100", "times the next item was among the first ten"),
        (lead, f"NDCG@10 against {inline(peer)}, the best peer" if peer else "no peer was run"),
        (DASH if speed is None else f"{number(speed)}/s", "events that the learner takes in on this machine"),
    ]


def asked(result: Result) -> Rows:
    """What became of the events after the warm-up: asked about, or not, and why."""
    after = result.events - result.warm_up

    def row(told: str, count: int) -> list[str]:
        return [told, whole(count), percent(count / after) if after else DASH]

    excluded = result.excluded
    return [
        row("Asked: the queries", result.queries),
        *(row(f"Not asked: {EXCLUDED.get(reason, reason)}", count) for reason, count in excluded.items()),
        ["Not asked, together", whole(sum(excluded.values()) if excluded else None), percent(result.excluded_share)],
    ]


def meanings(result: Result) -> Rows:
    """Each type of the stream's events: what it meant, how many, their share, how they divide where values decide."""
    totals = {kind: sum(each.events.values()) for kind, each in result.meanings.items()}
    together = sum(totals.values())
    rows: Rows = []
    for kind, each in result.meanings.items():
        told = meant(each.signal) + ("" if each.known else " (nobody named it)")
        parts = [f"{percent(count / totals[kind])} {name}" for name, count in each.events.items() if totals[kind]]
        divided = ", ".join(parts) if len(parts) > 1 else DASH
        if each.items is not None and each.items != totals[kind]:
            divided = f"{whole(each.items)} items shown"
        share = percent(totals[kind] / together) if together else DASH
        rows.append([kind, told, whole(totals[kind]), share, divided])
    return rows


def folds(result: Result) -> Folds | None:
    """Every fold's NDCG@10 by ranker, and the mean and spread of the main measures."""
    spread = result.fold_spread
    asked = [fold for fold in result.folds if fold.queries]
    if not asked or not spread:
        return None
    order = [name for _, members in groups_of_rankers(result) for name in members if name in spread]
    rows = [
        Dots(
            label(name),
            [
                ("Mean of the folds", "s0", found.mean if (found := spread[name].ndcg_10) else None),
                *(("One fold", QUIET, fold.results[name].ndcg_10) for fold in asked if name in fold.results),
            ],
        )
        for name in order
    ]
    text = "; ".join(
        f"{label(name)}: {score(found.mean)}, {score(found.least)} to {score(found.most)}"
        for name in order
        if (found := spread[name].ndcg_10)
    )
    title = "NDCG@10 of each fold"
    return Folds(
        both(lambda width: dots_chart("folds-chart", title, text, rows, width)),
        [
            Column("NDCG@10", {name: _spread(spread[name].ndcg_10) for name in order}),
            Column("HR@10", {name: _spread(spread[name].hr_10) for name in order}),
            Column("MRR@10", {name: _spread(spread[name].mrr_10) for name in order}),
        ],
        ("Fold", "Learned before", "Asked until", "Queries", *(label(name) for name in order)),
        [
            [
                str(place + 1),
                f"{whole(fold.begin)} events",
                f"{whole(fold.end)}{f', {day}' if (day := time_text(fold.time)) else ''}",
                whole(fold.queries),
                *(score(fold.results[name].ndcg_10 if name in fold.results else None) for name in order),
            ]
            for place, fold in enumerate(result.folds)
        ],
    )


def _spread(found: Spread | None) -> Markup:
    if found is None:
        return Markup(DASH)
    about = f"± {score(found.deviation)}, {score(found.least)} to {score(found.most)}"
    return Markup('{}<span class="about">{}</span>').format(score(found.mean), about)


def measures(result: Result) -> list[Column]:
    """The main table: NDCG@10, Headwater's lead over each with its interval, and what else is looked at first."""
    leads = {name: result.lead(name) for name in result.results}
    return [
        _measure(result, "NDCG@10", lambda each: each.ndcg_10),
        Column("Headwater's lead", {name: _lead(result, name, found) for name, found in leads.items()}),
        Column("95% interval", {name: _range(found) for name, found in leads.items()}),
        _measure(result, "HR@10", lambda each: each.hr_10),
        _measure(result, "MRR@10", lambda each: each.mrr_10),
        _measure(result, "NDCG@10 by user", lambda each: each.user_ndcg_10),
    ]


def further_measures(result: Result) -> list[Column]:
    """What a person asks for who does not find it in the main table."""
    return [
        _measure(result, "NDCG@20", lambda each: each.ndcg_20),
        _measure(result, "HR@20", lambda each: each.hr_20),
        _measure(result, "MRR@20", lambda each: each.mrr_20),
        _measure(result, "Recall@10", lambda each: each.recall_10),
        _measure(result, "Recall@20", lambda each: each.recall_20),
    ]


def _lead(result: Result, name: str, found: Interval | None) -> str:
    ours, theirs = result.ndcg.get(OURS), result.ndcg[name]
    if name == OURS or (found is None and (ours is None or theirs is None)):
        return DASH
    return signed((ours or 0.0) - (theirs or 0.0)) if found is None else led(found)


def led(found: Interval, *, less: bool = False) -> Markup:
    """A lead with its sign: ahead, level or behind; `less` of a figure is better."""
    says = Interval(-found.high, -found.mean, -found.low).says if less else found.says
    return Markup('<span class="lead {}">{} {}</span>').format(says, SIGNS[says], signed(found.mean))


def _range(found: Interval | None) -> str:
    return DASH if found is None else f"{signed(found.low)} to {signed(found.high)}"


def ablation(result: Result) -> Charted | None:
    """What each part of the model is worth, the dearest first: NDCG@10 with it minus NDCG@10 without."""
    names = [name for head, members in groups_of_rankers(result) if head == WITHOUT for name in members][::-1]
    if not names:
        return None
    rows = [
        [
            label(name),
            described(name),
            score(result.ndcg[name]),
            signed(None if (found := result.lead(name)) is None else found.mean),
            _range(found),
        ]
        for name in names
    ]
    heads = (WITHOUT, "What that is", "NDCG@10", "The part adds", "95% of users drawn again")
    return Charted("What each part is worth", _led(result, names, "ablation"), heads, rows)


def leads(result: Result) -> Markup:
    """Headwater's lead over every other ranker as a chart, or nothing where no interval is known."""
    return _led(result, [name for _, members in groups_of_rankers(result) for name in members if name != OURS], "leads")


def _led(result: Result, names: Sequence[str], key: str) -> Markup:
    rows = [IntervalRow(label(n), outcome(found), *found) for n in names if (found := result.lead(n)) is not None]
    text = "; ".join(f"over {row.label} {signed(row.mean)} ({signed(row.low)} to {signed(row.high)})" for row in rows)
    title = "Headwater's lead in NDCG@10"
    return both(lambda width: intervals_chart(key, title, text, rows, width)) if rows else Markup()


def curve(result: Result) -> Curve | None:
    """NDCG@10 in consecutive windows of the stream."""
    rows = result.curve
    if not rows:
        return None
    chosen, seen = styles(result), {name for row in rows for name in row.ndcg}
    names = [name for _, members in groups_of_rankers(result) for name in members if name in seen]
    names += sorted(seen - set(names))
    shown = [name for name in names if is_peer(name) or name in chosen]
    lines = [
        Line(
            label(name),
            chosen.get(name, QUIET),
            [row.ndcg.get(name) for row in rows],
            [row.band.get(name) if chosen.get(name) in BANDS else None for row in rows],
        )
        for name in shown
    ]
    at = [float(row.events) for row in rows]
    days = (time_text(rows[0].time), time_text(rows[-1].time) if len(rows) > 1 else "")
    text = f"{len(rows)} windows. " + "; ".join(
        f"{line.label} from {score(line.values[0])} to {score(line.values[-1])}" for line in lines
    )
    title = "NDCG@10 by window of the stream"
    read = [_read(row, shown) for row in rows]
    return Curve(
        title,
        both(lambda width: lines_chart("curve-chart", title, text, lines, at, days, width)),
        ("Window ends after", "On", "Queries", *(label(name) for name in names)),
        [
            [
                f"{whole(row.events)} events",
                time_text(row.time, minutes=True) or DASH,
                whole(row.queries),
                *(score(row.ndcg.get(name)) for name in names),
            ]
            for row in rows
        ],
        shown,
        read[-1],
        json.dumps(read, ensure_ascii=True, separators=(",", ":")),
    )


def _read(row: Window, names: Iterable[str]) -> list[str]:
    day = time_text(row.time, minutes=True)
    head = f"Window until event {whole(row.events)}{f', {day}' if day else ''}: {whole(row.queries)} queries"
    return [head, *(score(row.ndcg.get(name)) for name in names)]


def ages(result: Result) -> tuple[Charted, bool] | None:
    """How much accuracy weights keep as they grow old; and whether the best peer stands beside it."""
    points = result.weight_age
    if not points:
        return None
    ours, peer = result.ndcg.get(OURS), best_peer(result.ndcg)
    bar = result.ndcg[peer] if peer else None
    level = (f"Best peer: {inline(peer)}", "s1", bar) if peer and bar is not None else None
    rows = [Dots(_age(each), [("Headwater", "s0", each.ndcg)]) for each in points]
    told = [f"{_age(each)}: {score(each.ndcg)}" for each in points]
    text = "; ".join(told + ([f"{level[0]}: {score(bar)}"] if level else []))
    title = "NDCG@10 of Headwater by age of its weights"
    charted = Charted(
        title,
        both(lambda width: dots_chart("age-chart", title, text, rows, width, level)),
        ("Weights published", "NDCG@10", "Share of the live model's", "Queries"),
        [
            [
                _age(each),
                score(each.ndcg),
                f"{100 * each.ndcg / ours:.1f}%" if each.ndcg is not None and ours else DASH,
                whole(each.queries),
            ]
            for each in points
        ],
    )
    return charted, level is not None


def _age(row: AgedWeights) -> str:
    if row.age_events is None:
        return "Never after warm-up" if row.name in (None, "frozen") else label(str(row.name))
    return "After every event" if row.age_events == 0 else f"Every {whole(row.age_events)} events"


def by_type(result: Result) -> Slices | None:
    """The same queries, by type of the event that was asked about; the type with most queries first."""
    order = sorted(result.by_type.items(), key=lambda pair: (-pair[1].queries, pair[0]))
    return _sliced(result, "types-chart", "NDCG@10 by type of event", dict(order)) if order else None


def cold_and_warm(result: Result) -> Slices | None:
    """New and returning users, new and warm items."""
    groups = result.groups
    order = [*(key for key in GROUPS if key in groups), *sorted(groups.keys() - GROUPS.keys())]
    named = {GROUPS.get(key, key): groups[key] for key in order}
    return _sliced(result, "groups-chart", "NDCG@10 of new and known users and items", named) if named else None


def _sliced(result: Result, key: str, title: str, slices: Mapping[str, Slice]) -> Slices:
    """A row of dots, and a row of numbers, for each slice of the queries."""
    chosen = styles(result)
    rows = [
        Dots(name, [(label(each), style, found.ndcg.get(each)) for each, style in chosen.items()])
        for name, found in slices.items()
    ]
    text = "; ".join(
        f"{row.label}: " + ", ".join(f"{name} {score(each)}" for name, _, each in row.dots) for row in rows
    )
    return Slices(
        title,
        both(lambda width: dots_chart(key, title, text, rows, width)),
        ("", "Queries", *(label(name) for name in chosen)),
        [
            [name, whole(found.queries), *(score(found.ndcg.get(each)) for each in chosen)]
            for name, found in slices.items()
        ],
        [_column(name, found.ndcg) for name, found in slices.items()],
    )


def coverage(result: Result) -> list[Column]:
    """How much of the catalogue gets shown, and how far from the best-known items."""
    covered = {name: each.coverage_10 for name, each in result.results.items()}
    novel = {name: each.novelty_10 for name, each in result.results.items()}
    if not any(each is not None for each in (*covered.values(), *novel.values())):
        return []
    return [
        Column("Coverage@10", {name: percent(each) for name, each in covered.items()}),
        Column("Novelty@10", {name: DASH if each is None else f"{each:.2f}" for name, each in novel.items()}),
    ]


def seeds(result: Result) -> Rows:
    """How much the seed moves NDCG@10, where a ranker ran with several: its name, then what is told of it."""
    order = [name for _, members in groups_of_rankers(result) for name in members]
    several = {name: each for name in order if len(each := result.seeds(name)) > 1}
    return [
        [
            name,
            whole(len(each)),
            score(statistics.fmean(each)),
            f"{statistics.stdev(each):.4f}",
            f"{score(min(each))} to {score(max(each))}",
        ]
        for name, each in several.items()
    ]


def second_stage(result: Result) -> Rows | None:
    """What the ranker was worth, with and without it."""
    told = result.ranker
    if told is None:
        return None
    return [
        ["NDCG@10", score(told.ndcg), score(told.ndcg_without)],
        ["NDCG@10 of new items", score(told.new_items), score(told.new_items_without)],
    ]


def objectives(result: Result) -> Rows:
    """What each type's head was worth on the queries of its type, the type with most queries first."""
    by_type = result.ranker.by_type if result.ranker else {}
    return [
        [
            name,
            whole(one.queries),
            score(one.ndcg),
            score(one.ndcg_without),
            score(one.hr),
            score(one.hr_without),
            percent(one.share),
        ]
        for name, one in sorted(by_type.items(), key=lambda pair: (-pair[1].queries, pair[0]))
    ]


def pace(result: Result) -> str:
    """How fast the stream itself is by its own clock, between the ends of the curve's windows; empty if not known."""
    ends = [(row.events, row.time) for row in result.curve if row.time is not None]
    learner = result.learner_events_per_s
    if len(ends) < 2 or ends[-1][1] <= ends[0][1] or not learner:
        return ""
    rate = 1000 * (ends[-1][0] - ends[0][0]) / (ends[-1][1] - ends[0][1])
    if not rate:
        return ""
    told = f"{number(rate)} events/s" if rate >= 1 else f"{number(rate * 86400)} events a day"
    room = "more than 1,000" if learner / rate > 1000 else number(learner / rate)
    return f"{told} on average; the learner takes {room} times that"
