"""`headwater replay`: lets a past stream happen again, in a world of its own or as a backtest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.commands import backtest, explain
from console.commands.option_groups import grouped
from console.commands.options import Data, Json, Kafka
from console.commands.source_options import (
    Catalogue,
    Limit,
    SourceNames,
    SourceOptions,
    opened_source,
    tell_refused_items,
    too_many_bad,
)
from console.local import DEFAULT_DATA
from console.sending import end_of_sending, waited

if TYPE_CHECKING:
    from replay import ReplayReport

app = typer.Typer(no_args_is_help=True, help="Let a past stream happen again.")
app.command("backtest")(backtest.command)
app.command("compare")(backtest.compare_command)
app.command("explain")(explain.answer.command)


@app.callback()
def group() -> None:
    """Let a past stream happen again."""


@dataclass(frozen=True)
class Pace:
    """Where a stream is sent, how fast, and how much of it."""

    prefix: Annotated[str | None, typer.Option(help="World to replay into; its topics are made when missing.")] = None
    speed: Annotated[str, typer.Option(help='"60x" the events\' own clock, "500/s", or "max".')] = "max"
    limit: Limit = None


@app.command("stream")
@grouped
def stream_command(
    sources: SourceNames,
    pace: Pace,
    reading: SourceOptions,
    catalogue: Catalogue = True,
    kafka: Kafka = None,
    data: Data = DEFAULT_DATA,
    as_json: Json = False,
) -> None:
    """Send the events of a file or of a Kafka range again. Workers of that world do with them what they always do.

    Ends when these have read them, and says what they refused: exit code 1.
    """
    from console.local.addresses import located_settings
    from console.look.refusals import RefusalWatch
    from replay import stream

    settings = located_settings(kafka, None, pace.prefix, data)
    chosen = opened_source(sources, settings, reading)
    watch = RefusalWatch(settings.kafka)
    report = _shown(
        lambda tell: stream(
            chosen, settings, speed=pace.speed, limit=pace.limit, on_progress=tell, catalogue=catalogue
        ),
        as_json,
    )
    refusals = waited(watch, report.offsets, as_json)
    tell_refused_items(chosen)
    body = {
        "events": report.events,
        "records": report.records,
        "items": report.items,
        "identities": report.identities,
        "bad": dict(report.bad),
        "first_bad": report.first_bad,
        "read": chosen.report.reading_text,
        "seconds": round(report.seconds, 3),
        "positions": {str(partition): offset for partition, offset in report.positions.items()},
    }
    lines = [f"{report.items:,} items sent."] if report.items else []
    lines.append(
        f"{report.events:,} events sent in {report.records:,} records, {report.events_per_s:,.0f}/s. {chosen.report}"
    )
    if report.identities:
        lines.append(f"{report.identities:,} guests were told to be users (topic identities).")
    if report.behind_s > 1:
        lines.append(f"The chosen speed could not be kept: {report.behind_s:,.0f} s behind.")
    end_of_sending("\n".join(lines), body, refusals, as_json, wrong=too_many_bad(chosen, reading))


def _shown(run: Any, quiet: bool) -> ReplayReport:
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    with Progress(
        SpinnerColumn(),
        TextColumn("{task.fields[events]:,} events"),
        TextColumn("{task.fields[rate]:,.0f}/s"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        disable=quiet,
        transient=True,
    ) as progress:
        task = progress.add_task("", total=None, events=0, rate=0.0)
        report: ReplayReport = run(lambda report: progress.update(task, events=report.events, rate=report.events_per_s))
    return report
