"""The `model` topic: which bundles exist and which one is live.

Before: the publisher and `rollback` announce. After: serving follows `live`. Every process that writes here reads
first: the topic, not a process's memory, says which versions were given away and whether the live bundle is pinned.

Keys: `live`, and `snapshot:<version>` for each bundle on disk, with the same body; a tombstone follows when a bundle
is pruned. A pinned live record (`rollback`) stays until `resume`: the trainer announces snapshots beside it, never
over it.

Anyone can write to both topics. A record that is none of ours is passed over, counted in `foreign`, and logged with
its place.
"""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from dataclasses import asdict, dataclass, fields
from typing import Any

import orjson
from kafka import KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from headwater.errors import InvalidMessage, Unavailable
from headwater.kafka.connections import consumer
from headwater.settings import KafkaSettings
from headwater.topics import MODEL, MODEL_DELTAS, Topic, topic_name

__all__ = ["LIVE", "Announcement", "Registry", "read_announcement"]

LIVE = b"live"
SNAPSHOT = b"snapshot:"
ANSWER_TIMEOUT_MS = 3000
MORE = 4
"""To find the newest delta the last record is read; where that is foreign, so many times more before it, and so on."""

MAX_VERSION = 10**15
DELTA_HEADERS = ("version", "parent", "part", "parts", "published-time")
_NUMBER = re.compile(rb"[0-9]{1,15}")
_SNAPSHOT_KEY = re.compile(SNAPSHOT + rb"([1-9][0-9]{0,14})")
_WHOLE = ("version", "delta_offset", "published_time", "examples_offset")


@dataclass(frozen=True)
class Announcement:
    """What a record of the topic says about one bundle. `delta_offset`: deltas from there on may follow it."""

    version: int
    digest: str
    bundle: str
    parent: str | None
    delta_offset: int
    published_time: int
    examples_offset: int
    metrics: dict[str, Any]
    pinned: bool = False

    def encode(self) -> bytes:
        """The record's value."""
        return orjson.dumps(asdict(self))

    @classmethod
    def decode(cls, value: bytes) -> Announcement:
        """What `encode` wrote. Raises InvalidMessage (`schema`); fields of later releases are passed over."""
        try:
            body = orjson.loads(value)
            made = cls(**{field.name: body[field.name] for field in fields(cls) if field.name in body})
            wrong = [f"{name} is {getattr(made, name)!r}" for name in _WHOLE if type(getattr(made, name)) is not int]
            if type(made.bundle) is not str or type(made.metrics) is not dict:
                wrong.append(f"bundle is {made.bundle!r}, metrics are {made.metrics!r}")
            if wrong or not 0 < made.version < MAX_VERSION:
                raise TypeError(", ".join(wrong) or f"version is {made.version}")
        except (orjson.JSONDecodeError, TypeError) as error:
            raise InvalidMessage("schema", f"a record of the model topic is not an announcement ({error})") from error
        return made


def read_announcement(key: bytes | None, value: bytes | None) -> tuple[int, Announcement | None]:
    """Version (0: `live`) and body (None: withdrawn) of a record of the topic. Raises InvalidMessage for any other.

    >>> read_announcement(b"snapshot:7", None)
    (7, None)
    """
    name = _SNAPSHOT_KEY.fullmatch(key or b"")
    if key != LIVE and name is None:
        raise InvalidMessage("schema", f"the key {key!r:.80} is neither live nor snapshot:<version>")
    version = 0 if name is None else int(name[1])
    said = None if value is None else Announcement.decode(value)
    if said is not None and name is not None and said.version != version:
        raise InvalidMessage("schema", f"the key names version {version} and the value version {said.version}")
    return version, said


def _delta_version(headers: Any) -> int | None:
    """The version in the headers of a record of `model-deltas`; None when it is no delta of ours."""
    found = dict(headers or ())
    numbers = [found.get(name) or b"" for name in DELTA_HEADERS]
    return int(numbers[0]) if all(map(_NUMBER.fullmatch, numbers)) else None


