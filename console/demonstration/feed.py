"""Replays the events as fast as the pipeline keeps pace: at most a window ahead of what is learned.

The window is what makes the demo's prequential figure mean the same on a slow machine as on a fast one: the model is
never far behind the stream.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from headwater.client import Client
from headwater.events import Event

__all__ = ["Feed"]

WINDOW_EVENTS = 500
"""Most events sent and not yet settled: about half a second of learning."""

CHUNK_EVENTS = 25
TICK_S = 0.01
"""Together at most 2,500 events/s, in small steps: bursts would only measure their own queue."""

LOOK_S = 0.1
"""Time between two looks at how far the trainer is."""

ACKNOWLEDGE_S = 30.0


class Feed:
    """Sends events in its own thread, until all are sent or the monotonic clock shows `until_s`.

    `recent` are the newest (user, item) pairs sent, newest last; `items` counts how often each was.
    """

    def __init__(self, client: Client, events: Iterable[Event], settled: Callable[[], int], until_s: float) -> None:
        self.sent = 0
        self.recent: deque[tuple[str, str]] = deque(maxlen=400)
        self.items: Counter[str] = Counter()
        self.cut_short = False
        self.newest_ms: int | None = None
        self.error: Exception | None = None
        self._client = client
        self._events = events
        self._settled = settled
        self._until_s = until_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether events are still being sent."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End early; returns when nothing is sent any more."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._send_all()
            self._client.flush(ACKNOWLEDGE_S)
        except Exception as error:  # noqa: BLE001 - kept for the main thread, which raises it
            self.error = error

    def _send_all(self) -> None:
        looked = time.monotonic()
        settled = self._settled()
        for chunk in _chunks(self._events, CHUNK_EVENTS):
            while self.sent - settled >= WINDOW_EVENTS or time.monotonic() - looked > LOOK_S:
                settled, looked = self._settled(), time.monotonic()
                if self.sent - settled >= WINDOW_EVENTS and self._stopping.wait(LOOK_S / 4):
                    return
            if time.monotonic() > self._until_s:
                self.cut_short = True
                return
            self._client.track_many(chunk)
            self.sent += len(chunk)
            self.newest_ms = chunk[-1].event_time
            self.items.update(event.item_id for event in chunk)
            self.recent.extend((event.user_id, event.item_id) for event in chunk)
            if self._stopping.wait(TICK_S):
                return


def _chunks(events: Iterable[Event], size: int) -> Iterator[list[Event]]:
    waiting = iter(events)
    while chunk := list(islice(waiting, size)):
        yield chunk
