"""What somebody withdraws is gone from store, examples and answers, and stays so when all is folded again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any, cast

import orjson
import pytest
from kafka import TopicPartition
from prometheus_client import CollectorRegistry

from console.privacy.consenting import newest_said
from console.privacy.item_report import item_report
from console.privacy.renaming import carry_words
from headwater import Client
from headwater.consent import CONSENT, Consent, Said, Word
from headwater.errors import Unavailable
from headwater.events import now_ms
from headwater.examples import Example, Kind, unpack
from headwater.kafka import BoundedReader, admin_client, end_offsets
from headwater.privacy import FORGET, Erased, fact_of
from headwater.process import Retry
from headwater.settings import Settings
from headwater.topics import CONSENTS, ERASURES, EVENTS, EXAMPLES, Topic, topic_name
from headwater.wire import decode_recommendation, encode
from serving.answering import Answering
from serving.catalogue import Catalogue
from serving.scorer import Scorer
from serving.serving_metrics import ServingMetrics
from streams.consenting import ConsentRounds, seed_words, with_words
from streams.erasing import ErasureRounds
from streams.features.fold import Limits
from streams.features.state import is_from_before
from streams.features.store import FeatureStore
from streams.refill import Refill
from tests.privacy.test_verbs import environment
from tests.serving.test_answering import RawRecord
from tests.worlds.commands import headwater
from tests.worlds.processes import LiveWorker, eventually
from tests.worlds.serving import CATALOGUE, request, trained
from tests.worlds.streams import asking, event, folded_all, records, send, send_raw, storing

Start = Callable[..., LiveWorker]


@pytest.fixture
def asked(settings: Settings) -> Settings:
    """A world in which people are asked, and all is granted until they withdraw it."""
    return asking(settings)


def word_of(store: FeatureStore, user: str) -> Said | None:
    word = store.read_users([user]).states[user].word
    return None if word is None else word.said


def answered(settings: Settings, store: FeatureStore, *requests: Any) -> list[Any]:
    """What a serving worker with a model answers, and whether it tells what it showed."""
    scorer = Scorer(Catalogue(CATALOGUE), "cpu")
    scorer.load(trained().publish(created_ms=1), 100)
    metrics = ServingMetrics(CollectorRegistry(), scorer)
    worker = Answering(settings.serving, scorer, store, metrics, Limits.of(settings))
    made = worker.answer([RawRecord(encode(one)) for one in requests])
    return [(decode_recommendation(cast(bytes, one.value)), one.listed is not None) for one in made]


def test_a_withdrawal_takes_away_what_was_kept_and_a_rebuild_keeps_it_away(asked: Settings, worker: Start) -> None:
    one = worker("streams.worker", given=asked)
    with Client(settings=asked.kafka) as client, storing(asked) as store:
        client.put_users([{"user_id": "ada", "attributes": {"plan": "family"}}]).result(30)
        send(asked, [event(n, user) for n in range(4) for user in ("ada", "bob")])
        eventually(lambda: store.read_users(["ada"]).attributes, what="attributes")
        assert folded_all(asked).ok  # what is folded after the word is known teaches nothing
        client.set_consent("ada", personalise=False, train=True).result(30)
        eventually(lambda: word_of(store, "ada") == Said(False, True), what="the word is in the state")
        send(asked, [event(9, "ada"), event(9, "bob")])
        client.set_consent("bob", train=False).result(30)
        eventually(lambda: word_of(store, "bob") == Said(train=False), what="bob's, too")
        send(asked, [event(10, "bob")])
        send_raw(asked, b'{"user_id":"ada","sells":true}', CONSENTS, key=b"ada")
        result = folded_all(asked)
        assert result.ok, result.first_difference

        def state() -> Any:
            reading = store.read_users(["ada", "bob"])
            found = {user: (len(state.history), state.word) for user, state in reading.states.items()}
            return found, reading.attributes, store.item_statistics(["film-1", "film-2"])

        before = state()
        assert (before[0]["ada"][0], before[0]["bob"][0], before[1]) == (0, 6, {})
        every = [each for record in records(asked, EXAMPLES) for each in unpack(record.value)]
        kinds = [each.kind for each in every if isinstance(each, Example) and each.user_id == "ada"]
        assert kinds == [Kind.EVENT] * 4 + [Kind.ERASED]
        assert [each.kind for each in every if isinstance(each, Example) and each.user_id == "bob"][-1] is Kind.ERASED
        eventually(lambda: store.dead_letters() == {"schema": 1}, what="what is no word is a dead letter")
        assert one.metric("headwater_events_without_consent_total") == 1
        one.kill()
        store.erase()
        worker("streams.worker", given=asked)
        result = folded_all(asked)
        assert result.ok, result.first_difference
        assert state() == before
        words = [record for record in records(asked, EVENTS) if b"headwater.consent" in record.value]
        assert len(words) == 2, "what stands in the log is not told to it again"


def test_an_answer_without_consent_is_popular_and_says_so(asked: Settings, worker: Start) -> None:
    worker("streams.worker", given=asked)
    with Client(settings=asked.kafka) as client, storing(asked) as store:
        send(asked, [event(n, user, item_id=f"film-{n}") for n in range(4) for user in ("ada", "bob")])
        client.identify("ada", was="guest-7", event_time=event(3).event_time).result(30)
        send(asked, [event(8, "guest-7", item_id="film-8")])
        client.set_consent("ada", personalise=False).result(30)
        client.set_consent("bob", analyse=False).result(30)
        eventually(lambda: word_of(store, "ada") and word_of(store, "bob"), what="both words")
        client.identify("ada", was="guest-7", event_time=now_ms()).result(30)
        eventually(lambda: "ada" in store.read_users(["guest-7"]).people.get("guest-7", ()), what="linked again")
        recent = [{"item_id": "film-5", "type": "click", "event_time": event(9).event_time}]
        made = answered(
            asked, store, request(user_id="ada"), request(user_id="bob"),
            request(user_id="ada", recent_events=recent), request(user_id="guest-7"),
        )  # fmt: skip
        said = [(answer.receipt.fallback, answer.receipt.history_length, told) for answer, told in made]
        denied = ("no_consent", 0, True)
        assert said == [denied, (None, 4, True), denied, denied]
        client.set_consent("ada", personalise=False, analyse=False).result(30)
        eventually(lambda: word_of(store, "ada") == Said(False, None, False), what="the next word")
        ((_, told),) = answered(asked, store, request(user_id="ada"))
        assert not told, "what was shown counts for nothing, so nobody tells it"


def test_a_log_that_has_lost_a_word_is_folded_by_what_the_topic_says(asked: Settings) -> None:
    placed = b'{"user_id":"ada","personalise":false,"consent_time":1700000000000,"partition":0,"offset":5}'
    send_raw(asked, placed, CONSENTS, key=b"ada")
    send_raw(asked, b'{"user_id":"bob","train":false}', CONSENTS, key=b"bob")
    with storing(asked) as store:
        Refill(asked, lambda *_: None).run()
        ada = store.read_users(["ada"]).states["ada"]
        assert ada.word == Word(Said(personalise=False), 1_700_000_000_000)
        assert not is_from_before(ada, Erased(1_700_000_000_000, 0, 4)), "the word was told twice"
        assert with_words(asked, {}, ["ada", "bob"])["ada"].word == ada.word, "a state that was damaged, too"
        assert store.read_users(["bob"]).states["bob"].word is None, "its place is still to come"
        assert seed_words(asked, store, {}) == 0
        assert seed_words(asked, store, {0: 1}) == 0


def test_a_slot_that_is_lost_is_told_again_of_words_and_of_who_was_forgotten(asked: Settings) -> None:
    many = asked.model_copy(update={"redis": asked.redis.model_copy(update={"shards": 8})})
    with storing(many) as store:
        store.put_consents(0, 4, ["ada"])
        store.put_consents(0, 5, ["bob"])
        store.put_erased([fact_of("ada", Erased(1000, 0, 7))], 0, 3)
        store.put_erased([fact_of("bob", Erased(1000, 0, 8))], 0, 9)
        assert [store.standing(topic).marks() for topic in (CONSENTS, ERASURES)] == [{0: 5}, {0: 9}]
        store.erase(store.slots.of("ada"))
        assert [store.standing(topic).marks() for topic in (CONSENTS, ERASURES)] == [{}, {}]


class Sending:
    """Sends as the outbox does; once Kafka does not take what is for a topic."""

    def __init__(self, settings: Settings, fails: Topic | None = None) -> None:
        self._settings, self._fails = settings, fails

    async def send(self, topic: Topic, key: bytes, value: bytes | None) -> Any:
        if topic is self._fails:
            self._fails = None
            raise Unavailable("a broker is started again")
        return send_raw(self._settings, value, topic, key=key)


def test_what_forgets_stands_in_the_log_once_however_often_it_is_tried(asked: Settings) -> None:
    send_raw(asked, b'{"user_id":"ada","personalise":false}', CONSENTS, key=b"ada")
    send_raw(asked, b'{"user_id":"bob"}', ERASURES, key=b"bob")
    retry = Retry(threading.Event(), lambda _: None)
    with storing(asked) as store:
        denying = ConsentRounds(asked, store, cast(Any, Sending(asked, CONSENTS)), retry)
        asyncio.run(denying.run(records(asked, CONSENTS)))
        assert len(records(asked, EVENTS)) == 1
        forgetting = ErasureRounds(asked, store, cast(Any, Sending(asked, ERASURES)), retry, dict)
        asyncio.run(forgetting.run(records(asked, ERASURES)[:1]))
        assert len(records(asked, EVENTS)) == 2


def test_what_a_lost_store_is_told_again_of_erasures_is_looked_up_by_the_batch(
    asked: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each reading makes a client and reads the topic to its end: one for each erasure filled a store in twice the time
    and with twice the memory."""
    opened: list[Topic] = []

    class Counted(BoundedReader):
        def __init__(self, kafka: Any, topic: Topic) -> None:
            opened.append(topic)
            super().__init__(kafka, topic)

    def ends() -> dict[int, int]:
        opened.append(EVENTS)
        return end_offsets(asked.kafka, EVENTS)

    for n in range(12):
        send_raw(asked, b'{"user_id":"user-%d"}' % n, ERASURES, key=b"user-%d" % n)
    retry = Retry(threading.Event(), lambda _: None)
    with storing(asked) as store:
        rounds = ErasureRounds(asked, store, cast(Any, Sending(asked)), retry, ends)
        asyncio.run(rounds.run(records(asked, ERASURES)))
        sent = len(records(asked, EVENTS))
        monkeypatch.setattr("streams.erasing.BoundedReader", Counted)
        facts, refused = asyncio.run(rounds.run(records(asked, ERASURES)))
        assert (sum(map(len, facts.values())), refused) == (12, [])
        assert len(records(asked, EVENTS)) == sent == 12, "nobody is forgotten twice"
    assert sorted(topic.name for topic in opened) == ["erasures", "events"]


