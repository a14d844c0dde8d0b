"""Connections that nobody sends a request by: what holds the door open, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import grpc
import pytest
import uvicorn
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway import connections
from gateway.rpc import health
from gateway.rpc.server import OPTIONS
from headwater.process import Operations
from headwater.settings import Settings


async def refuses(_scope: Any, _receive: Any, send: Any) -> None:
    """As the gateway does with who has no key: nothing of the body is read."""
    await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"no"})


class Served(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


def connected(
    does: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]], kept_s: int = 1
) -> None:
    """What is done with one connection to a server that refuses all."""

    async def run() -> None:
        config = uvicorn.Config(
            refuses, http=connections.HttpConnection, lifespan="off", log_config=None, timeout_keep_alive=kept_s
        )
        server = Served(config)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            serving = asyncio.create_task(server.serve([listening]))
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            await does(reader, writer)
            writer.close()
            server.should_exit = True
            await serving

    asyncio.run(run())


HEAD = b"POST /v1/events HTTP/1.1\r\nhost: here\r\ncontent-length: %d\r\n\r\n"


@pytest.mark.parametrize(("length", "more"), [(1_000_000, b"{"), (0, b"\r\n"), (1_000_000, b"{" * 200_000)])
def test_who_is_refused_and_sends_on_is_gone_after_a_while(
    monkeypatch: pytest.MonkeyPatch, length: int, more: bytes
) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.2)

    async def sends_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD % length)
        assert (await reader.readuntil(b"\r\n\r\nno")).startswith(b"HTTP/1.1 401")
        writer.write(more)
        async with asyncio.timeout(20):  # uvicorn by itself would wait for ever
            assert await reader.read() == b""

    connected(sends_on)


@pytest.mark.parametrize("answered_first", [False, True])
def test_who_is_silent_after_an_answer_is_kept_for_as_long_as_set(
    monkeypatch: pytest.MonkeyPatch, answered_first: bool
) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.2)

    async def pauses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            writer.write(HEAD % 5 + (b"" if answered_first else b"[1,2]"))
            await reader.readuntil(b"\r\n\r\nno")
            writer.write(b"[1,2]" if answered_first else b"")
            await asyncio.sleep(0.5)
        writer.write(HEAD[:20])
        async with asyncio.timeout(30):  # a head that has begun has its own time
            assert await reader.read() == b""

    connected(pauses, kept_s=60)


def test_who_asks_again_in_time_is_answered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 10.0)

    async def asks_thrice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            writer.write(HEAD % 5 + b"[1,2]")
            await reader.readuntil(b"\r\n\r\nno")
        writer.write(HEAD % 0 * 3)  # all at once
        for _ in range(3):
            await reader.readuntil(b"\r\n\r\nno")

    connected(asks_thrice)


def test_who_asks_between_two_calls_whether_the_gateway_is_there_keeps_the_connection() -> None:
    often = {**OPTIONS, "grpc.http2.min_ping_interval_without_data_ms": 10}
    asks = {"grpc.keepalive_time_ms": 100, "grpc.keepalive_permit_without_calls": 1}

    async def pauses() -> None:
        server = grpc.aio.server(options=tuple(often.items()))
        server.add_generic_rpc_handlers((health.Health(Operations("gateway", Settings().operations)).handlers(),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        client = (*asks.items(), ("grpc.http2.max_pings_without_data", 0))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=client) as channel:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            with pytest.raises(TimeoutError):  # one a second: it ended at the fourth, for too_many_pings
                await asyncio.wait_for(channel.wait_for_state_change(grpc.ChannelConnectivity.READY), 4)
        await server.stop(0)

    asyncio.run(pauses())


def test_one_look_tells_all_who_watch_the_health(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "LOOK_S", 10**9)  # none of them looks by itself: 10,000 of them would be a load
    operations = Operations("gateway", Settings().operations)
    operations.started()
    operations.ready()
    kind = health_pb2.HealthCheckResponse

    async def watched() -> None:
        told, server = health.Health(operations), grpc.aio.server()
        server.add_generic_rpc_handlers((told.handlers(),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel, asyncio.timeout(20):
            watches = [health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest()) for _ in range(20)]
            assert {(await one.read()).status for one in watches} == {kind.SERVING}
            operations.trouble("no disk")
            told.look()
            assert {(await one.read()).status for one in watches} == {kind.NOT_SERVING}
            operations.stopping.set()
            told.look()
            assert {await one.read() for one in watches} == {grpc.aio.EOF}
        await server.stop(0)

    asyncio.run(watched())
