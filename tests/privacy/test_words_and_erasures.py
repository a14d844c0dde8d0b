"""A word of consent and an erasure that meet: what forgets takes the word along, and a word of before stays away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, cast
from unittest.mock import MagicMock

import orjson
import pytest

from headwater.consent import Said
from headwater.kafka import ensure_topics
from headwater.privacy import ErasureFact, read_erasure
from headwater.process import Retry
from headwater.settings import Settings
from headwater.topics import CONSENTS, ERASURES, EVENTS, IDENTITIES, USERS, Topic
from streams.agents import Agents
from streams.consenting import ConsentRounds
from streams.erasing import ErasureRounds
from streams.features.store import FeatureStore
from tests.privacy.test_past_ghosts import rounds
from tests.worlds.streams import event, records, send, send_raw, storing

TOLD_MS = event(50).event_time


class Workers:
    """What streams workers do, step by step."""

    def __init__(self, settings: Settings, store: FeatureStore) -> None:
        self.settings, self.store = settings, store
        retry = Retry(threading.Event(), lambda _: None)
        self._consents = ConsentRounds(settings, store, cast(Any, self), retry)
        self._erasures = ErasureRounds(settings, store, cast(Any, self), retry, dict)
        self.before_places = list[Callable[[], object]]()
        self.after_places = list[Callable[[Topic, bytes, bytes | None], object]]()
        store.claim()

    async def send(self, topic: Topic, key: bytes, value: bytes | None) -> Any:
        if topic is CONSENTS and self.after_places:
            return self.after_places.pop()(topic, key, value)
        if topic is EVENTS and self.before_places:  # what another worker does meanwhile
            await asyncio.to_thread(self.before_places.pop())
        return send_raw(self.settings, value, topic, key=key)

    def say(self, time_ms: int, **said: bool) -> None:
        value = orjson.dumps({"user_id": "ada", "consent_time": time_ms, **said})
        self._tell(CONSENTS, value)

    def forget(self, time_ms: int) -> Any:
        """The record that asks for it, acted on."""
        return self._tell(ERASURES, b'{"user_id":"ada","erased_time":%d}' % time_ms)

    def ask(self, time_ms: int) -> Any:
        """The same at that moment, and nobody has read it yet."""
        send_raw(self.settings, b'{"user_id":"ada"}', ERASURES, key=b"ada", timestamp_ms=time_ms)
        return [one for one in records(self.settings, ERASURES) if one.key == b"ada"][-1]

    def _tell(self, topic: Topic, value: bytes) -> Any:
        sent = send_raw(self.settings, value, topic, key=b"ada")
        (record,) = [
            one for one in records(self.settings, topic) if (one.partition, one.offset) == (sent.partition, sent.offset)
        ]
        self.again(topic, record)
        return record

    def again(self, topic: Topic, record: Any) -> None:
        """The same record is read, perhaps once more."""
        if topic is ERASURES:
            asyncio.run(self._erasures.run([record]))
        else:
            asyncio.run(self._read([record]))

    def read_all(self) -> None:
        """All words, from the beginning."""
        asyncio.run(self._erasures.begin(CONSENTS))
        asyncio.run(self._consents.begin({}))
        asyncio.run(self._read(records(self.settings, CONSENTS)))

    async def _read(self, words: Sequence[Any]) -> None:
        await self._consents.run(words)
        await self._erasures.take_back(CONSENTS, words, self._consents.denied)

    def take_back(self, topic: Topic, messages: Sequence[Any]) -> None:
        """As whoever has read these does."""
        asyncio.run(self._erasures.take_back(topic, messages))

    def keep(self, record: Any) -> None:
        """A fact is read that one of them has written."""
        fact = read_erasure(record.key, record.value, "here")
        assert isinstance(fact, ErasureFact)
        self.store.keep_erased([fact])

    def fold(self) -> None:
        async def fold() -> None:
            one = rounds(self.settings, self.store)
            marks = await one.positions()
            for message in records(self.settings, EVENTS):
                if message.offset >= (marks or {}).get(message.partition, 0):
                    assert await one.run([message]) is None

        asyncio.run(fold())

    def said(self) -> tuple[Said | None, Any]:
        """The word by the state, and the newest on its topic."""
        state = self.store.read_users(["ada"]).states.get("ada")
        word = state and state.word
        value = records(self.settings, CONSENTS)[-1].value
        return word and word.said, value and orjson.loads(value).get("personalise")


@pytest.fixture
def workers(settings: Settings) -> Any:
    privacy = settings.privacy.model_copy(update={"consent": "opt-out"})
    asked = settings.model_copy(update={"privacy": privacy})
    ensure_topics(asked.kafka, topics=[CONSENTS])
    with storing(asked) as store:
        yield Workers(asked, store)


@pytest.mark.parametrize("folds", [True, False], ids=["folded", "not folded yet"])
@pytest.mark.parametrize("erased_ms", [TOLD_MS, TOLD_MS - 1_000], ids=["of its moment", "of before"])
def test_an_erasure_takes_a_denial_along_that_was_told_before_it(workers: Workers, erased_ms: int, folds: bool) -> None:
    send(workers.settings, [event(0)])
    workers.say(TOLD_MS, personalise=False)
    workers.keep(*records(workers.settings, ERASURES))
    if folds:
        workers.fold()
        assert workers.said() == (Said(personalise=False), False)
    asked = workers.forget(erased_ms)
    workers.fold()
    assert workers.said() == (None, None)
    places = len(records(workers.settings, EVENTS))
    workers.say(TOLD_MS + 60_000, personalise=False)
    workers.fold()
    for _ in range(2):  # as where the topic is read from its beginning
        workers.again(ERASURES, asked)
    workers.fold()
    assert len(records(workers.settings, EVENTS)) == places + 1
    assert workers.said() == (Said(personalise=False), False), "what was denied since stays"


@pytest.mark.parametrize("said", [{"personalise": False}, {"personalise": True}], ids=["a denial", "a grant"])
@pytest.mark.parametrize("word_ms", [TOLD_MS, TOLD_MS - 1_000], ids=["of its moment", "of before"])
def test_a_word_of_before_an_erasure_that_comes_after_it_is_kept_nowhere(
    workers: Workers, word_ms: int, said: dict[str, bool]
) -> None:
    workers.forget(TOLD_MS)
    workers.say(word_ms, **said)
    assert workers.said() == (None, None)
    workers.fold()
    assert workers.said() == (None, None)


def test_a_denial_that_was_told_and_not_folded_is_kept_where_it_is_told_again(workers: Workers) -> None:
    workers.say(TOLD_MS, personalise=False)
    word, _ = records(workers.settings, CONSENTS)
    workers.keep(records(workers.settings, ERASURES)[0])
    other = Workers(workers.settings, workers.store)  # the first was killed before it said so
    other.again(CONSENTS, word)
    assert other.said() == (None, False)
    other.fold()
    assert other.said() == (Said(personalise=False), False)


def test_a_denial_that_was_told_and_not_folded_stays_where_a_word_of_before_comes_to_another_worker(
    workers: Workers,
) -> None:
    workers.say(TOLD_MS, personalise=False)
    workers.keep(records(workers.settings, ERASURES)[0])
    other = Workers(workers.settings, workers.store)
    other.say(TOLD_MS - 1, personalise=True)
    assert other.said() == (None, False)
    other.fold()
    assert other.said() == (Said(personalise=False), False)


def test_a_word_that_is_in_force_since_an_erasure_stays_where_one_of_before_comes(workers: Workers) -> None:
    workers.forget(TOLD_MS)
    workers.say(TOLD_MS + 1, personalise=True)
    for folds in (False, True):
        if folds:
            workers.fold()
        workers.say(TOLD_MS - 1, personalise=False)
        assert workers.said()[1] is True
    workers.fold()
    assert workers.said() == (Said(personalise=True), True)


def test_an_erasure_takes_a_word_along_also_where_consent_is_off_by_then(workers: Workers) -> None:
    send(workers.settings, [event(0)])
    workers.say(TOLD_MS, train=False)
    off = workers.settings.privacy.model_copy(update={"consent": "off"})
    since = Workers(workers.settings.model_copy(update={"privacy": off}), workers.store)
    since.forget(TOLD_MS + 1_000)
    assert [one.value for one in records(workers.settings, CONSENTS) if one.key == b"ada"][-1] is None


def test_whoever_reads_all_words_again_leaves_the_newest_in_its_place(workers: Workers) -> None:
    workers.forget(TOLD_MS)
    workers.say(TOLD_MS + 1, personalise=True)
    workers.say(TOLD_MS - 1, personalise=False, train=True)  # of before, so what is in force is told again
    workers.say(TOLD_MS + 2, personalise=True, train=False)
    places = len(records(workers.settings, EVENTS))
    other = Workers(workers.settings, workers.store)  # of a store that has lost all but the facts
    other.keep(next(one for one in records(workers.settings, ERASURES) if one.value and b"digest" in one.value))
    other.read_all()
    newest = orjson.loads(records(workers.settings, CONSENTS)[-1].value)
    assert (newest["train"], newest["consent_time"]) == (False, TOLD_MS + 2)
    other.fold()
    assert other.said() == (Said(personalise=True, train=False), True)
    assert len(records(workers.settings, EVENTS)) == places, "nothing is told again"


@pytest.mark.parametrize("slower", ["the word", "the erasure", "the erasure, and it is killed"])
def test_a_word_that_gets_its_place_while_its_user_is_forgotten_is_kept_nowhere(workers: Workers, slower: str) -> None:
    send(workers.settings, [event(0)])
    other = Workers(workers.settings, workers.store)
    if slower == "the word":
        other.before_places.append(lambda: workers.forget(TOLD_MS))
        other.say(TOLD_MS, personalise=True)
        other.again(CONSENTS, records(workers.settings, CONSENTS)[-1])
    else:

        def say() -> None:
            other.say(TOLD_MS, personalise=True)
            other.again(CONSENTS, records(workers.settings, CONSENTS)[-1])
            if "killed" in slower:
                raise KeyboardInterrupt

        workers.before_places.append(say)
        with pytest.raises(KeyboardInterrupt) if "killed" in slower else nullcontext():
            workers.forget(TOLD_MS)
        if "killed" in slower:
            workers.again(ERASURES, records(workers.settings, ERASURES)[0])
    workers.fold()
    assert workers.said() == (None, None)


def test_an_erasure_that_was_killed_before_it_looked_what_was_told_meanwhile_looks_when_it_is_tried_again(
    workers: Workers,
) -> None:
    send(workers.settings, [event(0)])
    workers.say(TOLD_MS - 1, personalise=True)
    _, placed = records(workers.settings, CONSENTS)
    asked = workers.forget(TOLD_MS)
    workers.fold()
    send_raw(workers.settings, placed.value, CONSENTS, key=b"ada")
    workers.again(ERASURES, asked)
    assert workers.said() == (None, True), "its tombstone says that it is done"
    send_raw(workers.settings, asked.value, ERASURES, key=b"ada")
    workers.again(ERASURES, [one for one in records(workers.settings, ERASURES) if one.key == b"ada"][-1])
    assert workers.said() == (None, None)


def test_what_was_denied_since_an_erasure_was_asked_stays_where_that_is_tried_again(workers: Workers) -> None:
    value = workers.forget(TOLD_MS).value
    workers.say(TOLD_MS + 60_000, personalise=False)
    for record in records(workers.settings, ERASURES):
        if record.value and b"digest" in record.value:
            workers.keep(record)
    workers.fold()
    send_raw(workers.settings, value, ERASURES, key=b"ada", timestamp_ms=TOLD_MS)
    workers.again(ERASURES, [one for one in records(workers.settings, ERASURES) if one.key == b"ada"][-1])
    workers.fold()
    assert workers.said() == (Said(personalise=False), False)


def test_a_store_that_has_lost_who_was_forgotten_is_told_before_any_word_is_told_again(workers: Workers) -> None:
    workers.forget(TOLD_MS)
    workers.say(TOLD_MS - 1, personalise=True)
    places = len(records(workers.settings, EVENTS))
    workers.store.erase(None)
    other = Workers(workers.settings, workers.store)
    other.read_all()
    assert [one.value for one in records(workers.settings, CONSENTS)][-1] is None
    assert len(records(workers.settings, EVENTS)) == places


@pytest.mark.parametrize("said", [{"personalise": False}, {"personalise": True, "train": False}], ids=["all", "some"])
@pytest.mark.parametrize("erases", ["later", "meanwhile", "meanwhile, and is killed"])
def test_what_was_denied_since_an_erasure_was_asked_stays_where_it_is_told_first(
    workers: Workers, said: dict[str, bool], erases: str
) -> None:
    send(workers.settings, [event(0)])
    asked = workers.ask(TOLD_MS)
    other = Workers(workers.settings, workers.store)

    def say() -> None:
        other.say(TOLD_MS + 1, **said)
        if "killed" in erases:
            raise KeyboardInterrupt

    if erases == "later":
        say()
    else:
        workers.before_places.append(say)
    with pytest.raises(KeyboardInterrupt) if "killed" in erases else nullcontext():
        workers.again(ERASURES, asked)
    if "killed" in erases:
        workers.again(ERASURES, asked)
    other.again(CONSENTS, records(workers.settings, CONSENTS)[-1])
    workers.fold()
    assert workers.said() == (Said(**said), said["personalise"])
    ends = [len(records(workers.settings, topic)) for topic in (CONSENTS, EVENTS)]
    workers.again(ERASURES, asked)
    assert [len(records(workers.settings, topic)) for topic in (CONSENTS, EVENTS)] == ends, "done is done"


@pytest.mark.parametrize("topic", [USERS, IDENTITIES, ERASURES, CONSENTS], ids=lambda topic: topic.name)
def test_who_was_forgotten_is_known_before_a_topic_is_read_from_where_a_store_is_that_lost_all(
    workers: Workers, topic: Topic
) -> None:
    workers.forget(TOLD_MS)
    workers.store.erase(None)
    parts = MagicMock(retry=Retry(threading.Event(), lambda _: None))
    agents = Agents(MagicMock(), workers.settings, workers.store, MagicMock(), MagicMock(), MagicMock(), parts)
    asyncio.run(agents._positions(topic))
    assert workers.store.erased(["ada"])["ada"].time_ms == TOLD_MS


def test_a_word_whose_place_lies_before_that_of_an_erasure_which_it_came_after_gets_another(workers: Workers) -> None:
    send(workers.settings, [event(0)])
    asked, other = workers.ask(TOLD_MS), Workers(workers.settings, workers.store)
    held = list[tuple[Topic, bytes, bytes | None]]()
    other.after_places.append(lambda *sent: held.append(sent))  # it stands still between two of its steps
    other.say(TOLD_MS + 1, personalise=True, train=False)
    workers.again(ERASURES, asked)
    for topic, key, value in held:
        send_raw(workers.settings, value, topic, key=key)
    for _ in range(3):
        other.again(CONSENTS, records(workers.settings, CONSENTS)[-1])
    workers.fold()
    assert workers.said() == (Said(personalise=True, train=False), True)
    assert len([one for one in records(workers.settings, CONSENTS) if one.value]) == 4, "once more, and no more"


@pytest.mark.parametrize("told_ms", [TOLD_MS, TOLD_MS + 1], ids=["of before", "of later"])
def test_attributes_that_come_while_a_denial_is_told_stay_only_if_they_are_of_later(
    workers: Workers, told_ms: int
) -> None:
    def tell() -> None:
        value = b'{"user_id":"ada","attributes":{"plan":"old"}}'
        send_raw(workers.settings, value, USERS, key=b"ada", timestamp_ms=told_ms)
        other.take_back(USERS, records(workers.settings, USERS))

    other = Workers(workers.settings, workers.store)
    workers.before_places.append(tell)
    workers.say(TOLD_MS, personalise=False)
    assert bool(records(workers.settings, USERS)[-1].value) == (told_ms > TOLD_MS)
