"""Spans across records: what flows into what, what is believed of headers, and nothing at all where nobody asks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from headwater import tracing
from headwater.client import Client
from headwater.kafka import read_topic
from headwater.settings import Settings
from headwater.topics import EVENTS
from headwater.wire import is_kept_header
from tests.headwater.collector import Collector, collecting
from tests.worlds.processes import ROOT

GOOD = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def told(number: int, flags: str = "01") -> list[tuple[str, bytes]]:
    return [("traceparent", f"00-{number:032x}-{number:016x}-{flags}".encode())]


def trace_of(number: int) -> str:
    return f"{number:032x}"


class Exporting(NamedTuple):
    """Starts and ends the export of this process."""

    collector: Collector
    begin: Callable[..., None]


@pytest.fixture
def exporting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Exporting]:
    pytest.importorskip("opentelemetry.sdk")
    with collecting() as collector:

        def begin(**more: str) -> None:
            for name, value in collector.environment(**more).items():
                monkeypatch.setenv(name, value)
            tracing.begin("test")

        yield Exporting(collector, begin)
        tracing.finish()


@pytest.mark.parametrize(
    "content",
    [
        None, b"", b"00", b"\xff" * 55, GOOD[:-1], GOOD + b"0", GOOD + b"-more", GOOD.upper(), b"ff" + GOOD[2:],
        GOOD.replace(b"4bf92f3577b34da6a3ce929d0e0e4736", b"0" * 32), GOOD.replace(b"00f067aa0ba902b7", b"0" * 16),
        GOOD.replace(b"-", b"_"), GOOD * 100_000, GOOD.decode(),
    ],
)  # fmt: skip
def test_what_is_no_trace_context_names_no_trace(content: Any) -> None:
    assert tracing.trace_id([("traceparent", content)]) is None


def test_the_first_trace_context_counts_and_later_versions_may_say_more() -> None:
    assert tracing.trace_id([("other", b""), ("traceparent", GOOD), *told(7)]) == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert tracing.trace_id([("traceparent", b"cc" + GOOD[2:] + b"-what-comes")]) == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert tracing.trace_id(None) is tracing.trace_id([]) is None
    assert is_kept_header("traceparent")


def test_off_it_imports_nothing_and_says_nothing() -> None:
    code = """
