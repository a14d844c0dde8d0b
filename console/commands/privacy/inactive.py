"""`headwater forget-inactive`: whoever was not seen for so long is forgotten."""

from __future__ import annotations

from typing import Annotated

import typer

from console.commands.option_groups import grouped
from console.commands.options import Json, ServerOptions
from console.printing import printer

DAY_MS = 86_400_000


@grouped
def command(
    *,
    days: Annotated[
        float, typer.Argument(metavar="DAYS", min=0.01, max=36_500, help="Not seen for so long, by event time.")
    ],
    now: Annotated[
        int | None, typer.Option(metavar="MS", help="Count back from there, epoch ms: in a world of the past.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    by: Annotated[str | None, typer.Option(metavar="NAME", help="Who asks, for the audit log.")] = None,
    servers: ServerOptions,
    as_json: Json = False,
) -> None:
    """Forget everybody who was not seen for so many days: for cron. As `headwater forget` without a certificate.

    Who has denied something stays, so that it stays denied.
    """
    import orjson

    from console.look.cluster import must_exist
    from console.privacy.inactivity import forget_inactive
    from headwater.events import now_ms
    from headwater.privacy.audit_log import write_audit
    from headwater.privacy.user_keys import user_keys_of
    from headwater.topics import EVENTS

    settings = servers.settings()
    must_exist(settings.kafka, EVENTS)
    if now is not None and not 0 <= now <= now_ms():
        raise typer.BadParameter(f"--now {now}: give epoch ms, not after now")
    if not dry_run and settings.privacy.user_keys_file is not None:
        user_keys_of(settings.privacy)  # refused before anybody is forgotten, where it cannot be used
    until_ms = max(0, round((now_ms() if now is None else now) - days * DAY_MS))

    def begin() -> None:
        if not dry_run:
            write_audit(settings.kafka, "forget-inactive", {"days": days, "until": until_ms}, by)

    with printer(stderr=True).status("looking ...") as shown:
        done = forget_inactive(
            settings,
            until_ms,
            dry=dry_run,
            begin=begin,
            progress=lambda so_far: shown.update(f"{so_far.looked:,} users ..."),
        )
    if as_json:
        print(orjson.dumps({**done._asdict(), "until": until_ms, "dry_run": dry_run}).decode())
        return
    verb = "would be" if dry_run else "are being"
    print(f"{done.looked:,} users looked at, {done.forgotten:,} {verb} forgotten: not seen for {days:g} days")
    if done.with_word:
        print(f"{done.with_word:,} were not seen either and stay: they have denied something (headwater consent)")
    if done.unreadable:
        print(f"{done.unreadable:,} have a state that cannot be read: streams workers mend it when they next meet them")
