"""What the tests of the streams worker share: producing records, waiting for the fold, reading what came out."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import redis
from kafka import KafkaProducer, TopicPartition

from headwater.client import lanes
from headwater.events import Event
from headwater.kafka import consumer, ensure_topics, producer, read_topic
from headwater.settings import Settings, load_settings
from headwater.topics import CONSENTS, EVENTS, IDENTITIES, Topic, topic_name
from headwater.wire import encode, encode_packed
from streams.audit import AuditResult, audit
from streams.features.store import FeatureStore
from tests.worlds.processes import eventually


@contextmanager
def producing(settings: Settings) -> Iterator[KafkaProducer]:
    client = producer(settings.kafka, linger_ms=0)
    try:
        yield client
    finally:
        client.close()


@contextmanager
def storing(settings: Settings) -> Iterator[FeatureStore]:
    store = FeatureStore(settings.redis, settings.kafka.prefix, privacy=settings.privacy)
    try:
        yield store
    finally:
        store.close()


def asking(settings: Settings) -> Settings:
    """The same world, in which people are asked, and all is granted until they withdraw it."""
    privacy = settings.privacy.model_copy(update={"consent": "opt-out"})
    asked = settings.model_copy(update={"privacy": privacy})
    ensure_topics(asked.kafka, topics=[CONSENTS])
    return asked


@contextmanager
def topicless(redis_url: str, shards: int, **more: Any) -> Iterator[Settings]:
    """Settings of a world that has a store and no topics; its keys are removed at the end."""
    prefix = f"t{uuid.uuid4().hex[:8]}."
    made = load_settings(kafka={"prefix": prefix}, redis={"url": redis_url, "shards": shards}, **more)
    yield made
    with server_of(made) as server:
        server.delete(f"{prefix}shards", *server.scan_iter(f"{prefix}*", count=10_000))


@contextmanager
def server_of(settings: Settings) -> Iterator[Any]:
    """A client of the store's server itself, for what happens to a store and no store does."""
    client = redis.Redis.from_url(settings.redis.url.get_secret_value())
    try:
        yield client
    finally:
        client.close()


def event(n: int, user: str = "ada", **fields: Any) -> Event:
    known: dict[str, Any] = {"event_id": f"{user}-{n}", "item_id": f"film-{n % 7}", "type": "click"}
    return Event(user_id=user, **{**known, "event_time": 1_700_000_000_000 + n * 1000, **fields})


def send(settings: Settings, events: Iterable[Event]) -> None:
    """Each event as a record of its own, keyed by user."""
    with producing(settings) as client:
        for one in events:
            client.send(topic_name(EVENTS, settings.kafka.prefix), key=one.user_id.encode(), value=encode(one))
        client.flush()


def send_packed(settings: Settings, events: list[Event], partition: int) -> None:
    """All events in one record."""
    send_raw(settings, encode_packed(events), key=None, partition=partition)


def send_raw(settings: Settings, value: bytes | None, topic: Topic = EVENTS, **more: Any) -> Any:
    with producing(settings) as client:
        return client.send(topic_name(topic, settings.kafka.prefix), value=value, **more).get(timeout=60)


@contextmanager
def load(settings: Settings, users: int = 40) -> Iterator[Callable[[], int]]:
    """Packed records to every partition, in the background, until the block ends; gives how many events were sent."""
    stop, sent = threading.Event(), [0]

    def produce() -> None:
        with producing(settings) as client:
            name, n = topic_name(EVENTS, settings.kafka.prefix), 0
            while not stop.wait(0.01):
                for partition in range(4):
                    several = [event(n + k, f"user-{partition}-{(n + k) % users}") for k in range(5)]
                    client.send(name, value=encode_packed(several), partition=partition)
                n += 5
            client.flush()
            sent[0] = 4 * n

    thread = threading.Thread(target=produce)
    thread.start()
    try:
        yield lambda: sent[0]
    finally:
        stop.set()
        thread.join()


def partition_of(settings: Settings, user: str) -> int:
    """Where a Kafka client puts this user's events."""
    with producing(settings) as client:
        return lanes.partition_of(user, len(client.partitions_for(topic_name(EVENTS, settings.kafka.prefix))))


def end_marks(settings: Settings, topic: Topic = EVENTS) -> dict[int, int]:
    """Partition -> offset of the last record of a topic, of the partitions that have any."""
    client = consumer(settings.kafka)
    try:
        name = topic_name(topic, settings.kafka.prefix)
        partitions = [TopicPartition(name, number) for number in client.partitions_for_topic(name) or ()]
        return {one.partition: end - 1 for one, end in client.end_offsets(partitions).items() if end}
    finally:
        client.close()


def folded_all(settings: Settings, timeout_s: float = 60) -> AuditResult:
    """Wait until every record is folded, and every link written; the audit of the result."""
    marks, links = end_marks(settings), end_marks(settings, IDENTITIES)
    with storing(settings) as store:
        eventually(lambda: store.marks() == marks, timeout_s, f"marks {marks}")
        eventually(lambda: store.marks_of(IDENTITIES) == links, timeout_s, f"links {links}")
    return audit(settings)


def committed_all(settings: Settings, group: str = "streams", timeout_s: float = 30, *, topic: Topic = EVENTS) -> None:
    """Wait until the group has committed every record of a topic."""
    marks = end_marks(settings, topic)
    name = topic_name(topic, settings.kafka.prefix)
    client = consumer(settings.kafka, group)
    try:

        def is_committed() -> bool:
            return all(client.committed(TopicPartition(name, p)) == mark + 1 for p, mark in marks.items())

        eventually(is_committed, timeout_s, "all committed")
    finally:
        client.close()


def records(settings: Settings, topic: Topic) -> list[Any]:
    """All records of a topic, partition by partition."""
    return list(read_topic(settings.kafka, topic))


def header(record: Any, name: str) -> bytes | None:
    return dict(record.headers).get(name)


def eventually_equal(read: Callable[[], Any], wanted: Any, timeout_s: float = 30) -> None:
    """Wait until `read()` gives `wanted`; the AssertionError shows what it gave last."""
    last: list[Any] = [None]

    def is_equal() -> bool:
        last[0] = read()
        return bool(last[0] == wanted)

    try:
        eventually(is_equal, timeout_s)
    except AssertionError:
        raise AssertionError(f"{last[0]} is not {wanted} within {timeout_s:.0f} s") from None


def dumps(value: Any) -> bytes:
    return orjson.dumps(value)
