"""`headwater seal-states`: what the store keeps of people, sealed or opened at once and not with the next write."""

from __future__ import annotations

from typing import Annotated

import typer

from console.commands.option_groups import grouped
from console.commands.options import Json, ServerOptions


@grouped
def command(
    *,
    by: Annotated[str | None, typer.Option(metavar="NAME", help="Who asks, for the audit log.")] = None,
    servers: ServerOptions,
    as_json: Json = False,
) -> None:
    """Write histories and attributes in the store as privacy.seal_states says, where they lie otherwise: sealed where
    it is set, else open. Workers go on; all of them must have the same setting by then.
    """
    from contextlib import closing

    import orjson

    from headwater.privacy.audit_log import write_audit
    from streams.features.store import FeatureStore

    settings = servers.settings()
    with closing(FeatureStore(settings.redis, settings.kafka.prefix, privacy=settings.privacy)) as store:
        store.claim()  # refuses here what it could not read
        write_audit(settings.kafka, "seal-states", {"sealed": settings.privacy.seal_states}, by)
        done = store.reseal()
    if as_json:
        print(orjson.dumps({**done._asdict(), "sealed": settings.privacy.seal_states}).decode())
        return
    verb = "sealed" if settings.privacy.seal_states else "opened"
    print(f"{verb}: {done.states:,} states and the attributes of {done.attributes:,} users; the others were")
    if done.unreadable:
        print(f"{done.unreadable:,} hold what nobody wrote: streams workers mend it when they next meet these users")
