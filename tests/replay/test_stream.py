"""`replay stream`: past events happen again in another world, in order, at the chosen speed, counted."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaProducer

from headwater import Client, Event, SettingsError, SourceError, Unavailable
from headwater.settings import Settings
from replay import FileSource, KafkaRange, ReplayReport, Speed, stream
from replay.sources import SourceReport
from tests.worlds.topic_reading import everything, rows


class CountedEvents:
    """Events at hand as a source."""

    def __init__(self, events: list[Event]) -> None:
        self.report = SourceReport("given")
        self._events = events

    def events(self) -> Iterator[Event]:
        for event in self._events:
            self.report.events += 1
            yield event


def history(count: int, users: int = 10, step_ms: int = 1000) -> list[Event]:
    return [
        Event(
            event_id=f"e{n}", user_id=f"user-{n % users}", item_id=f"item-{n}", type="view",
            event_time=1_000_000_000_000 + n * step_ms, session_id="s1", properties={"n": n},
        )
        for n in range(count)
    ]  # fmt: skip


@pytest.fixture
def other(settings: Settings) -> str:
    """The prefix of a world to replay into."""
    return settings.kafka.prefix + "again."


def replayed(settings: Settings, prefix: str) -> list[str]:
    kafka = settings.kafka.model_copy(update={"prefix": prefix})
    return [row.event_id for row in rows(everything(kafka, "events"))]


def test_a_stream_arrives_whole_in_order_and_packed_in_a_world_of_its_own(settings: Settings, other: str) -> None:
    seen: list[ReplayReport] = []
    report = stream(CountedEvents(history(5000)), settings, prefix=other, on_progress=seen.append)
    assert (report.events, report.first_event_time, report.stopped) == (5000, 1_000_000_000_000, False)
    assert report.records < 200
    assert [progress.events for progress in seen] == sorted(progress.events for progress in seen)
    assert seen[-1].events == 5000
    kafka = settings.kafka.model_copy(update={"prefix": other})
    read = rows(everything(kafka, "events"))
    assert {row.event_id for row in read} == {f"e{n}" for n in range(5000)}
    for user in range(10):
        numbers = [int(row.event_id[1:]) for row in read if row.user_id == f"user-{user}"]
        assert numbers == list(range(user, 5000, 10))
    assert everything(settings.kafka, "events") == []


def test_a_recorded_range_is_replayed_with_every_field(settings: Settings, other: str) -> None:
    events = history(300)
    with Client(settings=settings.kafka) as client:
        client.track_many(events[:200])
        for event in events[200:]:
            client.track(**event.model_dump())
    source = KafkaRange(settings.kafka)
    report = stream(source, settings, prefix=other)
    assert (report.events, dict(report.bad)) == (300, {})
    bodies: dict[str, object] = {}
    for record in everything(settings.kafka.model_copy(update={"prefix": other}), "events"):
        decoded = json.loads(record.value)
        for body in decoded if isinstance(decoded, list) else [decoded]:
            bodies[body["event_id"]] = body
    assert bodies == {event.event_id: event.model_dump(exclude_none=True) for event in events}


def test_a_range_is_cut_by_offsets_and_by_times(settings: Settings) -> None:
    with Client(settings=settings.kafka.model_copy(update={"linger_ms": 0})) as client:
        last = [client.track("ann", f"item-{n}", "view", event_id=f"e{n}") for n in range(10)][-1].result(30)
    partition = last.partition
    offsets = dict.fromkeys(range(4), (0, 0)) | {partition: (3, 7)}
    source = KafkaRange(
        settings.kafka,
        start={number: low for number, (low, _) in offsets.items()},
        end={number: high for number, (_, high) in offsets.items()},
    )
    assert [event.event_id for event in source.events()] == ["e3", "e4", "e5", "e6"]
    times = [record.timestamp for record in everything(settings.kafka, "events")]
    assert [event.event_id for event in KafkaRange(settings.kafka, start_ms=times[-1] + 1).events()] == []
    assert len(list(KafkaRange(settings.kafka, start_ms=times[0], end_ms=times[-1] + 1).events())) == 10
    with pytest.raises(SourceError, match=r"@0\.\.99 is not all there: the log holds 0\.\.10"):
        list(KafkaRange(settings.kafka, end={partition: 99}).events())
    with pytest.raises(SourceError, match=r"no partition \[77\]"):
        list(KafkaRange(settings.kafka, end={77: 1}).events())
    with pytest.raises(Unavailable, match="no topic"):
        list(KafkaRange(settings.kafka.model_copy(update={"prefix": "nobody."})).events())


def test_events_that_the_workers_refused_for_their_age_are_refused_in_a_range(settings: Settings) -> None:
    old = {"event_id": "old", "user_id": "ann", "item_id": "a", "type": "view", "event_time": 1_700_000_000}
    with Client(settings=settings.kafka, oldest_ms=0) as client:
        client.track_many([old, {**old, "event_id": "new", "event_time": 1_700_000_000_000}]).result(30)
    source = KafkaRange(settings.kafka)
    assert [event.event_id for event in source.events()] == ["new"]
    assert source.report.bad == {"event_time_unit": 1}
    assert len(list(KafkaRange(settings.kafka, oldest_ms=0).events())) == 2


def test_bad_records_of_a_range_are_counted_by_reason(settings: Settings, other: str) -> None:
    producer = KafkaProducer(bootstrap_servers=settings.kafka.bootstrap)
    good = {"user_id": "ann", "item_id": "film-1", "type": "view"}
    for key, value in ((b"ann", b"\xff"), (b"ann", b"{}"), (b"ann", None), (b"bob", json.dumps(good).encode())):
        producer.send(settings.kafka.prefix + "events", value, key=key).get(10)
    producer.send(settings.kafka.prefix + "events", json.dumps([good, 7]).encode(), key=None).get(10)
    producer.close()
    report = stream(KafkaRange(settings.kafka), settings, prefix=other)
    assert report.events == 1
    assert report.bad == {"undecodable": 1, "schema": 2, "null_value": 1, "key_mismatch": 1}
    assert len(report.first_bad) == 5


def test_a_world_is_not_replayed_into_itself(settings: Settings) -> None:
    with pytest.raises(SettingsError, match="cannot be replayed into itself"):
        stream(KafkaRange(settings.kafka), settings)


@pytest.mark.parametrize("speed", ["200/s", "5x"])
def test_a_pace_is_kept(settings: Settings, other: str, speed: str) -> None:
    report = stream(CountedEvents(history(100, step_ms=25)), settings, prefix=other, speed=speed)
    assert report.events == 100
    assert report.seconds >= 0.45  # 99 steps of 5 ms: no faster, whatever the machine


def test_a_replay_can_be_stopped_and_limited(settings: Settings, other: str) -> None:
    stopping = threading.Event()

    def stop(report: ReplayReport) -> None:
        if report.events >= 50:
            stopping.set()

    slow = stream(
        CountedEvents(history(100_000)), settings, prefix=other, speed="1000/s", on_progress=stop, stopping=stopping
    )
    assert slow.stopped
    assert 50 <= slow.events < 100_000
    assert len(replayed(settings, other)) == slow.events
    assert stream(CountedEvents(history(500)), settings, prefix=other + "b.", limit=123).events == 123


def test_a_file_streams_with_its_bad_rows_in_the_report(settings: Settings, other: str, tmp_path: Path) -> None:
    file = tmp_path / "clicks.csv"
    rows = ("ann,a,1500000020,view", "bob,b,1500000010,view", ",c,1500000030,view", "eve,d,soon,view")
    file.write_text("\n".join(("user,item,ts,event", *rows)))
    report = stream(FileSource(file), settings, prefix=other)
    assert (report.events, report.bad, report.time_unit) == (2, {"no_user": 1, "time": 1}, "seconds")
    assert sorted(replayed(settings, other)) == sorted(event.event_id for event in FileSource(file).events())


@pytest.mark.parametrize("bad", ["fast", "-1x", "10 km/h", "x"])
def test_a_speed_that_is_none_says_how_to_write_one(bad: str) -> None:
    with pytest.raises(SettingsError, match='write "60x"'):
        Speed.of(bad)
