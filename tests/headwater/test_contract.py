"""The contract that apps and workers share: models on the wire, times, topics, errors."""

from __future__ import annotations

import ast
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

import headwater
from headwater import Event, InvalidMessage, Item, Receipt, Recommendation, RecommendedItem, Refusal, Request, errors
from headwater.events import OLDEST_MS, session_number
from headwater.topics import TOPICS, topic_name
from headwater.wire import (
    MAX_VALUE_BYTES,
    EventRow,
    TimeBounds,
    cloudevent_headers,
    dead_letter_headers,
    decode_item,
    decode_recommendation,
    decode_request,
    encode,
    encode_packed,
    read_events,
)
from tests.worlds.processes import ROOT

NOW_MS = 1_700_000_000_000

EVENT = Event(
    event_id="e1",
    user_id="ann",
    item_id="film-1",
    type="rating",
    event_time=NOW_MS,
    value=4.5,
    session_id="s1",
    request_id="r1",
    properties={"page": 3, "tags": ["a", None], "über": {"deep": True}},
)
SESSION = session_number("s1")
ITEM = Item(
    item_id="film-1",
    title="Délicatessen",
    categories=("Comedy", "Sci-Fi"),
    available=False,
    published_time=NOW_MS,
    text="A butcher.",
    attributes={"year": 1991, "languages": ["fr"]},
)
REQUEST = Request(
    request_id="r1",
    user_id="ann",
    k=3,
    request_time=NOW_MS,
    context_item="film-1",
    candidates=("film-2", "film-3"),
    exclude=("film-4",),
    exclude_seen=("click",),
    filters={"year": {"gte": 1990}, "categories": ["Comedy"]},
    recent_events=(EVENT,),
    explain=True,
    deadline_ms=500,
    after={"2": 41},
)
RECOMMENDATION = Recommendation(
    request_id="r1",
    user_id="ann",
    items=(RecommendedItem(item_id="film-2", rank=1, score=0.7, reasons=("because of film-1",)),),
    answered_time=NOW_MS,
    receipt=Receipt(feature_offsets={"2": 41}, feature_age_ms=3.5, history_length=9, model_version=4, fallback=None),
    error=Refusal(code="unknown_field", message="no field 'colour'"),
)


def read(value: bytes | None, **given: Any) -> list[EventRow | InvalidMessage]:
    known: dict[str, Any] = {"key": b"ann", "partition": 2, "offset": 7, "timestamp_ms": NOW_MS}
    return read_events(value, **{**known, "times": TimeBounds(OLDEST_MS, NOW_MS, 60_000), **given})


def refused(rows: list[EventRow | InvalidMessage]) -> list[str]:
    return [row.reason for row in rows if isinstance(row, InvalidMessage)]


@pytest.mark.parametrize(
    ("model", "decode"),
    [(ITEM, decode_item), (REQUEST, decode_request), (RECOMMENDATION, decode_recommendation)],
    ids=lambda given: type(given).__name__,
)
def test_what_is_written_is_read_back_whole(model: BaseModel, decode: Any) -> None:
    assert decode(encode(model)) == model


def test_an_answer_of_an_older_release_is_read() -> None:
    body = json.loads(encode(RECOMMENDATION))
    body["items"][0]["propensity"] = 1.0
    body["receipt"]["policy"] = "exact after=not_reached"
    found = decode_recommendation(json.dumps(body).encode())
    assert found.items == RECOMMENDATION.items
    assert found.receipt.policy == ("exact", "after=not_reached")


def test_an_event_is_read_back_with_all_that_the_engine_needs() -> None:
    assert Event.model_validate_json(encode(EVENT)) == EVENT
    row = EventRow("ann", "film-1", "rating", NOW_MS, 4.5, "e1", "r1", 7, 0, SESSION, (), EVENT.properties)
    assert read(encode(EVENT)) == [row]
    other = EVENT.model_copy(update={"user_id": "bob", "event_id": "e2"})
    assert read(encode_packed([EVENT, other]), key=None) == [
        row,
        row._replace(user_id="bob", event_id="e2", place=1),
    ]


@pytest.mark.parametrize("model", [Event, Item, Request, Recommendation, Receipt, RecommendedItem])
def test_a_message_is_frozen_and_refuses_unknown_fields(model: type[BaseModel]) -> None:
    assert model.model_config["frozen"]
    assert model.model_config["extra"] == "forbid"
    schema = model.model_json_schema()
    assert schema["additionalProperties"] is False
    json.dumps(schema)


def test_null_fields_are_left_out_of_the_json() -> None:
    body = json.loads(encode(Event(user_id="ann", item_id="film-1", type="view")))
    assert body.keys() == {"event_id", "user_id", "item_id", "type", "event_time"}