def test_a_worker_that_has_a_partition_again_goes_by_what_another_told_meanwhile(asked: Settings) -> None:
    def given(rounds: ConsentRounds, first: int, **said: Any) -> Any:
        send_raw(asked, orjson.dumps({"user_id": "ada", **said}), CONSENTS, key=b"ada")
        asyncio.run(rounds.run(records(asked, CONSENTS)[first:]))
        return orjson.loads(records(asked, CONSENTS)[-1].value)["train"]

    with storing(asked) as store:
        retry, outbox = Retry(threading.Event(), lambda _: None), cast(Any, Sending(asked))
        one, other = (ConsentRounds(asked, store, outbox, retry) for _ in range(2))
        assert given(one, 0, train=True, consent_time=1_700_000_001_000)
        assert not given(other, 2, train=False, consent_time=1_700_000_003_000)
        assert not given(one, 3, train=True, consent_time=1_700_000_002_000), "the older word takes no younger place"
        given(one, 6, train=True, partition=0, offset=0, consent_time=now_ms() + 10**10)
        assert not given(one, 6, train=False, consent_time=1_700_000_004_000), "what stands there was told by nobody"


def test_a_word_that_was_forgotten_is_said_again_by_nobody(asked: Settings) -> None:
    send_raw(asked, b'{"user_id":"ada","personalise":true,"train":true}', CONSENTS, key=b"ada")
    assert newest_said(asked, ["ada"]) == {"ada": Said(True, True)}
    send_raw(asked, None, CONSENTS, key=b"ada")
    assert newest_said(asked, ["ada"]) == {"ada": Said()}
    assert carry_words(asked.kafka, [("ada-by-another-key", "ada")]) == 0


