"""`headwater backup`: copies what no log holds for ever; `backup list` and `backup verify` look at those there are."""

from __future__ import annotations

import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.commands.option_groups import grouped
from console.commands.options import Json, ServerOptions

if TYPE_CHECKING:
    from headwater.settings import Settings
    from recovery import SealedBackup
    from recovery.backup import BackedUp
    from recovery.places import BackupPlace

__all__ = ["Key", "Name", "Url", "app", "say", "the_backup"]

Url = Annotated[str, typer.Argument(metavar="URL", help="A folder, or s3://, gs://, az:// as for bundles.")]
Key = Annotated[Path | None, typer.Option("--key", metavar="FILE", help="32 bytes, or 64 hexadecimal digits.")]
WithoutModel = Annotated[
    bool, typer.Option("--without-model", help="It is meant that no checkpoint or bundle is in it.")
]
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
    without_model: WithoutModel = False,
    servers: ServerOptions,
    as_json: Json = False,
) -> None:
    """Back up features, identities, settings topics, checkpoint, bundles and offsets, while all workers run.

    The logs themselves (events, examples) are not in it: Kafka keeps these. Exit code 1 where there is a model, and it
    is not in it.
    """
    import orjson

    from headwater.privacy.audit_log import write_audit
    from recovery import back_up, open_place, read_key

    place, settings = open_place(url), servers.settings()
    sealed_with = None if key is None else read_key(key)
    deed = {"to": place.address, "encrypted": key is not None, "keep": keep}
    audited = partial(write_audit, settings.kafka, "backup", deed)
    done = back_up(settings, place, sealed_with, keep=keep, begin=audited, progress=say)
    lacking = [] if without_model else _lacking(settings, done.checkpoint, done.bundles)
    if as_json:
        print(orjson.dumps({**asdict(done), "lacking": lacking}).decode())
    else:
        _print_made(done, place.address, encrypted=key is not None, lacking=lacking)
    if lacking:
        raise typer.Exit(1)


def _print_made(done: BackedUp, address: str, *, encrypted: bool, lacking: list[str]) -> None:
    sealed = "encrypted" if encrypted else "NOT encrypted (--key FILE)"
    print(f"{address}/{done.name}: {done.bytes:,} bytes, {sealed}")
    for note in done.notes:
        print(f"note: {note}")
    for name in done.removed:
        print(f"removed {name}")
    for what in lacking:
        print(f"INCOMPLETE: {what}")


def _lacking(settings: Settings, checkpoint: str | None, bundles: list[str]) -> list[str]:
    """What Kafka knows of the model that a backup has not, with what to do."""
    from headwater.kafka.groups import committed_offsets
    from headwater.topics import EXAMPLES
    from trainer.announced import models_listed
    from trainer.examples_log import GROUP

    live = models_listed(settings).live
    trains = committed_offsets(settings.kafka, GROUP, [EXAMPLES])[EXAMPLES.name]
    found = []
    if checkpoint is None and (trains or live is not None):
        found.append(
            f"no checkpoint, and this world has a trainer: {settings.trainer.directory} has none. Make it where the "
            "trainer's directory is (HEADWATER_TRAINER__DIRECTORY, or --data), or say that it is meant, --without-model"
        )
    if not bundles and live is not None:
        found.append(
            f"no bundle, and {live.bundle} is live: make it where trainer.bundles is (HEADWATER_TRAINER__BUNDLES, or "
            "--data), or say that it is meant, --without-model"
        )
    return found


@app.command("list")
@grouped
def list_command(url: Url, *, as_json: Json = False) -> None:
    """Name the finished backups, oldest first."""
    import orjson

    from recovery import backups_at, open_place

    place = open_place(url)
    _refuse_missing(place)
    names = backups_at(place)
    print(orjson.dumps(names).decode() if as_json else "\n".join(names) or "none")


@app.command("verify")
@grouped
def verify(
    url: Url,
    *,
    name: Name = None,
    key: Key = None,
    without_model: WithoutModel = False,
    servers: ServerOptions,
    as_json: Json = False,
) -> None:
    """Restore a backup into an empty world, audit it, answer a past request again, and take the world away.

    Exit code 1 where anything is wrong, or the model is not in it. The drill's keys lie in the store of --redis
    meanwhile, under their own prefix.
    """
    import orjson

    from console.local.supervisor import stopping_signals
    from recovery import drill

    settings = servers.settings()
    with stopping_signals():  # whatever ends it, the drill's world is taken away
        done = drill(the_backup(url, name, key, settings.kafka.prefix), settings, say)
    lacking = [] if without_model else _lacking(settings, done.restored.checkpoint, done.restored.bundles)
    verdict = "NOT good" if done.failed else "incomplete" if lacking else "good"
    if as_json:
        print(orjson.dumps({**asdict(done), "lacking": lacking, "verdict": verdict}).decode())
    else:
        several = {"ok": done.passed, "not looked at": done.open, "LACKING": lacking, "WRONG": done.failed}
        for mark, lines in several.items():
            for line in lines:
                print(f"{mark}: {line}")
        print(f"{sum(done.seconds.values()):.1f} s: {verdict}")
    if verdict != "good":
        raise typer.Exit(1)


def the_backup(url: str, name: str | None, key: Path | None, world: str) -> SealedBackup:
    """The backup that was asked for, or the newest of a world. Raises BackupError, SettingsError."""
    from recovery import BackupError, SealedBackup, backups_at, backups_of, open_place, read_key

    place = open_place(url)
    _refuse_missing(place)
    names = backups_of(place, world) if name is None else backups_at(place)
    if name is not None and name not in names and not place.paths(name):
        raise BackupError(f"there is no backup {name!r} at {place.address}; there are: {', '.join(names) or 'none'}")
    if name is None and not names:
        raise BackupError(
            f"there is no finished backup of the world {world!r} at {place.address}: check URL and kafka.prefix; "
            "`headwater backup list URL` names all, and --name takes one"
        )
    return SealedBackup(place, name or names[-1], None if key is None else read_key(key))


def _refuse_missing(place: BackupPlace) -> None:
    from recovery import BackupError
    from recovery.places import FolderFiles

    if isinstance(place, FolderFiles) and not Path(place.address).is_dir():
        raise BackupError(f"there is no folder {place.address}: check the path (is its disk mounted?)")


def say(line: str) -> None:
    """Tell of a step."""
    print(line, file=sys.stderr, flush=True)
