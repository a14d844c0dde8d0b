"""`produce` and `replay stream` say what became of what they sent: bad lines, what workers refuse, where to go on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.structs import OffsetAndMetadata
from typer.testing import CliRunner, Result

from console.cli import app
from console.look.cluster import open_consumer
from console.look.refusals import RefusalWatch
from headwater import HeadwaterError, SourceError
from headwater.kafka import producer
from headwater.settings import KafkaSettings, Settings
from headwater.topics import DEAD_LETTERS, EVENTS, topic_name
from headwater.wire import dead_letter_headers
from tests.worlds.processes import environment, eventually
from tests.worlds.topic_reading import everything, limit_records, rows

GOOD = [f'{{"user_id": "ann", "item_id": "film-{n}", "type": "view", "event_id": "e{n}"}}' for n in range(4)]


@pytest.fixture(autouse=True)
def _world(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment in which the command finds the world."""
    for name, value in environment(settings).items():
        if name.startswith("HEADWATER_"):
            monkeypatch.setenv(name, value)


def produce(given: str | bytes, *words: str) -> Result:
    return CliRunner().invoke(app, ["produce", *words], input=given)


def arrived(settings: Settings) -> list[str]:
    return [row.item_id for row in rows(everything(settings.kafka, "events"))]


def refuse(kafka: KafkaSettings, offset: int, reason: str) -> None:
    """What a streams worker writes that refuses the record events[0]@offset."""
    headers = dead_letter_headers(reason, f"@{offset} is no good", topic_name(EVENTS, kafka.prefix), 0, offset)
    writer = producer(kafka)
    writer.send(topic_name(DEAD_LETTERS, kafka.prefix), b"{}", key=b"ann", headers=headers).get(10)
    writer.close()


def commit(kafka: KafkaSettings, offset: int) -> None:
    part = TopicPartition(topic_name(EVENTS, kafka.prefix), 0)
    with open_consumer(kafka, "streams") as reader:
        reader.assign([part])
        reader.commit({part: OffsetAndMetadata(offset, "", -1)})


def send(kafka: KafkaSettings, records: int) -> list[int]:
    """Records on events[0]; their offsets."""
    writer = producer(kafka)
    try:
        topic = topic_name(EVENTS, kafka.prefix)
        return [writer.send(topic, b"{}", key=b"ann", partition=0).get(10).offset for _ in range(records)]
    finally:
        writer.close()


def test_lines_as_editors_write_them_are_all_sent(settings: Settings) -> None:
    ways = {
        "a byte order mark": "\ufeff" + "\n".join(GOOD),
        "an empty last line": "\n".join(GOOD) + "\n\n",
        "lines as Windows ends them": "\r\n".join(GOOD) + "\r\n",
        "blank lines": "\n\n" + "\n \n".join(GOOD),
    }
    for way, given in ways.items():
        done = produce(given.encode())
        assert (done.exit_code, done.stdout.splitlines()[0]) == (0, "4 events sent"), way
    assert sorted(arrived(settings)) == sorted(4 * ["film-0", "film-1", "film-2", "film-3"])


def test_a_line_that_is_no_event_costs_that_line_and_is_named_by_its_number(settings: Settings) -> None:
    bad = ["{'user_id': 'ann'}", '{"user_id": "ann", "type": "view"}', "[1, 2]", "7", '{"user_id": "\xff']
    lines = [GOOD[0], bad[0], bad[1], GOOD[1], bad[2], bad[3], "", bad[4], GOOD[2]]
    done = produce("\n".join(lines).encode("latin-1"))
    assert done.exit_code == 1
    assert arrived(settings) == ["film-0", "film-1", "film-2"]
    told = done.stdout.splitlines()
    assert told[0] == "3 events sent; 5 lines refused:"
    assert [line.split(":")[0].strip() for line in told[1:6]] == ["line 2", "line 3", "line 5", "line 6", "line 8"]
    assert "item_id" in told[2]
    said = json.loads(produce("\n".join(lines).encode("latin-1"), "--json").stdout)
    assert (said["sent"], said["refused_lines"], said["lines"]) == (3, 5, 9)


def test_when_no_line_is_an_event_nothing_was_done(settings: Settings) -> None:
    done = produce("user_id,item_id\nann,film-1\n")
    assert isinstance(done.exception, SourceError)
    assert "nothing was sent: 2 lines" in str(done.exception)
    assert "headwater replay stream FILE" in str(done.exception)
    utf16 = produce(GOOD[0].encode("utf-16"))
    assert isinstance(utf16.exception, SourceError)
    assert "iconv -f UTF-16" in str(utf16.exception)
    assert arrived(settings) == []


