"""The programs of `examples/`, run as a reader runs them, against real workers."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from confluent_kafka import Producer

from embedded import free_port
from headwater import Client, Item
from headwater.client.lanes import partition_of
from headwater.settings import Settings
from tests.worlds.answering import ScriptedAnswers
from tests.worlds.javascript import install, node
from tests.worlds.processes import ROOT, LiveWorker, eventually
from tests.worlds.topic_reading import everything, rows

FILMS = [str(number) for number in range(1, 201)]


def run(example: str, *arguments: str, prefix: str = "", cwd: Path) -> str:
    done = ended(example, *arguments, prefix=prefix, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ended(example: str, *arguments: str, prefix: str = "", cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
    return subprocess.run(
        [sys.executable, str(ROOT / "examples" / example), *arguments],
        cwd=cwd,
        env={**env, "HEADWATER_KAFKA__PREFIX": prefix},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


@pytest.mark.any_broker
@pytest.mark.timeout(240)
def test_twenty_lines_of_plain_kafka_get_a_list_that_changes_after_three_clicks(
    settings: Settings, worker: Callable[..., LiveWorker], tmp_path: Path
) -> None:
    trainer = worker("trainer.worker", wait=False)
    streams = worker("streams.worker")
    serving = worker("serving.worker", wait=False)
    with Client(settings=settings.kafka) as client:
        client.put_items(Item(item_id=film, title=f"Film {film}") for film in FILMS)
        # a world of two tastes: even films are watched together, and odd ones
        client.track_many(
            {"user_id": f"user-{user}", "item_id": FILMS[(user % 2 + 2 * (user * 7 + step)) % 200], "type": "click"}
            for step in range(12)
            for user in range(50)
        )
        eventually(lambda: streams.metric("headwater_events_applied_total") >= 600, 60, "events folded")
        eventually(lambda: trainer.metric("headwater_examples_learned_total") >= 600, 90, "examples learned")
        eventually(serving.is_ready, 60, f"serving ready:\n{serving.tail()}")
        eventually(
            lambda: client.recommend("user-0", deadline_s=20).receipt.model_examples >= 600, 30, "all of it served"
        )
    lines = run("plain_kafka.py", settings.kafka.bootstrap, settings.kafka.prefix, cwd=tmp_path).splitlines()
    before, after = (ast.literal_eval(line.split(":", 1)[1].strip()) for line in lines)
    assert len(before) == len(after) == 10
    assert before != after
    assert not set(after) & {"50", "181", "172"}


def test_the_plain_program_is_short_and_imports_nothing_of_ours() -> None:
    text = (ROOT / "examples" / "plain_kafka.py").read_text()
    assert (
        len([line for line in text.splitlines() if line.strip()]) <= 30
    )  # twenty, and what is said when it cannot run
    assert "headwater" not in text


@pytest.mark.parametrize("example", ["plain_kafka.py", "producer.py", "consumer.py", "feedback.py"])
def test_an_example_that_cannot_run_says_how_it_is_called(settings: Settings, example: str, tmp_path: Path) -> None:
    more = [[], [settings.kafka.bootstrap, "nobody."]] if example == "plain_kafka.py" else [["a", "b"]]
    for words in ([f"127.0.0.1:{free_port()}"], *more):
        done = ended(example, *words, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert "Traceback" not in done.stderr
        assert f"{example} BROKER" in done.stderr or f"usage: {example} [-h] [broker]" in done.stderr


@pytest.mark.any_broker
@pytest.mark.parametrize("example", ["plain_confluent.py", "kafkajs/plain_kafka.js"])
def test_a_client_that_is_not_ours_finds_the_partition_of_its_user(
    settings: Settings, example: str, tmp_path: Path
) -> None:
    program = ROOT / "examples" / example
    command = [sys.executable, str(program)]
    if program.suffix == ".js":
        command = [node(), str(program)]
        install(program.parent)
    with ScriptedAnswers(settings.kafka) as answering:
        words = [*command, settings.kafka.bootstrap, settings.kafka.prefix]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    at, found = done.stdout.splitlines()
    (click,) = everything(settings.kafka, "events")
    assert at == f"events[{click.partition}]@{click.offset}"
    assert click.partition == partition_of(click.key.decode(), 4)
    assert [(one.user_id, one.item_id) for one in rows([click])] == [(click.key.decode(), "50")]
    assert ast.literal_eval(found) == [f"item-{rank}" for rank in range(1, 11)]
    (asked,) = answering.seen
    assert asked["after"] == {str(click.partition): click.offset}
    for wrong in ([], ["a", "b", "c"], [settings.kafka.bootstrap, "nobody."]):
        refused = subprocess.run(
            [*command, *wrong], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert (refused.returncode, refused.stdout) == (2, "")
        assert f"{program.name} BROKER [PREFIX]" in refused.stderr
        assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("partitioner", ["murmur2_random", "consistent_random"])
def test_a_record_as_kcat_writes_it_is_an_event_of_its_key(settings: Settings, partitioner: str) -> None:
    kcat = Producer({"bootstrap.servers": settings.kafka.bootstrap, "partitioner": partitioner, "log_level": 0})
    for line in (f'user-{n}:{{"user_id": "user-{n}", "item_id": "50", "type": "click"}}' for n in range(8)):
        key, _, value = line.partition(":")
        kcat.produce(settings.kafka.prefix + "events", value, key)
    assert kcat.flush(10) == 0
    sent = everything(settings.kafka, "events")
    assert sorted(one.user_id for one in rows(sent)) == [f"user-{n}" for n in range(8)]
    alike = [one.partition == partition_of(one.key.decode(), 4) for one in sent]
    assert all(alike) == (partitioner == "murmur2_random")


def test_the_producer_example_tracks_and_prints_an_answer(settings: Settings, tmp_path: Path) -> None:
    with ScriptedAnswers(settings.kafka) as answering:
        printed = run("producer.py", settings.kafka.bootstrap, prefix=settings.kafka.prefix, cwd=tmp_path)
    assert "['item-1', 'item-2', 'item-3', 'item-4', 'item-5'] personal" in printed
    assert answering.seen[0]["after"]


def test_the_feedback_example_tells_what_was_liked_shown_and_dismissed(settings: Settings, tmp_path: Path) -> None:
    with ScriptedAnswers(settings.kafka):
        printed = run("feedback.py", settings.kafka.bootstrap, prefix=settings.kafka.prefix, cwd=tmp_path)
    assert printed.splitlines()[:2] == ["before: item-1 item-2 item-3 item-4 item-5", "1 item-1"]
    sent = rows(everything(settings.kafka, "events"))
    told = {
        who: [(one.type, one.item_id, one.items) for one in sent if one.user_id.startswith(who)]
        for who in ("guest", "visitor")
    }
    assert told == {
        "guest": [("like", "film-1", ()), ("unlike", "film-1", ()), ("like", "film-3", ())],
        "visitor": [("impression", "item-1", ("item-1", "item-2", "item-3")), ("dismiss", "item-1", ())],
    }
    (login,) = everything(settings.kafka, "identities")
    assert orjson.loads(login.value)["user_id"].startswith("visitor")
    assert len({event.request_id for event in sent}) == 2  # none, and the answer's


def test_the_consumer_example_prints_what_is_recommended(settings: Settings, tmp_path: Path) -> None:
    log = tmp_path / "consumer.log"
    with log.open("wb") as out:
        consumer = subprocess.Popen(
            [sys.executable, "-u", str(ROOT / "examples" / "consumer.py"), settings.kafka.bootstrap],
            env={**os.environ, "HEADWATER_KAFKA__PREFIX": settings.kafka.prefix},
            stdout=out,
            stderr=out,
        )
    try:
        with Client(settings=settings.kafka) as client, ScriptedAnswers(settings.kafka):

            def printed() -> bool:
                client.recommend("ann", k=2, deadline_s=10)
                return "ann: item-1, item-2" in log.read_text()

            eventually(printed, 30, "the consumer printed an answer")
    finally:
        consumer.terminate()
        consumer.wait(10)
