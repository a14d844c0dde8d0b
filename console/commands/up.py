"""`headwater up`: broker, store and workers on this machine, until Ctrl-C. What they hold is kept in the data folder.

With `--servers-only` no worker runs: what restores, rebuilds or unlearns wants the servers, and the workers stopped.

Before: a person. After: `console.local.supervisor`, and `addresses.json` for the other commands.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.commands.options import Prefix
from console.local import DEFAULT_DATA
from console.printing import printer

if TYPE_CHECKING:
    from rich.console import Console

    from console.local.addresses import Servers
    from console.local.supervisor import Supervisor

USUAL_PORTS = (9092, 6379)
"""Where clients look for Kafka and Redis unless told otherwise; taken when free."""

EXAMPLES = ("produce{where} visitor-1 film-42 click", "recommend{where} visitor-1 --explain", "doctor{where}")
MENDING = ("restore{where} URL --key FILE", "rebuild features{where}", "unlearn{where} USER", "accept-gap{where}")
"""What may be typed beside it: with workers, and without."""


def command(
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder that keeps everything.")] = DEFAULT_DATA,
    kafka: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Use this Kafka instead of the embedded broker.")
    ] = None,
    redis: Annotated[
        str | None, typer.Option(metavar="URL", help="Use this Redis or Valkey instead of the embedded store.")
    ] = None,
    prefix: Prefix = None,
    servers_only: Annotated[
        bool, typer.Option("--servers-only", help="No workers: for restore, rebuild, unlearn and accept-gap.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the addresses as one JSON object when all is ready.")
    ] = False,
) -> None:
    """Run everything on this machine, until Ctrl-C. Data is kept between starts."""
    from console.local.addresses import GATEWAY, Addresses, running_addresses, servers_to_run, usual_port, with_page
    from console.local.supervisor import WORKERS, Supervisor, stopping_signals
    from headwater.errors import SettingsError

    out = printer(stderr=as_json)
    data = data.resolve()
    running = running_addresses(data)
    if running is not None:
        raise SettingsError(
            f"`headwater up` runs already on {data}, as process {running.pid}: use it, stop it, or give another --data"
        )
    servers = servers_to_run(data, kafka, redis, prefix)
    if servers_only and not (servers.embedded_kafka or servers.embedded_redis):
        raise SettingsError(
            "--servers-only runs the embedded broker and store, and others are given for both: leave "
            "`headwater up` out, and give the command --kafka and --redis (or the settings)"
        )
    data.mkdir(parents=True, exist_ok=True)
    out.print(f"Starting in {data} ...")
    supervisor = Supervisor(
        data,
        with_page(servers.settings, data),
        embedded_kafka=servers.embedded_kafka,
        embedded_redis=servers.embedded_redis,
        say=lambda line: out.print(line, style="yellow", markup=False),
        ports=(usual_port(USUAL_PORTS[0]), usual_port(USUAL_PORTS[1])),
        names=() if servers_only else (*WORKERS, GATEWAY),
    )
    with stopping_signals(), supervisor:
        try:
            _run(out, supervisor, servers, as_json)
        except (KeyboardInterrupt, SystemExit):  # Ctrl-C or SIGTERM: a clean end
            pass
        finally:
            Addresses.remove(data)
            out.print("\nStopping ..." if servers_only else "\nStopping: the workers finish what they began ...")
    out.print(f"Stopped. Everything is kept in {data}.")


def _run(out: Console, supervisor: Supervisor, servers: Servers, as_json: bool) -> None:
    """Say where everything is, and keep `addresses.json` true until a signal comes."""
    import threading
    from dataclasses import asdict

    import orjson

    from console.local.addresses import addresses_of, keep_written

    written = addresses_of(supervisor, servers)
    written.write(supervisor.directory)
    if as_json:
        print(orjson.dumps({**asdict(written), "logs": str(supervisor.logs)}).decode(), flush=True)
    else:
        _print_addresses(out, supervisor, servers)
    keep_written(supervisor, servers, threading.Event())


def _print_addresses(out: Console, supervisor: Supervisor, servers: Servers) -> None:
    from rich.table import Table

    from console.local.addresses import http_of
    from headwater.topics import EVENTS, ITEMS, RECOMMENDATIONS, REQUESTS, topic_name

    settings = supervisor.settings
    prefix = settings.kafka.prefix
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column()
    table.add_row("Kafka", settings.kafka.bootstrap + ("  [dim](embedded)" if servers.embedded_kafka else ""))
    url = settings.redis.url.get_secret_value()
    table.add_row("Redis", url.rpartition("@")[2] + ("  [dim](embedded)" if servers.embedded_redis else ""))
    table.add_row("send", f"{topic_name(EVENTS, prefix)}, {topic_name(ITEMS, prefix)}, {topic_name(REQUESTS, prefix)}")
    table.add_row("receive", topic_name(RECOMMENDATIONS, prefix))
    if http := http_of(supervisor):
        table.add_row("HTTP", f"{http}/v1/events, /v1/recommendations  [dim]({http}/openapi.json)")
    for name, worker in supervisor.workers.items():
        table.add_row(name, f"{worker.url}/metrics")
    table.add_row("logs", str(supervisor.logs))
    what = "Headwater is up." if supervisor.workers else "Broker and store are up; no worker runs."
    out.print(f"[bold green]{what}[/]", "" if not prefix else f"World: {prefix}")
    out.print(table)
    if servers.embedded_kafka:
        out.print(
            "[dim]The embedded broker is for one machine: no replicas, no security. Elsewhere give --kafka and --redis."
        )
    where = "" if supervisor.directory == DEFAULT_DATA.resolve() else f" --data {supervisor.directory}"
    if http and settings.gateway.page:
        out.print(f"\n[bold]See it, and try it:[/] [bold green]{http}/play[/]")
    out.print("\nIn another terminal:")
    for words in EXAMPLES if supervisor.workers else MENDING:
        out.print(f"  headwater {words.format(where=where)}", style="cyan", markup=False)
    then = "" if supervisor.workers else f" Then start the workers: headwater up{where}"
    out.print(f"Ctrl-C stops everything and keeps the data.{then}")
