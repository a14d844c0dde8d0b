"""What a caller is told of an error: nothing of what stands behind the door, neither addresses nor users of Kafka.

Before: any error. After: `gateway.app`, which gives it a status, and streams, which have none any more. The log has the
rest, though not of each request.
"""

from __future__ import annotations

import logging
import time

from gateway.backend import Full
from headwater.errors import DeadlineExceeded, HeadwaterError, InvalidMessage, RequestRefused

__all__ = ["words"]

TOLD_EVERY_S = 10.0

log = logging.getLogger("headwater")


class _Seldom:
    """Whether it is time to say the same again."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._next_s = 0.0

    def due(self) -> bool:
        now_s = time.monotonic()
        if now_s < self._next_s:
            return False
        self._next_s = now_s + self._every_s
        return True


_away = _Seldom(TOLD_EVERY_S)


def words(error: Exception) -> str:
    """Of an error that is an answer."""
    if isinstance(error, DeadlineExceeded):
        return str(error).partition(". ")[0]
    if isinstance(error, HeadwaterError) and not isinstance(error, InvalidMessage | RequestRefused | Full):
        if _away.due():
            log.warning("requests fail: %s", error)
        return "Kafka is away, or does not answer in time: come again"
    return str(error)
