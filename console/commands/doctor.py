"""`headwater doctor`: what is there, which version it is, and what is wrong with what to do about it."""

from __future__ import annotations

import typer

from console.commands.option_groups import grouped
from console.commands.options import Json, ServerOptions
from console.printing import printer

MARKS = {"ok": "[green]ok[/]  ", "note": "[yellow]note[/]", "wrong": "[red]wrong[/]"}


@grouped
def command(
    *,
    servers: ServerOptions,
    as_json: Json = False,
) -> None:
    """Look at broker, store, topics, workers, model and processors. Exit code 1 when something is wrong."""
    from dataclasses import asdict

    import orjson
    from rich.markup import escape
    from rich.table import Table

    from console.local.addresses import running_addresses
    from console.look.checkup import examine

    settings = servers.settings()
    findings = examine(settings, running_addresses(servers.data))
    wrong = [finding for finding in findings if finding.state == "wrong"]
    if as_json:
        body = {"ok": not wrong, "findings": [asdict(finding) for finding in findings]}
        print(orjson.dumps(body).decode())
        raise typer.Exit(1 if wrong else 0)
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for finding in findings:
        table.add_row(MARKS[finding.state], f"[bold]{finding.name}", escape(finding.text))
        if finding.remedy:
            table.add_row("", "", f"[yellow]-> {escape(finding.remedy)}")
    out = printer()
    out.print(table)
    out.print()
    if wrong:
        out.print(f"[red bold]{len(wrong)} wrong:[/] {', '.join(finding.name for finding in wrong)}")
        raise typer.Exit(1)
    out.print("[green bold]All is well.")
