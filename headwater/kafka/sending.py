"""Records that verbs write, each acknowledged: a few, one after the other, or many of a topic that is made again."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Any

from headwater.errors import Unavailable
from headwater.kafka.connections import producer
from headwater.settings import KafkaSettings
from headwater.topics import Topic, topic_name

__all__ = ["ManyRecords", "send_records"]

SENT_WITHIN_S = 30.0
MOST_UNSENT = 10_000
"""Records that Kafka has not acknowledged yet."""


def send_records(kafka: KafkaSettings, topic: Topic, records: Iterable[tuple[bytes | None, bytes | None]]) -> None:
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


class ManyRecords:
    """Records sent as they were read, to where they were. To be closed.

    Fields
        taken: by the topic's name in the table, how many Kafka has acknowledged.
    """

    def __init__(self, kafka: KafkaSettings) -> None:
        self.taken: Counter[str] = Counter()
        self._prefix = kafka.prefix
        self._client = producer(kafka)
        self._sent: deque[tuple[str, Any]] = deque()

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]],
        partition: int,
        timestamp_ms: int,
    ) -> None:
        """Send one, into its partition where the topic has it. Raises Unavailable when one before is not taken."""
        from kafka.errors import KafkaError

        name = topic_name(topic, self._prefix)
        try:
            at = partition if partition in (self._client.partitions_for(name) or {0}) else None
            self._sent.append((topic, self._client.send(name, value, key, list(headers), at, timestamp_ms)))
        except KafkaError as error:
            raise self._refused(topic, error) from error
        if len(self._sent) > MOST_UNSENT:
            self._settle()

    def _settle(self) -> None:
        """Wait for the oldest that was sent."""
        from kafka.errors import KafkaError

        topic, future = self._sent.popleft()
        try:
            future.get(timeout=SENT_WITHIN_S)
        except KafkaError as error:
            raise self._refused(topic, error) from error
        self.taken[topic] += 1

    def _refused(self, topic: str, error: Exception) -> Unavailable:
        name = topic_name(topic, self._prefix)
        return Unavailable(f"{name} does not take a record ({error!r}): see why, and do the same again")

    def finish(self) -> None:
        """Wait until Kafka has all. Raises Unavailable when it does not take one."""
        self._client.flush()
        while self._sent:
            self._settle()

    def close(self) -> None:
        """Leave Kafka."""
        self._client.close(timeout=5)
