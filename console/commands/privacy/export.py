"""`headwater export`: everything that is held about a person, as JSON."""

from __future__ import annotations

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

    from console.privacy.held import held_about
    from headwater.privacy import digest_of
    from headwater.privacy.audit_log import write_audit

    settings = servers.settings()
    write_audit(settings.kafka, "export", {"users": [digest_of(user)]}, by)
    with printer(stderr=True).status("reading ...") as shown:
        found = held_about(settings, user, lambda topic: shown.update(f"reading {topic} ..."))
    text = orjson.dumps(found, option=orjson.OPT_INDENT_2)
    if to is None:
        print(text.decode())
        return
    to.touch(mode=0o600)
    to.write_bytes(text + b"\n")
    many = sum(len(one.get("records", ())) for one in found["topics"].values())
    print(f"{to}: {len(found['ids'])} ids, {many:,} records")
