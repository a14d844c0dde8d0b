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

    Attributes
        withheld: events of who may not be analysed, as far as was read.
    """

    def __init__(self, settings: Settings, since_ms: int, progress: Callable[[int], None]) -> None:
        self._settings, self._since_ms, self._progress = settings, since_ms, progress
        self.withheld = 0

    def rows(self) -> Iterator[EventRow]:
        """Raises Unavailable: a server is away."""
        settings = self._settings
        dead, meanings = refused_places(settings), Limits.of(settings).meanings
        words = {user: one.word for user, one in lost_words(settings, {}).items()}  # the log tells those that follow
        analysable = Analysable(settings, self._since_ms, words)
        records_read = 0
        for span, records in read_partitions(settings.kafka, EVENTS):
            for record in records:
                records_read += 1
                if records_read % AT_ONCE == 0:
                    self._progress(records_read)
                for row in read_as_folded(record, dead, meanings):
                    if not isinstance(row, InvalidMessage) and analysable.has(row, span.partition):
                        yield row
                self.withheld = analysable.withheld
