"""`headwater audit`: what the logs prove. Each audit is a module here; exit code 1 where something is wrong."""

from __future__ import annotations

import typer

from console.commands.audit import features, log, takedown

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="What the logs prove of what is stored and of what went out.")
app.command("features")(features.command)
app.add_typer(log.app, name="log")
app.command("takedown")(takedown.command)
