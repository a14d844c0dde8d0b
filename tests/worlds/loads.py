"""Load for tests that break things: events, packed and single, requests, and items that come and go, with a plain Kafka
producer.

What was acknowledged is remembered, and only that has to be found again; what was not (the broker was away) is sent
again with the same event id, as a careful app does.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from kafka import KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from headwater.client.lanes import partition_of
from headwater.events import Event, Item, now_ms
from headwater.kafka import consumer, producer
from headwater.recommendations import Request
from headwater.settings import Settings
from headwater.topics import EVENTS, ITEMS, RECOMMENDATIONS, REQUESTS, Topic, topic_name
from headwater.wire import decode_recommendation, encode, encode_packed

USERS, CATALOGUE = 60, 50
ROUND_S = 0.1
PACKED = 8


class Load(threading.Thread):
    """Every round: one packed record of events and two single events, one request, and one item that is taken down or
    comes back. Stop it with `finish`.
    """

    def __init__(self, settings: Settings, seed: int = 0) -> None:
        super().__init__(name="load", daemon=True)
        self._settings = settings
        self._chance = random.Random(seed)
        self._done = threading.Event()
        self._failure: BaseException | None = None
        self.events: set[str] = set()
        self.requests: set[str] = set()
        kafka = settings.kafka
        self._producer: KafkaProducer = producer(kafka, delivery_timeout_ms=60_000, max_block_ms=60_000)
        self._partitions = len(self._producer.partitions_for(topic_name(EVENTS, kafka.prefix)))
        self._clock = now_ms()
        for i in range(CATALOGUE):
            self._send(ITEMS, encode(_item(i)), f"i{i}", 0).get(timeout=60)

    def _send(self, topic: Topic, value: bytes | None, key: str | None, partition: int) -> Any:
        name = topic_name(topic, self._settings.kafka.prefix)
        return self._producer.send(name, value, None if key is None else key.encode(), partition=partition)

    def _partition(self, user: str) -> int:
        return partition_of(user, self._partitions)

    def _event(self, user: int) -> Event:
        self._clock += 1
        item = self._chance.randrange(CATALOGUE)
        kind = self._chance.choice(("view", "click", "purchase"))
        return Event(user_id=f"u{user}", item_id=f"i{item}", type=kind, event_time=self._clock)

    def run(self) -> None:
        try:
            while not self._done.wait(ROUND_S):
                self._round()
        except (KafkaError, OSError) as error:
            self._failure = error

    def _round(self) -> None:
        partition = self._chance.randrange(self._partitions)
        ours = [user for user in range(USERS) if self._partition(f"u{user}") == partition]
        packed = [self._event(self._chance.choice(ours)) for _ in range(PACKED)]
        lone = [self._event(self._chance.randrange(USERS)) for _ in range(2)]
        sent = [self._send(EVENTS, encode_packed(packed), None, partition)]
        sent += [self._send(EVENTS, encode(event), event.user_id, self._partition(event.user_id)) for event in lone]
        request = Request(user_id=f"u{self._chance.randrange(USERS)}", k=5)
        sent.append(self._send(REQUESTS, encode(request), request.user_id, self._partition(request.user_id)))
        changed = self._chance.randrange(CATALOGUE)
        ways = (None, _item(changed), _item(changed, available=False), _item(changed, expires_time=now_ms() + 300))
        item = self._chance.choice(ways)
        sent.append(self._send(ITEMS, None if item is None else encode(item), f"i{changed}", 0))
        for future in sent:
            future.get(timeout=60)
        self.events |= {event.event_id for event in (*packed, *lone)}
        self.requests.add(request.request_id)

    def finish(self) -> None:
        """Stop, and raise what went wrong."""
        self._done.set()
        self.join(70)
        assert not self.is_alive(), "the load did not end"
        self._producer.close(timeout=10)
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self.join(70)


def _item(number: int, **fields: Any) -> Item:
    return Item(item_id=f"i{number}", title=f"Item {number}", categories=(f"c{number % 5}",), **fields)


class Answers:
    """Which requests were answered so far, read from `recommendations`."""

    def __init__(self, settings: Settings) -> None:
        name = topic_name(RECOMMENDATIONS, settings.kafka.prefix)
        self._consumer = consumer(settings.kafka)
        numbers: Sequence[int] = sorted(self._consumer.partitions_for_topic(name))
        self._consumer.assign([TopicPartition(name, number) for number in numbers])
        self.answered: set[str] = set()
        self.lists: set[str] = set()  # those with a list

    def seen(self) -> set[str]:
        """Distinct request ids answered."""
        for records in self._consumer.poll(timeout_ms=50).values():
            found = {answer.request_id: answer for answer in (decode_recommendation(one.value) for one in records)}
            self.answered |= found.keys()
            self.lists |= {request_id for request_id, answer in found.items() if answer.items}
        return self.answered

    def close(self) -> None:
        self._consumer.close()
