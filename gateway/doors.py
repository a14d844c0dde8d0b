"""What each operation is over HTTP: from a request to a call, and back to an answer.

Before: `gateway.app`, which has found out who asks. After: `gateway.calls`. Errors are raised as they are, and become
statuses in one place (`gateway.refusals`).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import HTTPConnection
from starlette.requests import Request as HttpRequest
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from gateway.access import Caller, Denied, Keys
from gateway.bodies import Bodies, is_stream
from gateway.calls import EVERY_MS, Calls, Lists, TakenIn
from gateway.openapi import document
from gateway.refusals import ToldError, told
from gateway.tokens import After
from gateway.tracking import kind_of, read_batch, read_call
from headwater.errors import InvalidMessage
from headwater.process import Operations
from headwater.wire import encode

__all__ = ["AFTER_COOKIE", "AFTER_HEADER", "Doors", "after_brought", "answer", "asked_by_url", "every_ms_of"]

AFTER_HEADER = "headwater-after"
AFTER_COOKIE = "headwater_after"
MOST_REASONS = 5
ASKED = ("k", "surface", "context_item", "after")


def answer(body: Any, status: int = 200) -> Response:
    """A body as JSON."""
    return Response(orjson.dumps(body), status, media_type="application/json")


class Doors:
    """One method for each operation of the table."""

    def __init__(self, calls: Calls, keys: Keys, bodies: Bodies, operations: Operations) -> None:
        self._calls = calls
        self._keys = keys
        self._bodies = bodies
        self._operations = operations

    @contextlib.asynccontextmanager
    async def _json(self, request: HttpRequest, caller: Caller) -> AsyncIterator[Any]:
        """The body of a call, as `Bodies.json`."""
        async with contextlib.AsyncExitStack() as held:
            with self._calls.reading(caller):
                body = await held.enter_async_context(self._bodies.json(request, caller))
            yield body

    async def events(self, request: HttpRequest, caller: Caller) -> Response:
        """POST /v1/events"""
        waits = request.query_params.get("wait", "acked")
        if waits not in ("acked", "no"):
            raise InvalidMessage("schema", f"wait: {waits!r:.20} is neither acked nor no")
        if is_stream(request):
            async with contextlib.aclosing(self._bodies.lines(request, caller)) as pieces:
                return _accepted(request, await self._calls.lines(caller, pieces, lambda: self._keys.still(request)))
        async with self._json(request, caller) as body:
            return _accepted(request, await self._calls.events(caller, _listed(body), wait=waits == "acked"))

    async def track(self, request: HttpRequest, caller: Caller) -> Response:
        """POST /v1/track"""
        return await self._said(request, caller, "track")

    async def other_call(self, request: HttpRequest, caller: Caller) -> Response:
        """POST /v1/alias, and what else a tracker calls"""
        return await self._said(request, caller, kind_of(request.scope["path"]))

    async def _said(self, request: HttpRequest, caller: Caller, kind: str) -> Response:
        """One call of a tracker."""
        async with self._json(request, caller) as body:
            return await self._tracked(request, caller, body, kind)

    async def _tracked(self, request: HttpRequest, caller: Caller, body: Any, kind: str) -> Response:
        with self._calls.reading(caller):
            said = read_call(body, kind)
        return _accepted(request, await self._calls.tracked(caller, [said]))

    async def batch(self, request: HttpRequest, caller: Caller) -> Response:
        """POST /v1/batch"""
        async with self._json(request, caller) as body:
            with self._calls.reading(caller):
                read = read_batch(body)
            return _accepted(request, await self._calls.tracked(caller, read))

    async def identify(self, request: HttpRequest, caller: Caller) -> Response:
        """POST /v1/identify"""
        async with self._json(request, caller) as body:
            if isinstance(body, dict) and ("userId" in body or "anonymousId" in body):
                return await self._tracked(request, caller, body, "identify")
            return _accepted(request, await self._calls.identify(caller, body))

    async def recommend(self, request: HttpRequest, caller: Caller) -> Response:
        """POST /v1/recommendations"""
        async with self._json(request, caller) as body:
            return await self._asked(request, caller, body)

    async def recommend_by_url(self, request: HttpRequest, caller: Caller) -> Response:
        """GET /v1/users/{user_id}/recommendations"""
        asked = {**asked_by_url(request), "user_id": request.path_params["user_id"]}
        return await self._asked(request, caller, asked)

    async def similar(self, request: HttpRequest, caller: Caller) -> Response:
        """GET /v1/items/{item_id}/similar"""
        asked = {**asked_by_url(request), "context_item": request.path_params["item_id"]}
        return await self._asked(request, caller, asked)

    async def _asked(self, request: HttpRequest, caller: Caller, asked: Any) -> Response:
        found = await self._calls.recommend(caller, asked, after_brought(request))
        return Response(encode(found), media_type="application/json")

    async def stream(self, request: HttpRequest, caller: Caller) -> Response:
        """GET /v1/recommendations/stream"""
        return await self._streamed(request, caller, asked_by_url(request), every_ms_of(request))

    async def stream_asked(self, request: HttpRequest, caller: Caller) -> Response:
        """POST /v1/recommendations/stream"""
        async with self._json(request, caller) as body:
            return await self._streamed(request, caller, body, EVERY_MS)

    async def _streamed(self, request: HttpRequest, caller: Caller, asked: Any, every_ms: int) -> Response:
        still = lambda: self._keys.still(request)  # noqa: E731
        lists = await self._calls.watch(caller, asked, after_brought(request), still, every_ms)
        return StreamingResponse(
            _sent(lists),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    async def receipt(self, request: HttpRequest, caller: Caller) -> Response:
        """GET /v1/receipts/{request_id}"""
        found = self._calls.receipt(caller, request.path_params["request_id"])
        return Response(found, media_type="application/json")

    async def put_items(self, request: HttpRequest, caller: Caller) -> Response:
        """PUT /v1/items"""
        async with self._json(request, caller) as body:
            return _accepted(request, await self._calls.put_items(caller, _listed(body)))

    async def put_users(self, request: HttpRequest, caller: Caller) -> Response:
        """PUT /v1/users"""
        async with self._json(request, caller) as body:
            return _accepted(request, await self._calls.put_users(caller, _listed(body)))

    async def remove_item(self, request: HttpRequest, caller: Caller) -> Response:
        """DELETE /v1/items/{item_id}"""
        return _accepted(request, await self._calls.remove_item(caller, request.path_params["item_id"]))

    async def set_consent(self, request: HttpRequest, caller: Caller) -> Response:
        """PUT /v1/users/{user_id}/consent"""
        user_id = request.path_params["user_id"]
        self._calls.check_consent(caller, user_id)
        async with self._json(request, caller) as body:
            return _accepted(request, await self._calls.set_consent(user_id, body))

    async def forget_user(self, request: HttpRequest, caller: Caller) -> Response:
        """DELETE /v1/users/{user_id}"""
        return _accepted(request, await self._calls.forget_user(caller, request.path_params["user_id"]))

    async def token(self, request: HttpRequest, caller: Caller) -> Response:
        """POST /v1/tokens"""
        async with self._json(request, caller) as body:
            return answer(self._calls.token(caller, body))

    async def healthz(self, request: HttpRequest, caller: Caller) -> Response:  # noqa: ARG002
        """GET /healthz"""
        return PlainTextResponse("alive\n")

    async def readyz(self, request: HttpRequest, caller: Caller) -> Response:  # noqa: ARG002
        """GET /readyz"""
        status = 200 if self._operations.stalled() is None else 503
        return PlainTextResponse(f"{self._operations.readiness()}\n", status)

    async def metrics(self, request: HttpRequest, caller: Caller) -> Response:  # noqa: ARG002
        """GET /metrics"""
        return Response(generate_latest(self._operations.registry), media_type=CONTENT_TYPE_LATEST)

    async def openapi(self, request: HttpRequest, caller: Caller) -> Response:  # noqa: ARG002
        """GET /openapi.json"""
        return answer(document())


def _listed(body: Any) -> list[Any]:
    return body if isinstance(body, list) else [body]


def _whole(request: HTTPConnection, name: str) -> int | None:
    given = request.query_params.get(name)
    if given is None:
        return None
    if not given.isascii() or not given.isdigit() or len(given) > 9:
        raise InvalidMessage("schema", f"{name}: {given!r:.20} is no whole number")
    return int(given)


def every_ms_of(request: HTTPConnection) -> int:
    """How often to look, as the query says. Raises InvalidMessage."""
    told_ms = _whole(request, "every_ms")
    return EVERY_MS if told_ms is None else told_ms


def asked_by_url(request: HTTPConnection) -> dict[str, Any]:
    """Fields of a Request that a query gives. Raises InvalidMessage."""
    names = (*ASKED, "user_id")
    found: dict[str, Any] = {name: request.query_params[name] for name in names if name in request.query_params}
    if "k" in found:
        found["k"] = _whole(request, "k")
    return found


def after_brought(request: HTTPConnection) -> After:
    """How far the client's own events have come, as it kept it in a header or a cookie. Raises InvalidMessage."""
    return After.read(request.headers.get(AFTER_HEADER) or request.cookies.get(AFTER_COOKIE))


def _accepted(request: HttpRequest, taken: TakenIn) -> Response:
    text = taken.after.text()
    body: dict[str, Any] = {"accepted": taken.accepted}
    if taken.ignored:
        body |= {"ignored": len(taken.ignored), "why": sorted(set(taken.ignored))[:MOST_REASONS]}
    found = answer({**body, "after": text} if text else body, 202)
    if text:
        with contextlib.suppress(InvalidMessage):  # what the client kept is of another gateway
            text = taken.after.merged(after_brought(request)).text()
        found.headers[AFTER_HEADER] = text
    return found


async def _sent(lists: Lists) -> AsyncIterator[bytes]:
    """As server-sent events."""
    try:
        async with contextlib.aclosing(lists):
            async for one in lists:
                if one is None:
                    yield b": same\n\n"
                elif isinstance(one, ToldError):
                    yield _event("problem", orjson.dumps(one.body))
                else:
                    yield _event("list", encode(one))
    except Denied as error:
        yield _event("problem", orjson.dumps(told(error).body))


def _event(kind: str, data: bytes) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"
