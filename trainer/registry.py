"""The `model` topic: which bundles exist and which one is live.

Before: the publisher and `rollback` announce. After: serving follows `live`. Every process that writes here reads
first: the topic, not a process's memory, says which versions were given away and whether the live bundle is pinned.

Keys: `live`, and `snapshot:<version>` for each bundle on disk, with the same body; a tombstone follows when a bundle
is pruned. A pinned live record (`rollback`) stays until `resume`: the trainer announces snapshots beside it, never
over it.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass, fields
from typing import Any

import orjson
from kafka import KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from headwater.connections import consumer
from headwater.errors import InvalidMessage, Unavailable
from headwater.settings import KafkaSettings
from headwater.topics import MODEL, MODEL_DELTAS, topic_name

__all__ = ["LIVE", "Announcement", "Registry"]

LIVE = b"live"
SNAPSHOT = "snapshot:"
ANSWER_TIMEOUT_MS = 3000


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
            if type(made.version) is not int or type(made.bundle) is not str:
                raise TypeError(f"version is {made.version!r}, bundle is {made.bundle!r}")
        except (orjson.JSONDecodeError, TypeError) as error:
            raise InvalidMessage("schema", f"a record of the model topic is not an announcement ({error})") from error
        return made


class Registry:
    """The topic as of the last `refresh`: `live`, `snapshots` by version, and `last_version` given away anywhere."""

    def __init__(self, kafka: KafkaSettings, producer: KafkaProducer, log: logging.Logger) -> None:
        self._models = TopicPartition(topic_name(MODEL, kafka.prefix), 0)
        self._deltas = TopicPartition(topic_name(MODEL_DELTAS, kafka.prefix), 0)
        self._producer = producer
        self._log = log
        self.live: Announcement | None = None
        self.snapshots: dict[int, Announcement] = {}
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
        """The version of the newest delta; 0 when there is none. Versions rise along the topic."""
        end = self._end(self._deltas)
        first = self._consumer.beginning_offsets([self._deltas], timeout_ms=ANSWER_TIMEOUT_MS)[self._deltas]
        if end == first:
            return 0
        self._consumer.assign([self._deltas])
        self._consumer.seek(self._deltas, end - 1)
        records = self._consumer.poll(timeout_ms=ANSWER_TIMEOUT_MS).get(self._deltas, [])
        if not records:
            raise Unavailable(f"{self._deltas.topic}: its last record, {end - 1}, did not come")
        return int(dict(records[0].headers)["version"])

    def refresh(self) -> None:
        """Read what was announced since. Raises Unavailable when Kafka does not answer."""
        for record in self._unread():
            self._see(record)

    def _unread(self) -> list[Any]:
        end = self._end(self._models)
        found: list[Any] = []
        deadline = time.monotonic() + ANSWER_TIMEOUT_MS / 1000
        while (self._consumer.position(self._models, timeout_ms=ANSWER_TIMEOUT_MS) or 0) < end:
            found += self._consumer.poll(timeout_ms=100).get(self._models, [])
            if time.monotonic() > deadline:
                raise Unavailable(f"{self._models.topic}: its records up to {end} did not come")
        return found

    def _see(self, record: Any) -> None:
        key = (record.key or b"").decode(errors="replace")
        try:
            said = None if record.value is None else Announcement.decode(record.value)
            version = int(key.removeprefix(SNAPSHOT)) if key.startswith(SNAPSHOT) else 0
        except (InvalidMessage, ValueError) as error:
            at = f"{record.topic}[0]@{record.offset}"
            self._log.warning("announcement passed over", extra={"at": at, "error": str(error)})
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
        self._send(f"{SNAPSHOT}{announcement.version}".encode(), announcement.encode())
        self.refresh()

    def remove(self, version: int) -> None:
        """Announce that a snapshot's bundle is gone."""
        self._send(f"{SNAPSHOT}{version}".encode(), None)
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
