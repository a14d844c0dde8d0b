"""The wire: the fast path of events takes and refuses what the pydantic model does; letters say what they were."""

from __future__ import annotations

import tracemalloc
import weakref
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from headwater.errors import InvalidMessage
from headwater.events import OLDEST_MS, Event, Item, now_ms, session_number
from headwater.wire import (
    MAX_DEPTH,
    MAX_PACKED_EVENTS,
    EventRow,
    LetterSource,
    RefusedRecord,
    TimeBounds,
    cloudevent_headers,
    cut_letter,
    dead_letter,
    decode_catalogue_record,
    decode_item,
    decode_request,
    decode_user_record,
    encode,
    encode_packed,
    read_events,
    read_identity,
    read_letter,
)
from headwater.wire.letters import bounded_dead_letter, event_body_for_dead_letter

NOW_MS = 1_800_000_000_000
AHEAD = TimeBounds(now_ms=0, max_ahead_ms=1)
RECENT = TimeBounds(OLDEST_MS, NOW_MS, 60_000)

ids = st.one_of(st.text(max_size=4), st.sampled_from(["", "a" * 256, "a" * 257, "ü" * 256, "\n", "a\x00"]))
odd = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.floats(), st.text(max_size=3), st.lists(st.integers()))
types = st.sampled_from(["click", "view", "Click", "click\n", "", "a" * 64, "a" * 65, "x.y-z_1", "9a", "klick ü"])
times = st.one_of(
    st.integers(-1, 3),
    st.sampled_from([NOW_MS, 253_402_300_799_999, 253_402_300_800_000, 1.0, 1e12, True, "2026-11-22T10:00:00Z"]),
    st.sampled_from(["2026-11-22T10:00:00", "yesterday", "1234", 2**63, -(2**63)]),
)
values = st.one_of(
    st.none(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False), st.sampled_from(["4.5", True])
)
properties = st.one_of(st.none(), st.dictionaries(st.text(max_size=2), odd, max_size=2), odd)
chances = st.lists(st.sampled_from([0.25, 1, 1.0, 1e-300, 0, 1.5, -0.5, True, "0.5", None]), max_size=3)

bodies = st.fixed_dictionaries(
    {"event_id": st.one_of(ids, odd), "event_time": times, "type": st.one_of(types, odd)},
    optional={
        "user_id": st.one_of(ids, odd),
        "item_id": st.one_of(ids, odd),
        "value": values,
        "session_id": st.one_of(st.none(), ids, odd),
        "request_id": st.one_of(st.none(), ids, odd),
        "properties": properties,
        "items": st.one_of(st.none(), st.lists(ids, max_size=2), odd),
        "propensities": st.one_of(st.none(), chances, odd),
        "colour": odd,
    },
)
good = st.fixed_dictionaries(
    {
        "event_id": st.text(min_size=1, max_size=4),
        "user_id": st.text(min_size=1, max_size=4),
        "item_id": st.text(min_size=1, max_size=4),
        "type": st.sampled_from(["click", "rating"]),
        "event_time": st.integers(0, NOW_MS),
    },
    optional={"value": values, "request_id": ids, "session_id": ids, "properties": properties},
)
shown = st.fixed_dictionaries(
    {
        "event_id": st.text(min_size=1, max_size=4),
        "user_id": st.text(min_size=1, max_size=4),
        "items": st.lists(st.text(min_size=1, max_size=2), min_size=1, max_size=3),
        "type": st.just("impression"),
        "event_time": st.integers(0, NOW_MS),
    },
    optional={"item_id": ids, "request_id": ids, "propensities": chances},
)


def read(value: bytes | None, **given: Any) -> list[EventRow | InvalidMessage]:
    known: dict[str, Any] = {"key": b"ada", "partition": 2, "offset": 7, "timestamp_ms": 5}
    return read_events(value, **{**known, **given})


