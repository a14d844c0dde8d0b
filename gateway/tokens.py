"""Two texts that a client keeps and does not read: how far its own events have come, and whom a browser speaks for.

Before: an answer to `POST /v1/events`, or `POST /v1/tokens`. After: the next request. The first is no secret and proves
nothing: a wrong one makes an answer wait, at most. The second is signed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, Field

from headwater.client import Position
from headwater.client.outbox import LinkPosition
from headwater.errors import InvalidMessage
from headwater.events import Id

__all__ = ["After", "Speaker", "TokenAsked", "read_speaker", "signed"]

MAX_TOKEN = 16_384
"""Characters: as many as 200 partitions and more take, of events and of identities."""


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class After(NamedTuple):
    """Positions that an answer's features must include: partition -> offset, of events and of identities."""

    events: Mapping[str, int] = {}
    links: Mapping[str, int] = {}

    @classmethod
    def of(cls, positions: Iterable[Position]) -> After:
        """Of records that Kafka has."""
        events: dict[str, int] = {}
        links: dict[str, int] = {}
        for one in positions:
            found = links if isinstance(one, LinkPosition) else events
            found[str(one.partition)] = max(one.offset, found.get(str(one.partition), -1))
        return cls(events, links)

    @classmethod
    def read(cls, text: str | None) -> After:
        """What `text()` wrote; nothing of an empty text.

        Raises
            InvalidMessage: somebody else wrote it.
        """
        if not text:
            return cls()
        try:
            body: Any = orjson.loads(_bytes(text)) if len(text) <= MAX_TOKEN else None
            events, links = (body.get(name, {}) for name in "ei")
            if not all(type(offset) is int for told in (events, links) for offset in told.values()):
                raise ValueError
        except (ValueError, binascii.Error, AttributeError):
            raise InvalidMessage(
                "schema",
                "after: is no text of a gateway. Send what an answer to events held, or leave it out.",
            ) from None
        return cls(events, links)

    def merged(self, other: After) -> After:
        """The farther of both, of each partition."""

        def farther(a: Mapping[str, int], b: Mapping[str, int]) -> dict[str, int]:
            return {one: max(a.get(one, -1), b.get(one, -1)) for one in {**a, **b}}

        return After(farther(self.events, other.events), farther(self.links, other.links))

    def text(self) -> str:
        """For the client to keep; empty for nothing."""
        if not (self.events or self.links):
            return ""
        return _text(orjson.dumps({"e": self.events, "i": self.links}, option=orjson.OPT_SORT_KEYS))


class TokenAsked(BaseModel):
    """Whose browser is to have a token."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user_id: Id
    ttl_s: Annotated[int, Field(ge=1, le=86_400, strict=True, description="How long it holds.")] = 3600
    was: Annotated[tuple[Id, ...], Field(max_length=8)] = Field(
        default=(), description="Ids that this user had before, a guest's say: with these alone it may be linked."
    )


class Speaker(NamedTuple):
    """For whom a browser may track and ask, until when (epoch ms), and which ids may be linked with that one."""

    user_id: str
    expires_time: int
    was: tuple[str, ...] = ()


def signed(secret: bytes, speaker: Speaker) -> str:
    """A token for a browser.

    Source
        HMAC-SHA256: RFC 2104.
    """
    body = orjson.dumps({"u": speaker.user_id, "x": speaker.expires_time, "w": speaker.was})
    return f"hwt_{_text(body)}.{_text(hmac.digest(secret, body, hashlib.sha256))}"


def read_speaker(secret: bytes, token: str, now_ms: int) -> Speaker | None:
    """Whom a token speaks for; None where it is not ours, or its time is over."""
    body, _, signature = token.removeprefix("hwt_").partition(".")
    try:
        told = _bytes(body)
        if not hmac.compare_digest(_bytes(signature), hmac.digest(secret, told, hashlib.sha256)):
            return None
        found = orjson.loads(told)
        speaker = Speaker(str(found["u"]), int(found["x"]), tuple(map(str, found["w"])))
    except (ValueError, KeyError, TypeError, binascii.Error):
        return None
    return speaker if speaker.expires_time > now_ms else None
