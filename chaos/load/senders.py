"""Ways to write a record to Kafka that are not ours: kafka-python as its manual has it, and librdkafka.

Before: `chaos.load` draws records. After: each acknowledgement goes into the ledger; what failed is sent again.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from typing import Any, Protocol

from chaos.ledger import LoadLedger
from chaos.load.records import Outgoing
from headwater.settings import KafkaSettings

__all__ = ["KafkaPython", "Librdkafka", "Sender", "confluent_kafka_is_here"]

DELIVERED_WITHIN_MS = 60_000
END_S = 90.0


def confluent_kafka_is_here() -> bool:
    """Whether librdkafka's Python package is installed."""
    import importlib.util

    return importlib.util.find_spec("confluent_kafka") is not None


class Sender(Protocol):
    """One producer. Used by one thread."""

    def send(self, record: Outgoing) -> None:
        """Hand over a record; it is sent again until it is acknowledged."""
        ...

    def work(self) -> None:
        """Take acknowledgements, and send what failed again."""
        ...

    def finish(self) -> int:
        """Wait until all is acknowledged; how many are not."""
        ...


class _UnderWay:
    """Acknowledgements and failures on their way from a client's thread, and what is still under way."""

    def __init__(self, ledger: LoadLedger, who: str, kafka: KafkaSettings) -> None:
        self.ledger, self.who, self.prefix = ledger, who, kafka.prefix
        self.failed: deque[Outgoing] = deque()
        self.under_way = 0
        self._lock = threading.Lock()

    def begin(self) -> None:
        with self._lock:
            self.under_way += 1

    def end(self, record: Outgoing, place: tuple[int, int] | None) -> None:
        if place is None:
            self.failed.append(record)
            self.ledger.count("failed sends")
        else:
            self.ledger.acknowledged(record.what, record.topic, place, record.value, self.who, record.request)
        with self._lock:
            self.under_way -= 1


class KafkaPython:
    """A KafkaProducer without anything of ours."""

    def __init__(self, kafka: KafkaSettings, ledger: LoadLedger, who: str) -> None:
        from kafka import KafkaProducer

        self._told = _UnderWay(ledger, who, kafka)
        self._producer: Any = KafkaProducer(
            bootstrap_servers=kafka.bootstrap.split(","),
            acks="all",
            enable_idempotence=False,
            retries=20,
            max_in_flight_requests_per_connection=1,
            request_timeout_ms=8_000,
            delivery_timeout_ms=DELIVERED_WITHIN_MS,
            max_block_ms=20_000,
        )

    def send(self, record: Outgoing) -> None:
        """Raises nothing: what cannot be handed over is tried again."""
        from kafka.errors import KafkaError

        told = self._told
        told.begin()
        try:
            sent = self._producer.send(
                told.prefix + record.topic, record.value, record.key, record.headers, record.partition
            )
        except KafkaError:
            told.end(record, None)
            return
        sent.add_callback(lambda at: told.end(record, (at.partition, at.offset)))
        sent.add_errback(lambda _: told.end(record, None))

    def work(self) -> None:
        """One failed record at a time: each may wait for a broker that is away."""
        if self._told.failed:
            self.send(self._told.failed.popleft())

    def finish(self) -> int:
        """Wait, and close."""
        deadline = time.monotonic() + END_S
        while (self._told.under_way or self._told.failed) and time.monotonic() < deadline:
            self.work()
            with contextlib.suppress(Exception):
                self._producer.flush(timeout=1)
        self._producer.close(timeout=5)
        return self._told.under_way + len(self._told.failed)


class Librdkafka:
    """An idempotent producer of confluent-kafka."""

    def __init__(self, kafka: KafkaSettings, ledger: LoadLedger, who: str) -> None:
        from confluent_kafka import Producer

        self._told = _UnderWay(ledger, who, kafka)
        quiet = logging.getLogger("librdkafka")
        quiet.addHandler(logging.NullHandler())
        quiet.propagate = False
        self._producer: Any = Producer(
            {
                "bootstrap.servers": kafka.bootstrap,
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "message.timeout.ms": DELIVERED_WITHIN_MS,
                "socket.timeout.ms": 10_000,
                "linger.ms": 1,
                "log_level": 0,
            },
            logger=quiet,
        )

    def send(self, record: Outgoing) -> None:
        """Raises nothing: what cannot be handed over is tried again."""
        told = self._told
        told.begin()
        at = {} if record.partition is None else {"partition": record.partition}
        try:
            self._producer.produce(
                told.prefix + record.topic,
                record.value,
                record.key,
                headers=record.headers,
                on_delivery=lambda error, sent: told.end(
                    record, (sent.partition(), sent.offset()) if error is None else None
                ),
                **at,
            )
        except BufferError:
            told.end(record, None)

    def work(self) -> None:
        """Take what has come, and send what failed again."""
        self._producer.poll(0)
        if self._told.failed:
            self.send(self._told.failed.popleft())

    def finish(self) -> int:
        """Wait for what is under way."""
        deadline = time.monotonic() + END_S
        while (self._told.under_way or self._told.failed) and time.monotonic() < deadline:
            self.work()
            self._producer.poll(0.2)
        return self._told.under_way + len(self._told.failed)
