"""`headwater contract`: writes the pages that are generated from the models, and checks that they are current."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    docs: Annotated[Path, typer.Option(metavar="DIR", help="The docs folder to write to.")] = Path("docs"),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 when a page is not current.")] = False,
) -> None:
    """Write docs/contract (JSON Schemas, AsyncAPI 3, topics), docs/settings.md and docs/acls.md from the models."""
    from console.contract_pages import pages

    stale = []
    for name, text in pages().items():
        path = docs / name
        if path.is_file() and path.read_text() == text:
            continue
        stale.append(str(path))
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if check and stale:
        print(f"not current: {', '.join(stale)}. Run `headwater contract` and commit what it writes.")
        raise typer.Exit(1)
    print("the contract's pages are current" if not stale else f"written: {', '.join(stale)}")
