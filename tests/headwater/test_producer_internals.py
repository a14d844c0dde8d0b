"""What headwater/kafka/producer.py uses of kafka-python beyond its public interface: an upgrade that changes it fails
here.

The behaviour that is mended by it is tested in test_client_failures.py.
"""

from __future__ import annotations

import errno
import inspect
import threading
from collections.abc import Callable
from contextlib import closing
from functools import reduce
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError
from kafka.future import Future
from kafka.net.connection import KafkaConnection
from kafka.net.manager import KafkaConnectionManager
from kafka.producer import transaction_manager
from pydantic import SecretStr

from headwater.kafka import BoundedReader
from headwater.kafka.connections import consumer, producer
from headwater.kafka.login import sasl_arguments
from headwater.process import passes
from headwater.security import kafka_login
from headwater.settings import KafkaSettings, Settings
from headwater.topics import EVENTS, REQUESTS, topic_name
from tests.worlds.processes import eventually

USED = {
    "_metadata._manager.connection_delay": ("node_id",),
    "_metadata._topics": (),
    "_metadata.metadata_request": (),
    "_metadata.need_all_topic_metadata": (),
    "_metadata.need_update": (),
    "_metadata.ttl": (),
    "_sender": (),
    "_sender._accumulator": (),
    "_sender._accumulator.await_flush_completion": ("timeout",),
    "_sender._accumulator.begin_flush": (),
    "_sender._accumulator.expired_batches": (),
    "_sender._client.await_ready": ("node_id", "timeout_ms"),
    "_sender._client.least_loaded_node": (),
    "_sender._client.poll": ("timeout_ms", "future"),
    "_sender._client.send": ("node_id", "request"),
    "_sender._complete_batch_with_exception": ("batch", "exception"),
    "_sender._get_expired_inflight_batches": (),
    "_sender._maybe_send_pending_request": (),
    "_sender._metadata.request_update": (),
    "_sender._transaction_manager._current_state": (),
    "_sender._transaction_manager._lock": (),
    "_sender._transaction_manager.ERROR_CLASS_FATAL": (),
    "_sender._transaction_manager.ERROR_CLASS_NEEDS_PRODUCER_ID_RESET": (),
    "_sender._transaction_manager.ERROR_CLASS_RETRIABLE": (),
    "_sender._transaction_manager.bump_producer_id_and_epoch": (),
    "_sender._transaction_manager.classify_batch_error": ("error", "batch", "log_start_offset"),
    "_sender._transaction_manager.clear_in_flight_transactional_request_correlation_id": (),
    "_sender._transaction_manager.has_producer_id": (),
    "_sender._transaction_manager.is_bumping_epoch": (),
    "_sender._transaction_manager.next_in_flight_request_correlation_id": (),
    "_sender._transaction_manager.next_request_handler": ("has_incomplete_batches",),
    "_sender._transaction_manager.producer_id_and_epoch": (),
    "_sender._transaction_manager.reset_producer_id": (),
    "_sender._transaction_manager.retry": ("request",),
    "_sender.force_close": (),
    "_sender.run_once": (),
}
"""Attribute -> the parameters that it is called with."""


@pytest.mark.parametrize("path", USED)
def test_kafka_python_still_has_what_the_producer_mends(settings: Settings, path: str) -> None:
    made = producer(settings.kafka)
    try:
        found = reduce(lambda part, name: getattr(part, name, None), path.split("."), made)
        assert found is not None, f"KafkaProducer.{path} is gone from kafka-python: see headwater/kafka/producer.py"
        assert set(USED[path]) <= parameters(found), f"KafkaProducer.{path} takes other parameters now"
    finally:
        made.close(timeout=5)


def parameters(found: Any) -> set[str]:
    return set(inspect.signature(found).parameters) if callable(found) else set()


def test_a_producer_without_an_id_is_uninitialized() -> None:
    assert "UNINITIALIZED" in transaction_manager.TransactionState.__members__, "see headwater/kafka/producer.py"


