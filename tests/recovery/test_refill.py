"""A store that was lost, wholly or in part, is made again from the log in bulk, and holds what it held before."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from kafka import TopicPartition

from console.look.checkup import examine
from headwater.errors import HeadwaterError, StoreDamaged, Unavailable
from headwater.events import Item
from headwater.identities import Identity
from headwater.kafka import admin_client, ensure_topics
from headwater.kafka.groups import commit_offsets
from headwater.settings import Settings
from headwater.topics import DEAD_LETTERS, ERASURES, IDENTITIES, ITEMS, USERS, topic_name
from headwater.users import User
from headwater.wire import encode
from streams.audit import audit
from streams.features.store.server import StoreServer
from streams.refill import Refill
from streams.running_audit import audit_running
from tests.worlds.processes import LiveWorker, eventually
from tests.worlds.streams import (
    committed_all,
    end_marks,
    event,
    eventually_equal,
    folded_all,
    send_packed,
    send_raw,
    server_of,
    storing,
)

Start = Callable[..., LiveWorker]


def quiet(_topic: str, _read: int, _of: int) -> None:
    pass


def fill(settings: Settings) -> None:
    """Everything that a store may hold: in order and late, shown and undone, known twice and refused."""
    kinds = ("click", "like", "unlike", "impression")
    for partition in range(4):
        for n in range(0, 60, 6):
            several = [
                event(n + k, f"u{partition}-{k % 3}", type=kinds[(n + k) % 4], request_id=f"r{n}") for k in range(6)
            ]
            send_packed(settings, several[::-1] if n % 4 == 0 else several, partition)
    send_packed(settings, [event(2, "u0-2")], 1)  # in another partition
    send_packed(settings, [event(2, "u1-2")], 1)  # once more
    send_raw(settings, b"no event", key=b"k", partition=2)
    send_raw(settings, encode(Item(item_id="film-1", title="Alien")), ITEMS, key=b"film-1")
    send_raw(settings, b"no item", ITEMS, key=b"film-2")
    send_raw(settings, encode(User(user_id="u0-1", attributes={"country": "nz"})), USERS, key=b"u0-1")
    word = Identity(user_id="u0-1", was="u1-1", event_time=1_700_000_000_000)
    send_raw(settings, encode(word), IDENTITIES, key=b"u0-1")


def dump(settings: Settings) -> dict[str, Any]:
    """All that is in a store, in words: when it was folded, and in how many pieces it is kept, may differ."""
    with storing(settings) as store:
        users, items = sorted(store.ids("u")), sorted(set(store.ids("i")))
        reading = store.read_users(users)
        states = {
            user: (
                list(one.history),
                one.recent,
                one.count,
                one.shown,
                one.reacted,
                one.undos,
                one.undone,
                one.exposures,
            )
            for user, one in reading.states.items()
        }
        statistics = zip(items, store.item_statistics(items), strict=True)
        return {
            "states": states,
            "people": dict(reading.people),
            "attributes": reading.attributes_of(["u0-1"]),
            "decay": reading.decay,
            "items": {item: (one.counts, round(one.log2_sum, 6)) for item, one in statistics},
            "catalogue": store.read_items(["film-1", "film-2"]),
            "dead letters": store.dead_letters(),
            "marks": [store.marks()] + [store.marks_of(one) for one in (ITEMS, USERS, IDENTITIES, DEAD_LETTERS)],
        }


@pytest.mark.parametrize("shards", [1, 16])
def test_a_store_is_made_again_as_it_was(
    shards: int, settings: Settings, worker: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings.model_copy(update={"redis": settings.redis.model_copy(update={"shards": shards})})
    streams = worker("streams.worker", given=settings)
    fill(settings)
    assert folded_all(settings).ok
    with storing(settings) as store:
        eventually_equal(store.dead_letters, {"undecodable": 2})
        eventually_equal(lambda: store.marks_of(ITEMS), {0: 1})
        eventually_equal(lambda: store.marks_of(USERS), {0: 0})
    committed_all(settings)
    with pytest.raises(HeadwaterError, match="streams workers run"):
        Refill(settings, quiet).run()
    assert streams.stop() == 0
    before = dump(settings)
    monkeypatch.setattr("streams.refill.SLICE_USERS", 2)  # many slices

    with storing(settings) as store:
        assert Refill(settings, quiet).run().events == 0, "it lacks nothing"
        if shards > 1:
            lost = store.slots.of("u0-1")
            done = Refill(settings, quiet).run(clear=True, slot=lost)
            assert 0 < done.events < before["states"].__len__() * 60
            assert dump(settings) == before
        store.erase()
    assert {"events", "items", "users"} <= audit_running(settings).lacking.keys(), (
        "an empty store is not as it should be"
    )
    looks: list[str] = []

    def killed(topic: str, read: int, of: int) -> None:
        with storing(settings) as store:
            looks.append(store.rebuilding() or "")
        if topic == "events" and read > of / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Refill(settings, killed).run()
    assert all(" records" in look for look in looks)
    half = audit_running(settings)
    assert half.lacking.keys() == {"events"}
    assert 0 < half.lacking["events"].lost < half.lacking["events"].of
    assert not half.ok
    with storing(settings) as store:
        store.tell_rebuilding(looks[-1])
    assert looks[-1] in {one.name: one.text for one in examine(settings, None)}["rebuild"]
    assert dump(settings)["states"] != before["states"]
    done = Refill(settings, quiet).run()
    again = dump(settings)
    assert again == {**before, "decay": again["decay"], "items": again["items"]}
    assert [counts for counts, _ in again["items"].values()] == [counts for counts, _ in before["items"].values()]
    result = audit(settings)
    assert result.ok, result.first_difference
    with storing(settings) as store:
        assert store.rebuilding() is None
        assert store.marks() == end_marks(settings)


def test_what_no_worker_has_committed_is_left_to_them(settings: Settings, worker: Start) -> None:
    send_packed(settings, [event(1)], 0)
    done = Refill(settings, quiet).run()
    assert (done.events, done.waiting) == (0, 1), "its example has not been sent"
    worker("streams.worker")
    assert folded_all(settings).ok
    with server_of(settings) as server:
        assert not server.keys(f"{settings.kafka.prefix}*rebuilding*")


def test_nothing_is_taken_away_before_it_is_known_that_it_can_be_made_again(settings: Settings) -> None:
    send_packed(settings, [event(1)], 0)
    erasures = topic_name(ERASURES, settings.kafka.prefix)
    with server_of(settings) as server, closing(admin_client(settings.kafka)) as admin:
        marks = f"{settings.kafka.prefix}marks"
        server.set(marks, b"damaged")
        with pytest.raises(StoreDamaged):
            Refill(settings, quiet).run()
        with pytest.raises(HeadwaterError, match="has committed nothing"):
            Refill(settings, quiet).run(clear=True)
        commit_offsets(settings.kafka, "streams", {"events": {0: 1}})
        admin.delete_topics([erasures])  # as in a world of the release before
        eventually(lambda: erasures not in admin.list_topics(), what="the topic is gone")
        with pytest.raises(Unavailable, match=erasures):
            Refill(settings, quiet).run(clear=True)
        assert server.get(marks) == b"damaged"
    ensure_topics(settings.kafka)
    assert Refill(settings, quiet).run(clear=True).events == 1
    with storing(settings) as store:
        assert store.marks() == {0: 0}


@pytest.mark.parametrize(("shards", "slot"), [(1, None), (4, None), (4, 1)])
def test_a_rebuild_that_was_killed_while_it_took_away_ends_with_that_and_goes_on(
    shards: int, slot: int | None, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings.model_copy(update={"redis": settings.redis.model_copy(update={"shards": shards})})
    send_packed(settings, [event(n, f"u{n % 20}") for n in range(60)], 0)
    commit_offsets(settings.kafka, "streams", {"events": {0: 1}})
    Refill(settings, quiet).run()
    before = dump(settings)
    marks = {f"{settings.kafka.prefix}{name}" for name in ("marks", "{s1}marks", "{all}marks", "{all}slots:marks")}
    run = StoreServer.run

    def killed(server: StoreServer, calls: Any, **more: Any) -> Any:
        if calls and calls[0].what == "UNLINK":
            run(server, [call for call in calls if call.keys[0] not in marks])
            raise KeyboardInterrupt
        return run(server, calls, **more)

    with monkeypatch.context() as patched:
        patched.setattr(StoreServer, "run", killed)
        with pytest.raises(KeyboardInterrupt):
            Refill(settings, quiet).run(clear=True, slot=slot)
    with storing(settings) as store:
        for starts in (store.check, store.claim):
            with pytest.raises(HeadwaterError, match="headwater rebuild features"):
                starts()
        assert ("rebuild", "wrong") in {(one.name, one.state) for one in examine(settings, None)}
        Refill(settings, quiet).run()
        store.claim()
    assert dump(settings) == before


def test_what_was_refused_for_its_time_stays_so_where_its_letter_is_gone(settings: Settings) -> None:
    in_seconds = 1_700_000_000
    send_packed(settings, [event(1), event(2, event_time=in_seconds), event(3, event_time=in_seconds * 10_000)], 0)
    send_raw(settings, b"no event", key=b"ada", partition=0)
    for number, when in enumerate((in_seconds, in_seconds * 1000)):
        word = Identity(user_id="ada", was=f"guest-{number}", event_time=when)
        send_raw(settings, encode(word), IDENTITIES, key=b"ada")
    gone = send_raw(settings, b"x", DEAD_LETTERS, key=b"x")
    commit_offsets(settings.kafka, "streams", {"events": {0: 2}, "identities": {0: 2}})
    with closing(admin_client(settings.kafka)) as admin:
        admin.delete_records({TopicPartition(gone.topic, 0): gone.offset + 1})
    assert Refill(settings, quiet).run().events == 1
    with storing(settings) as store:
        assert store.marks_of(IDENTITIES) == {0: 1}
        assert [*store.read_links(["ada"])[0].guests] == ["guest-1"]
    assert audit(settings).first_difference is None
    assert audit_running(settings).differences == []
