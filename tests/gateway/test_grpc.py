"""gRPC as apps in other languages meet it: by the client of docs/api.md, in front of a real broker and real workers."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import grpc
import orjson
import pytest
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc

from embedded import free_port
from gateway.access import RateLimits
from gateway.rpc.answers import Answers, RpcAsked, Wire
from gateway.rpc.messages import fields_of, message_class, message_of, service
from gateway.rpc.methods import METHODS
from gateway.tokens import TokenAsked
from headwater.consent import Consent
from headwater.errors import InvalidMessage
from headwater.events import Event, Item
from headwater.identities import Identity
from headwater.kafka import read_topic
from headwater.process import EXIT_WRONG
from headwater.recommendations import (
    Because,
    ListRow,
    Receipt,
    Recommendation,
    RecommendedItem,
    Refusal,
    Request,
    WhyNot,
)
from headwater.settings import GatewaySettings
from headwater.topics import IDENTITIES, ITEMS, USERS
from headwater.users import User
from tests.gateway.fronts import Front, beside
from tests.gateway.test_reading import SHOP, calls_of
from tests.worlds.processes import ROOT, LiveWorker, eventually

FAR = base64.urlsafe_b64encode(b'{"e":{"0":999999},"i":{}}').decode()
"""An `after` that nothing reaches: the answer waits for its deadline."""
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def client_of_the_docs() -> Any:
    """The class of docs/api.md, and how it is used there, as two texts."""
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "api.md").read_text(), re.DOTALL)
    return block.split('headwater = Headwater("127.0.0.1:50051")\n')


def opened(door: Front, key: str | None = None) -> Any:
    """That client."""
    scope: dict[str, Any] = {}
    exec(client_of_the_docs()[0], scope)
    return scope["Headwater"](f"127.0.0.1:{door.settings.gateway.grpc_port}", key)


@pytest.fixture(scope="module")
def call(door: Front) -> Iterator[Any]:
    made = opened(door)
    yield made
    made.channel.close()


def refused(asked: Callable[[], Any]) -> tuple[str, str, dict[str, str]]:
    """Status, text and trailing metadata of a call that fails."""
    with pytest.raises(grpc.RpcError) as error:
        asked()
    told: Any = error.value
    return told.code().name, told.details(), dict(told.trailing_metadata())


def raw(client: Any, name: str, opened: str = "unary_unary") -> Any:
    """A call of bytes."""
    return getattr(client.channel, opened)(f"/headwater.v1.Headwater/{name}", None, None)


def test_the_docs_tell_a_client_that_works(call: Any, capsys: pytest.CaptureFixture[str]) -> None:
    exec(client_of_the_docs()[1], {"headwater": call})
    assert "film-0" in capsys.readouterr().out


def test_an_answer_knows_of_all_that_was_told_before(call: Any) -> None:
    event = {"user_id": "eve", "item_id": "film-1", "type": "click", "properties": {"a": [1, None, {"b": 2.5}]}}
    told = [call("SendEvents", events=[event]).after, call("Identify", user_id="eve", was="guest-e").after]
    found = call("Recommend", user_id="eve", k=3, after=told, context={"device": "app"}, explain=True)
    assert (found.user_id, found.receipt.history_events, len(found.items)) == ("eve", 1, 3)
    assert found.items[0].reasons
    assert "eve" in found.receipt.people
    assert not found.HasField("error")
    assert call("GetReceipt", request_id=found.request_id) == found.receipt
    assert call("Similar", item_id="film-2", k=2).items[0].item_id != "film-2"


def test_what_is_sent_is_what_http_sends(door: Front, call: Any) -> None:
    event = {"event_id": "g1", "user_id": "geo", "item_id": "film-1", "type": "rating", "event_time": 1_790_000_000_000,
             "value": 4.0, "properties": {"n": 3, "x": 1.5, "deep": {"on": True, "none": None}}}  # fmt: skip
    call("SendEvents", events=[event], no_wait=True)
    eventually(lambda: door.events_of("geo") == [event], 10, "it came without being waited for")
    item = {"item_id": "g-1", "available": False, "attributes": {"price": 30}, "vectors": {"image": [0.1, 0.2]}}
    sent = {**item, "vectors": {"image": {"values": item["vectors"]["image"]}}}  # type: ignore[index]
    assert call("PutItems", items=[sent, {"item_id": "g-2"}]).accepted == 2
    assert item.items() <= next(one for one in door.values(ITEMS) if one["item_id"] == "g-1").items()
    assert call("RemoveItem", item_id="g-2").accepted == 1
    assert b"g-2" in [one.key for one in read_topic(door.settings.kafka, ITEMS) if one.value is None]
    assert call("PutUsers", users=[{"user_id": "geo", "attributes": {"born": 1990, "likes": ["a"]}}]).accepted == 1
    assert {"user_id": "geo", "attributes": {"born": 1990, "likes": ["a"]}} in door.values(USERS)
    call("Identify", user_id="geo", was="guest-g", linked=False)
    assert [one["linked"] for one in door.values(IDENTITIES) if one["user_id"] == "geo"] == [False]
    assert call("ForgetUser", user_id="leaver-g").accepted == 1


def test_an_empty_list_is_another_word_than_none(call: Any) -> None:
    call("SendEvents", events=[{"user_id": "seer", "item_id": "film-0", "type": "purchase"}])
    assert call("Recommend", user_id="seer", candidates={}).items == []
    assert {one.item_id for one in call("Recommend", user_id="seer", exclude_seen={}).items} > {"film-0"}


def test_a_stream_in_is_taken_up_to_the_message_that_is_refused(door: Front, call: Any) -> None:
    method = call.service.methods_by_name["StreamEvents"]
    event, accepted = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    send = call.channel.stream_unary(
        "/headwater.v1.Headwater/StreamEvents", event.SerializeToString, accepted.FromString
    )

    def stream(count: int, *last: Any) -> Iterator[Any]:
        yield from (event(user_id="flow", item_id=f"film-{n % 6}", type="view") for n in range(count))
        yield from last

    assert send(stream(1203)).accepted == 1203
    code, text, more = refused(lambda: send(stream(3, event(user_id="flow"), *stream(5))))
    assert (code, more["headwater-accepted"], more["headwater-code"]) == ("INVALID_ARGUMENT", "3", "schema")
    assert text.startswith("message 4: ")
    assert len(door.events_of("flow")) == 1206
    assert send(stream(0)).accepted == 0


def test_a_stream_out_gives_a_list_and_the_next_one_when_she_goes_on(call: Any) -> None:
    lists = call("StreamRecommendations", timeout=60, request={"user_id": "looker", "k": 3}, every_ms=500)
    first = next(lists)
    call("SendEvents", events=[{"user_id": "looker", "item_id": first.items[0].item_id, "type": "purchase"}])
    assert [one.item_id for one in next(lists).items] != [one.item_id for one in first.items]
    lists.cancel()


NESTED: Any = {}
for _ in range(17):
    NESTED = {"a": [NESTED]}


@pytest.mark.parametrize(
    ("name", "fields", "status", "code"),
    [
        ("SendEvents", {"events": [{"user_id": "ann"}]}, "INVALID_ARGUMENT", "schema"),
        (
            "SendEvents",
            {"events": [{"user_id": "a", "item_id": "-", "type": "headwater.forget"}]},
            "INVALID_ARGUMENT",
            "reserved_type",
        ),
        (
            "PutItems",
            {"items": [{"item_id": "i", "attributes": {"price": float("nan")}}]},
            "INVALID_ARGUMENT",
            "schema",
        ),
        ("Recommend", {}, "INVALID_ARGUMENT", "schema"),
        ("Recommend", {"user_id": "ann", "k": 0}, "INVALID_ARGUMENT", "schema"),
        ("Recommend", {"user_id": "ann", "after": ["nonsense"]}, "INVALID_ARGUMENT", "schema"),
        ("Recommend", {"user_id": "ann", "surface": "nowhere"}, "INVALID_ARGUMENT", "unknown_surface"),
        ("Recommend", {"user_id": "ann", "filters": NESTED}, "INVALID_ARGUMENT", "too_deep"),
        ("Similar", {"k": 2}, "INVALID_ARGUMENT", "schema"),
        ("GetReceipt", {"request_id": "unheard"}, "NOT_FOUND", "unknown"),
        ("Identify", {"user_id": "x", "was": "x"}, "INVALID_ARGUMENT", "schema"),
        ("RemoveItem", {}, "INVALID_ARGUMENT", "schema"),
        ("ForgetUser", {"user_id": "x" * 5_000}, "INVALID_ARGUMENT", "schema"),
        ("SetConsent", {"user_id": "x", "consent": {"train": False}}, "FAILED_PRECONDITION", "consent_off"),
        ("CreateToken", {"user_id": "x", "ttl_s": 0}, "INVALID_ARGUMENT", "schema"),
    ],
)
def test_what_is_wrong_has_a_status_and_a_word(call: Any, name: str, fields: Any, status: str, code: str) -> None:
    found, text, more = refused(lambda: call(name, **fields))
    assert (found, more["headwater-code"]) == (status, code), text


def test_what_is_no_message_is_refused_and_what_is_large_is_not_read(call: Any) -> None:
    assert refused(lambda: raw(call, "Recommend")(b"\xff\xff"))[2]["headwater-code"] == "undecodable"
    assert refused(lambda: raw(call, "Recommend", "stream_unary")(iter(())))[0] == "INVALID_ARGUMENT"
    assert refused(lambda: raw(call, "Recommend")(b"\0" * 5_000_001))[0] == "RESOURCE_EXHAUSTED"
    packed = refused(lambda: raw(call, "Recommend")(b"\0" * 50_000_000, compression=grpc.Compression.Gzip))
    assert packed[0] == "RESOURCE_EXHAUSTED"
    assert refused(lambda: raw(call, "Nothing")(b""))[0] == "UNIMPLEMENTED"
    assert call("Recommend", user_id="ann", k=1).items


def test_a_browsers_token_speaks_for_its_own_user_alone(door: Front, call: Any) -> None:
    own = opened(door, call("CreateToken", user_id="tess", ttl_s=60, was=["guest-t1"]).token)
    assert own("SendEvents", events=[{"item_id": "film-3", "type": "click"}]).accepted == 1
    assert door.events_of("tess")[-1]["item_id"] == "film-3"
    assert own("Recommend").user_id == "tess"
    assert own("Identify", user_id="tess", was="guest-t1").accepted == 1
    for name, fields in (
        ("SendEvents", {"events": [{"user_id": "bob", "item_id": "i", "type": "click"}]}),
        ("Recommend", {"user_id": "bob"}),
        ("Recommend", {"request_id": "of-bob"}),
        ("Identify", {"user_id": "tess", "was": "bob"}),
        ("PutItems", {"items": [{"item_id": "i"}]}),
        ("ForgetUser", {"user_id": "tess"}),
    ):
        assert refused(lambda name=name, fields=fields: own(name, **fields))[0] == "PERMISSION_DENIED", name
    own.channel.close()
    nobody = opened(door, "hw_nobody_secret")
    assert refused(lambda: nobody("Recommend", user_id="ann"))[0] == "UNAUTHENTICATED"
    nobody.channel.close()
    page = (("origin", "https://evil.example"),)
    assert refused(lambda: raw(call, "ForgetUser")(b"\x0a\x01x", metadata=page))[2]["headwater-code"] == "origin"


def test_a_stream_out_ends_when_its_token_does(door: Front, call: Any) -> None:
    own = opened(door, call("CreateToken", user_id="tina", ttl_s=1).token)
    code, text, _ = refused(lambda: list(own("StreamRecommendations", timeout=60, every_ms=500)))
    assert (code, "its time is over" in text) == ("UNAUTHENTICATED", True)
    own.channel.close()


def test_the_callers_deadline_is_the_answers_and_who_leaves_frees_the_place(door: Front, call: Any) -> None:
    waiting = lambda: door.gateway.metric("headwater_gateway_waiting")  # noqa: E731
    ask = message_of(call.service.methods_by_name["Recommend"].input_type, {"user_id": "ann", "after": [FAR]})
    value = ask.SerializeToString()
    assert refused(lambda: raw(call, "Recommend")(value, timeout=0.3))[0] == "DEADLINE_EXCEEDED"
    eventually(lambda: waiting() == 0, 10, "its time is over")
    calls = [raw(call, "Recommend").future(value, timeout=60) for _ in range(5)]
    eventually(lambda: waiting() == 5, 10, "they wait")
    for one in calls:
        one.cancel()
    eventually(lambda: waiting() == 0, 10, "nobody waits for them")
    assert 'operation="grpc Recommend",status="499"' in door.gateway.get("/metrics")[1]


def test_who_sends_no_message_holds_nobody_else_up(door: Front, call: Any) -> None:
    end = threading.Event()

    def nothing() -> Iterator[bytes]:
        end.wait()
        yield from ()

    token = call("CreateToken", user_id="sly").token
    silent = opened(door, token)
    calls = [raw(silent, "Recommend", "stream_unary").future(nothing(), metadata=silent.metadata) for _ in range(60)]
    assert call("Recommend", user_id="ann", k=1).items
    end.set()
    for one in calls:
        one.cancel()
    silent.channel.close()


def test_the_end_of_the_gateway_ends_calls_in_order(door: Front, tmp_path: Path) -> None:
    traced = {"OTEL_TRACES_EXPORTER": "console"}
    with beside(door, tmp_path, traced, grpc_port=free_port(), max_waiting=2) as made:
        client, process = opened(made), made.gateway.process
        client.metadata = [("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01")]
        health = health_pb2_grpc.HealthStub(client.channel)
        serving, ended = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", "headwater.v1.Headwater"):
            assert health.Check(health_pb2.HealthCheckRequest(service=name)).status == serving
        assert refused(lambda: health.Check(health_pb2.HealthCheckRequest(service="x")))[0] == "NOT_FOUND"
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == serving
        lists = client("StreamRecommendations", timeout=60, request={"user_id": "stayer"})
        assert next(lists).items
        after = [FAR]
        value = message_class(service().methods_by_name["Recommend"].input_type)(user_id="ann", after=after)
        slow = [raw(client, "Recommend").future(value.SerializeToString(), timeout=3) for _ in range(2)]
        eventually(lambda: made.gateway.metric("headwater_gateway_waiting") == 2, 10, "they are under way")
        code, _, more = refused(lambda: client("Recommend", user_id="ann"))
        assert (code, more["headwater-code"]) == ("UNAVAILABLE", "full")
        assert (more["retry-after"], more["grpc-retry-pushback-ms"]) == ("1", "1000")
        assert process is not None
        os.kill(process.pid, signal.SIGTERM)
        assert next(watch).status == ended
        code, _, more = refused(lambda: next(lists))
        assert (code, more["headwater-code"]) == ("UNAVAILABLE", "stopping")
        for one in slow:
            error = one.exception()  # none: serving answers shortly before the deadline that it waits for
            assert error is None or error.code().name == "DEADLINE_EXCEEDED"
        assert process.wait(20) == 0
        assert TRACE in made.gateway.log.read_text()  # the console has the spans of the caller's trace
        client.channel.close()


def test_a_port_is_of_one_gateway(door: Front, tmp_path: Path) -> None:
    gateway = GatewaySettings(port=0, grpc_port=door.settings.gateway.grpc_port)
    second = LiveWorker("gateway.worker", door.settings.model_copy(update={"gateway": gateway}), tmp_path / "log")
    second.start(wait=False)
    assert second.process is not None
    assert second.process.wait(60) == EXIT_WRONG
    assert "HEADWATER_GATEWAY__GRPC_PORT" in second.log.read_text()


ASKED = (Event, Item, User, Identity, Consent)
ANSWERED = (Recommendation, RecommendedItem, Because, ListRow, WhyNot, Refusal, Receipt)
NAMED = {
    "CreateTokenRequest": TokenAsked,
    "RecommendRequest": Request,
    **{one.__name__: one for one in (*ASKED, *ANSWERED)},
}
NOT_THERE = {"RecommendRequest": {"deadline_ms", "after_identities"}}
"""The deadline is the call's; `after` holds those of identities."""