@settings(max_examples=600)
@given(st.lists(st.one_of(bodies, good, shown), min_size=1, max_size=3))
def test_the_fast_path_accepts_and_reads_what_pydantic_does(found: list[dict[str, Any]]) -> None:
    try:
        value = orjson.dumps(found)
    except TypeError:
        return  # lone surrogates and integers over 64 bits cannot be put in JSON by this encoder
    for place, (body, row) in enumerate(zip(orjson.loads(value), read(value), strict=True)):
        try:
            event = Event.model_validate(body)
        except ValidationError:
            assert isinstance(row, InvalidMessage), body
            assert row.reason == "schema"
            continue
        assert isinstance(row, EventRow), (body, row)
        assert row == EventRow(
            event.user_id,
            event.item_id,
            event.type,
            event.event_time,
            event.value,
            event.event_id,
            event.request_id,
            7,
            place,
            None if event.session_id is None else session_number(event.session_id),
            event.items or (),
            event.properties,
            event.propensities or (),
        )


@given(good)
def test_what_the_sdk_writes_is_read_back(body: dict[str, Any]) -> None:
    try:
        event = Event.model_validate(body)
    except ValidationError:
        return
    try:
        value = encode(event)
    except InvalidMessage:  # an integer of more than 64 bits in its properties
        with pytest.raises(InvalidMessage, match="64-bit"):
            encode_packed([event])
        return
    (single,) = read(value, key=event.user_id.encode(), headers=cloudevent_headers(event, "test"))
    (packed,) = read(encode_packed([event]), key=None)
    assert single == packed
    assert isinstance(single, EventRow)
    assert (single.event_id, single.time_ms) == (event.event_id, event.event_time)


def test_missing_fields_come_from_the_cloudevents_headers_or_from_the_record() -> None:
    body = orjson.dumps({"user_id": "ada", "item_id": "film-1"})
    headers = [("ce_id", b"x1"), ("ce_type", b"com.shop.click"), ("ce_time", b"1970-01-01T00:00:09Z")]
    (row,) = read(body, headers=headers)
    assert isinstance(row, EventRow)
    assert (row.event_id, row.type, row.time_ms) == ("x1", "click", 9_000)
    (row,) = read(orjson.dumps({"user_id": "ada", "item_id": "film-1", "type": "view"}))
    assert isinstance(row, EventRow)
    assert (row.event_id, row.time_ms) == ("2-7-0", 5)


@pytest.mark.parametrize(
    ("value", "given_more", "reason"),
    [
        (None, {}, "null_value"),
        (b"\xff\xfe", {}, "undecodable"),
        (b"[1, 2", {}, "undecodable"),
        (b" " * 1_000_001, {}, "too_large"),
        (b"{}", {"key": None}, "null_key"),
        (b"{}", {}, "schema"),
        (b"7", {}, "schema"),
        (b"[[]]", {}, "schema"),
        (b"{}", {"headers": [("ce_specversion", b"2.0")]}, "unknown_version"),
        (b"{}", {"headers": [("ce_id", b"\xff")]}, "undecodable"),
        (encode(Event(user_id="bob", item_id="x", type="view")), {}, "key_mismatch"),
        (encode(Event(user_id="ada", item_id="x", type="view")), {"times": AHEAD}, "event_time_ahead"),
        (encode(Event(user_id="ada", item_id="x", type="view", event_time=5)), {"times": RECENT}, "event_time_unit"),
        (encode(Event(user_id="ada", item_id="x", type="view", properties={"a": "b" * 70_000})), {}, "too_large"),
    ],
)
def test_each_bad_record_has_its_reason(value: bytes | None, given_more: dict[str, Any], reason: str) -> None:
    (refused,) = read(value, **given_more)
    assert isinstance(refused, InvalidMessage)
    assert refused.reason == reason


