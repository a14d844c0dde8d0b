"""`headwater doctor`: what is there, which version it is, and what is wrong with what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from console.commands.option_groups import grouped
from console.commands.options import Json, ServerOptions
from console.printing import printer

if TYPE_CHECKING:
    from console.look.finding import Finding

MARKS = {
    "ok": "[green]ok[/]    ",
    "note": "[yellow]note[/]  ",
    "wrong": "[red]wrong[/] ",
    "unseen": "[magenta]unseen[/]",
}
EXIT_WRONG, EXIT_UNSEEN = 1, 2


@grouped
def command(
    *,
    servers: ServerOptions,
    as_json: Json = False,
) -> None:
    """Look at broker, store, topics, what they hold and who reads it, workers, model, disk and clocks.

    Exit code 1: something is wrong; 2: nothing that it saw is, but it could not see everything; 0: neither. It takes
    some seconds, because it looks twice whether the workers get on.
    """
    from dataclasses import asdict

    import orjson

    from console.local.addresses import running_addresses
    from console.look.checkup import examine

    settings = servers.settings()
    findings = examine(settings, running_addresses(servers.data))
    named = {state: [one.name for one in findings if one.state == state] for state in MARKS}
    code = EXIT_WRONG if named["wrong"] else EXIT_UNSEEN if named["unseen"] else 0
    if as_json:
        told = {state: names for state, names in named.items() if state != "ok"}
        body = {"ok": not code, **told, "findings": [asdict(finding) for finding in findings]}
        print(orjson.dumps(body).decode())
    else:
        _print(findings, named)
    raise typer.Exit(code)


def _print(findings: list[Finding], named: dict[str, list[str]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for finding in findings:
        table.add_row(MARKS[finding.state], f"[bold]{escape(finding.name)}", escape(finding.text))
        if finding.cause:
            table.add_row("", "", f"[dim]because: {escape(finding.cause)}")
        if finding.remedy:
            table.add_row("", "", f"[yellow]-> {escape(finding.remedy)}")
    out = printer()
    out.print(table)
    out.print()
    if named["wrong"]:
        out.print(f"[red bold]{len(named['wrong'])} wrong:[/] {escape(', '.join(named['wrong']))}")
    if named["unseen"]:
        out.print(f"[magenta bold]{len(named['unseen'])} could not be seen:[/] {escape(', '.join(named['unseen']))}")
    if named["wrong"] or named["unseen"]:
        return
    if named["note"]:
        out.print(f"Nothing is wrong; {len(named['note'])} to know of: {escape(', '.join(named['note']))}")
    else:
        out.print("[green bold]All is well.")
