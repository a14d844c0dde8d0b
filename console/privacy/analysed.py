"""The log of events as an analyst may read it.

Before: the topic `events`, and the words of people on their consent. After: reports that tell of many people.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from headwater.errors import InvalidMessage
from headwater.kafka import read_partitions
from headwater.settings import Settings
from headwater.topics import EVENTS
from headwater.wire import EventRow
from replay.analysed import Analysable
from streams.audit import read_as_folded, refused_places
from streams.consenting import lost_words
from streams.features.fold import Limits

__all__ = ["Analysed"]

AT_ONCE = 1000
"""Records between two calls of `progress`."""


class Analysed:
    """Reads the log once, each partition in its order.

    Parameters
        settings: Kafka, and what nobody said of consent means.
        since_ms: only what happened since, epoch ms.
        progress: told now and then how many records were read.

    Raises
        Unavailable: a server is away.
    """

    def __init__(self, settings: Settings, since_ms: int, progress: Callable[[int], None]) -> None:
        self._settings, self._progress = settings, progress
        words = {user: one.word for user, one in lost_words(settings, {}).items()}  # the log tells those that follow
        self._analysable = Analysable(settings, since_ms, words)

    @property
    def withheld(self) -> int:
        """Events of who may not be analysed, as far as was read."""
        return self._analysable.withheld

    def rows(self) -> Iterator[EventRow]:
        """Raises Unavailable."""
        settings, records_read = self._settings, 0
        dead, meanings = refused_places(settings), Limits.of(settings).meanings
        for span, records in read_partitions(settings.kafka, EVENTS):
            for record in records:
                records_read += 1
                if records_read % AT_ONCE == 0:
                    self._progress(records_read)
                for row in read_as_folded(record, dead, meanings):
                    if not isinstance(row, InvalidMessage) and self._analysable.has(row, span.partition):
                        yield row
