"""The ASGI app: who asks, whether they may, how it ended. The rest is `gateway.doors`."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import unquote

import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.access import Caller, Denied, Keys, RateLimits, credentials_of, refuse_foreign_page
from gateway.backend import Full
from gateway.bodies import TooLarge, TooSlow
from gateway.doors import AFTER_HEADER, Doors, RefusedLine, answer
from gateway.operations import OPERATIONS, Operation
from gateway.page.views import PAGE_OPERATIONS, Views
from gateway.refusals import words
from headwater.errors import (
    DeadlineExceeded,
    HeadwaterError,
    InvalidMessage,
    RequestRefused,
    Unavailable,
)
from headwater.settings import GatewaySettings
from headwater.spelling import did_you_mean

__all__ = ["GatewayMetrics", "make_app"]

log = logging.getLogger("headwater")

NOBODY = Caller("", frozenset())
BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
RETRY_S = 1
GONE = 499
"""Status of requests whose sender left before their end; nginx's."""
OF_NO_OPERATION = ("key", "_")
"""Parameters that every path takes: a key, and what keeps caches away."""
TRIES = (5.0, 50.0)
"""Keys that an address may have checked for the first time: a second, and at once. Each costs 20 ms."""


class GatewayMetrics:
    """Into the worker's registry."""

    def __init__(self, registry: CollectorRegistry, waiting: Callable[[], float], lost: Callable[[], float]) -> None:
        self.answered = Counter(
            "headwater_gateway_requests",
            "Requests, by operation and status.",
            ["operation", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "headwater_gateway_seconds", "From a request to its answer.", ["operation"], buckets=BUCKETS_S,
            registry=registry,
        )  # fmt: skip
        Gauge("headwater_gateway_waiting", "Requests under way.", registry=registry).set_function(waiting)
        Gauge(
            "headwater_gateway_lost_records",
            "Records of calls with wait=no that Kafka did not take.",
            registry=registry,
        ).set_function(lost)


def make_app(
    doors: Doors, keys: Keys, metrics: GatewayMetrics, settings: GatewaySettings, views: Views | None = None
) -> Starlette:
    """All routes of the table, and those of the page. Errors of whatever kind are answers; none ends the process."""
    callers = _Callers(keys, settings.cors_origins)
    routes = [
        Route(one.path, _endpoint(one, getattr(doors, one.name), callers, metrics), methods=[one.method])
        for one in OPERATIONS
    ]
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
                allow_headers=["authorization", "content-type", "x-api-key", AFTER_HEADER],
                expose_headers=[AFTER_HEADER],
            )
        )
    return Starlette(routes=routes, middleware=middleware, exception_handlers={HTTPException: _not_here})


Call = Callable[[HttpRequest, Caller], Awaitable[Response]]


class _Callers:
    """Finds out who asks."""

    def __init__(self, keys: Keys, origins: Sequence[str]) -> None:
        self._keys = keys
        self._origins = origins
        self._tries = RateLimits(*TRIES)

    async def caller(self, request: HttpRequest) -> Caller:
        """Raises Denied."""
        credentials = credentials_of(request.headers, request.query_params)
        address = request.client.host if request.client else ""
        known = self._keys.known(credentials, address)
        if credentials is None:
            refuse_foreign_page(request.headers, self._origins)
        if known is None:
            assert credentials is not None
            self._tries.take(Caller(address, frozenset()))
            known = await run_in_threadpool(self._keys.caller, credentials)
        return known


def _endpoint(one: Operation, call: Call, callers: _Callers, metrics: GatewayMetrics, before: str = "") -> Any:
    named = before + one.name

    async def endpoint(request: HttpRequest) -> Response:
        began_s = time.perf_counter()
        try:
            caller = NOBODY if one.scope is None else await callers.caller(request)
            if one.scope is not None:
                caller.may(one.scope)
            request.scope["path_params"] = _unquoted(request.path_params)
            _check_query(one, request)
            found = await call(request, caller)
        except ClientDisconnect:  # nobody reads the answer, and it is no fault of ours: it is counted
            found = Response(status_code=GONE)
        except Exception as error:  # noqa: BLE001 - whatever went wrong is an answer, and counted
            found = refusal(error)
        metrics.answered.labels(named, found.status_code).inc()
        metrics.seconds.labels(named).observe(time.perf_counter() - began_s)
        return found

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


def _check_query(one: Operation, request: HttpRequest) -> None:
    """Who asks by a parameter that is not known would get another list than was meant."""
    known = [name for name, _, _ in one.query]
    for name in request.query_params if one.method == "GET" and known else ():
        if name not in (*known, *OF_NO_OPERATION):
            raise InvalidMessage(
                "schema", f"{name!r:.40} is no parameter: {', '.join(known)}.{did_you_mean(name, known)}"
            )


def refusal(error: Exception, accepted: int | None = None) -> Response:
    """The answer that an error becomes. `accepted`: events that were taken before it."""
    if isinstance(error, RefusedLine):
        return refusal(error.error, error.accepted)
    headers: dict[str, str] = {}
    if isinstance(error, Denied):
        status, code = error.status, error.code
        if error.retry_after_s is not None:
            headers["retry-after"] = str(max(1, round(error.retry_after_s)))
        if status == 401:
            headers["www-authenticate"] = "Bearer"
    elif isinstance(error, TooLarge):
        status, code = 413, "too_large"
    elif isinstance(error, TooSlow):
        status, code = 408, "too_slow"
    elif isinstance(error, InvalidMessage):
        status, code = 400, error.reason
    elif isinstance(error, RequestRefused):
        status, code = 422, error.code
    elif isinstance(error, DeadlineExceeded):
        status, code = 504, "deadline"
    elif isinstance(error, Unavailable | Full):
        status, code = 503, "full" if isinstance(error, Full) else "unavailable"
        headers["retry-after"] = str(RETRY_S)
    elif isinstance(error, HeadwaterError):
        status, code = 503, "unavailable"
    else:
        log.error("a request failed", exc_info=error)
        status, code = 500, "fault"
    text = words(error) if status != 500 else "a fault of the gateway: its log tells more"
    told: dict[str, Any] = {"code": code, "message": text}
    if accepted is not None:
        told["accepted"] = accepted
    found = answer({"error": told}, status)
    found.headers.update(headers)
    return found


async def _not_here(_: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = "no such path: /openapi.json tells which there are" if error.status_code == 404 else str(error.detail)
    body = {"error": {"code": str(error.detail).lower().replace(" ", "_"), "message": text}}
    return Response(orjson.dumps(body), error.status_code, error.headers, "application/json")
