"""What a caller is told of an error: nothing of what stands behind the door, neither addresses nor users of Kafka.

Before: any error. After: the doors, whether they speak HTTP, WebSocket or gRPC. The log has the rest, though not of
each request.
"""

from __future__ import annotations

import logging
import time
from typing import Any, NamedTuple

from gateway.access import Denied
from gateway.backend import Full
from gateway.bodies import TooLarge, TooSlow
from headwater.errors import DeadlineExceeded, HeadwaterError, InvalidMessage, RequestRefused
from headwater.process import Stopped

__all__ = ["RefusedLine", "ToldError", "told"]

TOLD_EVERY_S = 10.0
RETRY_S = 1

log = logging.getLogger("headwater")


class RefusedLine(Exception):
    """Why a stream ended before its end, and how many events were taken until then."""

    def __init__(self, error: Exception, accepted: int) -> None:
        super().__init__(str(error))
        self.error, self.accepted = error, accepted


class ToldError(NamedTuple):
    """What is told of an error.

    Fields
        status: of HTTP; other doors have theirs by it.
        code: a short, stable word.
        message: what is wrong, and what to do.
        retry_after_s: when to come again.
        accepted: events of a stream that were taken before it.
    """

    status: int
    code: str
    message: str
    retry_after_s: int | None = None
    accepted: int | None = None

    @property
    def body(self) -> dict[str, Any]:
        """As JSON tells it."""
        body: dict[str, Any] = {"code": self.code, "message": self.message}
        return body if self.accepted is None else {**body, "accepted": self.accepted}


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


def _words(error: Exception) -> str:
    """Of an error that is an answer."""
    if isinstance(error, DeadlineExceeded):
        return str(error).partition(". ")[0]
    if isinstance(error, HeadwaterError) and not isinstance(error, InvalidMessage | RequestRefused | Full):
        if _away.due():
            log.warning("requests fail: %s", error)
        return "Kafka is away, or does not answer in time: come again"
    return str(error)


def told(error: Exception) -> ToldError:
    """What an error becomes. One that nobody foresaw is logged, and its text stays here."""
    if isinstance(error, RefusedLine):
        return told(error.error)._replace(accepted=error.accepted)
    if isinstance(error, Denied):
        wait_s = None if error.retry_after_s is None else max(1, round(error.retry_after_s))
        return ToldError(error.status, error.code, str(error), wait_s)
    if isinstance(error, HeadwaterError | TooLarge | TooSlow):
        status, code = _status(error)
        return ToldError(status, code, _words(error), RETRY_S if status == 503 else None)
    if isinstance(error, Stopped):  # a call to a Kafka that is away, which was to be made again
        return ToldError(503, "stopping", "this gateway stops, and Kafka is away: come again", RETRY_S)
    log.error("a request failed", exc_info=error)
    return ToldError(500, "fault", "a fault of the gateway: its log tells more")


def _status(error: Exception) -> tuple[int, str]:
    if isinstance(error, TooLarge):
        return 413, "too_large"
    if isinstance(error, TooSlow):
        return 408, "too_slow"
    if isinstance(error, InvalidMessage):
        return 400, error.reason
    if isinstance(error, RequestRefused):
        return 422, error.code
    if isinstance(error, DeadlineExceeded):
        return 504, "deadline"
    return 503, "full" if isinstance(error, Full) else "unavailable"
