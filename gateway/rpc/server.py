"""The server of gRPC: who asks, whether they may, how it ended; health and reflection.

Before: `gateway.worker`. After: `gateway.rpc.answers`. All methods are served as streams of bytes, which they are on
the wire, so nothing of a message is read before it is known who sends it.

Source
    gRPC proposal A6 (`grpc-retry-pushback-ms`).
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote
from weakref import WeakValueDictionary

import grpc
from grpc_reflection.v1alpha import reflection

from gateway.access import Keys, credentials_of
from gateway.bodies import Room, TooSlow
from gateway.callers import Callers
from gateway.metrics import GONE, GatewayMetrics
from gateway.refusals import ToldError, told
from gateway.rpc.answers import Answers, RpcAsked
from gateway.rpc.health import HEALTH, Health
from gateway.rpc.messages import service
from gateway.rpc.methods import METHODS, SERVICE, Method
from headwater import tracing
from headwater.errors import SettingsError
from headwater.process import Operations, in_url
from headwater.settings import GatewaySettings

__all__ = ["RpcServer"]

CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.CANCELLED,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""Of HTTP's statuses."""
MESSAGE_S = 60.0
"""Time that the message of a call that has one has to come in."""
TOGETHER = 10
"""Such messages of one caller that come in at once: more wait, so that no more of the largest are held."""
OPTIONS = {
    "grpc.so_reuseport": 0,  # else a second gateway would share the port, silently
    "grpc.keepalive_time_ms": 30_000,  # who acknowledges nothing is gone
    "grpc.keepalive_timeout_ms": 10_000,
    "grpc.http2.min_ping_interval_without_data_ms": 10_000,  # clients may ask so often whether we are there,
    "grpc.keepalive_permit_without_calls": 1,  # and between two calls, where it is every two hours else
    "grpc.max_connection_age_ms": 600_000,  # clients come again, and find new gateways
    "grpc.max_metadata_size": 16_384,
}


class _Call:
    """One call as gRPC gives it.

    Fields
        turns: whose turn it is to have its message read; None: of a stream, whose messages have no end.
    """

    turns: asyncio.Semaphore | None = None

    def __init__(self, context: Any) -> None:
        self._context = context
        self.metadata = {name: value for name, value in context.invocation_metadata() or () if isinstance(value, str)}
        self.address = _address(context.peer())
        self.credentials = credentials_of(self.metadata, {})

    @property
    def causes(self) -> tracing.Causes:
        """The span of the caller, which it may have told of."""
        found = tracing.Causes()
        found.add([(one, self.metadata.get(one, "").encode()) for one in tracing.TRACE_HEADERS])
        return found

    @property
    def deadline_ms(self) -> int | None:
        left_s = self._context.time_remaining()
        return None if left_s is None else max(1, round(left_s * 1000))

    async def next(self) -> bytes | None:
        if self.turns is None:
            return await self._read()
        async with self.turns:
            try:
                async with asyncio.timeout(MESSAGE_S):
                    return await self._read()
            except TimeoutError:
                raise TooSlow(f"the message did not come in within {MESSAGE_S:g} s") from None

    async def _read(self) -> bytes | None:
        found = await self._context.read()
        return None if found is grpc.aio.EOF else found

    async def send(self, value: bytes) -> None:
        await self._context.write(value)

    def refuse(self, said: ToldError) -> None:
        more = [("headwater-code", said.code)]
        if said.retry_after_s is not None:
            more += [
                ("retry-after", str(said.retry_after_s)),
                ("grpc-retry-pushback-ms", str(said.retry_after_s * 1000)),
            ]
        if said.accepted is not None:
            more.append(("headwater-accepted", str(said.accepted)))
        self._context.set_trailing_metadata(tuple(more))
        self._context.set_code(CODES[said.status])
        self._context.set_details(said.message)


class RpcServer:
    """One of each process that speaks gRPC. Made and used in its event loop.

    Parameters
        room: of the bodies of calls, whatever door they come by.

    Raises
        SettingsError: the port is not free.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        answers: Answers,
        callers: Callers,
        keys: Keys,
        metrics: GatewayMetrics,
        operations: Operations,
        room: Room,
    ) -> None:
        self._room = room
        self._answers = answers
        self._callers = callers
        self._keys = keys
        self._metrics = metrics
        self._operations = operations
        self._turns = WeakValueDictionary[str, asyncio.Semaphore]()
        """Caller -> those of its calls."""
        self._health = Health(operations)
        options = {**OPTIONS, "grpc.max_receive_message_length": settings.max_body_bytes}
        self._server = grpc.aio.server(options=tuple(options.items()))
        self._server.add_generic_rpc_handlers(
            (_handlers(SERVICE, {one.name: self._endpoint(one) for one in METHODS}), self._health.handlers())
        )
        reflection.enable_server_reflection((SERVICE, HEALTH, reflection.SERVICE_NAME), self._server)
        self.port = self._bound(settings)

    def _bound(self, settings: GatewaySettings) -> int:
        at = in_url(settings.host)
        try:
            return int(self._server.add_insecure_port(f"{at}:{settings.grpc_port}"))
        except RuntimeError as error:
            raise SettingsError(
                f"cannot listen for gRPC on {at}:{settings.grpc_port} ({error}). Set HEADWATER_GATEWAY__GRPC_PORT to a "
                "port that is free (0 takes any), HEADWATER_GATEWAY__HOST to an address of this machine."
            ) from None

    async def start(self) -> None:
        """Answer."""
        await self._server.start()
        self._following = asyncio.create_task(self._health.follow())

    async def stop(self, within_s: float) -> None:
        """No new calls; those that are under way end within their time, or are ended."""
        self._following.cancel()
        self._health.look()
        await self._server.stop(within_s)

    def _endpoint(self, one: Method) -> Callable[[Any, Any], Awaitable[None]]:
        described = service().methods_by_name[one.name]
        answer = getattr(self._answers, re.sub("(?<!^)(?=[A-Z])", "_", one.name).lower())
        named, scope = f"grpc {one.name}", one.operation.scope
        assert scope is not None

        async def endpoint(_: Any, context: Any) -> None:
            began_s, status = time.perf_counter(), GONE
            call = _Call(context)
            try:
                caller = await self._callers.asking(call.credentials, call.metadata, call.address)
                caller.may(scope)
                if not described.client_streaming:
                    call.turns = self._turns.setdefault(caller.name, asyncio.Semaphore(TOGETHER))
                still = lambda: self._keys.holds(call.credentials, call.address)  # noqa: E731
                with tracing.joined(named, call.causes, "server"), self._room.of(caller) as hold:
                    await answer(RpcAsked(described, call, caller, call.deadline_ms, still, hold))
                status = 200
            except Exception as error:  # noqa: BLE001 - whatever went wrong is an answer, and counted
                said = told(error)
                status = said.status
                call.refuse(said)
            finally:
                self._metrics.answered.labels(named, status).inc()
                self._metrics.seconds.labels(named).observe(time.perf_counter() - began_s)

        return endpoint


def _handlers(name: str, endpoints: dict[str, Callable[[Any, Any], Awaitable[None]]]) -> Any:
    made = {one: grpc.stream_stream_rpc_method_handler(endpoint) for one, endpoint in endpoints.items()}
    return grpc.method_handlers_generic_handler(name, made)


def _address(peer: str) -> str:
    """Of `ipv4:127.0.0.1:50051` or `ipv6:%5B::1%5D:50051`."""
    kind, _, at = unquote(peer).partition(":")
    return at.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else peer
