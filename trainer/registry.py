"""The `model` topic: which bundles exist and which one is live.

Before: the publisher and `rollback` announce. After: serving follows `live`. Every process that writes here reads
first: the topic, not a process's memory, says which versions were given away and whether the live bundle is pinned.
While it is, the trainer announces snapshots beside it, and nothing over it.

Anyone can write to both topics. A record that is none of ours is passed over, counted in `foreign`, and logged with
its place. One under a key of ours would be what the topic keeps of it in the end: `heal` writes ours again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

from kafka import KafkaProducer
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError

from headwater import tracing
from headwater.errors import InvalidMessage, Unavailable
from headwater.events import now_ms
from headwater.kafka import BoundedReader, Span
from headwater.settings import KafkaSettings
from headwater.topics import MODEL, MODEL_DELTAS, Topic, topic_name
from models.published.announcement import (
    LIVE,
    Announcement,
    refuse_ahead,
    snapshot_key,
)
from models.published.signing.records import Announcements, read_delta
from models.published.signing.trust import NO_TRUST, Trust

__all__ = ["Registry"]

ANSWER_TIMEOUT_S = 3.0
MORE = 4
"""To find the newest delta the last record is read; where that is foreign, so many times more before it, and so on."""

TRIES = 4
"""To announce something, where another writer comes in between each time."""


class Registry:
    """The topic as of the last `refresh`: `live`, `snapshots` by version, and `last_version` given away anywhere.

    Parameters
        kafka: where, and the prefix.
        producer: of announcements.
        log: told of foreign records.
        newest: the newest version that its reader knows of, on disk say; what is far beyond it is foreign.
        trust: signs announcements, and says whose are ours.

    Raises
        Unavailable: Kafka does not answer.
        SettingsError: those who follow would refuse what is announced here.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        producer: KafkaProducer,
        log: logging.Logger,
        newest: int = 0,
        trust: Trust = NO_TRUST,
    ) -> None:
        trust.may_publish()
        self.trust = trust
        self._topic = topic_name(MODEL, kafka.prefix)
        self._producer = producer
        self._log = log
        self.live: Announcement | None = None
        self.snapshots: dict[int, Announcement] = {}
        self.foreign: Counter[tuple[str, str]] = Counter()  # by topic, without the world's prefix, and reason
        self._announcements = Announcements(trust, newest)
        self._overwritten: set[bytes] = set()  # keys whose newest record is none of ours
        self._sent, self._overtaken = -1, False  # offset of our own newest record, and whether readers pass over it
        self._read = 0  # the offset in `model` below which all is known
        with ExitStack() as opened:
            self._deltas = opened.enter_context(BoundedReader(kafka, MODEL_DELTAS, ANSWER_TIMEOUT_S))
            self._models = opened.enter_context(BoundedReader(kafka, MODEL, ANSWER_TIMEOUT_S))
            self.last_version = 0
            self._give_away(self._last_delta_version())
            self.refresh()
            self._opened = opened.pop_all()

    def delta_end(self) -> int:
        """The offset after the newest delta."""
        return next((span.end for span in self._deltas.spans()), 0)

    def _last_delta_version(self) -> int:
        """The version of the newest delta; 0 when there is none. They rise along the topic, which is read backwards."""
        step, trust = 1, replace(self.trust, world=None)  # a log that was restored from another world counts, too
        for oldest, end in [(span.oldest, span.end) for span in self._deltas.spans()]:
            while end > oldest:
                first = max(oldest, end - step)
                for record in reversed(list(self._deltas.records(Span(0, oldest, first, end)))):
                    try:
                        version = read_delta(trust, record.key, record.value, record.headers).version
                        refuse_ahead(version, self._announcements.newest)
                    except InvalidMessage as error:
                        self._pass_over(MODEL_DELTAS, record, error)
                    else:
                        return version
                end, step = first, MORE * step
        return 0

    def _pass_over(self, topic: Topic, record: ConsumerRecord, why: InvalidMessage) -> None:
        at = f"{record.topic}[{record.partition}]@{record.offset}"
        self.foreign[topic.name, why.reason] += 1
        self._log.warning("foreign record passed over", extra={"at": at, "reason": why.reason, "error": str(why)})

    def _give_away(self, version: int) -> None:
        """Remember a version that is known to be taken."""
        self.last_version = max(self.last_version, version)
        self._announcements.newest = max(self._announcements.newest or 0, version)

    def refresh(self) -> None:
        """Read what was announced since. Raises Unavailable when Kafka does not answer."""
        for record in self._unread():
            self._see(record)

    def _unread(self) -> Iterator[ConsumerRecord]:
        for span in self._models.spans({0: self._read}):
            yield from self._models.records(span)
            self._read = span.end

    def _see(self, record: ConsumerRecord) -> None:
        try:
            version, said = self._announcements.read(record.key, record.value, record.headers)
        except InvalidMessage as error:
            if record.offset == self._sent:  # signed before what came first
                self._overtaken = True
                return
            self._overwritten.add(record.key or b"")
            self._pass_over(MODEL, record, error)
            return
        self._overwritten.discard(record.key)
        self._give_away(max(version, said.version if said else 0))
        if record.key == LIVE:
            self.live = said
        elif version and said is not None:
            self.snapshots[version] = said
        elif version:
            self.snapshots.pop(version, None)

    def add(self, announcement: Announcement) -> None:
        """Announce a bundle on disk as a snapshot. Raises Unavailable when Kafka does not take it."""
        self._tell(snapshot_key(announcement.version), announcement.encode())

    def remove(self, version: int) -> None:
        """Announce that a snapshot's bundle is gone."""
        self._tell(snapshot_key(version), None)

    def set_live(self, announcement: Announcement) -> None:
        """Announce a bundle as live, pinned or not, whatever is live now."""
        self._tell(LIVE, announcement.encode())

    def heal(self) -> None:
        """Announce again what somebody else wrote over: of each key the topic keeps the newest record alone, and who
        starts later would find theirs."""
        ours = {snapshot_key(version): said for version, said in self.snapshots.items()}
        if self.live is not None:
            ours[LIVE] = self.live
        for key in sorted(self._overwritten & ours.keys()):
            self._log.warning("written over by somebody else: announced again", extra={"key": key.decode()})
            self._tell(key, ours[key].encode())
        self._overwritten.clear()

    def offer_live(self, announcement: Announcement) -> bool:
        """Announce a bundle as live unless the live one is pinned; whether it is live now.

        A rollback that was written while this was on its way would lie before it in the log, and would be undone: so
        the log is read up to our own record, and a pinned one found there is announced again.
        """
        self.refresh()
        if self.live is not None and self.live.pinned:
            return False
        for _ in range(TRIES):
            pinned = self._offer(announcement)
            if not self._overtaken or pinned is not None:
                break
        if pinned is None:
            return self.live is not None and not self.live.pinned
        self._log.warning("a rollback came first: announced again", extra={"version": pinned.version})
        self.set_live(pinned)
        return False

    def _offer(self, announcement: Announcement) -> Announcement | None:
        """Send it, and read up to it: what a rollback has pinned meanwhile, if one has."""
        own = self._send(LIVE, announcement.encode())
        pinned: Announcement | None = None
        for record in self._unread():
            self._see(record)
            if record.key == LIVE and record.offset < own and self.live is not None and self.live.pinned:
                pinned = self.live
        return pinned

    def _tell(self, key: bytes, value: bytes | None) -> None:
        """Send it so that whoever follows takes it, and read up to it."""
        for _ in range(TRIES):
            self._send(key, value)
            self.refresh()
            if not self._overtaken:
                return
        raise Unavailable(f"{self._topic}: somebody else announced something at each of {TRIES} tries")

    def _send(self, key: bytes, value: bytes | None) -> int:
        serial = max(now_ms(), self._announcements.serial + 1)
        headers = [*self.trust.headers(MODEL, key, value, [], serial), *tracing.headers()]
        self._overtaken = False
        try:
            future = self._producer.send(self._topic, value, key, headers=headers, partition=0)
            sent = future.get(timeout=ANSWER_TIMEOUT_S)
        except KafkaError as error:
            raise Unavailable(f"{self._topic}: an announcement was not taken ({error!r})") from error
        self._sent = offset = int(sent.offset)
        return offset

    def close(self) -> None:
        """Leave Kafka."""
        self._opened.close()
