"""`headwater forget`: a person is forgotten by every worker, and a certificate says so; or one is looked at again."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.commands.option_groups import grouped
from console.commands.options import Json, ServerOptions

if TYPE_CHECKING:
    from console.privacy.forgetting import Check
    from headwater.privacy import ErasureFact
    from headwater.settings import Settings

CERTIFICATES = "certificates"
LOOK_S = 0.5


@dataclass(frozen=True)
class ForgettingOptions:
    """How somebody is to be forgotten."""

    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False
    alone: Annotated[bool, typer.Option("--alone", help="This id alone, and not all that are linked with it.")] = False
    until: Annotated[
        int | None, typer.Option(metavar="MS", help="What happened until then, epoch ms. Default: now.")
    ] = None
    wait: Annotated[float, typer.Option(min=0, help="Longest wait for the workers, in seconds.")] = 30.0
    by: Annotated[str | None, typer.Option(metavar="NAME", help="Who asks, for the audit log.")] = None
    even_unknown: Annotated[bool, typer.Option("--even-unknown", help="Also where nothing is held of that id.")] = False
    also: Annotated[
        list[str] | None,
        typer.Option("--also", metavar="ID", help="Another id of the person, never linked: a guest's, a session's."),
    ] = None


@grouped
def command(
    *,
    user: Annotated[
        str | None, typer.Argument(metavar="USER", help="Any id of the person.", show_default=False)
    ] = None,
    wanted: ForgettingOptions,
    verify: Annotated[
        Path | None, typer.Option(metavar="CERT", help="Look again whether what a certificate says holds.")
    ] = None,
    public_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="PEM of the key that must have signed CERT.")
    ] = None,
    servers: ServerOptions,
    as_json: Json = False,
) -> None:
    """Forget a person: features, links, attributes, cached answers, the trainer's windows. It cannot be undone.

    Events of that id that come later begin anew. The certificate names nobody; it is kept under the data folder. Exit
    code 1 where something is not forgotten yet: `headwater forget --verify CERT` looks again.
    """
    import orjson

    if (user is None) == (verify is None):
        raise typer.BadParameter("give an id, or --verify CERT")
    if public_key is not None and verify is None:
        raise typer.BadParameter("--public-key goes with --verify CERT; what signs is privacy.signing_key")
    settings = servers.settings()
    if verify is not None:
        _verify(settings, verify, public_key or settings.privacy.signing_key, as_json)
        return
    assert user is not None
    for one in (user, *(wanted.also or ())):
        _refuse_odd(one, wanted.until)
    folder = servers.data / CERTIFICATES
    body = _forget(settings, user, wanted, folder)
    path = folder / f"{body['erasures'][0]['digest'][:12]}-{time.strftime('%Y%m%dT%H%M%S')}.json"
    path.write_bytes(orjson.dumps(body, option=orjson.OPT_INDENT_2) + b"\n")
    if as_json:
        print(orjson.dumps({**body, "kept_at": str(path)}).decode())
    else:
        _print_checks(body["checks"])
        print(f"certificate: {path}" + ("" if "signature" in body else " (not signed: privacy.signing_key is not set)"))
        for topic, held in body["held_before"]["topics"].items():
            if held["records"]:
                print(
                    f"  {topic}: {held['records']:,} records name the person still, until {held['last_is_kept_until']}"
                )
    if not body["complete"]:
        raise typer.Exit(1)


def _refuse_odd(user: str, until: int | None) -> None:
    """Before anything is written. Raises BadParameter."""
    from headwater.events import MAX_ID_LENGTH, now_ms

    if not 0 < len(user) <= MAX_ID_LENGTH:
        raise typer.BadParameter(f"an id has 1 to {MAX_ID_LENGTH} characters, this one {len(user):,}")
    if until is not None and not 0 <= until <= now_ms():
        raise typer.BadParameter(
            f"--until {until}: give epoch ms, not after now: what is still to come is not forgotten"
        )


def _forget(settings: Settings, user: str, wanted: ForgettingOptions, folder: Path) -> dict[str, Any]:
    """What may be refused comes before the first word that is written: nobody is forgotten without a certificate."""
    from console.look.cluster import must_exist
    from console.privacy.forgetting import ask, awaited, certificate, counted, destroy_keys, keys_are_missing
    from console.privacy.held import called, digests_of, ids_of
    from headwater.errors import SettingsError, Unavailable
    from headwater.privacy.audit_log import write_audit
    from headwater.privacy.user_keys import StillRead
    from headwater.topics import EVENTS
    from streams.features.store import FeatureStore

    if settings.privacy.signing_key is not None:
        from models.published.signing import private_key

        private_key(settings.privacy.signing_key)
    must_exist(settings.kafka, EVENTS)
    store = FeatureStore(settings.redis, settings.kafka.prefix, privacy=settings.privacy)
    try:
        names = (*called(settings, user), *_also(settings, wanted.also or ()))
        person = ids_of(store, names)
        ids = names if wanted.alone else person
        before = counted(settings, store, ids, lambda _: None)
    finally:
        store.close()
    if keys_are_missing(settings, ids):
        raise SettingsError(
            f"{user} is called so by a key of its own, and privacy.user_keys_file is not set here: name the file, with "
            "the master key, so that the key is destroyed"
        )
    if not before.pop("known") and not wanted.even_unknown:
        told = f"nothing is held of {user!r}: is the id right? (--even-unknown forgets it all the same)"
        print(told, file=sys.stderr)
        raise typer.Exit(1)
    if not wanted.yes:
        named = ", ".join(ids[:10]) + (f" and {len(ids) - 10} more" if len(ids) > 10 else "")
        entries = before["history_entries"]
        typer.confirm(f"Forget {named} ({entries:,} entries of history)? It cannot be undone", abort=True, err=True)
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise SettingsError(f"{folder}, where the certificate is kept, cannot be written to: mend that, or give --data")
    digests = digests_of(ids)
    audit = write_audit(settings.kafka, "forget", {"users": digests}, wanted.by)
    since = ask(settings, ids, wanted.until)
    # at once: links, which tell whose keys go, too, are gone soon
    with suppress(StillRead):  # the certificate says so
        destroy_keys(settings, ids)
    facts = awaited(settings, digests, since, wanted.wait)
    if len(facts) < len(set(digests)):
        raise Unavailable(
            f"{len(set(digests)) - len(facts)} of {len(set(digests))} erasures have no effect after {wanted.wait:g} s. "
            "They stand in the topic erasures and will: does a streams worker run? Run "
            f"`headwater forget {ids[0]}` afterwards for the certificate"
        )
    places: dict[str, tuple[int, int]] = {}
    looked = _looked(settings, facts, person, places, wanted.wait)
    return certificate(settings, facts, before, looked, audit.digest, places)


def _also(settings: Settings, ids: Sequence[str]) -> list[str]:
    """What these are called. Raises SettingsError where one has no key of its own, and others here do: its id would
    come to stand on a topic.
    """
    from console.privacy.held import called
    from headwater.errors import SettingsError
    from headwater.privacy.user_keys import is_user_name

    names = [name for one in ids for name in called(settings, one)]
    if settings.privacy.user_keys_file is not None and not all(map(is_user_name, names)):
        unknown = ", ".join(repr(name) for name in names if not is_user_name(name))
        raise SettingsError(f"--also {unknown}: has no key, so nothing is held under it: is the id right?")
    return names


def _looked(
    settings: Settings,
    facts: Mapping[str, ErasureFact],
    person: tuple[str, ...],
    places: dict[str, tuple[int, int]],
    wait: float,
) -> list[Check]:
    """The checks, once all hold or the time is over."""
    from console.privacy.forgetting import checks

    deadline = time.monotonic() + wait
    while True:
        looked = list(checks(settings, facts, person, places))
        if all(one.ok for one in looked) or time.monotonic() > deadline:
            return looked
        time.sleep(LOOK_S)


def _verify(settings: Settings, path: Path, key: Path | None, as_json: bool) -> None:
    import orjson
    from pydantic import ValidationError

    from console.privacy.forgetting import Check, checks, places_in
    from headwater.errors import SettingsError
    from headwater.privacy import ErasureFact

    try:
        body = orjson.loads(path.read_bytes())
        facts = {fact.digest: fact for fact in map(ErasureFact.model_validate, body["erasures"])}
        places = places_in(body)
    except (orjson.JSONDecodeError, ValidationError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise SettingsError(f"{path} is no certificate of an erasure ({type(error).__name__})") from error
    if body.get("world") != settings.kafka.prefix:
        raise SettingsError(
            f"{path} is of the world {body.get('world')!r}; this is {settings.kafka.prefix!r}: --prefix"
        )
    looked = [*checks(settings, facts, places=places)]
    signature = body.get("signature")
    signer = str(signature.get("key_id")) if isinstance(signature, dict) else "none"
    unchecked = []
    if key is not None:
        from models.published.signing import is_signed_by, public_key

        ours = is_signed_by(body, public_key(key))
        found = signer if ours else f"it was changed, or signed by another key (it names {signer})"
        looked.append(Check(f"it is as it was signed by {key}", ours, found))
    elif signature is not None:
        unchecked.append(
            f"signature by key {signer}, so nobody knows whether the certificate was changed: --public-key FILE "
            "(or privacy.signing_key)"
        )
    else:
        unchecked.append("signature, there is none: whoever has the file may have changed it")
    if as_json:
        told = {"ok": all(one.ok for one in looked), "checks": [one._asdict() for one in looked]}
        print(orjson.dumps({**told, "not_checked": unchecked}).decode())
    else:
        _print_checks([one._asdict() for one in looked])
        for what in unchecked:
            print(f"not checked: {what}")
    if not all(one.ok for one in looked):
        raise typer.Exit(1)


def _print_checks(looked: list[dict[str, Any]]) -> None:
    for one in looked:
        print(f"{'ok   ' if one['ok'] else 'wrong'} {one['name']}: {one['found']}")
    sys.stdout.flush()
