"""Attributes of users and the context of a moment: what is read, what is refused, and what of it counts."""

from __future__ import annotations

import math
from typing import Any

import orjson
import pytest

from headwater import InvalidMessage, Request
from headwater.context import named
from headwater.examples import Entry, EventPosition, Segment, pack_segments, unpack
from headwater.users import User, checked_attributes
from headwater.wire import EventRow, decode_user_record, encode

AT = "users[0]@7"
PLAIN = EventRow("ann", "film-1", "click", 1_600_000_000_000, None, "e1", None, 0, 0)


def refused(key: bytes | None, value: bytes | None) -> str:
    with pytest.raises(InvalidMessage) as caught:
        decode_user_record(key, value, AT)
    assert AT in str(caught.value)
    return caught.value.reason


def test_attributes_of_every_kind_are_read_back_and_null_is_none() -> None:
    told = {"plan": "family", "born": 1990, "paid": True, "genres": ["noir", "western"], "city": None}
    user = User(user_id="ann", attributes=told)
    wanted = {"plan": "family", "born": 1990.0, "paid": True, "genres": ("noir", "western")}
    assert user.attributes == wanted
    assert decode_user_record(b"ann", encode(user), AT) == ("ann", user)
    assert checked_attributes(orjson.loads(orjson.dumps(user.attributes))) == wanted
    assert decode_user_record(b"ann", None, AT) == ("ann", None)


@pytest.mark.parametrize(
    "attributes",
    [
        {"deep": {"inner": 1}},
        {"mixed": ["noir", 7]},
        {"": 1},
        {"n" * 65: 1},
        {"long": "x" * 257},
        {"many": ["x"] * 33},
        {f"n{n}": 1 for n in range(65)},
        ["plan"],
        "plan",
        {"huge": 10**400},
    ],
)
def test_what_are_no_attributes_is_refused_with_its_place(attributes: Any) -> None:
    try:
        value = orjson.dumps({"user_id": "ann", "attributes": attributes})
    except TypeError:
        value = f'{{"user_id": "ann", "attributes": {{"huge": {10**400}}}}}'.encode()
    assert refused(b"ann", value) in ("schema", "undecodable")


def test_a_record_of_users_needs_the_key_that_it_names() -> None:
    value = encode(User(user_id="ann"))
    assert refused(None, value) == "null_key"
    assert refused(b"bob", value) == "key_mismatch"
    assert refused(b"\xff", value) == "undecodable"
    assert refused(b"", None) == "schema"
    assert refused(b"ann", b"{") == "undecodable"
    assert refused(b"ann", b"null") == "schema"


def test_of_a_context_only_named_fields_with_plain_values_count() -> None:
    given = {"device": "app", "page": 3, "member": False, "deep": {"a": 1}, "none": None, "nan": math.nan, "x": "y"}
    fields = ("device", "page", "member", "deep", "none", "nan", "absent")
    assert named(given, fields) == {"device": "app", "page": 3.0, "member": False}
    assert named(given, ()) == named(None, fields) == {}
    assert len(str(named({"device": "a" * 5000}, ("device",))["device"])) == 256
    assert Request(user_id="ann", context={"device": "app", "page": 3, "member": False}).context["member"] is False


def test_an_example_without_them_is_written_as_it_always_was() -> None:
    entry = Entry("film-1", "click", 5, None)
    value = orjson.loads(pack_segments(0, [Segment("ann", [], [entry], [EventPosition(0, 0)])]))
    assert value["segments"] == [
        {"user": "ann", "history": [], "targets": [["film-1", "click", 5, None]], "at": [[0, 0]]}
    ]


@pytest.mark.parametrize(
    "more",
    [
        {"contexts": [[0, {"device": {"deep": 1}}]]},
        {"contexts": [[0, {"device": "x" * 300}]]},
        {"contexts": [[1, {"device": "app"}]]},
        {"contexts": [[0, "app"]]},
        {"contexts": [[0, {"device": None}]]},
        {"attributes": ["plan"]},
        {"attributes": {"plan": {"deep": 1}}},
    ],
)
def test_a_record_of_examples_with_another_context_is_refused(more: dict[str, Any]) -> None:
    entry = Entry("film-1", "click", 5, None)
    body = orjson.loads(pack_segments(0, [Segment("ann", [], [entry], [EventPosition(0, 0)])]))
    body["segments"][0] |= more
    with pytest.raises(InvalidMessage):
        list(unpack(orjson.dumps(body)))
