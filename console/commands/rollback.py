"""`headwater rollback`: makes an older model live and keeps it so, or lets the trainer publish again."""

from __future__ import annotations

from typing import Annotated

import typer

from console.commands.option_groups import grouped
from console.commands.options import Json, KafkaOptions


@grouped
def command(
    *,
    version: Annotated[int | None, typer.Argument(help="Version to go back to. Without: list those there are.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="End a rollback: the newest model, and publishing.")] = False,
    servers: KafkaOptions,
    as_json: Json = False,
) -> None:
    """Go back to an older model, at once and until --resume. The trainer goes on learning meanwhile."""
    import orjson

    settings = servers.settings()
    if resume and version is not None:
        raise typer.BadParameter("give a version or --resume, not both")
    if version is None and not resume:
        from console.look.models_listed import models_listed

        listed = models_listed(settings.kafka)
        live, snapshots = listed.live, listed.snapshots
        if listed.foreign:
            typer.echo(listed.foreign_text, err=True)
        if as_json:
            print(orjson.dumps({"live": live, "snapshots": snapshots}).decode())
            return
        for body in snapshots:
            mark = "live" if live and live["version"] == body["version"] else ""
            ndcg = (body.get("metrics") or {}).get("ndcg_at_10") or {}
            score = f"NDCG@10 {ndcg['headwater']:.4f}" if ndcg.get("headwater") is not None else ""
            print(f"{body['version']:>8}  {body['bundle']:<40} {score:<16} {mark}".rstrip())
        if live and live["version"] not in {body["version"] for body in snapshots}:
            print(f"{live['version']:>8}  {live['bundle']:<40} live")
        if not live:
            print("no model has been published yet")
        elif live.get("pinned"):
            print("pinned by a rollback; `headwater rollback --resume` ends it")
        return
    from trainer.rollback import resume as resume_newest
    from trainer.rollback import rollback

    announced = resume_newest(settings) if version is None else rollback(settings, version)
    if as_json:
        print(announced.encode().decode())
    elif resume:
        print(f"version {announced.version} is live; the trainer publishes again")
    else:
        print(f"version {announced.version} is live until `headwater rollback --resume`")
