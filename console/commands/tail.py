"""`headwater tail TOPIC`: follows a topic and prints its records decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.commands.option_groups import grouped
from console.commands.options import Json, KafkaOptions, Utc
from console.printing import printer

if TYPE_CHECKING:
    from kafka.consumer.fetcher import ConsumerRecord
    from rich.console import Console


@grouped
def command(
    *,
    topic: Annotated[str, typer.Argument(help="A topic of the table: events, recommendations, dead-letters ...")],
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Start at the oldest record.")] = False,
    number: Annotated[int | None, typer.Option("-n", "--number", min=1, help="Stop after this many records.")] = None,
    servers: KafkaOptions,
    utc: Utc = False,
    as_json: Json = False,
) -> None:
    """Follow a topic: position, time, key and decoded value of each record. Ctrl-C ends it."""
    from kafka import TopicPartition

    from console.look.cluster import must_exist, open_consumer
    from headwater.errors import SettingsError
    from headwater.topics import topic_name

    settings = servers.settings()
    try:
        name = topic_name(topic.removeprefix(settings.kafka.prefix), settings.kafka.prefix)
    except KeyError as error:
        raise SettingsError(str(error.args[0])) from error
    out = printer(soft_wrap=True)
    must_exist(settings.kafka, name.removeprefix(settings.kafka.prefix))
    with open_consumer(settings.kafka) as reader:
        parts = [TopicPartition(name, partition) for partition in sorted(reader.partitions_for_topic(name))]
        reader.assign(parts)
        (reader.seek_to_beginning if from_beginning else reader.seek_to_end)(*parts)
        shown = 0
        while number is None or shown < number:
            records = [record for batch in reader.poll(timeout_ms=500).values() for record in batch]
            for record in sorted(records, key=lambda record: (record.timestamp, record.partition, record.offset)):
                _show(out, record, as_json, utc)
                shown += 1
                if shown == number:
                    return


def record_fields(record: ConsumerRecord) -> dict[str, Any]:
    """A record as JSON can say it: JSON values decoded, other bytes as text or as their length."""
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": readable(record.key),
        "headers": {name: readable(value, parse=False) for name, value in record.headers or ()},
        "value": readable(record.value),
    }


def readable(value: bytes | None, *, parse: bool = True) -> Any:
    """JSON decoded, UTF-8 as text, anything else as its size and first bytes.

    >>> readable(b'{"a": 1}'), readable(b"u-1"), readable(b"\\xff\\xfe"), readable(None)
    ({'a': 1}, 'u-1', '<2 bytes: ff fe>', None)
    """
    import orjson

    if value is None:
        return None
    if parse and value[:1] in (b"{", b"["):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            pass
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return f"<{len(value):,} bytes: {value[:16].hex(' ')}>"
    return text if text.isprintable() else f"<{len(value):,} bytes: {value[:16].hex(' ')}>"


def _show(out: Console, record: ConsumerRecord, as_json: bool, utc: bool) -> None:
    import orjson
    from rich.text import Text

    from console.times import shown_time

    fields = record_fields(record)
    if as_json:
        print(orjson.dumps(fields).decode(), flush=True)
        return
    line = Text(f"{record.topic}[{record.partition}]@{record.offset}", style="cyan")
    line.append(f"  {shown_time(record.timestamp, utc=utc)}  ", style="dim")
    line.append(str(fields["key"]), style="bold")
    value = fields["value"]
    line.append("  " + (orjson.dumps(value).decode() if isinstance(value, (dict, list)) else str(value)))
    out.print(line)
