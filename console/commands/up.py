"""`headwater up`: broker, store and workers on this machine, until Ctrl-C. What they hold is kept in the data folder.

Before: a person. After: `console.local.supervisor`, and `addresses.json` for the other commands.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.commands.options import DEFAULT_DATA, Prefix
from console.printing import printer

if TYPE_CHECKING:
    from rich.console import Console

    from console.local.supervisor import Supervisor
    from headwater.settings import Settings

USUAL_PORTS = (9092, 6379)
"""Where clients look for Kafka and Redis unless told otherwise; taken when free."""


def command(
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder that keeps everything.")] = DEFAULT_DATA,
    kafka: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Use this Kafka instead of the embedded broker.")
    ] = None,
    redis: Annotated[
        str | None, typer.Option(metavar="URL", help="Use this Redis or Valkey instead of the embedded store.")
    ] = None,
    prefix: Prefix = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the addresses as one JSON object when all is ready.")
    ] = False,
) -> None:
    """Run everything on this machine, until Ctrl-C. Data is kept between starts."""
    import os
    import time

    import orjson

    from console.local.addresses import Addresses, running_addresses
    from console.local.supervisor import Supervisor, stopping_signals
    from headwater.errors import SettingsError

    out = printer(stderr=as_json)
    data = data.resolve()
    running = running_addresses(data)
    if running is not None:
        raise SettingsError(
            f"`headwater up` runs already on {data}, as process {running.pid}: use it, stop it, or give another --data"
        )
    settings, embedded_kafka, embedded_redis = servers(data, kafka, redis, prefix)
    data.mkdir(parents=True, exist_ok=True)
    out.print(f"Starting in {data} ...")
    supervisor = Supervisor(
        data,
        settings,
        embedded_kafka=embedded_kafka,
        embedded_redis=embedded_redis,
        say=lambda line: out.print(line, style="yellow", markup=False),
        ports=(usual_port(USUAL_PORTS[0]), usual_port(USUAL_PORTS[1])),
    )
    with stopping_signals(), supervisor:
        addresses = Addresses(
            pid=os.getpid(),
            kafka=supervisor.settings.kafka.bootstrap,
            redis=supervisor.settings.redis.url.get_secret_value(),
            prefix=supervisor.settings.kafka.prefix,
            broker="embedded" if embedded_kafka else "given",
            store="embedded" if embedded_redis else "given",
            data=str(data),
            bundles=str(supervisor.settings.trainer.bundles),
            checkpoints=str(supervisor.settings.trainer.directory),
        )
        try:
            known = {name: worker.url for name, worker in supervisor.workers.items()}
            _described_addresses(addresses, supervisor).write(data)
            if as_json:
                print(orjson.dumps(_described(addresses, supervisor)).decode(), flush=True)
            else:
                _tell(out, supervisor, embedded_kafka, embedded_redis)
            while True:
                urls = {name: worker.url for name, worker in supervisor.workers.items()}
                if urls != known:  # a restarted worker has a new port
                    known = urls
                    _described_addresses(addresses, supervisor).write(data)
                time.sleep(0.5)
        except (KeyboardInterrupt, SystemExit):  # Ctrl-C or SIGTERM: a clean end
            pass
        finally:
            Addresses.remove(data)
            out.print("\nStopping: the workers finish what they began ...")
    out.print(f"Stopped. Everything is kept in {data}.")


def servers(data: Path, kafka: str | None, redis: str | None, prefix: str | None) -> tuple[Settings, bool, bool]:
    """The settings to run with, and whether broker and store are the embedded ones.

    An address from a flag, the environment or the settings file is used; what none of them names is brought.
    """
    from headwater.settings import load_settings

    plain = load_settings()
    given: dict[str, dict[str, Any]] = {"kafka": {}, "redis": {}, "trainer": {}, "serving": {}}
    if kafka is not None:
        given["kafka"]["bootstrap"] = kafka
    if prefix is not None:
        given["kafka"]["prefix"] = prefix
    if redis is not None:
        given["redis"]["url"] = redis
    if "directory" not in plain.trainer.model_fields_set:
        given["trainer"]["directory"] = data / "trainer"
    for section in ("trainer", "serving"):
        if "bundles" not in getattr(plain, section).model_fields_set:
            given[section]["bundles"] = data / "models"
    settings = load_settings(**{section: values for section, values in given.items() if values})
    embedded_kafka = "bootstrap" not in settings.kafka.model_fields_set
    embedded_redis = "url" not in settings.redis.model_fields_set
    return settings, embedded_kafka, embedded_redis


def usual_port(port: int) -> int:
    """The port when it is free, else 0, which takes any free one."""
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port


def _described_addresses(addresses: Any, supervisor: Supervisor) -> Any:
    from dataclasses import replace

    return replace(addresses, workers={name: worker.url for name, worker in supervisor.workers.items()})


def _described(addresses: Any, supervisor: Supervisor) -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(_described_addresses(addresses, supervisor)), "logs": str(supervisor.logs)}


def _tell(out: Console, supervisor: Supervisor, embedded_kafka: bool, embedded_redis: bool) -> None:
    from rich.table import Table

    from headwater.topics import EVENTS, ITEMS, RECOMMENDATIONS, REQUESTS, topic_name

    settings = supervisor.settings
    prefix = settings.kafka.prefix
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column()
    table.add_row("Kafka", settings.kafka.bootstrap + ("  [dim](embedded)" if embedded_kafka else ""))
    url = settings.redis.url.get_secret_value()
    table.add_row("Redis", url.rpartition("@")[2] + ("  [dim](embedded)" if embedded_redis else ""))
    table.add_row("send", f"{topic_name(EVENTS, prefix)}, {topic_name(ITEMS, prefix)}, {topic_name(REQUESTS, prefix)}")
    table.add_row("receive", topic_name(RECOMMENDATIONS, prefix))
    for name, worker in supervisor.workers.items():
        table.add_row(name, f"{worker.url}/metrics")
    table.add_row("logs", str(supervisor.logs))
    out.print("[bold green]Headwater is up.[/]", "" if not prefix else f"World: {prefix}")
    out.print(table)
    if embedded_kafka:
        out.print(
            "[dim]The embedded broker is for one machine: no replicas, no security. Elsewhere give --kafka and --redis."
        )
    where = "" if supervisor.directory == DEFAULT_DATA.resolve() else f" --data {supervisor.directory}"
    out.print("\nIn another terminal:")
    out.print(f"  headwater produce{where} visitor-1 film-42 click", style="cyan")
    out.print(f"  headwater recommend{where} visitor-1 --explain", style="cyan")
    out.print(f"  headwater doctor{where}", style="cyan")
    out.print("Ctrl-C stops everything and keeps the data.")
