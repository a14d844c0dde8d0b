"""The wire format: JSON values, CloudEvents 1.0 binary-mode headers, dead-letter headers.

Before: models of `headwater.events` and `headwater.recommendations`. After: bytes on a topic, and back.

A value on `events` is one Event as a JSON object, or a JSON array of Events that belong to one partition (a packed
record). Reading is on the hot path of the streams worker, so it checks with plain comparisons and calls pydantic only
when something looks wrong: 1.9 us an event here, pydantic alone 3. A property test holds the two equal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import orjson
from pydantic import BaseModel

from headwater.errors import InvalidMessage
from headwater.events import EVENT_TYPE_PATTERN, MAX_ID_LENGTH, Event, Item
from headwater.recommendations import Recommendation, Request
from headwater.wire.checks import MAX_DEPTH, check_depth, not_json, refuse_deep, told, validated
from headwater.wire.letters import Headers, bounded_dead_letter, dead_letter_headers, event_body_for_dead_letter

__all__ = [
    "MAX_DEPTH",
    "MAX_PACKED_EVENTS",
    "MAX_PROPERTIES_BYTES",
    "MAX_VALUE_BYTES",
    "EventRow",
    "Headers",
    "bounded_dead_letter",
    "check_depth",
    "cloudevent_headers",
    "dead_letter_headers",
    "decode_catalogue_record",
    "decode_item",
    "decode_recommendation",
    "decode_request",
    "encode",
    "encode_packed",
    "event_body_for_dead_letter",
    "read_events",
    "validated",
]

Model = TypeVar("Model", bound=BaseModel)

MAX_VALUE_BYTES = 1_000_000
"""Largest value read, in bytes; Kafka's own default limit is 1,048,588 with the batch overhead."""

MAX_PROPERTIES_BYTES = 64_000
"""Largest `properties` of one event, in bytes of JSON."""

MAX_PACKED_EVENTS = 10_000
"""Most events in one packed record."""

_TYPE = re.compile(EVENT_TYPE_PATTERN)
_FIELDS = frozenset(Event.model_fields)
_MAX_TIME = 253_402_300_799_999


class EventRow(NamedTuple):
    """An Event as the engine handles it: the fields that folding and learning need, and where it came from."""

    user_id: str
    item_id: str
    type: str
    time_ms: int
    value: float | None
    event_id: str
    request_id: str | None
    offset: int
    place: int


def encode(model: BaseModel) -> bytes:
    """One model as compact JSON without null fields. Raises InvalidMessage (`schema`) for what JSON cannot hold."""
    try:
        return orjson.dumps(model.model_dump(mode="json", exclude_none=True))
    except (TypeError, ValueError, RecursionError) as error:
        what = type(model).__name__
        text = f"{what}: cannot be written as JSON ({error!s:.200}). Use plain objects, arrays, text and numbers."
        raise InvalidMessage("schema", text) from error


def encode_packed(events: Iterable[Event]) -> bytes:
    """Many events of one partition as one value: a JSON array."""
    return orjson.dumps([event.model_dump(mode="json", exclude_none=True) for event in events])


def cloudevent_headers(event: Event, source: str) -> Headers:
    """CloudEvents 1.0 binary-mode headers of one event (Kafka protocol binding, section 3.2)."""
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", event.event_id.encode()),
        ("ce_source", source.encode()),
        ("ce_type", f"headwater.event.{event.type}".encode()),
        ("ce_time", event.happened_at.isoformat().replace("+00:00", "Z").encode()),
        ("content-type", b"application/json"),
    ]


