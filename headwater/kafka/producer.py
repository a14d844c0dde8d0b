"""What kafka-python 3.0.12 leaves out when a broker refuses a record, or stalls for longer than the delivery timeout.

A record that the broker refuses for good (too large for its topic, no access to it) is fatal to an idempotent producer
of kafka-python: every later record, of every topic, fails with the first one's error. Only the sequence numbers of one
partition are in doubt, and a new producer id starts them anew; one batch of a partition is under way at a time, so
that nothing else is lost with the old one. A batch of several is split until the refused record is alone, and a flush
that meets the split fails at once; it has to wait for the parts.

A batch that expires after it was sent once makes the idempotent producer drop its producer id, since nobody knows
whether the broker has the batch. kafka-python then asks for no new id, because its state machine stays READY, and looks
at no delivery timeout for as long as it has none: every later record would wait for ever, with the broker long back.
While it looks for a broker to ask, it does not look at them either, and a request for an id that times out is fatal to
it.

`recovering` mends all that; it runs on the producer's own thread. A `close` that cannot flush gives up with the thread
running and its futures open: `abandon` ends both.

A client takes each question about topics for a second try of the one before, such as the one of its start, and waits
100 ms with it (its own `retry_backoff_ms` does not reach that far). `asking_at_once` mends that, of consumers as well.

While leaders change, a consumer that is asked for offsets of several partitions may end with a KeyError, which nobody
takes for one that passes: `telling_all` says what it is.

A consumer that waits for an answer with a timeout leaves two callbacks, an error and its traceback with that answer,
each time. Behind a connection that has gone silent one answer is waited for anew with every poll: 30 kB a poll, half a
GB until the request gives up. `leaving_nothing` takes them away again.

A consumer looks what has come, asks for more and then waits; what comes in between is waited for no longer, for asking
forgets every fetch that is done: one poll in sixteen hundred stood for all of its time. `missing_nothing` wakes it.

A consumer that is closed keeps what it has fetched and nobody has taken, up to 8 MB a partition, and is a circle, for
which Python looks seldom in a worker: `letting_go` closes that, too.

The name of a record's header may be any bytes: brokers do not look, librdkafka sends what it is given. kafka-python and
aiokafka end at one that is not UTF-8, at each try, and nobody gets past its record: `reading_any_names`.

What reads the metadata outlives Kafka's errors alone. Where a connection ends with another one (who gives tokens is
away; TLS finds the socket reset) it ends, too, without a word, and no client hears of a leader that has moved, for
ever. `ending_as_kafkas` lets every connection end with an error of Kafka's.

All private attributes of kafka-python that Headwater uses are in this file; tests/headwater/test_producer_internals.py
says which an upgrade has changed.

Before: connections.py. After: every producer of the project.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kafka import KafkaConsumer, KafkaProducer

__all__ = ["AnyNames", "abandon", "asking_at_once", "ending_as_kafkas", "leaving_nothing", "letting_go"]
__all__ += ["missing_nothing", "reading_any_names", "recovering", "telling_all"]

log = logging.getLogger("headwater.producer")


def recovering(producer: KafkaProducer) -> KafkaProducer:
    """The same idempotent producer, which outlives refused and expired batches: a new id, bounded waits until then."""
    sender = producer._sender
    manager = sender._transaction_manager
    reset, bump, run_once = manager.reset_producer_id, manager.bump_producer_id_and_epoch, sender.run_once
    classify = manager.classify_batch_error

    def reset_producer_id() -> None:
        from kafka.producer.transaction_manager import TransactionState

        with manager._lock:
            reset()
            manager._current_state = TransactionState.UNINITIALIZED  # so that run_once asks for the next id

    def bump_producer_id_and_epoch() -> None:
        if manager.has_producer_id():  # without one a new one is on its way, which is all that a bump is for
            bump()

    def classify_batch_error(error: Any, batch: Any, log_start_offset: int = -1) -> str:
        found: str = classify(error, batch, log_start_offset)
        if found != manager.ERROR_CLASS_FATAL:
            return found
        if manager.is_bumping_epoch() or not manager.producer_id_and_epoch.match(batch):
            return str(manager.ERROR_CLASS_RETRIABLE)  # fails this batch alone: its id is given up already
        return str(manager.ERROR_CLASS_NEEDS_PRODUCER_ID_RESET)

    def run_once_and_expire() -> None:
        run_once()
        if not manager.has_producer_id() or manager.is_bumping_epoch():
            _expire(sender)

    manager.reset_producer_id = reset_producer_id
    manager.bump_producer_id_and_epoch = bump_producer_id_and_epoch
    manager.classify_batch_error = classify_batch_error
    sender._accumulator.await_flush_completion = partial(
        _flushed, sender._accumulator, sender._accumulator.await_flush_completion
    )
    sender._maybe_send_pending_request = lambda: _ask_for_an_id(sender)
    sender.run_once = run_once_and_expire
    return producer


def asking_at_once(client: Any) -> Any:
    """The same consumer or producer, which waits before it asks the same about topics again, and never with a new
    question."""
    cluster = getattr(client, "_cluster", None) or getattr(client, "_metadata", None)
    if cluster is None:  # an admin client asks for itself
        return client
    ttl, metadata_request = cluster.ttl, cluster.metadata_request
    asked: Any = None

    def question() -> Any:
        return cluster.need_all_topic_metadata or frozenset(cluster._topics)

    def request() -> Any:
        nonlocal asked
        asked = question()
        return metadata_request()

    def due_in_ms() -> float:
        new = cluster.need_update and question() != asked and not cluster._manager.connection_delay("metadata")
        return 0.0 if new else float(ttl())

    cluster.metadata_request, cluster.ttl = request, due_in_ms
    return client


def telling_all(consumer: KafkaConsumer) -> KafkaConsumer:
    """The same consumer, whose `beginning_offsets` and `end_offsets` tell of every partition or fail for now: while
    leaders change they may lack one, and end with a KeyError."""

    def whole(ask: Callable[..., dict[Any, int]]) -> Callable[..., dict[Any, int]]:
        def asked(partitions: Any, *words: Any, **named: Any) -> dict[Any, int]:
            from kafka.errors import LeaderNotAvailableError

            try:
                return ask(partitions, *words, **named)
            except KeyError as error:
                raise LeaderNotAvailableError(f"nobody tells the offsets of {error}") from error

        return asked

    consumer.beginning_offsets = whole(consumer.beginning_offsets)
    consumer.end_offsets = whole(consumer.end_offsets)
    return consumer


def leaving_nothing(consumer: KafkaConsumer) -> KafkaConsumer:
    """The same consumer, whose waits are over when they are."""
    from kafka.errors import KafkaTimeoutError
    from kafka.future import Future

    manager = consumer._manager

    async def wait_for(future: Any, timeout_ms: float | None) -> Any:
        if timeout_ms is None or future.is_done:
            return await future
        over = Future()

        def end(_: Any = None) -> None:
            if not over.is_done:
                over.success(None)

        future.add_callback(end)
        future.add_errback(end)
        timer = manager._net.call_later(timeout_ms / 1000, end)
        try:
            await over
        finally:
            manager._net.cancel(timer)
            with future._lock:
                for left in (future._callbacks, future._errbacks):  # None of one that is done
                    if left and end in left:
                        left.remove(end)
        if not future.is_done:
            raise KafkaTimeoutError(f"Timed out after {timeout_ms} ms")
        return await future

    manager.wait_for = wait_for
    return consumer


class AnyNames(bytearray):
    """The bytes of a batch, for a reader that takes names out of them: U+FFFD stands for what is not UTF-8.

    >>> ascii(AnyNames(bytes([97, 255]))[1:].decode("utf-8"))
    "'\\\\ufffd'"
    """

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        return AnyNames(found) if isinstance(at, slice) else found

    def decode(self, *_: Any, **__: Any) -> str:
        return bytes(self).decode("utf-8", "replace")


def reading_any_names() -> None:
    """Let consumers of this process read records whatever the names of their headers."""
    from kafka.record.default_records import DefaultRecordBatch

    read = DefaultRecordBatch._read_msg

    def read_any_names(batch: Any) -> Any:
        try:
            return read(batch)
        except UnicodeDecodeError:
            batch._buffer = AnyNames(batch._buffer)
            return read(batch)

    if read.__name__ != read_any_names.__name__:
        DefaultRecordBatch._read_msg = read_any_names


def ending_as_kafkas() -> None:
    """Let connections of this process end with errors of Kafka's, each with what it came of as its cause."""
    from kafka.errors import KafkaConnectionError, KafkaError
    from kafka.net.connection import KafkaConnection

    lost = KafkaConnection.connection_lost

    def lost_as_kafkas(connection: Any, error: Exception | None) -> None:
        if error is not None and not isinstance(error, KafkaError):
            told = KafkaConnectionError(f"{type(error).__name__}: {error}")
            told.__cause__ = error
            error = told
        lost(connection, error)

    if lost.__name__ != lost_as_kafkas.__name__:
        KafkaConnection.connection_lost = lost_as_kafkas


