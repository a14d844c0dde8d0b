"""Lists over a WebSocket: the same as server-sent events, for the same keys, and another list for a message."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.gateway.fronts import Front, beside
from tests.worlds.processes import eventually


def opened(door: Front, query: str = "", **more: Any) -> ClientConnection:
    port = door.settings.gateway.port
    return connect(f"ws://127.0.0.1:{port}/v1/recommendations/stream{query}", proxy=None, **more)


def heard(socket: ClientConnection) -> tuple[str, Any]:
    told = json.loads(socket.recv(timeout=30))
    return told["event"], told["data"]


def test_a_list_comes_and_the_next_one_when_she_goes_on(door: Front) -> None:
    with opened(door, "?user_id=watcher&k=3&every_ms=500") as socket:
        kind, first = heard(socket)
        assert (kind, len(first["items"])) == ("list", 3)
        bought = {"user_id": "watcher", "item_id": first["items"][0]["item_id"], "type": "purchase"}
        assert door.call("POST", "/v1/events", bought)[0] == 202
        kind, second = heard(socket)
        assert kind == "list"
        assert [one["item_id"] for one in second["items"]] != [one["item_id"] for one in first["items"]]


def test_a_message_asks_for_another_list(door: Front) -> None:
    with opened(door) as socket:
        socket.send('{"user_id": "asker", "k": 2}')
        assert len(heard(socket)[1]["items"]) == 2
        socket.send("{no")
        assert heard(socket)[1]["code"] == "undecodable"
        socket.send("[1]")
        assert heard(socket)[1]["code"] == "schema"
        socket.send('{"user_id": "asker", "k": 1}')
        assert len(heard(socket)[1]["items"]) == 1


def test_a_browser_gives_its_token_as_a_subprotocol_and_is_told_when_it_ends(door: Front) -> None:
    token = door.call("POST", "/v1/tokens", {"user_id": "ann", "ttl_s": 2})[1]["token"]
    with opened(door, "?every_ms=500", subprotocols=["headwater", token]) as socket:
        assert socket.subprotocol == "headwater"
        socket.send('{"user_id": "bob"}')
        assert heard(socket)[1]["code"] == "user"
        socket.send("{}")
        assert heard(socket)[1]["user_id"] == "ann"
        kind, told = heard(socket)
        while kind == "list":  # others do things meanwhile
            kind, told = heard(socket)
        assert (kind, told) == ("problem", {"code": "token", "message": heard_end()})
        with pytest.raises(ConnectionClosed) as ended:
            socket.recv(timeout=30)
    assert ended.value.rcvd is not None
    assert ended.value.rcvd.code == 1008
    assert token not in door.gateway.log.read_text()


def test_a_browser_opens_so_many_sockets_and_no_more_also_where_it_asks_for_nothing(door: Front) -> None:
    token = door.call("POST", "/v1/tokens", {"user_id": "opener"})[1]["token"]

    def another() -> ClientConnection:
        return opened(door, subprotocols=["headwater", token])

    with contextlib.ExitStack() as several:
        first, *_ = [several.enter_context(another()) for _ in range(8)]
        with pytest.raises(InvalidStatus) as refused, another():
            pass
        assert refused.value.response.status_code == 429
        first.close()

        def opens() -> bool:
            with contextlib.suppress(InvalidStatus), another():
                return True
            return False

        eventually(opens, 10, "there is room again")


def heard_end() -> str:
    return "this token is not ours, or its time is over: ask your server for a new one"


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("?user_id=ann&k=0", {}, 400),
        ("?user_id=ann&kk=1", {}, 400),
        ("?user_id=ann&surface=nowhere", {}, 422),
        ("?user_id=ann&key=hwt_x.y", {}, 401),
        ("?user_id=ann", {"origin": "https://evil.example"}, 403),
    ],
)
def test_what_is_wrong_is_a_status_before_there_is_a_socket(
    door: Front, query: str, headers: dict[str, str], status: int
) -> None:
    with pytest.raises(InvalidStatus) as refused, opened(door, query, additional_headers=headers):
        pass
    assert refused.value.response.status_code == status


def test_the_end_of_the_gateway_ends_its_sockets_in_order(door: Front, tmp_path: Path) -> None:
    with beside(door, tmp_path) as made, opened(made, "?user_id=stayer") as socket:
        process = made.gateway.process
        assert process is not None
        assert heard(socket)[0] == "list"
        os.kill(process.pid, signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as ended:
            heard(socket)
        assert ended.value.rcvd is not None
        assert ended.value.rcvd.code == 1012
        assert process.wait(20) == 0
