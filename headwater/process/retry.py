"""Asking a server again while it is away: the one policy of every worker.

An error that passes is Unavailable, a lost connection, or what a client calls retriable. After it the same call is made
again, with pauses that double, for as long as it takes: what was begun is held and never lost. The limit is not here:
`Operations` ends a process that made no progress for `stall_s`. Any other error is raised at once.

Our own and not tenacity: that took as many lines here, for pauses that end at SIGTERM, the count of waiting calls and
the clients of `open`, and would be one more dependency of the SDK (90 KB, 20 ms to import).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple, TypeVar, cast

from headwater.errors import AccessDenied, Unavailable

__all__ = ["Backoff", "Retry", "Stopped", "passes", "refusal"]

Answer = TypeVar("Answer")
Client = TypeVar("Client")

LOG_EVERY_S = 5.0
MOST_DOUBLINGS = 10
MOST_CAUSES = 10

log = logging.getLogger("headwater")


class Stopped(Exception):
    """The worker was told to stop while it waited for a server."""


class Backoff(NamedTuple):
    """Pauses between tries, in seconds: `first_s`, then each twice the one before it, up to `longest_s`.

    >>> [Backoff(0.05, 1.0).pause_s(failures) for failures in (0, 1, 4, 5, 10_000)]
    [0.05, 0.1, 0.8, 1.0, 1.0]
    """

    first_s: float
    longest_s: float

    def pause_s(self, failures: int) -> float:
        """The pause after so many earlier failures."""
        return min(self.longest_s, self.first_s * 2.0 ** min(failures, MOST_DOUBLINGS))


BROKER_GONE = "UnknownBrokerIdError"
"""kafka-python's word for a broker that is being restarted and that its newest metadata does not have: it asked whom it
knew before, and asks another one next time."""


def passes(error: BaseException) -> bool:
    """Whether the same call may succeed later.

    Returns
        True for Unavailable, a lost connection, a time-out, and what kafka-python and aiokafka mark as retriable, or
        should; not where a refusal of a server is at the root.

    >>> from kafka.errors import KafkaConnectionError, TopicAuthorizationFailedError, UnknownBrokerIdError
    >>> passes(KafkaConnectionError()), passes(TopicAuthorizationFailedError()), passes(ValueError())
    (True, False, False)
    >>> passes(UnknownBrokerIdError(2))
    True
    """
    if not isinstance(error, (Unavailable, ConnectionError, TimeoutError)):
        return getattr(error, "retriable", False) is True or type(error).__name__ == BROKER_GONE
    return refusal(error) is None


REFUSALS = frozenset({29, 30, 31, 33, 34, 53, 58})
"""Error codes of Kafka's protocol: a topic, group, cluster or transactional id is not allowed, the login is refused."""


def refusal(error: BaseException) -> BaseException | None:
    """What a server refused for good, at the root of an error.

    Returns
        The first of the error and its causes that is AccessDenied, or of kafka-python or aiokafka about a permission or
        a login; None when there is none, and a fresh process may do better.

    >>> from kafka.errors import GroupAuthorizationFailedError, NotCoordinatorError
    >>> type(refusal(GroupAuthorizationFailedError())).__name__, refusal(NotCoordinatorError()), refusal(OSError(29))
    ('GroupAuthorizationFailedError', None, None)
    """
    at: BaseException | None = error
    for _ in range(MOST_CAUSES):
        if at is None:
            break
        if isinstance(at, AccessDenied) or (hasattr(at, "retriable") and getattr(at, "errno", None) in REFUSALS):
            return at
        at = at.__cause__ or at.__context__
    return None


