"""What apps send: events (a user did something with an item) and items (the catalogue).

Before: any producer, ours or a plain Kafka client writing the JSON by hand. After: the streams worker.
Knows nothing of Kafka; `headwater.wire` puts these on the wire.

Field names follow Amazon Personalize and metarank where they agree. Times on the wire are integers, milliseconds since
1970-01-01 UTC; RFC 3339 text with an offset is read too.
"""

from __future__ import annotations

import re
import sys
import time
import uuid
import zlib
from datetime import datetime, timezone
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from headwater.consent import Consent

MAX_ID_LENGTH = 256
"""Longest accepted user, item, session, event or request id, in characters."""

MAX_TIME_MS = 253_402_300_799_999
"""The last millisecond of the year 9999, in epoch ms: no event is later."""

EVENT_TYPE_PATTERN = r"^[a-z][a-z0-9_.\-]{0,63}$"
"""Event types are an open vocabulary of short lower-case words: view, click, cart, purchase, rating, watch ..."""


OLDEST_MS = 631_152_000_000
"""1990-01-01 UTC. An older `event_time` is taken for one in a wrong unit, unless `streams.oldest` says otherwise."""

NEWEST_MS = 4_102_444_800_000  # 2100
_UNITS_MS = (("seconds", 1000.0), ("milliseconds", 1.0), ("microseconds", 1e-3), ("nanoseconds", 1e-6))


def likely_unit(number: float) -> str | None:
    """The unit in which a number, counted from 1970, is a time of our days (1990 to 2100); None: in none of them.

    >>> likely_unit(1_700_000_000), likely_unit(1_700_000_000_000), likely_unit(20231114)
    ('seconds', 'milliseconds', None)
    """
    return next((unit for unit, ms in _UNITS_MS if OLDEST_MS <= number * ms < NEWEST_MS), None)


def to_epoch_ms(value: object) -> object:
    """Milliseconds since the epoch, from an aware datetime or RFC 3339 text; anything else is left to pydantic.

    Raises
        ValueError: a time has no offset; guessing one would shift a history by hours.
    """
    if isinstance(value, str):
        value = _read_time(value)
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("a time needs an offset (for example 2026-11-22T10:00:00Z) or integer milliseconds")
        return round(value.timestamp() * 1000)
    return value


def _read_time(text: str) -> datetime:
    if sys.version_info < (3, 11):  # whose fromisoformat knows no Z and only fractions of 3 or 6 digits
        text = re.sub(r"\.(\d{1,6})\d*", lambda found: f".{found[1]:0<6}", re.sub("Z$", "+00:00", text))
    return datetime.fromisoformat(text)


