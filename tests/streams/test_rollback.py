"""A store that goes back in time while the worker runs: what it lost is folded again from the log, once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import TopicPartition

from embedded import EmbeddedStore
from headwater.events import Item
from headwater.examples import Example, unpack
from headwater.identities import Identity
from headwater.kafka import admin_client
from headwater.settings import Settings, load_settings
from headwater.topics import EVENTS, EXAMPLES, IDENTITIES, ITEMS, topic_name
from headwater.wire import encode
from streams.features.packed import encode as to_base
from streams.features.state import UserState
from tests.worlds.processes import LiveWorker, eventually
from tests.worlds.streams import (
    committed_all,
    end_marks,
    event,
    eventually_equal,
    folded_all,
    load,
    partition_of,
    records,
    send,
    send_packed,
    send_raw,
    server_of,
    storing,
)

Start = Callable[..., LiveWorker]


@pytest.fixture
def mine(settings: Settings, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Settings]:
    """A world with a store of its own, which a test may empty as a whole; of one slot, or of as many as it asks for."""
    with EmbeddedStore(tmp_path / "own-store") as store:
        url, shards = load_settings(redis={"url": store.address}).redis.url, getattr(request, "param", 1)
        redis = settings.redis.model_copy(update={"url": url, "shards": shards})
        yield settings.model_copy(update={"redis": redis})


def snapshot(server: Any) -> dict[bytes, bytes]:
    """Every key as it is at one moment, as a lagging replica has them."""
    keys = server.keys()
    pipe = server.pipeline(transaction=True)
    for key in keys:
        pipe.dump(key)
    return {key: value for key, value in zip(keys, pipe.execute(), strict=True) if value}


def put_back(server: Any, kept: dict[bytes, bytes]) -> None:
    """The store holds what it held then, and nothing else, from one moment to the next."""
    pipe = server.pipeline(transaction=True)
    pipe.flushall()
    for key, value in kept.items():
        pipe.restore(key, 0, value)
    pipe.execute()


def test_a_transaction_that_a_crash_has_torn_is_not_counted_once_more_at_the_next_start(
    settings: Settings, tmp_path: Path, worker: Start
) -> None:
    """Redis before 7.2 leaves its beginning in the file, and takes it for a part of the next one when it starts."""
    with EmbeddedStore(tmp_path / "own-store") as store:
        url = load_settings(redis={"url": store.address}).redis.url
        mine = settings.model_copy(update={"redis": settings.redis.model_copy(update={"url": url})})
        streams = worker("streams.worker", given=mine)
        send(mine, [event(n) for n in range(5)])
        assert folded_all(mine).ok
        store.kill()
        (log,) = tmp_path.glob("own-store/**/*.incr.aof")
        written = log.read_bytes()
        log.write_bytes(written[: written.rindex(b"*1\r\n$4\r\nEXEC") + 6])
        store.start()
        send(mine, [event(n) for n in range(5, 7)])
        assert folded_all(mine).ok
        assert "the store went back in time" in streams.tail()
        store.stop()
        store.start()
        result = folded_all(mine)
        assert result.ok, result.first_difference


def test_events_survive_a_store_that_is_emptied_while_the_worker_runs(mine: Settings, worker: Start) -> None:
    streams = worker("streams.worker", given=mine)
    send(mine, [event(n) for n in range(5)])
    assert folded_all(mine).ok
    with server_of(mine) as server:
        server.flushall()
    send(mine, [event(n) for n in range(5, 7)])
    result = folded_all(mine)
    assert result.ok, result.first_difference
    assert result.events_applied == 7
    assert streams.metric("headwater_store_went_back_total") == 1
    assert "the store went back in time" in streams.tail()
    assert streams.stop() == 0


def test_one_new_event_brings_back_what_all_partitions_lost(mine: Settings, worker: Start) -> None:
    streams = worker("streams.worker", given=mine)
    for partition in range(4):
        send_packed(mine, [event(n, f"user-{partition}") for n in range(10)], partition)
    assert folded_all(mine).ok
    with server_of(mine) as server:
        server.flushall()
    send_packed(mine, [event(10, "user-2")], 2)
    result = folded_all(mine)
    assert result.ok, result.first_difference
    assert result.events_applied == 41
    assert streams.metric("headwater_store_went_back_total") == 1


def test_events_survive_a_replica_that_lagged_behind_and_nothing_is_taught_from_it(
    mine: Settings, worker: Start
) -> None:
    forgetful = mine.model_copy(update={"streams": mine.streams.model_copy(update={"hot_users": 0})})
    streams = worker("streams.worker", given=forgetful)
    send(mine, [event(n) for n in range(5)])
    assert folded_all(mine).ok
    with server_of(mine) as server:
        older = snapshot(server)
        send(mine, [event(n) for n in range(5, 12)])
        assert folded_all(mine).ok
        put_back(server, older)
    send(mine, [event(12)])
    result = folded_all(mine)
    assert result.ok, result.first_difference
    assert result.events_applied == 13
    assert streams.metric("headwater_store_went_back_total") == 1
    taught = [one for record in records(mine, EXAMPLES) for one in unpack(record.value)]
    assert {len(one.history) for one in taught if isinstance(one, Example) and one.position.offset == 12} == {12}


@pytest.mark.parametrize("mine", [1, 64], indirect=True)
def test_a_store_that_goes_back_twice_under_load_loses_and_doubles_nothing(mine: Settings, worker: Start) -> None:
    first, second = worker("streams.worker", given=mine), worker("streams.worker", given=mine)

    def applied() -> float:
        return sum(one.metric("headwater_events_applied_total") for one in (first, second))

    def went_back() -> float:
        return sum(one.metric("headwater_store_went_back_total") for one in (first, second))

    with load(mine) as sent, server_of(mine) as server:
        eventually(lambda: applied() > 500)
        older = snapshot(server)
        before = applied()
        eventually(lambda: applied() > before + 500)
        put_back(server, older)
        eventually(went_back, what="a worker notices")
        before = applied()
        eventually(lambda: applied() > before + 500)
        noticed = [one.metric("headwater_store_went_back_total") for one in (first, second)]
        server.flushall()
        for one, before in zip((first, second), noticed, strict=True):  # each of its own partitions, at its next event
            eventually(lambda one=one, before=before: one.metric("headwater_store_went_back_total") > before)
    result = folded_all(mine)
    assert result.ok, result.first_difference
    assert result.events_applied == sent()


def test_a_user_in_memory_does_not_outlive_the_store_even_if_the_count_fits(mine: Settings, worker: Start) -> None:
    streams = worker("streams.worker", given=mine)
    home = partition_of(mine, "ada")
    send_packed(mine, [event(n) for n in range(5)], home)
    assert folded_all(mine).ok
    with storing(mine) as store, server_of(mine) as server:
        server.flushall()
        server.set(store.slots.user("u", "ada"), to_base(UserState(count=5)))
        send_packed(mine, [event(5)], (home + 1) % 4)
        eventually(lambda: streams.metric("headwater_store_went_back_total") == 1)
        eventually_equal(store.marks, {home: 0, (home + 1) % 4: 0})
        assert store.read_users(["ada"]).states["ada"].count == 11


def test_a_worker_on_a_store_that_is_older_than_its_commits_reads_the_gap_before_any_event(
    mine: Settings, worker: Start
) -> None:
    first = worker("streams.worker", given=mine)
    for partition in range(4):
        send_packed(mine, [event(n, f"user-{partition}") for n in range(10)], partition)
    send_raw(mine, encode(Item(item_id="film-1", title="Alien")), ITEMS, key=b"film-1")
    send_raw(mine, b"no item", ITEMS, key=b"film-2")
    send_raw(mine, encode(Identity(user_id="user-1", was="user-2")), IDENTITIES, key=b"user-1")
    with server_of(mine) as server, storing(mine) as store:
        assert folded_all(mine).ok
        eventually_equal(store.dead_letters, {"undecodable": 1})
        eventually(lambda: store.read_users(["user-2"]).people, what="the link")
        older = snapshot(server)
        for partition in range(1, 4):
            send_packed(mine, [event(n, f"user-{partition}") for n in range(10, 20)], partition)
        send_raw(mine, encode(Item(item_id="film-3", title="Heat")), ITEMS, key=b"film-3")
        assert folded_all(mine).ok
        eventually(lambda: store.read_items(["film-3"])[0], what="the second item")
        committed_all(mine)
        assert first.stop() == 0
        put_back(server, older)
        second = worker("streams.worker", given=mine)
        assert store.marks() == end_marks(mine), "ready before the store has what it lost"
        assert folded_all(mine).ok
        eventually(lambda: store.read_items(["film-3"])[0], what="the item that the store lost")
        assert second.metric("headwater_store_went_back_total") >= 1

        server.flushall()  # and while nothing at all arrives
        assert folded_all(mine).ok
        eventually(lambda: all(store.read_items(["film-1", "film-3"])), what="the catalogue")
        eventually(lambda: store.read_users(["user-2"]).people, what="the link")
        eventually_equal(store.dead_letters, {"undecodable": 2})  # the catalogue's refusal was sent again
        eventually(second.is_ready)


def test_what_the_log_has_deleted_before_the_store_had_it_is_told_and_counted(mine: Settings, worker: Start) -> None:
    first = worker("streams.worker", given=mine)
    name = topic_name(EVENTS, mine.kafka.prefix)
    with server_of(mine) as server, storing(mine) as store:
        send(mine, [event(n) for n in range(3)])
        home = partition_of(mine, "ada")
        assert folded_all(mine).ok
        older = snapshot(server)
        send(mine, [event(n) for n in range(3, 12)])
        assert folded_all(mine).ok
        committed_all(mine)
        assert first.stop() == 0
        put_back(server, older)
        admin = admin_client(mine.kafka)
        try:
            admin.delete_records({TopicPartition(name, home): 8})
        finally:
            admin.close()
        second = worker("streams.worker", given=mine)
        eventually_equal(store.marks, {home: 11})
        assert store.read_users(["ada"]).states["ada"].count == 3 + 4
    assert second.metric("headwater_records_gone_total") == 5
    assert f"{name}[{home}]: 5 records that the store does not have are deleted from the log" in second.tail()
