"""`headwater bench page DIR`: docs/performance.md, made of saved benches."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from console.commands.bench.checkout import RESULTS, need_checkout


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of saved benches.")] = RESULTS,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the page goes; - prints it.")] = Path(
        "docs/performance.md"
    ),
) -> None:
    """Write the page of saved benches, docs/performance.md."""
    need_checkout()
    from benchmarks.ruler.page import of_folder

    text = of_folder(folder)
    if str(out) == "-":
        print(text, end="")
        return
    out.write_text(text)
    print(f"{out} is made of {folder}")
