"""What HTTP and gRPC add to the SDK's own request, and what lines of events cost: the gateway beside the Client."""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks.ruler import Bar, Beside, Row, Setup
from benchmarks.ruler.turns import cpu_seconds, optional
from benchmarks.ruler.worlds import fill, world
from console.local.addresses import GATEWAY, usual_port
from console.local.supervisor import WORKERS, Supervisor
from embedded import free_port
from headwater import Client
from headwater.settings import load_settings

ITEMS, USERS = 1700, 900
REQUESTS_PER_S, EVENTS_PER_S = 100, 1_000
CALLERS = 8
INSTALL = "pip install 'headwater-engine[grpc]'"
LINES = 100
"""In one piece of the body: a tracker's queue is sent on ten times a second."""


def measured(setup: Setup) -> list[Row]:
    """100 requests a second, for a second each by the SDK, HTTP and gRPC in turn, so that what stalls the machine meets
    all three; then 1,000 events a second."""
    grpc, rpc_messages = (optional(name, INSTALL) for name in ("grpc", "gateway.rpc.messages"))
    seconds = setup.pick(10, 1)
    gateway = {"port": usual_port(load_settings().gateway.port) or free_port(), "grpc_port": free_port()}
    turns: list[tuple[list[float], ...]] = []
    with world(setup, (*WORKERS, GATEWAY), gateway=gateway, serving={"exposures": False}) as made:
        fill(made, items=ITEMS, events=setup.pick(10_000, 500), users=USERS)
        with (
            Client(settings=made.settings.kafka) as client,
            _by_http(made) as ask_by_http,
            _by_grpc(made, grpc, rpc_messages) as ask_by_grpc,
            ThreadPoolExecutor(CALLERS) as callers,
        ):
            ways: list[Callable[[int], object]] = [
                lambda number: client.recommend(_user(number), k=10),
                ask_by_http,
                ask_by_grpc,
            ]
            for ask in ways:  # opens connections
                _second(callers, ask, 0)
            for _ in range(setup.turns):
                turns.append(([], [], []))
                for second in range(seconds):
                    for found, ask in zip(turns[-1], ways, strict=True):
                        found += _second(callers, ask, second * REQUESTS_PER_S)
        busy = []
        for _ in range(setup.few):
            with _connection(made) as connection:
                busy.append(_core(made, connection, seconds))
    rows = []
    for name, quantile, bar in (("p50", 0.5, 2.0), ("p99", 0.99, 5.0)):
        own, *doors = ([1000 * float(np.quantile(turn[way], quantile)) for turn in turns] for way in range(3))
        for door, ours in zip(("HTTP", "gRPC"), doors, strict=True):
            said = "a request at 100/s" if door == "HTTP" else "a request at 100/s by gRPC"
            rows.append(Row(f"{said}, {name}", "ms", "less", ours, [Beside("the SDK", "own", own)]))
            added = [one - other for one, other in zip(ours, own, strict=True)]
            rows.append(Row(f"what {door} adds, {name}", "ms", "less", added, [], [Bar(bar)]))
    rows.append(Row("1,000 events/s in lines", "of a core", "less", busy, [], [Bar(0.4)]))
    return rows


def _user(number: int) -> str:
    return f"user-{number % USERS}"


@contextlib.contextmanager
def _connection(made: Supervisor) -> Iterator[http.client.HTTPConnection]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", made.settings.gateway.port, timeout=30)) as one:
        yield one


@contextlib.contextmanager
def _by_http(made: Supervisor) -> Iterator[Callable[[int], object]]:
    """A connection for each caller."""
    with contextlib.ExitStack() as stack:
        free: queue.SimpleQueue[http.client.HTTPConnection] = queue.SimpleQueue()
        for _ in range(CALLERS):
            free.put(stack.enter_context(_connection(made)))

        def ask(number: int) -> object:
            connection = free.get()
            connection.request("GET", f"/v1/users/{_user(number)}/recommendations?k=10")
            answer = connection.getresponse()
            body = answer.read()
            free.put(connection)
            assert answer.status == 200, body
            return json.loads(body)

        yield ask


@contextlib.contextmanager
def _by_grpc(made: Supervisor, grpc: Any, messages: Any) -> Iterator[Callable[[int], object]]:
    service = messages.service()
    method = service.methods_by_name["Recommend"]
    takes, gives = messages.message_class(method.input_type), messages.message_class(method.output_type)
    with grpc.insecure_channel(f"127.0.0.1:{made.settings.gateway.grpc_port}") as channel:
        call = channel.unary_unary(f"/{service.full_name}/Recommend", takes.SerializeToString, gives.FromString)
        yield lambda number: call(takes(user_id=_user(number), k=10), timeout=30)


def _second(callers: ThreadPoolExecutor, ask: Callable[[int], object], first: int) -> list[float]:
    """Seconds that each request took from when it was due, whatever those before it do. `first` is the number of the
    first.
    """
    began = time.perf_counter()

    def asked(number: int, due: float) -> float:
        ask(number)
        return time.perf_counter() - due

    under_way = []
    for number in range(REQUESTS_PER_S):
        due = began + number / REQUESTS_PER_S
        time.sleep(max(0.0, due - time.perf_counter()))
        under_way.append(callers.submit(asked, first + number, due))
    return [one.result() for one in under_way]


def _core(made: Supervisor, connection: http.client.HTTPConnection, seconds: float) -> float:
    """Share of a core that the gateway takes while lines come at a steady rate."""
    pid = made.workers[GATEWAY].pid
    assert pid is not None
    before, began = cpu_seconds(pid), time.perf_counter()
    headers = {"content-type": "application/x-ndjson", "transfer-encoding": "chunked"}
    connection.request("POST", "/v1/events", _lines(seconds, began), headers, encode_chunked=True)
    answer = connection.getresponse()
    told = json.loads(answer.read())
    assert told.get("accepted") == int(seconds * EVENTS_PER_S), told
    return (cpu_seconds(pid) - before) / (time.perf_counter() - began)


def _lines(seconds: float, began: float) -> Iterator[bytes]:
    for piece in range(int(seconds * EVENTS_PER_S / LINES)):
        time.sleep(max(0.0, began + piece * LINES / EVENTS_PER_S - time.perf_counter()))
        yield b"".join(
            json.dumps(
                {"user_id": _user(n), "item_id": f"item-{n % ITEMS}", "type": "view", "session_id": f"s-{n % 97}"}
            ).encode()
            + b"\n"
            for n in range(piece * LINES, (piece + 1) * LINES)
        )
