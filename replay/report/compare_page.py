"""Two backtests side by side as one HTML file.

Before: two results and `replay.report.compare`. After: a browser. If the runs cannot be compared, the page says so
first.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from replay.report.charts import NARROW, WIDE, Dots, Line, dots_chart, lines_chart
from replay.report.compare import SPEEDS, compare
from replay.report.markup import Child, Markup, page, tag
from replay.report.tables import figure, note, section, table
from replay.report.verdict import METRIC, OURS, of, part
from replay.report.wording import DASH, label, number, plain, score, signed, time_text, whole

__all__ = ["write_comparison"]


def write_comparison(a: dict[str, Any], b: dict[str, Any], path: Path) -> None:
    """Write the page of two results. Raises OSError when the file cannot be written."""
    found = compare(a, b)
    body = (_top(a, b, found), _runs(a, b), _results(found), _curves(a, b), _differing(found), _speed(found))
    path.write_text(page("Two backtests compared", *body), encoding="utf-8")


def _top(a: Mapping[str, Any], b: Mapping[str, Any], found: dict[str, Any]) -> Markup:
    if not found["comparable"]:
        tone, sign, words = "worse", "✕", "Not comparable"
    else:
        tone, sign, words = "unmeasured", "⇄", "Same source, same queries"
    reasons = tag("ul", *(tag("li", reason) for reason in found["reasons"])) if found["reasons"] else None
    verdict = tag(
        "div",
        tag("p", tag("span", sign, class_="sign", aria_hidden="true"), words, class_="outcome"),
        tag("p", found["verdict"], class_="sentence"),
        tag("div", reasons, class_="minds") if reasons else None,
        class_=f"verdict {tone}",
    )
    names = ["/".join(str(part(result, "source").get("name") or "a stream").split("/")[-2:]) for result in (a, b)]
    title = names[0] if names[0] == names[1] else f"{names[0]} and {names[1]}"
    return tag("header", tag("p", "Two Headwater backtests: A and B", class_="over"), tag("h1", title), verdict)


def _runs(a: Mapping[str, Any], b: Mapping[str, Any]) -> Markup:
    def bad(result: Mapping[str, Any]) -> str:
        counts = part(result, "source", "bad")
        return "; ".join(f"{whole(counts[reason])} {reason}" for reason in sorted(counts)) or "none"

    counts = (("events", "Events"), ("warm_up", "Warm-up, events"), ("queries", "Queries"))
    rows: list[list[Child]] = [
        ["Source", *(str(part(each, "source").get("name") or DASH) for each in (a, b))],
        ["Rows read", *(whole(part(each, "source").get("rows")) for each in (a, b))],
        ["Rows refused", bad(a), bad(b)],
        ["Weights at the end", *(tag("code", str(each.get("digest") or DASH)[:16]) for each in (a, b))],
    ]
    rows[3:3] = [[words, whole(a.get(key)), whole(b.get(key))] for key, words in counts]
    return section("measured", "What was measured", table("The two runs", ("", "A", "B"), rows, words=True))


def _results(found: dict[str, Any]) -> Markup:
    shared = found["results"]
    if not shared:
        return section("results", "Results", tag("p", "The two runs have no ranker in common."))
    rows = []
    for name, got in shared.items():
        first, second, _ = got.get(METRIC, [None] * 3)
        rows.append(Dots(label(name), [("A", "s1", first), ("B", "s0", second)]))
    text = "; ".join(f"{row.label}: A {score(row.dots[0][2])}, B {score(row.dots[1][2])}" for row in rows)
    charts = [dots_chart("both", "NDCG@10 in A and B", text, rows, width) for width in (WIDE, NARROW)]
    measures = list(next(iter(shared.values())))
    further = [
        table(
            measure.upper(),
            ("Ranker", "A", "B", "B − A"),
            [
                [label(name), *(score(each) for each in got.get(measure, [None] * 3)[:2]), signed(got[measure][2])]
                for name, got in shared.items()
                if measure in got
            ],
        )
        for measure in measures
    ]
    alone = [
        note(f"Only in {which}: {', '.join(label(name) for name in found[key])}.")
        for which, key in (("A", "only_a"), ("B", "only_b"))
        if found[key]
    ]
    more = tag("details", tag("summary", "Further measures"), further[1:]) if len(further) > 1 else None
    return section("results", "Results", figure(charts, "Further right ranks better."), further[0], *alone, more)


def _curves(a: Mapping[str, Any], b: Mapping[str, Any]) -> Markup:
    """Headwater's two curves, where both have the same windows."""
    rows = (of(a, "curve"), of(b, "curve"))
    at = [[plain(row.get("events")) for row in each] for each in rows]
    head = "NDCG@10 of Headwater over time"
    if not at[0] or at[0] != at[1] or None in at[0]:
        return section("curve", head, tag("p", "The two runs have no windows in common."))
    lines = [
        Line(name, style, [plain(part(row, METRIC).get(OURS)) for row in each], [None] * len(each))
        for name, style, each in (("A", "s1", rows[0]), ("B", "s0", rows[1]))
    ]
    places = [each for each in at[0] if each is not None]
    days = (time_text(rows[0][0].get("time")), time_text(rows[0][-1].get("time")) if len(places) > 1 else "")
    text = "; ".join(f"{each.label} from {score(each.values[0])} to {score(each.values[-1])}" for each in lines)
    charts = [lines_chart("curves", head, text, lines, places, days, width) for width in (WIDE, NARROW)]
    numbers = table("NDCG@10 by window", ("Window ends after", "A", "B"), [
        [f"{whole(events)} events", score(first), score(second)]
        for events, first, second in zip(places, lines[0].values, lines[1].values, strict=True)
    ])  # fmt: skip
    made = tag("details", tag("summary", "The numbers of this chart"), numbers)
    return section("curve", head, figure(charts, "Each point is one window of the stream, at its end."), made)


def _differing(found: dict[str, Any]) -> Markup:
    tables: list[Child] = []
    for key in ("settings", "versions"):
        rows = [[name, tag("code", first), tag("code", second)] for name, (first, second) in found[key].items()]
        title = f"{key.capitalize()} that differ"
        tables.append(table(title, ("Name", "A", "B"), rows, words=True) if rows else tag("p", f"No {key} differ."))
    return section("settings", "What was set differently", *tables)


def _speed(found: dict[str, Any]) -> Markup:
    rows = [
        [SPEEDS[key], number(first), number(second), DASH if ratio is None else f"{ratio:.2f}"]
        for key, (first, second, ratio) in found["speed"].items()
    ]
    return section("speed", "Speed and memory", table("Speed and memory", ("", "A", "B", "B / A"), rows))
