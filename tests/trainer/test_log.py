"""The `examples` log as the trainer reads it: each example once, from the place that the checkpoint remembers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer, TopicPartition

from headwater.errors import CheckpointError
from headwater.events import now_ms
from headwater.examples import CatalogueEntry, Entry, EventPosition, Example, Segment, pack_segments, unpack
from headwater.kafka import admin_client, consumer, producer
from headwater.process import Retry
from headwater.settings import Settings
from headwater.topics import DEAD_LETTERS, EXAMPLES, topic_name
from tests.worlds.example_logs import append, append_bare, catalogue, put_events, ring_records
from tests.worlds.topic_reading import everything
from trainer.examples_log import ExamplesLog, Progress
from trainer.gap import Leave, accept_gap, gap_accepted

pytestmark = pytest.mark.any_broker

LOG = logging.getLogger("test")
RETRY = Retry(threading.Event(), lambda _: None)


@pytest.fixture
def writer(settings: Settings) -> Iterator[KafkaProducer]:
    made = producer(settings.kafka)
    yield made
    made.close(timeout=10)


def read(
    settings: Settings, writer: KafkaProducer, progress: Progress | None, limit: int, until: int
) -> tuple[Any, Any]:
    """Entries up to log offset `until`, taken `limit` at a time; and the progress after them."""
    log = ExamplesLog(settings.kafka, progress, writer, RETRY, LOG)
    try:
        taken: list[Any] = []
        while log.progress.offset < until:
            taken += log.take(limit, 1000)
        log.settle()
        return taken, log.progress
    finally:
        log.close()


def expected(values: list[bytes]) -> list[Any]:
    return [entry for value in values for entry in unpack(value)]


def test_entries_come_in_log_order_whatever_the_chunks(settings: Settings, writer: KafkaProducer) -> None:
    values = [catalogue(), *ring_records(300)]
    end = append(settings, values)
    for limit in (1, 7, 1000):
        taken, progress = read(settings, writer, None, limit, end)
        assert taken == expected(values)
        assert (progress.offset, progress.taken, progress.duplicates) == (end, 0, 0)


def test_reading_goes_on_inside_a_packed_record(settings: Settings, writer: KafkaProducer) -> None:
    values = ring_records(100)
    end = append(settings, values)
    log = ExamplesLog(settings.kafka, None, writer, RETRY, LOG)
    before = log.take(40, 5000)
    remembered = Progress.from_json(log.progress.to_json())
    log.close()
    assert (remembered.offset, remembered.taken) == (1, 15)
    after, progress = read(settings, writer, remembered, 1000, end)
    assert before + after == expected(values)
    assert progress.duplicates == 0


def test_an_example_sent_twice_is_learned_once(settings: Settings, writer: KafkaProducer) -> None:
    values = ring_records(100)
    end = append(settings, [*values, values[-1], values[0], *ring_records(20, first_offset=1000)])
    taken, progress = read(settings, writer, None, 64, end)
    assert [entry for entry in taken if entry.position.offset < 1000] == expected(values)
    assert len(taken) == 120
    assert progress.duplicates == 50


def test_marks_compare_the_place_within_a_packed_record_too(settings: Settings, writer: KafkaProducer) -> None:
    targets = [Entry(f"i{i}", "view", 1000 + i, None) for i in range(4)]
    places = [EventPosition(7, i) for i in range(4)]
    first = pack_segments(3, [Segment("u", [], targets[:2], places[:2])])
    again = pack_segments(3, [Segment("u", [], targets, places)])
    end = append(settings, [first, again])
    taken, progress = read(settings, writer, None, 64, end)
    assert [entry.position for entry in taken if isinstance(entry, Example)] == places
    assert progress.duplicates == 2
    assert progress.marks == {3: EventPosition(7, 3)}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"\xff\xfe not json", "undecodable"),
        (b"[1, 2]", "unknown_version"),
        (b'{"format": 9}', "unknown_version"),
        (b'{"format": 1, "partition": 0}', "schema"),
        (
            b'{"format": 1, "partition": 0, "segments": [{"user": "u", "history": 5, "targets": [], "at": []}]}',
            "schema",
        ),
        (
            b'{"format":1,"partition":0,"segments":[{"user":"u","history":[[1,2,3,4]],"targets":[["i","v",1,null]],"at":[[0,0]]}]}',
            "schema",
        ),
        (b'{"format": 1, "items": [["a", 3]]}', "schema"),
        (None, "null_value"),
    ],
)
def test_a_record_that_cannot_be_read_is_a_counted_dead_letter(
    settings: Settings, writer: KafkaProducer, value: bytes | None, reason: str
) -> None:
    good = ring_records(50)
    end = append(settings, [good[0], value, good[1]])
    taken, progress = read(settings, writer, None, 64, end)
    assert taken == expected(good)
    assert progress.dead_letters == {reason: 1}
    letters = consumer(settings.kafka)
    partition = TopicPartition(topic_name(DEAD_LETTERS, settings.kafka.prefix), 0)
    letters.assign([partition])
    (letter,) = letters.poll(timeout_ms=5000)[partition]
    letters.close()
    headers = dict(letter.headers)
    assert letter.value == value
    assert (headers["reason"], headers["source-offset"]) == (reason.encode(), b"1")
    assert b".." not in headers["error"]
    assert topic_name(EXAMPLES, settings.kafka.prefix).encode() == headers["source-topic"]


def test_junk_of_the_largest_size_is_a_cut_dead_letter(settings: Settings, writer: KafkaProducer) -> None:
    good = ring_records(50)
    end = append(settings, [good[0], b"x" * 1_040_000, good[1]])
    taken, progress = read(settings, writer, None, 64, end)
    assert taken == expected(good)
    assert progress.dead_letters == {"undecodable": 1}
    (letter,) = everything(settings.kafka, "dead-letters")
    assert letter.value == b"x" * 900_000
    assert dict(letter.headers)["truncated"] == b"1040000"


def test_a_dead_letter_keeps_what_a_redrive_needs(settings: Settings, writer: KafkaProducer) -> None:
    headers = [("redriven-from", b"t.examples/0/1/0"), ("ce_id", b"one"), ("reason", b"of somebody else")]
    at_ms = now_ms() - 60_000  # not so old that retention takes it
    writer.send(f"{settings.kafka.prefix}examples", b"junk", b"key", headers, timestamp_ms=at_ms).get(10)
    _, progress = read(settings, writer, None, 64, 1)
    assert progress.dead_letters == {"undecodable": 1}
    (letter,) = everything(settings.kafka, "dead-letters")
    kept = dict(letter.headers)
    assert (letter.key, letter.value, kept["reason"]) == (b"key", b"junk", b"undecodable")
    assert (kept["redriven-from"], kept["ce_id"]) == (b"t.examples/0/1/0", b"one")
    assert kept["source-timestamp"] == b"%d" % at_ms


def test_a_log_that_no_longer_holds_the_checkpoints_place_is_a_clear_error(
    settings: Settings, writer: KafkaProducer
) -> None:
    append(settings, ring_records(100))
    partition = TopicPartition(topic_name(EXAMPLES, settings.kafka.prefix), 0)
    admin = admin_client(settings.kafka)
    admin.delete_records({partition: 3})
    admin.close()
    with pytest.raises(CheckpointError, match=r"goes on at .*examples\[0\]@1, and the log holds 3\.\.4: retention"):
        ExamplesLog(settings.kafka, Progress(offset=1), writer, RETRY, LOG)
    with pytest.raises(CheckpointError, match=r"another, shorter log"):
        ExamplesLog(settings.kafka, Progress(offset=50), writer, RETRY, LOG)
    taken, _ = read(settings, writer, None, 64, 4)
    assert len(taken) == 25


@pytest.mark.parametrize(("at", "marks"), [(1, {0: EventPosition(9, 0)}), (50, {})])
def test_with_leave_a_trainer_goes_on_behind_a_gap_and_keeps_what_it_was(
    at: int, marks: dict[int, EventPosition], settings: Settings, writer: KafkaProducer
) -> None:
    append(settings, ring_records(100))
    partition = TopicPartition(topic_name(EXAMPLES, settings.kafka.prefix), 0)
    with closing(admin_client(settings.kafka)) as admin:
        admin.delete_records({partition: 3})
    before = Progress(offset=at, taken=2, marks={0: EventPosition(9, 0)})
    assert "gaps" not in before.to_json(), "an older release reads it"
    log = ExamplesLog(settings.kafka, before, writer, RETRY, LOG, leave=Leave.GAP)
    log.close()
    assert (log.progress.offset, log.progress.taken, log.progress.marks) == (3, 0, marks)
    ((left, went_on, _),) = log.progress.gaps
    assert (left, went_on, log.progress.passed_over) == (at, 3, max(0, 3 - at))
    again = Progress.from_json(log.progress.to_json())
    assert again == log.progress
    log = ExamplesLog(settings.kafka, again, writer, RETRY, LOG, leave=Leave.GAP)
    log.close()
    assert log.progress == again, "there is no gap any more"


def test_with_leave_for_another_log_it_is_read_from_its_beginning_though_it_holds_the_place(
    settings: Settings, writer: KafkaProducer, tmp_path: Path
) -> None:
    append(settings, ring_records(100))
    assert gap_accepted(tmp_path) is None
    accept_gap(tmp_path)
    assert gap_accepted(tmp_path) is Leave.GAP
    accept_gap(tmp_path, Leave.ANOTHER_LOG)
    before = Progress(offset=2, taken=1, marks={0: EventPosition(10**6, 0)})
    log = ExamplesLog(settings.kafka, before, writer, RETRY, LOG, leave=gap_accepted(tmp_path))
    log.close()
    assert (log.progress.offset, log.progress.taken, log.progress.marks) == (0, 0, {})
    assert [gap[:2] for gap in log.progress.gaps] == [[2, 0]]


def test_a_catalogue_entry_passes_in_its_place(settings: Settings, writer: KafkaProducer) -> None:
    values = [*ring_records(25), catalogue(2)]
    end = append(settings, values)
    taken, _ = read(settings, writer, None, 64, end)
    assert [type(entry) for entry in taken[-3:]] == [Example, CatalogueEntry, CatalogueEntry]


@pytest.mark.parametrize("position", [10**18, 2**63 - 1, 100])
def test_an_example_beyond_the_end_of_events_is_refused_and_hides_nothing(
    settings: Settings, writer: KafkaProducer, position: int
) -> None:
    values = ring_records(100)
    put_events(settings, writer, values)
    target = [Entry("i1", "view", 1000, None)]
    ahead = [pack_segments(part, [Segment("u", [], target, [EventPosition(position, 0)])]) for part in (0, 1, 3, 77)]
    end = append_bare(settings, [values[0], *ahead, *values[1:]])
    taken, progress = read(settings, writer, None, 64, end)
    assert taken == expected(values)
    assert (progress.duplicates, progress.dead_letters) == (0, {"position_ahead": 4})
    letters = everything(settings.kafka, "dead-letters")
    assert [dict(letter.headers)["source-offset"] for letter in letters] == [b"1", b"2", b"3", b"4"]
    assert b"and that partition ends at 0" in dict(letters[2].headers)["error"]
    assert b"[77]@%d, and that partition is not there" % position in dict(letters[3].headers)["error"]


def test_examples_of_events_that_came_meanwhile_are_learned(settings: Settings, writer: KafkaProducer) -> None:
    values = ring_records(100)
    log = ExamplesLog(settings.kafka, None, writer, RETRY, LOG)
    try:
        taken: list[Any] = []
        for value in values:
            end = append(settings, [value])
            while log.progress.offset < end:
                taken += log.take(7, 1000)
    finally:
        log.close()
    assert taken == expected(values)
    assert not log.progress.dead_letters


def test_no_time_that_a_record_claims_is_one_that_no_model_could_tell_of(
    settings: Settings, writer: KafkaProducer
) -> None:
    values = ring_records(50)
    put_events(settings, writer, values)
    name, claimed = topic_name(EXAMPLES, settings.kafka.prefix), [-1, now_ms() + 1_800_000]
    for value, time_ms in zip(values, claimed, strict=True):
        writer.send(name, value, b"example", partition=0, timestamp_ms=time_ms).get(timeout=20)
    log = ExamplesLog(settings.kafka, None, writer, RETRY, LOG)
    try:
        for n in range(len(values)):
            assert log.take(25, 5000)
            assert log.progress.offset == n + 1
            assert 0 <= log.time_ms <= now_ms()
    finally:
        log.close()
