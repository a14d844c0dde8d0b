"""What one record of `items`, `users` or `dead-letters` tells the store: pure functions of a record, whoever read it.

Before: the agents of the worker, or `streams.refill`, have read the record. After: `streams.features.store` writes it.
"""

from __future__ import annotations

from typing import Any

from headwater.examples import CatalogueEntry
from headwater.users import User
from headwater.wire import UNKNOWN_REASON, decode_catalogue_record, read_letter
from streams.features.store import attributes_text

__all__ = ["attributes_of", "catalogue_entry", "counted_letter", "record_place"]

Message = Any


def catalogue_entry(message: Message) -> CatalogueEntry:
    """The entry of one record of `items`. Raises InvalidMessage as `decode_catalogue_record`."""
    item_id, item = decode_catalogue_record(message.key, message.value, record_place(message))
    return CatalogueEntry(item_id, None if item is None else item.model_dump(mode="json", exclude_none=True))


def attributes_of(user: User | None, time_ms: int) -> bytes | None:
    """What one record of `users` writes; None erases. `time_ms`: the record's timestamp."""
    return attributes_text(user.attributes, time_ms) if user is not None and user.attributes else None


def record_place(message: Message) -> str:
    """Where a record is, for people."""
    return f"{message.topic}[{message.partition}]@{message.offset}"


def counted_letter(message: Message) -> tuple[str, str, int, int]:
    """Reason and the letter's own position, by which it counts once.

    Not the position that it tells of: letters of several workers and redrives arrive in no order of their sources.
    """
    letter = read_letter(message.headers)
    reason = UNKNOWN_REASON if letter is None else letter.reason
    return reason, f"{message.topic}/{message.partition}", message.offset, 0
