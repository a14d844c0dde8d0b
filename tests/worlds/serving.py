"""A world for tests of the serving worker: a catalogue, features and a small model, put where the other workers would.

The other workers' parts are played by their own code: the learner publishes, the feature store is written by its own
`apply`. Answers are read from the topic as any app would.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from headwater.events import Item, new_id
from headwater.examples import CatalogueEntry, Entry, EventPosition, Example
from headwater.kafka import consumer, producer
from headwater.recommendations import Recommendation, Request
from headwater.settings import Settings
from headwater.topics import EVENTS, ITEMS, MODEL, MODEL_DELTAS, RECOMMENDATIONS, REQUESTS, topic_name
from headwater.wire import decode_recommendation, encode
from models.config import ModelConfig
from models.learner import Learner
from models.published.announcement import Announcement, DeltaHeaders
from models.published.bundle import Bundle
from models.published.delta import encode_delta
from models.published.stores.folder import write_bundle
from streams.features.decay import Decay, ItemStatistics
from streams.features.state import UserState
from streams.features.store import Batch, FeatureStore
from tests.worlds.processes import eventually

SMALL = ModelConfig(width=8, length=30, initial_capacity=16, block=8, replay_windows=2)
FILMS = [f"film-{number}" for number in range(12)]

CATALOGUE = [
    Item(
        item_id=film,
        title=film.title(),
        categories=("odd" if number % 2 else "even",),
        attributes={"year": 1990 + number},
    )
    for number, film in enumerate(FILMS)
]


def clicked(*films: str) -> list[Entry]:
    return [Entry(film, "click", 2_000_000_000 + place, None) for place, film in enumerate(films)]


def catalogue_entry(item: Item) -> CatalogueEntry:
    return CatalogueEntry(item.item_id, item.model_dump(mode="json", exclude_none=True))


def trained(films: Sequence[str] = FILMS, rounds: int = 4, config: ModelConfig = SMALL) -> Learner:
    """A learner that has seen users walk through the films in their order."""
    learner = Learner(config, seed=1)
    for number in range(rounds):
        walk(learner, f"walker-{number}", films, first=number * 1000)
    return learner


def walk(learner: Learner, user: str, films: Sequence[str], first: int) -> None:
    """One user clicks the films one after another."""
    entries = [Entry(film, "click", 1_000_000 + 1000 * (first + place), None) for place, film in enumerate(films)]
    places = [EventPosition(first + place, 0) for place in range(len(entries))]
    learner.learn([Example(user, entries[:i], entries[i], 0, place) for i, place in enumerate(places)])


class World:
    """Producer, consumer and store of one test."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.producer = producer(settings.kafka, linger_ms=0)
        self.store = FeatureStore(settings.redis, settings.kafka.prefix)
        self.answers: list[Recommendation] = []
        self.headers: list[dict[str, bytes]] = []
        self.partitions: list[int] = []
        self._consumer = consumer(settings.kafka)
        topic = self.topic(RECOMMENDATIONS)
        from kafka import TopicPartition

        partitions = [TopicPartition(topic, number) for number in self._consumer.partitions_for_topic(topic)]
        self._consumer.assign(partitions)
        self._consumer.seek_to_beginning(*partitions)
        self._mark = 0

    def topic(self, topic: Any) -> str:
        return topic_name(topic, self.settings.kafka.prefix)

    def send(self, topic: Any, value: bytes | None, key: bytes | None = None, headers: Any = ()) -> Any:
        return self.producer.send(self.topic(topic), value, key=key, headers=list(headers)).get(10)

    def put_items(self, items: Sequence[Item]) -> None:
        for item in items:
            self.producer.send(self.topic(ITEMS), encode(item), key=item.item_id.encode())
        self.producer.flush()

    def put_history(self, user: str, entries: Sequence[Entry]) -> int:
        """A user's features, as the streams worker writes them; the offset of the mark."""
        now_ms = time.time_ns() // 1_000_000
        state = UserState(list(entries), [], len(entries), 0, self._mark, now_ms)
        slot, reading = self.store.slots.of(user), self.store.read_users([user])
        before, found, last = reading.states[user], reading.slots[slot].own.get(0), self.store.marks().get(0)
        self._mark = 0 if last is None else last + 1
        counts: dict[str, ItemStatistics] = {}
        for entry in entries:
            counts[entry.item_id] = ItemStatistics({entry.type: 1}, 0.0, positive=1)
        decay = self.store.read_users([]).decay or Decay(now_ms, 1e9)
        marks = {slot: {0: (found, self._mark)}}
        verdict = self.store.apply(Batch(marks, decay, {user: before}, {user: state}, {slot: counts}))
        assert verdict == "applied", verdict
        assert self.store.record(EVENTS, {0: (last, self._mark)}, {slot: {0: self._mark}})
        return self._mark

    def announce(self, bundle: Bundle, *, corrupt: str | None = None) -> None:
        """Write a bundle and point `live` to it, as the trainer does; `corrupt` names a file to damage in between."""
        folder = self.settings.serving.bundles
        assert isinstance(folder, Path)
        path = write_bundle(folder, bundle)
        if corrupt is not None:
            victim = next(one for one in path.iterdir() if corrupt in one.name)
            content = bytearray(victim.read_bytes())
            content[len(content) // 2] ^= 0xFF
            victim.write_bytes(bytes(content))
        said = Announcement(
            version=bundle.version, digest=bundle.digest, bundle=path.name, parent=bundle.parent, delta_offset=0,
            published_time=time.time_ns() // 1_000_000, examples_offset=0, metrics={},
        )  # fmt: skip
        self.send(MODEL, said.encode(), b"live")

    def publish_delta(self, delta: Any) -> None:
        parts = encode_delta(delta)
        for part, value in enumerate(parts):
            now_ms = time.time_ns() // 1_000_000
            headers = DeltaHeaders(delta.version, delta.parent_version, len(parts), now_ms, part)
            self.send(MODEL_DELTAS, value, str(delta.version).encode(), headers.encode())

    def ask(self, user: str | None = "ann", headers: Any = (), **fields: Any) -> str:
        """Send a request as plain JSON; its id."""
        body = {"request_id": new_id(), **({} if user is None else {"user_id": user}), **fields}
        key = (user or fields.get("session_id") or body["request_id"]).encode()
        self.producer.send(self.topic(REQUESTS), orjson.dumps(body), key=key, headers=list(headers))
        return str(body["request_id"])

    def recommend(self, user: str = "ann", **fields: Any) -> Recommendation:
        return self.answer(self.ask(user, **fields))

    def answer(self, request_id: str, timeout_s: float = 60.0) -> Recommendation:
        """The first answer to a request."""

        def find() -> Recommendation | None:
            self.poll()
            return next((answer for answer in self.answers if answer.request_id == request_id), None)

        found: Recommendation = eventually(find, timeout_s, f"an answer to {request_id}")
        return found

    def poll(self) -> None:
        for records in self._consumer.poll(timeout_ms=20).values():
            for record in records:
                self.answers.append(decode_recommendation(record.value))
                self.headers.append(dict(record.headers))
                self.partitions.append(record.partition)

    def close(self) -> None:
        self.producer.close()
        self._consumer.close()
        self.store.close()


def items_of(answer: Recommendation) -> list[str]:
    assert answer.error is None, answer.error
    return [item.item_id for item in answer.items]


def request(**fields: Any) -> Request:
    return Request(**{"user_id": "ann", **fields})


def put_trained_model(world: World) -> None:
    """A model of the films' order, and Ann, who has seen two of them."""
    learner = trained()
    for item in CATALOGUE:
        learner.observe_item(catalogue_entry(item))
    world.announce(learner.publish(created_ms=1, extra={"counted_time": 3, "learned_time": 2}))
    world.put_history("ann", clicked("film-2", "film-3"))
