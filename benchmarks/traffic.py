"""The traffic of benchmarks/latency.py: a past to warm up with, events and requests on a schedule, and the watchers.

Synthetic users with taste over a catalogue of ML-100K's size: what is measured is the engine, not the recommendations.
"""

from __future__ import annotations

import json
import random
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import redis
from confluent_kafka import Consumer, Producer, TopicPartition
from kafka.partitioner.default import murmur2

from console.local.supervisor import Supervisor
from headwater.events import Event, Item, now_ms
from headwater.kafka import producer
from headwater.recommendations import Request
from headwater.security import kafka_login
from headwater.settings import KafkaSettings, Settings
from headwater.topics import EVENTS, ITEMS, RECOMMENDATIONS, REQUESTS, topic_name
from headwater.wire import encode, encode_packed
from streams.features.store import FeatureStore

USERS = 900
ITEMS_COUNT = 1700


@dataclass
class Stopwatch:
    """Sent and received times by id, in seconds of the performance counter."""

    sent: dict[str, float] = field(default_factory=dict)
    took: list[tuple[float, float]] = field(default_factory=list)

    def start(self, key: str) -> None:
        self.sent.setdefault(key, time.perf_counter())  # what waits since longer tells how late everything is

    def stop(self, key: str) -> None:
        now = time.perf_counter()
        begun = self.sent.pop(key, None)
        if begun is not None:
            self.took.append((begun, now - begun))

    def milliseconds(self, since: float) -> np.ndarray:
        return np.array([1000 * took for begun, took in self.took if begun >= since])


@dataclass
class Measured:
    """What is being measured."""

    feature: Stopwatch = field(default_factory=Stopwatch)
    event_echo: Stopwatch = field(default_factory=Stopwatch)
    reply: Stopwatch = field(default_factory=Stopwatch)
    request_echo: Stopwatch = field(default_factory=Stopwatch)
    fallbacks: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)


def item_of(rng: random.Random, user: int) -> str:
    """A skewed catalogue with taste: users prefer one of twenty shelves, and the head of it."""
    shelf = user % 20 if rng.random() < 0.7 else rng.randrange(20)
    return f"item-{shelf + 20 * min(int(rng.expovariate(1 / 15)), ITEMS_COUNT // 20 - 1)}"


def watch_features(load: Measured, settings: Settings) -> None:
    """The store tells of each write to a user's state the moment it happens."""
    client = redis.Redis.from_url(settings.redis.url.get_secret_value())
    client.config_set("notify-keyspace-events", "K$")
    head = "__keyspace@0__:"
    with closing(FeatureStore(settings.redis, settings.kafka.prefix, privacy=settings.privacy)) as store:
        names = [f"user-{user}" for user in range(USERS)]
        user_of = {head + store.slots.user(kind, name): name for name in names for kind in "ut"}  # base and tail
    with client.pubsub() as channel:
        channel.psubscribe(f"{head}{settings.kafka.prefix}*")
        while not load.stopping.is_set():
            message = channel.get_message(ignore_subscribe_messages=True, timeout=0.5)
            user = None if message is None else user_of.get(message["channel"].decode())
            if user is not None:
                load.feature.stop(user)


def librdkafka(kafka: KafkaSettings) -> dict[str, Any]:
    """Where Kafka is and how it lets in, as librdkafka names it: it costs the generator less than kafka-python does."""
    login = kafka_login(kafka)
    config = {
        "bootstrap.servers": kafka.bootstrap,
        "security.protocol": kafka.security_protocol,
        "sasl.mechanism": login.mechanism,
        "sasl.username": login.username,
        "sasl.password": login.password,
        "ssl.ca.location": kafka.ssl_cafile,
        "ssl.certificate.location": kafka.ssl_certfile,
        "ssl.key.location": kafka.ssl_keyfile or kafka.ssl_certfile,
    }
    return {name: value for name, value in config.items() if value}