def missing_nothing(consumer: KafkaConsumer) -> KafkaConsumer:
    """The same consumer, which waits for nothing where a fetch has come by then."""
    from kafka.future import Future

    fetcher, send = consumer._fetcher, consumer._fetcher.send_fetches

    def sent() -> Any:
        futures = send()
        if fetcher._completed_fetches:
            come = Future()
            come.success(None)
            fetcher._fetch_futures.append(come)
        return futures

    fetcher.send_fetches = sent
    return consumer


def letting_go(consumer: KafkaConsumer) -> KafkaConsumer:
    """The same consumer, which lets go of what it has fetched when it is closed."""
    close, fetcher = consumer.close, consumer._fetcher

    def closed(*words: Any, **named: Any) -> None:
        try:
            close(*words, **named)
        finally:
            fetcher._fetch_futures.clear()
            fetcher._completed_fetches.clear()
            fetcher._next_partition_records = None

    consumer.close = closed
    return consumer


def abandon(producer: KafkaProducer, timeout_s: float) -> None:
    """Close a producer whose `close` raised: what was not acknowledged fails in its future."""
    producer._sender.force_close()
    producer._sender.join(timeout_s)
    producer.close(timeout=timeout_s)


def _flushed(accumulator: Any, wait: Callable[..., None], timeout: float | None = None) -> None:
    """Wait until all is sent, whatever is split meanwhile. Raises KafkaTimeoutError."""
    from kafka.errors import KafkaTimeoutError, UnknownError

    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        try:
            return wait(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
        except UnknownError as error:  # a batch that was split; its parts are in the accumulator now
            if deadline is not None and time.monotonic() > deadline:
                raise KafkaTimeoutError(f"not all was sent within {timeout:g} s") from error
            accumulator.begin_flush()  # each wait ends the flush that was begun for it


def _ask_for_an_id(sender: Any) -> bool:
    """One try to send the request for a producer id, if it waits to be sent; kafka-python's own tries until it can."""
    manager, client, backoff_ms = sender._transaction_manager, sender._client, sender.config["retry_backoff_ms"]
    handler = manager.next_request_handler(sender._accumulator.has_incomplete)
    if handler is None:
        return False
    try:
        node = client.least_loaded_node()
        if node is None:
            client.poll(timeout_ms=backoff_ms, future=sender._metadata.request_update())
        else:
            client.await_ready(node, timeout_ms=backoff_ms)
            correlation = manager.next_in_flight_request_correlation_id()
            client.send(node, handler.request).add_both(_answered, handler, correlation)
            return True
    except Exception as error:  # noqa: BLE001 - whatever it is, the request must not be lost: the sender's loop tries again
        log.debug("no producer id yet, trying again: %s", error)
        manager.clear_in_flight_transactional_request_correlation_id()
    manager.retry(handler)
    return True


def _answered(handler: Any, correlation: int, answer: Any) -> None:
    """Hand the answer on; an error that passes is told as a lost connection, the one kind that is asked again."""
    from kafka.errors import KafkaConnectionError, RetriableError

    if isinstance(answer, RetriableError) and not isinstance(answer, KafkaConnectionError):
        answer = KafkaConnectionError(str(answer))
    handler.on_complete(correlation, answer)


def _expire(sender: Any) -> None:
    """Fail what has waited for longer than the delivery timeout: unsent, or drained when the id was dropped."""
    from kafka.errors import KafkaTimeoutError

    for batch in [*sender._accumulator.expired_batches(), *sender._get_expired_inflight_batches()]:
        sender._complete_batch_with_exception(
            batch,
            KafkaTimeoutError(
                f"Expiring {batch.record_count} record(s) for {batch.topic_partition}: not sent within the delivery "
                "timeout, while the producer waited for a producer id"
            ),
        )
