"""`headwater doctor` says that all is well only when it is: one wrong thing after the other, by plain clients."""

from __future__ import annotations

import doctest
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest
from kafka import KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from typer.testing import CliRunner

from console.cli import app
from console.local.addresses import Addresses
from console.look import checkup, counters, finding, flow, machine, newest, processors, weights
from console.look.cluster import TopicState, misspelt_topics, topic_states
from console.look.finding import Finding, unseen
from console.look.keeping import TO_BE, mend_removals, mend_retention, removals, retention
from console.look.redriven import mark_redriven
from embedded import free_port
from headwater.errors import AccessDenied
from headwater.events import now_ms
from headwater.examples import CatalogueEntry, Entry, EventPosition, Segment, pack_items, pack_segments
from headwater.kafka import admin_client, ensure_topics, producer
from headwater.settings import Settings
from headwater.signals import Signal
from headwater.topics import EVENTS, topic_name
from headwater.wire import dead_letter_headers
from models.published.announcement import DeltaHeaders
from streams.features.store import Batch, FeatureStore
from tests.worlds.processes import ROOT
from tests.worlds.streams import server_of
from viewing.worker_metrics import Scrape, read_metrics

HOUR_MS = 3_600_000


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker runs here that could move between two looks."""
    monkeypatch.setattr(flow, "LOOKS_APART_S", 0.0)


@pytest.fixture
def writer(settings: Settings) -> Iterator[KafkaProducer]:
    client = producer(settings.kafka, linger_ms=0)
    yield client
    client.close()


class Writes:
    """Sends records to the topics of a world, as old as asked."""

    def __init__(self, settings: Settings, client: KafkaProducer) -> None:
        self._prefix, self._client = settings.kafka.prefix, client

    def __call__(self, topic: str, value: bytes | None, *, age_s: float = 0, **more: Any) -> int:
        sent = self._client.send(
            topic_name(topic, self._prefix),
            value,
            timestamp_ms=now_ms() - int(age_s * 1000),
            **{"key": b"ann", "partition": 0, **more},
        )
        return int(sent.get(10).offset)

    def event(self, n: int, age_s: float = 0, **fields: Any) -> int:
        body = {"user_id": "ann", "item_id": f"film-{n}", "type": "view", "event_id": f"e{n}", **fields}
        return self("events", orjson.dumps(body), age_s=age_s)

    def example(self, offset: int, age_s: float = 0, partition: int = 0) -> int:
        target = Entry("film-1", "view", 1_700_000_000_000, None)
        segment = Segment("ann", [], [target], [EventPosition(offset, 0)])
        return self("examples", pack_segments(partition, [segment]), age_s=age_s, key=None)


@pytest.fixture
def write(settings: Settings, writer: KafkaProducer) -> Writes:
    return Writes(settings, writer)


def states(settings: Settings) -> dict[str, TopicState]:
    return {state.topic.name: state for state in topic_states(settings.kafka)}


def only(findings: list[Finding]) -> Finding:
    (one,) = findings
    return one


@pytest.mark.parametrize("module", [finding, machine])
def test_the_sessions_in_docstrings_are_true(module: Any) -> None:
    results = doctest.testmod(module)
    assert results.attempted
    assert not results.failed


@pytest.mark.any_broker
def test_topics_of_an_earlier_release_that_lose_removals_are_told_and_mended(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [topic_name(name, settings.kafka.prefix) for name in ("items", "users", "surfaces")]
    day = {"delete.retention.ms": "86400000"}
    old = {
        names[0]: {**day, "cleanup.policy": "compact"},
        names[1]: {"cleanup.policy": "delete", "retention.ms": "1000"},
    }
    admin = admin_client(settings.kafka)
    try:
        ensure_topics(settings.kafka)
        assert list(removals(settings.kafka, names)) == []
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs=old[name]) for name in old])
    finally:
        admin.close()
    found = {one.name: one for one in removals(settings.kafka, names)}
    assert found.keys() == {f"removals on {name}" for name in old}
    assert "drops tombstones after 24.0 h" in found[f"removals on {names[0]}"].cause
    assert "cleanup.policy delete" in found[f"removals on {names[1]}"].cause
    assert f"--entity-name {names[1]} --add-config cleanup.policy=compact" in found[f"removals on {names[1]}"].remedy
    with monkeypatch.context() as changed:
        changed.setitem(TO_BE, "retention.ms", "for ever")
        with pytest.raises(AccessDenied, match=names[0]):
            mend_removals(settings.kafka, names)
    assert len(list(removals(settings.kafka, names))) == 2
    assert mend_removals(settings.kafka, names) == names[:2]
    assert list(removals(settings.kafka, names)) == []


@pytest.mark.any_broker
def test_a_topic_that_is_kept_for_another_time_than_is_said_is_told_and_mended(settings: Settings) -> None:
    kafka = settings.kafka.model_copy(update={"retention_days": {"events": 0.5, "examples": 90}})
    names = [topic_name(name, kafka.prefix) for name in ("events", "requests", "examples", "learning", "items")]
    new = kafka.model_copy(update={"prefix": f"{kafka.prefix}new."})
    ensure_topics(new)
    assert list(retention(new, [topic_name(one, new.prefix) for one in ("events", "examples", "learning")])) == []
    assert list(retention(settings.kafka, names)) == []
    admin = admin_client(kafka)
    try:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, names[1], configs={"retention.ms": "86400000"})])
    finally:
        admin.close()
    nowhere = settings.kafka.model_copy(update={"bootstrap": "127.0.0.1:1"})
    found = {one.name: one.text for one in retention(kafka, names)}
    assert "for 30 d, and kafka.retention_days says 0.5 d" in found[f"retention of {names[0]}"]
    assert "for 1 d, and the table says 7 d" in found.pop(f"retention of {names[1]}")
    assert found.keys() == {f"retention of {name}" for name in (names[0], names[2], names[3])}
    assert mend_retention(kafka, names) == [names[0], names[2], names[3]]
    assert mend_retention(nowhere, names) == [], "where nothing is said, nobody needs a right to see it"
    assert [one.name for one in retention(kafka, names)] == [f"retention of {names[1]}"]  # of which nothing is said


# what the newest records say


def test_a_refusal_of_the_last_hour_is_wrong_and_one_of_yesterday_a_note(settings: Settings, write: Writes) -> None:
    def found() -> Finding:
        return newest.refusals(settings.kafka, states(settings)["dead-letters"])

    assert found().state == "ok"
    headers = dead_letter_headers("too_deep", "nested 33 deep", "events", 0, 7)
    write("dead-letters", b"{}", headers=headers, age_s=20 * 3600)
    old = found()
    assert (old.state, "1 older" in old.text) == ("note", True)
    write("dead-letters", b"{}", headers=headers, age_s=60)
    write("dead-letters", b"?", age_s=30)
    new = found()
    assert (new.state, new.detail["last_hour"]) == ("wrong", {"too_deep": 1, "unknown": 1})
    assert "nested 33 deep" in new.cause
    assert "dead-letters list" in new.remedy
    mark_redriven(settings.kafka, 2)
    assert (found().state, found().detail["sent_again"]) == ("note", 2)
    write("dead-letters", b"{}", headers=headers)
    assert (found().state, found().detail["last_hour"]) == ("wrong", {"too_deep": 1})


def test_events_of_another_century_are_named_with_the_likely_unit(settings: Settings, write: Writes) -> None:
    write.event(1, event_time=now_ms())
    told = ((1_764_000_000, "in seconds"), (1_764_000, "1970-01-01"), (0, "1970-01-01"))
    for count, (event_time, says) in enumerate(told, 1):
        write.event(1 + count, event_time=event_time)
        one = next(iter(newest.newest_events(settings, states(settings)["events"])))
        assert (one.state, one.detail["too_old"]) == ("wrong", count)
        assert says in one.text + one.cause
        assert "milliseconds" in one.remedy


def test_a_producer_that_gives_every_event_one_id_is_told_apart_from_a_file_sent_twice(
    settings: Settings, write: Writes
) -> None:
    def found() -> Finding:
        return only(list(newest.newest_events(settings, states(settings)["events"])))

    for _ in range(2):
        for n in range(12):
            write.event(n, event_time=now_ms())
    assert (found().name, found().state) == ("duplicates", "note")
    for _ in range(100):
        write.event(1, event_id="constant", event_time=now_ms())
    assert (found().name, found().state) == ("duplicates", "wrong")
    assert "event_id of its own" in found().remedy


@pytest.mark.parametrize("key", ["marks", "landmark"])
def test_a_store_whose_own_keys_are_damaged_is_wrong(settings: Settings, key: str) -> None:
    with server_of(settings) as server:
        server.set(f"{settings.kafka.prefix}{key}", "garbage")
        (found,) = checkup._store(settings)
        server.delete(f"{settings.kafka.prefix}{key}")
    assert (found.name, found.state) == ("store", "wrong")
    assert f"{settings.kafka.prefix}{key} " in found.text
    assert found.remedy


def test_a_store_that_was_made_with_other_slots_says_what_to_set(
    settings: Settings, write: Writes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processors, "processors", lambda _: [])  # it loads torch, and is looked at elsewhere
    write.event(0)
    other = settings.model_copy(update={"redis": settings.redis.model_copy(update={"shards": 8})})
    store = FeatureStore(other.redis, settings.kafka.prefix)
    store.claim()
    store.record(EVENTS, {0: (None, 0)}, {3: {0: 0}})
    (found,) = checkup._store(settings)
    assert (found.name, found.state) == ("store", "wrong")
    assert "HEADWATER_REDIS__SHARDS=8" in found.remedy
    lost = next(iter(checkup._store(other)))
    assert (lost.state, lost.detail["behind"]) == ("note", [3])
    assert "1 slot has lost writes (3)" in lost.text
    assert "clocks" in {one.name for one in checkup.examine(other, None)}, "such a store is not away: the rest is seen"
    store.erase()
    store.close()


def test_a_user_whose_events_come_from_two_partitions_is_told(settings: Settings, write: Writes) -> None:
    body = {"user_id": "ann", "item_id": "film-1", "type": "view"}
    for partition in (0, 2):
        write("events", orjson.dumps(body), partition=partition)
    found = {one.name: one for one in newest.newest_events(settings, states(settings)["events"])}
    assert found["partitions of users"].state == "note"
    assert "'ann' in 0, 2" in found["partitions of users"].text


def test_a_type_of_event_that_nobody_has_given_a_meaning_is_noted(settings: Settings, write: Writes) -> None:
    write.event(1, event_time=now_ms())
    write.event(2, event_time=now_ms(), type="swipe_left")
    found = {one.name: one for one in newest.newest_events(settings, states(settings)["events"])}
    assert found.keys() == {"events", "signals"}
    assert found["signals"].state == "note"
    assert "swipe_left" in found["signals"].text
    named = settings.model_copy(update={"signals": {"swipe_left": Signal(means="negative")}})
    assert only(list(newest.newest_events(named, states(settings)["events"]))).name == "events"


ELSEWHERE = Segment("ann", [], [Entry("film-1", "view", 1, None)], [EventPosition(0, 0)])


def test_records_on_examples_that_no_streams_worker_wrote_are_wrong(settings: Settings, write: Writes) -> None:
    def found() -> list[Finding]:
        there = states(settings)
        return list(newest.newest_examples(settings, there["examples"], there["events"]))

    write.event(1)
    write.example(0)
    assert found() == []
    for given in (b"not json", b"{}", None, pack_segments(9, [ELSEWHERE])):
        at = write("examples", given)
        one = only(found())
        assert (one.name, one.state) == ("examples", "wrong")
        assert f"examples[0]@{at}" in one.text


def test_an_example_of_an_event_beyond_the_end_of_its_log_is_wrong(settings: Settings, write: Writes) -> None:
    write.event(1)
    write.example(10**18)
    there = states(settings)
    one = only(list(newest.newest_examples(settings, there["examples"], there["events"])))
    assert "events[0]@1000000000000000000, which ends at 1" in one.text


def test_foreign_deltas_are_noted_and_the_newest_of_ours_is_found(settings: Settings, write: Writes) -> None:
    write("model-deltas", b"x", headers=DeltaHeaders(3, 2, 1, 1_764_000_000_000, 0).encode())
    write("model-deltas", b"x", headers=[("version", b"four")])
    published_ms, found = newest.newest_deltas(settings, states(settings)["model-deltas"])
    assert published_ms == 1_764_000_000_000
    assert (only(found).name, only(found).state) == ("model-deltas", "note")


# whether every record is read


def look(settings: Settings) -> list[Finding]:
    before = flow.stands(settings)
    return list(flow.flow(settings, topic_states(settings.kafka), before))


def test_records_that_nobody_reads_are_wrong_and_fresh_ones_are_not(settings: Settings, write: Writes) -> None:
    write.event(1)
    write("requests", b"{}")
    assert only(look(settings)).name == "reading"
    for _ in range(3):
        write("requests", b"{}", age_s=100, partition=2)
    one = only(look(settings))
    assert (one.name, one.state) == ("requests", "wrong")
    assert "3 records" in one.text
    assert "has no members" in one.cause
    assert "python -m serving.worker" in one.remedy


def test_a_store_that_is_older_than_what_the_group_has_committed_is_wrong(
    settings: Settings, write: Writes, store: FeatureStore
) -> None:
    from kafka import TopicPartition
    from kafka.structs import OffsetAndMetadata

    from console.look.cluster import open_consumer

    for n in range(5):
        write.event(n, age_s=60)
    store.apply(Batch({0: {0: (None, 1)}}))
    part = TopicPartition(topic_name("events", settings.kafka.prefix), 0)
    with open_consumer(settings.kafka, "streams") as reader:
        reader.subscribe([part.topic])
        while not reader.assignment():
            reader.poll(timeout_ms=100)
        reader.commit({part: OffsetAndMetadata(5, "", -1)})
        one = only(look(settings))
    assert (one.name, one.state) == ("events", "wrong")
    assert "3 records" in one.text
    assert "[0]@2 of 5" in one.text
    assert "restored, failed over or emptied" in one.cause


def test_a_worker_that_has_moved_between_two_looks_is_only_busy(
    settings: Settings, write: Writes, store: FeatureStore
) -> None:
    for n in range(5):
        write.event(n, age_s=60)
    store.apply(Batch({0: {0: (None, 1)}}))
    before = flow.stands(settings)
    store.apply(Batch({0: {0: (1, 2)}}))
    assert only(list(flow.flow(settings, topic_states(settings.kafka), before))).state == "ok"


def test_a_trainer_that_catches_up_shows_it_by_its_counters_or_by_what_it_publishes(
    settings: Settings, write: Writes
) -> None:
    write.event(0, age_s=600)
    write.example(0, age_s=600)
    before = flow.stands(settings)
    there = topic_states(settings.kafka)
    assert "examples" in {one.name for one in flow.flow(settings, there, before)}
    assert "examples" not in {one.name for one in flow.flow(settings, there, before, {"trainer"})}
    slow, quick = ({"trainer": read_metrics(f"headwater_examples_learned_total {n}\n")} for n in (7, 9))
    assert weights.learning(slow, quick, published_ms=0)
    assert not weights.learning(slow, slow, published_ms=now_ms())
    assert weights.learning({}, {}, published_ms=now_ms() - 2000)
    assert not weights.learning({}, {}, published_ms=now_ms() - HOUR_MS)


# whether what is learned reaches the answers


def test_weights_that_lack_an_event_of_minutes_ago_are_stale(settings: Settings, write: Writes) -> None:
    def found(published_ms: int, pinned: bool = False) -> list[Finding]:
        return list(weights.stale(settings, states(settings), published_ms, pinned))

    published_ms = now_ms() - HOUR_MS
    write.event(0, age_s=4000)
    write.example(0, age_s=3700)
    assert found(published_ms) == []
    write("examples", pack_items([CatalogueEntry("film-1", {})]), age_s=900)
    write.example(0, age_s=800)  # sent again after a crash: its event was learned before
    assert found(published_ms) == []
    write.event(1, age_s=600)
    write.example(1, age_s=600)
    one = only(found(published_ms))
    assert (one.name, one.state) == ("weights", "wrong")
    assert "1.0 h old, and events of 10 min ago are in none" in one.text
    assert only(found(0)).text.startswith("no weights are published")
    assert found(published_ms, pinned=True) == []
    assert found(now_ms()) == []


def refused(count: int, reason: str = "regression", held: int = 0) -> dict[str, Scrape]:
    counted = f'headwater_publications_refused_total{{reason="{reason}"}} {count}'
    text = f"{counted}\nheadwater_publication_held_back_seconds {held}\n"
    return {"trainer": read_metrics(text)}


@pytest.mark.parametrize(
    ("before", "now", "is_wrong"),
    [
        (refused(7), refused(8), True),
        (refused(7, "disk"), refused(7, "disk"), False),
        ({}, refused(0, held=75), True),
        (refused(3, held=75), refused(3), False),
        (refused(3), {}, False),
    ],
)
def test_publications_that_are_refused_now_are_wrong(
    before: dict[str, Scrape], now: dict[str, Scrape], is_wrong: bool
) -> None:
    found = [(one.name, one.state) for one in weights.publications(before, now)]
    assert found == ([("publications", "wrong")] if is_wrong else [])


@pytest.mark.parametrize(
    ("share", "behind_s", "told"),
    [
        (1.0, 0.2, []),
        (0.25, 0.3, [("trainer: share", "note")]),
        (1.0, 90.0, [("trainer: behind", "wrong")]),
        (0.0, 90.0, [("trainer: behind", "wrong"), ("trainer: share", "note")]),
    ],
)
def test_a_trainer_to_whom_more_comes_than_it_can_learn_is_told(
    share: float, behind_s: float, told: list[tuple[str, str]]
) -> None:
    lines = (
        f"headwater_learning_share {share}\nheadwater_learning_behind_seconds {behind_s}\n"
        "headwater_examples_rested_total 64000\nheadwater_learned_age_seconds 7\n"
    )
    found = list(weights.publications({}, {"trainer": read_metrics(lines)}))
    assert [(one.name, one.state) for one in found] == told
    if 0 < share < 1:
        assert "learns 25.0% of the blocks, 7 s ago the last; 64,000 examples were only counted" in found[0].text


def test_foreign_records_are_summed_over_their_reasons() -> None:
    lines = (f'headwater_foreign_records_total{{topic="model",reason="{why}"}} 2\n' for why in ("schema", "version"))
    one = only(list(weights.publications({}, {"trainer": read_metrics("".join(lines))})))
    assert (one.state, one.detail["foreign"]) == ("note", {"model": 4})


def counts(taken: int, dropped: int) -> dict[str, Scrape]:
    return {
        "streams": read_metrics(f"headwater_events_applied_total {taken}\nheadwater_duplicates_total {dropped}\n"),
        "trainer": read_metrics("headwater_examples_learned_total 9\nheadwater_example_duplicates_total 0\n"),
    }


@pytest.mark.parametrize(
    ("before", "now", "is_told"),
    [
        ((0, 0), (0, 25), True),  # since it started
        ((1000, 0), (1000, 3), True),  # now
        ((1000, 1000), (1000, 1000), False),  # a file that was replayed a second time
        ((1000, 3), (1001, 5), False),
        ((0, 5), (0, 5), False),
    ],
)
def test_a_worker_that_drops_everything_as_known_is_told(
    before: tuple[int, int], now: tuple[int, int], is_told: bool
) -> None:
    found = list(weights.counted_duplicates(counts(*before), counts(*now)))
    assert [one.name for one in found] == (["streams: duplicates"] if is_told else [])


def test_a_trainer_that_is_beyond_the_end_of_the_events_is_told() -> None:
    def found(offset: float, ends: dict[int, tuple[int, int]]) -> list[str]:
        lines = f'headwater_learned_offset{{partition="1"}} {offset}\nheadwater_learned_offset{{partition="0"}} 3\n'
        return [one.text for one in weights.learned_beyond(read_metrics(lines), ends)]

    assert found(7, {0: (0, 9), 1: (2, 8)}) == []
    assert found(10.0**18, {0: (0, 9), 1: (2, 8)}) == [
        "the trainer has learned events[1] up to @1000000000000000000, which ends at 8: it drops all examples of it"
    ]
    assert len(found(7, {0: (0, 3)})) == 1


def test_serving_that_stays_behind_the_trainer_is_told_and_one_under_a_rollback_is_not() -> None:
    def served(version: int, age_s: int, pinned: int = 0) -> list[str]:
        trainer = {"trainer": read_metrics(f"headwater_model_version 9\nheadwater_model_pinned {pinned}\n")}
        text = f"headwater_model_version {version}\nheadwater_weight_age_seconds {age_s}\n"
        return [one.name for one in weights.publications(trainer, {**trainer, "serving": read_metrics(text)})]

    assert served(8, 90) == ["serving: weights"]
    assert served(8, 5) == served(9, 900) == served(4, 900, pinned=1) == []


def test_what_a_worker_counts_only_when_something_is_odd_is_noted() -> None:
    well = read_metrics("headwater_events_applied_total 9\nheadwater_damaged_keys_total 0\n")
    odd = read_metrics(
        'headwater_records_gone_total{topic="events"} 4\nheadwater_records_gone_total{topic="items"} 1\n'
    )
    assert list(counters.counted({"streams": well})) == []
    one = only(list(counters.counted({"streams": odd, "serving": well})))
    assert (one.name, one.state) == ("streams: records gone", "note")
    assert "5 records were deleted" in one.text


@pytest.mark.parametrize("counter", counters.COUNTERS, ids=lambda one: one.metric)
def test_the_counters_that_are_looked_at_are_those_of_the_workers(counter: Any) -> None:
    name = counter.metric.removesuffix("_total")
    texts = [path.read_text() for path in (ROOT / counter.worker).glob("*.py")]
    assert any(f'"{name}"' in text for text in texts)


# the whole


def test_a_topic_that_somebody_misspelt_is_named_and_another_world_is_none(settings: Settings) -> None:
    wrong, kafka = f"{settings.kafka.prefix}event", settings.kafka
    other = kafka.model_copy(update={"prefix": f"{kafka.prefix[:-2]}."})
    ensure_topics(other)
    admin = admin_client(kafka)
    admin.create_topics([NewTopic(wrong, 1, 1), NewTopic(f"{kafka.prefix}Items", 1, 1)])
    admin.close()
    client = producer(kafka)
    for topic in (wrong, topic_name("events", other.prefix)):
        client.send(topic, b"{}", key=b"ann").get(10)
    client.close()
    assert misspelt_topics(kafka) == {wrong: topic_name("events", kafka.prefix)}  # that of items is empty


def test_what_may_not_be_seen_is_not_taken_for_missing() -> None:
    from kafka.errors import GroupAuthorizationFailedError

    one = unseen("lag", GroupAuthorizationFailedError("group streams"))
    assert (one.state, one.cause) == ("unseen", "this Kafka user may not see it")
    told = "Redis at h:1 refuses us (WRONGPASS invalid password). Correct user and password"
    assert unseen("store", AccessDenied(told)).remedy == "Correct user and password"
    assert "Describe" in one.remedy


@pytest.mark.parametrize(
    ("states", "code", "last"),
    [
        (["ok", "ok"], 0, "All is well."),
        (["ok", "note"], 0, "Nothing is wrong; 1 to know of: one"),
        (["unseen", "note"], 2, "1 could not be seen: zero"),
        (["wrong", "unseen"], 1, "1 could not be seen: one"),
    ],
)
def test_the_exit_code_and_the_last_line_are_those_of_the_worst(
    monkeypatch: pytest.MonkeyPatch, states: list[Any], code: int, last: str
) -> None:
    names = ["zero", "one"]
    findings = [Finding(name, state, "[0]@1") for name, state in zip(names, states, strict=True)]
    monkeypatch.setattr("console.look.checkup.examine", lambda *_: findings)
    done = CliRunner().invoke(app, ["doctor"])
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (code, last)
    said = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)
    assert (said["ok"], len(said["findings"])) == (code == 0, 2)


def test_folders_of_one_disk_are_one_finding(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    found = list(machine.disks([tmp_path / "absent", tmp_path, tmp_path / "a"]))
    assert only(found).detail["folder"] == str(tmp_path)


def test_the_clock_of_the_store_is_that_of_this_machine_here(settings: Settings) -> None:
    one = machine.clocks(settings)
    assert abs(one.detail["ahead_s"]["store"]) < 60


@pytest.fixture
def remarking() -> Iterator[str]:
    """URL of a worker that is ready and has something to say."""

    class Ready(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"ready; publications held back for 70 s" if self.path == "/readyz" else b"")

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Ready) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_workers_are_asked_what_they_say_and_those_of_another_world_are_not(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, remarking: str
) -> None:
    monkeypatch.setattr(processors, "processors", lambda _: [])  # it loads torch, and is looked at elsewhere
    urls = {"streams": f"http://127.0.0.1:{free_port()}", "trainer": remarking}
    here = Addresses(1, settings.kafka.bootstrap, "", settings.kafka.prefix, "", "", "/nowhere", "", "", urls)
    asked = {one.name: one for one in checkup.examine(settings, here)}
    assert (asked["streams"].state, asked["trainer"].state) == ("wrong", "note")
    assert asked["trainer"].text == "ready; publications held back for 70 s"
    found = {one.name: one for one in checkup.examine(settings, replace(here, prefix="other."))}
    assert not found.keys() & urls.keys()
    assert "another world (prefix 'other.'" in found["up"].text
