"""Connections of HTTP, held open by nobody who sends no request: uvicorn itself has no such bound.

Before: whoever connects. After: `gateway.app`, once the head of a request has come.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["HttpConnection"]

HEAD_S, HEAD_BYTES = 15.0, 65_536
"""What the line and the headers of a request may take."""


class HttpConnection(HttpToolsProtocol):
    """One that ends the connection of who sends the head of a request too slowly, or too much of it. After an answer,
    too: what comes then, and is no head, is the rest of a body that nobody read, or nothing. Who sends nothing then is
    kept for `timeout_keep_alive`."""

    _late: asyncio.TimerHandle | None = None
    _head: int | None = None
    """Bytes that have come since a head began; None where none has."""
    _whole = True
    """Whether the last request has come to its end."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head = 0
        self._await_head(HEAD_S)

    def _await_head(self, seconds: float) -> None:
        if self._late is None:
            self._late = self.loop.call_later(seconds, self.transport.close)

    def _come(self) -> None:
        self._head = None
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._come()
        self._head, self._whole = 0, False
        self._await_head(HEAD_S)

    def on_headers_complete(self) -> None:
        self._come()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._whole = True
        super().on_message_complete()
        if self._late is not None:  # it was answered before it had come
            self._come()
            self._await_head(self.timeout_keep_alive)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.timeout_keep_alive_task is not None:  # nothing is under way; any byte takes that time away
            self._await_head(self.timeout_keep_alive if self._whole else HEAD_S)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head is not None:
            self._head += len(data)
            if self._head > HEAD_BYTES:
                self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._come()
        super().connection_lost(exc)
