"""Requests and their answers over a real broker: matched, many at a time, late, refused, broken."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from kafka import KafkaProducer

from headwater import Client, DeadlineExceeded, InvalidMessage, RequestRefused
from headwater.settings import Settings
from tests.worlds.answering import ScriptedAnswers, ranked
from tests.worlds.processes import ROOT
from tests.worlds.topic_reading import everything

pytestmark = pytest.mark.any_broker


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with Client(settings=settings.kafka, source="tests") as one:
        yield one


def test_a_request_is_answered_on_a_partition_of_the_clients_own(client: Client, settings: Settings) -> None:
    with ScriptedAnswers(settings.kafka) as answering:
        answer = client.recommend("ann", k=3, deadline_s=10, exclude=("film-9",))
        assert [item.item_id for item in answer.items] == ["item-1", "item-2", "item-3"]
        assert answering.seen[0]["exclude"] == ["film-9"]
        assert answering.seen[0]["deadline_ms"] == 10_000
    (request,) = everything(settings.kafka, "requests")
    headers = dict(request.headers)
    assert request.key == b"ann"
    assert headers["correlation-id"].decode() == answer.request_id
    (reply,) = everything(settings.kafka, "recommendations")
    assert reply.partition == int(headers["reply-partition"])


def test_many_threads_and_many_outstanding_requests_each_get_their_own_answer(
    client: Client, settings: Settings
) -> None:
    answers: dict[str, str] = {}

    def ask(start: int) -> None:
        outstanding = [client.recommend_async(f"user-{n}", deadline_s=30) for n in range(start, start + 50)]
        for number, future in zip(range(start, start + 50), outstanding, strict=True):
            answers[f"user-{number}"] = future.result(30).user_id

    with ScriptedAnswers(settings.kafka, times=2):  # answers are at least once: the second of each changes nothing
        threads = [threading.Thread(target=ask, args=(start,)) for start in range(0, 400, 50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == {f"user-{number}": f"user-{number}" for number in range(400)}


def test_an_asyncio_app_can_await_an_answer(client: Client, settings: Settings) -> None:
    async def ask() -> list[str]:
        asked = [asyncio.wrap_future(client.recommend_async(f"user-{n}", deadline_s=10)) for n in range(10)]
        return [answer.user_id for answer in await asyncio.gather(*asked)]

    with ScriptedAnswers(settings.kafka):
        assert asyncio.run(ask()) == [f"user-{number}" for number in range(10)]


def test_after_takes_handles_and_asks_for_their_offsets(client: Client, settings: Settings) -> None:
    with ScriptedAnswers(settings.kafka) as answering:
        first, second = client.track("ann", "film-1", "click"), client.track("bob", "film-1", "click")
        many = client.track_many([{"user_id": "ann", "item_id": "film-2", "type": "click"}])
        client.recommend("ann", deadline_s=10, after=[first, second, many])
        client.recommend("ann", deadline_s=10, after=first)
        client.recommend("ann", deadline_s=10, after={"0": 7})
        client.recommend("ann", deadline_s=10, after=first.result())
        client.recommend("ann", deadline_s=10, after=[first.result(), second])
        both = {str(first.result().partition): 1, str(second.result().partition): second.result().offset}
        assert answering.seen[0]["after"] == {**both, **{str(p): o for p, o in many.result().items()}}
        assert answering.seen[1]["after"] == {str(first.result().partition): first.result().offset}
        assert answering.seen[2]["after"] == {"0": 7}
        assert answering.seen[3]["after"] == answering.seen[1]["after"]
        assert answering.seen[4]["after"] == both
        client.recommend("ann", deadline_s=10, after=[first, client.identify("ann", was="guest-7")])
        assert (answering.seen[5]["after"], answering.seen[5]["after_identities"]) == (
            answering.seen[1]["after"],
            {"0": 0},
        )


def test_a_request_without_a_user_goes_by_its_session_or_by_itself(client: Client, settings: Settings) -> None:
    def nobodys(request: dict[str, Any]) -> dict[str, Any]:
        return {"request_id": request["request_id"], "items": []}

    with ScriptedAnswers(settings.kafka, nobodys) as answering:
        assert client.recommend(session_id="s-81", deadline_s=10).user_id is None
        alone = client.recommend(recent_events=[{"item_id": "film-1", "type": "click"}], deadline_s=10)
        assert not any("user_id" in request for request in answering.seen)
    keys = {record.key for record in everything(settings.kafka, "requests")}
    assert keys == {b"s-81", alone.request_id.encode()}


@pytest.mark.parametrize("after", [5, [5], "12", {"a": 1}, {0: -1}, {0: "x"}], ids=repr)
def test_an_after_that_means_nothing_is_refused_at_once(client: Client, after: Any) -> None:
    with pytest.raises(InvalidMessage, match="after"):
        client.recommend("ann", after=after)


def test_a_request_too_deep_or_not_json_is_refused_at_once(client: Client) -> None:
    for filters, reason in (({"a": object()}, "schema"), ({"a": deep(40)}, "too_deep"), ({"a": deep(5000)}, None)):
        with pytest.raises(InvalidMessage) as caught:
            client.recommend("ann", filters=filters)
        assert caught.value.reason == (reason or caught.value.reason)


def deep(levels: int) -> Any:
    made: Any = 1
    for _ in range(levels):
        made = [made]
    return made


def readme_program(address: str) -> str:
    """The first program of README.md, for a broker at this address."""
    readme = (ROOT / "README.md").read_text()
    program = readme.split("```python\n")[1].split("```")[0].rsplit("\nwith ", 1)[0]  # the second part never ends
    return program.replace("127.0.0.1:9092", address).replace("k=5,", "k=5, deadline_s=30,")


def test_the_first_program_of_the_readme_runs(settings: Settings) -> None:
    env = {**os.environ, "HEADWATER_KAFKA__PREFIX": settings.kafka.prefix}
    with ScriptedAnswers(settings.kafka) as answering:
        code = readme_program(settings.kafka.bootstrap)
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 item-1 1.000\n2 item-2")
    assert list(answering.seen[0]["after"].values()) == [0]


def test_no_answer_in_time_says_what_to_check(client: Client) -> None:
    with pytest.raises(DeadlineExceeded, match=r"for user 'ann' within 0\.3 s .*serving worker.*headwater doctor"):
        client.recommend("ann", deadline_s=0.3)
    with pytest.raises(DeadlineExceeded):
        client.recommend_async("ann", deadline_s=0.1).result(30)


def test_an_error_answer_is_raised_with_its_code(client: Client, settings: Settings) -> None:
    def refuse(request: dict[str, Any]) -> dict[str, Any]:
        code = "expired" if request["user_id"] == "late" else "unknown_field"
        return {**ranked(request), "items": [], "error": {"code": code, "message": "no field 'colour'"}}

    with ScriptedAnswers(settings.kafka, refuse):
        with pytest.raises(RequestRefused, match="no field 'colour'") as caught:
            client.recommend("ann", deadline_s=10, filters={"colour": "red"})
        assert caught.value.code == "unknown_field"
        with pytest.raises(DeadlineExceeded):
            client.recommend("late", deadline_s=10)


def test_an_answer_that_breaks_the_contract_is_an_error_and_the_next_one_arrives(
    client: Client, settings: Settings
) -> None:
    def answer(request: dict[str, Any]) -> dict[str, Any]:
        return {"nonsense": True} if request["user_id"] == "bad" else ranked(request)

    with ScriptedAnswers(settings.kafka, answer):
        with pytest.raises(InvalidMessage, match="Recommendation"):
            client.recommend("bad", deadline_s=10)
        assert client.recommend("good", deadline_s=10).user_id == "good"


@pytest.mark.parametrize("fields", [{"k": 0}, {"k": 100_000}, {"user_id": ""}, {"colour": "red"}], ids=str)
def test_a_bad_request_never_leaves(client: Client, settings: Settings, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage):
        client.recommend(**{"user_id": "ann", **fields})
    assert everything(settings.kafka, "requests") == []


def test_a_request_id_is_outstanding_once(client: Client) -> None:
    waiting = client.recommend_async("ann", deadline_s=1, request_id="r1")
    with pytest.raises(InvalidMessage, match="waits for an answer already"):
        client.recommend("ann", request_id="r1")
    with pytest.raises(DeadlineExceeded):
        waiting.result(30)


def test_all_recommendations_can_be_read_from_now_on_and_by_a_group(client: Client, settings: Settings) -> None:
    with ScriptedAnswers(settings.kafka):
        client.recommend("before", deadline_s=10)
        with client.recommendations() as now_on:
            for number in range(5):
                client.recommend(f"user-{number}", deadline_s=10)
            assert sorted(next(now_on).user_id for _ in range(5)) == [f"user-{number}" for number in range(5)]
    with client.recommendations(from_beginning=True, idle_s=1) as whole:
        assert len(list(whole)) == 6
    with client.recommendations("exposures", from_beginning=True) as group:
        assert len([next(group) for _ in range(6)]) == 6
    with client.recommendations("exposures", from_beginning=True, idle_s=3) as again:
        assert list(again) == []


def test_what_is_not_a_recommendation_is_passed_over_and_counted(client: Client, settings: Settings) -> None:
    producer = KafkaProducer(bootstrap_servers=settings.kafka.bootstrap)
    for value in (b"\xff", b"{}", json.dumps(ranked({"request_id": "r", "user_id": "ann", "k": 1})).encode()):
        producer.send(settings.kafka.prefix + "recommendations", value, partition=0).get(10)
    producer.close()
    with client.recommendations(from_beginning=True) as whole:
        assert next(whole).user_id == "ann"
        assert whole.skipped == {"undecodable": 1, "schema": 1}
