"""Connections: bytes in, frames out, one request at a time and in order, as Kafka promises its clients.

Knows no request's meaning. A client that sends garbage, or reads slowly, or stops in the middle of a frame, costs its
own connection and nothing else: buffers are bounded and nobody waits for it.
"""

import asyncio
import socket
import sys
import time
import traceback
from collections.abc import Coroutine
from typing import Any

from embedded.handlers import HANDLERS, BrokerOptions, CloseConnection, Node
from embedded.protocol import MAX_FRAME_BYTES, Unreadable, wire

READ_AHEAD_BYTES = 256 << 10  # of later requests, while one is being answered
FRAMES_A_TURN = 16  # then other connections get the loop
IDLE_S = 600.0  # as connections.max.idle.ms
MAX_CONNECTIONS = 2000
COPY_BELOW_BYTES = 16 << 10  # one small write is cheaper than several parts


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, node: Node, connections: "set[Connection]") -> None:
        self._node = node
        self._connections = connections
        self._buffer = bytearray()
        self._transport: Any = None
        self._host = "?"
        self._task: asyncio.Task[None] | None = None
        self._blocked = False  # the client does not read its answers
        self._scheduled = False
        self._paused = False
        self.active = time.monotonic()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes the connection, unless there are far too many."""
        self._transport = transport
        if len(self._connections) >= MAX_CONNECTIONS:
            self.abort()
            return
        self._connections.add(self)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._host = (transport.get_extra_info("peername") or ("?",))[0]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio names it
        """Stops what was being done for the client."""
        self._connections.discard(self)
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        """Buffers and answers what is complete."""
        self.active = time.monotonic()
        self._buffer += data
        if self._task is not None or self._blocked or self._scheduled:
            if len(self._buffer) > READ_AHEAD_BYTES and not self._paused:
                self._transport.pause_reading()
                self._paused = True
        else:
            self._pump()

    def pause_writing(self) -> None:
        """The client is slow to read: no further request of it is answered."""
        self._blocked = True

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._blocked = False
        self._pump()

    def abort(self) -> None:
        """Ends the connection at once."""
        self._transport.abort()

    def idle_since(self, moment: float) -> bool:
        """True if nothing was received since `moment` and nothing is being answered."""
        return self._task is None and self.active < moment

    def _pump(self) -> None:
        self._scheduled = False
        for _ in range(FRAMES_A_TURN):
            if self._task is not None or self._blocked or self._transport.is_closing():
                return
            if self._paused:
                self._transport.resume_reading()
                self._paused = False
            if len(self._buffer) < 4:
                return
            size = int.from_bytes(self._buffer[:4], "big", signed=True)
            if not 8 <= size <= MAX_FRAME_BYTES:
                self.abort()
                return
            if len(self._buffer) < 4 + size:
                return
            with memoryview(self._buffer) as view:
                frame = bytes(view[4 : 4 + size])
            del self._buffer[: 4 + size]
            self._answer(frame)
        if not self._scheduled and self._task is None:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _answer(self, frame: bytes) -> None:
        try:
            call = wire.read(frame, self._host)
            outcome = HANDLERS[call.key](self._node, call)
            if isinstance(outcome, Coroutine):
                self._task = asyncio.get_running_loop().create_task(self._finish(call, outcome))
            else:
                self._send(call, outcome)
        except (Unreadable, CloseConnection):
            self.abort()
        except Exception:  # noqa: BLE001 - the boundary: a fault in answering one client must not end the broker
            traceback.print_exc(file=sys.stderr)
            self.abort()

    async def _finish(self, call: wire.Call, outcome: Coroutine[Any, Any, Any]) -> None:
        try:
            self._send(call, await outcome)
        except Exception:  # noqa: BLE001 - as above
            traceback.print_exc(file=sys.stderr)
            self.abort()
        self._task = None
        self._pump()

    def _send(self, call: wire.Call, outcome: Any) -> None:
        if outcome is None or self._transport.is_closing():
            return
        if isinstance(outcome, list):
            if sum(map(len, outcome)) < COPY_BELOW_BYTES:
                self._transport.write(b"".join(outcome))
            else:
                self._transport.writelines(outcome)
        else:
            self._transport.write(wire.write(call, outcome))


class Server:
    """The listening socket and everything behind it."""

    def __init__(self, options: BrokerOptions) -> None:
        self._options = options
        self._connections: set[Connection] = set()
        self._jobs: list[asyncio.Task[None]] = []
        self._server: asyncio.Server | None = None
        self.node: Node | None = None

    async def start(self) -> int:
        """Reads the data folder, listens, and returns the port; SystemExit with the reason if that cannot be."""
        node = self.node = Node(self._options)
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: Connection(node, self._connections), self._options.host, self._options.port
            )
        except OSError as problem:
            raise SystemExit(
                f"cannot listen on {self._options.host}:{self._options.port}: {problem.strerror or problem}"
            ) from problem
        port = int(self._server.sockets[0].getsockname()[1])
        node.port = self._options.advertised_port or port
        self._jobs = [loop.create_task(node.run_housekeeping()), loop.create_task(self._close_idle())]
        return port

    async def stop(self) -> None:
        """Closes connections and files."""
        if self._server is not None:
            self._server.close()
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)
        if self.node is not None:
            self.node.close()

    @property
    def jobs(self) -> "list[asyncio.Task[None]]":
        """Background work; it ends only by failing."""
        return self._jobs

    async def _close_idle(self) -> None:
        while True:
            await asyncio.sleep(IDLE_S / 20)
            deadline = time.monotonic() - IDLE_S
            for connection in list(self._connections):
                if connection.idle_since(deadline):
                    connection.abort()
