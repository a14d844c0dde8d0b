"""In one process: faults stay with their record, answers are remembered for a minute, the store may be away."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from headwater.errors import Unavailable
from headwater.events import Item, now_ms
from headwater.process import Operations
from headwater.recommendations import (
    AFTER_NOT_REACHED,
    EXACT,
    REASONS_LEFT_OUT,
    Because,
    Recommendation,
    RecommendedItem,
)
from headwater.settings import ServingSettings, Settings
from headwater.wire import decode_recommendation, encode
from serving import answering
from serving.answer_cache import KEPT_ANSWERS, KEPT_S, Answered
from serving.answering import Answering
from serving.catalogue import Catalogue
from serving.message_size import sendable
from serving.scorer import Scorer
from serving.serving_metrics import ServingMetrics
from serving.surfaces import Surfaces
from serving.topic_follower import CatalogueFollower
from streams.features.state import EMPTY
from streams.features.store import FeatureStore, Reading
from streams.features.store.values import SlotMarks
from tests.worlds.processes import eventually
from tests.worlds.serving import CATALOGUE, World, request


@dataclass
class RawRecord:
    """A consumed record."""

    value: bytes | None
    key: bytes | None = b"ann"
    partition: int = 0
    offset: int = 0
    timestamp: int = field(default_factory=lambda: time.time_ns() // 1_000_000)
    headers: list[tuple[str, bytes]] = field(default_factory=list)


class StoreAway:
    """A feature store that nobody reaches."""

    def read_users(self, _users: list[str], **_: object) -> Reading:
        raise Unavailable("no Redis answers")

    def popularity(self, _count: int) -> None:
        raise Unavailable("no Redis answers")


class NeverReached:
    """A feature store that knows nothing yet."""

    def read_users(self, users: list[str], **_: object) -> Reading:
        return Reading(
            dict.fromkeys(users, EMPTY), {0: SlotMarks({}, {}, {}, {})}, None, slot_of=dict.fromkeys(users, 0)
        )


class OneNodeAway(StoreAway):
    """A cluster of which a node is away, and bob with it."""

    def read_users(self, _users: list[str], **_: object) -> Reading:
        marks = SlotMarks({}, {0: 7}, {}, {})
        away = {"bob": Unavailable("that node does not answer")}
        return Reading({"ada": EMPTY}, {0: marks}, None, slot_of={"ada": 0, "bob": 1}, away=away)


@pytest.fixture
def worker() -> Answering:
    scorer = Scorer(Catalogue(CATALOGUE), "cpu")
    metrics = ServingMetrics(CollectorRegistry(), scorer)
    return Answering(ServingSettings(), scorer, cast(FeatureStore, StoreAway()), metrics)


def answers(worker: Answering, *values: bytes) -> list[Recommendation]:
    sent = worker.answer([RawRecord(value) for value in values])
    return [decode_recommendation(one.value) for one in sent]


def test_a_fault_of_ours_in_one_request_is_a_dead_letter_and_the_others_are_answered(
    worker: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = answering.decode_request

    def faulty(value: bytes | None, written_ms: int | None = None) -> Any:
        if b"hostile" in (value or b""):
            raise RecursionError("maximum recursion depth exceeded")
        return decode(value, written_ms)

    monkeypatch.setattr(answering, "decode_request", faulty)
    sent = worker.answer(
        [
            RawRecord(b'{"user_id": "hostile"}'),
            RawRecord(b"hostile", key=None),
            RawRecord(encode(request())),
        ]
    )
    assert [one.refused.reason if one.refused else None for one in sent] == ["internal", "internal", None]
    assert [one.value is None for one in sent] == [True, True, False]


def test_a_fault_of_ours_in_one_item_is_counted_and_the_others_are_put(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    operations = Operations("serving", settings.operations)
    catalogue = Catalogue()
    scorer = Scorer(catalogue, "cpu")
    metrics = ServingMetrics(operations.registry, scorer)
    follower = CatalogueFollower(settings, operations, metrics, catalogue, Surfaces())
    put = catalogue.put

    def faulty(item: Item, written_ms: int) -> None:
        if item.item_id == "film-3":
            raise KeyError("tags")
        put(item, written_ms)

    monkeypatch.setattr(catalogue, "put", faulty)
    world = World(settings)
    world.put_items(CATALOGUE)
    follower.start()
    eventually(follower.caught_up.is_set, what="the catalogue as the topic had it")
    operations.stopping.set()
    follower.join(30)
    world.close()
    assert follower.error is None
    assert len(catalogue) == len(CATALOGUE) - 1
    assert operations.registry.get_sample_value("headwater_items_failed_total") == 1
    assert operations.registry.get_sample_value("headwater_items_refused_total") == 0


def test_with_the_store_away_an_answer_does_not_claim_what_after_asks_for(worker: Answering) -> None:
    for _ in range(2):  # the second while the store is given a rest
        plain, read_own = answers(worker, encode(request()), encode(request(after={"0": 1})))
        assert plain.receipt.policy == (EXACT,)
        assert read_own.receipt.policy == (EXACT, AFTER_NOT_REACHED)
        assert read_own.receipt.fallback == "no_model"


def test_refusals_are_not_remembered(worker: Answering) -> None:
    refused, answered = encode(request(filters={"yaer": 1})), encode(request(k=3))
    first = answers(worker, refused, answered, answered)
    assert first[1] == first[2]
    worker.scorer.catalogue.put(Item(item_id="dated", attributes={"yaer": 1}))
    again = answers(worker, answered, refused)
    assert again[0] == first[1]
    assert [item.item_id for item in again[1].items] == ["dated"]


def test_a_literal_request_id_gets_fresh_answers_after_a_minute(
    worker: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The README's own example: {"request_id": "r1", "user_id": "visitor-1", "k": 5}."""
    asked = b'{"request_id": "r1", "user_id": "visitor-1", "k": 5}'
    now_s = time.monotonic()
    monkeypatch.setattr(answering.time, "monotonic", lambda: now_s)
    (first,) = answers(worker, asked)
    worker.scorer.catalogue.remove(first.items[0].item_id)
    assert answers(worker, asked) == [first]
    now_s += KEPT_S
    (fresh,) = answers(worker, asked)
    assert first.items[0].item_id not in {item.item_id for item in fresh.items}


