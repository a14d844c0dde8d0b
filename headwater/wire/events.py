"""Events on the wire: a record of the topic `events` as rows, or as the reason why not.

Before: the value, key and headers of a record, which anyone may have sent. After: rows for folding and learning.

A value is one Event as a JSON object, or a JSON array of Events that belong to one partition (a packed record). Reading
is on the hot path of the streams worker, so it checks with plain comparisons and calls pydantic only when something
looks wrong: 1.9 us an event here, pydantic alone 3. A property test holds the two equal.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

import orjson

from headwater.consent import Said, read_said
from headwater.errors import InvalidMessage
from headwater.events import EVENT_TYPE_PATTERN, MAX_ID_LENGTH, MAX_SHOWN, Event, likely_unit, session_number
from headwater.signals import Meaning, Signals
from headwater.wire.headers import read_cloudevent
from headwater.wire.letters import event_body_for_dead_letter
from headwater.wire.values import MAX_VALUE_BYTES, encode, not_json, refuse_deep, unforeseen, validated

__all__ = ["ANY_TIME", "MAX_PACKED_EVENTS", "MAX_PROPERTIES_BYTES", "OWN_TYPES", "EventRow", "TimeBounds"]
__all__ += ["encode_packed", "is_misplaced_list", "read_events", "read_past_events"]

MAX_PROPERTIES_BYTES = 64_000
"""Largest `properties` of one event, in bytes of JSON."""

MAX_PACKED_EVENTS = 10_000
"""Most events in one packed record."""

OWN_TYPES = "headwater."
"""How types of events begin that a worker put into the log, by its own clock, and that workers act on: they forget, and
go by another word of consent."""

SLOW_MS = 86_400_000
"""How slow a clock is taken to be at most where that has to be forgiven: one of years ahead would shut a user out for
ever."""

_TYPE = re.compile(EVENT_TYPE_PATTERN)
_FIELDS = frozenset(Event.model_fields)
_MAX_TIME = 253_402_300_799_999


class EventRow(NamedTuple):
    """An Event as the engine handles it.

    Fields
        user_id, item_id, type, value, event_id, request_id: of the event.
        time_ms: when it happened, epoch ms.
        offset, place: of its record in the partition, and of the event in a packed record.
        session: `session_number` of its session_id.
        items: the list, where the event is one that was shown; its first is `item_id`.
        properties: of the event.
        propensities: of a list that was drawn by chance, one of each item.
        consent: what it says of the purposes that it may be used for; None where it says nothing.
    """

    user_id: str
    item_id: str
    type: str
    time_ms: int
    value: float | None
    event_id: str
    request_id: str | None
    offset: int
    place: int
    session: int | None = None
    items: tuple[str, ...] = ()
    properties: Mapping[str, Any] | None = None
    propensities: tuple[float, ...] = ()
    consent: Said | None = None


class TimeBounds(NamedTuple):
    """Between which times events are taken.

    Fields
        oldest_ms: the earliest `event_time`, epoch ms: `streams.oldest`.
        now_ms, max_ahead_ms: the reader's clock, and how far beyond it an `event_time` may lie.
    """

    oldest_ms: int = 0
    now_ms: int = 0
    max_ahead_ms: float = math.inf

    @property
    def latest_word_ms(self) -> float:
        """Latest time of a word that a user counts on, such as an erasure: the reader's clock may be slow, and who was
        forgotten must not come back for that.
        """
        return self.now_ms + self.max_ahead_ms + SLOW_MS

    def refusal(self, time_ms: int, at: str) -> InvalidMessage:
        """Why an event of a time that lies outside is refused."""
        if time_ms < self.oldest_ms:
            text = f"{at}: event_time {time_ms} is {_day(time_ms)}, before {_day(self.oldest_ms)} (streams.oldest)."
            unit = likely_unit(time_ms)
            looks = "Send" if unit in (None, "milliseconds") else f"It looks like {unit}: send"
            return InvalidMessage("event_time_unit", f"{text} {looks} milliseconds since 1970, or RFC 3339 text.")
        ahead_s = (time_ms - self.now_ms) / 1000
        text = f"{at}: event_time is {ahead_s:,.0f} s ahead (limit {self.max_ahead_ms / 1000:.0f} s)."
        return InvalidMessage("event_time_ahead", f"{text} Correct the producer's clock.")


ANY_TIME = TimeBounds()


def encode_packed(events: Iterable[Event]) -> bytes:
    """Many events of one partition as one value: a JSON array.

    Raises
        InvalidMessage: one holds what JSON cannot (`schema`).
    """
    return b"[%b]" % b",".join(map(encode, events))


def read_events(
    value: bytes | None,
    *,
    key: bytes | None,
    headers: Sequence[tuple[str, bytes]] = (),
    partition: int,
    offset: int,
    timestamp_ms: int,
    times: TimeBounds = ANY_TIME,
    meanings: Signals | None = None,
) -> list[EventRow | InvalidMessage]:
    """The events of one record of the `events` topic, in order; a bad one is an InvalidMessage in its place. Never
    raises.

    Missing fields come from where they have a safe source: `event_id` from `ce_id`, else from the record's position (so
    that a redelivery finds the same id); `event_time` from `ce_time`, else from the record's timestamp; `type` from the
    last part of `ce_type`.

    Parameters
        value, key, headers, partition, offset, timestamp_ms: the record.
        times: between which an `event_time` must lie.
        meanings: of the types in force; None lets a list be of any type.

    Returns
        A row, or why not, for each event; one InvalidMessage for a record that is refused whole. Reasons: undecodable,
        too_large, too_deep, null_value, null_key, key_mismatch, schema, event_time_ahead, event_time_unit,
        items_not_exposure, unknown_version, and internal for what nobody foresaw.
    """
    at = f"events[{partition}]@{offset}"
    rows: list[EventRow | InvalidMessage] = []
    oldest_ms, newest_ms = times.oldest_ms, times.now_ms + times.max_ahead_ms
    try:
        bodies, packed = _bodies(value, key, at)
        meta = read_cloudevent(headers, at) if headers and not packed else {}
        for index, body in enumerate(bodies):
            try:
                row = _row(body, meta, partition, offset, index, timestamp_ms, at)
                is_own = row.type.startswith(OWN_TYPES)
                if is_own and len(bodies) > 1:  # whatever is from before it lies at another offset
                    raise InvalidMessage("schema", f"{at}: event {index}: send {row.type} in a record of its own.")
                latest_ms = times.latest_word_ms if is_own else newest_ms
                if not oldest_ms <= row.time_ms <= latest_ms:
                    raise times.refusal(row.time_ms, at)
                if not packed and key != row.user_id.encode():
                    text = f"{at}: key {key!r:.80} is not user_id {row.user_id!r:.80}. Key events by user_id."
                    raise InvalidMessage("key_mismatch", text)
                if row.items and meanings is not None and is_misplaced_list(row, meanings):
                    raise _misplaced(row, at)
            except InvalidMessage as error:
                if packed:
                    _single(error, body, f"{partition}-{offset}-{index}", timestamp_ms)
                rows.append(error.as_value())
            else:
                rows.append(row)
    except InvalidMessage as error:
        return [error.as_value()]
    except Exception as error:  # noqa: BLE001 - the content of one record is the only thing that can differ here
        return [unforeseen(error, at)]
    return rows


def is_misplaced_list(event: EventRow | Event, meanings: Signals) -> bool:
    """Whether an event has a list of items although its type does not mean that they were shown."""
    return bool(event.items) and meanings.meaning(event.type, event.value) is not Meaning.EXPOSURE


def _misplaced(row: EventRow, at: str) -> InvalidMessage:
    text = (
        f"{at}: event {row.place}: a list of {len(row.items):,} items with type {row.type!r}, which does not mean that "
        f"they were shown. Send a list as type impression, and one event for each item that the user did something "
        f'with; or set [signals.{row.type}] means = "exposure".'
    )
    return InvalidMessage("items_not_exposure", text)


def read_past_events(
    record: Any, *, oldest_ms: int = 0, meanings: Signals | None = None
) -> list[EventRow | InvalidMessage]:
    """The events of one record of the log that was read before, whatever the clock says now.

    Parameters
        record: of `events`, as kafka-python gives it.
        meanings: as of `read_events`.
        oldest_ms: what lies before is refused; by default nothing is: what the worker refused then, `dead-letters` has.

    Returns
        As of `read_events`; nothing is ahead of its time.
    """
    return read_events(
        record.value,
        key=record.key,
        headers=record.headers,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
        times=TimeBounds(oldest_ms=oldest_ms),
        meanings=meanings,
    )


def _bodies(value: bytes | None, key: bytes | None, at: str) -> tuple[Sequence[Any], bool]:
    """What JSON decoding gave for each event, and whether the record is packed. Raises InvalidMessage for all of it."""
    if value is None:
        text = f"{at}: null value. Events are never deleted by key: send one Event object or an array of them."
        raise InvalidMessage("null_value", text)
    if len(value) > MAX_VALUE_BYTES:
        text = f"{at}: {len(value):,} bytes (limit {MAX_VALUE_BYTES:,}). Send smaller records."
        raise InvalidMessage("too_large", text)
    try:
        decoded = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise not_json(error, at, "Send one Event object or an array of them.") from error
    if not isinstance(decoded, list):
        if key is None:
            text = f"{at}: no key. Key events by user_id, so that a user's events stay in one partition and in order."
            raise InvalidMessage("null_key", text)
        return (decoded,), False
    if not decoded:
        raise InvalidMessage("schema", f"{at}: an empty array. Send one Event object or an array of them.")
    if len(decoded) > MAX_PACKED_EVENTS:
        text = f"{at}: {len(decoded):,} events in one record (limit {MAX_PACKED_EVENTS:,}). Send smaller records."
        raise InvalidMessage("too_large", text)
    return decoded, True


def _day(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, timezone.utc).strftime("%Y-%m-%d")


def _single(error: InvalidMessage, body: Any, event_id: str, timestamp_ms: int) -> None:
    """Gives the refusal of one packed event its own body and key, so that it can be looked at and sent again alone."""
    error.body = event_body_for_dead_letter(body, event_id, timestamp_ms)
    user: Any = body.get("user_id") if isinstance(body, dict) else None
    if _is_id(user):
        error.key = user.encode()


def _row(
    body: Any, meta: dict[str, str], partition: int, offset: int, index: int, timestamp_ms: int, at: str
) -> EventRow:
    if not isinstance(body, dict):
        raise InvalidMessage("schema", f"{at}: event {index} is a {type(body).__name__}, not an object.")
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
    user, item, kind, when, value, request, session = (
        get("user_id"), get("item_id"), get("type"), get("event_time"), get("value"), get("request_id"),
        get("session_id"),
    )  # fmt: skip
    if item is None and type(items := get("items")) is list and items:
        item = items[0]
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
        and (session is None or _is_id(session))
        and get("properties") is None
        and body.keys() <= _FIELDS
        and ("items" not in body or _is_list(body["items"], item))
        and ("propensities" not in body or _are_chances(body["propensities"], body.get("items")))
        and ("consent" not in body or read_said(body["consent"]) is not None)
    )
    if not plain:
        if type(when) is int and when > _MAX_TIME and (unit := likely_unit(when)):
            text = f"{at}: event {index}: event_time {when} looks like {unit}: send milliseconds, or RFC 3339 text."
            raise InvalidMessage("event_time_unit", text)
        return _suspicious_row(body, offset, index, at)
    number = None if value is None else float(value)
    row = EventRow(user, item, kind, when, number, body["event_id"], request, offset, index)
    if session is not None:
        row = row._replace(session=session_number(session))
    if "consent" in body:
        row = row._replace(consent=read_said(body["consent"]))
    if not get("items"):
        return row
    return row._replace(items=tuple(body["items"]), propensities=tuple(map(float, body.get("propensities") or ())))


def _is_list(items: Any, first: str) -> bool:
    if items is None:
        return True
    return type(items) is list and 0 < len(items) <= MAX_SHOWN and all(map(_is_id, items)) and items[0] == first


def _are_chances(chances: Any, items: Any) -> bool:
    if chances is None:
        return True
    if type(chances) is not list or type(items) is not list or len(chances) != len(items):
        return False
    return all((type(one) is float or type(one) is int) and 0 < one <= 1 for one in chances)


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
        None if event.session_id is None else session_number(event.session_id),
        event.items or (),
        event.properties,
        event.propensities or (),
        None if event.consent is None else event.consent.said,
    )
