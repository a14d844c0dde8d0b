"""Identities as apps send them and as the engine reads them: whatever comes, a row or a reason."""

from __future__ import annotations

import json
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from headwater import Client, Identity, InvalidMessage, Request
from headwater.client.outbox import LinkPosition
from headwater.events import OLDEST_MS
from headwater.settings import Settings
from headwater.topics import IDENTITIES
from headwater.wire import IdentityRow, TimeBounds, decode_request, encode, read_identity
from tests.worlds.topic_reading import everything

NOW_MS = 1_700_000_000_000


def read(value: bytes | None, key: bytes | None = b"ann") -> IdentityRow | InvalidMessage:
    times = TimeBounds(OLDEST_MS, NOW_MS, 60_000)
    return read_identity(value, key=key, partition=1, offset=7, timestamp_ms=NOW_MS, times=times)


def body(**fields: Any) -> bytes:
    return json.dumps({"user_id": "ann", "was": "guest-7", **fields}).encode()


def test_a_link_is_read_back_with_all_that_the_engine_needs() -> None:
    told = Identity(user_id="ann", was="guest-7", event_time=NOW_MS)
    assert read(encode(told)) == IdentityRow("ann", "guest-7", True, NOW_MS, 1, 7)
    assert read(body(linked=False, event_time=NOW_MS - 5)) == IdentityRow("ann", "guest-7", False, NOW_MS - 5, 1, 7)
    assert read(body()) == IdentityRow("ann", "guest-7", True, NOW_MS, 1, 7)  # without a time: the record's


@pytest.mark.parametrize(
    ("value", "key", "reason"),
    [
        (None, b"ann", "null_value"),
        (body(), None, "null_key"),
        (body(), b"bob", "key_mismatch"),
        (b"{", b"ann", "undecodable"),
        (b"[]", b"ann", "schema"),
        (body(was="ann"), b"ann", "schema"),
        (body(was=""), b"ann", "schema"),
        (body(linked="yes"), b"ann", "schema"),
        (body(item_id="film-1"), b"ann", "schema"),
        (b'{"user_id": "ann"}', b"ann", "schema"),
        (body(event_time=NOW_MS + 120_000), b"ann", "event_time_ahead"),
        (body(event_time=NOW_MS // 1000), b"ann", "event_time_unit"),
        (body(event_time=NOW_MS * 1000), b"ann", "event_time_unit"),
        (b'{"user_id": ' + b"[" * 300 + b"]" * 300 + b"}", b"ann", "too_deep"),
        (b" " * 1_000_001, b"ann", "too_large"),
    ],
)
def test_what_is_no_identity_is_refused_with_its_reason(value: bytes | None, key: bytes | None, reason: str) -> None:
    found = read(value, key)
    assert isinstance(found, InvalidMessage)
    assert (found.reason, "identities[1]@7" in str(found)) == (reason, True)


FIELDS = st.sampled_from(["user_id", "was", "linked", "event_time"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner),
    max_leaves=8,
)


@hypothesis.settings(deadline=None)
@given(st.binary(max_size=60) | ANYTHING.map(lambda one: json.dumps(one).encode()))
def test_reading_never_raises(value: bytes) -> None:
    assert isinstance(read(value), IdentityRow | InvalidMessage)


def test_the_client_tells_who_somebody_is_and_takes_it_back(settings: Settings) -> None:
    with Client(settings=settings.kafka) as client:
        position = client.identify("ann", was="guest-7", event_time=NOW_MS).result(30)
        client.forget_identity("ann", was="guest-7").result(30)
        for fields, why in (({"user_id": "ann"}, "both 'ann'"), ({"user_id": "bob", "event_time": 5}, "1970")):
            with pytest.raises(InvalidMessage, match=why):
                client.identify(was="ann", **fields)  # type: ignore[arg-type]
        assert isinstance(position, LinkPosition)
    linked, parted = everything(settings.kafka, IDENTITIES.name)
    assert (linked.partition, linked.offset, linked.key) == (*position, b"ann")
    assert json.loads(linked.value) == {"user_id": "ann", "was": "guest-7", "linked": True, "event_time": NOW_MS}
    assert json.loads(parted.value)["linked"] is False


def test_a_request_for_somebody_without_an_id_says_by_what() -> None:
    click = {"item_id": "film-1", "type": "click"}
    assert Request(session_id="s1").whose == "s1"
    assert Request(user_id="ann", session_id="s1").whose == "ann"
    assert Request(context_item="film-1").whose is None
    alone = decode_request(json.dumps({"recent_events": [click, click]}).encode())
    assert (alone.whose, [one.item_id for one in alone.recent_events]) == (None, ["film-1", "film-1"])
    assert decode_request(encode(alone)) == alone
    half = json.dumps({"recent_events": [click, {**click, "event_time": NOW_MS + 5}]}).encode()
    assert [one.event_time for one in decode_request(half, NOW_MS).recent_events] == [NOW_MS, NOW_MS + 5]
    own = Request.model_validate({"session_id": "s1", "recent_events": [click, {**click, "user_id": "s1"}]})
    assert {one.user_id for one in own.recent_events} == {"s1"}
    for nobody in ({}, {"k": 5}, {"user_id": None}, {"recent_events": []}, {"was": "guest-7"}):
        with pytest.raises(ValidationError, match="whom for"):
            Request.model_validate(nobody)
    two = [{**click, "user_id": "ann"}, {**click, "user_id": "bob"}]
    for others in ({"recent_events": two}, {"session_id": "s1", "recent_events": two}):
        with pytest.raises(ValidationError, match="say was"):
            Request.model_validate(others)
    with pytest.raises(ValidationError, match="leave it out"):
        Request(user_id="ann", was="ann")
