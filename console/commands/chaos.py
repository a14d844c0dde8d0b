"""`headwater chaos`: break everything on purpose, under load, and see what is promised and not kept."""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.commands.option_groups import grouped
from console.commands.options import Json
from headwater.errors import HeadwaterError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chaos.campaign import CampaignOptions, CampaignResult
    from chaos.schedule import Schedule


@dataclass(frozen=True)
class Against:
    """Which servers, and what may be done to them."""

    kafka: Annotated[
        str,
        typer.Option(
            metavar="embedded|apache|HOST:PORT",
            help="Broker: ours, Apache Kafka of ../shared/kafka, or one that runs, which is not harmed.",
        ),
    ] = "embedded"
    redis: Annotated[
        str,
        typer.Option(
            metavar="embedded|cluster|URL",
            help="Store: ours, a cluster of six nodes, or one that runs, which is not harmed.",
        ),
    ] = "embedded"
    shards: Annotated[
        int | None, typer.Option(min=1, help="Slots of the store; 64 of a cluster and 1 else, unless given.")
    ] = None
    bundles: Annotated[
        str,
        typer.Option(
            metavar="folder|s3|URL", help="Bundles: a folder, object storage of ours, or a bucket, which is not harmed."
        ),
    ] = "folder"
    break_servers: Annotated[
        bool,
        typer.Option("--break-servers", help="Servers that run elsewhere may be harmed: FLUSHALL, READONLY, full."),
    ] = False

    def options(self, folder: Path, seed: int) -> CampaignOptions:
        """Of a campaign."""
        from chaos.campaign import CampaignOptions

        shards = self.shards or (64 if self.redis == "cluster" else 1)
        return CampaignOptions(folder, seed, self.kafka, self.redis, self.bundles, shards, self.break_servers)


@dataclass(frozen=True)
class FaultPlan:
    """Which faults come, and when."""

    minutes: Annotated[float, typer.Option(min=0.1, help="How long faults come.")] = 3.0
    seed: Annotated[int, typer.Option(help="Of the schedule, the load and every choice.")] = 11
    every: Annotated[float, typer.Option(min=0.5, metavar="SECONDS", help="From one fault to the next.")] = 8.0
    only: Annotated[str | None, typer.Option(metavar="FAULT,...", help="These kinds alone.")] = None
    schedule: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Not from the seed: a schedule that a campaign has kept.")
    ] = None

    @property
    def kinds(self) -> set[str]:
        """The names in `only`."""
        return {name for name in (self.only or "").split(",") if name}

    def draw(self, holds: Mapping[str, tuple[float, float]]) -> Schedule:
        """The schedule, of the faults that can be done here. Raises HeadwaterError where there is none."""
        from chaos.schedule import draw

        chosen = {name: hold for name, hold in holds.items() if not self.kinds or name in self.kinds}
        if not chosen:
            raise HeadwaterError("none of these faults can be done here: a campaign without --only says why")
        return draw(self.seed, self.minutes * 60, self.every, chosen)


