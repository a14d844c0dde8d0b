"""One trace from an event over HTTP to the weights that learned it, and from a request to what it was answered with:
real processes, a real broker and store, and a collector that takes OTLP."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from console.look.tracing import trace
from headwater.kafka import read_topic
from headwater.settings import GatewaySettings, Settings
from headwater.topics import EVENTS, EXAMPLES, MODEL_DELTAS, RECOMMENDATIONS
from headwater.tracing import trace_id
from tests.headwater.collector import Collector, TakenSpan, collecting
from tests.worlds.processes import LiveWorker, eventually, world_settings
from tests.worlds.streams import folded_all

EVENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
REQUEST = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
WAY = [
    ("headwater-gateway", "POST /v1/events"),
    ("headwater-gateway", "send events"),
    ("headwater-streams", "fold events"),
    ("headwater-streams", "send examples"),
    ("headwater-trainer", "learn examples"),
    ("headwater-trainer", "publish weights"),
    ("headwater-serving", "apply weights"),
]
ASKED = [
    ("headwater-gateway", "POST /v1/recommendations"),
    ("headwater-gateway", "recommend"),
    ("headwater-serving", "answer"),
    ("headwater-streams", "fold events"),  # the list that was shown
]


@dataclass
class Traced:
    """Four workers that export their spans."""

    settings: Settings
    collector: Collector
    workers: list[LiveWorker]

    def post(self, path: str, body: Any, parent: str | None = None) -> tuple[int, Any]:
        headers = {"content-type": "application/json"} | ({"traceparent": parent} if parent else {})
        address = self.workers[0].log.read_text().split('"at": "http://', 1)[1].split('"', 1)[0]
        with contextlib.closing(http.client.HTTPConnection(address, timeout=30)) as connection:
            connection.request("POST", path, json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def way(self, parent: str) -> list[TakenSpan]:
        """The spans of a trace, each the child of the one before it, from the caller's own on."""
        trace, at = parent.split("-")[1:3]
        found: list[TakenSpan] = []
        while (child := next((one for one in list(self.collector.taken) if one.parent == at), None)) is not None:
            assert child.trace == trace
            found.append(child)
            at = child.id
        return found


@pytest.fixture(scope="module")
def traced(kafka_address: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    folder = tmp_path_factory.mktemp("traced")
    with (
        collecting() as collector,
        world_settings(kafka_address, redis_url, folder) as made,
        contextlib.ExitStack() as stack,
    ):
        trainer = made.trainer.model_copy(update={"publish_every_s": 0.1})
        own = {"gateway": GatewaySettings(port=0, page=False), "trainer": trainer}
        serving = made.serving.model_copy(update={"exclude_seen": ()})  # the one film there is
        settings = made.model_copy(update={**own, "serving": serving})
        workers = [
            LiveWorker(f"{name}.worker", settings, folder / f"{name}.log", **collector.environment())
            for name in ("gateway", "streams", "trainer", "serving")
        ]
        for one in workers:
            stack.callback(one.__exit__)
            one.start(wait=False)
        for one in workers:
            eventually(one.is_ready, 60, lambda one=one: f"{one.module} ready; its log:\n{one.tail()}")
        yield Traced(settings, collector, workers)


def steps(way: list[TakenSpan]) -> list[tuple[str, str]]:
    return [(one.service, one.name) for one in way]


@pytest.mark.any_broker
def test_an_event_leads_to_weights_in_one_trace_and_an_answer_links_to_them(traced: Traced) -> None:
    assert traced.post("/v1/events", {"user_id": "olga", "item_id": "film-1", "type": "click"}, EVENT)[0] == 202
    eventually(lambda: steps(traced.way(EVENT)) == WAY, 30, lambda: f"{steps(traced.way(EVENT))} is the way")
    published = traced.way(EVENT)[-2]
    assert not published.links

    asked = {"user_id": "olga", "k": 3, "deadline_ms": 60_000}
    status, answer = traced.post("/v1/recommendations", asked, REQUEST)
    assert status == 200, answer
    version = answer["receipt"]["model_version"]
    assert version >= published.attributes["headwater.version"]
    eventually(lambda: steps(traced.way(REQUEST))[:4] == ASKED, 30, lambda: f"{steps(traced.way(REQUEST))} is the way")
    spans = traced.collector.named("publish weights")
    (made,) = {(one.trace, one.id) for one in spans if one.attributes.get("headwater.version") == version}
    assert traced.way(REQUEST)[2].links == (made,)
    assert all("olga" not in str(one) for one in traced.collector.taken)


def test_trace_prints_the_ids_that_the_collector_has(traced: Traced) -> None:
    hops = {(hop.of, hop.name): hop.trace_id for hop in trace(traced.settings, "eve", "film-1", "click", 20).hops}
    assert hops["event", "event"] is None  # this process exports nothing
    example, answer = hops["event", "example"], hops["request", "recommendation"]
    eventually(lambda: traced.collector.named("send examples", example) and traced.collector.named("answer", answer))


def test_what_is_no_trace_context_is_none(traced: Traced) -> None:
    for parent in ("00-" + "0" * 32 + "-00f067aa0ba902b7-01", "é" * 5000, "-" * 55, EVENT + "0", EVENT.upper()):
        event = {"user_id": "mal", "item_id": "film-1", "type": "click"}
        before = len(traced.collector.named("POST /v1/events"))
        assert traced.post("/v1/events", event, parent.encode().decode("latin-1"))[0] == 202
        eventually(lambda before=before: len(traced.collector.named("POST /v1/events")) > before)
        span = traced.collector.named("POST /v1/events")[-1]
        assert (span.parent, span.trace not in parent) == ("", True)


def test_a_collector_that_fails_loses_nothing(traced: Traced) -> None:
    traced.collector.status = 503
    before = traced.collector.asked
    for number in range(20):
        event = {"user_id": f"user-{number}", "item_id": "film-2", "type": "click"}
        assert traced.post("/v1/events", event)[0] == 202
        asked = {"user_id": f"user-{number}", "deadline_ms": 60_000}
        assert traced.post("/v1/recommendations", asked)[0] == 200
    eventually(lambda: traced.collector.asked > before)
    assert folded_all(traced.settings).ok
    records = [one for topic in (EVENTS, EXAMPLES, RECOMMENDATIONS) for one in read_topic(traced.settings.kafka, topic)]
    assert all(trace_id(one.headers) for one in records if one.topic.endswith((EXAMPLES.name, RECOMMENDATIONS.name)))
    assert any(trace_id(one.headers) for one in read_topic(traced.settings.kafka, MODEL_DELTAS))
    assert [one.stop() for one in traced.workers] == [0, 0, 0, 0]
