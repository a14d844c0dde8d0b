"""Answers that another process, or one before this, has sent to requests that were not committed: sent again as they
are.

Before: this worker is given partitions of `requests`, and the first records of them may have been answered already.
After: `serving.answering` finds the answer by the request's place. Read is what `recommendations` holds since the
oldest of these requests was written: a second or two of answers, once for each time that partitions change hands.
Where nobody was cut short nothing is read, and a request that comes later costs nothing.

What this does not see is answered again, under the same request_id: the first answer counts. That is what a process
sends that was stopped (SIGSTOP) and goes on after it has lost its partitions, and a request that was sent again, to
another process, under its own id: nothing says that the two are one.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from typing import Any

from kafka import ConsumerRebalanceListener, TopicPartition

from headwater.errors import HeadwaterError
from headwater.events import now_ms
from headwater.kafka import BoundedReader
from headwater.settings import KafkaSettings
from headwater.topics import RECOMMENDATIONS, REQUESTS

__all__ = ["RecalledAnswers"]

SILENCE_S = 2.0
CLOCKS_MS = 5000
"""By how much the clock of who asks may be ahead of the clock of who answered."""

MOST_READ = 50_000
"""Answers that are looked through at most: 2 us each, beside what it takes to fetch them."""

PLACE = re.compile(rb'"request_at":"' + re.escape(REQUESTS.name).encode() + rb'\[(\d+)\]@(\d+)"')

log = logging.getLogger("headwater")


class RecalledAnswers(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python types nothing
    """Of one worker, whose consumer tells it of partitions. All errors of Kafka are told in the log: then requests are
    answered anew.
    """

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._before: set[int] = set()  # this worker's until now, and nobody else's meanwhile
        self._taken: dict[int, int] = {}  # partition -> when it was taken over (epoch ms), until a record has come
        self._values: dict[tuple[int, int], bytes] = {}

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """A rebalance begins: who has these next is told when it ends, and nobody has them before."""
        self._before = {one.partition for one in revoked}

    def on_partitions_lost(self, _lost: Iterable[TopicPartition]) -> None:
        """The group went on without this worker: what comes back was somebody else's meanwhile."""
        self._before = set()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Those that were not this worker's until now are taken over; of the others holds what was read."""
        numbers = {one.partition for one in assigned}
        kept = numbers & self._before
        self._values = {place: value for place, value in self._values.items() if place[0] in kept}
        self._taken = {one: at for one, at in self._taken.items() if one in kept}
        self._taken |= dict.fromkeys(numbers - kept, now_ms())

    def look(self, records: Sequence[Any]) -> None:
        """Read what there is on records that were just polled and may be answered already."""
        first: dict[int, int] = {}
        since: list[int] = []
        for record in records:
            taken_ms = self._taken.pop(record.partition, None) if self._taken else None
            if taken_ms is not None and record.timestamp <= taken_ms:  # else it was written since
                first[record.partition] = record.offset
                since.append(record.timestamp)
        if not first:
            return
        try:
            self._read(first, min(since) - CLOCKS_MS)
        except HeadwaterError as error:
            log.warning(
                "what was answered before cannot be read: requests are answered again", extra={"error": str(error)}
            )

    def _read(self, first: dict[int, int], since_ms: int) -> None:
        number = 0
        with BoundedReader(self._kafka, RECOMMENDATIONS, SILENCE_S) as reader:
            for span in reader.spans(first_ms=since_ms):
                for record in reader.records(span):
                    number += 1
                    found = PLACE.search(record.value or b"")
                    if found is not None:
                        place = int(found[1]), int(found[2])
                        if place[1] >= first.get(place[0], place[1] + 1):
                            self._values[place] = record.value
                    if number == MOST_READ:
                        log.warning("more was answered meanwhile than is looked through", extra={"read": number})
                        return
        log.info("requests were answered before", extra={"found": len(self._values), "read": number})

    def take(self, partition: int, offset: int) -> bytes | None:
        """The answer that went out to the request at this place, if one did and it was read."""
        return self._values.pop((partition, offset), None) if self._values else None

    def forget(self) -> None:
        """Let go of all: something in one of these may not be shown any more."""
        self._values.clear()