@pytest.mark.parametrize("name", NAMED)
def test_the_proto_file_has_the_fields_of_the_contract(name: str) -> None:
    described = service().file.message_types_by_name[name]
    assert {field.name for field in described.fields} == NAMED[name].model_fields.keys() - NOT_THERE.get(name, set())


@pytest.mark.parametrize(("name", "field"), [("SendEvents", "events"), ("PutItems", "items"), ("PutUsers", "users")])
def test_one_message_holds_so_many_and_no_more(name: str, field: str) -> None:
    method = service().methods_by_name[name]
    one = method.input_type.fields_by_name[field].message_type
    value: bytes = message_class(method.input_type)(**{field: [message_class(one)()] * 10_001}).SerializeToString()

    class Whole:
        async def next(self) -> bytes:
            return value

    asked = RpcAsked(method, cast(Wire, Whole()), SHOP, None, lambda: None, lambda _: None)
    answer = getattr(Answers(calls_of(RateLimits(None, 1))), f"{'send' if field == 'events' else 'put'}_{field}")
    with pytest.raises(InvalidMessage, match="10,001 in one call") as refused:
        asyncio.run(answer(asked))
    assert refused.value.reason == "too_large"


def test_every_method_is_in_the_table_and_in_the_proto_file() -> None:
    assert [one.name for one in METHODS] == [one.name for one in service().methods]


