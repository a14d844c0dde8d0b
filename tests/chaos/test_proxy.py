"""The proxy cuts, delays, swallows and refuses, and lets through again."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from chaos.proxy import Proxy
from tests.worlds.processes import eventually


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """In front of a server that says everything back."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:

        def echo(one: socket.socket) -> None:
            with one, contextlib.suppress(OSError):
                while piece := one.recv(1000):
                    one.sendall(piece)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=echo, args=(server.accept()[0],), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        with contextlib.closing(Proxy(server.getsockname()[1])) as made:
            yield made
        server.shutdown(socket.SHUT_RDWR)


def connected(proxy: Proxy) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
    made.sendall(b"one")
    assert made.recv(10) == b"one"
    return made


def test_a_reset_cuts_what_is_open_and_nothing_later(proxy: Proxy) -> None:
    with connected(proxy) as old:
        assert proxy.reset() == 1
        with pytest.raises(ConnectionResetError):
            old.recv(10)
    connected(proxy).close()


def test_refused_connections_are_taken_again_on_the_same_port(proxy: Proxy) -> None:
    with connected(proxy):
        assert proxy.refuse() == 1
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
    proxy.listen()
    connected(proxy).close()


@pytest.mark.parametrize("forget", [False, True])
def test_what_is_half_open_is_silent_old_and_new_until_it_thaws(proxy: Proxy, forget: bool) -> None:
    with connected(proxy) as old:
        assert proxy.freeze() == 1
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as new:
            for one in (old, new):
                one.sendall(b"two")
                one.settimeout(0.05)
                with pytest.raises(TimeoutError):
                    one.recv(10)
        proxy.thaw(forget=forget)
        old.settimeout(0.05 if forget else 10)
        with pytest.raises(TimeoutError if forget else ConnectionError):
            old.recv(10)
    connected(proxy).close()


def test_a_slow_way_is_slow_both_ways(proxy: Proxy) -> None:
    with connected(proxy) as one:
        proxy.delay_s = 0.05
        began = time.monotonic()
        one.sendall(b"two")
        assert one.recv(10) == b"two"
        assert time.monotonic() - began >= 0.1


def test_who_is_just_being_connected_is_cut_when_the_proxy_ends() -> None:
    with contextlib.ExitStack() as opened, socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        for _ in range(2):  # the server takes nobody any more: a third waits
            filling = opened.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(full.getsockname())
        proxy = Proxy(full.getsockname()[1])
        client = opened.enter_context(socket.create_connection(("127.0.0.1", proxy.port), 10))
        eventually(lambda: asyncio.all_tasks(proxy._loop), 10)
        proxy.close()
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""


def test_nobody_is_left_open_who_comes_while_it_refuses_or_ends() -> None:
    """What is left open says so when it is collected, which fails the test."""
    ended = threading.Event()

    def come(proxy: Proxy) -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", proxy.port), 10):
                pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy = Proxy(server.getsockname()[1])
        clients = [threading.Thread(target=come, args=(proxy,)) for _ in range(4)]
        for one in clients:
            one.start()
        for number in range(100):
            proxy.refuse()
            proxy.listen()
            if number == 90:
                proxy.freeze()
        proxy.close()
        ended.set()
        for one in clients:
            one.join()
    gc.collect()
