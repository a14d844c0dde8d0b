"""The stream of lists over a WebSocket: what server-sent events say, and a client that can ask for another list.

Before: `gateway.app`, which has found out who asks. After: `gateway.calls`. A list is made when the one before it is on
its way, so who reads slowly has one under way and no queue; who reads nothing for half a minute is gone
(`gateway.worker`).

Source
    RFC 6455, "The WebSocket Protocol", section 7.4.1 (codes of its end).
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import orjson
from starlette.websockets import WebSocket, WebSocketDisconnect

from gateway.access import Caller, Keys
from gateway.bodies import decoded
from gateway.calls import Calls, Lists
from gateway.doors import after_brought, asked_by_url, every_ms_of
from gateway.refusals import ToldError, told
from headwater.wire import encode

__all__ = ["Sockets"]

SUBPROTOCOL = "headwater"
FIRST_S = 15.0
"""Within it who opened a socket asks for something, or it is closed."""
MAY_NOT, FAULT, GOES_AWAY = 1008, 1011, 1012
CLOSES = {401: MAY_NOT, 500: FAULT}
"""Statuses after which it makes no sense to ask again, and the code of the end."""


class Sockets:
    """One of each process."""

    def __init__(self, calls: Calls, keys: Keys) -> None:
        self._calls = calls
        self._keys = keys

    def one(self, caller: Caller) -> contextlib.AbstractContextManager[None]:
        """A socket is open until it is left. Raises Full, Denied where it may not open."""
        return self._calls.sockets.one(caller)

    async def begun(self, socket: WebSocket, caller: Caller) -> Lists | None:
        """The lists that its URL asks for; None where a message is to ask. Raises what `Calls.watch` does."""
        every_ms = every_ms_of(socket)
        asked = asked_by_url(socket)
        return await self._watch(socket, caller, asked, every_ms) if asked else None

    async def _watch(self, socket: WebSocket, caller: Caller, asked: Any, every_ms: int) -> Lists:
        still = lambda: self._keys.still(socket)  # noqa: E731
        return await self._calls.watch(caller, asked, after_brought(socket), still, every_ms)

    async def stream(self, socket: WebSocket, caller: Caller, lists: Lists | None) -> None:
        """Send lists until either side has enough. Those of each message, a Request, take the place of those before.

        Raises
            WebSocketDisconnect: the other side is gone.
        """
        every_ms, sending = every_ms_of(socket), None
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in socket.scope["subprotocols"] else None)
        try:
            while True:
                if lists is not None:
                    sending = asyncio.create_task(_send(socket, lists))
                text = await _message(socket, waits=sending is None)
                if text is None:
                    return
                await _end(sending)
                sending, lists = None, await self._next(socket, caller, text, every_ms)
        finally:
            await _end(sending)

    async def _next(self, socket: WebSocket, caller: Caller, text: bytes, every_ms: int) -> Lists | None:
        """The lists that a message asks for; None where it is told why there are none."""
        try:
            self._keys.still(socket)
            return await self._watch(socket, caller, self._asked(caller, text), every_ms)
        except Exception as error:  # noqa: BLE001 - whatever went wrong is an answer
            await _refuse(socket, error)
            return None

    def _asked(self, caller: Caller, text: bytes) -> Any:
        with self._calls.reading(caller):
            return decoded(text, "the message")


async def _message(socket: WebSocket, *, waits: bool) -> bytes | None:
    """The next one; None where none will come."""
    try:
        async with asyncio.timeout(FIRST_S if waits else None):
            got = await socket.receive()
    except TimeoutError:
        await socket.close(MAY_NOT, "send a Request")
        return None
    if got["type"] == "websocket.disconnect":
        return None
    text: str | None = got.get("text")
    return text.encode() if text is not None else bytes(got.get("bytes") or b"")


async def _end(sending: asyncio.Task[None] | None) -> None:
    if sending is not None:
        sending.cancel()
        await asyncio.wait([sending])


async def _send(socket: WebSocket, lists: Lists) -> None:
    """Until there is no more; what then ends the socket wakes who waits for its messages."""
    with contextlib.suppress(WebSocketDisconnect):
        try:
            async with contextlib.aclosing(lists):
                async for one in lists:
                    if isinstance(one, ToldError):
                        await _say(socket, "problem", orjson.dumps(one.body))
                    elif one is not None:
                        await _say(socket, "list", encode(one))
            await socket.close(GOES_AWAY, "come again")
        except WebSocketDisconnect:
            raise
        except Exception as error:  # noqa: BLE001 - whatever went wrong is told, and ends it
            await _refuse(socket, error)


async def _refuse(socket: WebSocket, error: Exception) -> None:
    said = told(error)
    await _say(socket, "problem", orjson.dumps(said.body))
    if said.status in CLOSES:
        await socket.close(CLOSES[said.status], said.code)


async def _say(socket: WebSocket, kind: str, data: bytes) -> None:
    await socket.send_text('{"event":"' + kind + '","data":' + data.decode() + "}")