def test_a_failure_on_the_way_says_how_many_were_sent_and_where_to_go_on(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("console.commands.produce.CHUNK_LINES", 2)
    limit_records(settings.kafka, "events", 2000)
    large = json.dumps({"user_id": "ann", "item_id": "film-9", "type": "view", "properties": {"x": "y" * 4000}})
    given = "\n".join([GOOD[0], GOOD[1], large, GOOD[2], GOOD[3]])
    done = produce(given)
    assert isinstance(done.exception, HeadwaterError)
    assert "2 events were sent, up to line 2. Go on with `--skip 2`" in str(done.exception)
    limit_records(settings.kafka, "events")
    assert produce(given, "--skip", "2").exit_code == 0
    assert [item for item in arrived(settings) if item != "film-9"][:2] == ["film-0", "film-1"]
    assert set(arrived(settings)) == {"film-0", "film-1", "film-2", "film-3", "film-9"}


def test_what_workers_refused_of_the_sent_events_is_counted_and_no_other_letter(settings: Settings) -> None:
    kafka = settings.kafka
    send(kafka, 2)
    refuse(kafka, 0, "schema")
    watch = RefusalWatch(kafka)
    sent = send(kafka, 5)
    for offset, reason in ((2, "event_time_ahead"), (1, "schema"), (4, "event_time_ahead"), (5, "too_deep")):
        refuse(kafka, offset, reason)
    commit(kafka, 7)
    found = watch.refusals({0: sent})
    assert found.by_reason == {"event_time_ahead": 2, "too_deep": 1}
    assert (found.unread, found.unknown) == (0, "")
    assert found.text.startswith("3 refused by the workers: 2 event_time_ahead, 1 too_deep")
    assert "@2 is no good" in found.text


def test_where_no_worker_reads_it_says_so_at_once_and_tells_what_is_known(settings: Settings) -> None:
    kafka = settings.kafka
    watch = RefusalWatch(kafka)
    sent = send(kafka, 3)
    refuse(kafka, 0, "schema")
    commit(kafka, 1)
    found = watch.refusals({0: sent}, silence_s=600)
    assert (dict(found.by_reason), found.unread) == ({"schema": 1}, 2)
    assert "No streams worker reads" in found.unknown


@pytest.fixture
def idle_member(settings: Settings) -> Iterator[None]:
    """A member of the workers' group that never commits anything."""
    member = KafkaConsumer(
        bootstrap_servers=settings.kafka.bootstrap,
        group_id=settings.kafka.prefix + "streams",
        enable_auto_commit=False,
    )
    member.subscribe([topic_name(EVENTS, settings.kafka.prefix)])
    eventually(lambda: member.poll(timeout_ms=100) or member.assignment(), 30, "the member has its partitions")
    yield
    member.close()


@pytest.mark.usefixtures("idle_member")
def test_a_worker_that_does_not_move_is_not_waited_for_for_ever(settings: Settings) -> None:
    left: list[int] = []
    watch = RefusalWatch(settings.kafka)
    found = watch.refusals({0: send(settings.kafka, 3)}, silence_s=0.3, waiting=left.append)
    assert (found.unread, left[0]) == (3, 3)
    assert "3 of the records are not read yet, and no worker has moved for 0.3 s" in found.unknown
    assert "headwater doctor" in found.unknown


def test_a_commit_of_a_log_that_is_no_more_does_not_count_as_read(settings: Settings) -> None:
    watch = RefusalWatch(settings.kafka)
    sent = send(settings.kafka, 3)
    commit(settings.kafka, 1000)
    assert watch.refusals({0: sent}).unread == 3


def test_a_replay_into_a_world_without_workers_says_that_nobody_has_read_it(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text(
        "\n".join(line.replace("}", f', "event_time": {1_700_000_000_000 + n}}}') for n, line in enumerate(GOOD))
    )
    done = CliRunner().invoke(app, ["replay", "stream", str(file)])
    assert (done.exit_code, done.stdout.startswith("4 events sent")) == (0, True)
    assert f"No streams worker reads {settings.kafka.prefix}events" in done.stdout
    said = json.loads(CliRunner().invoke(app, ["replay", "stream", str(file), "--json"]).stdout)
    assert (said["events"], said["refused_by_workers"], said["unread"]) == (4, {}, 1)


def test_users_are_sent_and_erased_line_by_line_and_bad_lines_are_told(settings: Settings) -> None:
    lines = [
        '{"user_id": "ann", "attributes": {"plan": "family"}}',
        '{"user_id": "ann", "attributes": null}',
        "{",
        "[1]",
    ]
    told = produce("\n".join([*lines, '{"user_id": "bob", "attributes": {"deep": {"a": 1}}}']), "--users")
    assert told.exit_code == 1
    assert "2 users sent; 3 lines refused" in told.output
    assert "line 5: user: attributes.deep" in told.output
    values = [record.value for record in everything(settings.kafka, "users")]
    assert [value and json.loads(value)["attributes"] for value in values] == [{"plan": "family"}, None]
    assert "nothing was sent" in str(produce("{", "--users").exception)