def test_what_a_worker_put_into_the_log_is_judged_by_its_own_clock() -> None:
    """Who was forgotten must not come back because another worker's clock is slow."""
    late = TimeBounds(0, now_ms() - 3_600_000, 300_000.0)
    for kind, is_taken in (("headwater.forget", True), ("view", False)):
        event = Event(user_id="ada", item_id="-", type=kind)
        (found,) = read(encode(event), times=late, timestamp_ms=event.event_time)
        assert isinstance(found, EventRow) == is_taken
    event = Event(user_id="ada", item_id="-", type="headwater.forget", event_time=now_ms() + 2 * 86_400_000)
    (found,) = read(encode(event), times=TimeBounds(0, now_ms(), 300_000.0), timestamp_ms=event.event_time)
    assert isinstance(found, InvalidMessage), "whoever may write says what time a record is of"


def test_an_empty_packed_record_is_refused() -> None:
    (refused,) = read(b"[]", key=None)
    assert isinstance(refused, InvalidMessage)
    assert (refused.reason, refused.body) == ("schema", None)


def nested(levels: int) -> bytes:
    """A value of so many objects and arrays inside one another."""
    text = b"1"
    for level in range(levels):
        text = b"[" + text + b"]" if level % 2 else b'{"a":' + text + b"}"
    return text


def event(more: bytes) -> bytes:
    return b'{"user_id":"ada","item_id":"x","type":"view",' + more + b"}"


@pytest.mark.parametrize("levels", [MAX_DEPTH, 200, 300, 1000, 1022, 5000, 50_000])
@pytest.mark.parametrize("field", [b"properties", b"value", b"colour"])
def test_an_event_nested_too_deep_is_refused(levels: int, field: bytes) -> None:
    (refused,) = read(event(b'"%s":' % field + nested(levels)))
    assert isinstance(refused, InvalidMessage)
    assert refused.reason == "too_deep"
    assert len(str(refused)) < 200
    assert refused.body is None


def test_the_deepest_allowed_event_is_read() -> None:
    (row,) = read(event(b'"properties":' + nested(MAX_DEPTH - 1).replace(b"[", b'{"b":').replace(b"]", b"}")))
    assert isinstance(row, EventRow)


@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 300, 1000, 5000])
def test_other_messages_nested_too_deep_are_refused(levels: int) -> None:
    for decode, value in (
        (decode_item, b'{"item_id":"a","attributes":{"a":%s}}' % nested(levels)),
        (decode_request, b'{"user_id":"a","filters":{"a":%s}}' % nested(levels)),
        (decode_item, nested(levels)),
    ):
        with pytest.raises(InvalidMessage, match="Flatten it") as caught:
            decode(value)
        assert caught.value.reason == "too_deep"


def test_many_shallow_objects_are_not_deep() -> None:
    item = Item(item_id="a", attributes={"list": [{"n": [n]} for n in range(100)]})
    assert decode_item(encode(item)) == item


def test_a_packed_record_has_a_limit_of_events() -> None:
    one = encode(Event(user_id="ada", item_id="x", type="view", event_id="e"))
    assert len(read(b"[" + b",".join([b"1"] * MAX_PACKED_EVENTS) + b"]")) == MAX_PACKED_EVENTS
    (refused,) = read(b"[" + b",".join([b"1"] * (MAX_PACKED_EVENTS + 1)) + b"]")
    assert isinstance(refused, InvalidMessage)
    assert (refused.reason, refused.body) == ("too_large", None)
    assert len(read(b"[" + one + b"," + one + b"]")) == 2


def test_a_word_that_holds_from_its_place_has_a_record_of_its_own() -> None:
    forget = b'{"user_id":"ada","item_id":"-","type":"headwater.forget"}'
    (alone,) = read(b"[" + forget + b"]")
    assert isinstance(alone, EventRow)
    beside = encode(Event(user_id="ada", item_id="x", type="view"))
    first, second = read(b"[" + beside + b"," + forget + b"]")
    assert isinstance(first, EventRow)
    assert isinstance(second, InvalidMessage)
    assert "in a record of its own" in str(second)


