"""`headwater experiments`: what came of each variant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from console.commands.option_groups import grouped
from console.commands.options import Days, Json, KafkaOptions, since_ms
from console.printing import printer
from console.times import shown_time

if TYPE_CHECKING:
    from rich.console import Console

    from replay.experiments import Compared, ExperimentResult

HEADS = {"reacted": "reacted to", "turned_down": "turned down", "reward": "reward a list"}


@grouped
def command(
    *,
    name: Annotated[str | None, typer.Argument(help="Of the experiment. Default: all.")] = None,
    days: Days = None,
    servers: KafkaOptions,
    as_json: Json = False,
) -> None:
    """What people did with lists of each variant of an experiment, beside its control (docs/surfaces.md).

    Counted is what the log of events holds of who may be analysed (`headwater consent`) and was not forgotten.
    """
    import orjson

    from console.look.cluster import must_exist
    from console.privacy.analysed import Analysed
    from headwater.errors import SettingsError
    from headwater.spelling import did_you_mean
    from headwater.topics import EVENTS
    from replay.experiments import Outcomes, experiments_in_force

    settings = servers.settings()
    must_exist(settings.kafka, EVENTS)
    in_force = experiments_in_force(settings)
    outcomes = Outcomes(settings)
    with printer(stderr=True).status("reading ...") as shown:
        analysed = Analysed(settings, since_ms(days), lambda many: shown.update(f"{many:,} records ..."))
        for row in analysed.rows():
            outcomes.take(row)
    found = {one.name: one for one in outcomes.results(in_force)}
    running = {one.name for one in in_force}
    names = sorted({*found, *running})
    if name is not None and name not in names:
        known = ", ".join(names) or "none yet"
        raise SettingsError(f"there is no experiment {name!r:.80}. There are: {known}.{did_you_mean(name, names)}")
    chosen = names if name is None else [name]
    if as_json:
        empty: dict[str, object] = {"variants": []}
        told = {one: {"in_force": one in running} | (found[one].told() if one in found else empty) for one in chosen}
        print(orjson.dumps(told).decode())
        return
    out = printer(soft_wrap=True)
    for one in chosen:
        if one not in found:
            out.print(f"{one}: nobody was shown a list of it yet", markup=False)
            continue
        _print(out, found[one], in_force=one in running)
    if not names:
        out.print("No experiment yet: a surface has one as \\[surfaces.NAME.experiment] (docs/surfaces.md).")
    if analysed.withheld:
        print(f"{analysed.withheld:,} events of who may not be analysed are not counted")


def _print(out: Console, found: ExperimentResult, *, in_force: bool) -> None:
    from rich.table import Table

    over = "" if in_force else "; of no surface any more"
    out.print(f"{found.name}: lists from {shown_time(found.from_ms)} to {shown_time(found.to_ms)}{over}", markup=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in ("variant", "people", "lists", *HEADS.values()):
        table.add_column(head)
    for one in found.variants:
        told = (_told(one.measures[measure], share=measure != "reward") for measure in HEADS)
        table.add_row(one.variant, f"{one.people:,}", f"{one.lists:,}", *told)
    out.print(table)
    for remark in found.remarks:
        out.print(remark, markup=False)


def _told(one: Compared, *, share: bool) -> str:
    """A share of the lists in percent, or a reward; and how far it is from control's, with 95%."""
    times, places = (100, 1) if share else (1, 3)
    text = f"{times * one.value:.{places}f}{'%' if share else ''}"
    if one.low is None or one.high is None or one.difference is None:
        return text
    low, difference, high = (f"{times * of:+.{places}f}" for of in (one.low, one.difference, one.high))
    return (
        f"{'[bold]' if one.told_apart else ''}{text}  {difference} ({low} to {high}){'[/]' if one.told_apart else ''}"
    )
