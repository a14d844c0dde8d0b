"""`headwater items`: what people do with each item, told of enough of them only."""

from __future__ import annotations

from typing import Annotated

import typer

from console.commands.option_groups import grouped
from console.commands.options import Days, Json, ServerOptions, since_ms
from console.printing import printer


@grouped
def command(
    *,
    min_people: Annotated[
        int, typer.Option("--min-people", metavar="K", min=2, help="Tell nothing that fewer people did.")
    ] = 10,
    days: Days = None,
    top: Annotated[int, typer.Option(min=1, help="Items to print.")] = 20,
    servers: ServerOptions,
    as_json: Json = False,
) -> None:
    """For analysts: people and events by item, each of at least K people, and no user ids.

    Counted is what the log holds of who may be analysed (`headwater consent`) and was not forgotten.
    """
    import orjson
    from rich.table import Table

    from console.look.cluster import must_exist
    from console.privacy.item_report import item_report
    from headwater.topics import EVENTS

    settings = servers.settings()
    must_exist(settings.kafka, EVENTS)
    with printer(stderr=True).status("reading ...") as shown:
        found = item_report(settings, min_people, since_ms(days), lambda many: shown.update(f"{many:,} records ..."))
    if as_json:
        rows = [one._asdict() for one in found.items[:top]]
        told = {"min_people": min_people, "items": rows, "left_out": found.left_out, "withheld": found.withheld}
        print(orjson.dumps(told).decode())
        return
    table = Table("item", "people", "events", box=None, pad_edge=False, header_style="bold")
    for one in found.items[:top]:
        told_events = ", ".join(f"{kind} {count:,}" for kind, count in one.events.items())
        fewer = f"of each type fewer than {min_people} people"
        table.add_row(one.item_id, f"{one.people:,}", told_events or fewer)
    printer().print(table)
    left_out = f"{found.left_out:,} that fewer than {min_people} people touched are left out"
    print(f"{len(found.items):,} items; {left_out}")
    if found.withheld:
        print(f"{found.withheld:,} events of who may not be analysed are not counted")
