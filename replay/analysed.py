"""Which events may be analysed: of who allows it, and was not forgotten.

Before: events as they were read, all of the log or the newest. After: reports that tell of many people, and the page.
"""

from __future__ import annotations

from headwater.consent import Said, Word, allowed, next_word
from headwater.privacy import FORGET
from headwater.privacy.facts import erased_users
from headwater.settings import Settings
from headwater.wire import EventRow
from streams.features.fold import PLACES, Limits, is_gone

__all__ = ["Analysable"]


class Analysable:
    """Is asked of the events of each partition in their order.

    Parameters
        settings: Kafka, and what nobody said of consent means.
        since_ms: only what happened since, epoch ms.
        words: what was said of consent before the first event.

    Attributes
        withheld: events of who may not be analysed, as far as it was asked.
    """

    def __init__(self, settings: Settings, since_ms: int = 0, words: dict[str, Word] | None = None) -> None:
        self._unsaid, self._erased = Limits.of(settings).unsaid, erased_users(settings)
        self._since_ms, self._words = since_ms, words or {}
        self.withheld = 0

    def has(self, row: EventRow, partition: int) -> bool:
        """Whether this event is one of them."""
        if self._erased and is_gone(self._erased.get(row.user_id), row, partition):
            return False
        if row.type in PLACES:
            self._go_by(row)
            return False
        if row.time_ms < self._since_ms:
            return False
        word = self._words.get(row.user_id)
        may = allowed(word and word.said, row.consent, self._unsaid).analyse
        self.withheld += not may
        return may

    def _go_by(self, row: EventRow) -> None:
        """What the log says there of a user, as the fold goes by it."""
        if row.type == FORGET:
            self._words.pop(row.user_id, None)
        elif word := next_word(self._words.get(row.user_id), row.consent or Said(), row.time_ms):
            self._words[row.user_id] = word