def test_a_new_question_about_topics_does_not_wait_as_a_retry_does(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, requests = (topic_name(topic, settings.kafka.prefix) for topic in (EVENTS, REQUESTS))
    with closing(producer(settings.kafka, max_block_ms=10_000)) as writer, closing(consumer(settings.kafka)) as reader:
        for cluster in (writer._metadata, reader._cluster):  # connected now, so that no question has to be asked twice
            monkeypatch.setitem(cluster.config, "retry_backoff_ms", 600_000)
        for name in (events, requests):
            assert writer.partitions_for(name)
        assert {events, requests} <= reader.topics()


def test_offsets_that_nobody_tells_while_leaders_change_are_asked_for_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = TopicPartition(topic_name(EVENTS, settings.kafka.prefix), 0)
    for name in ("beginning_offsets", "end_offsets"):
        with monkeypatch.context() as patch:
            patch.setattr(KafkaConsumer, name, lambda *_, **__: {}[part])  # as kafka-python ends then
            with closing(consumer(settings.kafka)) as asking, pytest.raises(KafkaError) as told:
                getattr(asking, name)([part])
        assert passes(told.value)
    with BoundedReader(settings.kafka, EVENTS) as reader:
        assert len(reader.spans()) == EVENTS.partitions


def test_a_wait_that_is_over_leaves_nothing_with_what_it_waited_for(settings: Settings) -> None:
    with closing(consumer(settings.kafka)) as reader:
        never, soon, failed = Future(), Future(), Future()

        def wait(future: Future, timeout_ms: float = 10_000) -> Any:
            return reader._net.run(reader._manager.wait_for, future, timeout_ms)

        for _ in range(3):
            with pytest.raises(KafkaTimeoutError):
                wait(never, 1)
        assert (never._callbacks, never._errbacks) == ([], [])
        reader._net.call_soon_threadsafe(lambda: reader._net.call_later(0.02, lambda: soon.success(7)))
        assert (wait(soon), wait(soon)) == (7, 7)
        reader._net.call_soon_threadsafe(lambda: reader._net.call_later(0.02, lambda: failed.failure(KafkaError("no"))))
        for _ in range(2):
            with pytest.raises(KafkaError, match="no"):
                wait(failed)


def test_a_fetch_that_comes_while_more_is_asked_for_is_not_waited_for(settings: Settings) -> None:
    part = TopicPartition(topic_name(EVENTS, settings.kafka.prefix), 0)
    with closing(producer(settings.kafka)) as writer, closing(consumer(settings.kafka)) as reader:
        reader.assign([part])
        reader.seek(part, 0)
        fetcher = reader._fetcher
        eventually(lambda: reader.poll(10) or fetcher._fetch_futures, what="a fetch is under way")
        writer.send(part.topic, b"", partition=0).get(10)
        eventually(lambda: fetcher._completed_fetches, what="and has come, after the last look")
        fetcher.send_fetches()
        assert any(one.is_done for one in fetcher._fetch_futures), "what a poll waits for then"
        assert [len(several) for several in reader.poll(10).values()] == [1]
        fetcher.send_fetches()
        assert not any(one.is_done for one in fetcher._fetch_futures), "nothing is there: a poll may wait"


def no_token(patch: pytest.MonkeyPatch, tried: threading.Event) -> None:
    """Connections log in from here on, and who gives tokens for that is away."""
    giver = {"sasl_token_url": "http://127.0.0.1:1/", "sasl_client_id": "a", "sasl_client_secret": SecretStr("b")}
    login = kafka_login(KafkaSettings(security_protocol="SASL_PLAINTEXT", sasl_mechanism="OAUTHBEARER", **giver))

    async def log_in(_: KafkaConnection, __: float) -> None:
        tried.set()
        sasl_arguments(login)["sasl_oauth_token_provider"].token()

    patch.setattr(KafkaConnection, "sasl_enabled", True)
    patch.setattr(KafkaConnection, "_sasl_authenticate", log_in)


def reset_before_tls(patch: pytest.MonkeyPatch, tried: threading.Event) -> None:
    """Connections are reset from here on before they speak TLS: `ssl` raises the error of the socket then."""

    async def wrapped(*_: Any, **__: Any) -> None:
        tried.set()
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")

    patch.setattr(KafkaConnectionManager, "_build_transport", wrapped)


@pytest.mark.parametrize("ended", [no_token, reset_before_tls])
def test_what_reads_the_metadata_outlives_connections_however_they_end(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, ended: Callable[[pytest.MonkeyPatch, threading.Event], None]
) -> None:
    with closing(consumer(settings.kafka)) as reader:
        cluster, connections = reader._cluster, reader._manager._conns
        assert reader.topics()

        def hang_up() -> None:
            for connection in list(connections.values()):
                connection.close(KafkaConnectionError("gone"))

        tried = threading.Event()
        with monkeypatch.context() as patch:
            ended(patch, tried)
            reader._net.run(hang_up)
            assert tried.wait(10)
            eventually(lambda: not connections, what="no connection is left")
        before = cluster._last_successful_refresh_ms
        cluster.request_update()
        eventually(lambda: cluster._last_successful_refresh_ms > before, 10, "the metadata is read again")
