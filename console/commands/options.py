"""Options that many commands share, spelled once. Light: imported by every command module at start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_DATA = Path(".headwater")
"""Where `headwater up` keeps its data unless told otherwise, and where other commands look for a running one."""

Kafka = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Kafka to use. Default: settings, else what `headwater up` runs."),
]
Redis = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Redis or Valkey to use. Default: settings, else what `headwater up` runs."),
]
Prefix = Annotated[str | None, typer.Option(help="World: what stands before topics, groups and Redis keys.")]
Data = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the `headwater up` to talk to.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
