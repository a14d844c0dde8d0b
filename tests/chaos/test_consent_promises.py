"""The verdict on consent sees what is wrong: a recorded world that is well breaks no promise, and each harm its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from chaos.ledger import LoadLedger
from chaos.promises import Aftermath, consents, examples, features
from chaos.promises.aftermath import Record
from headwater.consent import CONSENT, Said, Word
from headwater.examples import Entry, EventPosition, Segment, Shown, pack_segments
from headwater.privacy import FORGET, Erased, digest_of
from headwater.recommendations import Receipt, Recommendation
from headwater.settings import Settings
from headwater.topics import CONSENTS, EVENTS, EXAMPLES, Topic
from streams.features.state import UserState
from streams.features.store.values import attributes_text, erased_text
from tests.worlds.streams import server_of, storing, topicless

NO = {"personalise": False}
PLACED = {"partition": 0, "offset": 1}
PARTS = ("history", "shown", "reacted", "undos", "undone")


class RecordedWorld(Aftermath):
    """Topics that somebody has written down; the store is a real one."""

    def __init__(self, settings: Settings, *events: dict[str, Any]) -> None:
        nothing = SimpleNamespace(settings=settings, unsent=0, failures=[])
        super().__init__(nothing, LoadLedger(), nothing, 1)  # type: ignore[arg-type]  # no more of them is looked at
        self.topics: dict[str, list[Record]] = {}
        for event in events:
            self.put(EVENTS, event)
        self.answers = {}

    def put(self, topic: Topic, body: Any, key: bytes | None = None, time_ms: int = 0) -> None:
        """One record more."""
        some = self.topics.setdefault(topic.name, [])
        value = body if isinstance(body, bytes) or body is None else orjson.dumps(body)
        some.append(SimpleNamespace(partition=0, offset=len(some), key=key, value=value, timestamp=time_ms, headers=()))

    def say(self, said: dict[str, Any], **more: Any) -> None:
        """A word of p1 on `consents`, acknowledged."""
        at = len(self.topics.get(CONSENTS.name, ()))
        self.put(CONSENTS, {"user_id": "p1", **said, **more}, b"p1", 5)
        if "offset" not in more:
            self.ledger.acknowledged("word", CONSENTS.name, (0, at), b'"user_id":"p1"', "test")

    def answer(self, at: int, fallback: str | None, length: int = 0) -> list[str]:
        """What is found of an answer from features of an offset."""
        receipt = Receipt(feature_offsets={"0": at}, fallback=fallback, history_length=length)
        one = Recommendation(request_id="r", user_id="p1", answered_time=1, receipt=receipt)
        self.answers = {"r": [one]}
        return list(consents.are_answered_by(self))

    def records(self, topic: Topic) -> list[Record]:
        return self.topics.get(topic.name, [])


def happened(number: int, time_ms: int, **more: Any) -> dict[str, Any]:
    return {"event_id": f"e{number}", "user_id": "p1", "item_id": "i", "type": "view", "event_time": time_ms, **more}


def word(time_ms: int, said: dict[str, bool] | None, name: str = "w") -> dict[str, Any]:
    return happened(0, time_ms, type=CONSENT, event_id=name, consent=said)


def erasure(time_ms: int) -> dict[str, Any]:
    return happened(0, time_ms, type=FORGET, event_id=f"forget-{time_ms}")


@pytest.fixture
def settings(redis_url: str) -> Iterator[Settings]:
    with topicless(redis_url, 1, privacy={"consent": "opt-out"}) as made:
        yield made


def test_a_word_that_stands_nowhere_in_the_log_is_missed_and_one_that_was_forgotten_is_not(settings: Settings) -> None:
    world = RecordedWorld(settings)
    at = f"consent-{settings.kafka.prefix}consents[0]@0"
    world.say(NO, consent_time=7)
    world.put(CONSENTS, b"{", b"nobody")
    assert "no place of events says so" in next(consents.are_told(world))
    world.put(EVENTS, word(6, NO, at))
    assert "no place of events says so" in next(consents.are_told(world)), "it is of before"
    world.put(EVENTS, word(7, NO, at))
    world.say(NO, consent_time=7, **PLACED)
    assert not list(consents.are_told(world))

    world.say({"train": False})  # as of its record: 5
    assert not list(consents.are_told(world)), "it was said before what the log forgets"
    world.say({"train": False}, consent_time=9)
    world.put(EVENTS, word(9, {"train": True}, f"consent-{settings.kafka.prefix}consents[0]@4"))
    assert "no place of events says so" in next(consents.are_told(world))
    world.put(EVENTS, word(10, {"train": False}))
    assert "says something else" in next(consents.are_told(world))
    world.put(EVENTS, erasure(11))
    assert not list(consents.are_told(world))
    world.ledger.acknowledged("word", CONSENTS.name, (0, 99), b'{"user_id":"p1"', "test")
    assert "is not there" in next(consents.are_told(world))


def test_an_example_of_what_is_denied_is_found_and_none_of_what_is_allowed(settings: Settings) -> None:
    world = RecordedWorld(
        settings,
        happened(0, 1),
        word(2, {"train": False}),
        happened(2, 3),
        word(4, {"train": True}),
        word(3, {"train": False}),  # said before the other
        happened(5, 5, consent={"train": False}),
        happened(6, 5, consent={"train": True}),
        word(6, NO),
        happened(8, 7, consent={"personalise": True}),
        happened(9, 6),
        erasure(8),
        happened(11, 9),
    )
    assert [one.at[1] for one in consents.lives_of(world).events if not one.teaches] == [2, 5, 8, 9]
    teach(world, 0, 6, 11)
    assert not list(consents.are_learned_by(world))
    assert not list(examples.are_complete(world))
    teach(world, 0, 2, 5, 6, 8, 11)
    assert [found.split("@")[1].split(",")[0] for found in consents.are_learned_by(world)] == ["2", "5", "8"]
    teach(world, 0, 6)
    assert [found.split("@")[1] for found in examples.are_complete(world)] == ["11, event 0: no example of this view"]


def teach(world: RecordedWorld, *offsets: int) -> None:
    target = Entry("i", "view", 1, None)
    segments = [Segment("p1", [], [target], [EventPosition(offset, 0)]) for offset in offsets]
    world.topics.pop(EXAMPLES.name, None)
    world.put(EXAMPLES, pack_segments(0, segments))


def test_an_answer_goes_by_the_word_that_its_features_hold(settings: Settings) -> None:
    world = RecordedWorld(settings, happened(0, 1), word(2, NO), happened(2, 3), word(4, {"train": False}))
    for at, fallback, length in ((0, None, 1), (0, "no_history", 0), (1, "no_consent", 0), (3, None, 1)):
        assert not world.answer(at, fallback, length)
    assert "were used" in world.answer(1, None, 1)[0]
    assert "were used" in world.answer(2, "no_history", 1)[0]
    assert "no_history, and p1 had denied" in world.answer(2, "no_history")[0]
    for at in (0, 3):
        assert "does not deny it" in world.answer(at, "no_consent")[0]
    world.put(EVENTS, erasure(9))
    assert not world.answer(2, "no_history"), "whoever knows of the erasure has nothing of before"
    assert "were used" in world.answer(2, None)[0]


def test_a_store_that_has_more_than_the_word_of_who_denies_is_told(settings: Settings) -> None:
    entry, shown = Entry("i", "view", 1, None), Shown("i", 1, 1, "r")
    denied = UserState(recent=[5], count=2, partition=0, offset=1, folded_ms=3, word=Word(Said(personalise=False), 2))
    world = RecordedWorld(settings, happened(0, 1), word(2, NO), happened(2, 3))
    with storing(settings) as store, server_of(settings) as server:
        store.claim()

        def found(state: UserState) -> list[str]:
            server.delete(store.slots.user("u", "p1"))
            assert store.mend_users({"p1": b""}, {"p1": state}) == 1
            return list(consents.are_kept_to(world))

        assert not found(denied)
        assert not list(features.are_counted(world))
        assert "goes by None" in found(replace(denied, word=None))[0]
        for part, one in zip(PARTS, (entry, shown, shown, entry, entry), strict=True):
            assert found(replace(denied, **{part: [one]}))[0].endswith(f"the store has {part}")
        assert not found(replace(denied, count=1))
        assert "1 events are remembered, 2 were sent" in next(features.are_counted(world))
        store.put_attributes({"p1": attributes_text({"plan": "a"}, 2)}, 0, 0)
        assert not found(denied), "nothing says that it was told before"
        server.set(store.slots.user("p", digest_of("p1")), erased_text(Erased(2, 0, 1)))
        server.set(f"{store.prefix}private", "1")
        assert found(denied)[0].endswith("the store has attributes")
