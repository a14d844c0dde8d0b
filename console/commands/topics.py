"""`headwater topics`: the table of topics, as designed and as the cluster has it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.commands.option_groups import grouped
from console.commands.options import Json, KafkaOptions
from console.printing import printer

if TYPE_CHECKING:
    from console.look.cluster import TopicState


@grouped
def command(
    *,
    servers: KafkaOptions,
    make: Annotated[
        bool,
        typer.Option(
            "--make",
            help="First make those that are missing, where workers may not (docs/acls.md), and set the "
            "retention of those that kafka.retention_days names.",
        ),
    ] = False,
    mend: Annotated[
        bool,
        typer.Option("--mend", help="First set compacted topics to keep removals, where they do not (see doctor)."),
    ] = False,
    strimzi: Annotated[
        bool, typer.Option("--strimzi", help="Print KafkaTopic manifests for Kubernetes; asks no server.")
    ] = False,
    script: Annotated[
        bool, typer.Option("--script", help="Print a shell script of kafka-topics that makes them; asks no server.")
    ] = False,
    as_json: Json = False,
) -> None:
    """The topics: who writes and reads each, its partitions, records and size."""
    import orjson

    from console.look.cluster import topic_states
    from console.look.keeping import mend_removals, mend_retention
    from headwater.kafka import ensure_topics
    from headwater.topics import TOPICS

    kafka = servers.settings().kafka
    if strimzi or script:
        from console.acls_printed import strimzi_topics, topic_commands

        if strimzi:
            print(strimzi_topics(kafka), end="")
        else:
            print("#!/bin/sh\n# usage: sh topics.sh --bootstrap-server HOST:PORT --command-config admin.properties")
            print("\n".join(["set -eu", *topic_commands(kafka)]))
        return
    if make:
        for name in ensure_topics(kafka, topics=TOPICS):  # whoever uses one later may not be allowed to make it
            print(f"{name} is made", file=sys.stderr)
    states = topic_states(kafka)
    if make:
        for name in mend_retention(kafka, [state.name for state in states if state.partitions]):
            print(f"{name} is kept as kafka.retention_days says from now on", file=sys.stderr)
    if mend:
        for name in mend_removals(kafka, [state.name for state in states if state.partitions]):
            print(f"{name} keeps removals from now on", file=sys.stderr)
    if as_json:
        print(orjson.dumps([_row(state, kafka.retention_days) for state in states]).decode())
        return
    _print(states, kafka.retention_days)


def _row(state: TopicState, days: Mapping[str, float]) -> dict[str, Any]:
    from headwater.topics import as_kept

    return {
        "name": state.name,
        "key": state.topic.key,
        "carries": state.topic.carries,
        "written_by": state.topic.written_by,
        "read_by": state.topic.read_by,
        "cleanup": state.topic.cleanup,
        "retention_ms": as_kept(state.topic, days).retention_ms,
        "present": None if state.denied else bool(state.partitions),
        "partitions": {str(number): list(span) for number, span in state.partitions.items()},
        "records": state.records,
        "bytes": state.bytes,
    }


def _print(states: list[TopicState], days: Mapping[str, float]) -> None:
    from rich.table import Table

    from headwater.topics import as_kept

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("topic", "key", "carries", "written by", "read by", "kept"):
        table.add_column(name)
    for name in ("parts", "records", "size"):
        table.add_column(name, justify="right")
    for state in states:
        topic = state.topic
        here = [str(len(state.partitions)), f"{state.records:,}", size_text(state.bytes)]
        table.add_row(
            state.name,
            topic.key,
            topic.carries,
            topic.written_by,
            topic.read_by,
            as_kept(topic, days).kept,
            *(here if state.partitions else ["[red]not shown" if state.denied else "[red]missing", "", ""]),
        )
    out = printer()
    out.print(table)
    if any(state.denied for state in states):
        out.print("[yellow]Not shown: this Kafka user may not see them (Describe on the topic).")


def size_text(size: int | None) -> str:
    """Bytes for people.

    >>> size_text(1_530_000), size_text(None)
    ('1.5 MB', '-')
    """
    if size is None:
        return "-"
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")
