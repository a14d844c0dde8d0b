"""`headwater export`: everything that is held about a person, as JSON."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from console.commands.option_groups import grouped
from console.commands.options import ServerOptions
from console.printing import printer


@grouped
def command(
    *,
    user: Annotated[str, typer.Argument(metavar="USER", help="Any id of the person.")],
    to: Annotated[Path | None, typer.Option(metavar="FILE", help="Write there. Default: print.")] = None,
    by: Annotated[str | None, typer.Option(metavar="NAME", help="Who asks, for the audit log.")] = None,
    servers: ServerOptions,
) -> None:
    """Everything held about a person, in the store and in the topics, with where each part is and until when."""
    import orjson

    from console.look.cluster import must_exist
    from console.privacy.held import called, held_about, is_held
    from headwater.privacy import digest_of
    from headwater.privacy.audit_log import write_audit
    from headwater.topics import EVENTS

    settings = servers.settings()
    must_exist(settings.kafka, EVENTS)
    with printer(stderr=True).status("reading ...") as shown:
        found = held_about(settings, user, lambda topic: shown.update(f"reading {topic} ..."))
    if not is_held(found):
        print(f"nothing is held of {user!r}: is the id right?", file=sys.stderr)
        raise typer.Exit(1)
    write_audit(settings.kafka, "export", {"users": [digest_of(one) for one in called(settings, user)]}, by)
    text = orjson.dumps(found, option=orjson.OPT_INDENT_2)
    if to is None:
        print(text.decode())
        return
    to.touch(mode=0o600)
    to.write_bytes(text + b"\n")
    many = sum(len(one.get("records", ())) for one in found["topics"].values())
    print(f"{to}: {len(found['ids'])} ids, {many:,} records")
