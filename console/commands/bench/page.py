"""`headwater bench page DIR`: docs/performance.md and docs/scaling.md, made of saved benches."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from console.commands.bench.checkout import RESULTS, ROOT, named, need_checkout


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Of saved benches.", show_default=False)] = RESULTS,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the pages go.", show_default=False)] = ROOT / "docs",
) -> None:
    """Write the pages of saved benches, docs/performance.md and docs/scaling.md."""
    need_checkout()
    from benchmarks.ruler.figures import read_reports
    from benchmarks.ruler.page import of_folder
    from benchmarks.ruler.scaling import page

    pages = {"performance.md": of_folder(folder, named(folder)), "scaling.md": page(read_reports(folder))}
    out.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        (out / name).write_text(text)
        print(f"{named(out / name)} is made of {named(folder)}")