class Registry:
    """The topic as of the last `refresh`: `live`, `snapshots` by version, and `last_version` given away anywhere."""

    def __init__(self, kafka: KafkaSettings, producer: KafkaProducer, log: logging.Logger) -> None:
        self._models = TopicPartition(topic_name(MODEL, kafka.prefix), 0)
        self._deltas = TopicPartition(topic_name(MODEL_DELTAS, kafka.prefix), 0)
        self._producer = producer
        self._log = log
        self.live: Announcement | None = None
        self.snapshots: dict[int, Announcement] = {}
        self.foreign: Counter[str] = Counter()  # by topic, without the world's prefix
        self._consumer = consumer(kafka)
        self.last_version = self._last_delta_version()
        self._consumer.assign([self._models])
        self._consumer.seek_to_beginning()
        self.refresh()

    def _end(self, partition: TopicPartition) -> int:
        try:
            end: int = self._consumer.end_offsets([partition], timeout_ms=ANSWER_TIMEOUT_MS)[partition]
        except KafkaError as error:
            raise Unavailable(f"{partition.topic}: Kafka does not tell its end ({error!r})") from error
        return end

    def delta_end(self) -> int:
        """The offset after the newest delta."""
        return self._end(self._deltas)

    def _last_delta_version(self) -> int:
        """The version of the newest delta; 0 when there is none. They rise along the topic, which is read backwards."""
        end = self._end(self._deltas)
        first = self._consumer.beginning_offsets([self._deltas], timeout_ms=ANSWER_TIMEOUT_MS)[self._deltas]
        step = 1
        while end > first:
            begin = max(first, end - step)
            self._consumer.assign([self._deltas])
            self._consumer.seek(self._deltas, begin)
            for record in reversed([one for one in self._read_to(self._deltas, end) if one.offset < end]):
                version = _delta_version(record.headers)
                if version is not None:
                    return version
                self._pass_over(MODEL_DELTAS, record, f"its headers are not {', '.join(DELTA_HEADERS)} in numbers")
            end, step = begin, MORE * step
        return 0

    def _pass_over(self, topic: Topic, record: Any, why: str) -> None:
        at = f"{record.topic}[{record.partition}]@{record.offset}"
        self.foreign[topic.name] += 1
        self._log.warning("foreign record passed over", extra={"at": at, "error": why})

    def refresh(self) -> None:
        """Read what was announced since. Raises Unavailable when Kafka does not answer."""
        for record in self._unread():
            self._see(record)

    def _unread(self) -> list[Any]:
        return self._read_to(self._models, self._end(self._models))

    def _read_to(self, partition: TopicPartition, end: int) -> list[Any]:
        """The records from the consumer's place to before `end`. Raises Unavailable when none comes for too long."""
        found: list[Any] = []
        deadline = time.monotonic() + ANSWER_TIMEOUT_MS / 1000
        while (self._consumer.position(partition, timeout_ms=ANSWER_TIMEOUT_MS) or 0) < end:
            came = self._consumer.poll(timeout_ms=100).get(partition, [])
            found += came
            if came:
                deadline = time.monotonic() + ANSWER_TIMEOUT_MS / 1000
            elif time.monotonic() > deadline:
                raise Unavailable(f"{partition.topic}: its records up to {end} did not come")
        return found

    def _see(self, record: Any) -> None:
        try:
            version, said = read_announcement(record.key, record.value)
        except InvalidMessage as error:
            self._pass_over(MODEL, record, str(error))
            return
        self.last_version = max(self.last_version, version, said.version if said else 0)
        if record.key == LIVE:
            self.live = said
        elif version and said is not None:
            self.snapshots[version] = said
        elif version:
            self.snapshots.pop(version, None)

    def add(self, announcement: Announcement) -> None:
        """Announce a bundle on disk as a snapshot. Raises Unavailable when Kafka does not take it."""
        self._send(SNAPSHOT + b"%d" % announcement.version, announcement.encode())
        self.refresh()

    def remove(self, version: int) -> None:
        """Announce that a snapshot's bundle is gone."""
        self._send(SNAPSHOT + b"%d" % version, None)
        self.refresh()

    def set_live(self, announcement: Announcement) -> None:
        """Announce a bundle as live, pinned or not, whatever is live now."""
        self._send(LIVE, announcement.encode())
        self.refresh()

    def offer_live(self, announcement: Announcement) -> bool:
        """Announce a bundle as live unless the live one is pinned; whether it is live now.

        A rollback that was written while this was on its way would lie before it in the log, and would be undone: so
        the log is read up to our own record, and a pinned one found there is announced again.
        """
        self.refresh()
        if self.live is not None and self.live.pinned:
            return False
        own = self._send(LIVE, announcement.encode())
        pinned: Announcement | None = None
        for record in self._unread():
            self._see(record)
            if record.key == LIVE and record.offset < own and self.live is not None and self.live.pinned:
                pinned = self.live
        if pinned is None:
            return self.live is not None and not self.live.pinned
        self._log.warning("a rollback came first: announced again", extra={"version": pinned.version})
        self.set_live(pinned)
        return False

    def _send(self, key: bytes, value: bytes | None) -> int:
        try:
            sent = self._producer.send(self._models.topic, value, key, partition=0).get(
                timeout=ANSWER_TIMEOUT_MS / 1000
            )
        except KafkaError as error:
            raise Unavailable(f"{self._models.topic}: an announcement was not taken ({error!r})") from error
        offset: int = sent.offset
        return offset

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close(timeout_ms=ANSWER_TIMEOUT_MS)
