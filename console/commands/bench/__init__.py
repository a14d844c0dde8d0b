"""`headwater bench`: our figures beside floors and peers, measured in one run; comparisons of runs; the page of them.

The benches live in `benchmarks/` of the checkout, which no wheel brings: a figure is of a commit.
"""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from console.commands.bench import compare, page, run

__all__ = ["app"]


class _RunByDefault(TyperGroup):
    """`bench score` is `bench run score`: what is no other command is the name of a bench, or an option."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ("-h", "--help")):
            args = ["run", *args]
        return list(super().parse_args(ctx, args))


app = typer.Typer(
    cls=_RunByDefault,
    help="How fast this is beside what the parts allow and what others do. `bench [NAME ...]` runs benches.",
)
app.command("run")(run.command)
app.command("compare")(compare.command)
app.command("page")(page.command)
