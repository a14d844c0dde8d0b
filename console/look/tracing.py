"""Follows one event and one request by reading every topic and key that they pass, as an onlooker would.

Uses no SDK on the way in, so that each record's position is known: what this file sends, any Kafka client can.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from console.look.cluster import must_exist, open_consumer
from console.look.unlearned import why_unlearned
from console.times import weights_age
from headwater import tracing
from headwater.consent import Consent
from headwater.errors import HeadwaterError, InvalidMessage, Unavailable
from headwater.events import Event, new_id, now_ms
from headwater.kafka import producer
from headwater.recommendations import Recommendation, Request
from headwater.settings import Settings
from headwater.topics import (
    DEAD_LETTERS,
    EVENTS,
    EXAMPLES,
    MODEL,
    MODEL_DELTAS,
    RECOMMENDATIONS,
    REQUESTS,
    Topic,
    topic_name,
)
from headwater.wire import cloudevent_headers, decode_recommendation, encode
from models.published.announcement import LIVE
from models.published.signing.records import Announcements, read_delta
from models.published.signing.trust import Trust, trust_of
from streams.features.store import FeatureStore

if TYPE_CHECKING:
    from kafka import KafkaConsumer, KafkaProducer
    from kafka.consumer.fetcher import ConsumerRecord

__all__ = ["Hop", "Trace", "trace"]

WATCHED = (EXAMPLES, MODEL, MODEL_DELTAS, RECOMMENDATIONS, DEAD_LETTERS)


@dataclass(frozen=True)
class Hop:
    """One place on the way; `place` is None when nothing was seen there in time."""

    of: str
    name: str
    place: str | None
    ms: float | None
    text: str = ""
    trace_id: str | None = None
    """Of OpenTelemetry, where the record names one."""


@dataclass
class Trace:
    """All hops of one event and one request."""

    user: str
    item: str
    type: str
    invented: bool = False
    """Whether the user is one that nobody else knows."""
    hops: list[Hop] = field(default_factory=list)
    recommendation: Recommendation | None = None

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        answer = self.recommendation
        return {
            "user": self.user,
            "item": self.item,
            "type": self.type,
            "hops": [asdict(hop) for hop in self.hops],
            "recommendation": None if answer is None else answer.model_dump(mode="json"),
        }


def trace(
    settings: Settings,
    user: str | None,
    item: str | None,
    type: str,
    timeout_s: float,
    workers: Mapping[str, str] | None = None,
) -> Trace:
    """Send an event and a request, and see where they come by.

    Parameters
        settings: where the servers are.
        user, item: None: somebody new, something popular.
        type: of the event.
        timeout_s: longest wait for a hop.
        workers: name -> URL of their /metrics and /readyz, where they are known: asked when no weights come.

    Raises
        Unavailable: a server does not answer.
    """
    store = FeatureStore(settings.redis, settings.kafka.prefix, privacy=settings.privacy)
    try:
        popular = store.popular(1, now_ms())
        chosen = item or (popular[0][0] if popular else "item-1")
        traced = Trace(user or f"trace-{new_id()[:8]}", chosen, type, invented=user is None)
        with open_consumer(settings.kafka) as reader, _open_producer(settings) as writer:
            onlooker = _Onlooker(settings, reader, timeout_s)
            for topic in (EVENTS, REQUESTS):  # so that the first record does not wait for the topic's partitions
                writer.partitions_for(topic_name(topic, settings.kafka.prefix))
            with tracing.joined("follow an event", kind="client"):
                example = _follow_event(traced, settings, store, onlooker, writer)
                if example is not None:
                    traced.hops.append(
                        _weights(onlooker, *example, trust_of(settings), lambda: why_unlearned(settings, workers or {}))
                    )
                _follow_request(traced, settings, onlooker, writer)
        return traced
    finally:
        store.close()


@contextmanager
def _open_producer(settings: Settings) -> Iterator[KafkaProducer]:
    opened = producer(settings.kafka, linger_ms=0)
    try:
        yield opened
    finally:
        opened.close(timeout=5)


class _Onlooker:
    """Reads the watched topics from now on; remembers records until they are asked for."""

    def __init__(self, settings: Settings, reader: KafkaConsumer, timeout_s: float) -> None:
        from kafka import TopicPartition

        self._reader, self._prefix, self._timeout_s = reader, settings.kafka.prefix, timeout_s
        self._seen: list[tuple[float, ConsumerRecord]] = []
        parts = []
        for topic in WATCHED:
            must_exist(settings.kafka, topic)
            name = topic_name(topic, self._prefix)
            parts += [TopicPartition(name, number) for number in reader.partitions_for_topic(name)]
        reader.assign(parts)
        reader.seek_to_end(*parts)
        for part in parts:
            reader.position(part)

    def look(self) -> None:
        """Take in what has come."""
        for batch in self._reader.poll(timeout_ms=2).values():
            at = time.perf_counter()
            self._seen += [(at, record) for record in batch]

    def record(
        self, topic: Topic, wanted: Callable[[ConsumerRecord], bool], timeout_s: float | None = None
    ) -> tuple[float, ConsumerRecord] | None:
        """The first record of a topic that is wanted, and when it was seen; None when none comes in time."""
        return self.first({topic.name: wanted}, timeout_s)

    def first(
        self, wanted: Mapping[str, Callable[[ConsumerRecord], bool]], timeout_s: float | None = None
    ) -> tuple[float, ConsumerRecord] | None:
        """The same of several topics, by their names in the table."""
        named = {self._prefix + name: wants for name, wants in wanted.items()}
        deadline = time.perf_counter() + (self._timeout_s if timeout_s is None else timeout_s)
        while True:
            for at, record in self._seen:
                if record.topic in named and named[record.topic](record):
                    return at, record
            if time.perf_counter() > deadline:
                return None
            self.look()

    def until(self, condition: Callable[[], bool]) -> float | None:
        """When a condition came true; None when it did not in time."""
        deadline = time.perf_counter() + self._timeout_s
        while not condition():
            if time.perf_counter() > deadline:
                return None
            self.look()
        return time.perf_counter()


def _send(writer: KafkaProducer, topic: str, key: str, value: bytes, headers: Any) -> Any:
    from kafka.errors import KafkaError

    try:
        return writer.send(topic, key=key.encode(), value=value, headers=headers).get(10)
    except KafkaError as error:
        raise Unavailable(f"{topic} did not take a record ({error!r})") from error


def _at(record: Any) -> str:
    return f"{record.topic}[{record.partition}]@{record.offset}"


def _follow_event(
    traced: Trace, settings: Settings, store: FeatureStore, onlooker: _Onlooker, writer: KafkaProducer
) -> tuple[float, ConsumerRecord] | None:
    """Up to the record of its example and when the event was sent; None where it does not get there."""
    prefix = settings.kafka.prefix
    asked = settings.privacy.consent != "off" and traced.invented  # of nobody else anything is granted here
    granted = Consent(personalise=True, train=True, analyse=True) if asked else None
    event = Event(user_id=traced.user, item_id=traced.item, type=traced.type, consent=granted)
    before = store.read_users([traced.user], ()).states[traced.user]
    started = time.perf_counter()

    def hop(name: str, place: str | None, at: float | None, text: str = "", headers: Any = ()) -> None:
        ms = None if at is None else (at - started) * 1000
        traced.hops.append(Hop("event", name, place, ms, text, tracing.trace_id(headers)))

    headers = [*cloudevent_headers(event, "headwater-trace"), *tracing.headers()]
    sent = _send(writer, topic_name(EVENTS, prefix), event.user_id, encode(event), headers)
    hop("event", _at(sent), time.perf_counter(), f"acknowledged; event_id {event.event_id}", headers)
    folded = onlooker.until(lambda: store.marks().get(sent.partition, -1) >= sent.offset)
    after = store.read_users([traced.user], ()).states[traced.user]
    if folded is None or after.count == before.count:  # a mark alone can be that of another log
        letter = onlooker.record(DEAD_LETTERS, lambda record: _source(record) == (sent.partition, sent.offset), 1)
        why = dict(letter[1].headers)["error"].decode() if letter else "the streams worker has not folded it"
        if folded is not None and not letter:
            why = f"the store's mark is {store.marks().get(sent.partition)} and the history did not change"
            why += "; `headwater doctor` says whether the store has folded another log"
        hop("feature", None, None, why)
        return None
    hop("feature", f"{prefix}u:{traced.user}", folded, f"history of {len(after.history)} in Redis")

    learnt = "what the trainer learns from; of who has not consented none is written"
    example = onlooker.record(EXAMPLES, lambda record: _holds(record.value, traced.user, sent.partition, sent.offset))
    if example is None:
        hop("example", None, None, learnt)
        return None
    hop("example", _at(example[1]), example[0], learnt, example[1].headers)
    return started, example[1]


def _weights(onlooker: _Onlooker, started: float, example: ConsumerRecord, trust: Trust, why: Callable[[], str]) -> Hop:
    """The first delta after the example, or the bundle that took it: no delta follows with what a bundle had."""
    found = onlooker.first(
        {
            MODEL_DELTAS.name: lambda record: _published_ms(record, trust) > example.timestamp,
            MODEL.name: lambda record: _examples_offset(record, trust) > example.offset,
        }
    )
    if found is None:
        return Hop("event", "weights", None, None, why())
    at, record = found
    version = _header(record, "version") or orjson.loads(record.value)["version"]
    text = f"version {version}, the first published after the example"
    return Hop("event", "weights", _at(record), (at - started) * 1000, text, tracing.trace_id(record.headers))


def _follow_request(traced: Trace, settings: Settings, onlooker: _Onlooker, writer: KafkaProducer) -> None:
    request = Request(user_id=traced.user, k=5, explain=True)
    headers = [("correlation-id", request.request_id.encode()), *tracing.headers()]
    started = time.perf_counter()

    def hop(name: str, place: str | None, at: float | None, text: str = "", headers: Any = ()) -> None:
        ms = None if at is None else (at - started) * 1000
        traced.hops.append(Hop("request", name, place, ms, text, tracing.trace_id(headers)))

    sent = _send(writer, topic_name(REQUESTS, settings.kafka.prefix), traced.user, encode(request), headers)
    hop("request", _at(sent), time.perf_counter(), f"acknowledged; request_id {request.request_id}", headers)
    found = onlooker.record(RECOMMENDATIONS, lambda record: _header(record, "correlation-id") == request.request_id)
    if found is None:
        hop("recommendation", None, None, "the serving worker has not answered")
        return
    at, record = found
    try:
        answer = decode_recommendation(record.value)
    except InvalidMessage as error:
        raise HeadwaterError(f"{_at(record)} is not a recommendation: {error}") from error
    traced.recommendation = answer
    receipt = answer.receipt
    timings = ", ".join(f"{name} {ms:.1f}" for name, ms in receipt.timings_ms.items())
    hop("recommendation", _at(record), at, f"{len(answer.items)} items; inside: {timings} ms", record.headers)
    model = f"version {receipt.model_version}" if receipt.model_version is not None else "none"
    age = f", {weights_age(receipt)}" if receipt.weight_age_ms is not None else ""
    folded = ", ".join(f"[{partition}]@{offset}" for partition, offset in receipt.feature_offsets.items())
    hop("receipt", f"model {model}", at, f"features up to events{folded or ' none'}{age}")


def _header(record: ConsumerRecord, name: str) -> str | None:
    value = dict(record.headers or ()).get(name)
    return None if value is None else value.decode()


def _published_ms(record: ConsumerRecord, trust: Trust) -> int:
    """When a delta was published; 0 for a record that is none of ours."""
    try:
        return read_delta(trust, record.key, record.value, record.headers).published_ms
    except InvalidMessage:
        return 0


def _examples_offset(record: ConsumerRecord, trust: Trust) -> int:
    """Up to which record of `examples` the bundle knows that is made live; 0 for any other record."""
    try:
        _, said = Announcements(trust).read(record.key, record.value, record.headers)
    except InvalidMessage:
        return 0
    return said.examples_offset if said is not None and record.key == LIVE and not said.pinned else 0


def _source(record: ConsumerRecord) -> tuple[int, int]:
    return int(_header(record, "source-partition") or -1), int(_header(record, "source-offset") or -1)


def _holds(value: bytes, user: str, partition: int, offset: int) -> bool:
    """Whether an examples record has the example of the event at that place."""
    body = orjson.loads(value)
    return body.get("partition") == partition and any(
        segment["user"] == user and any(at[0] == offset for at in segment["at"]) for segment in body.get("segments", ())
    )
