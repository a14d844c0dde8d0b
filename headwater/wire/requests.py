"""What apps and workers say beside events: requests, recommendations, and items of the catalogue.

Before: the value of a record, which anyone may have sent. After: a model, or an InvalidMessage with the reason.
"""

from __future__ import annotations

from typing import TypeVar

from headwater.errors import InvalidMessage
from headwater.events import MAX_ID_LENGTH, MAX_TIME_MS, OLDEST_MS, Item
from headwater.recommendations import Recommendation, Request
from headwater.users import User
from headwater.wire.values import decode, only_refusals, record_key, short_text

__all__ = ["decode_catalogue_record", "decode_item", "decode_recommendation", "decode_request", "decode_user_record"]

Owned = TypeVar("Owned", Item, User)


def decode_request(value: bytes | None, sent_ms: int | None = None) -> Request:
    """A Request from a value.

    Parameters
        value: of a record.
        sent_ms: its timestamp, epoch ms. Recent events that do not say when they were are of then, so that whoever
            reads the request later reads the same; without it, of now.

    Raises
        InvalidMessage: `undecodable`, `schema`, `null_value`, `too_large` or `too_deep`.
    """
    request = decode(Request, value)
    dated = all("event_time" in one.model_fields_set for one in request.recent_events)
    if dated or sent_ms is None or not OLDEST_MS <= sent_ms <= MAX_TIME_MS:
        return request
    own = [
        one if "event_time" in one.model_fields_set else one.model_copy(update={"event_time": sent_ms})
        for one in request.recent_events
    ]
    return request.model_copy(update={"recent_events": tuple(own)})


def decode_recommendation(value: bytes | None) -> Recommendation:
    """A Recommendation from a value.

    Raises
        InvalidMessage: as `decode_request`.
    """
    return decode(Recommendation, value)


def decode_item(value: bytes | None) -> Item:
    """An Item from a value.

    Raises
        InvalidMessage: as `decode_request`.
    """
    return decode(Item, value)


def decode_catalogue_record(key: bytes | None, value: bytes | None, at: str) -> tuple[str, Item | None]:
    """What one record of `items` says.

    Parameters
        key, value: of the record.
        at: where it is (`items[0]@7`).

    Returns
        The item_id, and the Item; None for a null value, which takes the item out.

    Raises
        InvalidMessage: as `decode_item`, `null_key` or `key_mismatch`, and nothing else.
    """
    return _compacted_record(Item, "item_id", key, value, at)


def decode_user_record(key: bytes | None, value: bytes | None, at: str) -> tuple[str, User | None]:
    """What one record of `users` says: the user_id, and the User; None for a null value, which erases the attributes.

    Raises
        InvalidMessage: as `decode_catalogue_record`.
    """
    return _compacted_record(User, "user_id", key, value, at)


def _compacted_record(
    model: type[Owned], name: str, key: bytes | None, value: bytes | None, at: str
) -> tuple[str, Owned | None]:
    """One record of a topic that keeps the newest of each key, which is the value's field `name`."""
    remedy = f"Key {model.__name__.lower()}s by {name}"
    with only_refusals(at):
        own = record_key(key, at, remedy)
        if value is None:
            if not 0 < len(own) <= MAX_ID_LENGTH:
                text = f"{at}: the key has {len(own):,} characters (1 to {MAX_ID_LENGTH}). {remedy}."
                raise InvalidMessage("schema", text)
            return own, None
        found = decode(model, value, f"{at}: ")
        said = str(getattr(found, name))
        if said != own:
            text = f"{at}: key {short_text(own)} is not {name} {short_text(said)}. {remedy}."
            raise InvalidMessage("key_mismatch", text)
        return own, found
