"""A port of loopback in front of a server, which cuts, delays, swallows or refuses what goes through.

Before: every client of a campaign, ours and others', connects here. After: the server itself. Knows no protocol.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any

__all__ = ["Proxy"]

PIECE = 65_536
ENDS_S = 0.02
"""In which what was cut ends."""
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no time: closing sends RST."""


class Proxy:
    """One port on 127.0.0.1. Thread-safe; close it.

    Parameters
        target_port: of the server behind it, on 127.0.0.1; `target` may be set later.

    `delay_s` is how long each piece waits, either way. `passed` counts bytes.
    """

    def __init__(self, target_port: int = 0) -> None:
        self.target = ("127.0.0.1", target_port)
        self.delay_s = 0.0
        self.passed = 0
        self.port = 0
        self._frozen = False
        self._open: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter | None]] = set()
        self._dead: set[asyncio.StreamWriter] = set()
        self._serving: set[Any] = set()
        self._listening: socket.socket | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._call(self._listen())

    @property
    def in_use(self) -> bool:
        """Whether anybody is connected."""
        return bool(self._open)

    def reset(self) -> int:
        """Cut every connection with RST, on both sides; how many there were."""
        return int(self._call(self._reset()))

    def freeze(self) -> int:
        """From now on nothing comes through and nobody is told, old connections and new; how many are half open."""
        return int(self._call(self._freeze()))

    def thaw(self, *, forget: bool) -> None:
        """New connections pass again. Those that were frozen are cut, or, where they are to be forgotten, stay silent
        until the client gives them up: what a router does that has lost its table.
        """
        self._call(self._thaw(forget))

    def refuse(self) -> int:
        """Cut everything and listen no more: connection refused; how many were cut."""
        return int(self._call(self._refuse()))

    def listen(self) -> None:
        """Take connections again, on the same port."""
        self._call(self._listen())

    def close(self) -> None:
        """Cut everything and end."""
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> None:
        if self._listening is None:
            self._listening = socket.create_server(("127.0.0.1", self.port))
            self._listening.setblocking(False)
            self.port = self._listening.getsockname()[1]
            self._loop.add_reader(self._listening, self._accept, self._listening)

    def _accept(self, listening: socket.socket) -> None:
        """Not asyncio's server: it leaves open whoever it has accepted and not handed over yet when it is closed."""
        with contextlib.suppress(OSError):
            client, _ = listening.accept()
            self._loop.create_task(self._serve(client))  # which keeps itself

    async def _serve(self, client: socket.socket) -> None:
        client.setblocking(False)
        own = asyncio.current_task()
        self._serving.add(own)
        try:
            reader, writer = await asyncio.open_connection(sock=client)
            try:
                await self._connect(reader, writer)
            except asyncio.CancelledError:  # the proxy ends
                _cut(writer)
        finally:
            self._serving.discard(own)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._frozen:
            self._dead.add(writer)
            return
        try:
            onward_reader, onward = await asyncio.open_connection(*self.target)
        except OSError:
            _cut(writer)
            return
        pair = (writer, onward)
        self._open.add(pair)
        try:
            await asyncio.gather(self._pump(reader, onward, pair), self._pump(onward_reader, writer, pair))
        finally:
            self._open.discard(pair)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: tuple[Any, Any]) -> None:
        """Carry one way until it ends; then end the other way, too."""
        with contextlib.suppress(OSError):
            while piece := await reader.read(PIECE):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if pair[0] in self._dead:
                    return
                self.passed += len(piece)
                writer.write(piece)
                await writer.drain()
        if pair[0] not in self._dead:
            for end in pair:
                end.close()

    async def _reset(self) -> int:
        cut = list(self._open)
        for pair in cut:
            for end in pair:
                if end is not None:
                    _cut(end)
        return len(cut)

    async def _freeze(self) -> int:
        self._frozen = True
        frozen = list(self._open)
        for client, onward in frozen:
            self._dead.add(client)
            client.transport.pause_reading()  # type: ignore[attr-defined]  # of a socket's transport
            if onward is not None:
                _cut(onward)  # the server, too, is told nothing of what was under way, but has its resources back
        return len(frozen)

    async def _thaw(self, forget: bool) -> None:
        self._frozen = False
        if not forget:
            for client in self._dead:
                _cut(client)
            self._dead.clear()

    async def _refuse(self) -> int:
        if self._listening is not None:
            self._loop.remove_reader(self._listening)
            self._listening.close()
            self._listening = None
        for client in self._dead:
            _cut(client)
        self._dead.clear()
        return await self._reset()

    async def _end(self) -> None:
        """Cut everything, and whoever is just being connected."""
        while True:
            await self._refuse()
            for one in self._serving:
                one.cancel()
            await asyncio.sleep(ENDS_S)
            if len(asyncio.all_tasks()) == 1:
                break
        await self._refuse()  # where it is frozen, whoever was taken last


def _cut(end: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    end.transport.abort()
