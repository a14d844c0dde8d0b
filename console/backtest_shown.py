"""What a person sees of a backtest: a live table while it runs, and the tables at its end.

Before: `replay.backtest`, its progress reports and its result. After: the terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from console.printing import printer

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from replay.backtest import BacktestProgress, Result
    from replay.backtest.result import Classification, Estimate, Interval, RankerFigures, Spread

__all__ = ["live", "summary"]

FEW_PARTS = 8
"""More parts of the queries than this, and than rankers, stand below each other."""


@contextmanager
def live() -> Iterator[Callable[[BacktestProgress], None]]:
    """Shows on stderr how far a backtest is, for the length of a block; silent where stderr is no terminal."""
    from rich.live import Live

    console = printer(stderr=True)
    if not console.is_terminal:
        yield lambda _progress: None
        return
    with Live(console=console, transient=True, refresh_per_second=4) as shown:
        yield lambda progress: shown.update(_running(progress))


def _running(progress: BacktestProgress) -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    total = progress.total
    share = f"{progress.events / total:.0%} of {total:,}" if total else ""
    left = progress.left_s
    line = Table.grid(padding=(0, 2))
    line.add_row(
        progress.phase,
        ProgressBar(total=total, completed=progress.events, width=30, pulse=total is None),
        f"{progress.events:,} events {share}",
        f"{progress.events_per_s:,.0f}/s",
        f"{timedelta(seconds=round(left))} left" if left is not None else "",
    )
    if not progress.ndcg:
        return line
    table = Table(box=None)
    table.add_column("ranker")
    table.add_column("NDCG@10", justify="right")
    for name, value in sorted(progress.ndcg.items(), key=lambda pair: -pair[1]):
        table.add_row(name, f"{value:.4f}")
    return Group(line, f"NDCG@10 of the newest of {progress.queries:,} queries", table)


def summary(result: Result) -> Iterator[RenderableType]:
    """The result for a reader: what was read and asked, the rankers, the slices, and what it cost."""
    from replay.report.wording import whole

    source, settings = result.source, result.settings
    yield f"{source.name}: {whole(source.events)} events of {whole(source.rows or source.events)} rows"
    if source.bad:
        counts = ", ".join(f"{count:,} {reason}" for reason, count in source.bad.items())
        yield f"Refused: {counts}. First: {'; '.join(source.first_bad)}"
    if source.left_out:
        yield f"No events: {', '.join(f'{count:,} {reason}' for reason, count in source.left_out.items())}"
    if source.without_example:
        reasons = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in source.without_example.items())
        yield f"Events that teach nothing: {reasons}."
    if source.duplicates:
        yield f"{source.duplicates:,} repeat the id of an earlier event of their user: they count once."
    if result.meanings:
        yield f"Types: {'; '.join(_meanings(result))}."
    unmet = sorted(set(result.settings.config.get("signals", {})) - result.meanings.keys())
    if unmet:
        yield f"Meanings are set for types that this stream does not have: {', '.join(unmet)}."
    asked = result.events - result.warm_up
    reasons = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in result.excluded.items())
    rule = {(): "none", ("*",): "all"}.get(tuple(settings.rule), ", ".join(settings.rule))
    share = _cell(result.excluded_share, ".1%")
    auto = " (auto)" if settings.exclude_seen == ["auto"] else ""
    yield (
        f"Learned from {result.warm_up:,} events first; of the {asked:,} after, {result.queries:,} were queries "
        f"and {share} could not be asked: {reasons}. Seen items not shown again: {rule}{auto}."
    )
    if result.results:
        yield _rankers(result)
        yield _slices(result)
    if result.ranker is not None and result.ranker.by_type:
        yield _objectives(result.ranker)
    if result.negatives is not None:
        yield _turned_down(result)
    if result.classification is not None:
        yield from _classification(result.classification)
    if result.fold_spread:
        yield _folds(result)
    for name in result.by_seed:
        each = result.seeds(name)
        if len(each) > 1:
            yield f"NDCG@10 of {name} by seed: {', '.join(f'{value:.4f}' for value in each)}"
    yield (
        f"{whole(result.seconds)} s, {whole(result.events_per_s)} events/s; our learner alone "
        f"{whole(result.learner_events_per_s)}/s; peak memory {whole(result.peak_rss_mb)} MB."
    )


def _rankers(result: Result) -> Table:
    from rich.table import Table

    table = Table(title="Identical queries for all; headwater minus each with 95% interval over users")
    table.add_column("ranker")
    for head in ("NDCG@10", "HR@10", "MRR@10", "NDCG@20", "by user", "coverage", "novelty", "headwater minus it"):
        table.add_column(head, justify="right")
    for name, row in sorted(result.results.items(), key=lambda pair: -(pair[1].ndcg_10 or 0.0)):
        found = result.lead(name)
        table.add_row(
            name,
            *(_cell(value, ".4f") for value in (row.ndcg_10, row.hr_10, row.mrr_10, row.ndcg_20, row.user_ndcg_10)),
            _cell(row.coverage_10, ".1%"),
            _cell(row.novelty_10, ".2f", " bit"),
            "" if found is None else f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]",
            style="bold" if name == "headwater" else None,
        )
    return table


def _cell(value: float | None, form: str, unit: str = "") -> str:
    return "" if value is None else f"{value:{form}}{unit}"


def _slices(result: Result) -> Table:
    from rich.table import Table

    parts = {name.replace("_", " "): row for name, row in result.groups.items()}
    parts |= {f"type {name}": row for name, row in result.by_type.items() if len(result.by_type) > 1}
    table = Table(title="NDCG@10 by part of the queries")
    if len(parts) > max(len(result.results), FEW_PARTS):
        for head in ("part", "queries", *result.results):
            table.add_column(head, justify="left" if head == "part" else "right")
        for name, row in parts.items():
            table.add_row(name, f"{row.queries:,}", *(_cell(row.ndcg.get(each), ".4f") for each in result.results))
        return table
    table.add_column("ranker")
    for name, row in parts.items():
        table.add_column(f"{name}\n{row.queries:,}", justify="right")
    for name in result.results:
        table.add_row(name, *(_cell(row.ndcg.get(name), ".4f") for row in parts.values()))
    return table


def _objectives(ranker: RankerFigures) -> Table:
    """What each type's head was worth: an answer by `objectives = {type: 1}` beside one without."""
    from rich.table import Table

    table = Table(title="Objectives: queries of each type, with a surface that weighs it and without")
    for head in ("type", "queries", "NDCG@10", "without", "HR@10", "without", "share"):
        table.add_column(head, justify="left" if head == "type" else "right")
    for name, one in sorted(ranker.by_type.items(), key=lambda pair: -pair[1].queries):
        scores = (one.ndcg, one.ndcg_without, one.hr, one.hr_without)
        table.add_row(name, f"{one.queries:,}", *(f"{score:.4f}" for score in scores), f"{one.share:.0%}")
    return table


