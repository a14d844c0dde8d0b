"""`headwater rebuild features`: what the store has lost is made again from the log, in bulk."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from console.commands.option_groups import grouped
from console.commands.options import Json, ServerOptions

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Make again from the log what was lost.")


@app.callback()
def rebuild() -> None:
    """Make again from the log what was lost."""


@app.command("features")
@grouped
def features(
    *,
    shard: Annotated[int | None, typer.Option(metavar="N", help="Only this slot of redis.shards.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Take away first what is there: it is damaged.")] = False,
    servers: ServerOptions,
    as_json: Json = False,
) -> None:
    """Fold again what the store lacks: users, statistics, catalogue, attributes, links, dead-letter counts.

    The streams workers must be stopped. A run that was killed goes on where it was: run it again, without --clear.
    """
    from dataclasses import asdict

    import orjson

    from headwater.privacy.audit_log import write_audit
    from streams.refill import Refill

    if shard is not None and not clear:
        raise typer.BadParameter(
            "--shard takes --clear, too: what a slot lacks by its own marks is found without naming it"
        )
    began, told = time.monotonic(), [0.0]

    def progress(topic: str, read: int, of: int) -> None:
        now = time.monotonic()
        if now - told[0] >= 1 or read >= of:
            told[0] = now
            print(f"{topic}: {read:,} of {of:,} records, {now - began:.0f} s", file=sys.stderr, flush=True)

    settings = servers.settings()

    def audited() -> None:
        write_audit(settings.kafka, "rebuild", {"what": "features", "shard": shard, "clear": clear})

    done = Refill(settings, progress).run(clear=clear, slot=shard, begin=audited)
    seconds = time.monotonic() - began
    if as_json:
        print(orjson.dumps({**asdict(done), "seconds": round(seconds, 3)}).decode())
        return
    if not done.records:
        print("the store lacks nothing of what the streams workers had folded (with --clear all is made again)")
    else:
        rate = f", {done.events / seconds:,.0f} a second" if done.events > 1000 else ""
        others = ", ".join(f"{count:,} of {name}" for name, count in done.records.items())
        print(f"{done.events:,} events folded in {seconds:.1f} s{rate}; records read: {others}")
    for name, count in done.deleted.items():
        print(f"{name}: {count:,} records that were wanted are deleted (retention): what they told is lost")
    if done.waiting:
        print(f"{done.waiting:,} records of events were never committed: the streams workers fold them when they start")
