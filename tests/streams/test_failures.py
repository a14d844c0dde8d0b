"""Servers that go away, workers that come, go and freeze: nothing is lost and nothing is doubled."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest

from embedded import EmbeddedBroker, EmbeddedStore, free_port
from headwater.errors import InvalidMessage
from headwater.events import now_ms
from headwater.kafka import ensure_topics, read_topic
from headwater.process import Retry
from headwater.settings import Settings, load_settings
from headwater.topics import DEAD_LETTERS, EVENTS, EXAMPLES, IDENTITIES, topic_name
from headwater.wire import RefusedRecord, dead_letter
from streams.past_refusals import PastRefusals
from tests.worlds.processes import LiveWorker, eventually
from tests.worlds.streams import event, folded_all, load, producing, send, send_packed, send_raw, storing
from tests.worlds.topic_reading import limit_records

Start = Callable[..., LiveWorker]


def applied(*workers: LiveWorker) -> float:
    return sum(one.metric("headwater_events_applied_total") for one in workers)


@pytest.mark.any_broker
def test_workers_that_come_and_go_lose_and_double_nothing(settings: Settings, worker: Start) -> None:
    quick = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"session_timeout_ms": 2000})})
    first = worker("streams.worker", given=quick)
    with load(settings) as sent:
        eventually(lambda: applied(first) > 200)
        second = worker("streams.worker", given=quick)
        eventually(lambda: applied(second) > 200, what="the second worker gets partitions")
        assert first.stop() == 0
        before = applied(second)
        eventually(lambda: applied(second) > before + 1000, what="the second worker takes all")
        third = worker("streams.worker", given=quick)
        eventually(lambda: applied(third) > 200, what="the third worker gets partitions")
        second.kill()
        before = applied(third)
        eventually(lambda: applied(third) > before + 1000, what="the third worker takes all")
    result = folded_all(settings)
    assert result.ok, result.first_difference
    assert result.events_applied == sent()


@pytest.mark.any_broker
def test_a_worker_that_froze_and_lost_its_partitions_is_fenced(settings: Settings, worker: Start) -> None:
    quick = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"session_timeout_ms": 2000})})
    frozen = worker("streams.worker", given=quick)
    assert frozen.process is not None
    with load(settings) as sent:
        eventually(lambda: applied(frozen) > 200)
        os.kill(frozen.process.pid, signal.SIGSTOP)
        try:
            other = worker("streams.worker", given=quick)
            eventually(lambda: applied(other) > 1000, 60, "the other worker takes over")
        finally:
            os.kill(frozen.process.pid, signal.SIGCONT)
        before = applied(other)
        eventually(lambda: applied(other) > before + 1000)
    result = folded_all(settings)
    assert result.ok, result.first_difference
    assert result.events_applied == sent()


@pytest.fixture
def own_store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    with EmbeddedStore(tmp_path / "own-store") as store:
        yield store


def test_a_store_that_is_killed_and_comes_back_loses_nothing(
    settings: Settings, worker: Start, own_store: EmbeddedStore
) -> None:
    redis = settings.redis.model_copy(update={"url": load_settings(redis={"url": own_store.address}).redis.url})
    mine = settings.model_copy(update={"redis": redis})
    streams = worker("streams.worker", given=mine)
    with load(mine) as sent:
        eventually(lambda: applied(streams) > 200)
        own_store.kill()
        eventually(lambda: streams.metric("headwater_retries_total") > 3, what="the worker holds its batch")
        own_store.start()
        before = applied(streams)
        eventually(lambda: applied(streams) > before + 1000)
    result = folded_all(mine)
    assert result.ok, result.first_difference
    assert result.events_applied == sent()
    assert streams.stop() == 0


def test_a_broker_that_is_killed_and_comes_back_loses_nothing(tmp_path: Path, redis_url: str, worker: Start) -> None:
    with EmbeddedBroker(tmp_path / "own-broker") as broker:
        mine = load_settings(kafka={"bootstrap": broker.address, "prefix": "own."}, redis={"url": redis_url})
        ensure_topics(mine.kafka)
        streams = worker("streams.worker", given=mine)
        send(mine, [event(n, f"user-{n % 10}") for n in range(100)])
        eventually(lambda: applied(streams) == 100)
        broker.kill()
        broker.start()
        send(mine, [event(n, f"user-{n % 10}") for n in range(100, 200)])
        result = folded_all(mine)
        assert result.ok, result.first_difference
        assert result.events_applied == 200
        assert streams.stop() == 0


def test_a_worker_waits_for_servers_that_are_not_there_yet(tmp_path: Path, worker: Start) -> None:
    broker_port, store_port = free_port(), free_port()
    mine = load_settings(
        kafka={"bootstrap": f"127.0.0.1:{broker_port}", "prefix": "late."},
        redis={"url": f"redis://127.0.0.1:{store_port}/0"},
    )
    streams = worker("streams.worker", given=mine, wait=False)
    eventually(lambda: "no Kafka answers" in streams.tail())
    assert streams.get("/readyz")[0] == 503
    with EmbeddedBroker(tmp_path / "late-broker", broker_port):
        eventually(lambda: "no Redis answers" in streams.tail())
        with EmbeddedStore(tmp_path / "late-store", store_port):
            eventually(streams.is_ready, 60)
            send(mine, [event(0)])
            assert folded_all(mine).ok
            assert streams.stop() == 0


def test_told_to_stop_while_the_broker_is_away_it_does(tmp_path: Path, worker: Start, own_store: EmbeddedStore) -> None:
    with EmbeddedBroker(tmp_path / "own-broker") as broker:
        kafka = {"bootstrap": broker.address, "session_timeout_ms": 3000}
        mine = load_settings(kafka=kafka, redis={"url": own_store.address})
        streams = worker("streams.worker", given=mine, HEADWATER_OPERATIONS__DRAIN_S="4")
        send(mine, [event(n) for n in range(20)])
        eventually(lambda: streams.metric("headwater_events_applied_total") == 20)
        broker.kill()  # at once: Faust is left with offsets to commit, and its try to do so takes no cancelling
        eventually(lambda: "Group Coordinator Request failed" in streams.tail())
        assert streams.stop() == 0


def test_told_to_stop_while_a_broker_does_not_answer_it_does(settings: Settings, worker: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        mine = settings.model_copy(update={"kafka": load_settings(kafka={"bootstrap": address}).kafka})
        streams = worker("streams.worker", given=mine, wait=False)
        silent.settimeout(60)
        with silent.accept()[0]:  # it knocks before it asks
            assert streams.stop() == 0


@pytest.mark.any_broker
@pytest.mark.parametrize("module", ["streams.worker", "trainer.worker", "serving.worker"])
def test_a_broker_that_refuses_to_make_the_topics_ends_a_worker_with_what_to_set(
    settings: Settings, worker: Start, module: str
) -> None:
    kafka = settings.kafka.model_copy(update={"prefix": "threefold.", "replication": 3})
    refused = worker(module, given=settings.model_copy(update={"kafka": kafka}), wait=False)
    assert refused.process is not None
    assert refused.process.wait(60) == 2, refused.tail()
    assert "Check kafka.replication (now 3)" in refused.tail()


@pytest.mark.any_broker
def test_records_that_only_together_are_too_large_for_the_broker_are_sent_alone(
    settings: Settings, worker: Start
) -> None:
    limit_records(settings.kafka, EXAMPLES.name, 1000)
    for partition in range(4):
        events = [event(n, f"user-{partition}", item_id=f"{'long' * 30}-{n}") for n in range(4)]
        send_packed(settings, events, partition)
    streams = worker("streams.worker")
    assert folded_all(settings).ok
    assert streams.metric("headwater_examples_sent_total") == 16
    assert 'headwater_retries_total{server="kafka"}' not in streams.get("/metrics")[1]


def test_a_worker_without_progress_exits_on_purpose(
    settings: Settings, worker: Start, own_store: EmbeddedStore
) -> None:
    redis = settings.redis.model_copy(update={"url": load_settings(redis={"url": own_store.address}).redis.url})
    mine = settings.model_copy(update={"redis": redis})
    streams = worker("streams.worker", given=mine, HEADWATER_OPERATIONS__STALL_S="2")
    own_store.kill()
    send(settings, [event(0)])
    assert streams.process is not None
    assert streams.process.wait(60) == 70
    own_store.start()
    worker("streams.worker", given=mine)
    assert folded_all(mine).ok


def test_an_idle_worker_stays_alive(settings: Settings, worker: Start) -> None:
    streams = worker("streams.worker", HEADWATER_OPERATIONS__STALL_S="2")
    idle_s: list[float] = []

    def has_looked_often() -> bool:
        idle_s.append(streams.metric("headwater_seconds_since_progress"))
        return sum(later < earlier for earlier, later in pairwise(idle_s)) >= 8  # it looks every quarter of stall_s

    eventually(has_looked_often)
    assert streams.is_ready()
    send(settings, [event(0)])
    assert folded_all(settings).ok
    eventually(lambda: streams.metric("headwater_lag") == 0)


AHEAD_MS, HOUR_MS = 1500, 3_600_000


def test_what_comes_from_ahead_stays_a_dead_letter_when_its_time_has_come_and_the_store_has_forgotten(
    settings: Settings, worker: Start
) -> None:
    streams = worker("streams.worker", HEADWATER_STREAMS__MAX_AHEAD_S="0.5")
    send(settings, [event(1, event_time=now_ms()), event(2, event_time=now_ms() + AHEAD_MS)])
    word = {"user_id": "ada", "was": "guest", "event_time": now_ms() + AHEAD_MS}
    send_raw(settings, orjson.dumps(word), IDENTITIES, key=b"ada")
    eventually(lambda: streams.metric("headwater_dead_letters_total") == 2, 30, "the refusals")
    before = folded_all(settings)
    assert (before.ok, before.events_applied, before.dead_letters) == (True, 1, 1)
    judged_ms = now_ms()
    eventually(lambda: now_ms() > judged_ms + AHEAD_MS, 10, "its time to come")
    with storing(settings) as store:
        store.erase()
    send(settings, [event(3, event_time=now_ms())])
    send_raw(settings, orjson.dumps({**word, "user_id": "bob"}), IDENTITIES, key=b"bob")
    with storing(settings) as store:
        eventually(lambda: store.marks_of(IDENTITIES) == {0: 1}, what="both words are done with")
        assert sorted(store.ids("w")) == ["bob", "guest"], "what was refused links nobody"
    after = folded_all(settings)
    assert after.ok, after.first_difference
    assert (after.events_applied, after.dead_letters) == (2, 1)


def refuse(settings: Settings, message: Any) -> None:
    """As a worker does whose clock says so, when the record is written."""
    name = topic_name(EVENTS, settings.kafka.prefix)
    record = RefusedRecord(name, message.partition, message.offset, message.timestamp, None, b"{}", ())
    letter = dead_letter(InvalidMessage("event_time_ahead", "is 1 h ahead"), record, 0)
    with producing(settings) as client:
        client.send(
            topic_name(DEAD_LETTERS, settings.kafka.prefix), key=letter.key, value=letter.value,
            headers=letter.headers, timestamp_ms=message.timestamp,
        ).get(30)  # fmt: skip


def test_what_was_refused_is_known_of_a_partition_that_begins_earlier_than_the_one_read_first(
    settings: Settings,
) -> None:
    now = now_ms()
    for partition, hours in ((0, 1), (1, 6)):
        send_raw(settings, b"{}", partition=partition, timestamp_ms=now - hours * HOUR_MS)
    late, early = sorted(read_topic(settings.kafka, EVENTS), key=lambda message: -message.timestamp)
    for message in (early, late):
        refuse(settings, message)
    past = PastRefusals(settings, EVENTS, Retry(threading.Event(), lambda _: None))
    for message in (late, early):
        asyncio.run(past.look_back([message]))
        assert past.of(message) is not None
    assert past.of(late) is not None, "what was known is"
