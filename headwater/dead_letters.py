"""What was refused of a topic, as `dead-letters` tells now: where the records are, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from headwater.events import now_ms
from headwater.kafka import BoundedReader
from headwater.settings import KafkaSettings, Settings
from headwater.topics import DEAD_LETTERS, Topic, topic_name
from headwater.wire import LetterSource, TimeBounds, read_letter

__all__ = ["LostLetters", "read_letters"]


def read_letters(kafka: KafkaSettings, topic: Topic, *, since_ms: int | None = None) -> Iterator[LetterSource]:
    """All dead letters of one topic, whoever wrote them.

    Parameters
        topic: whose records were refused.
        since_ms: letters that were written before are left out, epoch ms.

    Raises
        Unavailable: Kafka or the topic is not there.
    """
    source = topic_name(topic, kafka.prefix)
    with BoundedReader(kafka, DEAD_LETTERS) as reader:
        for span in reader.spans(first_ms=since_ms):
            for record in reader.records(span):
                letter = read_letter(record.headers)
                if letter is not None and letter.topic == source:
                    yield letter


class LostLetters:
    """Letters that retention has taken. Records of before the oldest that is left are judged by their time again, as
    a worker does that reads them anew: by the clock of today and a day more, so that nothing is refused that was taken.

    Parameters
        settings: Kafka, and which times are taken.

    Raises
        Unavailable: Kafka or the topic is not there.
    """

    def __init__(self, settings: Settings) -> None:
        ahead_ms = settings.streams.max_ahead_s * 1000
        self._times = TimeBounds(settings.streams.oldest_ms, now_ms(), ahead_ms)
        self._since_ms = 0
        with BoundedReader(settings.kafka, DEAD_LETTERS) as reader:
            for span in reader.spans():
                if span.oldest > 0:  # retention has taken some
                    first = next(reader.records(span), None)
                    self._since_ms = max(self._since_ms, self._times.now_ms if first is None else first.timestamp)

    def may_tell_of(self, record: Any) -> bool:
        """Whether a record is so old that its letter, if there was one, may be gone."""
        return bool(record.timestamp < self._since_ms)

    def refuses(self, record: Any, time_ms: int) -> bool:
        """Whether what such a record tells is of a time that nobody takes."""
        return self.may_tell_of(record) and not self._times.oldest_ms <= time_ms <= self._times.latest_word_ms
