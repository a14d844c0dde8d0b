"""`headwater restore`: an empty world made again of a backup."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from console.commands.option_groups import grouped
from console.commands.options import Json, ServerOptions
from console.commands.recovery.backup import Key, Name, Url, say, the_backup


@grouped
def command(
    url: Url,
    *,
    name: Name = None,
    key: Key = None,
    clear: Annotated[bool, typer.Option("--clear", help="Take away first what the store holds.")] = False,
    from_world: Annotated[
        str | None,
        typer.Option("--from-world", metavar="PREFIX", help="The backup is of this world: that is meant."),
    ] = None,
    servers: ServerOptions,
    as_json: Json = False,
) -> None:
    """Make an empty world again of a backup. All its workers must be stopped; they then read on from where it is.

    A log that Kafka has kept is read again from where store and checkpoint are. Where topics are gone, too, those that
    are kept for ever are sent again. One that was killed is begun again, with --clear.
    """
    import orjson

    from recovery import restore

    settings = servers.settings()
    backup = the_backup(url, name, key, settings.kafka.prefix if from_world is None else from_world)
    done = restore(backup, settings, clear=clear, from_world=from_world, progress=say)
    if as_json:
        print(orjson.dumps({"name": backup.name, **asdict(done)}).decode())
        return
    print(f"restored {backup.name}: {done.keys:,} keys, checkpoint {done.checkpoint}, bundles {len(done.bundles)}")
    for topic, count in done.records.items():
        print(f"{topic}: was gone, {count:,} records sent again")
    for topic in done.anew:
        if topic not in done.records:
            print(f"{topic}: was gone, and begins anew")
    if done.forgotten:
        print(f"{done.forgotten:,} ids that were forgotten after the backup was made were left out")
    for note in done.notes:
        print(f"note: {note}")
    print("start the workers now")