def test_where_nobody_is_asked_the_topic_is_not_made_and_no_word_is_taken(settings: Settings, worker: Start) -> None:
    worker("streams.worker")
    with Client(settings=settings.kafka) as client, pytest.raises(Unavailable, match="consents"):
        client.set_consent("ada", train=False)


def test_the_verb_shows_grants_and_withdraws_for_all_ids_of_a_person(asked: Settings, worker: Start) -> None:
    worker("streams.worker", given=asked)
    send(asked, [event(n, user) for n in range(3) for user in ("ada", "guest-7")])
    with Client(settings=asked.kafka) as client:
        client.identify("ada", was="guest-7", event_time=event(3).event_time).result(30)
    plain = environment(asked)
    env = {**plain, "HEADWATER_PRIVACY__CONSENT": "opt-out"}
    with storing(asked) as store:
        eventually(lambda: "ada" in store.read_users(["ada"]).people, what="linked")
        shown = headwater("consent", "ada", **env)
        assert "guest-7: personalise granted by default, train granted by default" in shown.stdout
        done = headwater("consent", "ada", "--withdraw", "train", "--grant", "analyse", "--json", **env)
        said = orjson.loads(done.stdout)["ids"]["guest-7"]
        assert (said["said"], said["allowed"]["train"]) == ({"train": False, "analyse": True}, False)
        headwater("consent", "guest-7", "--alone", "--withdraw", "personalise", **env)
        assert (word_of(store, "guest-7"), word_of(store, "ada")) == (Said(False, False, True), Said(None, False, True))
    odd = headwater("consent", "ada", "--withdraw", "sell", **env)
    assert (odd.returncode, "is no purpose" in odd.stderr) == (2, True)
    off = headwater("consent", "ada", "--withdraw", "train", **plain)
    assert (off.returncode, "privacy.consent is off" in off.stderr) == (2, True)


