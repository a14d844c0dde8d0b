"""What a report shows of what was shown and of what was turned down: charts and tables, as values for the templates.

Before: a `Result` with a `classification`, or `negatives`. After: `replay.report.page`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from markupsafe import Markup

from replay.backtest.result import AtThreshold, Classification, Classifier, Estimate, Interval, RankerNegatives, Result
from replay.report.sections import Charted, Column, Rows, both, groups_of_rankers, led
from replay.report.squares import HALF, Bars, Cells, ScorerCurve, matrix_chart, spread_chart, square_chart
from replay.report.verdict import OURS, told_apart
from replay.report.wording import DASH, called_from, label, percent, score, signed, whole
from viewing.charts import NARROW, QUIET, Dots, dots_chart

__all__ = ["Classified", "classification", "turned_down"]


class Classified(NamedTuple):
    """What the section of what was shown shows.

    Fields
        sentence: what it comes to, in words.
        names: the scorers, ours first; styles: theirs.
        apart, ordered, thresholds: columns by scorer.
        pictures: charts, each with its caption.
        bins: calibration as a table.
        types: of each type of reaction, as a table.
    """

    told: Classification
    sentence: str
    names: list[str]
    styles: dict[str, str]
    apart: list[Column]
    ordered: list[Column]
    thresholds: list[Column]
    pictures: list[tuple[Markup, str]]
    bins: Rows
    types: Rows


Scorers = Mapping[str, Classifier]


def turned_down(result: Result) -> tuple[Charted, list[Column]] | None:
    """How often a list of ten held what was chosen next, and how often what was turned down next; by ranker."""
    told = result.negatives
    if told is None or not told.events:
        return None
    found = told.by_ranker or {OURS: RankerNegatives(in_top_10=told.in_top_10)}
    order = [name for _, members in groups_of_rankers(result) for name in members if name in found]
    liked = {name: result.results[name].hr_10 for name in order}
    rows = [
        Dots(
            label(name),
            [("Turned down next", "s1", found[name].in_top_10), ("Chosen next", "s0", liked[name])],
        )
        for name in order
    ]
    text = "; ".join(
        f"{label(name)}: turned down {percent(found[name].in_top_10)}, chosen {percent(liked[name])}" for name in order
    )
    title = "Share that would have stood among the first ten"
    columns = [
        Column("Turned down", {name: percent(found[name].in_top_10) for name in order}),
        Column("Headwater minus it", {name: _interval(found[name].lead, less=True) for name in order}),
        Column("Chosen", {name: percent(liked[name]) for name in order}),
        Column("Chosen above turned down", {name: score(found[name].auc) for name in order}),
    ]
    charts = both(lambda width: dots_chart("against-chart", title, text, rows, width))
    return Charted(title, charts, (), []), columns


def classification(result: Result) -> Classified | None:
    """What was shown and what became of it."""
    told = result.classification
    if told is None or not told.scorers:
        return None
    names = sorted(told.scorers, key=lambda name: name != OURS)
    styles = {name: f"s{i}" if i < 5 else "quiet" for i, name in enumerate(names)}
    found = told.scorers
    bins = [
        [label(name), whole(each.items), percent(each.chance), percent(each.reacted)]
        for name in names
        for each in found[name].calibration
    ]
    return Classified(
        told=told,
        sentence=told_apart(told),
        names=names,
        styles=styles,
        apart=_apart(told, names),
        ordered=_ordered(told, names),
        thresholds=_thresholds(told, names),
        pictures=_pictures(told, names, styles),
        bins=bins,
        types=[
            [kind, whole(each.items), whole(each.reacted), score(each.auc), score(each.mrr), score(each.log_loss)]
            for kind, each in told.by_type.items()
        ],
    )


def _estimates(head: str, found: Mapping[str, Estimate | None], *, less: bool = False) -> Column:
    """A column of figures with their intervals; the best is bold."""
    values = {name: each for name, each in found.items() if each is not None}
    scored = {name: score(each.value) for name, each in values.items()}
    best = (min if less else max)(scored.values(), default="")
    cells = {name: Markup("{}{}").format(scored[name], _ends(each)) for name, each in values.items()}
    return Column(head, cells, frozenset(name for name in scored if len(scored) > 1 and scored[name] == best))


def _apart(told: Classification, names: list[str]) -> list[Column]:
    """Whether what was reacted to is told from what was not."""
    found = {name: told.scorers[name] for name in names}
    grouped = {name: each.grouped for name, each in found.items()}
    return [
        _estimates("ROC-AUC", {name: each.auc for name, each in found.items()}),
        Column("Headwater's lead", {name: _interval(each.auc_lead) for name, each in found.items()}),
        _estimates("By user", {name: each.weighted if each else None for name, each in grouped.items()}),
        Column("Lead by user", {name: _interval(each.lead if each else None) for name, each in grouped.items()}),
        _estimates("Each user alike", {name: each.unweighted if each else None for name, each in grouped.items()}),
    ]


def _ordered(told: Classification, names: list[str]) -> list[Column]:
    """How the lists would have stood, and whether chances hold."""
    found = {name: told.scorers[name] for name in names}
    columns = [
        _estimates("MRR in its list", {name: each.mrr for name, each in found.items()}),
        Column("Lead in MRR", {name: _interval(each.mrr_lead) for name, each in found.items()}),
        _estimates("NDCG@10 in its list", {name: each.ndcg_10 for name, each in found.items()}),
        _estimates("Log loss", {name: each.log_loss for name, each in found.items()}, less=True),
        Column("Calibration error", {name: score(each.calibration_error) for name, each in found.items()}),
    ]
    return [each for each in columns if set(each.cells.values()) - {DASH}]


def _ends(each: Estimate) -> Markup:
    if each.low is None or each.high is None:
        return Markup()
    return Markup('<span class="about">{} to {}</span>').format(score(each.low), score(each.high))


def _interval(found: Interval | None, *, less: bool = False) -> str:
    if found is None:
        return DASH
    ends = signed(found.low), signed(found.high)
    return Markup('{}<span class="about">{} to {}</span>').format(led(found, less=less), *ends)


def _thresholds(told: Classification, names: list[str]) -> list[Column]:
    found = {name: each for name in names if (each := told.scorers[name].at_threshold) is not None}

    def column(head: str, of: Callable[[AtThreshold], str]) -> Column:
        return Column(head, {name: of(each) for name, each in found.items()})

    if not found:
        return []
    return [
        column("Threshold", lambda each: called_from(each.threshold)),
        column("Precision", lambda each: percent(each.precision)),
        column("Recall", lambda each: percent(each.recall)),
        column("F1", lambda each: score(each.f1)),
        column("Accuracy", lambda each: percent(each.accuracy)),
        column("Rightly called", lambda each: whole(each.true_positive)),
        column("Wrongly called", lambda each: whole(each.false_positive)),
        column("Missed", lambda each: whole(each.false_negative)),
        column("Rightly left", lambda each: whole(each.true_negative)),
    ]


Picture = tuple[Markup, str]
"""A chart in both of its widths, and its caption."""


def _pictures(told: Classification, names: list[str], styles: dict[str, str]) -> list[Picture]:
    found = {name: told.scorers[name] for name in names}
    drawn = (
        _roc(found, styles),
        _precision_recall(found, styles),
        _calibration(found, styles),
        _by_user(found, styles),
        _confusion(found),
        _log_loss(found),
    )
    return [each for each in drawn if each is not None]


def _roc(found: Scorers, styles: dict[str, str]) -> Picture | None:
    curves = [ScorerCurve(label(name), styles[name], each.roc) for name, each in found.items() if each.roc]
    text = "; ".join(f"{label(name)}: area {score(each.auc.value)}" for name, each in found.items() if each.auc)
    caption = "ROC curve. The dashed diagonal knows nothing; further up and left is better."
    axes = ("share of the rest called", "share of the reactions found")
    return _square("roc", ("ROC curve", text), curves, axes, caption, "diagonal")


def _precision_recall(found: Scorers, styles: dict[str, str]) -> Picture | None:
    curves = [
        ScorerCurve(label(name), styles[name], each.precision_recall)
        for name, each in found.items()
        if each.precision_recall
    ]
    text = "; ".join(
        f"{label(name)}: precision {percent(at.precision)} at recall {percent(at.recall)}"
        for name, each in found.items()
        if (at := each.at_threshold)
    )
    caption = "Precision against recall, as the threshold falls; further up and right is better."
    axes = ("recall: share of the reactions found", "precision: share of the called reacted to")
    return _square("precision", ("Precision and recall", text), curves, axes, caption)


def _calibration(found: Scorers, styles: dict[str, str]) -> Picture | None:
    dots = [
        ScorerCurve(label(name), styles[name], [(each_bin.chance, each_bin.reacted) for each_bin in each.calibration])
        for name, each in found.items()
        if each.calibration
    ]
    text = "; ".join(
        f"{each.label}: " + ", ".join(f"{percent(chance)} said, {percent(share)} came" for chance, share in each.points)
        for each in dots
    )
    caption = "Calibration: ten bins of as many items each. On the diagonal a chance is what it says."
    axes = ("chance that was given", "share that was reacted to")
    return _square("calibration", ("Calibration", text), dots, axes, caption, "diagonal points")


def _square(
    key: str, told: tuple[str, str], curves: list[ScorerCurve], axes: tuple[str, str], caption: str, draw: str = ""
) -> Picture | None:
    if not curves:
        return None
    return _halves(lambda width: square_chart(key, *told, curves, axes, width, draw)), caption


def _log_loss(found: Scorers) -> Picture | None:
    end = "end of its interval"
    rows = [
        Dots(label(name), [("Log loss", "s0", one.value), (end, QUIET, one.low), (end, QUIET, one.high)])
        for name, each in found.items()
        if (one := each.log_loss)
    ]
    if not rows:
        return None
    text = "; ".join(f"{row.label}: {score(row.dots[0][2])}" for row in rows)
    charts = _halves(lambda width: dots_chart("log-loss", "Log loss", text, rows, width))
    return charts, "Log loss with its 95% interval; further left is better."


def _confusion(found: Scorers) -> Picture | None:
    at = found[OURS].at_threshold if OURS in found else None
    if at is None:
        return None
    reacted, rest = (at.true_positive, at.false_negative), (at.false_positive, at.true_negative)
    cells = Cells(("Reacted to", "Not"), ("Called", "Not called"), (reacted, rest))
    text = (
        f"reacted to: {whole(reacted[0])} called, {whole(reacted[1])} not; not reacted to: {whole(rest[0])} called, "
        f"{whole(rest[1])} not"
    )
    charts = _halves(lambda width: matrix_chart("confusion", "Confusion matrix", text, cells, width))
    return charts, f"Headwater's confusion matrix: called is what has a chance of {score(at.threshold)} or more."


def _by_user(found: Scorers, styles: dict[str, str]) -> Picture | None:
    grouped = {name: each.grouped for name, each in found.items() if each.grouped and sum(each.grouped.histogram)}
    if not grouped:
        return None
    bars = [Bars(label(name), styles[name], each.histogram) for name, each in grouped.items()]
    text = "; ".join(
        f"{label(name)}: mean {score(each.unweighted.value)} of {whole(each.users)} users"
        for name, each in grouped.items()
    )
    axes = ("ROC-AUC of a user", "share of users")
    charts = _halves(lambda width: spread_chart("by-user", "ROC-AUC by user", text, bars, axes, width))
    return charts, "ROC-AUC within each user who reacted to some of what was shown and not to the rest."


def _halves(draw: Callable[[int], Markup]) -> Markup:
    """A chart in both of its widths, the wide one half of the page's."""
    return draw(HALF) + draw(NARROW)