def test_a_refused_event_of_a_packed_record_carries_itself_alone() -> None:
    good = encode(Event(user_id="ada", item_id="x", type="view"))
    bad = b'{"user_id":"bob","item_id":"x","type":"NO","colour":"red"}'
    deep = event(b'"event_id":"d","properties":' + nested(600))
    rows = read(b"[" + b",".join([good, bad, deep, b"7", b'{"user_id":8}']) + b"]", key=None)
    assert isinstance(rows[0], EventRow)
    letters = [row for row in rows if isinstance(row, InvalidMessage)]
    assert [letter.reason for letter in letters] == ["schema", "too_deep", "schema", "schema"]
    assert [letter.key for letter in letters] == [b"bob", b"ada", None, None]
    bodies = [orjson.loads(letter.body or b"") for letter in letters]
    assert bodies[0] == {**orjson.loads(bad), "event_id": "2-7-1", "event_time": 5}
    assert bodies[1] == {**orjson.loads(deep), "event_time": 5}
    assert bodies[2] == 7
    assert bodies[3] == {"user_id": 8, "event_id": "2-7-4", "event_time": 5}
    (again,) = read(letters[0].body, key=letters[0].key)
    assert isinstance(again, InvalidMessage)
    assert again.reason == "schema"


trees = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=2), inner, max_size=3)),
)


@given(trees)
def test_the_body_of_a_letter_is_the_same_however_deep(tree: Any) -> None:
    try:
        orjson.dumps(tree)
    except TypeError:
        return
    deep = orjson.loads(b"[" * 300 + orjson.dumps(tree) + b"]" * 300)
    assert orjson.loads(event_body_for_dead_letter(deep, "e", 1)) == deep


def test_a_dead_letter_fits_whatever_was_refused() -> None:
    assert bounded_dead_letter(b"k", b"v") == (b"k", b"v", [])
    assert bounded_dead_letter(None, b"v") == (None, b"v", [])
    assert bounded_dead_letter(b"k", None) == (b"k", None, [])
    assert bounded_dead_letter(None, None) == (b"", None, [])
    key, value, more = bounded_dead_letter(b"k" * 20_000, b"v" * 1_000_000)
    assert (key, value) == (b"k" * 10_000, b"v" * 900_000)
    assert more == [("truncated", b"1000000"), ("truncated-key", b"20000")]


def test_a_record_of_the_catalogue_is_read_or_refused() -> None:
    item = Item(item_id="a", title="A")
    assert decode_catalogue_record(b"a", encode(item), "items[0]@1") == ("a", item)
    assert decode_catalogue_record(b"a", None, "items[0]@1") == ("a", None)
    for key, value, reason in (
        (None, encode(item), "null_key"),
        (b"\xff" * 5000, None, "undecodable"),
        (b"b" * 5000, encode(item), "key_mismatch"),
        (b"b" * 257, None, "schema"),
        (b"", None, "schema"),
        (b"a", b"{", "undecodable"),
        (b"a", b"{}", "schema"),
        (b"a", b'{"item_id":"a","attributes":{"a":%s}}' % nested(2000), "too_deep"),
    ):
        with pytest.raises(InvalidMessage, match=r"items\[0\]@1: ") as caught:
            decode_catalogue_record(key, value, "items[0]@1")
        assert caught.value.reason == reason
        assert len(str(caught.value)) < 400


def decode_user(value: bytes) -> None:
    decode_user_record(b"a", value, "")


def decode_event(value: bytes) -> None:
    (refused,) = read(event(value[1:-1]))
    assert isinstance(refused, InvalidMessage)
    raise refused


