"""A Client's answers: one partition of `recommendations`, read by one thread, matched by correlation id.

Before: `Client.recommend`. After: the future that the caller holds. No consumer group: the partition is assigned, and
its end is looked up before the first request goes out, so no answer can come too early to be seen. Other clients'
answers on the partition are passed over. Also here: the iterator over all recommendations.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from headwater.errors import DeadlineExceeded, HeadwaterError, InvalidMessage, RequestRefused, Unavailable
from headwater.kafka import consumer, existing_topic
from headwater.recommendations import Recommendation
from headwater.settings import KafkaSettings
from headwater.topics import RECOMMENDATIONS, REQUESTS, topic_name
from headwater.wire import decode_recommendation

if TYPE_CHECKING:
    from kafka import KafkaConsumer

__all__ = ["RecommendationStream", "ReplyReader"]

POLL_MS = 100
"""Longest time between two looks at deadlines and at closing; an answer itself ends a poll at once."""

log = logging.getLogger("headwater.client")


class _Outstanding(NamedTuple):
    user_id: str
    deadline_s: float
    due_s: float
    answer: Future[Recommendation]


class ReplyReader:
    """Waits for answers on a partition of its own choosing. Thread-safe; its thread starts with the first use."""

    def __init__(self, kafka: KafkaSettings, connect_timeout_s: float) -> None:
        self._kafka = kafka
        self._connect_timeout_s = connect_timeout_s
        self._topic = topic_name(RECOMMENDATIONS, kafka.prefix)
        self._outstanding: dict[str, _Outstanding] = {}
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._partition = -1

    def expect(
        self, request_id: str, user_id: str, deadline_s: float, due_s: float
    ) -> tuple[int, Future[Recommendation]]:
        """The partition to ask the answer to, and its future, which fails at `due_s` of the monotonic clock.

        Raises Unavailable when the topic cannot be read.
        """
        answer: Future[Recommendation] = Future()
        answer.set_running_or_notify_cancel()
        with self._guard:
            if self._stopping.is_set():
                raise HeadwaterError("this Client is closed: make a new one")
            if self._thread is None:
                self._start()
            if request_id in self._outstanding:
                raise InvalidMessage(
                    "duplicate_id", f"request_id {request_id!r} waits for an answer already: use another"
                )
            self._outstanding[request_id] = _Outstanding(user_id, deadline_s, due_s, answer)
            return self._partition, answer

    def fail(self, request_id: str, error: HeadwaterError) -> None:
        """End a request with an error, unless it has ended."""
        if waiting := self._outstanding.pop(request_id, None):
            waiting.answer.set_exception(error)

    def expire(self, request_id: str) -> None:
        """End a request whose deadline has passed, unless it has ended."""
        if waiting := self._outstanding.pop(request_id, None):
            waiting.answer.set_exception(self._too_late(request_id, waiting.user_id, waiting.deadline_s))

    def close(self) -> None:
        """Stop reading; what is outstanding fails."""
        with self._guard:
            self._stopping.set()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _start(self) -> None:
        """Assign a random partition, find its end, and only then let requests go. Where a broker has lost the newest
        answers, reading goes on at the new end: what lies before it, a week of answers, is nobody's who waits."""
        opened = _open(self._kafka, self._connect_timeout_s, None, auto_offset_reset="latest")
        try:
            self._partition = random.choice(sorted(_partitions(opened, self._kafka)))
            _assign_at_end(opened, self._topic, [self._partition], self._connect_timeout_s)
        except BaseException:
            opened.close()
            raise
        self._thread = threading.Thread(target=self._read, args=(opened,), name="headwater-replies", daemon=True)
        self._thread.start()

    def _read(self, opened: KafkaConsumer) -> None:
        from kafka.errors import KafkaError

        try:
            while not self._stopping.is_set():
                try:
                    polled = opened.poll(timeout_ms=POLL_MS)
                except KafkaError as error:  # the position is kept, so the answers of this moment are read later
                    log.warning("reading %s[%d]: %s; going on", self._topic, self._partition, error)
                    self._stopping.wait(POLL_MS / 1000)
                    continue
                for records in polled.values():
                    for record in records:
                        self._match(record)
                now_s = time.monotonic()
                for request_id, waiting in list(self._outstanding.items()):
                    if waiting.due_s <= now_s:
                        self.expire(request_id)
        finally:
            with self._guard:
                self._thread = None  # the next request starts another
            why = "the Client was closed" if self._stopping.is_set() else "the thread that reads answers has died"
            for request_id in list(self._outstanding):
                self.fail(request_id, Unavailable(f"no answer to request {request_id}: {why}. Ask again."))
            opened.close()

    def _match(self, record: Any) -> None:
        raw = next((content for name, content in record.headers if name == "correlation-id"), None)
        request_id = (raw or b"").decode(errors="replace")
        waiting = self._outstanding.pop(request_id, None)
        if waiting is None:  # another client's, a repeated answer, or one that came too late
            return
        try:
            recommendation = decode_recommendation(record.value)
        except InvalidMessage as error:
            waiting.answer.set_exception(error)
            return
        refusal = recommendation.error
        if refusal is None:
            if recommendation.user_id is not None and recommendation.user_id != waiting.user_id:  # its pseudonym
                recommendation = recommendation.model_copy(update={"user_id": waiting.user_id})
            waiting.answer.set_result(recommendation)
        elif refusal.code == "expired":
            waiting.answer.set_exception(self._too_late(request_id, waiting.user_id, waiting.deadline_s))
        else:
            text = f"request {request_id} for user {waiting.user_id!r} was refused ({refusal.code}): {refusal.message}"
            waiting.answer.set_exception(RequestRefused(refusal.code, text))

    def _too_late(self, request_id: str, user_id: str, deadline_s: float) -> DeadlineExceeded:
        asked = topic_name(REQUESTS, self._kafka.prefix)
        return DeadlineExceeded(
            f"no answer to request {request_id} for user {user_id!r} within {deadline_s:g} s on {self._topic}"
            f"[{self._partition}]. Check that a serving worker runs and is ready (`headwater doctor`, its /readyz), "
            f"that it reads {asked} at {self._kafka.bootstrap} and keeps up (its lag), or give a longer deadline."
        )


