"""`headwater produce`: sends one event from flags, or many from JSON lines on stdin; says what became of them."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.commands.option_groups import grouped
from console.commands.options import Json, KafkaOptions
from console.sending import end_of_sending, waited

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    from console.look.refusals import Refusals
    from headwater.client import Client
    from headwater.settings import KafkaSettings

CHUNK_LINES = 2000
"""Lines handed over between two looks at what is acknowledged: as far as a failure can say what has arrived."""

MOST_TOLD = 5
"""Refused lines told in words; the rest is counted."""


@dataclass(frozen=True)
class EventFields:
    """Of a single event, beside who, what and how."""

    value: Annotated[float | None, typer.Option(help="Stars, seconds, price: its meaning depends on the type.")] = None
    request_id: Annotated[str | None, typer.Option(help="The recommendation that this answers.")] = None
    event_id: Annotated[str | None, typer.Option(help="A repeated id changes nothing.")] = None


@grouped
def command(
    *,
    user: Annotated[str | None, typer.Argument(help="Who did it. Without: events as JSON lines on stdin.")] = None,
    item: Annotated[str | None, typer.Argument(help="With which item.")] = None,
    type: Annotated[str, typer.Argument(help="What: view, click, purchase, rating ...")] = "click",
    fields: EventFields,
    users: Annotated[
        bool, typer.Option("--users", help="The lines are attributes of users (docs/users.md), of which null erases.")
    ] = False,
    skip: Annotated[int, typer.Option(min=0, help="Pass over so many lines: go on where an earlier run ended.")] = 0,
    servers: KafkaOptions,
    as_json: Json = False,
) -> None:
    """Send an event: `headwater produce USER ITEM [TYPE]`, or `headwater produce < events.jsonl`.

    With --users one user a line, {"user_id": "ann", "attributes": {...}}; attributes that are null are erased.
    A line that is no event costs that line, and is told by its number. Exit code 1 when a line, or a worker that has
    read it, refused one; 2 when nothing could be sent.
    """
    from console.look.refusals import RefusalWatch
    from headwater.client import Client

    if user is not None and item is None:
        raise typer.BadParameter("an event needs a user and an item: headwater produce USER ITEM [TYPE]")
    settings = servers.settings()
    kafka, oldest_ms = settings.kafka, settings.streams.oldest_ms
    _make_missing_topics(kafka)
    watch = RefusalWatch(kafka)
    with Client(settings=settings, source="console", oldest_ms=oldest_ms) as client:
        if users:
            _send_users(client, sys.stdin.buffer, skip, as_json)
            return
        if user is None:
            lines = Lines(sys.stdin.buffer, skip, oldest_ms)
            _send_lines(client, lines)
            refusals = waited(watch, lines.sent, as_json)
            _tell_lines(lines, refusals, as_json)
            return
        given = {name: content for name, content in asdict(fields).items() if content is not None}
        at = client.track(user, str(item), type, **given).result(30)
    refusals = waited(watch, {at.partition: [at.offset]}, as_json)
    body = {"partition": at.partition, "offset": at.offset}
    end_of_sending(f"sent: events[{at.partition}]@{at.offset}", body, refusals, as_json)


def _make_missing_topics(kafka: KafkaSettings) -> None:
    """As `replay stream` and every worker do; told, because a prefix may have been misspelt."""
    from console.look.cluster import is_missing
    from headwater.kafka import ensure_topics
    from headwater.topics import EVENTS

    if is_missing(kafka, EVENTS):
        made = ensure_topics(kafka)
        print(f"{kafka.bootstrap} had no topics of this world; made: {', '.join(made)}", file=sys.stderr)


class Lines:
    """JSON objects, one a line, as an iterator of lists of events; empty lines are passed over.

    Fields
        number: of the newest line read, from 1.
        acknowledged: every line up to this one is sent, or refused here.
        count, sent: events that Kafka has, and the offsets of their records by partition.
        refused, first: lines that are no event, and the first of them in words.
    """

    def __init__(self, source: IO[bytes], skip: int, oldest_ms: int = 0) -> None:
        self._source, self._skip, self._oldest_ms = source, skip, oldest_ms
        self.number = self.acknowledged = self.count = self.refused = 0
        self.sent: dict[int, list[int]] = {}
        self.first: list[str] = []

    def chunks(self) -> Iterator[list[dict[str, Any]]]:
        """Raises SourceError for what is no text in UTF-8 at all."""
        from headwater.errors import InvalidMessage, SourceError

        chunk: list[dict[str, Any]] = []
        for number, line in enumerate(self._source, 1):
            self.number = number
            if number == 1:
                if line[:2] in (b"\xff\xfe", b"\xfe\xff"):
                    raise SourceError(
                        "stdin is UTF-16. Give UTF-8: iconv -f UTF-16 -t UTF-8 events.jsonl | headwater produce"
                    )
                line = line.removeprefix(b"\xef\xbb\xbf")
            if number <= self._skip or not line.strip():
                continue
            try:
                chunk.append(_event(line, number, self._oldest_ms))
            except InvalidMessage as error:
                self.refused += 1
                if len(self.first) < MOST_TOLD:
                    self.first.append(f"line {number:,}: {error}")
            if len(chunk) == CHUNK_LINES:
                yield chunk
                chunk = []
        if chunk:
            yield chunk


def _event(line: bytes, number: int, oldest_ms: int) -> dict[str, Any]:
    """The fields of one event. Raises InvalidMessage as the workers would."""
    import orjson

    from headwater.errors import InvalidMessage
    from headwater.events import now_ms
    from headwater.wire import TimeBounds, read_events

    try:
        body = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise InvalidMessage("undecodable", f"not JSON ({error}). One Event object a line.") from error
    if isinstance(body, list):
        text = "a list. One Event object a line: jq -c '.[]' events.json | headwater produce"
        raise InvalidMessage("schema", text)
    bounds = TimeBounds(oldest_ms)
    (read,) = read_events(b"[" + line + b"]", key=None, partition=0, offset=number, timestamp_ms=now_ms(), times=bounds)
    if isinstance(read, InvalidMessage):
        raise InvalidMessage(read.reason, str(read).removeprefix(f"events[0]@{number}: ").removeprefix("event 0: "))
    event: dict[str, Any] = body
    return event


def _send_lines(client: Client, lines: Lines) -> None:
    """Send all of them. What fails on the way is raised with where to go on."""
    from collections import deque

    from headwater.client import Delivery
    from headwater.errors import HeadwaterError, SourceError

    if sys.stdin.isatty():
        print("Reading events from the keyboard, one JSON object a line; Ctrl-D ends.", file=sys.stderr)
    unacknowledged: deque[tuple[int, Delivery]] = deque()

    def acknowledge() -> None:
        last, delivery = unacknowledged[0]
        for record in delivery.records:
            partition, offset = record.result(30)
            lines.sent.setdefault(partition, []).append(offset)
        lines.count += delivery.count
        lines.acknowledged = last
        unacknowledged.popleft()

    try:
        for chunk in lines.chunks():
            unacknowledged.append((lines.number, client.track_many(chunk)))
            while unacknowledged and all(record.done() for record in unacknowledged[0][1].records):
                acknowledge()
        while unacknowledged:
            acknowledge()
    except SourceError:
        raise
    except (HeadwaterError, TimeoutError, KeyboardInterrupt) as error:
        if isinstance(error, KeyboardInterrupt):
            print(_where(lines), file=sys.stderr)
            raise typer.Exit(130) from error
        raise HeadwaterError(f"{error or 'no acknowledgement in time'} {_where(lines)}") from error
    lines.acknowledged = lines.number


def _send_users(client: Client, source: IO[bytes], skip: int, as_json: bool) -> None:
    """Send attributes of users, one JSON object a line. Raises SourceError where no line is a user."""
    import orjson

    from console.look.refusals import Refusals
    from headwater.errors import InvalidMessage, SourceError
    from headwater.users import User
    from headwater.wire import validated

    sent, refused, last = 0, list[str](), None
    for number, line in enumerate(source, 1):
        if number <= skip or not line.strip():
            continue
        try:
            body = orjson.loads(line)
            if isinstance(body, dict) and body.get("attributes", {}) is None:
                erased = validated(User, {**body, "attributes": {}}, "user").user_id
                last = client.delete_users([erased])
            else:
                last = client.put_users([validated(User, body, "user")])
            sent += 1
        except (orjson.JSONDecodeError, InvalidMessage) as error:
            refused.append(f"line {number:,}: {error}")
    if last is not None:
        client.flush(30)
    told = "\n".join(f"  {one}" for one in refused[:MOST_TOLD])
    more = f"\n  ... and {len(refused) - MOST_TOLD:,} more" if len(refused) > MOST_TOLD else ""
    if refused and not sent:
        raise SourceError(f"nothing was sent: {len(refused):,} lines, and none is a user\n{told}{more}")
    text = f"{sent:,} users sent" + (f"; {len(refused):,} lines refused:\n{told}{more}" if refused else "")
    body = {"sent": sent, "refused_lines": len(refused), "first_refused": refused[:MOST_TOLD]}
    end_of_sending(text, body, Refusals(), as_json, wrong=bool(refused))


def _where(lines: Lines) -> str:
    said = f"{lines.count:,} events were sent, up to line {lines.acknowledged:,}"
    return f"{said}. Go on with `--skip {lines.acknowledged}`; a line with an event_id never counts twice."


def _tell_lines(lines: Lines, refusals: Refusals, as_json: bool) -> None:
    from headwater.errors import SourceError

    more = f"\n  ... and {lines.refused - len(lines.first):,} more" if lines.refused > len(lines.first) else ""
    told = "\n".join(f"  {one}" for one in lines.first) + more
    if lines.refused and not lines.count:
        raise SourceError(
            f"nothing was sent: {lines.refused:,} lines, and none is an event\n{told}\n"
            "A file of another form (CSV, parquet, JSON with other names) is sent by `headwater replay stream FILE`"
        )
    text = f"{lines.count:,} events sent"
    if lines.refused:
        text += f"; {lines.refused:,} lines refused:\n{told}"
    elif not lines.number:
        text += ": stdin was empty"
    body = {"sent": lines.count, "lines": lines.number, "refused_lines": lines.refused, "first_refused": lines.first}
    end_of_sending(text, body, refusals, as_json, wrong=bool(lines.refused))
