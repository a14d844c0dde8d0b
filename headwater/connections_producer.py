"""What kafka-python 3.0.12 leaves out when a broker stalls for longer than the delivery timeout.

A batch that expires after it was sent once makes the idempotent producer drop its producer id, since nobody knows
whether the broker has the batch. kafka-python then asks for no new id, because its state machine stays READY, and looks
at no delivery timeout for as long as it has none: every later record would wait for ever, with the broker long back.
While it looks for a broker to ask, it does not look at them either, and a request for an id that times out is fatal to
it. `lasting` mends all that; it runs on the producer's own thread.

Before: connections.py. After: every producer of the project.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kafka import KafkaProducer

__all__ = ["lasting"]

log = logging.getLogger("headwater.producer")


def lasting(producer: KafkaProducer) -> KafkaProducer:
    """The same idempotent producer, which outlives an expired batch: a new id, and bounded waits while it has none."""
    sender = producer._sender
    manager = sender._transaction_manager
    reset, bump, run_once = manager.reset_producer_id, manager.bump_producer_id_and_epoch, sender.run_once

    def reset_producer_id() -> None:
        from kafka.producer.transaction_manager import TransactionState

        with manager._lock:
            reset()
            manager._current_state = TransactionState.UNINITIALIZED  # so that run_once asks for the next id

    def bump_producer_id_and_epoch() -> None:
        if manager.has_producer_id():  # without one a new one is on its way, which is all that a bump is for
            bump()

    def run_once_and_expire() -> None:
        run_once()
        if not manager.has_producer_id() or manager.is_bumping_epoch():
            _expire(sender)

    manager.reset_producer_id = reset_producer_id
    manager.bump_producer_id_and_epoch = bump_producer_id_and_epoch
    sender._maybe_send_pending_request = lambda: _ask_for_an_id(sender)
    sender.run_once = run_once_and_expire
    return producer


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
