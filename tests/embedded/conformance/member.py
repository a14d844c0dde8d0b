"""A group member in a process of its own, so that a test can kill it: prints a line for each assignment.

A static member is one of confluent-kafka: kafka-python's leader may join twice at first, and its poll has hung for good
where many processes wanted the processor.

python -m tests.embedded.conformance.member kafka-python|aiokafka|confluent-kafka ADDRESS TOPIC GROUP [INSTANCE]
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Collection
from typing import Any

SESSION_MS, HEARTBEAT_MS = 2000, 300
STATIC_SESSION_MS = 10_000  # a static member has this long to come back


def say(partitions: Collection[Any]) -> None:
    print("assigned", *sorted(tp.partition for tp in partitions), flush=True)


def known(consumer: Any, topic: str) -> None:
    """Wait until a kafka-python consumer knows a topic: one that joins before shares out nothing, and stays so."""
    while not consumer.partitions_for_topic(topic):
        time.sleep(0.02)


def run_kafka_python(address: str, topic: str, group: str) -> None:
    import kafka

    class KafkaPythonListener(kafka.ConsumerRebalanceListener):
        def on_partitions_revoked(self, revoked: Collection[Any]) -> None:
            pass

        def on_partitions_assigned(self, assigned: Collection[Any]) -> None:  # noqa: ARG002 - the whole share is what counts
            say(consumer.assignment())

    consumer = kafka.KafkaConsumer(
        bootstrap_servers=address,
        group_id=group,
        session_timeout_ms=SESSION_MS,
        heartbeat_interval_ms=HEARTBEAT_MS,
        max_poll_interval_ms=10_000,
        auto_offset_reset="earliest",
    )
    known(consumer, topic)
    consumer.subscribe([topic], listener=KafkaPythonListener())
    while True:
        consumer.poll(100)


def run_aiokafka(address: str, topic: str, group: str) -> None:
    import aiokafka

    class AiokafkaListener(aiokafka.ConsumerRebalanceListener):
        def on_partitions_revoked(self, revoked: Collection[Any]) -> None:
            pass

        def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
            say(assigned)

    async def run() -> None:
        consumer = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=address,
            group_id=group,
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
            rebalance_timeout_ms=10_000,
            auto_offset_reset="earliest",
        )
        consumer.subscribe([topic], listener=AiokafkaListener())
        await consumer.start()
        while True:
            await consumer.getmany(timeout_ms=100)

    asyncio.run(run())


def run_confluent(address: str, topic: str, group: str, instance: str = "") -> None:
    import confluent_kafka

    settings = {
        "bootstrap.servers": address,
        "group.id": group,
        "session.timeout.ms": STATIC_SESSION_MS if instance else SESSION_MS,
        "heartbeat.interval.ms": HEARTBEAT_MS,
        "max.poll.interval.ms": 10_000,
        "auto.offset.reset": "earliest",
    }
    if instance:
        settings["group.instance.id"] = instance
    consumer = confluent_kafka.Consumer(settings)
    consumer.subscribe([topic], on_assign=lambda _, partitions: say(partitions))
    while True:
        consumer.poll(0.1)


RUN: dict[str, Callable[..., None]] = {
    "kafka-python": run_kafka_python,
    "aiokafka": run_aiokafka,
    "confluent-kafka": run_confluent,
}

if __name__ == "__main__":
    client, *words = sys.argv[1:]
    RUN[client](*words)
