"""`headwater backup`: copies what no log holds for ever; `backup list` and `backup verify` look at those there are."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.commands.option_groups import grouped
from console.commands.options import Json, ServerOptions

if TYPE_CHECKING:
    from recovery import SealedBackup

__all__ = ["Key", "Name", "Url", "app", "say", "the_backup"]

Url = Annotated[str, typer.Argument(metavar="URL", help="A folder, or s3://, gs://, az:// as for bundles.")]
Key = Annotated[Path | None, typer.Option("--key", metavar="FILE", help="32 bytes, or 64 hexadecimal digits.")]
Name = Annotated[str | None, typer.Option("--name", help="Which backup of those there. Default: the world's newest.")]

app = typer.Typer(no_args_is_help=True, help="Copy what no log holds for ever, and look at such copies.")


@app.callback()
def group() -> None:
    """Copy what no log holds for ever, and look at such copies."""


@app.command("make")
@grouped
def make(
    url: Url,
    *,
    key: Key = None,
    keep: Annotated[int, typer.Option(metavar="N", min=0, help="Keep the N newest of this world; 0 keeps all.")] = 0,
    servers: ServerOptions,
    as_json: Json = False,
) -> None:
    """Back up features, identities, settings topics, checkpoint, bundles and offsets, while all workers run.

    The logs themselves (events, examples) are not in it: Kafka keeps these.
    """
    import orjson

    from headwater.privacy.audit_log import write_audit
    from recovery import back_up, open_place, read_key

    place, settings = open_place(url), servers.settings()
    sealed_with = None if key is None else read_key(key)
    write_audit(settings.kafka, "backup", {"to": place.address, "encrypted": key is not None, "keep": keep})
    done = back_up(settings, place, sealed_with, keep=keep, progress=say)
    if as_json:
        print(orjson.dumps(asdict(done)).decode())
        return
    sealed = "encrypted" if key else "NOT encrypted (--key FILE)"
    print(f"{place.address}/{done.name}: {done.bytes:,} bytes, {sealed}")
    for note in done.notes:
        print(f"note: {note}")
    for name in done.removed:
        print(f"removed {name}")


@app.command("list")
@grouped
def list_command(url: Url, *, as_json: Json = False) -> None:
    """Name the finished backups, oldest first."""
    import orjson

    from recovery import backups_at, open_place

    names = backups_at(open_place(url))
    print(orjson.dumps(names).decode() if as_json else "\n".join(names) or "none")


@app.command("verify")
@grouped
def verify(url: Url, *, name: Name = None, key: Key = None, servers: ServerOptions, as_json: Json = False) -> None:
    """Restore a backup into an empty world, audit it, answer a past request again, and take the world away.

    Exit code 1 where anything is wrong. The drill's keys lie in the store of --redis meanwhile, under their own prefix.
    """
    import orjson

    from console.local.supervisor import stopping_signals
    from recovery import drill

    settings = servers.settings()
    with stopping_signals():  # whatever ends it, the drill's world is taken away
        done = drill(the_backup(url, name, key, settings.kafka.prefix), settings, say)
    if as_json:
        print(orjson.dumps(asdict(done)).decode())
    else:
        for mark, lines in (("ok", done.passed), ("not looked at", done.open), ("WRONG", done.failed)):
            for line in lines:
                print(f"{mark}: {line}")
        print(f"{sum(done.seconds.values()):.1f} s: " + ("good" if not done.failed else "NOT good"))
    if done.failed:
        raise typer.Exit(1)


def the_backup(url: str, name: str | None, key: Path | None, world: str) -> SealedBackup:
    """The backup that was asked for, or the newest of a world. Raises BackupError, SettingsError."""
    from recovery import BackupError, SealedBackup, backups_of, open_place, read_key

    place = open_place(url)
    names = backups_of(place, world) if name is None else [name]
    if not names:
        raise BackupError(
            f"there is no finished backup of the world {world!r} at {place.address}: check URL and kafka.prefix; "
            "`headwater backup list URL` names all, and --name takes one"
        )
    return SealedBackup(place, names[-1], None if key is None else read_key(key))


def say(line: str) -> None:
    """Tell of a step."""
    print(line, file=sys.stderr, flush=True)
