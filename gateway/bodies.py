"""Bodies of requests, read within their limits: one JSON value, or lines of JSON as they come.

Before: bytes of anybody. After: decoded JSON, or an InvalidMessage; `TooLarge` for what is not read at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
from starlette.requests import Request as HttpRequest

from gateway.backend import Full
from headwater.errors import InvalidMessage
from headwater.wire import MAX_VALUE_BYTES, check_depth, not_json

__all__ = ["Bodies", "TooLarge", "TooSlow", "decoded", "is_stream", "line_pieces"]

LINES = ("application/x-ndjson", "application/jsonl", "application/x-jsonlines")


BODY_S = 60.0
"""Time that a body has to come in, from its first byte to its last."""
TOGETHER = 10
"""Bodies of the largest size that are read at once; as much memory as that."""


class TooLarge(Exception):
    """A body over its limit."""


class TooSlow(Exception):
    """A body that does not come in."""


def is_stream(request: HttpRequest) -> bool:
    """Whether the body says that it is lines of JSON."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() in LINES


def _check_plain(request: HttpRequest) -> None:
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        raise InvalidMessage("undecodable", f"the body: content-encoding {coding!r:.20} is not read: send it as it is")


class Bodies:
    """Reads bodies that are one JSON value, and holds no more of them than fits.

    Parameters
        limit: most bytes of one.
        within_s: that it may take to come in.
    """

    def __init__(self, limit: int, within_s: float = BODY_S) -> None:
        self._limit = limit
        self._within_s = within_s
        self._held = 0

    async def json(self, request: HttpRequest) -> Any:
        """The JSON of a body, whatever its Content-Type says: `sendBeacon` says text/plain.

        Raises
            InvalidMessage: `undecodable` or `too_deep`.
            TooLarge: it has too many bytes.
            TooSlow: it does not come in.
            Full: too many come in at once.
        """
        _check_plain(request)
        try:
            told = int(request.headers.get("content-length", 0))
        except ValueError:
            told = 0
        if told > self._limit:
            raise TooLarge(f"the body has {told:,} bytes (limit {self._limit:,}, gateway.max_body_bytes)")
        body = bytearray()
        try:
            async with asyncio.timeout(self._within_s):
                async for chunk in request.stream():
                    if len(body) + len(chunk) > self._limit:
                        raise TooLarge(f"the body has over {self._limit:,} bytes (gateway.max_body_bytes)")
                    if self._held + len(chunk) > TOGETHER * self._limit:
                        raise Full(f"{self._held:,} bytes of bodies are coming in: come again")
                    body += chunk
                    self._held += len(chunk)
        except TimeoutError:
            raise TooSlow(f"the body did not come in within {self._within_s:g} s") from None
        finally:
            self._held -= len(body)
        return decoded(bytes(body), "the body")


async def line_pieces(request: HttpRequest) -> AsyncIterator[list[tuple[str, bytes]]]:
    """The lines of a body with what errors call them, as many at a time as have come; empty ones are passed over.

    Raises
        InvalidMessage: a line is longer than a message may be.
    """
    _check_plain(request)
    number, rest = 0, bytearray()
    async for chunk in request.stream():
        if b"\n" in chunk:
            *lines, last = (bytes(rest) + chunk).split(b"\n")
            yield [(f"line {number + place}", line) for place, line in enumerate(lines, 1) if line.strip()]
            number, rest = number + len(lines), bytearray(last)
        else:
            rest += chunk
        if len(rest) > MAX_VALUE_BYTES:
            raise InvalidMessage("too_large", f"line {number + 1}: over {MAX_VALUE_BYTES:,} bytes")
    if rest.strip():
        yield [(f"line {number + 1}", bytes(rest))]


def decoded(value: bytes, at: str) -> Any:
    """JSON within its depth. Raises InvalidMessage."""
    try:
        body = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise not_json(error, at, "") from error
    if not isinstance(body, list):
        check_depth(value, at)
    return body