@pytest.mark.parametrize(
    "more",
    [
        b'"colour":"%s"' % (b"x" * 500_000),
        b'"%s":1' % (b"x" * 500_000),
        b'"session_id":"%s"' % (b"x" * 500_000),
        b'"event_time":"%s"' % (b"x" * 500_000),
        b'"value":[%s]' % b",".join([b"1"] * 200_000),
        b",".join(b'"k%d":{"a":[]}' % number for number in range(20_000)),
    ],
    ids=lambda given: given[:12].decode(),
)
def test_what_is_told_of_a_bad_event_is_short(more: bytes) -> None:
    (refused,) = read(event(more))
    assert isinstance(refused, InvalidMessage)
    assert refused.reason == "schema"
    assert len(str(refused)) < 1500


MANY = 150_000
NAMES = [b'"%06d"' % number for number in range(60_000)]
WRONG_MANY_TIMES = {
    "ids": (decode_request, b'{"user_id":"a","exclude":[%b]}' % b",".join([b"1"] * MANY)),
    "types": (decode_request, b'{"user_id":"a","exclude_seen":[%b]}' % b",".join([b"1"] * MANY)),
    "a context": (decode_request, b'{"user_id":"a","context":{%b}}' % b",".join(one + b":{}" for one in NAMES)),
    "fields": (decode_request, b'{"user_id":"a",%b}' % b",".join(one + b":1" for one in NAMES)),
    "events": (decode_request, b'{"user_id":"a","recent_events":[%b]}' % b",".join([b"{}"] * MANY)),
    "categories": (decode_item, b'{"item_id":"a","categories":[%b]}' % b",".join([b"1"] * MANY)),
    "numbers": (decode_item, b'{"item_id":"a","vectors":{"v":[%b]}}' % b",".join([b'""'] * MANY)),
    "vectors": (decode_item, b'{"item_id":"a","vectors":{%b}}' % b",".join(one + b":1" for one in NAMES)),
    "attributes": (decode_user, b'{"user_id":"a","attributes":{%b}}' % b",".join(one + b":{}" for one in NAMES)),
    "consents": (decode_event, b'{"consent":{%b}}' % b",".join(one + b":1" for one in NAMES)),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG_MANY_TIMES)
def test_what_is_wrong_many_times_takes_no_more_memory_than_what_was_sent(what: str) -> None:
    decode, value = WRONG_MANY_TIMES[what]
    tracemalloc.start()
    try:
        with pytest.raises(InvalidMessage) as refused:
            decode(value)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert refused.value.reason == "schema"
    assert len(str(refused.value)) < 500
    assert peak < 40 * len(value), f"{peak / len(value):.0f} times"


def test_a_letter_says_where_its_message_was_also_when_it_is_cut() -> None:
    headers = [("ce_id", b"e1"), ("x", b"y"), ("redriven-from", b"events/0/1/0")]
    record = RefusedRecord("t.events", 3, 41, 1_700_000_000_000, b"ann", b"x" * 5000, headers)
    whole = dead_letter(InvalidMessage("schema", "why"), record, 2)
    small = cut_letter(whole)
    for letter in (whole, small):
        assert read_letter(letter.headers) == LetterSource("schema", "t.events", 3, 41, 2)
    assert {"ce_id", "redriven-from", "source-timestamp"} <= dict(whole.headers).keys()
    assert (small.key, len(small.value or b""), dict(small.headers)["truncated"]) == (b"ann", 1000, b"5003")
    assert "redriven-from" not in dict(small.headers)


@pytest.mark.parametrize(
    "change",
    [
        {"reason": b""},
        {"reason": b"No Reason"},
        {"source-topic": b""},
        {"source-partition": b"x"},
        {"source-offset": None},
    ],
)
def test_headers_that_no_worker_wrote_are_no_letter(change: dict[str, Any]) -> None:
    whole = dead_letter(InvalidMessage("schema", "why"), RefusedRecord("events", 0, 0, 0, None, None, ()))
    assert read_letter(whole.headers) is not None
    assert read_letter(list({**dict(whole.headers), **change}.items())) is None
    assert read_letter(None) is None


