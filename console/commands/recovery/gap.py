"""`headwater accept-gap`: lets workers go on, once, whose place in a log is no longer in it, or is of another log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from console.commands.option_groups import grouped
from console.commands.options import ServerOptions


@grouped
def command(
    *,
    directory: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The trainer's directory. Default: trainer.directory.")
    ] = None,
    another_log: Annotated[
        bool, typer.Option("--another-log", help="examples was made anew: begin at its beginning, whatever it holds.")
    ] = False,
    events: Annotated[
        bool, typer.Option("--events", help="events was made anew: the store forgets its marks of the old one.")
    ] = False,
    servers: ServerOptions,
) -> None:
    """Let the trainer pass over examples that are no longer in their log, at its next start, and keep what it knows.

    Without this it refuses to start when the log does not hold its place. What was passed over stands in its
    checkpoint, in what it publishes and in `headwater doctor`. With --events it is the streams workers that go on: the
    log of events that is there is folded from its beginning, and of who was forgotten the time counts from then on.
    """
    import logging

    from console.local.addresses import trainer_directory
    from headwater.errors import SettingsError
    from headwater.privacy.audit_log import write_audit
    from trainer.checkpoints import Checkpoints
    from trainer.gap import Leave, accept_gap

    if events:
        from recovery import accept_new_events

        settings = servers.settings()
        marks = accept_new_events(settings, lambda: write_audit(settings.kafka, "accept-gap", {"of": "events"}))
        several = ", ".join(f"[{partition}]@{mark}" for partition, mark in marks.items())
        print(f"the marks {several} of another log of events are forgotten: start the streams workers")
        return
    folder = directory or trainer_directory(servers.data)  # no server is asked
    if not any(folder.glob("checkpoint-*.ckpt")):
        raise SettingsError(
            f"{folder} has no checkpoint, so no trainer goes on from there: name its folder, --directory, or that of "
            "its `headwater up`, --data. A trainer that begins anew needs no leave"
        )
    checkpoints = Checkpoints(folder, logging.getLogger("headwater.gap"))  # refuses beside a trainer that runs
    try:
        checkpoints.refuse_restoring()
        leave = accept_gap(folder, Leave.ANOTHER_LOG if another_log else Leave.GAP)
    finally:
        checkpoints.close()
    print(f"{leave} is written: start the trainer, which uses it up and goes on where the log of examples begins")
