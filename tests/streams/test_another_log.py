"""`events` made anew beside a store that was kept: nothing is dropped in silence, and one line says what to do."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from console.look.tracing import trace
from headwater.kafka import admin_client, end_offsets, ensure_topics
from headwater.kafka.groups import group_runs
from headwater.privacy import Erased, fact_of
from headwater.privacy.audit_log import read_audit
from headwater.settings import Settings
from headwater.topics import ERASURES, EVENTS, topic_name
from headwater.wire import encode
from streams.erasing import erased_users
from tests.worlds.commands import headwater
from tests.worlds.processes import LiveWorker, eventually, ours
from tests.worlds.streams import event, folded_all, partition_of, send, send_packed, send_raw, storing

pytestmark = pytest.mark.any_broker

Start = Callable[..., LiveWorker]


def make_anew(settings: Settings) -> None:
    """Delete `events` with all its records and make it, or let a worker that still asks for it make it."""
    name = topic_name(EVENTS, settings.kafka.prefix)
    admin = admin_client(settings.kafka)
    try:
        admin.delete_topics([name])
    finally:
        admin.close()

    def is_anew() -> bool:
        ensure_topics(settings.kafka)
        return not any(end_offsets(settings.kafka, EVENTS).values())

    eventually(is_anew, what=f"{name} is empty")


def folded_then_made_anew(settings: Settings, worker: Start) -> int:
    """The partition whose mark is left over from five events of a log that is no more."""
    streams = worker("streams.worker")
    send(settings, [event(n) for n in range(5)])
    assert folded_all(settings).ok
    assert streams.stop() == 0
    make_anew(settings)
    return partition_of(settings, "ada")


def command_in(text: str, settings: Settings) -> list[str]:
    """What the text tells to type, without the program."""
    typed = shlex.split(text.split("`")[1])
    assert typed == ["headwater", "accept-gap", "--events", "--prefix", settings.kafka.prefix]
    return typed[1:]


def test_a_log_made_anew_stops_the_worker_and_is_folded_once_the_mark_is_forgotten(
    settings: Settings, worker: Start
) -> None:
    partition = folded_then_made_anew(settings, worker)
    send(settings, [event(n) for n in range(4, 7)])
    stopped = worker("streams.worker", wait=False)
    assert stopped.process is not None
    assert stopped.process.wait(60) == 2
    said = [json.loads(line) for line in stopped.tail().splitlines() if line.startswith("{")]
    (line,) = [one["message"] for one in said if one["level"] == "ERROR"]
    name = topic_name(EVENTS, settings.kafka.prefix)
    assert f"{name}[{partition}] ends at 3 and its mark is 4" in line
    with storing(settings) as store:
        eventually(lambda: not group_runs(settings.kafka, "streams"), 60, "the group has noticed the end")
        ada = [fact_of(user, Erased(event(0).event_time - 1, partition, 4)) for user in ("ada", "bob")]
        store.keep_erased(ada)  # the old log forgot them, behind all that comes into the new one
        send_raw(settings, encode(ada[1]), ERASURES, key=ada[1].digest.encode())
        done = headwater(*command_in(line, settings), **ours(settings))
        assert done.returncode == 0, done.stderr
        assert f"[{partition}]@4" in done.stdout
        placeless = Erased(event(0).event_time - 1, -1, -1)
        assert store.erased(["ada", "bob"]) == {"ada": placeless, "bob": placeless}
        assert erased_users(settings)["bob"] == placeless
        refused = headwater(*command_in(line, settings), **ours(settings))
        assert "nothing tells that it is another log" in refused.stderr
        assert len(read_audit(settings.kafka)) == 1, "what is refused is no deed"
        again = worker("streams.worker")
        eventually(lambda: store.marks() == {partition: 2})
        state = store.read_users(["ada"]).states["ada"]
        assert [entry.time_ms for entry in state.history] == [event(n).event_time for n in range(7)]
    assert again.metric("headwater_duplicates_total") == 1


def test_a_log_that_is_made_anew_while_the_worker_runs_stops_it(settings: Settings, worker: Start) -> None:
    streams = worker("streams.worker")
    for n in range(3):
        send_packed(settings, [event(n)], partition=0)
    assert folded_all(settings).ok
    make_anew(settings)
    send_packed(settings, [event(3)], partition=0)
    assert streams.process is not None
    assert streams.process.wait(90) == 2
    assert re.search(
        r"\[0\] ends at [01] and its mark is 2", streams.tail(1000)
    )  # it may look before the new event is in


def test_the_doctor_says_that_the_store_has_folded_another_log(
    settings: Settings, worker: Start, tmp_path: Path
) -> None:
    partition = folded_then_made_anew(settings, worker)
    done = headwater("doctor", "--json", "--data", str(tmp_path), **ours(settings))
    assert done.returncode == 1, done.stderr
    found = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert found["store"]["state"] == "wrong"
    assert f"[{partition}] ends at 0 and its mark is 4" in found["store"]["text"]
    command_in(found["store"]["remedy"], settings)


def test_a_trace_is_not_taken_in_by_a_mark_of_another_log(settings: Settings, worker: Start) -> None:
    folded_then_made_anew(settings, worker)
    hops = {hop.name: hop for hop in trace(settings, "ada", "film-1", "click", 1).hops}
    assert hops["event"].place is not None
    assert hops["feature"].place is None
    assert "mark is 4 and the history did not change" in hops["feature"].text
    assert "example" not in hops
