"""`headwater audit features`: what the store holds of each user is what the topic says, while the workers go on."""

from __future__ import annotations

import typer

from console.commands.option_groups import grouped
from console.commands.options import Json, ServerOptions

SHOWN = 20


@grouped
def command(*, servers: ServerOptions, as_json: Json = False) -> None:
    """Fold the topic `events` again and compare every user's features with it, each as of the moment it was read.

    Changes nothing and stops nobody: the workers may go on. Takes the memory of all users' histories, twice.
    """
    import orjson

    from streams.running_audit import audit_running

    found = audit_running(servers.settings())
    if as_json:
        shown = {
            "ok": found.ok,
            "users": found.users,
            "events": found.events,
            "older": found.older,
            "differing": found.differing,
            "differences": found.differences,
            "deleted_below": {f"{partition}": oldest for partition, oldest in found.deleted.items()},
        }
        print(orjson.dumps(shown).decode())
    else:
        for difference in found.differences[:SHOWN]:
            print(difference)
        if found.differing > SHOWN:
            print(f"and {found.differing - SHOWN:,} more (--json names {len(found.differences):,})")
        verdict = "ok" if found.ok else f"{found.differing:,} differ: `headwater rebuild features` makes them again"
        print(f"{found.users:,} users, {found.events:,} events at or below their marks: {verdict}")
        if found.older:
            print(
                f"not judged: {found.older:,} users with events that the topic no longer holds (deleted below "
                + ", ".join(f"{oldest:,} of partition {partition}" for partition, oldest in found.deleted.items())
                + ")"
            )
    if not found.ok:
        raise typer.Exit(1)
