"""`headwater accept-gap`: lets a trainer that retention has overtaken go on, once, with what the log still holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from console.commands.option_groups import grouped
from console.commands.options import KafkaOptions


@grouped
def command(
    *,
    directory: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The trainer's directory. Default: trainer.directory.")
    ] = None,
    servers: KafkaOptions,
) -> None:
    """Let the trainer pass over examples that are no longer in their log, at its next start, and keep what it knows.

    Without this it refuses to start when the log does not hold its place. What was passed over stands in its
    checkpoint, in what it publishes and in `headwater doctor`.
    """
    from trainer.gap import accept_gap

    leave = accept_gap(directory or servers.settings().trainer.directory)
    print(f"{leave} is written: start the trainer, which uses it up and goes on where the log of examples begins")
