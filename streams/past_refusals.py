"""What was refused for its time stays refused: a clock decided once, and dead-letters is where that is written down.

Before: `streams.rounds`, or the agent of identities, reads records that came before it began to read, which somebody
may have judged: a worker that has died since, or this one, before the store forgot. After: the same are taken in as
were then. Without it an event from five minutes ahead would be a dead letter today, and in the features after
tomorrow's FLUSHALL.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from headwater.dead_letters import read_letters
from headwater.errors import InvalidMessage
from headwater.events import now_ms
from headwater.process import Retry
from headwater.settings import Settings
from headwater.topics import Topic
from streams.audit import BY_THE_CLOCK, Place
from streams.features.fold import Ghost
from streams.features.state import UserState
from streams.features.store import StoreStanding

__all__ = ["LogReading", "PastRefusals"]

WRONG_CLOCK_MS = 7_200_000
"""By how much the clock of a worker that refused may have been late."""


class PastRefusals:
    """Of one topic, and of one reading of it: what somebody's clock has refused of records from before that began."""

    def __init__(self, settings: Settings, topic: Topic, retry: Retry) -> None:
        self._settings, self._topic, self._retry = settings, topic, retry
        self.begin()

    def begin(self) -> None:
        """Reading begins, or begins again: others may have judged what comes."""
        self._since_ms = now_ms()  # from where on it is known what was refused
        self.known: Mapping[Place, str] | None = None
        """None until somebody had to look."""

    async def look_back(self, messages: Sequence[Any]) -> None:
        """Before records that are older than this reading, and than those before them, for partitions begin at times of
        their own: read what `of` tells. Waits for Kafka.
        """
        oldest_ms = min((message.timestamp for message in messages), default=self._since_ms)
        if oldest_ms < self._since_ms:
            read = partial(asyncio.to_thread, _refused_since, self._settings, self._topic, oldest_ms)
            self.known = await self._retry.call_async("kafka", read)
            self._since_ms = oldest_ms

    def of(self, message: Any, place: int = 0) -> InvalidMessage | None:
        """That what lies at this place of a record was refused, if it was."""
        why = self.known and self.known.get((message.partition, message.offset, place))
        if not why:
            return None
        at = f"{self._topic.name}[{message.partition}]@{message.offset}"
        return InvalidMessage(why, f"{at}: was refused before")


class LogReading(NamedTuple):
    """What a round may have to read from the log: states of users whose key is damaged, what had been refused, and what
    users had done whom the log forgets further on.
    """

    rebuilt: Callable[[Mapping[str, Mapping[int, int]]], dict[str, UserState]]
    refused: PastRefusals
    ghosts: Callable[[StoreStanding], dict[str, Ghost]]


def _refused_since(settings: Settings, topic: Topic, since_ms: int) -> dict[Place, str]:
    """What has been refused of a topic by somebody's clock.

    Parameters
        topic: which.
        since_ms: when the oldest of these records was written, epoch ms. A letter is younger, by a right clock.

    Returns
        (partition, offset, place) -> reason.

    Raises
        Unavailable: Kafka or the topic is not there.
    """
    letters = read_letters(settings.kafka, topic, since_ms=max(0, since_ms - WRONG_CLOCK_MS))
    return {(one.partition, one.offset, one.place): one.reason for one in letters if one.reason in BY_THE_CLOCK}
