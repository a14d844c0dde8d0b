"""What a certificate of an erasure looks at, and when it says that all is as it has to be."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from console.privacy.forgetting import checks, from_before, trainer_check, words_check
from headwater.privacy import Erased, fact_of
from headwater.settings import Settings
from headwater.topics import MODEL
from models.published.announcement import LIVE, Announcement
from streams.features.identity import ALONE, Link, Links
from tests.worlds.streams import send_raw

UNTIL = 1000
NOTHING: dict[str, Any] = {"history": [], "shown": [], "reacted": [], "undos": [], "undone": []}


@pytest.mark.parametrize("part", list(NOTHING))
def test_each_part_of_a_state_is_looked_at(part: str) -> None:
    for time_ms, found in ((UNTIL, [part]), (UNTIL + 1, [])):
        held = {"state": {**NOTHING, part: [{"time_ms": time_ms}]}, "attributes": {}}
        assert from_before(held, ALONE, UNTIL, told_since=False) == found


def test_attributes_and_links_are_looked_at_and_those_of_since_are_a_new_users() -> None:
    held = {"state": None, "attributes": {"plan": "family"}}
    link = Link(UNTIL, offset=3, partition=0, linked=1)
    assert from_before(held, Links({}, {"guest": link}), UNTIL, told_since=False) == ["attributes", "links"]
    assert from_before(held, Links({"bob": link._replace(time_ms=UNTIL + 1)}, {}), UNTIL, told_since=True) == []


@pytest.mark.parametrize(
    ("place", "committed", "oldest", "ok"),
    [
        ((0, 41), {0: 42}, {}, True),
        ((0, 41), {0: 41}, {}, False),  # the checkpoint is of before it
        (None, {0: 90}, {0: 80}, True),  # retention has taken it, and the checkpoint is of beyond that
        (None, {0: 70}, {0: 80}, False),
        (None, {0: 90}, {0: 0}, False),  # the log is whole, and does not hold it
        (None, {}, {0: 0}, True),  # there is no trainer
    ],
)
def test_the_trainer_is_beyond_the_place_that_is_remembered_or_beyond_what_retention_took(
    place: tuple[int, int] | None, committed: dict[int, int], oldest: dict[int, int], ok: bool
) -> None:
    fact = fact_of("ann", Erased(UNTIL, 0, 7))
    places = {} if place is None else {fact.digest: place}
    assert trainer_check({fact.digest: fact}, places, committed, oldest).ok is ok


def test_a_trainer_whose_place_kafka_has_forgotten_is_not_taken_for_none(settings: Settings) -> None:
    def looked() -> tuple[bool, str]:
        fact = fact_of("ann", Erased(UNTIL))
        found = {one.name: one for one in checks(settings, {fact.digest: fact}, ["ann"])}
        return found["the trainer's checkpoint is of beyond it"][1:]

    assert looked() == (True, "no trainer has made a checkpoint in this world")
    live = Announcement(
        version=7, digest="0" * 64, bundle="v7-0000", parent=None, delta_offset=0, published_time=1, examples_offset=9,
        metrics={},
    )  # fmt: skip
    send_raw(settings, live.encode(), MODEL, key=LIVE)
    ok, told = looked()
    assert (ok, "start the trainer" in told) == (False, True)


@pytest.mark.parametrize(
    ("said", "ok"),
    [
        (None, True),  # a tombstone
        ({"train": False, "consent_time": UNTIL}, False),
        ({"train": False, "consent_time": UNTIL + 1}, True),
        ({"personalise": False, "consent_time": UNTIL}, True),  # that is what forgets
        ({"personalise": False, "consent_time": UNTIL - 1}, False),
        ({"user_id": "bob"}, False),  # nobody reads it, and it stands under the id
    ],
)
def test_words_of_consent_are_looked_at_and_those_of_since_are_a_new_users(
    said: dict[str, Any] | None, ok: bool
) -> None:
    fact = fact_of("ann", Erased(UNTIL, 0, 7))
    value = None if said is None else orjson.dumps({"user_id": "ann", **said})
    record = SimpleNamespace(key=b"ann", value=value, timestamp=UNTIL + 5)
    found = words_check({fact.digest: fact}, {fact.digest: record})
    assert (found.ok, fact.digest in found.found) == (ok, not ok)
