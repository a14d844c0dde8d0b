"""Bodies of requests, read within their limits: one JSON value, or lines of JSON as they come.

Before: bytes of anybody. After: decoded JSON, or an InvalidMessage; `TooLarge` for what is not read at all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
from starlette.requests import Request as HttpRequest

from headwater.errors import InvalidMessage
from headwater.wire import MAX_VALUE_BYTES, check_depth, not_json

__all__ = ["TooLarge", "decoded", "is_stream", "json_body", "line_pieces"]

LINES = ("application/x-ndjson", "application/jsonl", "application/x-jsonlines")


class TooLarge(Exception):
    """A body over its limit."""


def is_stream(request: HttpRequest) -> bool:
    """Whether the body says that it is lines of JSON."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() in LINES


async def json_body(request: HttpRequest, limit: int) -> Any:
    """The JSON of a body, whatever its Content-Type says: `sendBeacon` says text/plain.

    Raises
        InvalidMessage: `undecodable` or `too_deep`.
        TooLarge: it has over `limit` bytes.
    """
    try:
        told = int(request.headers.get("content-length", 0))
    except ValueError:
        told = 0
    if told > limit:
        raise TooLarge(f"the body has {told:,} bytes (limit {limit:,}, gateway.max_body_bytes)")
    parts: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"the body has over {limit:,} bytes (gateway.max_body_bytes)")
        parts.append(chunk)
    return decoded(b"".join(parts), "the body")


async def line_pieces(request: HttpRequest) -> AsyncIterator[list[tuple[int, bytes]]]:
    """The lines of a body with their numbers, from 1, as many at a time as have come; empty ones are passed over.

    Raises
        InvalidMessage: a line is longer than a message may be.
    """
    number, rest = 0, b""
    async for chunk in request.stream():
        *lines, rest = (rest + chunk).split(b"\n")
        yield [(number + place, line) for place, line in enumerate(lines, 1) if line.strip()]
        number += len(lines)
        if len(rest) > MAX_VALUE_BYTES:
            raise InvalidMessage("too_large", f"line {number + 1}: over {MAX_VALUE_BYTES:,} bytes")
    if rest.strip():
        yield [(number + 1, rest)]


def decoded(value: bytes, at: str) -> Any:
    """JSON within its depth. Raises InvalidMessage."""
    try:
        body = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise not_json(error, at, "") from error
    if not isinstance(body, list):
        check_depth(value, at)
    return body
