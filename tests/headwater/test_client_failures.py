"""The Client when Kafka is away, restarted or killed: bounded waits, errors in the handles, nothing lost silently."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka.errors import MessageSizeTooLargeError

from embedded import EmbeddedBroker
from headwater import Client, DeadlineExceeded, HeadwaterError, InvalidMessage, Unavailable
from headwater.kafka import ensure_topics, producer
from headwater.settings import KafkaSettings
from headwater.topics import RECOMMENDATIONS
from tests.worlds.answering import ScriptedAnswers, ranked
from tests.worlds.processes import ROOT, eventually
from tests.worlds.topic_reading import everything, limit_records, rows

pytestmark = pytest.mark.any_broker


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """A broker of the test's own, to be killed."""
    with EmbeddedBroker(tmp_path / "kafka") as one:
        yield one


@pytest.fixture
def kafka(broker: EmbeddedBroker) -> KafkaSettings:
    made = KafkaSettings(bootstrap=broker.address)
    ensure_topics(made)
    return made


def test_events_tracked_while_the_broker_is_down_arrive_when_it_is_back(
    broker: EmbeddedBroker, kafka: KafkaSettings
) -> None:
    with Client(settings=kafka) as client:
        client.track("ann", "before", "view").result(30)
        broker.kill()
        handles = [client.track("ann", f"item-{number}", "view") for number in range(50)]
        broker.start()
        assert {handle.result(30).partition for handle in handles} == {handles[0].result().partition}
    items = [row.item_id for row in rows(everything(kafka, "events"))]
    assert items == ["before", *(f"item-{number}" for number in range(50))]


def test_answers_come_again_after_the_broker_was_killed_and_restarted(
    broker: EmbeddedBroker, kafka: KafkaSettings
) -> None:
    with Client(settings=kafka) as client, ScriptedAnswers(kafka):
        assert client.recommend("ann", deadline_s=10).user_id == "ann"
        broker.kill()
        waiting = client.recommend_async("bob", deadline_s=60)
        broker.start()
        assert waiting.result(60).user_id == "bob"
        assert client.recommend("eve", deadline_s=30).user_id == "eve"


def test_a_broker_that_lost_its_newest_answers_has_nobody_read_a_week_of_older_ones(
    broker: EmbeddedBroker, kafka: KafkaSettings, tmp_path: Path
) -> None:
    def answer(request: dict[str, Any]) -> dict[str, Any] | None:
        return None if request["request_id"] == "of-old" else ranked(request)

    old = json.dumps(ranked({"request_id": "of-old", "user_id": "bob"})).encode()
    writer = producer(kafka)
    for partition in range(RECOMMENDATIONS.partitions):
        writer.send("recommendations", old, partition=partition, headers=[("correlation-id", b"of-old")]).get(30)
    writer.close()
    broker.stop()
    shutil.copytree(broker.data_dir, tmp_path / "before")
    broker.start()
    with Client(settings=kafka) as client:
        with ScriptedAnswers(kafka, answer, times=200):  # the Client is far beyond what will be left
            assert client.recommend("ann", deadline_s=10).user_id == "ann"
        broker.kill()
        shutil.rmtree(broker.data_dir)
        shutil.copytree(tmp_path / "before", broker.data_dir)
        waiting = client.recommend_async("bob", deadline_s=60, request_id="of-old")
        broker.start()
        with ScriptedAnswers(kafka, answer):
            eventually(lambda: _answers(client), 60, "answers come again, behind the old one")
        assert not waiting.done()


def _answers(client: Client) -> bool:
    with contextlib.suppress(DeadlineExceeded):
        return client.recommend("eve", deadline_s=5).user_id == "eve"
    return False


def test_what_kafka_never_acknowledges_fails_in_its_handle_and_in_flush(
    broker: EmbeddedBroker, kafka: KafkaSettings
) -> None:
    client = Client(settings=kafka, delivery_timeout_s=1)
    client.track("ann", "before", "view").result(30)
    broker.kill()
    handles = [client.track("ann", f"item-{number}", "view") for number in range(10)]
    for handle in handles:
        with pytest.raises(Unavailable, match=r"events: not acknowledged by .*send it again"):
            handle.result(20)
    with pytest.raises(Unavailable, match="were not delivered since the last flush"):
        client.flush()
    with pytest.raises(Unavailable):
        client.recommend("ann", deadline_s=20)
    client.close()


def test_a_broker_that_stalls_beyond_the_delivery_timeout_fails_what_waits_and_gets_what_comes_after(
    broker: EmbeddedBroker, kafka: KafkaSettings
) -> None:
    """The first record is on its way when the broker stops: nobody knows its fate, so the producer id is dropped."""
    client = Client(settings=kafka, delivery_timeout_s=1)
    client.track("ann", "before", "view").result(30)
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        handles = [client.track("ann", f"item-{number}", "view") for number in range(10)]
        for handle in handles:
            with pytest.raises(Unavailable, match=r"events: not acknowledged by .*send it again"):
                handle.result(20)
    finally:
        os.kill(broker.pid, signal.SIGCONT)

    def taken() -> bool:
        try:
            return client.track("ann", "after", "view").result(20).offset > 0
        except Unavailable:  # not connected again yet
            return False

    eventually(taken, 30, "an event taken by the broker that came back")
    with pytest.raises(Unavailable, match="were not delivered since the last flush"):
        client.flush()
    client.close()
    assert rows(everything(kafka, "events"))[-1].item_id == "after"


