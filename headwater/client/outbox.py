"""What a Client has sent and Kafka has not acknowledged yet: one producer, a bound on its memory, a handle per record.

Before: values made by the Client and its lanes. After: Kafka. Every record ends in its handle, as a position or as an
error; failures are counted too, so that a caller who looks at no handle still hears of them from `flush()`.
Knows nothing of what a record says.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple

from headwater.errors import AccessDenied, HeadwaterError, InvalidMessage, Unavailable
from headwater.kafka import abandon, existing_topic, producer, whoami
from headwater.settings import KafkaSettings
from headwater.topics import IDENTITIES, Topic, topic_name

__all__ = ["LinkPosition", "Outbox", "Position", "new_handle", "whole_of"]

MAX_UNACKNOWLEDGED_BYTES = 64 * 1024 * 1024
"""kafka-python's own buffer has no bound; above this, senders wait for acknowledgements."""

LEAST_CLOSE_S = 1.0
"""Time that the producer's thread gets to end, even when the caller gives less."""

CLOSED = "this Client is closed: make a new one"

log = logging.getLogger("headwater.client")


class Position(NamedTuple):
    """Where a record is: its partition and its offset there."""

    partition: int
    offset: int


class LinkPosition(Position):
    """Where a record of `identities` is: an answer waits for it otherwise than for events."""


def new_handle() -> Future[Position]:
    """A handle that cannot be cancelled: what was given to the producer will be sent."""
    handle: Future[Position] = Future()
    handle.set_running_or_notify_cancel()
    return handle


def whole_of(sent: list[Future[Position]]) -> Future[Position]:
    """A handle for what is said in several records: the first one's position, when Kafka has all of them."""
    if len(sent) == 1:
        return sent[0]
    whole, left, lock = new_handle(), len(sent), threading.Lock()

    def ended(_: Future[Position]) -> None:
        nonlocal left
        with lock:
            left -= 1
            last = not left
        if last:
            failed = next((error for one in sent if (error := one.exception()) is not None), None)
            if failed is None:
                whole.set_result(sent[0].result())
            else:
                whole.set_exception(failed)

    for one in sent:
        one.add_done_callback(ended)
    return whole


