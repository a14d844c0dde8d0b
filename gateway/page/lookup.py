"""What topics say of a user, an item, an answer and what was refused: read near their ends, for a person who looks.

Before: `gateway.page.views`, in a thread. After: JSON. Each answer says how much was looked at, and names the command
that looks at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from headwater.client.lanes import partition_of
from headwater.errors import InvalidMessage
from headwater.kafka import BoundedReader, Span
from headwater.settings import KafkaSettings, Settings
from headwater.topics import DEAD_LETTERS, EVENTS, IDENTITIES, RECOMMENDATIONS, USERS, Topic
from headwater.wire import (
    EventRow,
    IdentityRow,
    decode_recommendation,
    decode_user_record,
    read_identity,
    read_letter,
    read_past_events,
)

__all__ = ["Lookup", "newest_records"]

MOST_RECORDS = 40_000
"""Read of a topic, the newest: of the partition that a key is in, or a share of each."""
MOST_USERS = 100_000
"""As many records of attributes are read: they lie where they were last told, not near the end."""
MOST_ANSWERS = 2_000
MOST_LETTERS = 50
MOST_BYTES = 2_000
MOST_EVENTS = 60
MOST_LISTS = 10
MOST_BARS = 40


def newest_records(kafka: KafkaSettings, topic: Topic, most: int, of: str | None = None) -> Iterator[Any]:
    """The newest records of each partition, or of the one that a key is in; none of a topic that is not there."""
    with BoundedReader(kafka, topic) as reader:
        spans = reader.spans() if reader.exists() else []
        if of is not None:
            spans = [span for span in spans if span.partition == partition_of(of, len(spans))]
        for span in spans:
            yield from reader.records(_end_of(span, most))


def _end_of(span: Span, most: int) -> Span:
    return span._replace(first=max(span.first, span.end - most))


class Lookup:
    """Each method reads, and takes as long as that. Raises Unavailable."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._kafka = settings, settings.kafka

    def user(self, user_id: str) -> dict[str, Any]:
        """Their newest events, newest first, lists that were shown to them, attributes, other ids of theirs."""
        rows: list[tuple[EventRow, int]] = []
        looked_at = 0
        for record in newest_records(self._kafka, EVENTS, MOST_RECORDS, user_id):
            for row in read_past_events(record):
                looked_at += 1
                if isinstance(row, EventRow) and row.user_id == user_id:
                    rows.append((row, record.partition))
        attributes: dict[str, Any] = {}
        for record in newest_records(self._kafka, USERS, MOST_USERS, user_id):
            if record.key == user_id.encode():
                try:
                    told = decode_user_record(record.key, record.value, "")[1]
                except InvalidMessage:
                    continue
                attributes = {} if told is None else dict(told.attributes)
        done = [one for one in rows if not one[0].items]
        return {
            "user_id": user_id,
            "events": [_event(*one) for one in reversed(done[-MOST_EVENTS:])],
            "shown": [
                {"time_ms": row.time_ms, "request_id": row.request_id, "items": list(row.items)}
                for row, _ in reversed(rows)
                if row.items
            ][:MOST_LISTS],
            "count": len(done),
            "lists": len(rows) - len(done),
            "attributes": attributes,
            "also": self._also(user_id),
            "looked_at": looked_at,
        }

    def _also(self, user_id: str) -> list[str]:
        """Ids that are linked with one, by the newest word on each. `identities` keeps what was told of who was
        forgotten since; it links nobody.
        """
        from headwater.privacy.facts import erased_users
        from streams.features.identity import from_before_erasure

        erased = erased_users(self._settings)
        linked: dict[tuple[str, str], IdentityRow] = {}
        for record in newest_records(self._kafka, IDENTITIES, MOST_RECORDS):
            row = read_identity(
                record.value,
                key=record.key,
                partition=record.partition,
                offset=record.offset,
                timestamp_ms=record.timestamp,
            )
            if not isinstance(row, IdentityRow) or user_id not in (row.user_id, row.was):
                continue
            if not from_before_erasure(row, erased):
                said = linked.get((row.user_id, row.was))
                if said is None or row.time_ms >= said.time_ms:
                    linked[row.user_id, row.was] = row
        return sorted({row.was if row.user_id == user_id else row.user_id for row in linked.values() if row.linked})

    def item(self, item_id: str) -> dict[str, Any]:
        """What was done with it, from the oldest to the newest event looked at, and how often it was shown."""
        types, pieces = Counter[str](), Counter[int]()
        users: set[str] = set()
        shown = looked_at = 0
        with BoundedReader(self._kafka, EVENTS) as reader:
            spans = reader.spans()
            for span in [_end_of(whole, MOST_RECORDS // len(spans)) for whole in spans]:
                for record in reader.records(span):
                    piece = MOST_BARS * (record.offset - span.first) // (span.end - span.first)
                    for row in read_past_events(record):
                        looked_at += 1
                        if isinstance(row, EventRow) and row.items:
                            shown += item_id in row.items
                        elif isinstance(row, EventRow) and row.item_id == item_id:
                            types[row.type] += 1
                            users.add(row.user_id)
                            pieces[piece] += 1
        rate = [pieces[piece] for piece in range(MOST_BARS)] if pieces else []
        return {"types": dict(types.most_common()), "users": len(users), "shown": shown, "rate": rate,
                "looked_at": looked_at}  # fmt: skip

    def answer(self, request_id: str) -> dict[str, Any] | None:
        """The answer to a request, where it is among the newest."""
        wanted = request_id.encode()
        for record in newest_records(self._kafka, RECOMMENDATIONS, MOST_ANSWERS):
            if wanted not in (record.value or b""):
                continue
            try:
                found = decode_recommendation(record.value)
            except InvalidMessage:
                continue
            if found.request_id == request_id:
                at = f"{RECOMMENDATIONS.name}[{record.partition}]@{record.offset}"
                return {**found.model_dump(mode="json", exclude_none=True), "at": at, "answered_ms": record.timestamp}
        return None

    def letters(self) -> list[dict[str, Any]]:
        """What was refused last, newest first."""
        found: list[dict[str, Any]] = []
        for record in newest_records(self._kafka, DEAD_LETTERS, MOST_LETTERS):
            headers = dict(record.headers or ())
            letter = read_letter(record.headers)
            value = record.value or b""
            found.append(
                {
                    "at": f"{DEAD_LETTERS.name}[{record.partition}]@{record.offset}",
                    "time_ms": record.timestamp,
                    "reason": "unknown" if letter is None else letter.reason,
                    "from": "" if letter is None else f"{letter.topic}[{letter.partition}]@{letter.offset}",
                    "error": (headers.get("error") or b"no worker wrote it").decode(errors="replace")[:600],
                    "key": (record.key or b"").decode(errors="backslashreplace")[:200],
                    "bytes": len(value),
                    "value": value[:MOST_BYTES].decode(errors="backslashreplace"),
                }
            )
        return sorted(found, key=lambda letter: letter["time_ms"], reverse=True)[:MOST_LETTERS]


def _event(row: EventRow, partition: int) -> dict[str, Any]:
    return {
        "type": row.type,
        "item_id": row.item_id,
        "value": row.value,
        "time_ms": row.time_ms,
        "at": f"{EVENTS.name}[{partition}]@{row.offset}",
    }