def read_events(
    value: bytes | None,
    *,
    key: bytes | None,
    headers: Sequence[tuple[str, bytes]] = (),
    partition: int,
    offset: int,
    timestamp_ms: int,
    now_ms: int,
    max_ahead_ms: float,
) -> list[EventRow | InvalidMessage]:
    """The events of one record of the `events` topic, in order; a bad one is an InvalidMessage in its place.

    Missing fields come from where they have a safe source: `event_id` from `ce_id`, else from the record's position (so
    that a redelivery finds the same id); `event_time` from `ce_time`, else from the record's timestamp; `type` from the
    last part of `ce_type`. Reasons: undecodable, too_large, too_deep, null_value, null_key, key_mismatch, schema,
    event_time_ahead, unknown_version.
    """
    at = f"events[{partition}]@{offset}"
    if value is None:
        return [
            InvalidMessage("null_value", f"{at}: null value. Events are never deleted by key; see the erasures topic.")
        ]
    if len(value) > MAX_VALUE_BYTES:
        return [
            InvalidMessage(
                "too_large", f"{at}: {len(value):,} bytes (limit {MAX_VALUE_BYTES:,}). Send smaller records."
            )
        ]
    try:
        decoded = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        return [not_json(error, at, "Send one Event object or an array of them.")]
    packed = isinstance(decoded, list)
    if packed and not 0 < len(decoded) <= MAX_PACKED_EVENTS:
        if not decoded:
            return [InvalidMessage("schema", f"{at}: an empty array. Send one Event object or an array of them.")]
        text = f"{at}: {len(decoded):,} events in one record (limit {MAX_PACKED_EVENTS:,}). Send smaller records."
        return [InvalidMessage("too_large", text)]
    if not packed and key is None:
        text = f"{at}: no key. Key events by user_id, so that a user's events stay in one partition and in order."
        return [InvalidMessage("null_key", text)]
    meta: dict[str, str] = {}
    if headers and not packed:
        try:
            meta = {
                name: content.decode() for name, content in headers if name.startswith("ce_") and content is not None
            }
        except UnicodeDecodeError as error:
            return [InvalidMessage("undecodable", f"{at}: a CloudEvents header is not UTF-8 ({error}).")]
        if meta and meta.get("ce_specversion", "1.0") != "1.0":
            text = f"{at}: ce_specversion {meta['ce_specversion']!r}; this release reads 1.0."
            return [InvalidMessage("unknown_version", text)]
    rows: list[EventRow | InvalidMessage] = []
    for index, body in enumerate(decoded if packed else (decoded,)):
        try:
            if not isinstance(body, dict):
                raise InvalidMessage("schema", f"{at}: event {index} is a {type(body).__name__}, not an object.")
            row = _row(body, meta, partition, offset, index, timestamp_ms, at)
            if row.time_ms > now_ms + max_ahead_ms:
                ahead = (row.time_ms - now_ms) / 1000
                limit = max_ahead_ms / 1000
                text = f"{at}: event_time is {ahead:,.0f} s ahead (limit {limit:.0f} s). Correct the producer's clock."
                raise InvalidMessage("event_time_ahead", text)
            if not packed and key != row.user_id.encode():
                text = f"{at}: key {key!r:.80} is not user_id {row.user_id!r:.80}. Key events by user_id."
                raise InvalidMessage("key_mismatch", text)
        except InvalidMessage as error:
            if packed:
                _single(error, body, f"{partition}-{offset}-{index}", timestamp_ms)
            rows.append(error)
        else:
            rows.append(row)
    return rows


def _single(error: InvalidMessage, body: Any, event_id: str, timestamp_ms: int) -> None:
    """Gives the refusal of one packed event its own body and key, so that it can be looked at and sent again alone."""
    error.body = event_body_for_dead_letter(body, event_id, timestamp_ms)
    user: Any = body.get("user_id") if isinstance(body, dict) else None
    if _is_id(user):
        error.key = user.encode()


