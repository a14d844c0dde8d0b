"""Simulated visitors: people whose events pass just now ask for their lists, about ten times a second.

Measures what a visitor would: milliseconds from asking to having the list.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass

from console.demonstration.feed import Feed
from headwater.client import Client
from headwater.errors import HeadwaterError
from headwater.recommendations import Recommendation

__all__ = ["ListSeen", "Visitors", "percentile"]

REQUESTS_PER_S = 10.0
DEADLINE_S = 10.0


@dataclass(frozen=True)
class ListSeen:
    """A list that a visitor got, and the item of the visitor's newest event when asking."""

    user: str
    item: str
    answer: Recommendation


class Visitors:
    """Sends requests in its own thread. `latest` are the newest lists shown, newest last; `lists` counts them all."""

    def __init__(self, client: Client, feed: Feed, seed: int = 7) -> None:
        self.sent = 0
        self.answered = 0
        self.lists = 0
        self.failures: list[str] = []
        self.latencies_ms: list[float] = []
        self.latest: deque[ListSeen] = deque(maxlen=20)
        self._client = client
        self._feed = feed
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._outstanding: set[Future[Recommendation]] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="visitors", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more, and wait for the answers that are outstanding, each until its deadline."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        deadline = time.monotonic() + DEADLINE_S + 1
        while self._outstanding and time.monotonic() < deadline:
            time.sleep(0.02)

    def latency_ms(self, q: float, newest: int | None = None) -> float | None:
        """Quantile of the milliseconds from request to reply, of all or of the newest ones."""
        with self._lock:
            found = self.latencies_ms[-newest:] if newest else list(self.latencies_ms)
        return percentile(found, q)

    def _run(self) -> None:
        while not self._stopping.wait(1 / REQUESTS_PER_S):
            recent = list(self._feed.recent)
            if recent:
                self._ask(*self._random.choice(recent))

    def _ask(self, user: str, item: str) -> None:
        started = time.perf_counter()
        self.sent += 1
        try:
            future = self._client.recommend_async(user, k=10, deadline_s=DEADLINE_S)
        except HeadwaterError as error:
            self._failed(error)
            return
        self._outstanding.add(future)
        future.add_done_callback(lambda done: self._answered(done, started, user, item))

    def _answered(self, done: Future[Recommendation], started: float, user: str, item: str) -> None:
        ms = (time.perf_counter() - started) * 1000
        error = done.exception()
        if error is not None:
            self._failed(error)
        else:
            with self._lock:
                self.answered += 1
                self.lists += bool(done.result().items)
                self.latencies_ms.append(ms)
                self.latest.append(ListSeen(user, item, done.result()))
        self._outstanding.discard(done)

    def _failed(self, error: BaseException) -> None:
        with self._lock:
            self.failures.append(f"{type(error).__name__}: {error}")


def percentile(values: list[float], q: float) -> float | None:
    """The nearest-rank q-quantile, or None of nothing.

    >>> percentile([3.0, 1.0, 2.0], 0.5), percentile([], 0.5)
    (2.0, None)
    """
    if not values:
        return None
    return sorted(values)[min(len(values) - 1, int(q * len(values)))]