@pytest.mark.parametrize(
    ("event_time", "unit"),
    [
        (NOW_MS // 1000, "seconds"),
        (NOW_MS // 1000 - 40 * 365 * 86_400, None),
        (NOW_MS * 1000, "microseconds"),
        (NOW_MS * 1_000_000, "nanoseconds"),
        ("1970-01-20T12:00:00Z", "seconds"),
        ("1985-07-13T12:00:00Z", None),
        (20_270_115, None),
    ],
)
def test_a_time_in_another_unit_is_refused_and_its_likely_unit_named(event_time: Any, unit: str | None) -> None:
    body = {"event_id": "e", "user_id": "ada", "item_id": "x", "type": "view", "event_time": event_time}
    recent = {**body, "event_id": "f", "event_time": NOW_MS}
    packed = read(orjson.dumps([body, recent]), key=None, times=RECENT)
    (alone,) = read(orjson.dumps(body), times=RECENT)
    assert isinstance(alone, InvalidMessage)
    assert isinstance(packed[0], InvalidMessage)
    assert isinstance(packed[1], EventRow)
    assert alone.reason == packed[0].reason == "event_time_unit"
    assert (f"looks like {unit}: send milliseconds" in str(alone)) == (unit is not None)
    if not isinstance(event_time, int) or event_time < NOW_MS:
        (old,) = read(orjson.dumps(body), times=TimeBounds(0, NOW_MS, 60_000))
        assert isinstance(old, EventRow), "streams.oldest = 1970-01-01 takes it"


@given(st.integers(0, NOW_MS), st.integers(0, NOW_MS))
def test_the_oldest_time_is_a_bound_and_nothing_else(event_time: int, oldest_ms: int) -> None:
    value = encode(Event(user_id="ada", item_id="x", type="view", event_time=event_time))
    (row,) = read(value, times=TimeBounds(oldest_ms, NOW_MS))
    assert isinstance(row, EventRow) == (event_time >= oldest_ms)


def test_what_no_check_foresaw_refuses_its_record_and_raises_nothing() -> None:
    headers: Any = [(7, b"a client that writes names as numbers")]
    (refused,) = read_events(
        encode(Event(user_id="u", item_id="i", type="view")), key=b"u", headers=headers, partition=0, offset=1,
        timestamp_ms=0,
    )  # fmt: skip
    assert isinstance(refused, InvalidMessage)
    assert (refused.reason, str(refused).startswith("events[0]@1: AttributeError")) == ("internal", True)


def test_a_publication_time_in_seconds_is_refused_and_a_date_of_1970_is_not() -> None:
    with pytest.raises(InvalidMessage, match=r"published_time.*if it is seconds, send 1700000001000") as refusal:
        decode_item(b'{"item_id": "boots", "published_time": 1700000001}')
    assert refusal.value.reason == "schema"
    film = decode_item(b'{"item_id": "mash", "published_time": "1970-01-25T00:00:00-05:00"}')
    assert film.published_time == 24 * 86_400_000 + 5 * 3_600_000


class BatchAtHand:
    """What whoever reads a record has at hand."""


@pytest.mark.parametrize("value", [b"{", b'{"user_id": 7}', b"[1]", b'[{"user_id": 7}]', b'{"linked": 1}'])
def test_a_refusal_that_is_kept_holds_nothing_of_who_read_the_record(value: bytes) -> None:
    def refused_of_a_batch() -> tuple[list[Any], weakref.ref[BatchAtHand]]:
        beside = BatchAtHand()
        found = read_events(value, key=b"u", headers=(), partition=0, offset=0, timestamp_ms=0)
        found.append(read_identity(value, key=b"u", partition=0, offset=0, timestamp_ms=0))  # type: ignore[arg-type]
        return found, weakref.ref(beside)

    refused, beside = refused_of_a_batch()
    assert {type(one) for one in refused} == {InvalidMessage}
    assert beside() is None