def test_what_is_remembered_is_bounded_by_count_and_bytes_and_age() -> None:
    answered = Answered(kept_bytes=1_000_000)
    for number in range(KEPT_ANSWERS + 100):
        answered.put(("ann", str(number)), b"", b"x", "personal", now_s=0)
    assert len(answered) < KEPT_ANSWERS
    assert answered.bytes <= 1_000_000
    for number in range(50):
        answered.put(("bob", str(number)), b"", b"x" * 300_000, "personal", now_s=1)
        answered.put(("bob", str(number)), b"", b"x" * 300_000, "personal", now_s=1)
    assert len(answered) == 3
    assert answered.get(("bob", "49"), b"", now_s=1) is not None
    answered.put(("cleo", "0"), b"", b"x", "personal", now_s=1 + KEPT_S)
    assert len(answered) == 1
    answered.put(("dan", "0"), b"", b"x" * 2_000_000, "personal", now_s=1 + KEPT_S)
    assert (len(answered), answered.bytes) == (0, 0)


def test_an_answer_too_large_for_kafka_goes_without_reasons_and_says_so() -> None:
    why: dict[str, Any] = {
        "reasons": ("x" * 800,),
        "contributions": {"memory" * 50: 1.0},
        "because": (Because(item_id="y" * 200, type="click", share=0.5),),
    }
    items = tuple(RecommendedItem(item_id=f"i{n}", rank=n + 1, score=0.0, **why) for n in range(1000))
    value = sendable(Recommendation(request_id="r", user_id="ann", items=items))
    assert value is not None
    answer = decode_recommendation(value)
    first = answer.items[0]
    assert (len(answer.items), first.reasons, first.contributions, first.because) == (1000, (), {}, ())
    assert answer.receipt.policy == (EXACT, REASONS_LEFT_OUT)


@pytest.mark.parametrize(
    ("waited_ms", "takes_ms", "said"),
    [
        (5_000, 0.0, None),
        (9_000, 0.0, None),
        (9_000, 3_000.0, "and an answer takes 3000 ms now: more is asked than can be answered"),
        (4_000, 60_000.0, None),  # it has hardly waited: how long others took says little of it
        (11_000, 0.0, "deadline_ms is 10000"),
    ],
)
def test_what_will_be_too_late_is_refused_before_anything_is_scored_for_it(
    worker: Answering, waited_ms: int, takes_ms: float, said: str | None
) -> None:
    worker.answer_ms = takes_ms
    (answer,) = answers(worker, encode(request(deadline_ms=10_000, request_time=now_ms() - waited_ms)))
    if said is None:
        assert answer.error is None
    else:
        assert answer.error is not None
        assert (answer.error.code, said in answer.error.message) == ("expired", True)
        assert worker.answer_ms == takes_ms


def test_while_a_node_of_a_cluster_is_away_its_users_alone_do_without_features(
    worker: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "store", OneNodeAway())
    asked = [encode(request(user_id=user)) for user in ("ada", "bob")]
    assert [one.receipt.feature_offsets for one in answers(worker, *asked)] == [{"0": 7}, {}]


def test_a_deadline_that_passes_while_a_request_waits_for_its_features_is_told(
    worker: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "store", NeverReached())
    asked_ms = now_ms()
    assert worker.answer([RawRecord(encode(request(after={"0": 1}, deadline_ms=9_000, request_time=asked_ms)))]) == []
    assert len(worker.waiting) == 1
    monkeypatch.setattr(answering, "now_ms", lambda: asked_ms + 10_000)
    (expired,) = worker.answer([])
    assert (expired.outcome, worker.waiting) == ("expired", [])