import sys
from headwater import tracing
tracing.begin("worker")
class Record: headers = [("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
with tracing.joined("fold", tracing.causes_of([Record()])), tracing.within(Record.headers):
    assert tracing.headers() == [] == tracing.span_of(Record.headers, "answer", 0)
    assert tracing.begun("send").headers == ()
call = lambda: 1
assert tracing.carried(call) is tracing.served("GET /", call) is call
tracing.finish()
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    for more in ({}, {"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "otlp"}):
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**clean, **more}, check=True)


def test_what_cannot_be_had_is_told_and_the_work_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("opentelemetry.sdk")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "carrier-pigeon")
    tracing.begin("test")
    assert tracing.headers() == []
    assert "carrier-pigeon" in caplog.records[0].error  # type: ignore[attr-defined]


def test_one_cause_is_the_parent_of_several_the_first_is_and_the_others_are_linked(exporting: Exporting) -> None:
    exporting.begin()
    causes = tracing.Causes()
    for number in (1, 2, 3, 2):
        causes.add(told(number))
    causes.add([("traceparent", b"garbage")])
    alone = tracing.Causes()
    alone.add(told(9))
    with tracing.joined("alone", alone):
        pass
    with tracing.joined("several", causes, of=4), tracing.joined("within"):
        inside = tracing.trace_id(tracing.headers())
    with pytest.raises(ZeroDivisionError), tracing.joined("fails", alone):
        print(1 / 0)
    with tracing.joined("of nothing", causes, of=0):
        assert tracing.headers() == []
    tracing.finish()

    spans = {name: exporting.collector.named(name) for name in ("alone", "several", "within", "fails", "of nothing")}
    (one,), (failed,) = spans["alone"], spans["fails"]
    assert (one.trace, one.parent, one.links) == (trace_of(9), f"{9:016x}", ())
    assert failed.attributes["error.type"] == "ZeroDivisionError"
    joint, *others = sorted(spans["several"], key=lambda one: one.trace)
    assert (joint.trace, joint.parent) == (trace_of(1), f"{1:016x}")
    assert joint.links == tuple((trace_of(number), f"{number:016x}") for number in (2, 3))
    assert joint.attributes == {"headwater.count": 4}
    assert [(one.trace, one.links) for one in others] == [(trace_of(n), ((joint.trace, joint.id),)) for n in (2, 3)]
    assert [(one.trace, one.parent) for one in spans["within"]] == [(joint.trace, joint.id)]
    assert inside == joint.trace
    assert not spans["of nothing"]


def test_links_are_bounded_and_what_is_left_out_is_counted(exporting: Exporting) -> None:
    exporting.begin()
    causes = tracing.Causes()
    for number in range(1, 200):
        causes.add(told(number))
    with tracing.joined("many", causes):
        pass
    tracing.finish()
    joint = next(one for one in exporting.collector.named("many") if one.links and "headwater.count" in one.attributes)
    assert len(joint.links) == tracing.MOST_LINKS
    assert joint.attributes["headwater.unlinked"] == 199 - 1 - tracing.MOST_LINKS


def test_sampling_is_that_of_the_parent_and_a_sampled_one_wins(exporting: Exporting) -> None:
    exporting.begin(OTEL_TRACES_SAMPLER="parentbased_traceidratio", OTEL_TRACES_SAMPLER_ARG="0")
    dark, light = tracing.Causes(), tracing.Causes()
    for number in range(1, 100):
        dark.add(told(number, "00"))
        light.add(told(number, "00"))
    light.add(told(100))
    with tracing.joined("dark", dark):
        ((_, header),) = tracing.headers()
    with tracing.joined("light", light):
        pass
    with tracing.joined("root"):
        pass
    tracing.finish()
    assert header.startswith(told(1)[0][1][:35])
    assert header.endswith(b"-00")
    assert [(one.name, one.trace) for one in exporting.collector.taken] == [("light", trace_of(100))]


def test_what_vendors_say_travels_along_if_it_is_as_it_should_be(exporting: Exporting) -> None:
    exporting.begin()
    kept = "34f2-1@dt=fw4;0;0, ot=th:8,congo=t61rcWkgMzE"
    for state, wanted in (
        (kept.encode(), kept.replace(" ", "").encode()),
        (b"a=1,a=2", None),
        (b"no members", None),
        (b"a=" + b"x" * 600, None),
        (b"\xff=1", None),
        (b"", None),
    ):
        with tracing.within([("traceparent", GOOD), ("tracestate", state)]):
            assert dict(tracing.headers()).get("tracestate") == wanted


@pytest.mark.any_broker
def test_every_event_leads_to_the_record_that_carries_it(exporting: Exporting, settings: Settings) -> None:
    exporting.begin()
    with Client(settings=settings) as client:
        for number in range(1, 9):
            with tracing.within(told(number)):
                client.track("ada", f"film-{number}", "click")
        with tracing.within(told(10)):
            client.track_many([{"user_id": "ada", "item_id": f"film-{n}", "type": "view"} for n in range(5)]).result(30)
    tracing.finish()
    spans = exporting.collector.named("send events")
    assert {one.trace for one in spans} == {trace_of(number) for number in (*range(1, 9), 10)}
    records = list(read_topic(settings.kafka, EVENTS))
    carried = {(tracing.trace_id(one.headers), dict(one.headers)["traceparent"].decode()[36:52]) for one in records}
    joint = {(one.trace, one.id) for one in spans if "headwater.events" in one.attributes}
    assert carried == joint
    assert len(joint) == len(records)
    assert all((one.trace, one.id) in joint or one.links[0] in joint for one in spans)