def _row(
    body: dict[str, Any], meta: dict[str, str], partition: int, offset: int, index: int, timestamp_ms: int, at: str
) -> EventRow:
    if "event_id" not in body:
        body["event_id"] = meta.get("ce_id") or f"{partition}-{offset}-{index}"
    if "event_time" not in body:
        body["event_time"] = meta.get("ce_time") or timestamp_ms
    if "type" not in body and "ce_type" in meta:
        body["type"] = meta["ce_type"].rsplit(".", 1)[-1]
    get = body.get
    user: Any
    item: Any
    kind: Any
    when: Any
    user, item, kind, when, value, request = (
        get("user_id"), get("item_id"), get("type"), get("event_time"), get("value"), get("request_id"),
    )  # fmt: skip
    plain = (
        _is_id(user)
        and _is_id(item)
        and _is_id(body["event_id"])
        and type(kind) is str
        and _TYPE.match(kind) is not None
        and kind[-1] != "\n"
        and type(when) is int
        and 0 <= when <= _MAX_TIME
        and (value is None or type(value) is float or type(value) is int)
        and (request is None or _is_id(request))
        and get("session_id") is None
        and get("properties") is None
        and body.keys() <= _FIELDS
    )
    if not plain:
        return _suspicious_row(body, offset, index, at)
    number = None if value is None else float(value)
    return EventRow(user, item, kind, when, number, body["event_id"], request, offset, index)


def _is_id(value: Any) -> bool:
    return type(value) is str and 0 < len(value) <= MAX_ID_LENGTH


def _suspicious_row(body: dict[str, Any], offset: int, index: int, at: str) -> EventRow:
    refuse_deep(body, f"{at}: event {index}")
    event = validated(Event, body, f"{at}: event {index}")
    if event.properties is not None and len(orjson.dumps(event.properties)) > MAX_PROPERTIES_BYTES:
        text = f"{at}: event {index}: properties take over {MAX_PROPERTIES_BYTES:,} bytes. Send a reference instead."
        raise InvalidMessage("too_large", text)
    return EventRow(
        event.user_id,
        event.item_id,
        event.type,
        event.event_time,
        event.value,
        event.event_id,
        event.request_id,
        offset,
        index,
    )


def decode_request(value: bytes | None) -> Request:
    """A Request from a value. Raises InvalidMessage (`undecodable`, `schema`, `null_value`, `too_large`)."""
    return _decode(Request, value)


def decode_recommendation(value: bytes | None) -> Recommendation:
    """A Recommendation from a value. Raises InvalidMessage (`undecodable`, `schema`, `null_value`, `too_large`)."""
    return _decode(Recommendation, value)


def decode_item(value: bytes | None) -> Item:
    """An Item from a value. Raises InvalidMessage (`undecodable`, `schema`, `null_value`, `too_large`, `too_deep`)."""
    return _decode(Item, value)


def decode_catalogue_record(key: bytes | None, value: bytes | None, at: str) -> tuple[str, Item | None]:
    """The item_id and Item of one record of `items`; None for a null value, which takes the item out.

    `at` says where the record is (`items[0]@7`). Raises InvalidMessage as `decode_item`, and `null_key`,
    `key_mismatch`.
    """
    if key is None:
        raise InvalidMessage("null_key", f"{at}: no key. Key items by item_id, so that the newest replaces the older.")
    try:
        item_id = key.decode()
    except UnicodeDecodeError as error:
        raise InvalidMessage(
            "undecodable", f"{at}: the key is not UTF-8 ({error!s:.80}). Key items by item_id."
        ) from error
    if value is None:
        return item_id, None
    item = _decode(Item, value, f"{at}: ")
    if item.item_id != item_id:
        text = f"{at}: key {told(item_id)} is not item_id {told(item.item_id)}. Key items by item_id."
        raise InvalidMessage("key_mismatch", text)
    return item_id, item


def _decode(model: type[Model], value: bytes | None, at: str = "") -> Model:
    name = f"{at}{model.__name__}"
    if value is None:
        raise InvalidMessage("null_value", f"{name}: null value")
    if len(value) > MAX_VALUE_BYTES:
        raise InvalidMessage("too_large", f"{name}: {len(value):,} bytes (limit {MAX_VALUE_BYTES:,}). Send less.")
    try:
        body = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise not_json(error, name, "Send one object.") from error
    if value.count(b"[") + value.count(b"{") > MAX_DEPTH:
        refuse_deep(body, name)
    return validated(model, body, name)