def _meanings(result: Result) -> Iterator[str]:
    """Each type with its count and what it meant."""
    from replay.report.wording import meant

    unnamed = [f"{sum(each.events.values()):,} {kind}" for kind, each in result.meanings.items() if not each.known]
    for kind, each in result.meanings.items():
        if not each.known:
            continue
        count = sum(each.events.values())
        parts = [f"{share / count:.0%} {name}" for name, share in each.events.items() if count]
        items = f" of {each.items:,} items" if each.items is not None and each.items != count else ""
        divided = f" ({', '.join(parts)})" if len(parts) > 1 else ""
        yield f"{count:,} {kind}{items}: {meant(each.signal)}{divided}"
    if unnamed:
        yield f"positive, since nobody has named them: {', '.join(unnamed)}"


def _turned_down(result: Result) -> Table:
    from rich.table import Table

    told = result.negatives
    assert told is not None
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in told.by_type.items()) or f"{told.events:,}"
    table = Table(title=f"Turned down next ({kinds}): the share that a list of ten would have held")
    table.add_column("ranker")
    for head in ("turned down", "chosen", "chosen above turned down", "headwater minus it"):
        table.add_column(head, justify="right")
    for name, row in sorted(told.by_ranker.items(), key=lambda pair: pair[1].in_top_10 or 0.0):
        hits = result.results[name].hr_10 if name in result.results else None
        table.add_row(
            name,
            _cell(row.in_top_10, ".1%"),
            _cell(hits, ".1%"),
            _cell(row.auc, ".4f"),
            _between(row.lead),
            style="bold" if name == "headwater" else None,
        )
    return table


