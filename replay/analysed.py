"""The log of events as an analyst may read it: of who may be analysed, and was not forgotten.

Before: the topic `events`, and the words of people on their consent. After: reports that tell of many people, and the
page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from headwater.consent import Said, Word, allowed, next_word
from headwater.errors import InvalidMessage
from headwater.kafka import read_partitions
from headwater.privacy import FORGET
from headwater.settings import Settings
from headwater.topics import EVENTS
from headwater.wire import EventRow
from streams.audit import read_as_folded, refused_places
from streams.consenting import lost_words
from streams.erasing import erased_users
from streams.features.fold import PLACES, Limits, is_gone

__all__ = ["Analysed"]

AT_ONCE = 1000
"""Records between two calls of `progress`."""


class Analysed:
    """Reads the log once, each partition in its order.

    Parameters
        settings: Kafka, and what nobody said of consent means.
        since_ms: only what happened since, epoch ms.
        progress: told now and then how many records were read.
        records: of `events`, those of a partition in their order; else all. Of those alone what was said of consent
            before is not known.

    Attributes
        withheld: events of who may not be analysed, as far as was read.
    """

    def __init__(
        self,
        settings: Settings,
        since_ms: int,
        progress: Callable[[int], None],
        records: Iterable[Any] | None = None,
    ) -> None:
        self._settings, self._since_ms, self._progress = settings, since_ms, progress
        self._records = _all_of(settings) if records is None else records
        self.withheld = 0

    def rows(self) -> Iterator[EventRow]:
        """Raises Unavailable: a server is away."""
        settings = self._settings
        limits, dead, erased = Limits.of(settings), refused_places(settings), erased_users(settings)
        words = {user: one.word for user, one in lost_words(settings, {}).items()}  # the log tells those that follow
        for number, record in enumerate(self._records, 1):
            if number % AT_ONCE == 0:
                self._progress(number)
            for row in read_as_folded(record, dead, limits.meanings):
                if isinstance(row, InvalidMessage):
                    continue
                if erased and is_gone(erased.get(row.user_id), row, record.partition):
                    continue
                if row.type in PLACES:
                    _go_by(words, row)
                    continue
                if row.time_ms < self._since_ms:
                    continue
                word = words.get(row.user_id)
                if allowed(word and word.said, row.consent, limits.unsaid).analyse:
                    yield row
                else:
                    self.withheld += 1


def _all_of(settings: Settings) -> Iterator[Any]:
    for _, records in read_partitions(settings.kafka, EVENTS):
        yield from records


def _go_by(words: dict[str, Word], row: EventRow) -> None:
    """What the log says there of a user, as the fold goes by it."""
    if row.type == FORGET:
        words.pop(row.user_id, None)
    elif word := next_word(words.get(row.user_id), row.consent or Said(), row.time_ms):
        words[row.user_id] = word
