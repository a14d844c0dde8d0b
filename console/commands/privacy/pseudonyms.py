"""`headwater pseudonyms`: the keys by which users are called in the place of their ids (docs/privacy.md)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.commands.option_groups import grouped
from console.commands.options import Json, KafkaOptions, ServerOptions

if TYPE_CHECKING:
    from headwater.privacy.pseudonyms import Pseudonyms
    from headwater.settings import Settings
    from streams.features.store import FeatureStore

AT_ONCE, ACKNOWLEDGE_S = 10_000, 60
"""Users that are linked before Kafka is waited for, and how long."""

app = typer.Typer(no_args_is_help=True, help="Call users by pseudonyms: keys, names, another key.")


@app.command("key")
def add_key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Of keys; made where there is none.")],
) -> None:
    """Add a new key to the end of a file, readable for its owner alone: pseudonyms are made by it from then on.

    Name the file in `privacy.pseudonym_keys_file` of every app and command that says users' ids, and start those anew.
    Workers need none. Who has lost the keys has lost whom the histories are of.
    """
    from headwater.privacy.pseudonyms import new_key_line, read_keys

    before = file.read_text(errors="replace") if file.exists() else ""
    line = new_key_line(read_keys(before, str(file)) if before.strip() else ())
    to = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(to, "a") as opened:
        opened.write(("" if before.endswith("\n") or not before else "\n") + line)
    print(f"{file}: {line.split()[0]} is the newest key")


@app.command("user-keys")
@grouped
def make_keys(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Of users' keys; must not be there yet.")],
    servers: KafkaOptions,
) -> None:
    """Make a file for keys of the users' own, wrapped by the master key of the settings: `headwater forget` destroys
    the key of who is forgotten, and nobody can tell any more whose the records are.

    Name it in `privacy.user_keys_file` of every app and command that says users' ids, with the master key. Keep both
    where no topic, no store and no backup of them is.
    """
    from headwater.privacy.master_key import master_key_of
    from headwater.privacy.user_keys import make_user_keys

    make_user_keys(file, master_key_of(servers.settings().privacy))
    print(f"{file}: no user has a key yet")


@app.command("new-master")
@grouped
def exchange_master(
    *,
    key_file: Annotated[
        Path | None, typer.Option("--key-file", metavar="FILE", help="With the new master key.")
    ] = None,
    command: Annotated[str | None, typer.Option("--command", help="That asks a KMS for the new one.")] = None,
    by: Annotated[str | None, typer.Option(metavar="NAME", help="Who asks, for the audit log.")] = None,
    servers: ServerOptions,
) -> None:
    """Have the file of users' keys (where privacy.user_keys_file is set) and the key of the store (where it has one)
    wrapped by another master key than that of the settings. Nobody is called anything else, no state is written anew,
    and who runs goes on; who starts needs the new one: change the settings next.
    """
    from contextlib import closing

    from headwater.errors import SettingsError
    from headwater.privacy.audit_log import write_audit
    from headwater.privacy.master_key import master_key_of
    from headwater.privacy.user_keys import user_keys_of
    from streams.features.store import FeatureStore

    if (key_file is None) == (command is None):
        raise typer.BadParameter("give --key-file FILE or --command COMMAND")
    settings = servers.settings()
    keys = user_keys_of(settings.privacy)
    new = {"master_key": None, "master_key_file": key_file, "master_key_command": command}
    master = master_key_of(settings.privacy.model_copy(update=new))
    told = {"wrapped_by": "key" if command is None else "command"}
    with closing(FeatureStore(settings.redis, settings.kafka.prefix, privacy=settings.privacy)) as store:
        has_key = settings.privacy.seal_states or _has_key(store, is_all=keys is None)
        if keys is None and not has_key:
            raise SettingsError(
                "privacy.user_keys_file is not set, and the store has no key: say what is to have another master key"
            )
        write_audit(settings.kafka, "pseudonyms new-master", told, by)
        if has_key:
            count = store.wrap_sealing_by(master)
            print(f"the store at {store.address}: {count} key(s) wrapped by the new master key. Start all workers anew")
    if keys is not None:
        keys.wrap_by(master)
        print(f"{settings.privacy.user_keys_file}: wrapped by the new master key")
    print("the old one opens copies of before alone")


def _has_key(store: FeatureStore, *, is_all: bool) -> bool:
    """Whether the store has one, also where nothing is sealed any more. One that is away is passed over, and that is
    told, where it is not all that is asked for: who has users' keys may have no store.
    """
    from headwater.errors import Unavailable

    try:
        return store.has_sealing_key()
    except Unavailable as error:
        if is_all:
            raise
        text = f"the store is passed over, and what may be sealed there stays under the master key of before: {error}"
        print(text, file=sys.stderr)
        return False


@app.command("of")
@grouped
def show(
    *,
    users: Annotated[list[str], typer.Argument(metavar="USER...", help="Ids of the app's own.")],
    servers: KafkaOptions,
    as_json: Json = False,
) -> None:
    """What users are called, and were under the keys before: by these names topics and store have them. Where users
    have keys of their own, one who has none is shown as given.
    """
    import orjson

    from console.privacy.held import called

    settings = servers.settings()
    if settings.privacy.user_keys_file is None:
        _pseudonyms(settings)  # refuses where no keys are set
    named = {user: called(settings, user) for user in users}
    if as_json:
        print(orjson.dumps(named).decode())
        return
    for user, names in named.items():
        print(user, *names)


@app.command("link")
@grouped
def link(
    *,
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Ids of the app's own, one a line. Default: stdin.")
    ] = None,
    by: Annotated[str | None, typer.Option(metavar="NAME", help="Who asks, for the audit log.")] = None,
    servers: KafkaOptions,
) -> None:
    """After a new key: link what all users are called with what they were, so that the old key can go.

    Do it before apps have the new key, for what these users consent to is said of their new names as well, and again
    before the old key goes. What users are called by a key that is gone nobody can tell any more: who is not linked
    begins anew. To link somebody twice changes nothing.
    """
    from console.look.cluster import must_exist
    from console.privacy.renaming import carry_words
    from headwater import Client, SettingsError
    from headwater.privacy.audit_log import write_audit
    from headwater.topics import IDENTITIES

    settings = servers.settings()
    pseudonyms = _pseudonyms(settings)
    keys = [key.key_id for key in pseudonyms.keys]
    if len(keys) < 2:
        raise SettingsError(f"{keys[0]} is the only key: `headwater pseudonyms key FILE` adds one, then link by both")
    users = list(_lines(file))
    must_exist(settings.kafka, IDENTITIES)
    write_audit(settings.kafka, "pseudonyms link", {"keys": keys}, by)
    with Client(settings=settings, source="console") as client:
        words = carry_words(settings.kafka, ((pseudonyms.of(one), *pseudonyms.former(one)) for one in users))
        for at in range(0, len(users), AT_ONCE):
            client.link_pseudonyms(users[at : at + AT_ONCE]).result(ACKNOWLEDGE_S)
    print(
        f"{len(users):,} users are called by {keys[-1]}, and linked with what {', '.join(keys[-2::-1])} called them; "
        f"{words:,} words of consent were said again"
    )


def _pseudonyms(settings: Settings) -> Pseudonyms:
    from headwater.errors import SettingsError
    from headwater.privacy.pseudonyms import pseudonyms_of

    found = pseudonyms_of(settings.privacy)
    if found is None:
        raise SettingsError(
            "users are called by their ids: no key is set. `headwater pseudonyms key FILE` makes one; then set "
            "HEADWATER_PRIVACY__PSEUDONYM_KEYS_FILE=FILE"
        )
    return found


def _lines(file: Path | None) -> Iterator[str]:
    """Ids, checked before anything is told of one."""
    from headwater.users import User
    from headwater.wire import validated

    with file.open("rb") if file is not None else sys.stdin.buffer as opened:
        for number, line in enumerate(opened, 1):
            if said := line.rstrip(b"\r\n"):
                yield validated(User, {"user_id": said.decode(errors="surrogateescape")}, f"line {number:,}").user_id
