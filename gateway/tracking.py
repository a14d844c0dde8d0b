"""What trackers of the analytics.js kind send, as events, links and attributes: a tracker works by changing its host.

Before: the body of `/v1/track`, `/v1/identify`, `/v1/batch` and the like, as Segment's HTTP API has it. After:
`gateway.doors`.
What says nothing of an item (a signup, a page) is no event here: it is counted as ignored, and the answer says why.

Source
    Segment, "HTTP Tracking API Source" and "Spec: V2 Ecommerce Events" (segment.com/docs). What analytics.js sends:
    github.com/segmentio/analytics-next, packages/browser/src/plugins/segmentio.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from gateway.bodies import refuse_many
from headwater.errors import InvalidMessage
from headwater.events import EVENT_TYPE_PATTERN, MAX_ID_LENGTH, now_ms, to_epoch_ms
from headwater.foreign_types import ours_of

__all__ = ["KINDS", "MOST_CALLS", "TrackerSays", "kind_of", "read_batch", "read_call"]

ITEM_FIELDS = ("item_id", "product_id", "sku", "content_id", "id")
VALUE_FIELDS = ("rating", "value", "price", "revenue")
KINDS = ("track", "identify", "alias", "page", "screen", "group")
"""No two begin with the same letter, by which analytics.js calls them."""

MOST_CALLS = 1_000
"""In one batch of a tracker."""


class TrackerSays(NamedTuple):
    """What one call says: bodies of Event, Identity and User; or why it says nothing."""

    events: list[dict[str, Any]]
    links: list[dict[str, Any]]
    users: list[dict[str, Any]]
    ignored: str | None = None
    at: str = "the call"
    """Begins a message about it."""


def read_call(body: Any, kind: str | None = None, at: str = "the call", sent: Any = None) -> TrackerSays:
    """One call of a tracker.

    Parameters
        body: decoded JSON.
        kind: track, identify, ...; of a batch each call says its own `type`.
        at: begins a message.
        sent: when it was sent, by the sender's clock, where the call itself does not say.

    Raises
        InvalidMessage: it is no such call.
    """
    if not isinstance(body, dict):
        raise InvalidMessage("schema", f"{at}: give one object; this is a {type(body).__name__}")
    kind = kind or body.get("type")
    if kind not in KINDS:
        raise InvalidMessage("schema", f"{at}: type: {kind!r:.40} is none of {', '.join(KINDS)}")
    user = body.get("userId") or body.get("anonymousId")
    if not isinstance(user, str | int) or isinstance(user, bool):
        raise InvalidMessage("schema", f"{at}: neither userId nor anonymousId is given")
    if kind == "track":
        return _track(body, str(user), at, body.get("sentAt") or sent)._replace(at=at)
    if kind == "alias":
        return TrackerSays([], _links(body, body.get("previousId")), [], at=at)
    if kind == "identify":
        told = _object(body, "traits", at)
        traits = {name: one for name, one in told.items() if _is_attribute(one)}
        users = [{"user_id": str(user), "attributes": traits}] if traits else []
        return TrackerSays([], _links(body, body.get("anonymousId")), users, at=at)
    return TrackerSays([], [], [], f"{kind} says nothing of an item", at)


def kind_of(path: str) -> str:
    """Which call of a tracker a path is.

    >>> kind_of("/v1/screen"), kind_of("/v1/p")
    ('screen', 'page')
    """
    return next(one for one in KINDS if one.startswith(path.rpartition("/")[2]))


def read_batch(body: Any) -> list[TrackerSays]:
    """The calls of a batch. Raises InvalidMessage."""
    calls = body.get("batch") if isinstance(body, dict) else None
    if not isinstance(calls, list) or len(calls) > MOST_CALLS:
        raise InvalidMessage("schema", f"batch: give a list of at most {MOST_CALLS:,} calls")
    read, many = list[TrackerSays](), 0
    for place, one in enumerate(calls):
        read.append(read_call(one, at=f"batch[{place}]", sent=body.get("sentAt")))
        many += len(read[-1].events)
        refuse_many(many, "batch: events")
    return read


def _object(body: Mapping[str, Any], name: str, at: str) -> dict[str, Any]:
    found = body.get(name) or {}
    if not isinstance(found, dict):
        raise InvalidMessage("schema", f"{at}: {name}: give one object; this is a {type(found).__name__}")
    return found


def _links(body: Mapping[str, Any], was: Any) -> list[dict[str, Any]]:
    user = body.get("userId")
    texts = [str(one) for one in (user, was) if one and isinstance(one, str | int)]
    return [{"user_id": texts[0], "was": texts[1]}] if len(set(texts)) == 2 else []


def _is_attribute(given: Any) -> bool:
    return isinstance(given, bool | int | float) or (isinstance(given, str) and len(given) <= MAX_ID_LENGTH)


def _happened(body: Mapping[str, Any], sent: Any) -> Any:
    """When a call happened, as an event may say it; None where it does not say. A sender whose clock is ahead sends
    from the future: as much is taken off, for streams workers refuse what has not happened yet. A clock that is behind
    looks like a call that was long on its way. A `timestamp` beside the original one was corrected before."""
    told, original = body.get("timestamp"), body.get("originalTimestamp")
    if told and original:
        return told
    told = told or original
    with contextlib.suppress(ValueError, OverflowError):  # what is no time is refused for that
        at_ms, ahead_ms = to_epoch_ms(told), to_epoch_ms(sent)
        if type(at_ms) is int and type(ahead_ms) is int:
            return at_ms - max(0, ahead_ms - now_ms())
    return told


def _track(body: Mapping[str, Any], user: str, at: str, sent: Any) -> TrackerSays:
    name = body.get("event")
    if not isinstance(name, str) or not name:
        raise InvalidMessage("schema", f"{at}: event: give its name")
    kind = ours_of(name)
    properties = _object(body, "properties", at)
    if kind == "":
        return TrackerSays([], [], [], f"{name!r:.60} says nothing new of its products")
    if kind is None:  # a name of the app's own, written small
        kind = re.sub(r"[^a-z0-9.\-]+", "_", name.lower()).strip("_")
    if not re.match(EVENT_TYPE_PATTERN, kind):
        text = f"{name!r:.60} makes no type of event: that begins with a letter of a to z, and has 64 at most"
        return TrackerSays([], [], [], text)
    common: dict[str, Any] = {"user_id": user, "type": kind}
    if (happened := _happened(body, sent)) is not None:
        common["event_time"] = happened
    request_id = properties.get("request_id")
    if isinstance(request_id, str):
        common["request_id"] = request_id
    message = body.get("messageId")
    products = [one for one in _products(properties, at) if _item(one) is not None]
    if kind == "impression" and len(products) > 1:
        own = {"event_id": str(message)} if message else {}
        return TrackerSays([{**common, **own, "items": [_item(one) for one in products]}], [], [])
    events = []
    for number, product in enumerate(products):
        event = {**common, "item_id": _item(product)}
        if message:
            event["event_id"] = str(message) if len(products) == 1 else f"{message}-{number}"
        value = next((one for field in VALUE_FIELDS if _is_number(one := product.get(field))), None)
        events.append(event if value is None else {**event, "value": float(value)})
    if not events:
        return TrackerSays(
            [], [], [], f"{name!r:.60} names no item: none of {', '.join(ITEM_FIELDS)} is in its properties"
        )
    return TrackerSays(events, [], [])


def _products(properties: Mapping[str, Any], at: str) -> Iterator[Mapping[str, Any]]:
    several = properties.get("products")
    if isinstance(several, list):
        refuse_many(len(several), f"{at}: products")
        yield from (one for one in several if isinstance(one, dict))
    else:
        yield properties


def _item(product: Mapping[str, Any]) -> str | None:
    found = next((product[name] for name in ITEM_FIELDS if product.get(name) not in (None, "")), None)
    return str(found) if isinstance(found, str | int) and not isinstance(found, bool) else None


def _is_number(given: Any) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool)
