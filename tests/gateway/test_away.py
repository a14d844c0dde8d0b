"""A gateway whose broker is away: callers are told so by each door, and what waits is taken once it is back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from embedded import EmbeddedBroker, free_port
from tests.gateway.fronts import front
from tests.gateway.test_grpc import opened, refused
from tests.worlds.processes import eventually

ASKED = "POST", "/v1/recommendations", {"user_id": "ada", "deadline_ms": 500}


def test_while_the_broker_is_away_each_door_says_so_and_afterwards_takes_what_waited(
    redis_url: str, tmp_path: Path
) -> None:
    def event(event_id: str) -> dict[str, str]:
        return {"event_id": event_id, "user_id": "ada", "item_id": "film-1", "type": "click"}

    with (
        EmbeddedBroker(tmp_path / "broker") as broker,
        front(broker.address, redis_url, tmp_path, "serving", grpc_port=free_port()) as made,
        ThreadPoolExecutor(2) as beside,
    ):
        call = opened(made)
        assert call("SendEvents", events=[event("before")]).accepted == 1
        broker.kill()
        waiting = [
            beside.submit(lambda: made.call("POST", "/v1/events?wait=acked", event("by-http"))[0]),
            beside.submit(lambda: call("SendEvents", timeout=60, events=[event("by-grpc")]).accepted),
        ]
        status, body, _ = made.call(*ASKED)
        assert (status, body["error"]["code"]) == (504, "deadline")
        assert "Kafka does not answer" in body["error"]["message"]
        assert refused(lambda: call("Recommend", timeout=0.5, user_id="ada"))[0] == "DEADLINE_EXCEEDED"
        assert made.call("GET", "/healthz")[0] == 200
        assert not any(one.done() for one in waiting)
        broker.start()
        assert [one.result(60) for one in waiting] == [202, 1]
        assert sorted(one["event_id"] for one in made.events_of("ada")) == ["before", "by-grpc", "by-http"]
        eventually(lambda: made.call(*ASKED)[0] == 200, 60, "answers come again")
        assert call("Recommend", timeout=30, user_id="ada").user_id == "ada"
        call.channel.close()