class RecommendationStream:
    """Iterates over recommendations as they are made. One thread; close it, or use it as a context manager.

    Without a group: from now on (or from the beginning), all partitions, nothing committed. With a group: shared among
    the group's members, committed after each batch has been taken, so a crash repeats and loses nothing. Records that
    are not recommendations are passed over and counted by reason in `skipped`.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        connect_timeout_s: float,
        group: str | None,
        from_beginning: bool,
        idle_s: float | None,
    ) -> None:
        self.skipped: Counter[str] = Counter()
        self._group = group
        self._idle_s = idle_s
        self._taken: deque[Recommendation] = deque()
        self._uncommitted = False
        self._closed = False
        topic = topic_name(RECOMMENDATIONS, kafka.prefix)
        start = "earliest" if from_beginning else "latest"
        self._consumer = _open(kafka, connect_timeout_s, group, auto_offset_reset=start)
        try:
            partitions = sorted(_partitions(self._consumer, kafka))
            if group is not None:
                self._consumer.subscribe([topic])
            elif from_beginning:
                self._consumer.assign(_topic_partitions(topic, partitions))
            else:
                _assign_at_end(self._consumer, topic, partitions, connect_timeout_s)
        except BaseException:
            self._consumer.close()
            raise

    def __iter__(self) -> Iterator[Recommendation]:
        return self

    def __next__(self) -> Recommendation:
        last_s = time.monotonic()
        while not self._taken:
            if self._closed:
                raise StopIteration
            if self._uncommitted:
                self._consumer.commit()
                self._uncommitted = False
            for records in self._consumer.poll(timeout_ms=POLL_MS).values():
                for record in records:
                    self._uncommitted = self._group is not None
                    try:
                        self._taken.append(decode_recommendation(record.value))
                    except InvalidMessage as error:
                        self.skipped[error.reason] += 1
                        log.warning("%s[%d]@%d: %s", record.topic, record.partition, record.offset, error)
            if not self._taken and self._idle_s is not None and time.monotonic() - last_s >= self._idle_s:
                raise StopIteration
        return self._taken.popleft()

    def close(self) -> None:
        """Stop; commits what has been taken when every recommendation of the batch has."""
        if not self._closed:
            self._closed = True
            if self._uncommitted and not self._taken:
                from kafka.errors import KafkaError

                with contextlib.suppress(KafkaError):  # then the group's next member sees the batch again
                    self._consumer.commit()
            self._consumer.close()

    def __enter__(self) -> RecommendationStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open(kafka: KafkaSettings, connect_timeout_s: float, group: str | None, **more: Any) -> KafkaConsumer:
    return consumer(
        kafka,
        group,
        bootstrap_timeout_ms=round(connect_timeout_s * 1000),
        reconnect_backoff_max_ms=1000,
        metrics_enabled=False,
        **more,
    )


def _partitions(opened: KafkaConsumer, kafka: KafkaSettings) -> set[int]:
    name = existing_topic(kafka, RECOMMENDATIONS)
    partitions: set[int] | None = opened.partitions_for_topic(name)
    if not partitions:
        raise Unavailable(f"{name}: {kafka.bootstrap} does not tell its partitions. Check Kafka, then try again.")
    return partitions


def _topic_partitions(topic: str, partitions: list[int]) -> list[Any]:
    from kafka import TopicPartition

    return [TopicPartition(topic, partition) for partition in partitions]


def _assign_at_end(opened: KafkaConsumer, topic: str, partitions: list[int], within_s: float) -> None:
    """Assign, and settle the positions now: `seek_to_end` alone would look them up at the first poll."""
    from kafka.errors import KafkaError

    assigned = _topic_partitions(topic, partitions)
    opened.assign(assigned)
    try:
        for partition, offset in opened.end_offsets(assigned, timeout_ms=round(within_s * 1000)).items():
            opened.seek(partition, offset)
    except KafkaError as error:
        raise Unavailable(f"{topic}: its end offsets cannot be read ({error}). Check Kafka, then try again.") from error
