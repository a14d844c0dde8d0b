"""Keys of the store that hold what no worker wrote: told, counted, made again from the log, and no worker ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from headwater.dead_letters import read_letters
from headwater.events import Item
from headwater.settings import Settings
from headwater.topics import DEAD_LETTERS, ITEMS, topic_name
from headwater.wire import encode
from streams.features.store import FeatureStore
from tests.worlds.processes import LiveWorker, eventually
from tests.worlds.streams import (
    committed_all,
    end_marks,
    event,
    eventually_equal,
    folded_all,
    partition_of,
    send,
    send_packed,
    send_raw,
    server_of,
    storing,
)

Start = Callable[..., LiveWorker]

USERS = ("ada", "bob", 'c"é', "dan")


def times(store: FeatureStore, user: str) -> list[int]:
    return [entry.time_ms for entry in store.read_users([user]).states[user].history]


@pytest.mark.parametrize("shards", [1, 64])
def test_users_marks_and_statistics_that_are_none_end_no_worker(shards: int, settings: Settings, worker: Start) -> None:
    settings = settings.model_copy(update={"redis": settings.redis.model_copy(update={"shards": shards})})
    first = worker("streams.worker", given=settings)
    for user in USERS:
        send(settings, [event(n, user) for n in range(4)])
        elsewhere = (partition_of(settings, user) + 1) % 4
        send_packed(settings, [event(n, user) for n in range(3, 6)], elsewhere)  # one of them is known
    assert folded_all(settings).ok
    committed_all(settings)
    assert first.stop() == 0
    with storing(settings) as store, server_of(settings) as server:
        slots, home = store.slots, store.slots.of("ada")
        server.set(slots.user("u", "ada"), b"\x80\x04 garbage")
        bob = slots.user("u", "bob")
        server.set(bob, server.get(bob).replace(b'"click"', b"7", 1))
        server.delete(slots.user("u", USERS[2]))
        server.sadd(slots.user("u", USERS[2]), "a set")
        server.hset(slots.key(home, "marks"), str(partition_of(settings, "ada")), "garbage")
        server.delete(slots.key(home, "i:film-6"))
        server.lpush(slots.key(home, "i:film-6"), "a list")
        server.hset(slots.marks(slots.of("film-1"), ITEMS), "0", 500)  # of an items topic that is no more
        server.hset(slots.home("marks:dead"), f"{topic_name(DEAD_LETTERS, settings.kafka.prefix)}/0", "500:0")
        send_raw(settings, encode(Item(item_id="film-1", title="Alien")), ITEMS, key=b"film-1")
        send_raw(settings, b"no item", ITEMS, key=b"film-2")
        second = worker("streams.worker", given=settings, HEADWATER_OPERATIONS__LOG_USER_IDS="true")
        for user in USERS:
            send(settings, [event(n, user) for n in range(6, 8)])
        eventually_equal(store.marks, end_marks(settings))
        for user in USERS:
            assert times(store, user) == [event(n).event_time for n in range(8)], user
            assert store.read_users([user]).states[user].count == 8
        (statistics,) = store.item_statistics(["film-6"])
        assert statistics.counts == {"click": len(USERS)}
        eventually(lambda: store.read_items(["film-1"])[0], what="the item")
        eventually(lambda: {*store.dead_letters()} == {"undecodable"}, what="the letter, again if it is read again")
        assert {(one.partition, one.offset) for one in read_letters(settings.kafka, ITEMS)} == {(0, 1)}
    told = second.tail(200)
    damaged = [slots.key(home, name) for name in ("marks", "i:film-6")]
    damaged += [slots.user("u", user) for user in ("ada", "bob", "c")]
    lost = slots.user("u", USERS[2]).removesuffix(USERS[2][1:])  # the log quotes the rest of it
    assert [key for key in (*damaged[:4], lost) if f"redis key {key}" not in told] == []
    assert second.metric("headwater_damaged_keys_total") == len(damaged)
    assert second.stop() == 0


def test_a_user_is_made_again_as_far_as_its_slot_was_while_another_slot_has_lost_writes(
    settings: Settings, worker: Start
) -> None:
    settings = settings.model_copy(update={"redis": settings.redis.model_copy(update={"shards": 64})})
    first = worker("streams.worker", given=settings)
    send_packed(settings, [event(0, "ada"), event(0, "bob")], 0)
    send_packed(settings, [event(1, "ada"), event(1, "bob")], 0)
    assert folded_all(settings).ok
    assert first.stop() == 0
    with storing(settings) as store, server_of(settings) as server:
        slots, lost = store.slots, store.slots.of("bob")
        assert lost != slots.of("ada")
        server.hset(slots.key(lost, "marks"), "0", 0)
        server.delete(*(slots.user(kind, "bob") for kind in "ut"))
        server.set(slots.user("u", "ada"), b"\x80\x04 garbage")
        send_packed(settings, [event(2, "ada"), event(2, "bob")], 0)
        second = worker("streams.worker", given=settings)
        eventually_equal(store.marks, end_marks(settings))
        assert times(store, "ada") == [event(n).event_time for n in range(3)]
        assert times(store, "bob") == [event(n).event_time for n in (1, 2)], "what its mark says that it has is gone"
        assert second.stop() == 0


def test_a_landmark_that_is_none_stops_the_worker_with_one_line_that_says_what_to_do(
    settings: Settings, worker: Start
) -> None:
    with storing(settings) as store, server_of(settings) as server:
        server.set(store.slots.home("landmark"), "yesterday")
        stopped = worker("streams.worker", wait=False)
        assert stopped.process is not None
        assert stopped.process.wait(60) == 2
        assert f"redis key {store.slots.home('landmark')}" in stopped.tail()
        assert "delete all keys that begin with" in stopped.tail()


def test_a_state_of_a_later_release_stops_the_worker_and_is_not_written_over(settings: Settings, worker: Start) -> None:
    theirs = b"\x1f42:what only they know"
    with storing(settings) as store, server_of(settings) as server:
        server.set(store.slots.user("u", "ada"), theirs)
        send(settings, [event(0, "ada")])
        stopped = worker("streams.worker", wait=False)
        assert stopped.process is not None
        assert stopped.process.wait(60) == 2
        assert "is of format 31, this release reads up to" in stopped.tail()
        assert server.get(store.slots.user("u", "ada")) == theirs
