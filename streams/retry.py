"""Calls that are repeated while a server is away, so that a batch is held and never lost.

Before: a round calls the store or the outbox. After: the same call, once its server is back. The watchdog ends a
process that waits for too long, and the records that it never acknowledged are read by the next.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from headwater.errors import Unavailable
from streams.streams_metrics import Metrics

__all__ = ["Patience"]

Answer = TypeVar("Answer")

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
LOG_EVERY_S = 5.0

log = logging.getLogger("headwater")


class Patience:
    """Repeats calls that raise Unavailable; other errors are raised. `waiting`: how many calls wait at the moment."""

    def __init__(self, metrics: Metrics) -> None:
        self.waiting = 0
        self._metrics = metrics
        self._logged = -LOG_EVERY_S

    async def ask(self, call: Callable[[], Answer]) -> Answer:
        """The answer of a call to the store, sooner or later; cancelling is the way out."""

        async def answer() -> Answer:
            return call()

        return await self._repeat("redis", answer)

    async def send(self, call: Callable[[], Awaitable[None]]) -> None:
        """Sends through the outbox, or asks the broker, until it has answered; cancelling is the way out."""
        await self._repeat("kafka", call)

    async def _repeat(self, server: str, call: Callable[[], Awaitable[Answer]]) -> Answer:
        pause = FIRST_PAUSE_S
        while True:
            try:
                return await call()
            except Unavailable as error:
                self._metrics.retries.labels(server).inc()
                if time.monotonic() - self._logged > LOG_EVERY_S:
                    self._logged = time.monotonic()
                    log.warning("%s Trying again; nothing is acknowledged meanwhile.", error, extra={"server": server})
            self.waiting += 1
            try:
                await asyncio.sleep(pause)
            finally:
                self.waiting -= 1
            pause = min(2 * pause, LONGEST_PAUSE_S)
