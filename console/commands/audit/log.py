"""`headwater audit log`: who did what to this world; and whether that log is as it was written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from console.commands.option_groups import grouped
from console.commands.options import Json, KafkaOptions, Utc

if TYPE_CHECKING:
    from headwater.settings import KafkaSettings

__all__ = ["app"]

app = typer.Typer(help="Who did what to this world.")


@app.callback(invoke_without_command=True)
@grouped
def show(
    context: typer.Context,
    *,
    servers: KafkaOptions,
    newest: Annotated[int, typer.Option("-n", min=1, help="How many, the newest last.")] = 100,
    utc: Utc = False,
    as_json: Json = False,
) -> None:
    """Who did what to this world, the newest last: erasures, exports, rollbacks and the like. No person is named."""
    import orjson

    from console.look.cluster import is_missing
    from console.times import shown_time
    from headwater.privacy.audit_log import read_audit
    from headwater.topics import AUDIT
    from viewing.written import printable

    if context.invoked_subcommand is not None:
        return
    kafka = servers.settings().kafka
    for offset, record in [] if is_missing(kafka, AUDIT) else read_audit(kafka)[-newest:]:
        if record is None:
            print(f"{offset:>6}  is no record of an audit")
        elif as_json:
            print(orjson.dumps({"offset": offset, **record.model_dump(mode="json")}).decode())
        else:
            target = orjson.dumps(record.target).decode() if record.target else ""
            when = shown_time(record.audited_time, utc=utc)
            line = f"{offset:>6}  {when}  {record.by:<12} {record.action:<12} {record.digest[:12]}  {target}"
            print(printable(line.rstrip()))


@app.command("verify")
@grouped
def verify(
    *,
    servers: KafkaOptions,
    head: Annotated[str | None, typer.Option(metavar="DIGEST", help="Of a record that must be there.")] = None,
    as_json: Json = False,
) -> None:
    """Whether the log is as it was written: nothing taken out, nothing changed. Exit code 1 where it is not.

    What was cut off at its end shows by --head alone: the digest that a certificate, or an earlier look, has told. A
    beginning that is gone is no problem where the topic's own settings let records expire.
    """
    import orjson

    from console.look.cluster import is_missing
    from headwater.privacy.audit_log import audit_begins, check_audit, read_audit
    from headwater.topics import AUDIT

    kafka = servers.settings().kafka
    is_there = not is_missing(kafka, AUDIT)
    begins = audit_begins(kafka) if is_there else 0
    expires = _expiry(kafka) if begins else None
    found = check_audit(read_audit(kafka) if is_there else [], head, begins, is_kept=expires == "")
    if as_json:
        print(orjson.dumps({"ok": not found.problems, **found._asdict(), "expires": expires}).decode())
    else:
        for problem in found.problems:
            print(problem)
        by = "why, this Kafka user may not see: DescribeConfigs" if expires is None else expires or "deleted"
        since = f" from offset {begins} on (those before it are gone: {by})" if begins else ""
        heads = ", ".join(found.heads) or "none"
        print(f"{found.records:,} records{since}, {'ok' if not found.problems else 'NOT as written'}; head: {heads}")
    if found.problems:
        raise typer.Exit(1)


def _expiry(kafka: KafkaSettings) -> str | None:
    """Which settings of the topic let records expire; None where the broker does not say."""
    from kafka.errors import KafkaError

    from console.look.keeping import expiry
    from headwater.topics import AUDIT

    try:
        return expiry(kafka, AUDIT)
    except KafkaError:
        return None
