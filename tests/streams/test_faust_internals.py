"""What streams/faust_internals.py uses of Faust and aiokafka beyond their public interface: an upgrade that changes it
fails here."""

from __future__ import annotations

import asyncio
import inspect
import socket
import threading
from pathlib import Path
from typing import Any

import aiokafka
import faust
import pytest
import uvloop
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.consumer.group_coordinator import CoordinatorGroupRebalance, GroupCoordinator
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.protocol.metadata import MetadataRequest
from faust.tables.manager import TableManager
from faust.transport.consumer import Consumer
from faust.transport.drivers import aiokafka as driver

from headwater.process import Retry
from headwater.security import Tokens
from headwater.settings import KafkaSettings, Settings
from headwater.topics import EVENTS
from streams.app import FaustTokens, make_app, raw_topic
from streams.faust_internals import CONSUMER_CALLS

WHERE = "see streams/faust_internals.py"


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (faust.App, "_create_directories"),
        (driver.Consumer, "_new_consumer_thread"),
        (driver.Consumer, "getmany"),
        (driver.Consumer, "_filter_tps_with_pending_acks"),
        (driver.Consumer, "_new_offset"),
        (driver.Consumer, "perform_seek"),
        (driver.AIOKafkaConsumerThread, "_create_worker_consumer"),
        (driver.AIOKafkaConsumerThread, "getmany"),
        (driver.AIOKafkaConsumerThread, "seek_wait"),
        (driver.Producer, "_new_producer"),
    ],
)
def test_faust_still_calls_what_is_overridden(owner: type, name: str) -> None:
    assert name in vars(owner) or name in dir(owner), f"{owner.__name__}.{name} is gone from Faust: {WHERE}"
    calls = inspect.getsource(inspect.getmodule(owner)) + inspect.getsource(Consumer)  # type: ignore[arg-type]
    assert f".{name}(" in calls or f"{name}(" in calls


@pytest.mark.parametrize("name", CONSUMER_CALLS)
def test_aiokafkas_consumer_still_has_the_calls_that_are_retried(name: str) -> None:
    assert inspect.iscoroutinefunction(getattr(aiokafka.AIOKafkaConsumer, name, None)), f"{name}: {WHERE}"


def test_aiokafka_still_takes_its_fetch_wait_from_the_attribute_that_is_set() -> None:
    assert "fetch_max_wait_ms=self._fetch_max_wait_ms" in inspect.getsource(aiokafka.AIOKafkaConsumer.start), WHERE


def test_faust_still_keeps_what_is_committed_where_it_is_looked_for() -> None:
    assert "self._committed_offset.update(committed_offsets)" in inspect.getsource(Consumer.perform_seek), WHERE


def test_faust_still_does_at_the_start_of_its_tables_what_is_done_without_its_second() -> None:
    lines = [line.strip() for line in inspect.getsource(TableManager.on_start).splitlines()[2:]]
    assert lines == [
        "await self.sleep(1.0)",
        "if not self.should_stop:",
        "await self._update_channels()",
        "await self.recovery.start()",
    ], WHERE


def test_faust_still_polls_in_a_loop_around_what_hands_polls_to_the_agents() -> None:
    loop = inspect.getsource(Consumer._drain_messages)
    assert "ait = cast(AsyncIterator, getmany(timeout=1.0))" in loop, WHERE
    assert "async for tp, message in ait:" in loop, WHERE
    poll = inspect.getsource(Consumer.getmany)
    assert "records, active_partitions = await self._wait_next_records(timeout)" in poll, WHERE
    assert "await self.perform_seek()" in poll, WHERE


def test_faust_still_leaves_partitions_out_of_a_poll_by_the_sets_that_are_used() -> None:
    full, drop = inspect.getsource(Consumer.on_buffer_full), inspect.getsource(Consumer.on_buffer_drop)
    assert "active_partitions.discard(tp)" in full, WHERE
    assert "self._buffered_partitions.add(tp)" in full, WHERE
    assert "active_partitions.add(tp)" in drop, WHERE
    assert "buffered_partitions.discard(tp)" in drop, WHERE


def test_faust_still_commits_what_is_done_where_it_is_more_than_was_committed() -> None:
    source = inspect.getsource(Consumer._filter_committable_offsets)
    assert "offset = self._new_offset(tp)" in source, WHERE
    assert "if offset is not None and self._should_commit(tp, offset):" in source, WHERE
    assert "self._filter_tps_with_pending_acks(topics)" in inspect.getsource(Consumer.force_commit), WHERE


def test_a_connection_that_is_gone_before_aiokafka_knows_is_a_connection_error() -> None:
    """Anything else would end, for ever, the task that reads the metadata."""

    async def written_to_late(port: int) -> AIOKafkaConnection:
        connection = AIOKafkaConnection("127.0.0.1", port, security_protocol="PLAINTEXT")
        connection._do_version_lookup = lambda: asyncio.sleep(0)
        await connection.connect()
        connection._versions = {3: (0, 1)}
        connection._writer.transport.abort()
        await asyncio.sleep(0)  # the transport is closed, and who reads has not been woken yet
        with pytest.raises(KafkaConnectionError, match="closed=True"):
            connection.send(MetadataRequest([]))
        return connection

    with socket.create_server(("127.0.0.1", 0)) as silent, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert not runner.run(written_to_late(silent.getsockname()[1])).connected()


def test_what_reads_the_metadata_outlives_a_while_without_tokens(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text("t")
    tokens = FaustTokens(
        Tokens(KafkaSettings(security_protocol="SASL_PLAINTEXT", sasl_mechanism="OAUTHBEARER", sasl_token_file=file))
    )
    monkeypatch.setattr(AIOKafkaConnection, "_do_sasl_handshake", lambda _: tokens.token())

    async def read_again() -> bool:
        client = AIOKafkaClient(
            bootstrap_servers=settings.kafka.bootstrap,
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism="OAUTHBEARER",
            sasl_oauth_token_provider=tokens,
        )
        await client.bootstrap()
        try:
            assert await client.force_metadata_update()
            file.unlink()
            for connection in client._conns.values():
                connection.close(CloseReason.CONNECTION_BROKEN)
            assert not await asyncio.wait_for(client.force_metadata_update(), 10)
            file.write_text("t")
            return bool(await asyncio.wait_for(client.force_metadata_update(), 10))
        finally:
            await client.close()

    assert asyncio.run(read_again())


@pytest.mark.parametrize(
    ("owner", "name", "error"),
    [
        (CoordinatorGroupRebalance, "perform_group_join", KafkaError("UnknownError()")),
        (GroupCoordinator, "ensure_active_group", ValueError("no such assignment")),
    ],
)
def test_what_goes_wrong_in_a_group_ends_the_app(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, error: Exception
) -> None:
    async def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(owner, name, fail)

    async def crash_reason() -> Any:
        app = make_app(settings.kafka, Retry(threading.Event(), lambda _: None))
        app.agent(raw_topic(app, EVENTS, settings.kafka.prefix), name="idle")(idle)
        starting = asyncio.ensure_future(app.start())
        try:
            async with asyncio.timeout(15):
                while not (app.crashed and starting.done()):
                    await asyncio.sleep(0.02)
            return app.crash_reason
        finally:
            await asyncio.wait({asyncio.ensure_future(app.stop())}, timeout=10)

    reason = asyncio.run(crash_reason())
    assert error in (reason, reason.__cause__)


async def idle(stream: Any) -> None:
    async for _ in stream:
        pass