class Outbox:
    """One idempotent producer (acks=all). Thread-safe. `send` never raises: errors are in the handle.

    Raises Unavailable on construction when no broker answers within `connect_timeout_s`.
    """

    def __init__(self, kafka: KafkaSettings, connect_timeout_s: float, delivery_timeout_s: float) -> None:
        self._kafka = kafka
        self._delivery_timeout_s = delivery_timeout_s
        delivery_timeout_ms = round(delivery_timeout_s * 1000)
        self._producer = producer(
            kafka,
            linger_ms=0,  # the lanes do the waiting; a lone event must not
            bootstrap_timeout_ms=round(connect_timeout_s * 1000),
            max_block_ms=round(connect_timeout_s * 1000),
            delivery_timeout_ms=delivery_timeout_ms,
            request_timeout_ms=delivery_timeout_ms // 2,
            reconnect_backoff_max_ms=1000,
            metrics_enabled=False,
        )
        self._names: dict[str, str] = {}
        self._room = threading.Condition()
        self._unacknowledged_bytes = 0
        self._failed = 0
        self._first_failure: HeadwaterError | None = None
        self._closed = False

    def partitions(self, topic: Topic) -> int:
        """How many partitions a topic has. Raises Unavailable when it is not there."""
        from kafka.errors import KafkaError

        if self._closed:
            raise HeadwaterError(CLOSED)
        name = self._names.get(topic.name)
        if name is None:
            name = self._names[topic.name] = existing_topic(self._kafka, topic)
        try:
            return len(self._producer.partitions_for(name))
        except KafkaError as error:
            raise Unavailable(
                f"{name}: {self._kafka.bootstrap} does not tell its partitions ({error}). Check Kafka, then try again."
            ) from error

    def reserve(self, size: int) -> None:
        """Wait until `size` more bytes may be sent; every reserved byte is later given to `send`.

        Raises Unavailable when Kafka acknowledges too little for as long as the delivery timeout.
        """
        deadline = time.monotonic() + self._delivery_timeout_s
        with self._room:
            while self._unacknowledged_bytes and self._unacknowledged_bytes + size > MAX_UNACKNOWLEDGED_BYTES:
                if self._closed:
                    raise HeadwaterError(CLOSED)
                if not self._room.wait(deadline - time.monotonic()) and time.monotonic() >= deadline:
                    raise Unavailable(
                        f"{self._unacknowledged_bytes:,} bytes wait for {self._kafka.bootstrap} to acknowledge them, "
                        f"for {self._delivery_timeout_s:g} s now. This was not sent: check Kafka, then send it again."
                    )
            self._unacknowledged_bytes += size

    def send(
        self,
        topic: Topic,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: list[tuple[str, bytes]] | None = None,
        partition: int | None = None,
        reserved: int = 0,
        handle: Future[Position] | None = None,
    ) -> Future[Position]:
        """Give one record to the producer; the handle gets its position. Without a partition, the key decides.

        The partitioner is murmur2 as in Kafka's Java client, so that other producers' records of a key are there too.
        """
        from kafka.errors import KafkaError

        handle = handle or new_handle()
        name = topic_name(topic, self._kafka.prefix)
        if self._closed:
            self._fail(handle, reserved, name, HeadwaterError(CLOSED))
            return handle
        try:
            sent = self._producer.send(name, value, key=key, headers=headers or [], partition=partition)
        except (KafkaError, ValueError, RuntimeError) as error:
            self._fail(handle, reserved, name, error)
            return handle
        where = LinkPosition if topic is IDENTITIES else Position
        sent.add_callback(partial(self._acknowledged, handle, reserved, where))
        sent.add_errback(partial(self._fail, handle, reserved, name))
        return handle

    def flush(self, timeout_s: float) -> None:
        """Wait until every record has ended. Raises Unavailable when some have not, or failed since the last call."""
        from kafka.errors import KafkaError

        try:
            self._producer.flush(timeout_s)
        except KafkaError as error:
            raise Unavailable(
                f"{self._unacknowledged_bytes:,} bytes were not acknowledged by {self._kafka.bootstrap} within "
                f"{timeout_s:g} s ({error}). They are still being sent."
            ) from error
        with self._room:
            failed, first = self._failed, self._first_failure
            self._failed, self._first_failure = 0, None
        if failed:
            raise Unavailable(
                f"{failed} records were not delivered since the last flush; the first: {first}"
            ) from first

    def close(self, timeout_s: float) -> None:
        """Stop the producer; what has not been acknowledged by then fails in its handle."""
        from kafka.errors import KafkaError

        with self._room:
            self._closed = True
            self._room.notify_all()
        try:
            self._producer.close(timeout=max(timeout_s, LEAST_CLOSE_S))
        except KafkaError:
            abandon(self._producer, LEAST_CLOSE_S)

    def _acknowledged(self, handle: Future[Position], reserved: int, where: type[Position], metadata: Any) -> None:
        self._release(reserved)
        handle.set_result(where(metadata.partition, metadata.offset))

    def _fail(self, handle: Future[Position], reserved: int, topic: str, error: Exception) -> None:
        from kafka.errors import MessageSizeTooLargeError

        self._release(reserved)
        explained: HeadwaterError
        if isinstance(error, HeadwaterError):
            explained = error
        elif isinstance(error, MessageSizeTooLargeError):
            explained = InvalidMessage("too_large", f"{topic}: {error}. Send less in one record.")
        elif "AuthorizationFailed" in repr(error):  # of the cluster within an error of no kind: it may write nothing
            explained = AccessDenied(
                f"Kafka at {self._kafka.bootstrap} does not allow {whoami(self._kafka)}: Write on topic "
                f"{topic}. Allow it, or send as a user who may: docs/acls.md says what each may"
            )
        else:
            explained = Unavailable(
                f"{topic}: not acknowledged by {self._kafka.bootstrap} ({type(error).__name__}: {error}). Check Kafka, "
                "then send it again; a repeated event_id or request_id does no harm."
            )
        if explained is not error:
            explained.__cause__ = error
        with self._room:
            self._failed += 1
            if self._first_failure is None:
                self._first_failure = explained
                log.error("a record was not delivered: %s", explained)
        handle.set_exception(explained)

    def _release(self, reserved: int) -> None:
        if reserved:
            with self._room:
                self._unacknowledged_bytes -= reserved
                self._room.notify_all()
