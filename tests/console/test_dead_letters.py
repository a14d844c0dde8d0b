"""`headwater dead-letters`: what it lists and sends again, as JSON too, and the reasons that it knows."""

from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner

from console.cli import app
from console.commands.dead_letters import REASONS
from headwater.errors import SettingsError, Unavailable
from headwater.kafka import producer
from headwater.settings import Settings
from headwater.wire import dead_letter_headers
from tests.worlds.processes import ROOT, environment
from tests.worlds.topic_reading import everything

OF_PEOPLE = ("users", "identities", "erasures")
LETTERS = [("schema", b'{"user_id": "ann"}'), ("schema", b'{"user_id": "bob"}'), ("undecodable", b"not json")]


@pytest.fixture(autouse=True)
def _letters(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three dead letters, and the environment in which the command finds their world."""
    for name, value in environment(settings).items():
        if name.startswith("HEADWATER_"):
            monkeypatch.setenv(name, value)
    events = settings.kafka.prefix + "events"
    writer = producer(settings.kafka)
    for offset, (reason, value) in enumerate(LETTERS):
        headers = dead_letter_headers(reason, "a field is missing", events, 0, offset)
        writer.send(settings.kafka.prefix + "dead-letters", value, key=b"ann", headers=headers).get(10)
    writer.close()


def run(*words: str) -> str:
    done = CliRunner().invoke(app, ["dead-letters", *words])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_redrive_tells_a_script_what_it_would_send_what_it_sent_and_what_it_left_out(settings: Settings) -> None:
    would = json.loads(run("redrive", "--reason", "schema", "--dry-run", "--json"))
    assert would == {"to_send": 2, "sent": 0, "left_out": {}}
    assert everything(settings.kafka, "events") == []
    sent = json.loads(run("redrive", "--json"))
    assert (sent["to_send"], sent["sent"], sent["left_out"]) == (3, 3, {})
    assert (sent["refused_by_workers"], sent["unread"]) == ({}, 3)  # no worker runs
    assert sorted(record.value for record in everything(settings.kafka, "events")) == sorted(v for _, v in LETTERS)
    assert json.loads(run("redrive", "--json")) == {"to_send": 0, "sent": 0, "left_out": {}}


def test_what_is_told_of_a_person_is_sent_again_as_of_when_it_was_told(settings: Settings) -> None:
    """Attributes of before an erasure, say, which a worker of a release before could not read."""
    told, ahead = 1_700_000_000_000, 4_000_000_000_000
    value = b'{"user_id": "ann", "attributes": {"plan": "family"}}'
    writer = producer(settings.kafka)
    for offset, (topic, at) in enumerate([*((one, told) for one in OF_PEOPLE), ("users", ahead)]):
        headers = dead_letter_headers("unknown_version", "of tomorrow", settings.kafka.prefix + topic, 0, offset)
        headers.append(("source-timestamp", b"%d" % at))
        letter = writer.send(settings.kafka.prefix + "dead-letters", value, key=b"ann", headers=headers).get(10)
    writer.close()
    run("redrive", "--reason", "unknown_version", "--json")
    assert [record.timestamp for record in everything(settings.kafka, "users")] == [told, letter.timestamp]
    assert {record.timestamp for topic in OF_PEOPLE for record in everything(settings.kafka, topic)[:1]} == {told}


@pytest.mark.parametrize("command", ["list", "redrive"])
def test_a_reason_that_does_not_exist_is_refused_and_those_that_do_are_named(command: str) -> None:
    done = CliRunner().invoke(app, ["dead-letters", command, "--reason", "shcema"])
    assert isinstance(done.exception, SettingsError)
    assert "'shcema'" in str(done.exception)
    assert "undecodable, schema, unknown_version" in str(done.exception)


def test_a_reason_that_no_letter_has_is_an_empty_list_and_one_of_another_release_is_found(settings: Settings) -> None:
    assert run("list", "--reason", "too_deep") == "0 dead letters of reason too_deep.\n"
    writer = producer(settings.kafka)
    writer.send(settings.kafka.prefix + "dead-letters", b"{}", key=b"ann", headers=[("reason", b"of_tomorrow")]).get(10)
    writer.close()
    (line,) = run("list", "--reason", "of_tomorrow", "--json").splitlines()
    assert json.loads(line)["headers"]["reason"] == "of_tomorrow"


@pytest.mark.parametrize(
    "words", [["dead-letters", "list"], ["dead-letters", "redrive"], ["tail", "events"], ["rollback"]]
)
def test_a_world_that_is_not_there_is_no_empty_one(words: list[str]) -> None:
    done = CliRunner().invoke(app, [*words, "--prefix", "mispelt."])
    assert isinstance(done.exception, Unavailable)
    assert "is the prefix 'mispelt.' right?" in str(done.exception)


def test_the_reasons_are_those_of_the_operations_page() -> None:
    table = (ROOT / "docs/operations.md").read_text().split("| reason | cause | remedy |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(REASONS)
