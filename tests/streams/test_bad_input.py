"""Bad events: each is a dead letter with its reason and its raw bytes, counted once; what is good around it passes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from typer.testing import CliRunner

from console.cli import app
from headwater.events import now_ms
from headwater.settings import Settings
from headwater.topics import DEAD_LETTERS, EVENTS, ITEMS, Topic, topic_name
from headwater.wire import encode, encode_packed
from tests.embedded.conformance.clients import Raw
from tests.worlds.processes import LiveWorker, eventually
from tests.worlds.streams import dumps, event, eventually_equal, folded_all, header, records, send_raw, storing
from tests.worlds.topic_reading import NotUtf8

Start = Callable[..., LiveWorker]

GOOD = {"user_id": "ada", "item_id": "film-1", "type": "click", "event_time": 1_700_000_000_000}

BAD: dict[str, tuple[str, bytes | None, dict[str, Any]]] = {
    "bytes that are not JSON": ("undecodable", b"\xff\x00{", {}),
    "a truncated object": ("undecodable", b'{"user_id": "ada"', {}),
    "an empty value": ("undecodable", b"", {}),
    "not a number": ("undecodable", b'{"user_id":"ada","item_id":"x","type":"click","value":NaN}', {}),
    "a header that is not UTF-8": ("undecodable", dumps(GOOD), {"headers": [("ce_id", b"\xff")]}),
    "a field that is missing": ("schema", dumps({"user_id": "ada"}), {}),
    "a field that is unknown": ("schema", dumps({**GOOD, "colour": "red"}), {}),
    "a field of another type": ("schema", dumps({**GOOD, "value": [4]}), {}),
    "a time without an offset": ("schema", dumps({**GOOD, "event_time": "2026-11-22T10:00:00"}), {}),
    "an id of absurd length": ("schema", dumps({**GOOD, "item_id": "x" * 100_000}), {}),
    "an empty id": ("schema", dumps({**GOOD, "event_id": ""}), {}),
    "an event type that is not one": ("schema", dumps({**GOOD, "type": "Click Me"}), {}),
    "an unknown version": ("unknown_version", dumps(GOOD), {"headers": [("ce_specversion", b"2.0")]}),
    "a time far ahead": ("event_time_ahead", dumps({**GOOD, "event_time": now_ms() + 10**10}), {}),
    "a time in seconds": ("event_time_unit", dumps({**GOOD, "event_time": 1_700_000_000}), {}),
    "a time in microseconds": ("event_time_unit", dumps({**GOOD, "event_time": 1_700_000_000_000_000}), {}),
    "a value of 1 MB": ("too_large", dumps({**GOOD, "properties": {"x": "y" * 1_000_000}}), {}),
    "properties of 100 kB": ("too_large", dumps({**GOOD, "properties": {"x": "y" * 100_000}}), {}),
    "no key": ("null_key", dumps(GOOD), {"key": None}),
    "no value": ("null_value", None, {}),
    "the key of someone else": ("key_mismatch", dumps({**GOOD, "user_id": "bob"}), {}),
}


@pytest.mark.timeout(180)
def test_each_bad_event_is_a_counted_dead_letter_with_its_reason_and_bytes(settings: Settings, worker: Start) -> None:
    streams = worker("streams.worker")
    sent = []
    for name, (reason, value, more) in BAD.items():
        metadata = send_raw(settings, value, **{"key": b"ada", "partition": 0, **more})
        sent.append((name, reason, more.get("key", b"ada"), value, str(metadata.offset).encode()))
        send_raw(settings, encode(event(metadata.offset)), key=b"ada", partition=0)
    result = folded_all(settings)
    assert result.ok, result.first_difference
    assert (result.events_applied, result.dead_letters) == (len(BAD), len(BAD))
    letters = records(settings, DEAD_LETTERS)
    for (name, reason, key, value, offset), letter in zip(sent, letters, strict=True):
        assert header(letter, "reason") == reason.encode(), name
        assert (letter.key, letter.value) == (key, value and value[:900_000]), name
        assert (header(letter, "truncated") is not None) == (len(value or b"") > 900_000), name
        assert header(letter, "source-topic") == topic_name(EVENTS, settings.kafka.prefix).encode()
        assert (header(letter, "source-partition"), header(letter, "source-offset")) == (b"0", offset)
        assert b"events[0]@" + offset in (header(letter, "error") or b"")
    wanted: dict[str, int] = {}
    for reason, _, _ in BAD.values():
        wanted[reason] = wanted.get(reason, 0) + 1
    with storing(settings) as store:
        eventually_equal(store.dead_letters, wanted)
    assert streams.metric("headwater_dead_letters_total") == len(BAD)
    assert streams.stop() == 0


def test_one_bad_event_in_a_packed_record_does_not_take_the_others_with_it(settings: Settings, worker: Start) -> None:
    worker("streams.worker")
    packed = dumps([GOOD, {**GOOD, "item_id": 7}, "not an object", {**GOOD, "item_id": "film-2"}])
    send_raw(settings, packed, partition=1)
    result = folded_all(settings)
    assert result.ok, result.first_difference
    assert (result.events_produced, result.events_applied, result.dead_letters) == (4, 2, 2)
    letters = records(settings, DEAD_LETTERS)
    assert [header(letter, "source-index") for letter in letters] == [b"1", b"2"]
    assert [letter.key for letter in letters] == [b"ada", None]
    first, second = (orjson.loads(letter.value) for letter in letters)
    assert first["item_id"] == 7
    assert first["event_id"].startswith("1-0-1")
    assert second == "not an object"


def test_a_record_of_many_long_histories_is_cut_to_what_a_broker_takes(settings: Settings, worker: Start) -> None:
    streams = worker("streams.worker")
    long = [event(n, f"user-{n % 20}", item_id=f"{'i' * 240}{n}") for n in range(4_000)]
    for start in range(0, 4_000, 500):
        send_raw(settings, encode_packed(long[start : start + 500]), partition=0)
    result = folded_all(settings)
    assert result.ok, result.first_difference
    assert streams.metric("headwater_examples_sent_total") == 4_000
    assert math.isclose(streams.metric("headwater_retries_total"), 0)


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def hostile_events() -> dict[str, tuple[str, int, bytes | None, dict[str, Any]]]:
    """What -> reason, number of letters, value, how it is sent."""
    future = [{**GOOD, "event_id": f"f{n}", "event_time": now_ms() + 10**9} for n in range(1_000)]
    long = [{**one, "properties": {"x": "y" * 700}} for one in future]
    deep = b'{"user_id":"ada","item_id":"x","type":"click","event_time":1700000000000,"properties":{"x":%s}}' % nested(
        300
    )
    return {
        "1,000 future events in one record": ("event_time_ahead", 1_000, dumps(long), {"key": None}),
        "5,000 numbers": ("schema", 5_000, dumps([1] * 5_000), {"key": None}),
        "nested properties": ("too_deep", 1, deep, {}),
        "a nested user": ("too_deep", 1, b'{"user_id":%s}' % nested(1010), {}),
        "a nested packed user": ("too_deep", 1, b'[{"user_id":%s}]' % nested(1010), {"key": None}),
        "neither key nor value": ("null_value", 1, None, {"key": None}),
        "10 MB": ("too_large", 1, b"[" + b" " * 10_000_000, {}),
    }


@pytest.mark.timeout(240)
def test_no_content_ends_the_worker_or_holds_it_up(settings: Settings, worker: Start) -> None:
    streams = worker("streams.worker")
    assert streams.process is not None
    pid = streams.process.pid
    wanted: dict[str, int] = {}
    for partition, (reason, number, value, more) in enumerate(hostile_events().values()):
        wanted[reason] = wanted.get(reason, 0) + number
        send_hostile(settings, value, **{"key": b"ada", "partition": partition % 4, **more})
    for partition in range(4):
        send_raw(settings, encode(event(partition)), key=b"ada", partition=partition)
    send_raw(settings, encode(event(4)), key=b"ada", partition=0, headers=[(NotUtf8("x"), b"1")])
    deep_item = b'{"item_id":"film-1","attributes":{"x":%s}}' % nested(300)
    send_raw(settings, deep_item, ITEMS, key=b"film-1")
    send_raw(settings, b'{"item_id":"film-2","title":"Good"}', ITEMS, key=b"film-2")
    for foreign in FOREIGN:
        send_hostile(settings, b"foreign", DEAD_LETTERS, key=None, partition=0, headers=foreign)
    result = folded_all(settings, timeout_s=120)
    assert result.ok, result.first_difference
    assert result.events_applied == 5
    wanted["unknown"] = len(FOREIGN)
    with storing(settings) as store:
        eventually(lambda: store.read_items(["film-2"])[0])
        wanted["too_deep"] += 1
        eventually_equal(store.dead_letters, wanted)
    letters = records(settings, DEAD_LETTERS)
    assert len(letters) == sum(wanted.values())
    assert max(len(letter.value or b"") for letter in letters) <= 900_000
    ahead = [letter for letter in letters if header(letter, "reason") == b"event_time_ahead"]
    assert {letter.key for letter in ahead} == {b"ada"}
    assert [orjson.loads(letter.value)["event_id"] for letter in ahead] == [f"f{n}" for n in range(1_000)]
    assert (streams.process.poll(), streams.process.pid) == (None, pid)
    assert streams.metric("headwater_retries_total") == 0
    assert streams.stop() == 0


FOREIGN: list[list[tuple[str, bytes | None]]] = [
    [],
    [("reason", None)],
    [("reason", b"schema"), ("source-topic", b"events"), ("source-partition", b"0"), ("source-offset", b"-7")],
    [("reason", b"schema"), ("source-topic", b"events"), ("source-partition", b"0"), ("source-offset", b"9" * 30)],
    [("reason", b"\xff" * 300), ("source-topic", None), ("source-partition", b"x"), ("source-offset", b"")],
]


def send_hostile(settings: Settings, value: bytes | None, topic: Topic = EVENTS, **more: Any) -> None:
    """As a client that checks nothing: gzip, any size, neither key nor value."""

    builder = DefaultRecordBatchBuilder(magic=2, compression_type=1, is_transactional=False, producer_id=-1,
                                        producer_epoch=-1, base_sequence=-1, batch_size=1 << 26)  # fmt: skip
    builder.append(0, now_ms(), more.get("key"), value, more.get("headers", []))
    with Raw(settings.kafka.bootstrap) as client:
        name = topic_name(topic, settings.kafka.prefix)
        assert client.produce(name, builder.build(), partition=more["partition"]).error_code == 0


@pytest.mark.timeout(240)
def test_a_redrive_sends_each_event_alone_and_changes_features_once(settings: Settings, worker: Start) -> None:
    first = worker("streams.worker")
    soon = now_ms() + 10**8
    mixed = [{**GOOD, "event_id": "now"}, {**GOOD, "event_time": soon}, {**GOOD, "user_id": "bob", "event_time": soon}]
    send_raw(settings, dumps(mixed), partition=2)
    send_raw(settings, dumps({"user_id": "ada", "item_id": "x", "type": "click", "event_time": soon}), key=b"ada")
    send_raw(settings, b"never good", key=b"ada")
    result = folded_all(settings)
    assert (result.events_applied, result.dead_letters) == (1, 4)
    assert first.stop() == 0
    worker("streams.worker", HEADWATER_STREAMS__MAX_AHEAD_S="1e9")
    for times, said in ((1, "4 dead letters sent"), (2, "5 dead letters sent")):
        again = [] if times == 1 else ["--again"]
        done = CliRunner().invoke(app, ["dead-letters", "redrive", *again, *where(settings)])
        assert said in done.output, done.output
        folded_all(settings)
        with storing(settings) as store:
            states = store.read_users(["ada", "bob"]).states
            assert (states["ada"].count, states["bob"].count) == (3, 1)
            eventually_equal(lambda: store.dead_letters().get("undecodable"), 2 if times == 1 else 4)
    done = CliRunner().invoke(app, ["dead-letters", "redrive", *where(settings)])
    assert "0 dead letters to send again" in done.output
    assert "2 left out: sent again before" in done.output


def where(settings: Settings) -> list[str]:
    return ["--kafka", settings.kafka.bootstrap, "--prefix", settings.kafka.prefix]