@grouped
def command(
    against: Against,
    plan: FaultPlan,
    shrink: Annotated[
        bool, typer.Option("--shrink", help="Where a promise breaks, look for the fewest faults that break it.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep logs, topics and result.json there, whatever comes out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Break everything on purpose, under a known load, and audit what is promised. Exit code 1 where it does not hold.

    Starts several workers of each kind, and broker and store unless they are named. Faults come from the seed: dead and
    stopped processes, networks that cut and swallow, lost and full stores and disks, damaged files, poison.
    """
    from chaos.campaign import run
    from chaos.faults import FAULTS
    from chaos.report import as_json as plain
    from chaos.schedule import read_schedule, write_schedule
    from console.local.supervisor import stopping_signals

    if unknown := plan.kinds - FAULTS.keys():
        raise HeadwaterError(f"--only: no fault is called {', '.join(unknown)}. There are: {', '.join(FAULTS)}")
    given = None if plan.schedule is None else read_schedule(plan.schedule, FAULTS)

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    with stopping_signals(), ExitStack() as opened:
        made = tempfile.TemporaryDirectory(prefix="headwater-chaos-", ignore_cleanup_errors=True)
        folder = out.resolve() if out is not None else Path(opened.enter_context(made))
        asked = against.options(folder / "campaign", plan.seed)
        result = run(asked, plan.draw if given is None else lambda _: given, say)
        kept = out or Path(f"chaos-{plan.seed}")
        if not result.ok or out is not None:
            kept.mkdir(parents=True, exist_ok=True)
            write_schedule(kept / "schedule.jsonl", [one.planned for one in result.faults])
        if not result.ok and shrink:
            _shrink(asked, result, kept)
    import orjson

    if out is not None or not result.ok:
        (kept / "result.json").write_bytes(orjson.dumps(plain(result), option=orjson.OPT_INDENT_2))
    if as_json:
        print(orjson.dumps(plain(result)).decode())
    else:
        _show(result, kept if not result.ok or out is not None else None)
    if not result.ok:
        raise typer.Exit(1)


def _shrink(asked: CampaignOptions, result: CampaignResult, kept: Path) -> None:
    """Run parts of the schedule until no fault can be left out; each in a folder of its own, removed afterwards."""
    from chaos.campaign import run
    from chaos.schedule import write_schedule
    from chaos.shrink import shrunk

    broken = {name for name, found in result.violations.items() if found}

    def fails(part: Schedule) -> bool:
        with tempfile.TemporaryDirectory(prefix="headwater-chaos-", ignore_cleanup_errors=True) as folder:
            print(f"shrinking: {len(part)} faults", file=sys.stderr)
            again = run(replace(asked, folder=Path(folder)), lambda _: part, lambda _: None)
        return any(again.violations.get(name) for name in broken)

    smallest = shrunk(tuple(one.planned for one in result.faults), fails)
    write_schedule(kept / "shrunk.jsonl", smallest)
    print(f"the fewest that break it: {len(smallest)} faults, in {kept / 'shrunk.jsonl'}", file=sys.stderr)


def _show(result: CampaignResult, kept: Path | None) -> None:
    from rich.table import Table

    from chaos.report import rows
    from console.printing import printer

    out = printer()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("fault")
    for heading in ("times", "served p50", "max", "learned p50", "max"):
        table.add_column(heading, justify="right")
    table.add_column("what happens")
    for row in rows(result.faults):
        count = f"{row.took}" if row.took == row.times else f"{row.took} of {row.times}"
        spans = (row.served_median_s, row.served_longest_s, row.median_s, row.longest_s)
        times = [("-" if one is None else f"{one:.1f} s") for one in spans]
        never = f" ({row.open} never)" if row.open else ""
        table.add_row(row.fault, count, *times[:3], times[3] + never, row.about)
    out.print(table)
    for name, why in result.not_here.items():
        out.print(f"- not here: {name}: {why}", markup=False)
    took = [one for one in result.faults if one.took]
    kinds = len({one.planned.fault for one in took})
    out.print(
        f"\n{len(took)} faults of {kinds} kinds in {result.seconds / 60:.1f} min, seed {result.asked.seed}, "
        f"{result.asked.kafka} broker. " + ", ".join(f"{name} {value:,.0f}" for name, value in result.figures.items()),
        markup=False,
    )
    for name, found in result.violations.items():
        for one in found[:3]:
            out.print(f"BROKEN {name}: {one}", style="red", markup=False)
        if len(found) > 3:
            out.print(f"       and {len(found) - 3:,} more", style="red", markup=False)
    if result.ok:
        out.print("every promise was kept", style="green", markup=False)
    if kept is not None:
        out.print(f"kept in {kept}: result.json, schedule.jsonl (--schedule runs it again)", markup=False)
