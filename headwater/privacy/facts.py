"""Who was forgotten in this world, as the topic `erasures` tells now: by digest, for nobody knows the ids."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from headwater.errors import InvalidMessage
from headwater.kafka import read_topic
from headwater.privacy.erasures import ErasureFact, read_erasure
from headwater.settings import KafkaSettings
from headwater.topics import ERASURES, topic_name

__all__ = ["ReadFact", "read_facts"]


class ReadFact(NamedTuple):
    """A fact, and the record that says it: as text, and its partition and offset."""

    fact: ErasureFact
    at: str
    place: tuple[int, int]


def read_facts(kafka: KafkaSettings) -> Iterator[ReadFact]:
    """All facts that the topic holds, whoever wrote them; `streams.erasing` says which of them count.

    Raises
        Unavailable: Kafka or the topic is not there.
    """
    name = topic_name(ERASURES, kafka.prefix)
    for record in read_topic(kafka, ERASURES):
        at = f"{name}[{record.partition}]@{record.offset}"
        try:
            said = read_erasure(record.key, record.value, at)
        except InvalidMessage:
            continue  # the streams worker makes it a dead letter
        if isinstance(said, ErasureFact):
            yield ReadFact(said, at, (record.partition, record.offset))
