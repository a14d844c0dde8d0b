"""Reads one record of `events` so that no content, however strange, ends the one who reads it.

Before: a record as Kafka gave it. After: its events, each a row or an InvalidMessage in its place. The worker and the
audit share it, so that both refuse the same.
"""

from __future__ import annotations

from typing import Any

from headwater.errors import InvalidMessage
from headwater.wire.codec import EventRow, read_events

__all__ = ["read_record", "unforeseen"]


def read_record(value: bytes | None, *, partition: int, offset: int, **more: Any) -> list[EventRow | InvalidMessage]:
    """As `read_events`; what that did not foresee is one InvalidMessage `internal` for the whole record."""
    try:
        return read_events(value, partition=partition, offset=offset, **more)
    except Exception as error:  # noqa: BLE001 - the content of one record is the only thing that can differ here
        return [unforeseen(error, f"events[{partition}]@{offset}")]


def unforeseen(error: Exception, at: str) -> InvalidMessage:
    """The InvalidMessage of an exception that no check foresaw; please report it."""
    text = f"{at}: {type(error).__name__}: {error}. Headwater did not foresee this content: please report it."
    return InvalidMessage("internal", text)