def test_an_answer_becomes_a_message_and_back() -> None:
    because = Because(item_id="b", type="view", share=-0.5)
    item = RecommendedItem(item_id="a", rank=1, score=0.1, propensity=0.5, contributions={"x": 0.1}, because=(because,))
    row = ListRow(title="t", first=1, count=1)
    receipt = Receipt(exclude_seen=(), people={"a": 2}, timings_ms={"total": 0.25}, policy=("exact", "cold=1"))
    answer = Recommendation(request_id="r", items=(item,), rows=(row,), receipt=receipt)
    described = service().file.message_types_by_name["Recommendation"]
    sent = message_class(described).FromString(message_of(described, answer.model_dump()).SerializeToString())
    assert Recommendation.model_validate(fields_of(sent, "it")) == answer


def test_whole_numbers_of_a_struct_stay_whole_and_what_json_has_not_is_refused() -> None:
    described = service().file.message_types_by_name["Event"]
    given = {"whole": 2**53 - 1, "half": 0.5, "large": 1e300, "list": [True, None, "x", {"a": -3}]}
    found = fields_of(message_class(described)(properties=given), "it")["properties"]
    assert found == given
    assert orjson.loads(orjson.dumps(found)) == given
    assert [type(found[name]) for name in ("whole", "half", "large")] == [int, float, float]
    with pytest.raises(InvalidMessage, match="it: inf is no number of JSON"):
        fields_of(message_class(described)(properties={"a": [float("inf")]}), "it")
