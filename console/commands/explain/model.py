"""`headwater explain model`: learns a past stream, and tells what the model goes by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.commands.backtest import (
    InputOptions,
    ModelOptions,
    Running,
    known_items,
    settings_of,
    writable,
)
from console.commands.option_groups import grouped
from console.commands.options import Json, json_fields
from console.commands.source_options import SourceNames, SourceOptions, opened_source, too_many_bad
from console.printing import printer

if TYPE_CHECKING:
    from rich.table import Table

    from replay.backtest.result import PartImportance

FACTS_SHOWN = 15
"""Facts of the ranker that a terminal shows."""


@dataclass(frozen=True)
class HowMuch:
    """How much is learned, and how much asked."""

    warm_up: Annotated[float, typer.Option(min=0, help="Learned before the first question: share or events.")] = 0.8
    queries: Annotated[int, typer.Option(min=1, help="How many queries are asked, about.")] = 1000
    report: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write it as a page with pictures.")] = None


@grouped
def command(
    *,
    sources: SourceNames,
    asked: HowMuch,
    taken: InputOptions,
    model: ModelOptions,
    reading: SourceOptions,
    running: Running,
    as_json: Json = False,
) -> None:
    """What the model goes by: parts, facts of the ranker, what is lost without each. Nothing is sent anywhere."""
    import orjson

    from console.backtest_shown import live
    from headwater.errors import SettingsError
    from replay.backtest import Options, backtest
    from replay.report import write_importance

    writable((asked.report,), (*map(Path, sources), taken.items, taken.meaning.signals))
    settings = settings_of(running, taken.meaning)
    chosen = opened_source(sources, settings, reading)
    options = Options(
        warm_up=asked.warm_up,
        explained=asked.queries,
        limit=taken.limit,
        overrides=json_fields(model.override or (), "--set"),
        device=model.device,
    )
    with live() as tell:
        result = backtest(chosen, options, settings, items=known_items(chosen, taken, reading), on_progress=tell)
    told = result.importance
    if told is None:
        raise SettingsError("no query after the warm-up could be asked: learn from more events (--warm-up)")
    if asked.report is not None:
        write_importance(result, asked.report)
    if as_json:
        print(orjson.dumps(told.model_dump(mode="json", by_alias=True)).decode())
    else:
        out = printer()
        out.print(
            f"{told.queries:,} queries after {result.warm_up:,} events of {result.source.name}: "
            f"NDCG@10 {told.ndcg_10:.4f}"
        )
        out.print(_table("part of the model", told.parts))
        if told.facts:
            out.print(_table("fact of the ranker", dict(list(told.facts.items())[:FACTS_SHOWN])))
            if len(told.facts) > FACTS_SHOWN:
                out.print(f"[dim]and {len(told.facts) - FACTS_SHOWN} other facts: --json, --report FILE.html")
        out.print(
            "[dim]apart: what it adds to the ten best, less what it adds to the item in the middle. left out, "
            "permuted: NDCG@10 lost where it adds nothing, or to each item what it adds to another."
        )
    if too_many_bad(chosen, reading):
        raise typer.Exit(1)


def _table(head: str, parts: dict[str, PartImportance]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(head, style="cyan")
    for column in ("adds", "apart", "left out", "permuted"):
        table.add_column(column, justify="right")
    for name, one in parts.items():
        sizes = [f"{one.contribution:.3f}", f"{one.apart:.3f}", f"{one.left_out:+.4f}", f"{one.permuted:+.4f}"]
        table.add_row(escape(name), *sizes)
    return table
