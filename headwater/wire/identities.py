"""Identities on the wire: a record of the topic `identities` as a row, or as the reason why not.

Before: the value and key of a record, which anyone may have sent. After: the link that the feature store keeps.
"""

from __future__ import annotations

from typing import NamedTuple

import orjson

from headwater.errors import InvalidMessage
from headwater.events import MAX_TIME_MS, likely_unit
from headwater.identities import Identity
from headwater.wire.events import ANY_TIME, TimeBounds
from headwater.wire.values import MAX_VALUE_BYTES, not_json, refuse_deep, short_text, unforeseen, validated

__all__ = ["IdentityRow", "read_identity"]


class IdentityRow(NamedTuple):
    """An Identity as the engine handles it.

    Fields
        user_id, was, linked: of the identity.
        time_ms: its event_time, epoch ms.
        partition, offset: of its record.
    """

    user_id: str
    was: str
    linked: bool
    time_ms: int
    partition: int
    offset: int


def read_identity(
    value: bytes | None,
    *,
    key: bytes | None,
    partition: int,
    offset: int,
    timestamp_ms: int,
    times: TimeBounds = ANY_TIME,
) -> IdentityRow | InvalidMessage:
    """What one record of the `identities` topic says. Never raises.

    A missing `event_time` is the record's timestamp.

    Parameters
        value, key, partition, offset, timestamp_ms: the record.
        times: between which an `event_time` must lie: the newest word counts, so one from the future would for ever.

    Returns
        A row, or why not: undecodable, too_large, too_deep, null_value, null_key, key_mismatch, schema,
        event_time_ahead, event_time_unit, and internal for what nobody foresaw.
    """
    at = f"identities[{partition}]@{offset}"
    try:
        return _row(value, key, IdentityRow("", "", False, timestamp_ms, partition, offset), times, at)
    except InvalidMessage as error:
        return error.as_value()
    except Exception as error:  # noqa: BLE001 - the content of one record is the only thing that can differ here
        return unforeseen(error, at)


def _row(value: bytes | None, key: bytes | None, empty: IdentityRow, times: TimeBounds, at: str) -> IdentityRow:
    if value is None:
        text = f"{at}: null value. A link is taken away by an Identity with linked false, not by deleting its record."
        raise InvalidMessage("null_value", text)
    if len(value) > MAX_VALUE_BYTES:
        text = f"{at}: {len(value):,} bytes (limit {MAX_VALUE_BYTES:,}). Send one Identity."
        raise InvalidMessage("too_large", text)
    try:
        body = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise not_json(error, at, "Send one Identity object.") from error
    refuse_deep(body, at)
    if isinstance(body, dict):
        body.setdefault("event_time", empty.time_ms)
        when = body["event_time"]
        if type(when) is int and when > MAX_TIME_MS and (unit := likely_unit(when)):
            text = f"{at}: event_time {when} looks like {unit}: send milliseconds, or RFC 3339 text."
            raise InvalidMessage("event_time_unit", text)
    found = validated(Identity, body, at)
    if not times.oldest_ms <= found.event_time <= times.now_ms + times.max_ahead_ms:
        raise times.refusal(found.event_time, at)
    if key is None:
        raise InvalidMessage("null_key", f"{at}: no key. Key identities by user_id.")
    if key != found.user_id.encode():
        text = f"{at}: key {key!r:.80} is not user_id {short_text(found.user_id)}. Key identities by user_id."
        raise InvalidMessage("key_mismatch", text)
    return empty._replace(user_id=found.user_id, was=found.was, linked=found.linked, time_ms=found.event_time)