class Retry:
    """Makes calls again that fail with an error that passes. Thread-safe, and for any event loop.

    Parameters
        stopping: set when the process is told to stop; `call` then waits no longer and raises Stopped. A coroutine is
            cancelled.
        count: called with the server's name (`kafka`, `redis`) at each failure.
        backoff: the pauses.

    `waiting` is the number of coroutines that wait at the moment.
    """

    def __init__(
        self, stopping: threading.Event, count: Callable[[str], None], backoff: Backoff = Backoff(0.05, 1.0)
    ) -> None:
        self.waiting = 0
        self._stopping = stopping
        self._count = count
        self._backoff = backoff
        self._drained_by: float | None = None
        self._lock = threading.Lock()
        self._away_since: dict[object, float] = {}  # by the call that waits
        self._logged_s = -LOG_EVERY_S

    def away_s(self) -> float:
        """Since when the oldest call that has failed and is tried again was begun, in seconds; 0 when none is."""
        with self._lock:
            return time.monotonic() - min(self._away_since.values(), default=time.monotonic())

    def begin_drain(self, within_s: float) -> None:
        """From now on `call` goes on trying although the process stops, and raises the last error after `within_s`
        seconds.
        """
        self._drained_by = time.monotonic() + within_s

    def call(self, server: str, call: Callable[[], Answer]) -> Answer:
        """The answer of a blocking call, sooner or later.

        Parameters
            server: its name, for the count and the log.
            call: is made again and again, so it must be safe to repeat.

        Raises
            Stopped: told to stop while it waits.
            Exception: whatever does not pass, at once.
        """
        with self._waiting() as waits:
            failures = 0
            while True:
                try:
                    return call()
                except Exception as error:
                    pause_s = self._failed(server, error, failures)
                    waits()
                    if self._drained_by is None:
                        if self._stopping.wait(pause_s):
                            raise Stopped from error
                    elif time.monotonic() + pause_s > self._drained_by:
                        raise
                    else:
                        time.sleep(pause_s)
                failures += 1

    async def call_async(self, server: str, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer of a coroutine function, sooner or later; cancelling is the way out."""
        with self._waiting() as waits:
            failures = 0
            while True:
                try:
                    return await call()
                except Exception as error:  # noqa: BLE001 - raised again there, unless it passes
                    pause_s = self._failed(server, error, failures)
                failures += 1
                waits()
                self._wait(1)
                try:
                    await asyncio.sleep(pause_s)
                finally:
                    self._wait(-1)

    async def call_blocking(self, server: str, call: Callable[[], Answer]) -> Answer:
        """As `call_async`, of a blocking call that takes less time than a thread would."""

        async def answer() -> Answer:
            return call()

        return await self.call_async(server, answer)

    def open(self, server: str, make: Callable[[], Client]) -> Client:
        """A client, as soon as its server answers; its calls are retried too, all but `close`. Raises as `call`."""
        return cast(Client, _Retried(self, server, self.call(server, make)))

    def _failed(self, server: str, error: Exception, failures: int) -> float:
        """Count it and tell of it; the pause before the next try. Raises the error if it does not pass."""
        if not passes(error):
            raise error
        self._count(server)
        if time.monotonic() - self._logged_s > LOG_EVERY_S:
            self._logged_s = time.monotonic()
            text = str(error) or repr(error)
            log.warning("%s Trying again; nothing is acknowledged meanwhile.", text, extra={"server": server})
        return self._backoff.pause_s(failures)

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[Callable[[], None]]:
        """For one call: what to call when it has failed and waits, until it is over."""
        token, began = object(), time.monotonic()

        def waits() -> None:
            with self._lock:
                self._away_since[token] = began

        try:
            yield waits
        finally:
            with self._lock:
                self._away_since.pop(token, None)

    def _wait(self, change: int) -> None:
        with self._lock:
            self.waiting += change


class _Retried:
    """A client whose methods are called through `Retry.call`."""

    def __init__(self, retry: Retry, server: str, client: Any) -> None:
        self._retry = retry
        self._server = server
        self._client = client

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if name == "close" or not callable(found):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            return self._retry.call(self._server, lambda: found(*arguments, **options))

        self.__dict__[name] = call
        return call