def test_an_event_that_the_broker_refuses_fails_alone(kafka: KafkaSettings) -> None:
    limit_records(kafka, "events", 5000)
    with Client(settings=kafka) as client, ScriptedAnswers(kafka):
        for _ in range(3):
            refused = client.track("ann", "large", "view", properties={"text": "x" * 20_000})
            with pytest.raises(InvalidMessage, match=r"events: .*Send less in one record"):
                refused.result(20)
            assert client.track("ann", "small", "view").result(20).offset >= 0
            assert client.recommend("ann", deadline_s=20).user_id == "ann"
        client.put_items([{"item_id": "film-1", "title": "One"}]).result(20)
        with pytest.raises(Unavailable, match="3 records were not delivered since the last flush"):
            client.flush()
    assert [row.item_id for row in rows(everything(kafka, "events"))] == ["small"] * 3


def test_of_many_records_in_batches_the_broker_takes_all_but_those_that_it_refuses(kafka: KafkaSettings) -> None:
    limit_records(kafka, "events", 5000)
    writer = producer(kafka)
    try:
        sent = {
            (topic, number): writer.send(topic, b"x" * (20_000 if number % 7 == 0 else 100), b"%d" % (number % 20))
            for number in range(200)
            for topic in ("events", "model", "requests")
        }
        writer.flush(30)
        refused = [name for name, future in sent.items() if isinstance(future.exception, MessageSizeTooLargeError)]
        assert refused == [("events", number) for number in range(0, 200, 7)]
        assert [name for name, future in sent.items() if future.failed()] == refused
    finally:
        writer.close(timeout=5)
    for topic, taken in (("events", 171), ("model", 200), ("requests", 200)):
        assert len(everything(kafka, topic)) == taken


def test_closing_with_the_broker_away_is_bounded_and_fails_what_waits(
    broker: EmbeddedBroker, kafka: KafkaSettings
) -> None:
    client = Client(settings=kafka)
    client.track("ann", "before", "view").result(30)
    before = threading.active_count()
    broker.kill()
    handle = client.track("ann", "after", "view")
    with pytest.raises(Unavailable):
        client.close(timeout_s=0.5)
    with pytest.raises(Unavailable):
        handle.result(30)
    eventually(lambda: threading.active_count() < before, 60, "the threads have ended")


def test_senders_wait_for_room_and_then_fail_when_nothing_is_acknowledged(
    broker: EmbeddedBroker, kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater.client.outbox.MAX_UNACKNOWLEDGED_BYTES", 10_000)
    client = Client(settings=kafka, delivery_timeout_s=1)
    for number in range(500):  # fifty times the room: each waits for the ones before
        client.track("ann", f"item-{number}", "view", properties={"text": "x" * 900})
    client.flush()
    assert len(rows(everything(kafka, "events"))) == 500
    broker.kill()
    many = [
        {"user_id": "ann", "item_id": f"i{n}", "type": "view", "properties": {"text": "x" * 900}} for n in range(500)
    ]
    with pytest.raises(Unavailable):
        client.track_many(many).result(20)
    with pytest.raises(Unavailable):
        client.close(timeout_s=0.5)


def test_a_client_that_nobody_closes_delivers_when_the_program_ends(kafka: KafkaSettings) -> None:
    code = (
        "from headwater import Client\n"
        f"client = Client('{kafka.bootstrap}')\n"
        "for number in range(500): client.track('ann', f'item-{number}', 'view')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)
    assert len(rows(everything(kafka, "events"))) == 500


def test_a_client_in_a_forked_child_says_so_and_the_parents_goes_on(kafka: KafkaSettings) -> None:
    with Client(settings=kafka) as client:
        child = os.fork()
        if child == 0:
            try:
                client.track("ann", "film-1", "view")
            except HeadwaterError as error:
                os._exit(0 if "Make one Client in each process" in str(error) else 3)
            os._exit(4)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.track("ann", "film-1", "view").result(30).offset == 0


@pytest.mark.parametrize("own", ["models", "streams", "serving", "kafka_range", "settings", "events"])
def test_an_app_with_modules_of_the_same_names_tracks_events(kafka: KafkaSettings, tmp_path: Path, own: str) -> None:
    (tmp_path / f"{own}.py").write_text("MINE = True\n")
    (tmp_path / "app.py").write_text(
        f"import {own}\nfrom headwater import Client\nassert {own}.MINE\n"
        f"with Client('{kafka.bootstrap}') as client:\n"
        "    print(client.track('ann', 'film-1', 'view').result(30).offset)\n"
    )
    done = subprocess.run([sys.executable, "app.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
