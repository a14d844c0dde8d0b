"""`headwater consent`: for which purposes what a person does may be used: shown, granted, withdrawn."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.commands.option_groups import grouped
from console.commands.options import Json, ServerOptions
from headwater.consent import PURPOSES, Said

if TYPE_CHECKING:
    from headwater.settings import Settings

NAMED = ", ".join(PURPOSES)


@dataclass(frozen=True)
class ConsentOptions:
    """What is said."""

    grant: Annotated[list[str] | None, typer.Option(metavar="PURPOSE", help=f"Grant: {NAMED}, or all.")] = None
    withdraw: Annotated[list[str] | None, typer.Option(metavar="PURPOSE", help="Withdraw; as --grant.")] = None
    alone: Annotated[bool, typer.Option("--alone", help="This id alone, and not all that are linked with it.")] = False
    wait: Annotated[float, typer.Option(min=0, help="Longest wait for the workers, in seconds.")] = 30.0
    by: Annotated[str | None, typer.Option(metavar="NAME", help="Who asks, for the audit log.")] = None


@grouped
def command(
    *,
    user: Annotated[str, typer.Argument(metavar="USER", help="Any id of the person.")],
    wanted: ConsentOptions,
    servers: ServerOptions,
    as_json: Json = False,
) -> None:
    """Show what a person has consented to; or grant and withdraw purposes, for all ids of the person, and wait.

    Who withdraws personalise is forgotten as `headwater forget` does it, and no history is kept from then on.
    """
    import orjson

    from console.look.cluster import must_exist
    from console.privacy.consenting import in_force
    from console.privacy.held import called, ids_of
    from headwater.topics import EVENTS
    from streams.features.store import FeatureStore

    changed = _changed(wanted)
    settings = servers.settings()
    must_exist(settings.kafka, EVENTS)
    store = FeatureStore(settings.redis, settings.kafka.prefix, privacy=settings.privacy)
    try:
        names = called(settings, user, make=bool(changed))
        ids = names if wanted.alone else ids_of(store, names)
        if changed:
            _say(settings, store, ids, changed, wanted)
        found = in_force(settings, store, ids)
    finally:
        store.close()
    if as_json:
        print(orjson.dumps({"asked": settings.privacy.consent, "ids": found}).decode())
        return
    if settings.privacy.consent == "off":
        print("privacy.consent is off here: what holds by default is as if the workers had it so, too", file=sys.stderr)
    for one, told in found.items():
        parts = []
        for purpose, granted in told["allowed"].items():
            why = "" if purpose in told["said"] else " by default"
            parts.append(f"{purpose} {'granted' if granted else 'denied'}{why}")
        print(f"{one}: {', '.join(parts)}" + (f" (said {told['since']})" if told["since"] else ""))


def _changed(wanted: ConsentOptions) -> dict[str, bool]:
    """By purpose. Raises BadParameter."""
    found: dict[str, bool] = {}
    for granted, named in ((True, wanted.grant), (False, wanted.withdraw)):
        for one in named or ():
            if one not in (*PURPOSES, "all"):
                raise typer.BadParameter(f"{one!r} is no purpose: {NAMED}, or all")
            for purpose in PURPOSES if one == "all" else (one,):
                if found.setdefault(purpose, granted) != granted:
                    raise typer.BadParameter(f"{purpose} is both granted and withdrawn")
    return found


def _say(
    settings: Settings, store: Any, ids: tuple[str, ...], changed: dict[str, bool], wanted: ConsentOptions
) -> None:
    from console.privacy.consenting import awaited, give, newest_said
    from console.privacy.held import digests_of
    from headwater.errors import SettingsError, Unavailable
    from headwater.privacy.audit_log import write_audit

    if settings.privacy.consent == "off":
        raise SettingsError(
            "privacy.consent is off, and nobody would go by the word: set HEADWATER_PRIVACY__CONSENT to opt-out or "
            "opt-in for every worker, start them again, and say it then"
        )
    said = {one: Said(**{**word._asdict(), **changed}) for one, word in newest_said(settings, ids).items()}
    write_audit(settings.kafka, "consent", {"users": digests_of(ids), **changed}, wanted.by)
    give(settings, said)
    left = awaited(store, said, wanted.wait)
    if left:
        raise Unavailable(
            f"the word on {len(left)} of {len(said)} ids is not in force after {wanted.wait:g} s. It stands in the "
            "topic consents and will be: does a streams worker run with the same privacy.consent?"
        )