def now_ms() -> int:
    """The wall clock, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def new_id() -> str:
    """A random 32-character id."""
    return uuid.uuid4().hex


def session_number(session_id: str) -> int:
    """32 bits of a session id: enough to tell neighbouring sessions of one user apart."""
    return zlib.crc32(session_id.encode())


def not_seconds(time_ms: int) -> int:
    """No time of early 1970, but of a whole quarter of an hour, as dates are in every zone: films are as old."""
    if time_ms % 900_000 and likely_unit(time_ms) == "seconds":
        raise ValueError(f"{time_ms} is in the first weeks of 1970; if it is seconds, send {time_ms}000 (milliseconds)")
    return time_ms


EpochMs = Annotated[
    int,
    Field(ge=0, le=MAX_TIME_MS, strict=True),
    BeforeValidator(to_epoch_ms, json_schema_input_type=int | datetime),
]
Id = Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Chance = Annotated[float, Field(gt=0, le=1, strict=True)]
Properties = dict[str, Any]


def at_most(most: int) -> BeforeValidator:
    """That an object has so many names, before each is looked at: what is wrong with thousands of them is long to tell.

    Raises
        ValueError: where it is validated, it has more.
    """

    def refuse(given: Any) -> Any:
        if isinstance(given, dict) and len(given) > most:
            raise ValueError(f"there are {len(given):,} names in it (limit {most})")
        return given

    return BeforeValidator(refuse)


MAX_VECTOR = 2048
"""Most numbers of one vector of an item."""

Vector = Annotated[tuple[Finite, ...], Field(fail_fast=True, min_length=1, max_length=MAX_VECTOR)]

MAX_SHOWN = 1000
"""Most items of one list that was shown."""

_OF_A_LIST: Any = Field(fail_fast=True, min_length=1, max_length=MAX_SHOWN)


class Event(BaseModel):
    """One thing a user did with one item, or a list of items that a user was shown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    event_id: Id = Field(default_factory=new_id, description="Duplicates of an id by the same user change nothing.")
    user_id: Id
    item_id: Id = Field(description="Of a list that was shown, `items` alone will do.")
    type: str = Field(pattern=EVENT_TYPE_PATTERN, description="view, click, cart, purchase, rating, watch, ...")
    event_time: EpochMs = Field(
        default_factory=now_ms, description="When it happened: integer milliseconds since 1970 UTC, or RFC 3339 text."
    )
    value: Number | None = Field(default=None, description="Stars, seconds watched, price: meaning depends on type.")
    session_id: Id | None = None
    request_id: Id | None = Field(default=None, description="The recommendation that this event answers.")
    properties: Properties | None = None
    items: Annotated[tuple[Id, ...], _OF_A_LIST] | None = Field(
        default=None,
        description="A list that was shown, in its order: for types that mean exposure, such as impression.",
    )
    propensities: Annotated[tuple[Chance, ...], _OF_A_LIST] | None = Field(
        default=None,
        description="Of a list that was drawn by chance: the chance of each item at its place, given those above it.",
    )
    consent: Consent | None = Field(
        default=None,
        description="For which purposes this event may be used, where that is other than what is known of the user. "
        "What the user has withdrawn stays withdrawn (docs/privacy.md).",
    )

    @model_validator(mode="before")
    @classmethod
    def _first_of_the_list(cls, given: Any) -> Any:
        """A list needs no `item_id`: it is the first of it, so that whoever knows one item finds one."""
        if isinstance(given, dict) and given.get("items") and given.get("item_id") is None:
            items = given["items"]
            return {**given, "item_id": items[0]} if isinstance(items, (list, tuple)) else given
        return given

    @model_validator(mode="after")
    def _of_the_list(self) -> Event:
        if self.items is not None and self.items[0] != self.item_id:
            raise ValueError(f"item_id {self.item_id[:40]!r} is not the first of items: leave item_id out")
        if self.propensities is not None and len(self.propensities) != len(self.items or ()):
            raise ValueError(
                f"{len(self.propensities)} propensities of {len(self.items or ())} items: one of each item"
            )
        return self

    @property
    def happened_at(self) -> datetime:
        """`event_time` as an aware UTC datetime."""
        return datetime.fromtimestamp(self.event_time / 1000, timezone.utc)


class Item(BaseModel):
    """One entry of the catalogue. On the `items` topic its key is `item_id`; a null value removes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    item_id: Id
    title: str | None = Field(default=None, max_length=2000)
    categories: Annotated[tuple[str, ...], Field(fail_fast=True)] = ()
    available: bool = Field(default=True, description="An unavailable item is learned from, never recommended.")
    published_time: Annotated[EpochMs, AfterValidator(not_seconds)] | None = None
    expires_time: Annotated[EpochMs, AfterValidator(not_seconds)] | None = Field(
        default=None, description="From this moment on the item is in no list, as if it were not available."
    )
    text: str | None = Field(default=None, max_length=100_000, description="Description for content features.")
    attributes: Properties = Field(default_factory=dict, description="Fields that request filters may name.")
    vectors: Annotated[
        dict[Annotated[str, Field(min_length=1, max_length=64)], Vector], Field(max_length=4), at_most(4)
    ] = Field(
        default_factory=dict,
        exclude_if=lambda vectors: not vectors,
        description='What a model of yours makes of its image, sound or text, by name: {"image": [.1, -.3, ...]}. '
        "Items whose vectors of a name point the same way are alike; of a name all have one length. A missing one is "
        "normal.",
    )

    @property
    def gone_ms(self) -> int | None:
        """From when on the item has expired, epoch ms: by `expires_time`, or by an attribute of that name that is a
        time of our days, whatever its unit.
        """
        if self.expires_time is not None:
            return self.expires_time
        try:
            value = to_epoch_ms(self.attributes.get("expires_time"))
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                return None
            return next((int(value * ms) for unit, ms in _UNITS_MS if unit == likely_unit(value)), None)
        except (ValueError, OverflowError):
            return None
