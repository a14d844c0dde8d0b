"""The gateway's process. Start with `python -m gateway.worker`; settings come from the environment or the file.

Before: apps, browsers, trackers. After: Kafka, by the SDK. SIGTERM: it says no to new connections, answers what is
under way within `operations.drain_s`, streams of events that have not ended after half of it, and ends with 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette

from gateway.access import Keys, RateLimits
from gateway.admin_log import AdminLog
from gateway.app import make_app
from gateway.backend import Backend
from gateway.bodies import Bodies, Room
from gateway.callers import Callers
from gateway.calls import Calls
from gateway.connections import HttpConnection
from gateway.doors import Doors
from gateway.metrics import GatewayMetrics
from gateway.page.views import Views
from gateway.sockets import Sockets
from headwater.client import Client
from headwater.errors import SettingsError
from headwater.kafka import take_part
from headwater.process import Operations, family_of, in_url, run_worker
from headwater.security.parties import GATEWAY, PAGE
from headwater.settings import Settings
from headwater.sockets import keepalive
from headwater.topics import CONSENTS
from headwater.wire import MAX_VALUE_BYTES

if TYPE_CHECKING:
    from gateway.rpc.server import RpcServer

__all__ = ["GatewayWorker", "main"]

TICK_S = 0.1
START_LOOK_S = 0.01
BACKLOG = 1024
UNHEARD = keepalive(TCP_USER_TIMEOUT=30_000, TCP_KEEPIDLE=30, TCP_KEEPINTVL=10)
"""Who acknowledges nothing for 30 seconds (first in ms) is gone, also where nothing is sent but the question whether it
is there: a phone without a net says no goodbye."""
DELIVERY_S = 20.0
"""After it an event that Kafka has not taken is a 503. Most senders and balancers wait for 30 seconds."""

ANSWERED = 0.9
"""Of the time to stop: who still waits for Kafka then is told so, before connections are cut."""


class _Server(uvicorn.Server):
    """Signals are the worker's own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class GatewayWorker:
    """Doors in front of one Client."""

    def __init__(self, settings: Settings, operations: Operations) -> None:
        self.settings = settings
        self.operations = operations
        own = settings.gateway
        if own.grpc_port is not None:
            _check_grpc()
        self._needs_keys = not _is_loopback(own.host) if own.needs_keys is None else own.needs_keys
        self.keys = Keys(settings.kafka, own, needed=self._needs_keys)
        self._opened = ExitStack()
        self._socket = self._bound()
        self.port = self._socket.getsockname()[1]

    def _bound(self) -> socket.socket:
        """The port is ours from the start, and opens when somebody can answer: until then nobody waits there."""
        own = self.settings.gateway
        found = socket.socket(family_of(own.host), socket.SOCK_STREAM)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind((own.host, own.port))
        except OSError as error:
            found.close()
            raise SettingsError(
                f"cannot listen on {in_url(own.host)}:{own.port} ({error.strerror}). Set HEADWATER_GATEWAY__PORT to a "
                "port that is free (0 takes any), HEADWATER_GATEWAY__HOST to an address of this machine."
            ) from None
        for option in UNHEARD:  # connections have it all from here
            found.setsockopt(*option)
        return found

    def await_servers(self) -> None:
        """Kafka answers, lets us in and has the topics."""
        retry = self.operations.retry
        spared = (CONSENTS.name,) if self.settings.privacy.consent == "off" else ()
        party = PAGE if self.settings.gateway.page else GATEWAY
        retry.call("kafka", lambda: take_part(self.settings.kafka, party, spared))
        retry.call("kafka", self.keys.load)
        if self._needs_keys and not self.keys.count:
            raise SettingsError(
                f"the gateway listens on {self.settings.gateway.host} and needs keys, and there are none: make one "
                "(`headwater keys create NAME --scope produce,recommend`), or listen on 127.0.0.1"
            )

    def open(self) -> None:
        """Connect, and follow the keys."""
        client = self.operations.retry.open("kafka", lambda: Client(source="gateway", delivery_timeout_s=DELIVERY_S))
        self.backend = Backend(client, self.settings.gateway)
        self._opened.callback(self.backend.close)
        threading.Thread(target=self._follow, name="keys", daemon=True).start()

    def _follow(self) -> None:
        stopping = self.operations.stopping
        while not stopping.is_set():
            try:
                self.keys.follow(stopping)
            except Exception as error:
                self.operations.log.error("keys are not followed: who is revoked may still get in", exc_info=error)
                stopping.wait(1.0)

    def run(self) -> None:
        """Answer until told to stop."""
        import uvloop

        uvloop.run(self._served())

    async def _served(self) -> None:
        own, operations = self.settings.gateway, self.operations
        rates = RateLimits(own.rate_per_s, own.burst)
        metrics = GatewayMetrics(operations.registry, lambda: self.backend.waiting, lambda: self.backend.lost)
        consents, admin_log = self.settings.privacy.consent != "off", AdminLog(self.settings.kafka, self.backend.names)
        calls = Calls(self.backend, self.keys, rates, operations, own, consents, admin_log)
        callers = Callers(self.keys, own.cors_origins)
        bodies = Bodies(own.max_body_bytes)
        doors = Doors(calls, self.keys, bodies, operations)
        views = None
        if own.page:
            views = Views(self.settings, operations.stopping, self.backend.called, self.keys, rates)
            views.start()
        server = _Server(self._config(make_app(doors, Sockets(calls, self.keys), callers, metrics, own, views)))
        rpc = self._rpc(calls, callers, metrics, bodies.room)
        serving = asyncio.create_task(server.serve([self._socket]))
        operations.started()
        while not server.started and not serving.done():
            await asyncio.sleep(START_LOOK_S)
        if rpc is not None:
            await rpc.start()
            operations.log.info("listening", extra={"at": f"grpc://{in_url(own.host)}:{rpc.port}"})
        operations.ready()
        operations.log.info("listening", extra={"at": f"http://{in_url(own.host)}:{self.port}"})
        while not operations.stopping.is_set() and not serving.done():
            operations.progress()
            await asyncio.sleep(TICK_S)
        server.should_exit = True
        loop, drain_s = asyncio.get_running_loop(), self.settings.operations.drain_s
        until_s = loop.time() + drain_s
        loop.call_later(drain_s / 2, calls.end)
        loop.call_later(drain_s * ANSWERED, self.backend.end)
        if rpc is not None:
            await rpc.stop(drain_s)
        await serving
        await self.backend.drain(until_s)

    def _config(self, app: Starlette) -> uvicorn.Config:
        return uvicorn.Config(
            app,
            loop="uvloop",
            http=HttpConnection,
            ws="websockets-sansio",
            ws_max_size=MAX_VALUE_BYTES,
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            log_level="warning",  # it would log the URL of each WebSocket, and who is in it
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=self.settings.gateway.keep_alive_s,
            timeout_graceful_shutdown=max(1, round(self.settings.operations.drain_s)),
        )

    def _rpc(self, calls: Calls, callers: Callers, metrics: GatewayMetrics, room: Room) -> RpcServer | None:
        if self.settings.gateway.grpc_port is None:
            return None
        from gateway.rpc.answers import Answers
        from gateway.rpc.server import RpcServer

        return RpcServer(self.settings.gateway, Answers(calls), callers, self.keys, metrics, self.operations, room)

    def drain(self) -> None:
        """`run` has drained within its loop."""

    def close(self) -> None:
        """Leave Kafka."""
        self._opened.close()
        self._socket.close()


def _check_grpc() -> None:
    """Raises SettingsError."""
    missing = [one for one in ("grpc", "grpc_health", "grpc_reflection", "grpc_tools") if find_spec(one) is None]
    if missing:
        text = f"gateway.grpc_port needs {', '.join(missing)}: pip install 'headwater-engine[grpc]'"
        raise SettingsError(text)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def main() -> None:
    """Run until SIGTERM; ends the process."""
    run_worker("gateway", GatewayWorker)


if __name__ == "__main__":
    main()
