"""`headwater audit`: what the logs prove. Each audit is a module here; exit code 1 where something is wrong."""

from __future__ import annotations

import typer

from console.commands.audit import takedown

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="What the logs prove of what went out.")
app.command("takedown")(takedown.command)
