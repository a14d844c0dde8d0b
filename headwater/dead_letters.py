"""What was refused of a topic, as `dead-letters` tells now: where the records are, and why."""

from __future__ import annotations

from collections.abc import Iterator

from headwater.kafka import BoundedReader
from headwater.settings import KafkaSettings
from headwater.topics import DEAD_LETTERS, Topic, topic_name
from headwater.wire import LetterSource, read_letter

__all__ = ["read_letters"]


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
