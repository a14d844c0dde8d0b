"""The gateway as apps, browsers and trackers meet it: over HTTP, in front of a real broker and real workers."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from console.cli import app
from gateway.openapi import document
from gateway.worker import GatewayWorker
from headwater.errors import SettingsError
from headwater.kafka import read_topic
from headwater.kafka.sending import send_records
from headwater.privacy import digest_of
from headwater.privacy.audit_log import check_audit, read_audit
from headwater.process import Operations
from headwater.settings import GatewaySettings
from headwater.topics import API_KEYS, AUDIT, CONSENTS, ERASURES, IDENTITIES, ITEMS, USERS
from tests.gateway.fronts import Front, beside, front
from tests.worlds.processes import environment, eventually, world_settings


def test_an_answer_knows_of_the_event_that_came_before_it(door: Front) -> None:
    for number, how in enumerate(("body", "header", "cookie", "query")):
        user = f"reader-{how}"
        status, told, headers = door.call("POST", "/v1/events", {"user_id": user, "item_id": "film-1", "type": "click"})
        assert status == 202, told
        after = told["after"]
        assert headers["headwater-after"] == after
        sent = {"header": {"headwater_after": after}, "cookie": {"cookie": f"headwater_after={after}"}}.get(how, {})
        if number % 2:
            query = f"&after={after}" if how == "query" else ""
            status, found, _ = door.call("GET", f"/v1/users/{user}/recommendations?k=3{query}", **sent)
        else:
            more = {"after": after} if how == "body" else {}
            status, found, _ = door.call("POST", "/v1/recommendations", {"user_id": user, "k": 3, **more}, **sent)
        assert status == 200, found
        assert found["receipt"]["history_events"] == 1
        jsonschema.validate(found, schema_of("Recommendation"))
    assert door.call("GET", f"/v1/receipts/{found['request_id']}")[1] == found["receipt"]


def schema_of(name: str) -> dict[str, Any]:
    components = document()["components"]
    return {"$ref": f"#/components/schemas/{name}", "components": components}


def test_lines_are_taken_up_to_the_one_that_is_refused(door: Front) -> None:
    good = b"".join(b'{"user_id":"liner","item_id":"film-%d","type":"view"}\n' % (n % 6) for n in range(1203))
    lines = {"content_type": "application/x-ndjson"}
    status, told, _ = door.call("POST", "/v1/events", good, **lines)
    assert (status, told.get("accepted")) == (202, 1203), told
    status, told, _ = door.call("POST", "/v1/events", good[: good.index(b"\n") + 1] + b"\n{no\n" + good, **lines)
    assert (status, told["error"]["accepted"]) == (400, 1)
    assert "line 3" in told["error"]["message"]
    old = b'{"user_id":"liner","item_id":"i","type":"view","event_time":1}'
    status, told, _ = door.call("POST", "/v1/events", good[: good.index(b"\n") + 1] + old, **lines)
    assert (status, told["error"]["accepted"]) == (400, 1)
    assert "line 2" in told["error"]["message"]
    listed = [*map(json.loads, good.splitlines()[:3]), json.loads(old)]
    assert door.call("POST", "/v1/events", listed)[0] == 400  # all of a list, or none
    assert len(door.events_of("liner")) == 1205


def test_a_tracker_works_by_its_host_alone(door: Front) -> None:
    body = {"userId": "tracked", "event": "Product Viewed", "properties": {"product_id": "film-2"}, "messageId": "m1"}
    assert door.call("POST", "/v1/track", json.dumps(body), content_type="text/plain")[0] == 202
    calls = [
        {**body, "type": "track", "messageId": "m2", "event": "Product Clicked"},
        {"type": "page", "userId": "tracked"},
        {"type": "identify", "userId": "tracked", "anonymousId": "guest-t", "traits": {"plan": "family"}},
    ]
    status, told, _ = door.call("POST", "/v1/batch", {"batch": calls})
    assert (status, told["accepted"], told["ignored"]) == (202, 3, 1)
    assert [(one["type"], one["event_id"]) for one in door.events_of("tracked")] == [("view", "m1"), ("click", "m2")]
    assert {"user_id": "tracked", "attributes": {"plan": "family"}} in door.values(USERS)
    assert any((one["user_id"], one["was"]) == ("tracked", "guest-t") for one in door.values(IDENTITIES))


def test_what_the_catalogue_and_the_law_want_has_a_path(door: Front) -> None:
    assert door.call("PUT", "/v1/items", {"item_id": "a/b gone"})[0] == 202
    assert door.call("DELETE", "/v1/items/a%2Fb%20gone")[0] == 202
    assert [one.value for one in read_topic(door.settings.kafka, ITEMS) if one.key == b"a/b gone"][-1] is None
    assert door.call("PUT", "/v1/users", [{"user_id": "x", "attributes": {"born": 1990}}])[1] == {"accepted": 1}
    assert door.call("POST", "/v1/identify", {"user_id": "x", "was": "y"})[1]["accepted"] == 1
    assert door.call("DELETE", "/v1/users/leaver")[0] == 202
    deed = door.values(AUDIT)[-1]
    assert (deed["action"], deed["by"], deed["target"]) == (
        "forget",
        "gateway, no key",
        {"users": [digest_of("leaver")]},
    )
    assert door.call("DELETE", "/v1/users/" + "x" * 5_000)[0] == 400
    assert check_audit(read_audit(door.settings.kafka)).problems == ()
    erased = digest_of("leaver")  # the streams worker puts the fact in the place of the id, maybe by now
    assert any(one.get("user_id") == "leaver" or one.get("digest") == erased for one in door.values(ERASURES))
    status, told, _ = door.call("PUT", "/v1/users/x/consent", {"train": False})
    assert (status, told["error"]["code"]) == (409, "consent_off")
    for path in ("/v1/items/film-0/similar?k=2&_=17", "/openapi.json?_=17"):
        assert door.call("GET", path)[0] == 200
    assert door.call("GET", "/v1/items/a%2Fb%2fc/similar?k=2")[0] == 200
    assert door.call("DELETE", "/v1/items/a%2Fb")[0] == 202
    assert b"a/b" in [one.key for one in read_topic(door.settings.kafka, ITEMS) if one.value is None]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/v1/events", b"{", 400, "undecodable"),
        ("POST", "/v1/events", {"user_id": "ann"}, 400, "schema"),
        ("POST", "/v1/events", [{"user_id": "ann", "item_id": "i", "type": "click"}, 7], 400, "schema"),
        ("POST", "/v1/events", b"[" * 100_000, 400, "too_deep"),
        ("POST", "/v1/events?wait=maybe", {}, 400, "schema"),
        ("POST", "/v1/events", {"user_id": "ann", "item_id": "-", "type": "headwater.forget"}, 400, "reserved_type"),
        ("POST", "/v1/events", [{"user_id": "ann", "item_id": "-", "type": "headwater.consent"}], 400, "reserved_type"),
        ("POST", "/v1/track", {"userId": "a", "event": "headwater.forget", "properties": {"id": 1}}, 400, None),
        ("POST", "/v1/recommendations", [1], 400, "schema"),
        ("POST", "/v1/recommendations", {"user_id": "ann", "k": 0}, 400, "schema"),
        ("POST", "/v1/recommendations", {"user_id": "ann", "deadline_ms": "soon"}, 400, "schema"),
        ("POST", "/v1/recommendations", {"user_id": "ann", "after": "nonsense"}, 400, "schema"),
        ("POST", "/v1/recommendations", {"user_id": "ann", "deadline_s": 1}, 400, "schema"),
        ("POST", "/v1/recommendations", {"user_id": "ann", "request_time": "2020-01-01T00:00:00Z"}, 400, "schema"),
        ("GET", "/v1/users/%FF/recommendations", None, 400, "undecodable"),
        ("GET", "/v1/recommendations/stream?user_id=ann&every_ms=999999999", None, 400, "schema"),
        ("POST", "/v1/recommendations", {"user_id": "ann", "surface": "nowhere"}, 422, None),
        ("GET", "/v1/users/ann/recommendations?k=many", None, 400, "schema"),
        ("GET", "/v1/receipts/unheard", None, 404, "unknown"),
        ("GET", "/v1/receipts/unheard?k=3", None, 400, "schema"),
        ("GET", "/metrics?x=1", None, 400, "schema"),
        ("GET", "/v2/nothing", None, 404, "not_found"),
        ("PATCH", "/v1/events", None, 405, "method_not_allowed"),
        ("PUT", "/v1/items", {"title": "no id"}, 400, "schema"),
        ("PUT", "/v1/users", [{"user_id": "ann", "attributes": {}}, {"user_id": ""}], 400, "schema"),
        ("GET", "/v1/items/film-0/similar?user_id=ann", None, 400, "schema"),
        ("DELETE", "/v1/users/ann/consents", None, 404, "not_found"),
        ("POST", "/v1/identify", {"user_id": "x", "was": "x"}, 400, "schema"),
        ("POST", "/v1/identify", {"user_id": "x", "was": "y", "self": 1}, 400, "schema"),
        ("POST", "/v1/batch", {"batch": 7}, 400, "schema"),
        ("POST", "/v1/tokens", {"user_id": ""}, 400, "schema"),
        ("POST", "/v1/events", b'"' + b"x" * 5_000_001 + b'"', 413, "too_large"),
    ],
)
def test_what_is_wrong_is_said_in_one_form(
    door: Front, method: str, path: str, body: Any, status: int, code: str | None
) -> None:
    found, told, _ = door.call(method, path, body)
    assert found == status, told
    assert code is None or told["error"]["code"] == code
    jsonschema.validate(told, schema_of("Error"))
    assert door.call("GET", "/readyz")[0] == 200


def test_a_stream_sends_a_list_and_the_next_one_when_she_goes_on(door: Front) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", door.settings.gateway.port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", "/v1/recommendations/stream?user_id=watcher&k=3&every_ms=500")
        lines = iter(connection.getresponse().readline, b"")
        first = _next_list(lines)
        assert first["items"]
        bought = {"user_id": "watcher", "item_id": first["items"][0]["item_id"], "type": "purchase"}
        assert door.call("POST", "/v1/events", bought)[0] == 202
        second = _next_list(lines)
        assert [one["item_id"] for one in second["items"]] != [one["item_id"] for one in first["items"]]


def _next_list(lines: Iterator[bytes]) -> Any:
    assert next(line for line in lines if line.startswith(b"event: list"))
    return json.loads(next(lines).removeprefix(b"data: "))


def test_a_browser_speaks_for_its_own_user_alone(door: Front) -> None:
    status, told, _ = door.call("POST", "/v1/tokens", {"user_id": "ann", "ttl_s": 60, "was": ["guest-a"]})
    assert status == 200
    own = {"authorization": f"Bearer {told['token']}"}
    assert door.call("POST", "/v1/events", {"item_id": "film-3", "type": "click"}, **own)[0] == 202
    assert door.events_of("ann")[-1]["item_id"] == "film-3"
    for method, path, body in (
        ("POST", "/v1/events", {"user_id": "bob", "item_id": "film-3", "type": "click"}),
        ("GET", "/v1/users/bob/recommendations", None),
        ("POST", "/v1/recommendations", {"was": "bob"}),
        ("POST", "/v1/recommendations", {"request_id": "of-bob"}),
        ("POST", "/v1/identify", {"user_id": "ann", "was": "bob"}),
        ("POST", "/v1/identify", {"userId": "ann", "anonymousId": "bob"}),
        ("POST", "/v1/identify", {"userId": "ann", "traits": {"plan": "gold"}}),
        ("POST", "/v1/identify", {"user_id": "bob", "was": "ann"}),
        ("PUT", "/v1/items", {"item_id": "i"}),
        ("DELETE", "/v1/users/ann", None),
    ):
        assert door.call(method, path, body, **own)[0] == 403, path
    assert door.call("POST", "/v1/identify", {"user_id": "ann", "was": "guest-a"}, **own)[0] == 202
    assert door.call("POST", "/v1/recommendations", {}, **own)[1]["user_id"] == "ann"
    assert door.call("GET", "/v1/users/ann/recommendations", authorization="Bearer hwt_x.y")[0] == 401
    assert (
        door.call("DELETE", "/v1/users/ann", origin="https://evil.example")[0] == 403
    )  # nobody is asked for a key here


def test_a_page_of_another_origin_may_read_how_long_it_is_to_wait(door: Front, tmp_path: Path) -> None:
    page, event = "https://shop.example", {"user_id": "shopper", "item_id": "film-1", "type": "click"}
    with beside(door, tmp_path, cors_origins=(page,), rate_per_s=0.1, burst=1) as made:
        answers = [made.call("POST", "/v1/events", event, origin=page) for _ in range(2)]
    assert [status for status, _, _ in answers] == [202, 429]
    for (_, _, headers), name in zip(answers, ("headwater-after", "retry-after"), strict=True):
        assert name in headers
        assert name in headers["access-control-expose-headers"].lower().split(", ")
        assert headers["access-control-allow-origin"] == page


def test_a_stream_ends_when_its_token_does(door: Front) -> None:
    token = door.call("POST", "/v1/tokens", {"user_id": "ann", "ttl_s": 1})[1]["token"]
    connection = http.client.HTTPConnection("127.0.0.1", door.settings.gateway.port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", f"/v1/recommendations/stream?every_ms=500&key={token}")
        told = connection.getresponse().read()
    assert told.startswith(b"event: list")
    assert b"its time is over" in told.rpartition(b"event: problem")[2]


def test_who_sends_no_request_is_no_burden(door: Front) -> None:
    at = ("127.0.0.1", door.settings.gateway.port)
    with socket.create_connection(at, 30) as endless, contextlib.suppress(ConnectionError):
        endless.sendall(b"GET / HTTP/1.1\r\nx-long: " + b"x" * 200_000)
        assert endless.recv(1) == b""
    with socket.create_connection(at, 30) as gone:
        gone.sendall(b"POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n{")
    eventually(lambda: 'operation="events",status="499"' in door.call("GET", "/metrics")[1], 10, "it is counted")
    assert "Traceback" not in door.gateway.log.read_text()


def test_keys_open_what_they_may_and_are_revoked_at_once(kafka_address: str, redis_url: str, tmp_path: Path) -> None:
    with front(kafka_address, redis_url, tmp_path, consent="opt-out", rate_per_s=0.01, burst=4) as made:
        env = {name: one for name, one in environment(made.settings).items() if name.startswith("HEADWATER_")}

        def run(*words: str) -> str:
            found = CliRunner(env=env).invoke(app, ["keys", *words])
            assert found.exit_code == 0, found.output
            return found.stdout.strip()

        event = {"user_id": "ann", "item_id": "film-1", "type": "click"}
        assert made.call("POST", "/v1/events", event)[0] == 202  # nobody is asked while there is no key
        assert made.call("PUT", "/v1/users/x/consent", {"train": False})[:2] == (202, {"accepted": 1})
        assert made.values(CONSENTS) == [{"user_id": "x", "train": False}]
        text = run("create", "shop", "--scope", "produce", "--days", "1")
        eventually(lambda: made.call("POST", "/v1/events", event)[0] == 401, 10, "a key is needed")
        own = {"x_api_key": text}
        assert [made.call("POST", "/v1/events", event, **own)[0] for _ in range(4)] == [202] * 4
        status, told, headers = made.call("POST", "/v1/events", event, **own)
        assert (status, told["error"]["code"]) == (429, "rate")
        assert int(headers["retry-after"]) > 1
        assert made.call("GET", "/v1/users/ann/recommendations", **own)[0] == 403
        assert made.call("POST", "/v1/events", event, x_api_key=text[:-1])[0] == 401
        (kept,) = run("list").splitlines()
        assert kept.split()[:2] == [text.split("_")[1], "produce"]
        other = run("rotate", kept.split()[0]).splitlines()[0]
        old, new = map(json.loads, run("list", "--json").splitlines())
        assert new["expires_time"] - new["created_time"] == pytest.approx(86_400_000, abs=2_000)
        assert new["expires_time"] > old["expires_time"]
        admin = run("create", "office", "--scope", "admin")
        eventually(lambda: made.call("DELETE", "/v1/users/leaver", x_api_key=admin)[0] == 202, 10, "a key that may")
        deed = made.values(AUDIT)[-1]
        assert (deed["action"], deed["by"]) == ("forget", f"key {admin.split('_')[1]}")
        assert not any(one in json.dumps(deed) for one in ("leaver", admin.split("_", 2)[2]))
        run("revoke", admin.split("_")[1])
        run("revoke", kept.split()[0])
        eventually(lambda: made.call("POST", "/v1/events", event, **own)[0] == 401, 10, "it is revoked")
        eventually(lambda: made.call("POST", "/v1/events", event, x_api_key=other)[0] == 202, 10, "the new one opens")
        send_records(made.settings.kafka, API_KEYS, [(other.split("_")[1].encode(), b"{")])  # as good as revoked
        eventually(lambda: made.call("POST", "/v1/events", event, x_api_key=other)[0] == 401, 10, "the last is spoilt")
        assert run("list") == ""
        assert made.call("POST", "/v1/events", event)[0] == 401  # and the door is not open to all again
        for secret in (text, other):
            assert secret.split("_", 2)[2] not in made.gateway.log.read_text()


def test_told_to_stop_it_answers_what_is_under_way(kafka_address: str, redis_url: str, tmp_path: Path) -> None:
    with front(
        kafka_address, redis_url, tmp_path
    ) as made:  # nobody answers requests here: they wait for their deadline
        connection = http.client.HTTPConnection("127.0.0.1", made.settings.gateway.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("POST", "/v1/recommendations", b'{"user_id":"ann","deadline_ms":4000}')
            eventually(lambda: made.gateway.metric("headwater_gateway_waiting") == 1.0, 10, "it is under way")
            process = made.gateway.process
            assert process is not None
            os.kill(process.pid, signal.SIGTERM)
            answer = connection.getresponse()
            assert answer.status == 504
            assert b"no answer" in answer.read()  # the Client's, or the gateway's where that is late
        assert process.wait(20) == 0


def test_told_to_stop_it_ends_lines_that_go_on_and_says_how_many_it_took(door: Front, tmp_path: Path) -> None:
    with beside(door, tmp_path, {"HEADWATER_OPERATIONS__DRAIN_S": "2"}) as made:
        process, line = made.gateway.process, b'{"user_id":"endless","item_id":"film-1","type":"view"}\n'
        assert process is not None
        connection = http.client.HTTPConnection("127.0.0.1", made.settings.gateway.port, timeout=30)
        with contextlib.closing(connection):
            connection.putrequest("POST", "/v1/events")
            connection.putheader("content-type", "application/x-ndjson")
            connection.putheader("transfer-encoding", "chunked")
            connection.endheaders(b"%x\r\n%s\r\n" % (2 * len(line), 2 * line))
            eventually(lambda: len(made.events_of("endless")) == 2, 20, "they are taken, and more may come")
            os.kill(process.pid, signal.SIGTERM)
            answer = connection.getresponse()
            assert (answer.status, answer.getheader("retry-after")) == (503, "1")
            said = json.loads(answer.read())["error"]
        assert (said["code"], said["accepted"]) == ("stopping", 2)
        assert process.wait(20) == 0
        assert "Traceback" not in made.gateway.log.read_text()


def test_whoever_can_be_reached_by_others_needs_keys(kafka_address: str, redis_url: str, tmp_path: Path) -> None:
    with world_settings(kafka_address, redis_url, tmp_path) as made:
        settings = made.model_copy(update={"gateway": GatewaySettings(port=0, host="0.0.0.0")})
        worker = GatewayWorker(settings, Operations("gateway", settings.operations))
        with contextlib.closing(worker), pytest.raises(SettingsError, match="headwater keys create"):
            worker.await_servers()