def _between(found: Interval | None) -> str:
    return "" if found is None else f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def _classification(told: Classification) -> Iterator[RenderableType]:
    from rich.table import Table

    from replay.report.verdict import told_apart
    from replay.report.wording import called_from

    yield told_apart(told)
    title = (
        f"What was shown: {told.items:,} items in {told.lists:,} lists to {told.users:,} users, "
        f"{told.reacted:,} reacted to; 95% intervals over users"
    )
    table = Table(title=title)
    table.add_column("scorer")
    heads = ("ROC-AUC", "by user", "each user alike", "MRR in list", "NDCG@10 in list", "log loss", "calibration error")
    for head in heads:
        table.add_column(head, justify="right")
    called = Table(title=f"Called or not: threshold of the highest F1 on the {told.chosen_on or 'past'}")
    called.add_column("scorer")
    for head in ("threshold", "precision", "recall", "F1", "accuracy", "called right", "wrong", "missed", "left right"):
        called.add_column(head, justify="right")
    for name, row in told.scorers.items():
        style = "bold" if name == "headwater" else None
        grouped = (row.grouped.weighted, row.grouped.unweighted) if row.grouped else (None, None)
        table.add_row(
            name,
            *map(_estimate, (row.auc, *grouped, row.mrr, row.ndcg_10, row.log_loss)),
            _cell(row.calibration_error, ".4f"),
            style=style,
        )
        if (at := row.at_threshold) is not None:
            shares = (f"{each:.1%}" for each in (at.precision, at.recall))
            counts = (at.true_positive, at.false_positive, at.false_negative, at.true_negative)
            right = f"{at.accuracy:.1%}"
            called.add_row(
                name,
                called_from(at.threshold),
                *shares,
                f"{at.f1:.4f}",
                right,
                *(f"{n:,}" for n in counts),
                style=style,
            )
    yield table
    if called.row_count:
        yield called
    if told.by_type:
        kinds = Table(title="Each type of reaction by the chance of it alone")
        kinds.add_column("reaction")
        for head in ("items shown", "with it", "ROC-AUC", "MRR in list", "log loss"):
            kinds.add_column(head, justify="right")
        for kind, each in told.by_type.items():
            figures = (_cell(one, ".4f") for one in (each.auc, each.mrr, each.log_loss))
            kinds.add_row(kind, f"{each.items:,}", f"{each.reacted:,}", *figures)
        yield kinds


def _estimate(found: Estimate | None) -> str:
    if found is None:
        return ""
    return f"{found.value:.4f}" if found.low is None else f"{found.value:.4f}\n{found.low:.3f}–{found.high:.3f}"


def _folds(result: Result) -> Table:
    from rich.table import Table

    asked = sum(fold.queries > 0 for fold in result.folds)
    table = Table(title=f"Mean of {asked} folds ± deviation, and their range")
    table.add_column("ranker")
    for head in ("NDCG@10", "HR@10", "MRR@10"):
        table.add_column(head, justify="right")
    order = sorted(result.fold_spread.items(), key=lambda pair: -(pair[1].ndcg_10.mean if pair[1].ndcg_10 else 0.0))
    for name, row in order:
        cells = map(_spread, (row.ndcg_10, row.hr_10, row.mrr_10))
        table.add_row(name, *cells, style="bold" if name == "headwater" else None)
    return table


def _spread(found: Spread | None) -> str:
    if found is None:
        return ""
    deviation = "" if found.deviation is None else f" ± {found.deviation:.4f}"
    return f"{found.mean:.4f}{deviation}\n{found.least:.4f} to {found.most:.4f}"