def test_two_events_of_one_moment_have_ids_of_their_own() -> None:
    made = [Event(user_id="ann", item_id="film-1", type="view") for _ in range(100)]
    assert len({event.event_id for event in made}) == 100


@pytest.mark.parametrize(
    "given",
    [
        NOW_MS,
        "2023-11-14T22:13:20Z",
        "2023-11-14T22:13:20+00:00",
        "2023-11-15T03:43:20.000+05:30",
        "2023-11-14T22:13:20.0Z",
        "2023-11-14T22:13:20.0000004Z",
        datetime.fromtimestamp(NOW_MS / 1000, timezone.utc),
        datetime.fromtimestamp(NOW_MS / 1000, timezone(timedelta(hours=-9))),
    ],
    ids=str,
)
def test_every_form_of_an_event_time_is_the_same_moment(given: Any) -> None:
    event = Event(user_id="ann", item_id="film-1", type="view", event_time=given)
    assert event.event_time == NOW_MS
    assert event.happened_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=timezone.utc)
    if isinstance(given, (int, str)):
        body = {"event_id": "e", "user_id": "ann", "item_id": "film-1", "type": "view", "event_time": given}
        (row,) = read(json.dumps(body).encode())
        assert isinstance(row, EventRow)
        assert row.time_ms == NOW_MS


@pytest.mark.parametrize(
    "given",
    ["2023-11-14T22:13:20", "yesterday", "", -1, 1.5, True, 253_402_300_800_000, datetime(2023, 11, 14), [], {}],
    ids=str,
)
def test_a_time_that_would_have_to_be_guessed_is_refused(given: Any) -> None:
    with pytest.raises(ValidationError):
        Event(user_id="ann", item_id="film-1", type="view", event_time=given)


def test_cloudevents_headers_are_written_and_read() -> None:
    headers = cloudevent_headers(EVENT, "shop")
    assert dict(headers) == {
        "ce_specversion": b"1.0",
        "ce_id": b"e1",
        "ce_source": b"shop",
        "ce_type": b"headwater.event.rating",
        "ce_time": b"2023-11-14T22:13:20Z",
        "content-type": b"application/json",
    }
    bare = json.dumps({"user_id": "ann", "item_id": "film-1"}).encode()
    later = NOW_MS + 5
    assert read(bare, headers=headers, timestamp_ms=later) == [
        EventRow("ann", "film-1", "rating", NOW_MS, None, "e1", None, 7, 0)
    ]
    assert refused(read(bare, headers=[("ce_specversion", b"2.0"), *headers[1:]])) == ["unknown_version"]
    assert refused(read(bare, headers=[("ce_id", b"\xff")])) == ["undecodable"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "null_value"),
        (b"", "undecodable"),
        (b"\xff\xfe", "undecodable"),
        (b"null", "schema"),
        (b"7", "schema"),
        (b'"text"', "schema"),
        (b"{}", "schema"),
        (b'{"user_id": null, "item_id": "i", "type": "view"}', "schema"),
        (b'{"user_id": "ann", "item_id": "i", "type": "view", "value": "4"}', "schema"),
        (b'{"user_id": "ann", "item_id": "i", "type": "view", "value": true}', "schema"),
        (b'{"user_id": "ann", "item_id": "i", "type": "view", "value": 4}', None),
        (b'{"user_id": "ann", "item_id": "i", "type": "view", "value": NaN}', "undecodable"),
        (b'{"user_id": "ann", "item_id": "i", "type": "view", "colour": 1}', "schema"),
        (b'{"user_id": "bob", "item_id": "i", "type": "view"}', "key_mismatch"),
        (b'{"user_id": "ann", "item_id": "i", "type": "view", "event_time": 1700000060001}', "event_time_ahead"),
        (b'{"user_id": "ann", "item_id": "i", "type": "view", "event_time": 1700000000}', "event_time_unit"),
        (b'{"user_id": "ann", "item_id": "%s", "type": "view"}' % (b"i" * 257), "schema"),
        (b"[" * 100_000, "too_deep"),
        (
            b'{"user_id": "ann", "item_id": "i", "type": "view", "properties": {"t": "%s"}}' % (b"x" * 65_000),
            "too_large",
        ),
        (b" " * (MAX_VALUE_BYTES + 1), "too_large"),
    ],
    ids=lambda given: repr(given)[:60],
)
def test_each_absurd_value_has_its_reason(value: bytes | None, reason: str | None) -> None:
    assert refused(read(value)) == ([reason] if reason else [])


