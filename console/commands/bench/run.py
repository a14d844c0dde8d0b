"""`headwater bench [NAME ...]`: run benches, print and save what they find."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.commands.bench.checkout import QUICK_RESULTS, RESULTS, named, need_checkout
from console.commands.options import Json
from headwater.errors import HeadwaterError

if TYPE_CHECKING:
    from benchmarks.ruler import Report


def command(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME ...]", help="Which. Default: all; of another broker, what uses it."),
    ] = None,
    list_them: Annotated[bool, typer.Option("--list", help="Say which benches there are, and run none.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small, to see that the benches work: the figures say nothing.")
    ] = False,
    kafka: Annotated[
        str,
        typer.Option(
            metavar="embedded|apache|HOST:PORT",
            help="Broker of those that use one: ours, Apache Kafka of ../shared/kafka, or one that runs.",
        ),
    ] = "embedded",
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where JSON goes. Default: benchmarks/results; not of a quick run."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run benches, print and save what they find. Exit code 1 where one failed."""
    need_checkout()
    import orjson

    from benchmarks.benches import BENCHES
    from benchmarks.ruler.running import RunOptions, run
    from console.local.supervisor import stopping_signals

    if list_them:
        for one in BENCHES.values():
            print(f"{one.name:12} {one.about}{' (uses the broker)' if one.uses_broker else ''}")
        return
    if unknown := [name for name in names or () if name not in BENCHES]:
        raise HeadwaterError(f"no bench is called {', '.join(unknown)}. There are: {', '.join(BENCHES)}")
    folder = out or (QUICK_RESULTS if quick else RESULTS)
    broker = "kafka" if kafka == "apache" else kafka
    if broker not in ("embedded", "kafka") and ":" not in broker:
        raise HeadwaterError(f"--kafka {kafka}: give embedded, apache, or the HOST:PORT of one that runs")
    all_of_it = [one.name for one in BENCHES.values() if one.uses_broker or broker == "embedded"]
    chosen = [BENCHES[name] for name in dict.fromkeys(names or all_of_it)]
    failed = []
    with stopping_signals():  # a bench that runs stops what it has started
        for report in run(chosen, RunOptions(folder, quick, broker)):
            if report.failed:
                failed.append(report.bench)
            if as_json:
                print(orjson.dumps(report).decode(), flush=True)
            else:
                _show(report)
    print(f"saved in {named(folder)}" + (f"; failed: {', '.join(failed)}" if failed else ""), file=sys.stderr)
    if failed:
        raise typer.Exit(1)


def _show(report: Report) -> None:
    from rich.table import Table

    from benchmarks.ruler.table import HEADINGS, lines
    from console.printing import printer

    out = printer()
    quick = ", quick: the figures say nothing" if report.quick else ""
    broker = f", {report.broker} broker" if report.broker else ""
    out.print(f"\n{report.bench}: {report.about}", style="bold", markup=False)
    out.print(
        f"{report.machine}{broker}, commit {report.commit or 'unknown'}, load {report.load[0]:g} to "
        f"{report.load[1]:g}, {report.seconds:.0f} s{quick}",
        markup=False,
    )
    if report.failed:
        out.print(f"failed: {report.failed}", style="red", markup=False)
    if report.rows:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in HEADINGS:
            table.add_column(heading, overflow="fold")
        for line in lines(report):
            table.add_row(*(cell.replace("[", "\\[") for cell in line))
        out.print(table)
    for note in [*(f"{row.case}: {row.note}" for row in report.rows if row.note), *report.left_out]:
        out.print(f"- {note}", markup=False)
