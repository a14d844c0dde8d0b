"""`headwater audit takedown`: no answer holds an item that it knew to be gone."""

from __future__ import annotations

import typer

from console.commands.option_groups import grouped
from console.commands.options import Json, KafkaOptions

SHOWN = 20


@grouped
def command(*, servers: KafkaOptions, as_json: Json = False) -> None:
    """Check that no list holds an item that was removed, unavailable or expired by what its receipt knew."""
    import orjson

    from replay.audits import audit_takedown

    found = audit_takedown(servers.settings().kafka)
    if as_json:
        shown = {
            "ok": found.ok,
            "answers": found.answers,
            "listed": found.listed,
            "taken_down": found.taken_down,
            "offences": found.offences_found,
            "named": [offence._asdict() for offence in found.offences],
            "unreadable": found.unreadable,
            "unreadable_items": found.unreadable_items,
            "not_judged": found.not_judged,
        }
        print(orjson.dumps(shown).decode())
    else:
        for offence in found.offences[:SHOWN]:
            print(offence)
        if found.offences_found > SHOWN:
            print(f"and {found.offences_found - SHOWN:,} more (--json names {len(found.offences):,})")
        verdict = "ok" if found.ok else f"{found.offences_found:,} were listed all the same"
        print(
            f"{found.answers:,} answers with {found.listed:,} items; {found.taken_down:,} items were removed, "
            f"unavailable or due to expire at some time: {verdict}"
        )
        if found.unreadable or found.unreadable_items:
            print(
                f"not readable: {found.unreadable:,} records of recommendations, {found.unreadable_items:,} of items "
                "(these changed nothing)"
            )
        for why, count in found.not_judged.items():
            print(f"not judged: {count:,} listed items, as {why}")
    if not found.ok:
        raise typer.Exit(1)
