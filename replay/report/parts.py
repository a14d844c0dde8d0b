"""The parts of a report that compare rankers: results, types, cold and warm, coverage, seeds.

Before: `replay.report` asks for them in order. After: `replay.report.charts`, `replay.report.tables`. Each takes the
result and returns its section, with a sentence where there is nothing to show.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from replay.report.charts import NARROW, WIDE, Dots, IntervalRow, dots_chart, intervals_chart
from replay.report.markup import Child, Markup, tag
from replay.report.tables import (
    Column,
    figure,
    groups_of_rankers,
    note,
    ranker_cell,
    ranker_table,
    section,
    styles,
    table,
)
from replay.report.verdict import METRIC, OURS, outcome, part, value
from replay.report.wording import DASH, interval, label, percent, plain, score, signed, whole

__all__ = ["by_type", "cold_and_warm", "coverage", "results", "seeds"]

SIGNS = {"better": "▲", "level": "=", "worse": "▼"}

AT_TEN = (("hr@10", "HR@10"), ("mrr@10", "MRR@10"), ("user_ndcg@10", "NDCG@10 by user"))
FURTHER = (
    ("ndcg@20", "NDCG@20"),
    ("hr@20", "HR@20"),
    ("mrr@20", "MRR@20"),
    ("recall@10", "Recall@10"),
    ("recall@20", "Recall@20"),
)

LEADS_CAPTION = (
    "Headwater's NDCG@10 minus the other's, with its 95% interval. Filled circle: Headwater is ahead; diamond: behind; "
    "open circle: the interval contains zero."
)

RESULTS_NOTE = (
    "NDCG@10 gives a place among the first ten a weight that falls with depth; HR@10 asks only whether the item was "
    "there; MRR@10 is 1 / place; by user: each user counts the same, however busy. Bold: best of Headwater and the "
    "peers. Intervals: 95%, by drawing whole users again, so that a few busy users cannot decide alone; they are not "
    "corrected for the number of comparisons. ▲ ahead, = cannot be told apart, ▼ behind. Peers have their usual "
    "numbers unless a name carries others: on this stream others may be better."
)

COVERAGE_NOTE = (
    "Coverage: share of the known items that were in some list of ten. Novelty: mean of −log2 of the shown items' "
    "share of events, in bits; one more bit is half as popular. Neither is better high or low by itself."
)

GROUPS = {
    "new_users": "New users",
    "returning_users": "Returning users",
    "new_items": "New items",
    "warm_items": "Warm items",
}

GROUPS_NOTE = (
    "New users: at most 3 events in their history. New items: at most 5 events before this one. Each query counts "
    "once among users and once among items."
)


def results(result: Mapping[str, Any]) -> Markup:
    """The table of all rankers, and Headwater's lead over each with its interval."""
    names = list(part(result, "results"))
    if not names:
        return section("results", "Results", tag("p", "No ranker has a result."))
    differences = {name: part(result, "differences", name).get(METRIC) for name in names}
    rows = [
        IntervalRow(label(name), outcome(differences[name]), *found)
        for _, members in groups_of_rankers(result)
        for name in members
        if name != OURS and (found := interval(differences[name])) is not None
    ]
    title = "Headwater's lead in NDCG@10"
    text = "; ".join(f"over {row.label} {signed(row.mean)} ({signed(row.low)} to {signed(row.high)})" for row in rows)
    charts = [intervals_chart("leads", title, text, rows, width) for width in (WIDE, NARROW)] if rows else []
    columns = [
        _measure(result, METRIC, "NDCG@10"),
        Column(title.removesuffix(" in NDCG@10"), {name: _lead(result, name, differences[name]) for name in names}),
        Column("95% interval", {name: _range(differences[name]) for name in names}),
        *(_measure(result, key, head) for key, head in AT_TEN),
    ]
    further = ranker_table(result, "Further measures", [_measure(result, key, head) for key, head in FURTHER])
    return section(
        "results",
        "Results",
        ranker_table(result, "All rankers on the same queries", columns, about=True),
        note(RESULTS_NOTE),
        figure(charts, LEADS_CAPTION) if charts else note("No interval was computed: chance is not ruled out."),
        tag("details", tag("summary", "Further measures"), further),
    )


def _measure(result: Mapping[str, Any], key: str, head: str) -> Column:
    values = {name: value(result, name, key) for name in part(result, "results")}
    return Column(head, {name: score(each) for name, each in values.items()}, values)


def _lead(result: Mapping[str, Any], name: str, difference: Any) -> Child:
    ours, theirs, found = value(result, OURS), value(result, name), interval(difference)
    if name == OURS or (found is None and (ours is None or theirs is None)):
        return DASH
    if found is None:
        return signed((ours or 0.0) - (theirs or 0.0))
    says = outcome(difference)
    return tag("span", f"{SIGNS[says]} {signed(found[1])}", class_=f"lead {says}")


