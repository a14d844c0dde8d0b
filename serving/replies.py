"""Sends answers and dead letters; says which records are finished, which is when Kafka has acknowledged all of theirs.

Before: `serving.answering` made the answers, none too large for Kafka. After: the worker commits the offsets of
`finished` records. All that is sent is below 1,048,576 bytes, Kafka's default limit.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from kafka import KafkaProducer

from headwater import tracing
from headwater.errors import InvalidMessage, Stalled
from headwater.process import passes
from headwater.topics import DEAD_LETTERS, RECOMMENDATIONS, REQUESTS, topic_name
from headwater.wire import RefusedRecord, dead_letter
from serving.answering import Answer
from serving.exposures import ExposureSender, Place
from serving.serving_metrics import ServingMetrics

__all__ = ["ReplySender", "partition_of"]

MAX_PARTITION_DIGITS = 9
MAX_CORRELATION_BYTES = 4096
"""Longer correlation ids are not echoed; the reply then bears the request_id."""

log = logging.getLogger("headwater")


class ReplySender:
    """One thread calls it; `_acknowledged` is filled by the producer's.

    Parameters
        producer: idempotent.
        metrics: counts what is sent.
        prefix: of the topics.
        exposures: takes what the answers show; None: nobody wants it.
        weights: says who published those that answer.
    """

    def __init__(
        self,
        producer: KafkaProducer,
        metrics: ServingMetrics,
        prefix: str,
        exposures: ExposureSender | None = None,
        weights: tracing.WeightsTraces | None = None,
    ) -> None:
        self._acknowledged: deque[Place] = deque()
        self._exposures = exposures
        self._weights = weights or tracing.WeightsTraces()
        self._replied: set[Place] = set()  # acknowledged, but for their exposures
        self._unsent: deque[tuple[Callable[[], Any], Callable[[Any], None]]] = deque()
        self._failure: BaseException | None = None
        self._producer = producer
        self._metrics = metrics
        self._requests = topic_name(REQUESTS, prefix)
        self._replies = topic_name(RECOMMENDATIONS, prefix)
        self._dead_letters = topic_name(DEAD_LETTERS, prefix)
        self._partitions = len(producer.partitions_for(self._replies))

    def send(self, answers: Sequence[Answer]) -> None:
        """Hand a batch of answers to the producer, and then what they show."""
        told = [self._send(answer) for answer in answers]
        if self._exposures is not None:
            for answer, trace in zip(answers, told, strict=True):
                if answer.listed is not None:
                    self._exposures.send(*answer.listed, (answer.record.partition, answer.record.offset), trace)

    def finished(self) -> Iterator[Place]:
        """The records of which all is acknowledged that they wait for, each once."""
        exposures = self._exposures
        while self._acknowledged:
            place = self._acknowledged.popleft()
            if exposures is not None and exposures.holds(place):
                self._replied.add(place)
            else:
                yield place
        for place in exposures.let_go() if exposures is not None else ():
            if place in self._replied:
                self._replied.discard(place)
                yield place

    def _send(self, answer: Answer) -> tracing.Headers:
        """Hand one over; what its exposure tells of its trace."""
        record, refused = answer.record, answer.refused
        weights, outcome = self._weights.of(answer.version), answer.outcome or "refused"
        trace = tracing.span_of(record.headers, "answer", record.timestamp, weights, outcome=outcome)
        parts: list[Callable[[], Any]] = []
        if answer.value is not None:
            parts.append(partial(self._send_reply, answer, trace))
            self._metrics.answered.labels(answer.outcome).inc()
            self._metrics.request_seconds.observe(max(time.time() - record.timestamp / 1000, 0.0))
        if refused is not None:
            parts.append(partial(self._send_dead_letter, record, refused))
            self._metrics.dead_letters.labels(refused.reason).inc()
            log.warning("dead letter: %.2000s", refused, extra={"reason": refused.reason, "offset": record.offset})
        left = len(parts)

        def acknowledged(_: Any) -> None:
            nonlocal left
            left -= 1
            if not left:
                self._acknowledged.append((record.partition, record.offset))

        for part in parts:
            self._deliver(part, acknowledged)
        return trace

    def send_again(self) -> bool:
        """Hand over anew what was given up by the producer for an error that passes; whether there was any."""
        again = [self._unsent.popleft() for _ in range(len(self._unsent))]
        for part, acknowledged in again:
            self._deliver(part, acknowledged)
        return bool(again)

    def check(self) -> None:
        """Raises Stalled when a reply could not be delivered."""
        if self._failure is not None:
            text = f"a reply could not be delivered ({self._failure}); its request will be answered again"
            raise Stalled(text) from self._failure

    def _deliver(self, part: Callable[[], Any], acknowledged: Callable[[Any], None]) -> None:
        def failed(error: BaseException) -> None:
            if passes(error):
                self._unsent.append((part, acknowledged))
            else:
                self._failure = error

        future = part()
        future.add_callback(acknowledged)
        future.add_errback(failed)

    def _send_reply(self, answer: Answer, trace: tracing.Headers) -> Any:
        headers = dict(answer.record.headers)
        echoed = headers.get("correlation-id")
        if echoed is None or len(echoed) > MAX_CORRELATION_BYTES:
            echoed = answer.request_id.encode()
        return self._producer.send(
            self._replies,
            answer.value,
            key=(answer.user_id or answer.request_id).encode(),
            headers=[("correlation-id", echoed), *trace],
            partition=partition_of(headers.get("reply-partition"), self._partitions),
        )

    def _send_dead_letter(self, record: Any, error: InvalidMessage) -> Any:
        refused = RefusedRecord(
            self._requests, record.partition, record.offset, record.timestamp, record.key, record.value, record.headers
        )
        key, value, headers = dead_letter(error, refused)
        return self._producer.send(self._dead_letters, value, key=key, headers=headers)


def partition_of(header: bytes | None, partitions: int) -> int | None:
    """The partition that a `reply-partition` header names; None, for Kafka's own choice, when it names none.

    >>> partition_of(b"5", 8), partition_of(b"8", 8), partition_of(b"-1", 8), partition_of(b"1" * 5000, 8)
    (5, None, None, None)
    """
    if header is None or not header.isdigit() or len(header) > MAX_PARTITION_DIGITS:
        return None
    return int(header) if int(header) < partitions else None
