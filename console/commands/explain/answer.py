"""`headwater replay explain RECEIPT`: makes a past recommendation again from the logs and compares it byte for byte."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.commands.option_groups import grouped
from console.commands.options import Json, KafkaOptions, Utc
from console.printing import printer

if TYPE_CHECKING:
    from replay.explain import Explanation

MEASURED = "timings, ages and the time of the answer are the log's: no replay can measure them again"


@grouped
def command(
    *,
    receipt: Annotated[
        str, typer.Argument(help="A request id, a file with the recommendation's JSON, or - for the same on stdin.")
    ],
    servers: KafkaOptions,
    utc: Utc = False,
    as_json: Json = False,
) -> None:
    """Rebuild a past recommendation from its receipt. Exit code 0: identical; 1: it differs; 2: something is gone."""
    from headwater.errors import SourceError
    from replay.explain import explain_answer, explain_id, read_answer

    if not receipt or os.path.isdir(receipt):
        raise typer.BadParameter(f"{receipt!r}: give a request id, a file with the recommendation's JSON, or -")
    settings = servers.settings()
    if receipt == "-":
        found = explain_answer(settings, read_answer(sys.stdin.buffer.read()))
    elif os.path.isfile(receipt):  # and not Path.is_file: an id may be longer than a file's name can be
        try:
            text = Path(receipt).read_bytes()
        except OSError as error:
            raise SourceError(f"{receipt} cannot be read ({error.strerror or error})") from error
        found = explain_answer(settings, read_answer(text))
    else:
        found = explain_id(settings, receipt)
    if as_json:
        _print_json(found)
    else:
        _print(found, utc)
    raise typer.Exit(0 if found.identical else 1)


def _print_json(found: Explanation) -> None:
    import orjson

    body = {
        "identical": found.identical,
        "difference": found.difference,
        "folded": found.folded,
        "model": found.model,
        "surface": found.surface,
        "notes": found.notes,
        "measured": [
            "timings_ms",
            "feature_age_ms",
            "weight_age_ms",
            "counted_age_ms",
            "learned_age_ms",
            "answered_time",
        ],
        "request": found.request.model_dump(mode="json", exclude_none=True),
        "rebuilt": found.rebuilt.model_dump(mode="json", exclude_none=True),
    }
    print(orjson.dumps(body).decode())


def _print(found: Explanation, utc: bool) -> None:
    from rich.markup import escape
    from rich.table import Table

    from console.times import shown_time
    from headwater.wire import encode

    out, answer = printer(), found.rebuilt
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("#", justify="right", style="dim")
    table.add_column("item", style="cyan")
    table.add_column("score", justify="right", style="dim")
    table.add_column("propensity", justify="right", style="dim")
    table.add_column("because", style="green")
    for item in answer.items:
        cells = [str(item.rank), item.item_id, f"{item.score:.3f}", f"{item.propensity:.3g}", "; ".join(item.reasons)]
        table.add_row(*map(escape, cells))
    out.print(table)
    at = answer.receipt.request_at
    out.print(f"[dim]request   {escape(found.request.request_id)} of {escape(found.request.whose or 'nobody')}, {at}")
    asked, answered = (shown_time(ms, utc=utc) for ms in (found.request.request_time, answer.answered_time))
    out.print(f"[dim]time      asked {asked}, answered {answered}")
    out.print(f"[dim]features  {escape(found.folded)}")
    out.print(f"[dim]model     {answer.receipt.model_version}: {escape(found.model)}")
    if found.surface:
        out.print(f"[dim]surface   {escape(found.surface)}")
    if answer.receipt.fallback:
        out.print(f"[dim]fallback  {answer.receipt.fallback}")
    for note in found.notes:
        out.print(f"[dim]note      {escape(note)}")
    out.print(f"[dim]measured  {MEASURED}")
    if found.difference is None:
        out.print(f"[green]identical[/], {len(encode(answer)):,} bytes")
    else:
        out.print(f"[red]differs[/]: {escape(found.difference)}")
