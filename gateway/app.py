"""The ASGI app: who asks, whether they may, how it ended. The rest is `gateway.doors`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from gateway.access import Caller
from gateway.api_keys import RECOMMEND
from gateway.callers import Callers
from gateway.doors import AFTER_HEADER, Doors, answer
from gateway.metrics import GONE, GatewayMetrics
from gateway.operations import OPERATIONS, Operation
from gateway.page.views import PAGE_OPERATIONS, Views
from gateway.refusals import told
from gateway.sockets import Sockets
from headwater import tracing
from headwater.errors import InvalidMessage
from headwater.settings import GatewaySettings
from headwater.spelling import did_you_mean

__all__ = ["make_app"]

NOBODY = Caller("", frozenset())
SWITCHED = 101
STREAM = next(one for one in OPERATIONS if one.name == "stream")
OF_NO_OPERATION = ("key", "_")
"""Parameters that every path takes: a key, and what keeps caches away."""


def make_app(
    doors: Doors,
    sockets: Sockets,
    callers: Callers,
    metrics: GatewayMetrics,
    settings: GatewaySettings,
    views: Views | None = None,
) -> Starlette:
    """All routes of the table, and those of the page. Errors of whatever kind are answers; none ends the process."""
    routes: list[BaseRoute] = []
    for one in OPERATIONS:
        call = _endpoint(one, getattr(doors, one.name), callers, metrics)
        routes += [Route(path, call, methods=[one.method]) for path in (one.path, *one.also)]
    routes.append(WebSocketRoute(STREAM.path, _socket_endpoint(sockets, callers, metrics)))
    for one in PAGE_OPERATIONS if views is not None else ():
        assert views is not None
        call = _endpoint(one, views.call(one), callers, metrics, "page_")
        routes.append(Route(one.path, call, methods=[one.method]))
    middleware = [Middleware(_QuotedPath)]
    if settings.cors_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(settings.cors_origins),
                allow_methods=["GET", "POST", "PUT", "DELETE"],
                allow_headers=["authorization", "content-type", "x-api-key", AFTER_HEADER, *tracing.TRACE_HEADERS],
                expose_headers=[AFTER_HEADER, "retry-after"],
            )
        )
    return Starlette(routes=routes, middleware=middleware, exception_handlers={HTTPException: _not_here})


Call = Callable[[HttpRequest, Caller], Awaitable[Response]]


def _endpoint(one: Operation, call: Call, callers: Callers, metrics: GatewayMetrics, before: str = "") -> Any:
    named = before + one.name

    async def endpoint(request: HttpRequest) -> Response:
        began_s = time.perf_counter()
        try:
            caller = NOBODY if one.scope is None else await callers.of(request)
            if one.scope is not None:
                caller.may(one.scope)
            request.scope["path_params"] = _unquoted(request.path_params)
            if not before:  # a link to the page may have been given one on its way
                _check_query(one, request)
            found = await call(request, caller)
        except ClientDisconnect:  # nobody reads the answer, and it is no fault of ours: it is counted
            found = Response(status_code=GONE)
        except Exception as error:  # noqa: BLE001 - whatever went wrong is an answer, and counted
            found = refusal(error)
        metrics.answered.labels(named, found.status_code).inc()
        metrics.seconds.labels(named).observe(time.perf_counter() - began_s)
        return found

    return tracing.served(f"{one.method} {one.path}", endpoint)


def _socket_endpoint(sockets: Sockets, callers: Callers, metrics: GatewayMetrics) -> Any:
    """As the stream of server-sent events: who asks, what for, and what is wrong with it before there is a stream."""
    named = "stream_socket"

    async def endpoint(socket: WebSocket) -> None:
        began_s = time.perf_counter()
        with contextlib.ExitStack() as opened:
            try:
                caller = await callers.of(socket)
                caller.may(RECOMMEND)
                _check_query(STREAM, socket)
                opened.enter_context(sockets.one(caller))
                first = await sockets.begun(socket, caller)
            except Exception as error:  # noqa: BLE001 - whatever went wrong is an answer, and counted
                found = refusal(error)
                metrics.answered.labels(named, found.status_code).inc()
                await socket.send_denial_response(found)
                return
            metrics.answered.labels(named, SWITCHED).inc()
            metrics.seconds.labels(named).observe(time.perf_counter() - began_s)
            with contextlib.suppress(WebSocketDisconnect):
                await sockets.stream(socket, caller, first)

    return endpoint


class _QuotedPath:
    """Paths are matched as they were sent: an id may hold a slash."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, "path": scope["raw_path"].decode("latin-1")}, receive, send)


def _unquoted(given: dict[str, str]) -> dict[str, str]:
    try:
        return {name: unquote(one, errors="strict") for name, one in given.items()}
    except UnicodeDecodeError:
        raise InvalidMessage("undecodable", "the path: is no UTF-8 within its %") from None


def _check_query(one: Operation, request: HTTPConnection) -> None:
    """Who asks by a parameter that is not known would get another list than was meant."""
    known = [name for name, _, _ in one.query]
    for name in request.query_params if one.method == "GET" else ():
        if name not in (*known, *OF_NO_OPERATION):
            said = f"{', '.join(known)}.{did_you_mean(name, known)}" if known else "this path takes none"
            raise InvalidMessage("schema", f"{name!r:.40} is no parameter: {said}")


def refusal(error: Exception) -> Response:
    """The answer that an error becomes."""
    said = told(error)
    found = answer({"error": said.body}, said.status)
    if said.retry_after_s is not None:
        found.headers["retry-after"] = str(said.retry_after_s)
    if said.status == 401:
        found.headers["www-authenticate"] = "Bearer"
    return found


async def _not_here(_: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = "no such path: /openapi.json tells which there are" if error.status_code == 404 else str(error.detail)
    body = {"error": {"code": str(error.detail).lower().replace(" ", "_"), "message": text}}
    return Response(orjson.dumps(body), error.status_code, error.headers, "application/json")