def test_a_recent_event_whose_time_is_in_seconds_is_refused_with_its_unit() -> None:
    event = {"user_id": "ann", "item_id": "film-1", "type": "view", "event_time": NOW_MS // 1000}
    with pytest.raises(ValidationError, match=r"recent_events\[0\]: event_time 1700000000 looks like seconds"):
        Request(user_id="ann", recent_events=[event])
    assert Request(user_id="ann", recent_events=[{**event, "event_time": NOW_MS}]).recent_events


def test_a_bad_event_of_a_packed_record_spares_its_neighbours() -> None:
    good = json.loads(encode(EVENT))
    rows = read(json.dumps([good, None, {**good, "type": "NO"}, {**good, "user_id": "bob"}]).encode(), key=None)
    assert [type(row).__name__ for row in rows] == ["EventRow", "InvalidMessage", "InvalidMessage", "EventRow"]


@pytest.mark.parametrize("decode", [decode_item, decode_request, decode_recommendation])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "null_value"),
        (b"{", "undecodable"),
        (b"[]", "schema"),
        (b"{}", "schema"),
        (b" " * 1_000_001, "too_large"),
    ],
    ids=lambda given: repr(given)[:20],
)
def test_other_messages_have_the_same_reasons(decode: Any, value: bytes | None, reason: str) -> None:
    with pytest.raises(InvalidMessage) as caught:
        decode(value)
    assert caught.value.reason == reason


@pytest.mark.parametrize("k", [0, -1, 1001, 2.0, "3", True])
def test_k_is_a_whole_number_from_1_to_1000(k: Any) -> None:
    with pytest.raises(ValidationError):
        Request(user_id="ann", k=k)


@pytest.mark.parametrize(
    "after",
    [
        {"": 1},
        {"-1": 1},
        {"a": 1},
        {"1 ": 1},
        {"1\n": 1},
        {"\u0661": 1},
        {"1" * 10: 1},
        {"1": -1},
        {"1": True},
        {"1": "4"},
    ],
    ids=repr,
)
def test_after_names_partitions_and_offsets(after: Any) -> None:
    with pytest.raises(ValidationError):
        Request(user_id="ann", after=after)
    assert Request(user_id="ann", after={"0": 0, "999999999": 2**63 - 1}).after


def test_a_dead_letter_says_why_and_where_from() -> None:
    headers = dead_letter_headers("schema", "ü" * 5000, "events", 3, 42, 7)
    told = dict(headers)
    assert told["reason"] == b"schema"
    assert len(told["error"]) <= 4000
    assert [told[f"source-{name}"] for name in ("topic", "partition", "offset", "index")] == [
        b"events", b"3", b"42", b"7",
    ]  # fmt: skip


def test_topics_are_named_only_through_the_table() -> None:
    assert topic_name("events", "replay7.") == "replay7.events"
    assert topic_name(TOPICS[0]) == TOPICS[0].name
    with pytest.raises(KeyError, match="no topic 'evnets' in the table; it has events"):
        topic_name("evnets")


def test_every_topic_has_a_complete_row_in_the_table_and_on_the_contract_page() -> None:
    page = (ROOT / "docs" / "contract" / "topics.md").read_text()
    assert len({topic.name for topic in TOPICS}) == len(TOPICS)
    for topic in TOPICS:
        assert topic.partitions >= 1
        assert topic.cleanup in {"delete", "compact"}
        assert topic.configs["cleanup.policy"] == topic.cleanup
        assert all((topic.key, topic.carries, topic.written_by, topic.read_by))
        row = next((line for line in page.splitlines() if line.startswith("|") and topic.name in line), "")
        assert str(topic.partitions) in row, f"docs/contract/topics.md has no row for {topic.name}"


def test_the_error_tree_is_complete_drawn_and_exported() -> None:
    tree = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.HeadwaterError)
    }
    assert set(errors.__all__) == tree
    assert tree <= set(headwater.__all__)
    assert errors.__doc__ is not None
    for name in tree:
        assert name in errors.__doc__, f"{name} is not in the drawing at the top of errors.py"
        assert getattr(headwater, name) is getattr(errors, name)
    assert issubclass(errors.DeadlineExceeded, TimeoutError)


def test_every_error_that_is_defined_on_purpose_belongs_to_the_tree() -> None:
    inner = {"BadRow", "Stopped"}  # a count in a report; the end of a wait: neither reaches a caller outside
    found: list[str] = []
    for package in ("headwater", "streams", "models", "trainer", "serving", "replay"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef) and any(
                    isinstance(base, ast.Name)
                    and base.id in {"Exception", "BaseException", "RuntimeError", "ValueError"}
                    for base in node.bases
                ):
                    found.append(f"{Path(path).name}:{node.name}")
    assert [one for one in found if one.split(":")[1] not in inner | {"HeadwaterError"}] == []


def test_every_exported_name_is_there() -> None:
    for name in headwater.__all__:
        assert getattr(headwater, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Cleint'"):
        _ = headwater.Cleint
