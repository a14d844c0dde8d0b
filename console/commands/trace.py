"""`headwater trace`: sends one event and one request, and shows every place they pass, with the milliseconds."""

from __future__ import annotations

from typing import Annotated

import typer

from console.commands.option_groups import grouped
from console.commands.options import Json, ServerOptions, Utc
from console.printing import printer


@grouped
def command(
    *,
    user: Annotated[str | None, typer.Option(help="Who; default: a visitor nobody has seen.")] = None,
    item: Annotated[str | None, typer.Option(help="With which item; default: a popular one.")] = None,
    type: Annotated[str, typer.Option(help="Type of the event.")] = "click",
    timeout_s: Annotated[float, typer.Option(min=1, help="Longest wait for a hop.")] = 10.0,
    servers: ServerOptions,
    utc: Utc = False,
    as_json: Json = False,
) -> None:
    """Follow one event and one request through every topic, key and model version. Exit code 1 if a hop lacks."""
    import orjson
    from rich.markup import escape
    from rich.table import Table

    from console.local.addresses import workers_of
    from console.look.tracing import trace
    from console.privacy.held import called
    from console.times import shown_time
    from headwater import tracing
    from headwater.events import now_ms

    tracing.begin("headwater-trace")
    began = shown_time(now_ms(), utc=utc)
    settings = servers.settings()
    user = None if user is None else called(settings, user)[0]
    traced = trace(settings, user, item, type, timeout_s, workers_of(settings, servers.data))
    tracing.finish()
    missing = [hop for hop in traced.hops if hop.place is None]
    if as_json:
        print(orjson.dumps(traced.as_json()).decode())
        raise typer.Exit(1 if missing else 0)
    out = printer(soft_wrap=True)
    out.print(f"{traced.user} {traced.type} {traced.item}, then a request for their list; begun {began}\n")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("ms", justify="right")
    table.add_column("hop")
    table.add_column("place", style="cyan")
    table.add_column("what")
    for hop in traced.hops:
        if hop.of == "request" and hop.name == "request":
            table.add_section()
            table.add_row()
        at = f"{hop.ms:,.1f}" if hop.ms is not None else "-"
        what = hop.text if hop.trace_id is None else f"{hop.text}; trace {hop.trace_id}"
        place = escape(hop.place) if hop.place else f"[red]not within {timeout_s:g} s"
        table.add_row(at, hop.name, place, escape(what))
    out.print(table)
    out.print("\n[dim]Milliseconds since the event, and since the request, were sent, as seen from here.")
    if missing:
        out.print(f"[red]Missing: {', '.join(hop.name for hop in missing)}.[/] `headwater doctor` says more.")
        raise typer.Exit(1)
