"""`headwater produce`: sends one event from flags, or many from JSON lines on stdin."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console.commands.option_groups import grouped
from console.commands.options import Json, KafkaOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@grouped
def command(
    *,
    user: Annotated[str | None, typer.Argument(help="Who did it. Without: events as JSON lines on stdin.")] = None,
    item: Annotated[str | None, typer.Argument(help="With which item.")] = None,
    type: Annotated[str, typer.Argument(help="What: view, click, purchase, rating ...")] = "click",
    value: Annotated[float | None, typer.Option(help="Stars, seconds, price: its meaning depends on the type.")] = None,
    request_id: Annotated[str | None, typer.Option(help="The recommendation that this answers.")] = None,
    event_id: Annotated[str | None, typer.Option(help="A repeated id changes nothing.")] = None,
    servers: KafkaOptions,
    as_json: Json = False,
) -> None:
    """Send an event: `headwater produce USER ITEM [TYPE]`, or `headwater produce < events.jsonl`."""
    import orjson

    from headwater.client import Client

    if user is not None and item is None:
        raise typer.BadParameter("an event needs a user and an item: headwater produce USER ITEM [TYPE]")
    settings = servers.settings()
    with Client(settings=settings.kafka, source="console") as client:
        if user is None:
            count = client.track_many(_lines(sys.stdin)).count
            client.flush()
            print(orjson.dumps({"sent": count}).decode() if as_json else f"{count:,} events sent")
            return
        given = {"value": value, "request_id": request_id, "event_id": event_id}
        fields = {name: content for name, content in given.items() if content is not None}
        at = client.track(user, str(item), type, **fields).result(30)
        body = {"partition": at.partition, "offset": at.offset}
        print(orjson.dumps(body).decode() if as_json else f"sent: events[{at.partition}]@{at.offset}")


def _lines(source: Iterable[str]) -> Iterator[dict[str, Any]]:
    """JSON objects, one a line; empty lines are passed over. Raises SourceError with the line's number."""
    import orjson

    from headwater.errors import SourceError

    for number, line in enumerate(source, 1):
        if not line.strip():
            continue
        try:
            body = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise SourceError(f"stdin line {number} is not JSON ({error}). One Event object a line.") from error
        if not isinstance(body, dict):
            raise SourceError(f"stdin line {number} is a {type(body).__name__}. One Event object a line.")
        yield body