def watch_replies(load: Measured, settings: Settings, echoed: str, ready: threading.Event) -> None:
    kafka = settings.kafka
    reader = Consumer({**librdkafka(kafka), "group.id": f"{kafka.prefix}watch", "enable.auto.commit": False})
    reply = topic_name(RECOMMENDATIONS, kafka.prefix)
    ends = [(name, reader.get_watermark_offsets(TopicPartition(name, 0))[1]) for name in (reply, echoed)]
    reader.assign([TopicPartition(name, 0, end) for name, end in ends])
    ready.set()
    while not load.stopping.is_set():
        record = reader.poll(0.5)
        if record is None:
            continue
        if record.error():
            raise RuntimeError(str(record.error()))
        if record.topic() == echoed:
            key = record.key().decode()
            (load.event_echo if key.startswith("e") else load.request_echo).stop(key[1:])
        else:
            body = json.loads(record.value())
            load.reply.stop(body["request_id"])
            load.fallbacks += "fallback" in body["receipt"]
    reader.close()


def send_load(load: Measured, settings: Settings, echo: str, seconds: float, rates: tuple[int, int]) -> float:
    """Sends on a fixed schedule, late or not (no coordinated omission); the time when it began."""
    kafka = settings.kafka
    writer = Producer(
        {
            **librdkafka(kafka),
            "linger.ms": kafka.linger_ms,
            "enable.idempotence": True,
            "partitioner": "murmur2",
        }
    )
    events, requests = topic_name(EVENTS, kafka.prefix), topic_name(REQUESTS, kafka.prefix)
    prepared = _prepared(seconds, rates)
    begun = time.perf_counter()
    for one in prepared:
        if (wait := begun + one.due_s - time.perf_counter()) > 0:
            time.sleep(wait)
        load.feature.start(one.user_id)
        writer.produce(events, key=one.user_id, value=one.event)
        load.event_echo.start(one.user_id)
        writer.produce(echo, key=f"e{one.user_id}", value=one.event)
        if one.request is not None:
            asked = one.request.request_id
            load.reply.start(asked)
            writer.produce(requests, key=one.request.user_id, value=one.asking, headers=[("reply-partition", b"0")])
            load.request_echo.start(asked)
            writer.produce(echo, key=f"r{asked}", value=one.asking)
        writer.poll(0)
    writer.flush()
    return begun


class _Prepared(NamedTuple):
    """What is sent at a time: an event, and now and then a request."""

    due_s: float  # from the start
    user_id: str
    event: bytes
    request: Request | None
    asking: bytes


def _prepared(seconds: float, rates: tuple[int, int]) -> list[_Prepared]:
    """All that will be sent, made before the clock runs: the generator shares two cores with what it measures."""
    rng, begin_ms = random.Random(1), now_ms()
    event_rate, request_rate = rates
    prepared: list[_Prepared] = []
    asked = 0
    for number in range(int(seconds * event_rate)):
        user, due_s = number % USERS, number / event_rate
        name, at_ms = f"user-{user}", begin_ms + int(1000 * due_s)
        event = encode(Event(user_id=name, item_id=item_of(rng, user), type="view", event_time=at_ms))
        request = None
        if asked * event_rate <= number * request_rate:
            asked += 1
            request = Request(user_id=f"user-{rng.randrange(USERS)}", request_time=at_ms)
        prepared.append(_Prepared(due_s, name, event, request, encode(request) if request else b""))
    return prepared


def warm(settings: Settings, supervisor: Supervisor, count: int) -> None:
    """Publishes a catalogue and a past, and waits until the trainer has learned it."""
    kafka, rng, writer = settings.kafka, random.Random(0), producer(settings.kafka)
    for number in range(ITEMS_COUNT):
        item = Item(item_id=f"item-{number}", title=f"Item {number}", categories=(f"shelf-{number % 20}",))
        writer.send(topic_name(ITEMS, kafka.prefix), key=item.item_id.encode(), value=encode(item))
    past = now_ms() - 3_600_000
    by_partition: dict[int, list[Event]] = {}
    partitions = sorted(writer.partitions_for(topic_name(EVENTS, kafka.prefix)))
    for number in range(count):
        user = rng.randrange(USERS)
        name = f"user-{user}"
        partition = (murmur2(name.encode()) & 0x7FFFFFFF) % len(partitions)
        by_partition.setdefault(partition, []).append(
            Event(user_id=name, item_id=item_of(rng, user), type="view", event_time=past + number)
        )
    for partition, events in by_partition.items():
        for start in range(0, len(events), 100):
            value = encode_packed(events[start : start + 100])
            writer.send(topic_name(EVENTS, kafka.prefix), value=value, partition=partition)
    writer.flush()
    writer.close()
    while supervisor.workers["trainer"].metrics().total("headwater_examples_learned_total") < count:
        time.sleep(0.5)