def test_who_has_denied_it_is_not_analysed_when_retention_has_taken_the_word_from_the_log(asked: Settings) -> None:
    send(asked, [event(0, "wary", type=CONSENT, consent=Consent(analyse=False))])
    (place,) = [one.partition for one in records(asked, EVENTS)]
    told = {"user_id": "wary", "analyse": False, "consent_time": event(0).event_time, "partition": place, "offset": 0}
    send_raw(asked, orjson.dumps(told), CONSENTS, key=b"wary")
    with closing(admin_client(asked.kafka)) as admin:  # as retention does after thirty days
        admin.delete_records({TopicPartition(topic_name(EVENTS, asked.kafka.prefix), place): 1})
    send(asked, [event(1, user, item_id="film-9") for user in ("wary", "ann", "bob")])
    found = item_report(asked, 2)
    assert [(one.item_id, one.people, one.events) for one in found.items] == [("film-9", 2, {"click": 2})]
    assert found.withheld == 1


def test_analysts_are_told_of_items_what_enough_people_did(asked: Settings, worker: Start) -> None:
    worker("streams.worker", given=asked)
    many = [f"user-{n}" for n in range(4)]
    send(asked, [event(n, user, item_id="film-1") for n in range(2) for user in many])
    send(asked, [event(5, "user-1", item_id="film-1", type="purchase"), event(6, "user-1", item_id="rare")])
    send(asked, [event(7, user, item_id="film-2", type="impression", items=("film-2", "film-3")) for user in many])
    no = Consent(analyse=False)
    send(asked, [event(8, "user-3", item_id="film-3", consent=no), event(9, "wary", type=CONSENT, consent=no)])
    send(
        asked,
        [event(3, "wary", type=CONSENT, consent=Consent(analyse=True)), event(9, "back", type=CONSENT, consent=no)],
    )
    send(asked, [event(10, "back", type=FORGET), event(11, "back", item_id="film-9")])
    send(asked, [event(10, user, item_id="film-9") for user in ("wary", "user-0", "user-1", "user-2")])
    with Client(settings=asked.kafka) as client:
        client.identify("user-1", was="user-2", event_time=event(3).event_time).result(30)
    assert folded_all(asked).ok
    report = ("items", "--min-people", "3", "--json")
    with storing(asked) as store:
        eventually(lambda: "user-1" in store.read_users(["user-1"]).people, what="linked")
    told = headwater(*report, **environment(asked))
    found = orjson.loads(told.stdout)
    assert {one["item_id"]: (one["people"], one["events"]) for one in found["items"]} == {
        "film-1": (3, {"click": 8}), "film-2": (3, {"impression": 4}), "film-3": (3, {"impression": 4}),
        "film-9": (3, {"click": 4}),
    }, told.stderr  # fmt: skip
    assert (found["left_out"], found["withheld"]) == (1, 2)
    assert "user-" not in told.stdout
