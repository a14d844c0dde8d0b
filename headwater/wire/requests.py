"""What apps and workers say beside events: requests, recommendations, and items of the catalogue.

Before: the value of a record, which anyone may have sent. After: a model, or an InvalidMessage with the reason.
"""

from __future__ import annotations

from headwater.errors import InvalidMessage
from headwater.events import MAX_ID_LENGTH, Item
from headwater.recommendations import Recommendation, Request
from headwater.wire.values import decode, only_refusals, short_text

__all__ = ["decode_catalogue_record", "decode_item", "decode_recommendation", "decode_request"]


def decode_request(value: bytes | None) -> Request:
    """A Request from a value.

    Raises
        InvalidMessage: `undecodable`, `schema`, `null_value`, `too_large` or `too_deep`.
    """
    return decode(Request, value)


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
    with only_refusals(at):
        if key is None:
            raise InvalidMessage(
                "null_key", f"{at}: no key. Key items by item_id, so that the newest replaces the older."
            )
        try:
            item_id = key.decode()
        except UnicodeDecodeError as error:
            raise InvalidMessage(
                "undecodable", f"{at}: the key is not UTF-8 ({error!s:.80}). Key items by item_id."
            ) from error
        if value is None:
            if not 0 < len(item_id) <= MAX_ID_LENGTH:
                text = f"{at}: the key has {len(item_id):,} characters (1 to {MAX_ID_LENGTH}). Key items by item_id."
                raise InvalidMessage("schema", text)
            return item_id, None
        item = decode(Item, value, f"{at}: ")
        if item.item_id != item_id:
            text = f"{at}: key {short_text(item_id)} is not item_id {short_text(item.item_id)}. Key items by item_id."
            raise InvalidMessage("key_mismatch", text)
        return item_id, item
