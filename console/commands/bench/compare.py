"""`headwater bench compare A B`: what got slower."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from console.commands.bench.checkout import need_checkout
from console.commands.options import Json
from headwater.errors import HeadwaterError


def command(
    before: Annotated[Path, typer.Argument(metavar="A", help="A saved bench, or a folder of them.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="The same of later.")],
    as_json: Json = False,
) -> None:
    """What got slower from A to B, beyond the spread of both. Exit code 1 where anything did, or is missing."""
    need_checkout()
    import orjson

    from benchmarks.ruler.comparison import compare
    from benchmarks.ruler.figures import read_reports
    from benchmarks.ruler.table import spread

    found = compare(read_reports(before), read_reports(after))
    if not found.changes and not found.lost:
        raise HeadwaterError(f"{before} and {after} hold nothing that can be compared. {'; '.join(found.aside)}")
    if as_json:
        print(orjson.dumps({"worse": found.worse, "changes": found.changes, "lost": found.lost, "aside": found.aside}))
    else:
        for change in sorted(found.changes, key=lambda one: one.verdict != "slower"):
            print(
                f"{change.verdict:6}  {change.bench}: {change.case}: {change.measure} "
                f"{spread(change.before)} -> {spread(change.after)}"
            )
        for text in found.lost:
            print(f"lost    {text}")
        for text in found.aside:
            print(f"aside   {text}")
    if found.worse:
        raise typer.Exit(1)
