"""Bodies of requests, read within their limits: one JSON value, or lines of JSON as they come; how many of their bytes
may be under way at once.

Before: bytes of anybody. After: decoded JSON, or an InvalidMessage; `TooLarge` for what is not read at all.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any

import orjson
from starlette.requests import Request as HttpRequest

from gateway.access import Caller, Denied
from gateway.backend import Full
from headwater.errors import InvalidMessage
from headwater.wire import MAX_PACKED_EVENTS, MAX_VALUE_BYTES, check_depth, not_json

__all__ = ["Bodies", "Hold", "Room", "TooLarge", "TooSlow", "decoded", "is_stream", "refuse_many"]

LINES = ("application/x-ndjson", "application/jsonl", "application/x-jsonlines")

BODY_S = 60.0
"""Time that a body, or a line, has to come in, from its first byte to its last."""
TOGETHER = 4
"""Bodies of the largest size that are under way at once, with lines that have not ended. What is made of a body until
Kafka has it takes eight times its bytes: 32 MB of 4 MB that hold 10,000 events."""
OF_BROWSERS = 2
"""So many of those are for tokens of browsers, and one for each: who sends slowly takes the room of nobody else."""
LEAST_BYTES = 5_000_000
"""There is room as for bodies of this size also where each has to be smaller."""
AGAIN_S = 2.0

Hold = Callable[[int], None]
"""Told of bytes that a call holds, and, less than none, of those that it has let go. Raises Full, Denied."""


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


class Room:
    """Bytes of bodies that are under way, from the first that comes in until their call is over.

    Parameters
        limit: most bytes of one body, of which several fit.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._of = Counter[str]()
        """Bytes of each browser, of those that are held."""

    @contextlib.contextmanager
    def of(self, caller: Caller) -> Iterator[Hold]:
        """That of one call; what it still holds in the end is let go."""
        own = 0

        def hold(many: int) -> None:
            nonlocal own
            self._take(many, caller)
            own += many

        try:
            yield hold
        finally:
            self._take(-own, caller)

    def _take(self, many: int, caller: Caller) -> None:
        if many > 0 and self._held + many > TOGETHER * self._limit:
            raise Full(f"{self._held:,} bytes of bodies are under way: come again")
        if caller.user_id is not None:
            if many > 0 and self._of[caller.name] + many > self._limit:
                raise Denied(429, "bodies", "bodies of this user are under way: send one after the other", AGAIN_S)
            if many > 0 and (of_all := self._of.total()) + many > OF_BROWSERS * self._limit:
                raise Full(f"{of_all:,} bytes of browsers' bodies are under way: come again")
            self._of[caller.name] += many
            if not self._of[caller.name]:
                del self._of[caller.name]
        self._held += many


class Bodies:
    """Reads bodies, and holds no more of them than fits.

    Parameters
        limit: most bytes of one that is one JSON value.
        within_s: that it, or a line, may take to come in.
        room: what they all share, whoever reads them.
    """

    def __init__(self, limit: int, within_s: float = BODY_S, room: Room | None = None) -> None:
        self._limit = limit
        self._within_s = within_s
        self.room = room or Room(max(limit, LEAST_BYTES))

    @contextlib.asynccontextmanager
    async def json(self, request: HttpRequest, caller: Caller) -> AsyncIterator[Any]:
        """The JSON of a body, whatever its Content-Type says: `sendBeacon` says text/plain. Its bytes are under way
        until it is left.

        Raises
            InvalidMessage: `undecodable` or `too_deep`.
            TooLarge: it has too many bytes.
            TooSlow: it does not come in.
            Full, Denied: too many are under way at once.
        """
        _check_plain(request)
        try:
            told = int(request.headers.get("content-length", 0))
        except ValueError:
            told = 0
        if told > self._limit:
            raise TooLarge(f"the body has {told:,} bytes (limit {self._limit:,}, gateway.max_body_bytes)")
        with self.room.of(caller) as hold:
            yield decoded(await self._whole(request, hold), "the body")

    async def _whole(self, request: HttpRequest, hold: Hold) -> bytes:
        body = bytearray()
        try:
            async with asyncio.timeout(self._within_s):
                async for chunk in request.stream():
                    if len(body) + len(chunk) > self._limit:
                        raise TooLarge(f"the body has over {self._limit:,} bytes (gateway.max_body_bytes)")
                    hold(len(chunk))
                    body += chunk
        except TimeoutError:
            raise TooSlow(f"the body did not come in within {self._within_s:g} s") from None
        return bytes(body)

    async def lines(self, request: HttpRequest, caller: Caller) -> AsyncGenerator[list[tuple[str, bytes]], None]:
        """The lines of a body with what errors call them, as many at a time as have come; empty ones are passed over.

        Raises
            InvalidMessage: a line is longer than a message may be.
            TooSlow: one does not end.
            Full, Denied: too much comes in at once.
        """
        _check_plain(request)
        number, rest, chunks = 0, bytearray(), request.stream()
        late: float | None = None
        with self.room.of(caller) as hold:
            while chunk := await self._next(chunks, late, f"line {number + 1}"):
                *lines, last = chunk.split(b"\n")
                if lines:
                    lines[0] = bytes(rest) + lines[0]
                    hold(-len(rest))
                    rest.clear()
                    yield [(f"line {number + place}", line) for place, line in enumerate(lines, 1) if line.strip()]
                    number, late = number + len(lines), None
                hold(len(last))
                rest += last
                if len(rest) > MAX_VALUE_BYTES:
                    raise InvalidMessage("too_large", f"line {number + 1}: over {MAX_VALUE_BYTES:,} bytes")
                if rest and late is None:
                    late = asyncio.get_running_loop().time() + self._within_s
            if rest.strip():
                yield [(f"line {number + 1}", bytes(rest))]

    async def _next(self, chunks: AsyncGenerator[bytes, None], late: float | None, at: str) -> bytes:
        try:
            async with asyncio.timeout_at(late):
                return await anext(chunks)
        except TimeoutError:
            raise TooSlow(f"{at}: it did not end within {self._within_s:g} s: send a line as a whole") from None


def refuse_many(many: int, what: str) -> None:
    """One call holds no more than a packed record may. Raises InvalidMessage."""
    if many > MAX_PACKED_EVENTS:
        raise InvalidMessage(
            "too_large",
            f"{what}: {many:,} in one call (limit {MAX_PACKED_EVENTS:,}): make several calls, or send events as lines "
            "(application/x-ndjson; of gRPC StreamEvents)",
        )


def decoded(value: bytes, at: str) -> Any:
    """JSON within its depth. Raises InvalidMessage."""
    try:
        body = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise not_json(error, at, "") from error
    if not isinstance(body, list):
        check_depth(value, at)
    return body
