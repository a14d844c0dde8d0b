"""`headwater keys`: API keys of the gateway, made, listed, replaced and revoked. Every gateway hears of it at once."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from console.commands.option_groups import grouped
from console.commands.options import Json, ServerOptions

if TYPE_CHECKING:
    from gateway.api_keys import ApiKey, NewKey
    from headwater.settings import Settings

app = typer.Typer(no_args_is_help=True, help="API keys of the gateway: what a caller may do.")

KeyId = Annotated[str, typer.Argument(metavar="ID", help="Of the key, as `headwater keys list` prints it.")]
By = Annotated[str | None, typer.Option(metavar="NAME", help="Who asks, for the audit log.")]


@app.command("create")
@grouped
def create(
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is, in words.")],
    scope: Annotated[str, typer.Option(metavar="LIST", help="Of produce, recommend, admin.")] = "produce,recommend",
    days: Annotated[int | None, typer.Option(min=1, max=36_500, help="Until it expires. Default: never.")] = None,
    by: By = None,
    servers: ServerOptions,
) -> None:
    """Make a key and print it: it is shown this once."""
    from gateway.api_keys import SCOPES, new_key
    from headwater.events import now_ms
    from headwater.spelling import did_you_mean
    from headwater.topics import DAY_MS

    scopes = tuple(dict.fromkeys(one.strip() for one in scope.split(",") if one.strip()))
    unknown = [one for one in scopes if one not in SCOPES]
    if unknown or not scopes:
        hint = did_you_mean(unknown[0], SCOPES) if unknown else ""
        raise typer.BadParameter(f"--scope {scope!r:.60}: give some of {', '.join(SCOPES)}.{hint}")
    made = new_key(name, scopes, None if days is None else now_ms() + days * DAY_MS)
    _write(servers.settings(), "key create", made.kept.key_id, made, by)
    print(made.text)


@app.command("list")
@grouped
def listed(*, servers: ServerOptions, as_json: Json = False) -> None:
    """The keys that there are, by id; none is shown whole."""
    from headwater.events import now_ms

    for kept in sorted(_kept(servers.settings()).values(), key=lambda one: one.created_time):
        if as_json:
            print(kept.model_dump_json(exclude={"hash"}))
            continue
        until = ""
        if kept.expires_time is not None:
            until = "expired" if kept.expires_time <= now_ms() else f"until {_date(kept.expires_time)}"
        print(f"{kept.key_id}  {','.join(kept.scopes):<24}  {_date(kept.created_time)}  {kept.name}  {until}".rstrip())


@app.command("rotate")
@grouped
def rotate(*, key_id: KeyId, by: By = None, servers: ServerOptions) -> None:
    """Make a key like this one, for as long, and print it. The old one works until it is revoked."""
    from gateway.api_keys import new_key
    from headwater.events import now_ms

    settings = servers.settings()
    old = _one(settings, key_id)
    until = None if old.expires_time is None else now_ms() + old.expires_time - old.created_time
    made = new_key(old.name, old.scopes, until)
    _write(settings, "key rotate", made.kept.key_id, made, by)
    print(made.text)
    print(f"{key_id} works until: headwater keys revoke {key_id}", file=sys.stderr)


@app.command("revoke")
@grouped
def revoke(*, key_id: KeyId, by: By = None, servers: ServerOptions) -> None:
    """Take a key away, at once."""
    settings = servers.settings()
    _one(settings, key_id)
    _write(settings, "key revoke", key_id, None, by)
    print(f"{key_id} is revoked")


def _date(time_ms: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d")


def _kept(settings: Settings) -> dict[str, ApiKey]:
    from gateway.api_keys import read_key
    from headwater.errors import InvalidMessage
    from headwater.kafka import read_topic
    from headwater.topics import API_KEYS

    found: dict[str, ApiKey] = {}
    for record in read_topic(settings.kafka, API_KEYS, missing_ok=True):
        try:
            key_id, kept = read_key(record.key, record.value, f"{API_KEYS.name}[0]@{record.offset}")
        except InvalidMessage as error:
            print(f"opens nothing, for it cannot be read: {error}", file=sys.stderr)
            key_id, kept = (record.key or b"").decode(errors="replace"), None
        if kept is None:
            found.pop(key_id, None)
        else:
            found[key_id] = kept
    return found


def _one(settings: Settings, key_id: str) -> ApiKey:
    from headwater.errors import SettingsError
    from headwater.spelling import did_you_mean

    found = _kept(settings)
    if key_id not in found:
        raise SettingsError(f"there is no key {key_id!r:.40}: `headwater keys list`{did_you_mean(key_id, list(found))}")
    return found[key_id]


def _write(settings: Settings, action: str, key_id: str, made: NewKey | None, by: str | None) -> None:
    from headwater.kafka import ensure_topics
    from headwater.kafka.sending import send_records
    from headwater.privacy.audit_log import write_audit
    from headwater.topics import API_KEYS
    from headwater.wire import encode

    ensure_topics(settings.kafka, topics=[API_KEYS])
    value = None if made is None else encode(made.kept)
    scopes = {} if made is None else {"scopes": list(made.kept.scopes), "name": made.kept.name}
    write_audit(settings.kafka, action, {"key_id": key_id, **scopes}, by)
    send_records(settings.kafka, API_KEYS, [(key_id.encode(), value)])
