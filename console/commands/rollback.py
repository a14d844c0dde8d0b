"""`headwater rollback`: makes an older model live and keeps it so, or lets the trainer publish again."""

from __future__ import annotations

from typing import Annotated

import typer

from console.commands.option_groups import grouped
from console.commands.options import Json, KafkaOptions, Utc


@grouped
def command(
    *,
    version: Annotated[int | None, typer.Argument(help="Version to go back to. Without: list those there are.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="End a rollback: the newest model, and publishing.")] = False,
    servers: KafkaOptions,
    utc: Utc = False,
    as_json: Json = False,
) -> None:
    """Go back to an older model, at once and until --resume. The trainer goes on learning meanwhile."""
    import orjson

    settings = servers.settings()
    if resume and version is not None:
        raise typer.BadParameter("give a version or --resume, not both")
    if version is None and not resume:
        from console.look.cluster import must_exist
        from console.look.models_listed import foreign_text
        from console.times import shown_time
        from headwater.topics import MODEL
        from trainer.announced import models_listed

        must_exist(settings.kafka, MODEL)
        listed = models_listed(settings)
        live, snapshots = listed.live, listed.snapshots
        if listed.foreign:
            typer.echo(foreign_text(listed), err=True)
        if as_json:
            shown = {
                "live": None if live is None else live.model_dump(),
                "snapshots": [snapshot.model_dump() for snapshot in snapshots],
            }
            print(orjson.dumps(shown).decode())
            return
        for snapshot in snapshots:
            mark = "live" if live and live.version == snapshot.version else ""
            when = shown_time(snapshot.published_time, utc=utc)
            ndcg = snapshot.metrics.get("ndcg_at_10")
            score = ndcg.get("headwater") if isinstance(ndcg, dict) else None
            said = f"NDCG@10 {score:.4f}" if isinstance(score, float) else ""
            print(f"{snapshot.version:>8}  {snapshot.bundle:<40} {when}  {said:<16} {mark}".rstrip())
        if live and live.version not in {snapshot.version for snapshot in snapshots}:
            print(f"{live.version:>8}  {live.bundle:<40} {shown_time(live.published_time, utc=utc)}  live")
        if not live:
            print("no model has been published yet")
        elif live.pinned:
            print("pinned by a rollback; `headwater rollback --resume` ends it")
        return
    from headwater.privacy.audit_log import write_audit
    from trainer.rollback import resume as resume_newest
    from trainer.rollback import rollback

    def audited() -> None:
        write_audit(settings.kafka, "rollback", {"resume": True} if version is None else {"version": version})

    announced = resume_newest(settings, audited) if version is None else rollback(settings, version, audited)
    if as_json:
        print(announced.encode().decode())
    elif resume:
        print(f"version {announced.version} is live; the trainer publishes again")
    else:
        print(f"version {announced.version} is live until `headwater rollback --resume`")
