"""What was refused for its time stays refused: a clock decided once, and dead-letters is where that is written down.

Before: `streams.rounds` reads records that came before it began to read, which somebody may have judged: a worker that
has died since, or this one, before the store forgot. After: the same events are folded as were then. Without it an
event from five minutes ahead would be a dead letter today, and in the features after tomorrow's FLUSHALL.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from headwater.kafka import BoundedReader
from headwater.settings import Settings
from headwater.topics import DEAD_LETTERS, EVENTS, topic_name
from headwater.wire import read_letter
from streams.audit import BY_THE_CLOCK, Place
from streams.features.fold import Ghost
from streams.features.state import UserState
from streams.features.store import StoreStanding

__all__ = ["LogReading", "refused_since"]

WRONG_CLOCK_MS = 7_200_000
"""By how much the clock of a worker that refused may have been late."""


class LogReading(NamedTuple):
    """What a round may have to read from the log: states of users whose key is damaged, what had been refused, and what
    users had done whom the log forgets further on.
    """

    rebuilt: Callable[[Mapping[str, Mapping[int, int]]], dict[str, UserState]]
    refused: Callable[[int], Mapping[Place, str]]
    ghosts: Callable[[StoreStanding], dict[str, Ghost]]


def refused_since(settings: Settings, since_ms: int) -> dict[Place, str]:
    """Events that have been refused by somebody's clock.

    Parameters
        since_ms: when the oldest of these events was written, epoch ms. A letter is younger, by a right clock.

    Returns
        (partition, offset, place) -> reason.

    Raises
        Unavailable: Kafka or the topic is not there.
    """
    source = topic_name(EVENTS, settings.kafka.prefix)
    found: dict[Place, str] = {}
    with BoundedReader(settings.kafka, DEAD_LETTERS) as reader:
        for span in reader.spans(first_ms=max(0, since_ms - WRONG_CLOCK_MS)):
            for record in reader.records(span):
                letter = read_letter(record.headers)
                if letter is not None and letter.topic == source and letter.reason in BY_THE_CLOCK:
                    found[(letter.partition, letter.offset, letter.place)] = letter.reason
    return found
