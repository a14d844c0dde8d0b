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
            "lacking": {name: one._asdict() for name, one in found.lacking.items()},
        }
        print(orjson.dumps(shown).decode())
    else:
        for difference in found.differences[:SHOWN]:
            print(difference)
        if found.differing > SHOWN:
            print(f"and {found.differing - SHOWN:,} more (--json names {len(found.differences):,})")
        again = "headwater rebuild features --clear" if found.differing else "headwater rebuild features"
        told = [f"{one.lost:,} of {one.of:,} records of {name}" for name, one in found.lacking.items()]
        if told:
            print(f"{', '.join(told)} are not in the store: {again}")
        verdict = f"{found.differing:,} differ: {again}" if found.differing else "as the topic says"
        verdict = "ok" if found.ok else verdict
        print(f"{found.users:,} users, {found.events:,} events at or below their marks: {verdict}")
        if not found.ok:
            print("(with the streams workers stopped; `headwater up`: stop it, and run `headwater up --servers-only`)")
        if found.differing:
            print(
                "(--clear makes only what events holds now: where that was lost, made anew beside a restored store, or "
                "cut by retention, restore a backup instead)"
            )
        if found.older:
            print(
                f"not judged: {found.older:,} users with events that the topic no longer holds (deleted below "
                + ", ".join(f"{oldest:,} of partition {partition}" for partition, oldest in found.deleted.items())
                + ")"
                if found.deleted
                else f"not judged: {found.older:,} users with events of a log that was before this one"
            )
    if not found.ok:
        raise typer.Exit(1)
