"""The streams worker as a process: events into features and examples, exactly once in effect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from confluent_kafka import Producer

from headwater.events import Item, now_ms
from headwater.examples import CatalogueEntry, Example, Kind, unpack
from headwater.settings import Settings
from headwater.topics import EVENTS, EXAMPLES, ITEMS, topic_name
from headwater.wire import encode, encode_packed
from streams.features import packed
from streams.features.store import Slots
from streams.running_audit import audit_running
from tests.worlds.brokers import KIND
from tests.worlds.processes import LiveWorker, eventually
from tests.worlds.streams import (
    committed_all,
    event,
    eventually_equal,
    folded_all,
    partition_of,
    producing,
    records,
    send,
    send_packed,
    send_raw,
    server_of,
    storing,
)

Start = Callable[..., LiveWorker]


def examples_sent(settings: Settings) -> list[Example]:
    found = [one for record in records(settings, EXAMPLES) for one in unpack(record.value)]
    return [one for one in found if isinstance(one, Example)]


def test_packed_and_single_events_become_features_and_examples(settings: Settings, worker: Start) -> None:
    streams = worker("streams.worker")
    partition = partition_of(settings, "ada")
    for round_ in range(5):
        first = round_ * 10
        send(settings, [event(first + n) for n in range(5)])
        send_packed(settings, [event(first + n) for n in range(5, 10)], partition)
    result = folded_all(settings)
    assert result.ok, result.first_difference
    assert (result.events_produced, result.events_applied, result.duplicates) == (50, 50, 0)
    with storing(settings) as store:
        state = store.read_users(["ada"]).states["ada"]
        assert [entry.time_ms for entry in state.history] == [event(n).event_time for n in range(50)]
        assert (state.count, state.partition) == (50, partition)
        assert abs(state.folded_ms - now_ms()) < 60_000
        assert store.popular(1, now_ms())[0][0] == "film-0"
    taught = examples_sent(settings)
    assert [len(one.history) for one in taught] == list(range(50))
    assert [one.target.item_id for one in taught] == [f"film-{n % 7}" for n in range(50)]
    assert all(one.partition == partition for one in taught)
    assert [one.position for one in taught] == sorted(one.position for one in taught)
    assert streams.metric("headwater_events_applied_total") == 50
    assert streams.metric("headwater_event_to_feature_seconds_count") == 30
    assert not streams.has_loaded("libtorch"), "it costs a second of every start and 200 MB"
    assert streams.stop() == 0


def test_duplicates_are_counted_and_change_nothing(settings: Settings, worker: Start) -> None:
    streams = worker("streams.worker")
    send(settings, [event(n) for n in range(10)])
    send(settings, [event(3), event(9), event(9)])
    send_packed(settings, [event(n) for n in range(8, 12)], partition_of(settings, "ada"))
    result = folded_all(settings)
    assert result.ok, result.first_difference
    assert (result.events_produced, result.events_applied, result.duplicates) == (17, 12, 5)
    eventually_equal(lambda: streams.metric("headwater_duplicates_total"), 5)
    assert len(examples_sent(settings)) == 12


def test_late_events_go_to_their_place_and_teach_only_their_past(settings: Settings, worker: Start) -> None:
    streams = worker("streams.worker")
    send(settings, [event(n) for n in (0, 5, 9, 2, 7)])
    result = folded_all(settings)
    assert result.ok, result.first_difference
    with storing(settings) as store:
        history = store.read_users(["ada"]).states["ada"].history
    assert [entry.time_ms for entry in history] == [event(n).event_time for n in (0, 2, 5, 7, 9)]
    late = {one.position.offset: [entry.time_ms for entry in one.history] for one in examples_sent(settings)}
    assert late[3] == [event(0).event_time]
    assert late[4] == [event(n).event_time for n in (0, 2, 5)]
    eventually_equal(lambda: streams.metric("headwater_late_events_total"), 2)


@pytest.mark.any_broker
def test_a_killed_worker_is_replaced_without_loss_or_doubling(settings: Settings, worker: Start) -> None:
    first = worker("streams.worker")
    users = [f"user-{n}" for n in range(20)]
    send(settings, [event(n, user) for n in range(10) for user in users])
    eventually(lambda: first.metric("headwater_events_applied_total") > 0)
    first.kill()
    send(settings, [event(n, user) for n in range(10, 20) for user in users])
    second = worker("streams.worker")
    result = folded_all(settings)
    assert result.ok, result.first_difference
    assert result.events_applied == 400
    taught = {(one.partition, one.position) for one in examples_sent(settings)}
    assert len(taught) == 400
    assert second.stop() == 0


@pytest.mark.any_broker
def test_redelivery_of_every_record_changes_nothing(settings: Settings, worker: Start) -> None:
    first = worker("streams.worker")
    send(settings, [event(n, f"user-{n % 9}") for n in range(90)])
    before = folded_all(settings)
    assert before.ok, before.first_difference
    committed_all(settings)
    assert first.stop() == 0
    rewind(settings)
    second = worker("streams.worker")
    eventually_equal(lambda: second.metric("headwater_redelivered_records_total"), 90)
    assert second.metric("headwater_events_applied_total") == 0
    assert folded_all(settings) == before


def rewind(settings: Settings) -> None:
    """Set the group back to the beginning, as an operator would."""
    from kafka import TopicPartition
    from kafka.structs import OffsetAndMetadata

    from headwater.kafka import consumer

    client = consumer(settings.kafka, "streams")
    name = topic_name(EVENTS, settings.kafka.prefix)
    client.assign([TopicPartition(name, number) for number in client.partitions_for_topic(name) or ()])
    client.commit({one: OffsetAndMetadata(0, "", -1) for one in client.assignment()})
    client.close()


def test_what_the_store_lost_is_folded_again_from_the_log(settings: Settings, worker: Start) -> None:
    first = worker("streams.worker")
    send(settings, [event(n) for n in range(30)])
    assert folded_all(settings).ok
    committed_all(settings)
    assert first.stop() == 0
    with server_of(settings) as server:
        for key in server.scan_iter(f"{settings.kafka.prefix}*"):
            server.delete(key)
    worker("streams.worker")
    send(settings, [event(30)])
    result = folded_all(settings)
    assert result.ok, result.first_difference
    assert result.events_applied == 31


@pytest.mark.any_broker
def test_lists_and_undos_become_features_that_add_up_whatever_is_redelivered_or_rebuilt(
    settings: Settings, worker: Start
) -> None:
    streams = worker("streams.worker")
    shown = event(0, type="impression", item_id=None, items=("film-1", "film-2", "film-3"), request_id="r1")
    events = [
        shown,
        event(1, type="like", item_id="film-1", request_id="r1"),
        event(2, type="click", item_id="film-2", session_id="s1"),
        event(4, type="unlike", item_id="film-3"),  # what it undoes is still on its way
        event(5, type="unlike", item_id="film-1"),
    ]
    send(settings, events)
    send(settings, [events[4], event(3, type="like", item_id="film-3"), shown])
    bought = [event(9, type="refund", item_id="film-4"), event(8, type="purchase", item_id="film-4")]
    send_packed(settings, bought, (partition_of(settings, "ada") + 1) % 4)
    misplaced = event(6, type="view", items=("film-5", "film-6"), item_id=None)
    send(settings, [misplaced])
    result = folded_all(settings)
    assert result.ok, result.first_difference
    counts = (result.events_produced, result.events_applied, result.duplicates, result.dead_letters)
    assert counts == (11, 8, 2, 1)
    with storing(settings) as store, server_of(settings) as server:
        state = store.read_users(["ada"]).states["ada"]
        assert [(entry.item_id, entry.session is None) for entry in state.history] == [("film-2", False)]
        assert [one.item_id for one in state.shown] == ["film-1", "film-3"]
        counted = [one.counts for one in store.item_statistics(["film-1", "film-2", "film-3"])]
        assert counted == [{"impression": 1}, {"impression": 1, "click": 1}, {"impression": 1}]
        assert [item for item, _ in store.popular(9, now_ms())] == ["film-2"]
        eventually_equal(store.dead_letters, {"items_not_exposure": 1})
        server.set(store.slots.user("u", "ada"), "garbage")
        send(settings, [event(7, type="like", item_id="film-3")])
    taught = examples_sent(settings)[:4]
    assert [one.kind for one in taught] == [Kind.SHOWN, Kind.EVENT, Kind.EVENT, Kind.UNDONE]
    assert (taught[0].items, taught[0].request_id, taught[1].request_id) == (shown.items, "r1", "r1")
    assert [one.item_id for one in taught[2].shown] == ["film-2", "film-3"]
    assert (taught[3].target.item_id, taught[3].target.type, list(taught[3].history)) == ("film-1", "like", [])
    result = folded_all(settings)
    assert result.ok, result.first_difference
    eventually_equal(lambda: streams.metric("headwater_exposures_applied_total"), 1)
    assert streams.metric("headwater_undos_applied_total") == 3
    assert streams.metric("headwater_undone_events_total") == 3


def test_items_reach_the_catalogue_and_the_trainers_log(settings: Settings, worker: Start) -> None:
    streams = worker("streams.worker")
    items = [Item(item_id=f"film-{n}", title=f"Film {n}", categories=("Drama",)) for n in range(3)]
    with producing(settings) as client:
        name = topic_name(ITEMS, settings.kafka.prefix)
        for item in items:
            client.send(name, key=item.item_id.encode(), value=encode(item))
        client.send(name, key=b"film-1", value=None)
        client.send(name, key=b"film-2", value=encode(Item(item_id="film-2", title="Again")))
        client.flush()
    eventually_equal(lambda: streams.metric("headwater_items_applied_total"), 5)
    with storing(settings) as store:
        assert store.read_items(["film-0", "film-1", "film-2"]) == [
            encode(items[0]),
            None,
            encode(Item(item_id="film-2", title="Again")),
        ]
    found = [one for record in records(settings, EXAMPLES) for one in unpack(record.value)]
    assert all(isinstance(one, CatalogueEntry) for one in found)
    contents = [(one.item_id, one.content and one.content["title"]) for one in found if isinstance(one, CatalogueEntry)]
    wanted = [("film-0", "Film 0"), ("film-1", "Film 1"), ("film-2", "Film 2"), ("film-1", None), ("film-2", "Again")]
    assert contents == wanted


def test_bad_items_become_dead_letters_and_the_good_ones_pass(settings: Settings, worker: Start) -> None:
    worker("streams.worker")
    send_raw(settings, b"{", ITEMS, key=b"film-1")
    send_raw(settings, encode(Item(item_id="film-1")), ITEMS, key=b"film-2")
    send_raw(settings, b'{"item_id":"film-1","colour":"red"}', ITEMS, key=b"film-1")
    send_raw(settings, None, ITEMS, key=b"\xff")
    send_raw(settings, encode(Item(item_id="film-3")), ITEMS, key=b"film-3")
    with storing(settings) as store:
        eventually(lambda: store.read_items(["film-3"])[0])
        wanted = {"undecodable": 2, "key_mismatch": 1, "schema": 1}
        eventually_equal(store.dead_letters, wanted)


@pytest.mark.any_broker
def test_sigterm_leaves_nothing_uncommitted(settings: Settings, worker: Start) -> None:
    streams = worker("streams.worker")
    send(settings, [event(n, f"user-{n % 50}") for n in range(500)])
    assert folded_all(settings).ok
    assert streams.stop() == 0
    committed_all(settings, timeout_s=2)


def test_an_empty_packed_record_is_refused_and_moves_the_mark(settings: Settings, worker: Start) -> None:
    worker("streams.worker")
    send_raw(settings, encode_packed([]), partition=0)
    result = folded_all(settings)
    assert result.ok, result.first_difference
    assert (result.events_applied, result.dead_letters) == (0, 1)


def test_a_user_in_two_partitions_is_folded_from_both(settings: Settings, worker: Start) -> None:
    worker("streams.worker")
    for partition in (0, 1, 2, 3):
        send_packed(settings, [event(partition * 10 + n) for n in range(10)], partition)
    result = folded_all(settings)
    assert result.ok, result.first_difference
    with storing(settings) as store:
        assert store.read_users(["ada"]).states["ada"].count == 40


def test_a_plain_event_without_id_or_time_is_taken(settings: Settings, worker: Start) -> None:
    worker("streams.worker")
    metadata = send_raw(settings, b'{"user_id":"ada","item_id":"film-1","type":"view"}', key=b"ada")
    assert folded_all(settings).ok
    with storing(settings) as store:
        (entry,) = store.read_users(["ada"]).states["ada"].history
    assert entry.time_ms == metadata.timestamp


def test_an_audit_names_the_first_difference(settings: Settings, worker: Start) -> None:
    worker("streams.worker")
    send(settings, [event(n) for n in range(5)])
    assert folded_all(settings).ok
    with server_of(settings) as server:
        key = Slots(settings.kafka.prefix, settings.redis.shards).user("u", "ada")
        state = packed.decode(server.get(key))
        other = [one._replace(item_id="film-9") if one.item_id == "film-2" else one for one in state.history]
        server.set(key, packed.encode(replace(state, history=other)))
        result = folded_all(settings)
        assert not result.ok
        assert "u:ada: history differs at 2" in (result.first_difference or "")
        server.set(key, b"garbage")
        assert "u:ada: holds no state" in (folded_all(settings).first_difference or "")
        server.delete(key)
        assert "0 events folded, 5 are in the topic" in (folded_all(settings).first_difference or "")
        found = audit_running(settings)
        assert (found.users, found.differing) == (1, 1)
        assert found.differences == [f"{key}: is not in the store; the topic has 5 events of it at or below its mark"]


def test_a_wrong_setting_is_one_clear_line_and_exit_code_2(worker: Start) -> None:
    streams = worker("streams.worker", wait=False, HEADWATER_STREAMS__HISTORY_LIMIT="none")
    assert streams.process is not None
    assert streams.process.wait(60) == 2
    assert "history_limit" in streams.tail(1)


@pytest.mark.any_broker
@pytest.mark.skipif(KIND != "kafka", reason="the embedded broker has no transactions")
def test_the_markers_of_transactions_are_neither_a_gap_nor_work_that_waits(settings: Settings, worker: Start) -> None:
    streams = worker("streams.worker")
    name, partition = topic_name(EVENTS, settings.kafka.prefix), partition_of(settings, "ada")
    client = Producer({"bootstrap.servers": settings.kafka.bootstrap, "transactional.id": name})
    client.init_transactions()
    for n in range(6):
        client.begin_transaction()
        client.produce(name, encode(event(n)), b"ada", partition)
        client.commit_transaction()
    with storing(settings) as store:
        eventually(lambda: store.read_users(["ada"]).states["ada"].count == 6)
    eventually(lambda: streams.metric("headwater_lag") == 0, what="nothing waits, although the log's end is beyond")
    assert "records are missing" not in streams.tail(200)
