"""The feature store against a real server: one atomic script, marks that fence, statistics that agree."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace

import orjson
import pytest

from embedded import EmbeddedStore
from headwater.errors import AccessDenied, InvalidMessage, StoreDamaged, Unavailable
from headwater.settings import RedisSettings, Settings, load_settings
from headwater.signals import Signal, Signals
from headwater.topics import EVENTS, ITEMS
from headwater.wire import EventRow
from streams.features.decay import Decay, ItemStatistics, positive_rate
from streams.features.fold import Folded, Limits, fold_batch
from streams.features.packed import decode, encode
from streams.features.state import EMPTY
from streams.features.store import Batch, Copied, FeatureStore, Verdict
from tests.worlds.streams import server_of, storing, topicless

DECAY = Decay(1_000, 86_400_000.0)


@pytest.fixture(params=[1, 64], ids=["1 slot", "64 slots"])
def settings(redis_url: str, request: pytest.FixtureRequest) -> Iterator[Settings]:
    with topicless(redis_url, request.param) as made:
        yield made


def rows(n: int, start: int = 0, user: str = "ada") -> list[EventRow]:
    return [
        EventRow(user, f"film-{i % 3}", "click", 1_000 + i * 60_000, None, f"{user}{i}", None, i, 0)
        for i in range(start, start + n)
    ]


def batch(store: FeatureStore, folded: Folded, expected: int | None, mark: int, **more: object) -> Batch:
    """Of one user; its slot is the only one that is written to."""
    slot = store.slots.of(next(iter(folded.states), "ada"))
    made = Batch({slot: {0: (expected, mark)}}, DECAY, {}, folded.states, {slot: folded.items})
    return replace(made, **more)  # type: ignore[arg-type]


def apply(store: FeatureStore, made: Batch) -> Verdict:
    """Write and record, as a round does."""
    verdict = store.apply(made)
    if verdict == "applied":
        own = {slot: {p: new for p, (_, new) in marks.items()} for slot, marks in made.marks.items()}
        assert store.record(EVENTS, {p: (None, new) for marks in own.values() for p, new in marks.items()}, own)
        store.whole(fresh=True)
    return verdict


def test_a_batch_is_written_whole_and_read_in_one_round_trip(store: FeatureStore) -> None:
    folded = fold_batch({}, rows(5), Limits(), DECAY, 0, 99)
    assert apply(store, batch(store, folded, None, 4)) == "applied"
    reading = store.read_users(["ada", "nobody"])
    assert reading.states == {"ada": folded.states["ada"], "nobody": EMPTY}
    assert reading.marks() == store.marks() == {0: 4}
    assert reading.decay == DECAY
    assert store.item_statistics(["film-0", "film-9"]) == [folded.items["film-0"], ItemStatistics()]
    assert set(store.ids("u")) == {"ada"}


def test_the_same_batch_twice_changes_nothing(store: FeatureStore) -> None:
    folded = fold_batch({}, rows(5), Limits(), DECAY)
    made = batch(store, folded, None, 4)
    assert apply(store, made) == "applied"
    before = store.item_statistics(["film-0", "film-1"])
    assert apply(store, made) == "marks"
    assert store.item_statistics(["film-0", "film-1"]) == before


def test_a_worker_that_lost_its_partition_is_fenced(store: FeatureStore) -> None:
    ours, theirs = fold_batch({}, rows(5), Limits(), DECAY), fold_batch({}, rows(8), Limits(), DECAY)
    assert apply(store, batch(store, theirs, None, 7)) == "applied"
    assert apply(store, batch(store, ours, None, 4)) == "marks"
    assert store.read_users(["ada"]).states["ada"].count == 8


def test_a_user_changed_by_another_partition_is_a_conflict_that_writes_nothing(store: FeatureStore) -> None:
    assert apply(store, batch(store, fold_batch({}, rows(5), Limits(), DECAY), None, 4)) == "applied"
    stale = fold_batch({}, rows(2, start=50), Limits(), DECAY)
    elsewhere = {store.slots.of("ada"): {1: (None, 1)}}
    assert apply(store, batch(store, stale, None, 1, marks=elsewhere)) == "users"
    assert store.marks() == {0: 4}
    known = store.read_users(["ada"]).states
    fresh = fold_batch(known, rows(2, start=50), Limits(), DECAY)
    assert apply(store, batch(store, fresh, None, 1, marks=elsewhere, before=known)) == "applied"
    assert store.read_users(["ada"]).states["ada"].count == 7


def test_the_landmark_is_set_once_and_another_is_a_conflict(store: FeatureStore) -> None:
    assert apply(store, batch(store, fold_batch({}, rows(1), Limits(), DECAY), None, 0)) == "applied"
    known = store.read_users(["ada"]).states
    other = fold_batch(known, rows(1, start=1), Limits(), Decay(5, 1.0))
    assert apply(store, batch(store, other, 0, 1, before=known, decay=Decay(5, 1.0))) == "landmark"
    assert store.read_users([]).decay == DECAY


def test_statistics_merged_by_the_server_equal_those_of_one_pass(store: FeatureStore) -> None:
    everything = rows(60)
    mark = None
    for start in range(0, 60, 7):
        known = store.read_users(["ada"]).states
        part = fold_batch(known, everything[start : start + 7], Limits(), DECAY)
        last = min(start + 6, 59)
        assert apply(store, batch(store, part, mark, last, before=known)) == "applied"
        mark = last
    wanted = fold_batch({}, everything, Limits(), DECAY).items
    for item, found in zip(wanted, store.item_statistics(list(wanted)), strict=True):
        assert (found.counts, found.positive) == (wanted[item].counts, wanted[item].positive)
        assert math.isclose(found.log2_sum, wanted[item].log2_sum, abs_tol=1e-9)
    now = everything[-1].time_ms
    best = store.popular(2, now)
    assert [item for item, _ in best] == sorted(wanted, key=lambda item: -wanted[item].log2_sum)[:2]
    assert math.isclose(best[0][1], DECAY.weight_at(wanted[best[0][0]].log2_sum, now), rel_tol=1e-9)


def test_an_item_may_have_more_types_in_a_batch_than_a_script_can_take_at_once(store: FeatureStore) -> None:
    many = ItemStatistics({f"kind-{n}": 1 for n in range(9_000)}, 3.5, positive=7)
    assert apply(store, Batch({0: {0: (None, 9)}}, DECAY, items={0: {"film-0": many}})) == "applied"
    assert store.item_statistics(["film-0"]) == [many]
    assert store.totals() == replace(many, log2_sum=-math.inf)
    assert [item for item, _ in store.popular(5, 1_000)] == ["film-0"]


def test_weights_far_apart_in_time_neither_overflow_nor_vanish(store: FeatureStore) -> None:
    quick = Decay(0, 1.0)
    far = [
        EventRow("ada", "new", "click", 10_000_000, None, "1", None, 0, 0),
        EventRow("ada", "old", "click", 0, None, "2", None, 1, 0),
        EventRow("ada", "old", "click", 9_999_999, None, "3", None, 2, 0),
    ]
    for n, one in enumerate(far):
        known = store.read_users(["ada"]).states
        part = fold_batch(known, [one], Limits(), quick)
        assert apply(store, batch(store, part, n - 1 if n else None, n, before=known, decay=quick)) == "applied"
    assert store.popular(5, 10_000_000) == [("new", 1.0), ("old", 0.5)]


def test_nothing_is_popular_before_the_first_event(store: FeatureStore) -> None:
    assert store.popular(10, 0) == []
    assert store.read_users([]).decay is None


def test_scripts_are_loaded_again_after_the_server_forgot_them(settings: Settings, store: FeatureStore) -> None:
    assert apply(store, batch(store, fold_batch({}, rows(1), Limits(), DECAY), None, 0)) == "applied"
    with server_of(settings) as server:
        server.script_flush()
    known = store.read_users(["ada"]).states
    assert apply(store, batch(store, fold_batch(known, rows(1, 1), Limits(), DECAY), 0, 1, before=known)) == "applied"


def test_a_user_whose_base_is_of_another_type_is_mended_although_a_tail_is_there(
    settings: Settings, store: FeatureStore
) -> None:
    first = fold_batch({}, rows(200), Limits(), DECAY)
    assert apply(store, batch(store, first, None, 199)) == "applied"
    known = store.read_users(["ada"]).states
    second = fold_batch(known, rows(1, 200), Limits(), DECAY)
    assert apply(store, batch(store, second, 199, 200, before=known)) == "applied"
    base, tail = (store.slots.user(kind, "ada") for kind in "ut")
    with server_of(settings) as server:
        assert server.strlen(tail)
        server.delete(base)
        server.sadd(base, "a set")
        reading = store.read_users(["ada"])
        damaged = {**reading.damaged, **({} if reading.damaged else store.foreign_users(["ada"]))}
        assert store.mend_users(damaged, second.states) == 1
    assert store.read_users(["ada"]).states == second.states


def test_catalogue_entries_below_the_mark_are_not_written_again(store: FeatureStore) -> None:
    assert store.put_items({"a": b'{"title":"new"}', "b": b"{}"}, 0, 9) == "written"
    assert store.put_items({"a": b'{"title":"old"}'}, 0, 5) == "known"
    assert store.put_items({"b": None}, 0, 10) == "written"
    assert store.read_items(["a", "b"]) == [b'{"title":"new"}', None]
    assert store.read_items([]) == []


def test_a_slot_that_forgot_takes_no_entries_before_it_has_those_that_it_lost(
    settings: Settings, store: FeatureStore
) -> None:
    standing = store.standing(ITEMS)
    assert store.put_items({"a": b"1", "b": b"1"}, 0, 5, standing) == "written"
    with server_of(settings) as server:
        server.delete(store.slots.marks(store.slots.of("a"), ITEMS), store.slots.user("item", "a"))
    assert store.put_items({"a": b"2"}, 0, 6, standing) == "behind"
    assert store.marks_of(ITEMS) == {}  # from there the topic is read again
    standing = store.standing(ITEMS)
    assert store.put_items({"a": b"1", "b": b"1"}, 0, 5, standing) == "written"
    assert store.put_items({"a": b"2"}, 0, 6, standing) == "written"
    assert store.read_items(["a", "b"]) == [b"2", b"1"]
    assert store.marks_of(ITEMS) == {0: 6}


def test_entries_whose_record_did_not_get_through_are_written_again_and_not_taken_for_lost(
    settings: Settings, store: FeatureStore
) -> None:
    if store.slots.count == 1:
        return  # nothing is recorded beside it
    keys, secret = store.prefix, "not-to-be-guessed"
    address = settings.redis.url.get_secret_value().replace("://", f"://{keys}:{secret}@")
    with server_of(settings) as server:
        server.acl_setuser(keys, enabled=True, passwords=[f"+{secret}"], categories=["+@all"], keys=[f"{keys}*"])
        try:
            with storing(load_settings(kafka={"prefix": keys}, redis={"url": address, "shards": 64})) as another:
                standing = another.standing(ITEMS)
                server.acl_setuser(keys, enabled=True, reset_keys=True, categories=["+@all"], keys=[f"{keys}{{s*"])
                with pytest.raises(AccessDenied):
                    another.put_items({"a": b"1"}, 0, 5, standing)
                server.acl_setuser(keys, enabled=True, categories=["+@all"], keys=[f"{keys}*"])
                assert another.put_items({"a": b"1"}, 0, 5, standing) == "known"
        finally:
            server.acl_deluser(keys)
    assert store.marks_of(ITEMS) == {0: 5}


def test_what_is_recorded_of_slots_is_not_written_over_where_it_was_lost(
    settings: Settings, store: FeatureStore
) -> None:
    if store.slots.count == 1:
        return  # its own marks are all there is
    standing = store.standing(ITEMS)
    assert store.put_items({"a": b"1"}, 0, 5, standing) == "written"
    with server_of(settings) as server:
        server.delete(store.slots.home("marks:items"), store.slots.home("slots:marks:items"))
    assert store.put_items({"b": b"1"}, 0, 6, standing) == "behind"
    assert store.marks_of(ITEMS) == {}
    assert store.standing(ITEMS).highest() == {0: 6}


def test_an_id_that_looks_like_a_key_of_another_kind_is_taken_for_none(store: FeatureStore) -> None:
    odd = ["x}q:y", "x}p:y", "x}u:y"]
    folded = fold_batch({}, [row for user in odd for row in rows(1, user=user)], Limits(), Decay(0, 1e9))
    store.put_copied(Copied(store.slots.user("u", one).removeprefix(store.prefix), "s", [encode(state)])
                     for one, state in folded.states.items())  # fmt: skip
    store.put_items({"film}u:z": b"{}"}, 0, 0)
    store.forget_places()
    assert sorted(store.ids("u")) == sorted(odd)
    assert list(store.ids("item")) == ["film}u:z"]


def test_dead_letters_are_counted_once_however_often_they_were_sent(store: FeatureStore) -> None:
    letters = [("schema", "events/0", 5, 0), ("schema", "events/0", 5, 1), ("null_key", "events/1", 2, 0)]
    assert store.count_dead_letters(letters) == 3
    assert store.count_dead_letters([*letters, ("schema", "events/0", 6, 0)]) == 1
    assert store.dead_letters() == {"schema": 3, "null_key": 1}


def test_a_server_that_is_away_is_named_without_its_password() -> None:
    away = FeatureStore(RedisSettings(url="redis://me:secret@127.0.0.1:1/3", timeout_s=1), "x.")  # type: ignore[arg-type]
    with pytest.raises(Unavailable, match=r"redis://127\.0\.0\.1:1/3") as error:
        away.marks()
    assert "secret" not in str(error.value)
    with pytest.raises(Unavailable, match="redis://host:port/db"):
        FeatureStore(RedisSettings(url="http://x:secret@y"), "")  # type: ignore[arg-type]


def test_a_server_that_comes_back_is_used_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    with EmbeddedStore(tmp_path_factory.mktemp("mine")) as server:
        store = FeatureStore(RedisSettings(url=server.address, timeout_s=2), "x.")  # type: ignore[arg-type]
        folded = fold_batch({}, rows(5), Limits(), DECAY)
        assert apply(store, batch(store, folded, None, 4)) == "applied"
        server.kill()
        with pytest.raises(Unavailable):
            store.marks()
        server.start()
        assert store.marks() == {0: 4}
        assert store.read_users(["ada"]).states["ada"].count == 5
        store.close()


def test_the_server_tells_its_name_and_version(store: FeatureStore) -> None:
    name, version = store.ping().split()
    assert name in ("redis", "valkey")
    assert version[0].isdigit()


@pytest.mark.parametrize(("value", "reason"), [(b"\xff", "undecodable"), (b"{}", "schema"), (b"[]", "undecodable")])
def test_a_state_that_is_not_one_is_named(value: bytes, reason: str) -> None:
    with pytest.raises(InvalidMessage) as error:
        decode(value)
    assert error.value.reason == reason


SOUND = b'{"count":1,"partition":0,"offset":4,"folded_ms":9,"recent":[7],"history":[["film","click",5,null]]}'


def odd_states() -> dict[str, bytes]:
    return {
        "no JSON": b"\x00\xff garbage",
        "half of it": SOUND[:60],
        "of a later release": b'{"count":"many","v":9}',
        "a count of text": SOUND.replace(b'"count":1', b'"count":"1"'),
        "an offset of nothing": SOUND.replace(b'"offset":4', b'"offset":null'),
        "a huge offset": SOUND.replace(b'"offset":4', b'"offset":1e300'),
        "hashes of text": SOUND.replace(b"[7]", b'["7"]'),
        "an item that is a number": SOUND.replace(b'"film"', b"12"),
        "a time of text": SOUND.replace(b",5,", b',"5",'),
        "a value of text": SOUND.replace(b"null", b'"3"'),
        "too short an entry": SOUND.replace(b",5,null", b""),
        "a history of text": SOUND.replace(b'[["film","click",5,null]]', b'"abcd"'),
        "nothing": b"",
    }


@pytest.mark.parametrize("name", odd_states())
def test_a_state_of_other_types_is_none(name: str) -> None:
    assert decode(SOUND).count == 1
    with pytest.raises(InvalidMessage):
        decode(odd_states()[name])


def test_a_key_that_holds_no_state_costs_that_user_alone_and_can_be_written_again(
    settings: Settings, store: FeatureStore
) -> None:
    folded = fold_batch({}, rows(5), Limits(), DECAY)
    assert apply(store, batch(store, folded, None, 4)) == "applied"
    with server_of(settings) as server:
        server.set(store.slots.user("u", "bob"), b"garbage")
        server.sadd(store.slots.user("u", "cy"), "a set")
        reading = store.read_users(["ada", "bob", "dan"])
        assert reading.states == {"ada": folded.states["ada"], "dan": EMPTY}
        assert reading.damaged == {"bob": b"garbage"}
        assert store.foreign_users(["ada", "bob", "cy", "dan"]) == {"cy": None}
        theirs = fold_batch({}, rows(1, user="cy"), Limits(), DECAY)
        found = store.read_users(["cy"]).slots[store.slots.of("cy")].own.get(0)
        assert apply(store, batch(store, theirs, found, 5)) == "users"
        assert store.marks() == {0: 4}
        again = {"bob": folded.states["ada"]}
        assert store.mend_users({"bob": b"other garbage"}, again) == 0
        assert store.mend_users({"ada": b"garbage", "bob": b"garbage", "cy": None}, again) == 2
        assert store.read_users(["ada", "bob"]).states == {"ada": folded.states["ada"], "bob": folded.states["ada"]}
        assert not server.exists(store.slots.user("u", "cy"))


def test_a_batch_is_written_whole_whatever_the_keys_of_statistics_hold(settings: Settings) -> None:
    told: list[str] = []
    store = FeatureStore(settings.redis, settings.kafka.prefix, told.append)
    with server_of(settings) as server:
        prefix = store.slots.key(store.slots.of("ada"), "")
        server.set(f"{prefix}i:film-0", "text")
        server.hset(f"{prefix}i:film-1", mapping={"log2": "nan", "m:positive": "soon", "n:click": "many"})
        server.hset(f"{prefix}i:film-2", mapping={"log2": "inf", "n:view": "1", "n:odd": "x"})
        server.lpush(f"{prefix}popular", "a list")
        folded = fold_batch({}, rows(6), Limits(), DECAY)
        assert apply(store, batch(store, folded, None, 5)) == "applied"
    assert set(told) == {f"{prefix}i:film-0", f"{prefix}i:film-1", f"{prefix}i:film-2", f"{prefix}popular"}
    found = store.item_statistics(["film-0", "film-1", "film-2"])
    assert found[0] == folded.items["film-0"]
    assert found[1] == folded.items["film-1"]
    assert found[2].counts == {"click": 2, "view": 1}
    assert math.isfinite(found[2].log2_sum)
    assert {item for item, _ in store.popular(5, 9_000)} == {"film-0", "film-1", "film-2"}
    assert store.marks() == {0: 5}
    store.close()


def test_marks_that_are_none_are_named_and_mended_from_what_was_committed(
    settings: Settings, store: FeatureStore
) -> None:
    slot = store.slots.of("ada")
    key = store.slots.marks(slot, EVENTS)
    with server_of(settings) as server:
        server.hset(key, mapping={"0": "7", "1": "garbage", "2": "-4", "three": "1"})
        for read in (store.marks, lambda: store.read_users(["ada"]), lambda: store.popularity(5)):
            with pytest.raises(StoreDamaged, match=re.escape(key)):
                read()
        with pytest.raises(StoreDamaged):
            store.mend_marks({1: 3})  # nothing is known of 2
        assert store.mend_marks({0: 5, 1: 3, 2: 9}) != []
        assert store.standing(EVENTS).own[slot] == {0: 7, 1: 3, 2: 9}
        assert store.mend_marks({0: 1}) == []
        server.hset(key, mapping={"1": "garbage", "2": "nan", "99": "nan"})
        with pytest.raises(StoreDamaged):
            store.mend_marks({0: 5}, filled={0, 1})  # of 1 something may have been folded
        assert store.mend_marks({1: 3}, filled={0, 1}) != []  # nothing ever was of 2, and no partition is 99
        assert store.standing(EVENTS).own[slot] == {0: 7, 1: 3}
        server.delete(key)
        server.set(key, "text")
        with pytest.raises(StoreDamaged, match="WRONGTYPE"):
            store.marks()
        assert store.mend_marks({0: 5}) == [f"{key}, a string"]
        assert store.standing(EVENTS).own[slot] == {0: 5}


@pytest.mark.parametrize("landmark", [b"garbage", b"12", b"1 2 3", b"5 nan", b"5 0", b"\xff 1"])
def test_a_landmark_that_is_none_is_named(settings: Settings, store: FeatureStore, landmark: bytes) -> None:
    with server_of(settings) as server:
        server.set(key := store.slots.key(store.slots.of("ada"), "landmark"), landmark)
    with pytest.raises(StoreDamaged, match=re.escape(key)):
        store.read_users(["ada"])


def test_the_catalogue_and_the_tally_of_dead_letters_begin_anew_where_they_are_none(settings: Settings) -> None:
    told: list[str] = []
    store = FeatureStore(settings.redis, settings.kafka.prefix, told.append)
    letters = [("schema", "dead-letters/0", 5, 0), ("null_key", "dead-letters/0", 6, 0)]
    with server_of(settings) as server:
        marks_of_a, marks_of_b = (store.slots.marks(store.slots.of(one), ITEMS) for one in "ab")
        server.lpush(marks_of_a, "a list")
        server.sadd(store.slots.user("item", "a"), "a set")
        assert store.marks_of(ITEMS) == {}
        assert store.put_items({"a": b'{"title":"A"}'}, 0, 9) == "written"
        server.hset(marks_of_b, "0", "garbage")
        assert store.put_items({"b": b'{"title":"B"}'}, 0, 10) == "written"
        assert store.marks_of(ITEMS) == {0: 10}
        assert None not in store.read_items(["a", "b"])
        server.hset(store.slots.home("dead"), "schema", "many")
        server.set(store.slots.home("marks:dead"), "text")
        assert store.dead_letters() == {}
        assert store.count_dead_letters(letters) == 2
        assert store.dead_letters() == {"schema": 1, "null_key": 1}
        server.hset(store.slots.home("marks:dead"), "dead-letters/0", "garbage")
        assert store.count_dead_letters(letters[1:]) == 1
    assert told == [marks_of_a, marks_of_b]
    store.close()


def event_of(n: int, kind: str, item: str, time_ms: int, user: str = "ada", **more: object) -> EventRow:
    return EventRow(user, item, kind, time_ms, None, f"{user}{n}", None, n, 0)._replace(**more)


def applied_one_by_one(store: FeatureStore, events: list[EventRow], limits: Limits = Limits()) -> None:
    for one in events:
        reading = store.read_users([one.user_id])
        known, found = reading.states, reading.slots[store.slots.of(one.user_id)].own.get(0)
        made = fold_batch(known, [one], limits, DECAY)
        assert apply(store, batch(store, made, found, 0 if found is None else found + 1, before=known)) == "applied"


def test_what_is_undone_leaves_statistics_and_popularity_as_if_it_had_not_been(store: FeatureStore) -> None:
    applied_one_by_one(
        store,
        [
            event_of(0, "like", "a", 2_000),
            event_of(1, "like", "b", 3_000),
            event_of(2, "like", "a", 864_000_000, "bob"),  # ten half-lives later
            event_of(3, "unlike", "b", 3_500),
            event_of(4, "unlike", "a", 864_000_001, "bob"),
            event_of(5, "unlike", "a", 864_000_002, "bob"),  # of nothing
            event_of(6, "dismiss", "c", 2_500),
            event_of(7, "undismiss", "c", 2_600),
        ],
    )
    assert store.item_statistics(["b", "c"]) == [ItemStatistics(), ItemStatistics()]
    assert set(store.ids("i")) == {"a"}
    (left,) = store.item_statistics(["a"])
    assert (left.counts, left.positive, left.negative) == ({"like": 1}, 1, 0)
    assert math.isclose(2**left.log2_sum, 2 ** DECAY.log2_weight(2_000), rel_tol=1e-9)
    assert [item for item, _ in store.popular(5, 5_000)] == ["a"]
    assert store.totals() == ItemStatistics({"like": 1}, positive=1)


def test_an_item_stays_popular_where_rounding_leaves_nothing_beside_what_was_undone(store: FeatureStore) -> None:
    late = 864_000_000_000_000
    applied_one_by_one(
        store, [event_of(0, "like", "a", 2_000), event_of(1, "like", "a", late), event_of(2, "unlike", "a", late + 1)]
    )
    (left,) = store.item_statistics(["a"])
    assert left.counts == {"like": 1}
    assert left.log2_sum <= DECAY.log2_weight(late) - 52
    assert [item for item, _ in store.popular(5, late)] == ["a"]


def test_counts_by_meaning_are_those_of_the_values(store: FeatureStore) -> None:
    limits = Limits(meanings=Signals({"rating": Signal(positive=">= 4", negative="<= 2")}))
    stars = [event_of(n, "rating", "a", 2_000 + n, value=value) for n, value in enumerate((5.0, 1.0, 3.0))]
    shown = event_of(3, "impression", "a", 9, items=("a", "b"))
    applied_one_by_one(store, [*stars, shown], limits)
    one, other = store.item_statistics(["a", "b"])
    assert one.counts == {"rating": 3, "impression": 1}
    assert (one.positive, one.negative, one.exposures, other.exposures) == (1, 1, 1, 1)
    assert positive_rate(one, store.totals()) > positive_rate(other, store.totals()) > 0


def test_an_undo_is_written_whole_whatever_the_keys_hold(settings: Settings) -> None:
    told: list[str] = []
    store = FeatureStore(settings.redis, settings.kafka.prefix, told.append)
    films = "abcdefg"
    applied_one_by_one(store, [event_of(n, "like", item, 2_000 + n) for n, item in enumerate(films)])
    with server_of(settings) as server:
        prefix = store.slots.key(store.slots.of("ada"), "")
        server.delete(f"{prefix}i:a", f"{prefix}i:c", f"{prefix}totals")
        server.set(f"{prefix}i:a", "text")
        server.hset(f"{prefix}i:b", mapping={"log2": "-inf", "m:positive": "nan", "n:like": "9" * 18})
        server.hset(f"{prefix}i:d", mapping={"log2": "1e300", "m:positive": "-5"})
        server.hdel(f"{prefix}i:e", "log2")
        server.hset(f"{prefix}i:f", "n:like", "1.5")
        server.hdel(f"{prefix}i:g", "m:positive")  # as an older release left it
        server.lpush(f"{prefix}totals", "a list")
        server.delete(f"{prefix}popular")
        server.set(f"{prefix}popular", "text")
    known = store.read_users(["ada"]).states
    undos = [event_of(10 + n, "unlike", item, 3_000 + n) for n, item in enumerate(films)]
    made = fold_batch(known, undos, Limits(), DECAY)
    assert apply(store, batch(store, made, 6, 7, before=known)) == "applied"
    assert set(told) == {f"{prefix}{key}" for key in ("i:a", "i:b", "i:d", "i:f", "totals", "popular")}
    assert store.popular(9, 3_000) == []
    assert [one.counts for one in store.item_statistics("acdefg")] == [{}] * 6
    assert store.marks() == {0: 7}
    store.close()


@pytest.mark.parametrize(
    "odd",
    [
        {"shown": [["a", 1, 0]]},
        {"shown": [["a", "1", 0, "r"]]},
        {"reacted": [["a", 1, None, "r"]]},
        {"undos": [["a", "unlike"]]},
        {"undone": [["a", "like", 5, "3"]]},
        {"undone": "like"},
    ],
)
def test_a_state_whose_past_is_odd_is_none(odd: dict[str, object]) -> None:
    with pytest.raises(InvalidMessage):
        decode(orjson.dumps({**orjson.loads(SOUND), **odd}))