def _range(difference: Any) -> str:
    found = interval(difference)
    return DASH if found is None else f"{signed(found[0])} to {signed(found[2])}"


def by_type(result: Mapping[str, Any]) -> Markup:
    """The same queries, by type of the event that was asked about; the type with most queries first."""
    head, types = "By type of event", part(result, "by_type")
    order = sorted(types, key=lambda kind: (-(plain(part(types, kind).get("queries")) or 0.0), kind))
    if not order:
        return section("types", head, tag("p", "The result has no parts by type."))
    if len(order) == 1:
        told = f"All {whole(part(types, order[0]).get('queries'))} queries are of one type: {order[0]}."
        return section("types", head, tag("p", told))
    return section("types", head, *_sliced(result, "types-chart", "NDCG@10 by type of event", types, order))


def cold_and_warm(result: Mapping[str, Any]) -> Markup:
    """New and returning users, new and warm items."""
    head, groups = "Cold against warm", part(result, "groups")
    order = [*(key for key in GROUPS if key in groups), *sorted(groups.keys() - GROUPS.keys())]
    if not order:
        return section("groups", head, tag("p", "The result has no groups of users or items."))
    named = {GROUPS.get(key, key): groups[key] for key in order}
    title = "NDCG@10 of new and known users and items"
    return section("groups", head, *_sliced(result, "groups-chart", title, named, list(named)), note(GROUPS_NOTE))


def _sliced(
    result: Mapping[str, Any], key: str, title: str, slices: Mapping[str, Any], order: Sequence[str]
) -> list[Markup]:
    """A row of dots for each slice of the queries; the rankers with a colour as a table, all of them folded away."""
    chosen = styles(result)
    scores = {name: part(slices, name, METRIC) for name in order}
    rows = [
        Dots(name, [(label(each), style, plain(scores[name].get(each))) for each, style in chosen.items()])
        for name in order
    ]
    text = "; ".join(
        f"{row.label}: " + ", ".join(f"{name} {score(each)}" for name, _, each in row.dots) for row in rows
    )
    charts = [dots_chart(key, title, text, rows, width) for width in (WIDE, NARROW)]
    heads = ("", "Queries", *(label(name) for name in chosen))
    main = [
        [name, whole(part(slices, name).get("queries")), *(score(scores[name].get(each)) for each in chosen)]
        for name in order
    ]
    columns = [Column(name, {each: score(got) for each, got in scores[name].items()}, scores[name]) for name in order]
    made = [figure(charts, "Further right ranks better."), table(title, heads, main)]
    if len(part(result, "results")) > len(chosen):
        made.append(tag("details", tag("summary", "All rankers"), ranker_table(result, title, columns)))
    return made


def coverage(result: Mapping[str, Any]) -> Markup:
    """How much of the catalogue gets shown, and how far from the best-known items."""
    head, names = "Coverage and novelty", list(part(result, "results"))
    covered = {name: value(result, name, "coverage@10") for name in names}
    novel = {name: value(result, name, "novelty@10") for name in names}
    if not any(each is not None for each in (*covered.values(), *novel.values())):
        return section("coverage", head, tag("p", "Neither was measured."))
    columns = [
        Column("Coverage@10", {name: percent(each) for name, each in covered.items()}),
        Column("Novelty@10", {name: DASH if each is None else f"{each:.2f}" for name, each in novel.items()}),
    ]
    return section(
        "coverage", head, ranker_table(result, "What lists of ten are made of", columns), note(COVERAGE_NOTE)
    )


def seeds(result: Mapping[str, Any]) -> Markup:
    """How much the seed moves NDCG@10, where a ranker ran with several."""
    several = {}
    for name, measures in part(result, "by_seed").items():
        raw = measures.get(METRIC) if isinstance(measures, Mapping) else None
        values = [found for each in raw if (found := plain(each)) is not None] if isinstance(raw, list) else []
        if len(values) > 1:
            several[name] = values
    if not several:
        told = "One seed was run: how much of a difference is the seed's own is not known."
        return section("seeds", "Seeds", tag("p", told))
    chosen = styles(result)
    order = [name for _, members in groups_of_rankers(result) for name in members if name in several]
    rows: list[list[Child]] = [
        [
            ranker_cell(name, chosen),
            whole(len(several[name])),
            score(statistics.fmean(several[name])),
            f"{statistics.stdev(several[name]):.4f}",
            f"{score(min(several[name]))} to {score(max(several[name]))}",
        ]
        for name in order
    ]
    heads = ("Ranker", "Seeds", "Mean NDCG@10", "Deviation", "Range")
    told = "All other figures of this page are of the first seed. A ranker that is not listed has nothing random in it."
    return section("seeds", "Seeds", table("NDCG@10 by seed", heads, rows), note(told))
