"""A few records written to one topic, each acknowledged before the next: for verbs, which write little and for sure."""

from __future__ import annotations

from collections.abc import Iterable

from headwater.errors import Unavailable
from headwater.kafka.connections import producer
from headwater.settings import KafkaSettings
from headwater.topics import Topic, topic_name

__all__ = ["send_records"]

SENT_WITHIN_S = 30.0


def send_records(kafka: KafkaSettings, topic: Topic, records: Iterable[tuple[bytes | None, bytes]]) -> None:
    """Write records, key and value of each; returns when Kafka has them all.

    Raises
        Unavailable: it does not take one; those before it are there.
    """
    from kafka.errors import KafkaError

    name = topic_name(topic, kafka.prefix)
    client = producer(kafka)
    try:
        for key, value in records:
            client.send(name, key=key, value=value).get(timeout=SENT_WITHIN_S)
    except KafkaError as error:
        raise Unavailable(f"{name} does not take a record ({error!r}): check Kafka, and try again") from error
    finally:
        client.close(timeout=5)
