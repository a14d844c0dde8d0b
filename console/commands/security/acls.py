"""`headwater acls`: the least that each worker and app needs of Kafka and Redis, as these servers take it."""

from __future__ import annotations

from typing import Annotated

import typer

from console.commands.options import Prefix


def command(
    kafka: Annotated[bool, typer.Option("--kafka", help="A shell script of kafka-acls.")] = False,
    redis: Annotated[bool, typer.Option("--redis", help="An ACL file of Redis or Valkey.")] = False,
    strimzi: Annotated[bool, typer.Option("--strimzi", help="KafkaUser manifests for Kubernetes.")] = False,
    only: Annotated[list[str] | None, typer.Option("--for", metavar="NAME", help="This user; repeatable.")] = None,
    principal: Annotated[str, typer.Option(metavar="PATTERN", help="How Kafka names a user.")] = "User:{}",
    prefix: Prefix = None,
) -> None:
    """Print who may do what: the page docs/acls.md, or what a server takes. Asks no server."""
    from console.acls_printed import acls_page, kafka_commands, redis_lines, strimzi_users
    from headwater.errors import SettingsError
    from headwater.security.parties import PARTIES
    from headwater.settings import changed_kafka, load_settings
    from headwater.spelling import did_you_mean

    if kafka + redis + strimzi > 1:
        raise typer.BadParameter("give one of --kafka, --redis and --strimzi")
    if "{}" not in principal:
        raise typer.BadParameter(f"--principal {principal!r} has no {{}}, where the user's name goes: 'User:{{}}'")
    names = [party.name for party in PARTIES]
    for name in only or ():
        if name not in names:
            raise SettingsError(f"--for {name}: no such user; they are {', '.join(names)}{did_you_mean(name, names)}")
    parties = [party for party in PARTIES if not only or party.name in only]
    settings = load_settings().kafka
    before = settings.prefix if prefix is None else changed_kafka(settings, prefix=prefix).prefix
    if kafka:
        print("#!/bin/sh\n# usage: sh acls.sh --bootstrap-server HOST:PORT --command-config admin.properties\nset -eu")
        print("\n".join(kafka_commands(parties, before, principal)))
    elif redis:
        print("\n".join(redis_lines(parties, before)))
    elif strimzi:
        print(strimzi_users(parties, before), end="")
    else:
        print(acls_page("Printed by `headwater acls`."), end="")
