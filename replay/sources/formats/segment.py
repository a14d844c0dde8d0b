"""Calls of Segment or RudderStack as JSON Lines, as their destinations and warehouses keep them.

Before: https://segment.com/docs/connections/spec/ecommerce/v2/ and .../spec/common/, RudderStack's event specification
(https://www.rudderstack.com/docs/event-spec/), which is the same in what is read here. After: `known`.

| call | here |
|---|---|
| `track` with `properties.products` | one of each product; of `Product List Viewed` and its like one of the list |
| `track` with `properties.product_id`, `sku`, ... | an event |
| `page`, `screen` | left out, unless a person names what is the item of a page |
| `batch` of the HTTP API | its calls |
| `identify`, `alias`, `group` | no events; they say which guest (`anonymousId`, `previousId`) is which user |

Who is `userId`, else `anonymousId`. Of the times `timestamp` is the one that Segment has corrected for wrong clocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from replay.sources.formats.known import Happening, JsonFormat, Record, id_in
from replay.sources.ids import is_missing
from replay.sources.raw import BadRow, LeftOut
from replay.sources.reading import Begin, value_of

__all__ = ["SegmentCalls"]

CALLS = {"track", "identify", "page", "screen", "group", "alias"}
MARKS = {"messageId", "anonymousId", "originalTimestamp"}
TIMES = ("timestamp", "originalTimestamp", "sentAt", "receivedAt")
SESSIONS = ("context.sessionId", "context.session_id", "session_id", "properties.session_id")
REQUESTS = ("properties.request_id", "properties.recommendation_id")


class SegmentCalls(JsonFormat):
    """Segment's and RudderStack's calls."""

    name = "segment"
    told = "calls of Segment or RudderStack"

    def is_here(self, begin: Begin) -> bool:
        """Whether most of the first objects are calls."""
        each = [call for one in begin.objects for call in _calls(one)]
        calls = [one for one in each if str(one.get("type")) in CALLS and (one.keys() & MARKS or _properties(one))]
        return len(calls) * 2 > len(each)

    def records(self, path: Path) -> Iterator[tuple[int, Record] | BadRow]:
        """The calls of a file, those of a batch each."""
        for row in super().records(path):
            if isinstance(row, BadRow):
                yield row
            else:
                for call in _calls(row[1]):
                    yield row[0], call

    def happening(self, record: Record) -> Happening | LeftOut:
        """What a call tells. Raises BadRow."""
        call, user, guest = record.get("type"), record.get("userId"), record.get("anonymousId")
        if str(call) not in CALLS:
            raise BadRow("call", f"type {call!r:.80} is none of {', '.join(sorted(CALLS))}")
        time = _first(record, TIMES)
        if call in ("identify", "alias", "group"):
            before = record.get("previousId") if call == "alias" else guest
            return LeftOut(str(call), 0, user, before, time, said=call == "alias")
        user = guest if is_missing(user) else user
        found = Happening(
            record.get("event"), user, guest, time, (), record.get("messageId"), _first(record, SESSIONS),
            _first(record, REQUESTS),
        )  # fmt: skip
        if call != "track":
            return found._replace(word=call, is_page=True)
        properties = _properties(record)
        products = properties.get("products")
        if not isinstance(products, list):
            products = [] if id_in(properties) is None else [properties]
        return found._replace(products=products, order=properties.get("order_id"))


def _calls(record: Record) -> list[Record]:
    """A call; of what is sent to the HTTP API its batch."""
    batch = record.get("batch")
    return (
        [record | {"batch": None, **one} for one in batch if isinstance(one, dict)]
        if isinstance(batch, list)
        else [record]
    )


def _properties(record: Record) -> Record:
    found = record.get("properties")
    return found if isinstance(found, dict) else {}


def _first(record: Record, names: tuple[str, ...]) -> object:
    return next((value for name in names if not is_missing(value := value_of(record, name))), None)
