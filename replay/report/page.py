"""The pages that are made of results: the report of a backtest, and two of them side by side. Each is one HTML file.

Before: `replay.report.sections` and `replay.report.comparison` give the values. After: a browser, or a printer. A page
asks nothing of the network and runs one small script of its own (the read-out of the curve). The same result makes the
same bytes. Text of the data is escaped by the templates, whoever wrote it.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from replay.backtest.result import Result
from replay.report import sections, wording
from replay.report.classified import classification, turned_down
from replay.report.comparison import SPEEDS, Comparison, Moved, compare, further, leaves
from replay.report.diversity import diversity
from replay.report.importance import importance
from replay.report.sections import Charted, Rows, both
from replay.report.verdict import OURS, verdict
from replay.report.wording import DASH, counted, flat, label, number, score, signed, time_text, whole
from viewing.charts import Dots, Line, dots_chart, lines_chart

__all__ = ["write_comparison", "write_importance", "write_report"]

TEMPLATES = Path(__file__).parent / "templates"

OUTCOMES = {
    "better": ("▲", "Better than the best peer"),
    "level": ("=", "Cannot be told from the best peer"),
    "worse": ("▼", "Does not beat the best peer"),
    "unmeasured": ("?", "Not decided"),
}


@cache
def _templates() -> Environment:
    """Templates that escape every text, and replace what would not show in it or mislead."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=wording.printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "counted": counted, "described": wording.described, "label": label, "number": number, "whole": whole,
    }  # fmt: skip
    for name, file in (("style", "report.css"), ("script", "report.js")):
        source = (TEMPLATES / file).read_text("utf-8")
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        made.globals |= {name: Markup(source), f"{name}_digest": Markup(f"sha256-{digest}")}  # both are ours
    return made


def write_report(result: Result, path: Path) -> None:
    """Write the page of a result, from which a person decides whether to deploy.

    Raises
        OSError: The file cannot be written.
    """
    told = verdict(result)
    days = [day for row in result.curve if (day := time_text(row.time))]
    page = _templates().get_template("report.html").render(
        result=result,
        source=result.source.name or "a stream",
        until=days[-1] if days else "",
        verdict=told,
        outcome=OUTCOMES[told.outcome],
        tiles=sections.tiles(result),
        styles=sections.styles(result),
        groups=sections.groups_of_rankers(result),
        asked=sections.asked(result),
        measures=sections.measures(result),
        further=sections.further_measures(result),
        leads=sections.leads(result),
        curve=sections.curve(result),
        ages=sections.ages(result),
        types=sections.by_type(result),
        cold_and_warm=sections.cold_and_warm(result),
        second_stage=sections.second_stage(result),
        objectives=sections.objectives(result),
        coverage=sections.coverage(result),
        seeds=sections.seeds(result),
        meanings=sections.meanings(result),
        folds=sections.folds(result),
        turned_down=turned_down(result),
        shown=classification(result),
        diversity=diversity(result),
        relied=importance(result.importance),
        pace=sections.pace(result),
        settings=list(leaves(result.settings).items()),
        versions=flat(result.versions),
    )  # fmt: skip
    path.write_text(page, encoding="utf-8")


def write_importance(result: Result, path: Path) -> None:
    """Write the page of what the model goes by alone.

    Raises
        OSError: The file cannot be written.
    """
    page = _templates().get_template("importance.html").render(
        result=result, source=result.source.name or "a stream", relied=importance(result.importance)
    )  # fmt: skip
    path.write_text(page, encoding="utf-8")


def write_comparison(a: Result, b: Result, path: Path) -> None:
    """Write the page of two results. If the runs cannot be compared, the page says so first.

    Raises
        OSError: The file cannot be written.
    """
    found = compare(a, b)
    names = ["/".join((each.source.name or "a stream").split("/")[-2:]) for each in (a, b)]
    page = _templates().get_template("comparison.html").render(
        found=found,
        title=names[0] if names[0] == names[1] else f"{names[0]} and {names[1]}",
        runs=_runs(a, b),
        measures=_measures(found),
        charts=_both_scores(found),
        curves=_curves(a, b),
        further=[
            (title, [[name, score(each.a), score(each.b), signed(each.change)] for name, each in rows])
            for title, rows in further(found)
        ],
        meanings=[[kind, *each] for kind, each in found.meanings.items()],
        settings=[[name, *each] for name, each in found.settings.items()],
        versions=[[name, *each] for name, each in found.versions.items()],
        speed=[
            [SPEEDS[key], number(each.a), number(each.b), DASH if each.change is None else f"{each.change:.2f}"]
            for key, each in found.speed.items()
        ],
    )  # fmt: skip
    path.write_text(page, encoding="utf-8")


def _runs(a: Result, b: Result) -> Rows:
    runs = (a, b)
    return [
        ["Source", *(each.source.name or DASH for each in runs)],
        ["Rows read", *(whole(each.source.rows) for each in runs)],
        ["Rows refused", *(counted(each.source.bad) for each in runs)],
        ["Events", *(whole(each.events) for each in runs)],
        ["Warm-up, events", *(whole(each.warm_up) for each in runs)],
        ["Queries", *(whole(each.queries) for each in runs)],
        ["Weights at the end", *(Markup("<code>{}</code>").format((each.digest or DASH)[:16]) for each in runs)],
    ]


def _measures(found: Comparison) -> list[tuple[str, Rows]]:
    """A table for each measure of the first ranker, NDCG@10 first."""
    shared = found.results
    heads = next(iter(shared.values())) if shared else {}
    return [
        (
            head.upper(),
            [
                [label(name), score(each[head].a), score(each[head].b), signed(each[head].change)]
                for name, each in shared.items()
                if head in each
            ],
        )
        for head in heads
    ]


def _both_scores(found: Comparison) -> Markup:
    scores = {name: each.get("ndcg@10", Moved(None, None, None)) for name, each in found.results.items()}
    rows = [Dots(label(name), [("A", "s1", each.a), ("B", "s0", each.b)]) for name, each in scores.items()]
    text = "; ".join(f"{label(name)}: A {score(each.a)}, B {score(each.b)}" for name, each in scores.items())
    return both(lambda width: dots_chart("both", "NDCG@10 in A and B", text, rows, width))


def _curves(a: Result, b: Result) -> Charted | None:
    """Headwater's two curves, where both have the same windows."""
    at = [float(row.events) for row in a.curve]
    if not at or at != [float(row.events) for row in b.curve]:
        return None
    lines = [
        Line(name, style, [row.ndcg.get(OURS) for row in each.curve], [None] * len(at))
        for name, style, each in (("A", "s1", a), ("B", "s0", b))
    ]
    days = (time_text(a.curve[0].time), time_text(a.curve[-1].time) if len(at) > 1 else "")
    text = "; ".join(f"{each.label} from {score(each.values[0])} to {score(each.values[-1])}" for each in lines)
    return Charted(
        "NDCG@10 by window",
        both(lambda width: lines_chart("curves", "NDCG@10 of Headwater over time", text, lines, at, days, width)),
        ("Window ends after", "A", "B"),
        [
            [f"{whole(events)} events", score(first), score(second)]
            for events, first, second in zip(at, lines[0].values, lines[1].values, strict=True)
        ],
    )
