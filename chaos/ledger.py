"""What a campaign knows to be acknowledged: where each record is, what it holds, and what has to become of it.

Before: the producers of `chaos.load` tell each acknowledgement. After: the promises compare it with the topics. A
record that was not acknowledged may be there or not, and is sent again with the same ids, as a careful app does.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from headwater.recommendations import Recommendation

__all__ = ["EXPECT", "Acknowledged", "GivenList", "LoadLedger", "Promised"]

EXPECT = "chaos-expect"
"""Header of a record that is not all good: a JSON array, `ok` or the reason of the letter, for each event in it."""


class Acknowledged(NamedTuple):
    """One record, or one event in it.

    Fields
        topic: without the prefix.
        holds: bytes that its value holds: all of it, or an id; None of a tombstone.
        who: the producer that sent it.
        at_s: of the monotonic clock.
    """

    topic: str
    partition: int
    offset: int
    holds: bytes | None
    who: str
    at_s: float


class Promised(NamedTuple):
    """What a gateway has said 202 to: its topic holds it.

    Fields
        what: `event`, `link` or `erasure`.
        said: ids of events; both ids of a link; whose erasure it is.
        after: partition -> offset at which it is there at the latest, as far as the answer told.
        began_ms: when it was asked for.
    """

    what: str
    said: tuple[str, ...]
    after: Mapping[str, int]
    began_ms: int


class GivenList(NamedTuple):
    """A list that a gateway gave. `after`: partition -> offset of the events that it was to know of."""

    request: str
    answer: Recommendation
    after: Mapping[str, int]


class LoadLedger:
    """Thread-safe. `counts` says how much of what was acknowledged, sent again, or failed."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.promises: list[Promised] = []
        self.given: list[GivenList] = []
        self.wrong: list[str] = []
        """What no gateway may do, in words."""
        self.refused_ids: set[str] = set()
        """Of events that a gateway has refused for good: nobody may ever read them."""
        self._rows: list[Acknowledged] = []
        self._requests: list[tuple[float, str]] = []
        self._lock = threading.Lock()

    def acknowledged(
        self, what: str, topic: str, place: tuple[int, int], holds: bytes | None, who: str, request: str | None = None
    ) -> None:
        """A broker has acknowledged a record. `request`: the id that it asks by."""
        now = time.monotonic()
        with self._lock:
            self._rows.append(Acknowledged(topic, *place, holds, who, now))
            self.counts[what] += 1
            if request is not None:
                self._requests.append((now, request))

    def count(self, what: str) -> None:
        """Count anything else."""
        with self._lock:
            self.counts[what] += 1

    def promise(self, said: Promised) -> None:
        """A gateway has said 202."""
        with self._lock:
            self.promises.append(said)

    def give(self, given: GivenList) -> None:
        """A gateway has given a list."""
        with self._lock:
            self.given.append(given)

    def broken(self, words: str) -> None:
        """A gateway has done what none may."""
        with self._lock:
            self.wrong.append(words)

    @property
    def rows(self) -> list[Acknowledged]:
        """All of them so far."""
        with self._lock:
            return list(self._rows)

    @property
    def requests(self) -> list[tuple[float, str]]:
        """When each request was acknowledged, and its id."""
        with self._lock:
            return list(self._requests)

    def since(self, topic: str, at_s: float) -> dict[int, int]:
        """Partition -> offset of the first record of a topic that was acknowledged after a time."""
        found: dict[int, int] = {}
        with self._lock:
            for row in reversed(self._rows):
                if row.at_s < at_s:
                    break
                if row.topic == topic:
                    found[row.partition] = row.offset
        return found

    def request_since(self, at_s: float) -> str | None:
        """The first request that was acknowledged after a time."""
        with self._lock:
            return next((request for when, request in self._requests if when >= at_s), None)
