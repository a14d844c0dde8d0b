"""The Client over a real broker: what it puts on the topics, what it returns, and how it closes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from kafka import KafkaProducer

from headwater import (
    Client,
    Event,
    HeadwaterError,
    InvalidMessage,
    Item,
    Unavailable,
)
from headwater.client.lanes import partition_of
from headwater.kafka import ensure_topics
from headwater.settings import Settings
from tests.worlds.processes import eventually
from tests.worlds.topic_reading import everything, rows

pytestmark = pytest.mark.any_broker


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with Client(settings=settings.kafka, source="tests") as one:
        yield one


def nested(levels: int) -> Any:
    made: Any = 1
    for _ in range(levels):
        made = {"a": made}
    return made


def test_a_lone_event_is_one_plain_record_with_cloudevents_headers(client: Client, settings: Settings) -> None:
    position = client.track("ann", "film-1", "click", value=4.5, event_id="e1").result(30)
    (record,) = everything(settings.kafka, "events")
    assert (record.partition, record.offset) == position
    assert record.key == b"ann"
    body = json.loads(record.value)
    assert {name: body[name] for name in ("event_id", "user_id", "item_id", "type", "value")} == {
        "event_id": "e1", "user_id": "ann", "item_id": "film-1", "type": "click", "value": 4.5,
    }  # fmt: skip
    headers = dict(record.headers)
    assert (headers["ce_specversion"], headers["ce_id"], headers["ce_source"]) == (b"1.0", b"e1", b"tests")
    assert (headers["ce_type"], headers["content-type"]) == (b"headwater.event.click", b"application/json")


def test_events_under_load_are_packed_and_none_is_lost_or_reordered(client: Client, settings: Settings) -> None:
    users = [f"user-{number}" for number in range(40)]

    def send(mine: list[str]) -> None:
        for step in range(50):
            for user in mine:
                client.track(user, f"item-{step}", "view")

    threads = [threading.Thread(target=send, args=(users[start::8],)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.flush()
    records = everything(settings.kafka, "events")
    read = rows(records)
    assert len(read) == 2000
    assert len(records) < 1000
    assert any(record.value.startswith(b"[") for record in records)
    for user in users:
        assert [row.item_id for row in read if row.user_id == user] == [f"item-{step}" for step in range(50)]


def test_without_linger_every_event_has_a_record_of_its_own(settings: Settings) -> None:
    kafka = settings.kafka.model_copy(update={"linger_ms": 0})
    with Client(settings=kafka) as client:
        handles = [client.track("ann", f"item-{number}", "view") for number in range(50)]
        assert len({handle.result(30) for handle in handles}) == 50
    assert [record.value[:1] for record in everything(kafka, "events")] == [b"{"] * 50


def test_track_many_packs_one_partition_into_each_record(client: Client, settings: Settings) -> None:
    events = [{"user_id": f"user-{number % 30}", "item_id": f"item-{number}", "type": "view"} for number in range(3000)]
    delivery = client.track_many(events)
    ends = delivery.result(20)
    records = everything(settings.kafka, "events")
    assert delivery.count == 3000
    assert len(records) == len(delivery.records) <= 3000 / 200 + 4
    assert ends == {record.partition: record.offset for record in records}
    for record in records:
        assert len(record.value) <= 200_100
        assert {partition_of(body["user_id"], 4) for body in json.loads(record.value)} == {record.partition}
    read = rows(records)
    for user in {row.user_id for row in read}:
        numbers = [int(row.item_id.split("-")[1]) for row in read if row.user_id == user]
        assert numbers == sorted(numbers)
        assert len(numbers) == 100


def test_what_comes_before_a_bad_event_is_sent_and_nothing_behind_it(client: Client, settings: Settings) -> None:
    good = [{"user_id": f"user-{number}", "item_id": f"item-{number}", "type": "view"} for number in range(7)]
    with pytest.raises(InvalidMessage, match="user_id"):
        client.track_many([*good[:5], {**good[5], "user_id": ""}, good[6]])
    client.flush()
    assert sorted(row.item_id for row in rows(everything(settings.kafka, "events"))) == [f"item-{n}" for n in range(5)]


def test_what_a_source_gave_before_it_broke_is_sent(client: Client, settings: Settings) -> None:
    def broken() -> Iterator[dict[str, str]]:
        yield {"user_id": "ann", "item_id": "film-1", "type": "view"}
        raise OSError("the file ends in the middle of a line")

    with pytest.raises(OSError, match="in the middle"):
        client.track_many(broken())
    client.flush()
    assert [row.item_id for row in rows(everything(settings.kafka, "events"))] == ["film-1"]


def test_large_events_are_packed_up_to_the_byte_limit(client: Client, settings: Settings) -> None:
    big = {"text": "x" * 60_000}
    client.track_many(Event(user_id="ann", item_id=f"i{n}", type="view", properties=big) for n in range(10)).result(20)
    records = everything(settings.kafka, "events")
    assert [len(json.loads(record.value)) if record.value[:1] == b"[" else 1 for record in records] == [3, 3, 3, 1]


def test_track_and_track_many_of_one_thread_keep_their_order(client: Client, settings: Settings) -> None:
    for start in range(0, 100, 10):
        for number in range(start, start + 5):
            client.track("ann", str(number), "view")
        client.track_many({"user_id": "ann", "item_id": str(n), "type": "view"} for n in range(start + 5, start + 10))
    client.flush()
    assert [row.item_id for row in rows(everything(settings.kafka, "events"))] == [str(number) for number in range(100)]


def test_a_plain_producer_keyed_by_user_lands_in_the_same_partition(client: Client, settings: Settings) -> None:
    producer = KafkaProducer(bootstrap_servers=settings.kafka.bootstrap)
    for user in ("ann", "böb", "u" * 200, "4711", "日本"):
        body = json.dumps({"user_id": user, "item_id": "film-1", "type": "view"}).encode()
        plain = producer.send(settings.kafka.prefix + "events", body, key=user.encode()).get(10)
        assert client.track(user, "film-2", "view").result(30).partition == plain.partition
    producer.close()
    assert len(rows(everything(settings.kafka, "events"))) == 10


@pytest.mark.parametrize(
    "fields",
    [
        {"user_id": ""},
        {"user_id": "u" * 257},
        {"user_id": "\ud800"},
        {"item_id": ""},
        {"type": "Not A Type"},
        {"value": float("nan")},
        {"event_time": -1},
        {"event_time": "2026-11-22T10:00:00"},
        {"event_time": 1_764_000_000},
        {"colour": "red"},
        {"properties": {"text": "x" * 70_000}},
        {"properties": {"thing": object()}},
        {"properties": {"number": 10**30}},
        {"properties": {"text": "\ud800"}},
        {"properties": {"deep": nested(40)}},
        {"properties": {"deep": nested(5000)}},
        {"value": True},
        {"value": "5"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_the_workers_would_refuse_is_refused_at_once(client: Client, fields: dict[str, Any]) -> None:
    given = {"user_id": "ann", "item_id": "film-1", "type": "view", **fields}
    with pytest.raises(InvalidMessage):
        client.track(**given)
    with pytest.raises(InvalidMessage):
        client.track_many([given])


def test_a_time_in_seconds_is_refused_with_its_unit_and_older_data_is_sent_by_a_client_that_is_told(
    settings: Settings, client: Client
) -> None:
    event = {"user_id": "ann", "item_id": "film-1", "type": "view", "event_time": 1_764_000_000}
    with pytest.raises(InvalidMessage, match=r"before 1990-01-01.*looks like seconds: send milliseconds") as refused:
        client.track(**event)
    assert refused.value.reason == "event_time_unit"
    with Client(settings=settings.kafka, oldest_ms=0) as told:
        told.track(**event).result(30)
    assert [row.time_ms for row in rows(everything(settings.kafka, "events"))] == [1_764_000_000]


@pytest.mark.parametrize(
    "attributes",
    [{"a": object()}, {"a": 10**30}, {"a": nested(40)}, {"a": nested(5000)}, 7],
    ids=["object", "number", "deep", "deeper", "none"],
)
def test_an_item_that_the_workers_would_refuse_is_refused_at_once(client: Client, attributes: Any) -> None:
    with pytest.raises(InvalidMessage):
        client.put_items([{"item_id": "film-1", "attributes": attributes}])


def test_what_is_no_event_or_item_is_refused_with_its_type(client: Client) -> None:
    with pytest.raises(InvalidMessage, match="given a int"):
        client.track_many([7])  # type: ignore[list-item]
    with pytest.raises(InvalidMessage, match="given a str"):
        client.put_items("film-1")  # type: ignore[arg-type]


def test_items_are_published_replaced_and_removed_by_key(client: Client, settings: Settings) -> None:
    delivery = client.put_items([Item(item_id="film-1", title="Heat"), {"item_id": "film-2", "title": "Alien"}])
    delivery.result(30)
    client.remove_item("film-1").result(30)
    assert delivery.count == 2
    records = everything(settings.kafka, "items")
    assert [record.key for record in records] == [b"film-1", b"film-2", b"film-1"]
    assert json.loads(records[1].value)["title"] == "Alien"
    assert records[2].value is None
    with pytest.raises(InvalidMessage):
        client.put_items([{"item_id": "film-3", "tilte": "typo"}])


def test_closing_sends_what_waits_ends_what_is_outstanding_and_can_be_repeated(settings: Settings) -> None:
    before = set(threading.enumerate())
    client = Client(settings=settings.kafka)
    asked = client.recommend_async("ann", deadline_s=60)
    handles: list[Future[Any]] = [client.track("ann", f"item-{number}", "view") for number in range(100)]
    client.close()
    client.close()
    assert all(handle.done() for handle in handles)
    assert len(rows(everything(settings.kafka, "events"))) == 100
    with pytest.raises(Unavailable, match="the Client was closed"):
        asked.result(0)
    for call in (lambda: client.track("ann", "i", "view"), lambda: client.recommend("ann"), client.flush):
        with pytest.raises(HeadwaterError, match="this Client is closed"):
            call()
    eventually(lambda: set(threading.enumerate()) <= before, 60, "no thread is left behind")


def test_no_kafka_at_the_address_is_said_at_once() -> None:
    with pytest.raises(Unavailable, match=r"no Kafka answers at 127\.0\.0\.1:1 "):
        Client("127.0.0.1:1")


def test_a_world_without_topics_is_said_with_the_remedy(kafka_address: str) -> None:
    with Client(kafka_address, prefix="nobody.", connect_timeout_s=0.5) as client:
        with pytest.raises(Unavailable, match=r"no topic nobody\.events .*Check the prefix"):
            client.track("ann", "film-1", "view")
        with pytest.raises(Unavailable, match=r"no topic nobody\."):
            client.recommend("ann")


def test_the_environment_and_the_arguments_name_the_world(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_KAFKA__BOOTSTRAP", settings.kafka.bootstrap)
    monkeypatch.setenv("HEADWATER_KAFKA__PREFIX", "elsewhere.")
    with Client(prefix=settings.kafka.prefix) as client:
        assert (client.settings.bootstrap, client.settings.prefix) == (settings.kafka.bootstrap, settings.kafka.prefix)
        assert client.track("ann", "film-1", "view").result(30).offset == 0


def test_partitions_added_later_are_no_reason_to_fail(settings: Settings) -> None:
    other = settings.kafka.model_copy(update={"prefix": settings.kafka.prefix + "one."})
    ensure_topics(other, {"events": 1})
    with Client(settings=other) as client:
        assert {client.track(f"u{n}", "i", "view").result(30).partition for n in range(20)} == {0}
