"""The parts of a report that are about time: NDCG@10 along the stream, and against the age of the weights.

Before: `replay.report` asks for them. After: `replay.report.charts`, `replay.report.tables`. Each takes the result and
returns its section, with a chart, the same numbers as a table, and a sentence where there is nothing to show.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from replay.report.charts import NARROW, QUIET, WIDE, Dots, Line, dots_chart, lines_chart
from replay.report.markup import Markup, joined, tag
from replay.report.tables import figure, groups_of_rankers, section, styles, table
from replay.report.verdict import METRIC, OURS, best_peer, is_peer, of, part, value
from replay.report.wording import DASH, inline, label, plain, score, time_text, whole

__all__ = ["curve", "weight_age"]

CURVE_CAPTION = (
    "Each point is one window of the stream, at its end; events run across. Shaded: 95% intervals of Headwater "
    "and the best other within the window. Grey: further peers. Point at the chart to read a window."
)

BANDS = ("s0", "s1")
"""Styles whose band is drawn: ours and the best other; more of them hide one another."""

AGE_CAPTION = "The weights are held back, the users' histories are not: this is what slower publishing would cost."


def curve(result: Mapping[str, Any]) -> Markup:
    """NDCG@10 in consecutive windows of the stream."""
    head = "NDCG@10 over time"
    rows = [row for row in of(result, "curve") if plain(row.get("events")) is not None]
    if not rows:
        return section("curve", head, tag("p", "The result has no curve."))
    chosen = styles(result)
    seen = {name for row in rows for name in part(row, METRIC)}
    names = [name for _, members in groups_of_rankers(result) for name in members if name in seen]
    names += sorted(seen - set(names))
    shown = [name for name in names if is_peer(name) or name in chosen]
    lines = [
        Line(
            label(name),
            chosen.get(name, QUIET),
            [plain(part(row, METRIC).get(name)) for row in rows],
            [_edges(part(row, "band").get(name)) if chosen.get(name) in BANDS else None for row in rows],
        )
        for name in shown
    ]
    at = [plain(row["events"]) or 0.0 for row in rows]
    days = (time_text(rows[0].get("time")), time_text(rows[-1].get("time")) if len(rows) > 1 else "")
    text = f"{len(rows)} windows. " + "; ".join(
        f"{line.label} from {score(line.values[0])} to {score(line.values[-1])}" for line in lines
    )
    title = "NDCG@10 by window of the stream"
    charts = [lines_chart("curve-chart", title, text, lines, at, days, width) for width in (WIDE, NARROW)]
    readout = json.dumps([_read(row, shown) for row in rows], ensure_ascii=True, separators=(",", ":"))
    panel = tag("div", _panel(rows[-1], shown, chosen), class_="readout")
    numbers = table(
        title,
        ("Window ends after", "On", "Queries", *(label(name) for name in names)),
        [
            [
                f"{whole(row['events'])} events",
                time_text(row.get("time"), minutes=True) or DASH,
                whole(row.get("queries")),
                *(score(part(row, METRIC).get(name)) for name in names),
            ]
            for row in rows
        ],
    )
    return section(
        "curve",
        head,
        figure(charts, CURVE_CAPTION, panel, readout=readout),
        tag("details", tag("summary", "The numbers of this chart"), numbers),
    )


def _edges(pair: Any) -> tuple[float, float] | None:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        return None
    low, high = plain(pair[0]), plain(pair[1])
    return None if low is None or high is None else (max(low, 0.0), high)


def _read(row: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    day = time_text(row.get("time"), minutes=True)
    head = f"Window until event {whole(row['events'])}{f', {day}' if day else ''}: {whole(row.get('queries'))} queries"
    return [head, *(score(part(row, METRIC).get(name)) for name in names)]


def _panel(row: Mapping[str, Any], names: Sequence[str], chosen: Mapping[str, str]) -> Markup:
    """The newest window in words; the page's script puts another one in when the pointer asks."""
    head, *scores = _read(row, names)
    chips = [
        tag(
            "li",
            tag("span", class_=f"swatch {chosen.get(name, QUIET)}", aria_hidden="true"),
            f"{label(name)} ",
            tag("b", text),
        )
        for name, text in zip(names, scores, strict=True)
    ]
    return joined(tag("p", tag("b", head)), tag("ul", chips))


def weight_age(result: Mapping[str, Any]) -> Markup:
    """How much accuracy weights keep as they grow old: how often publishing pays."""
    head = "Accuracy against the age of the weights"
    points = [(_age(row), plain(row.get(METRIC)), row.get("queries")) for row in of(result, "weight_age")]
    if not points:
        return section("age", head, tag("p", "Only the live model was measured."))
    ours = value(result, OURS)
    peer = best_peer({name: value(result, name) for name in part(result, "results")})
    bar = value(result, peer) if peer else None
    level = (f"Best peer: {inline(peer)}", "s1", bar) if peer and bar is not None else None
    rows = [Dots(age, [("Headwater", "s0", each)]) for age, each, _ in points]
    text = "; ".join(f"{age}: {score(each)}" for age, each, _ in points) + (
        f"; {level[0]}: {score(bar)}" if level else ""
    )
    title = "NDCG@10 of Headwater by age of its weights"
    charts = [dots_chart("age-chart", title, text, rows, width, level) for width in (WIDE, NARROW)]
    numbers = table(
        title,
        ("Weights published", "NDCG@10", "Share of the live model's", "Queries"),
        [
            [age, score(each), f"{100 * each / ours:.1f}%" if each is not None and ours else DASH, whole(queries)]
            for age, each, queries in points
        ],
    )
    return section(
        "age",
        head,
        figure(charts, AGE_CAPTION + (" The best peer learns as it always does." if level else "")),
        numbers,
    )


def _age(row: Mapping[str, Any]) -> str:
    events = plain(row.get("age_events"))
    if events is None:
        return "Never after warm-up" if row.get("name") in (None, "frozen") else label(str(row["name"]))
    return "After every event" if events == 0 else f"Every {whole(events)} events"
