"""Statistics stay exact where a store is filled again by several, one after another, with users who are forgotten."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any, cast

import pytest
from kafka import OffsetAndMetadata, TopicPartition
from prometheus_client import CollectorRegistry

from headwater.consent import CONSENT, Consent
from headwater.kafka import consumer, end_offsets, read_partitions
from headwater.privacy import FORGET, Erased, fact_of
from headwater.process import Retry
from headwater.settings import Settings
from headwater.topics import ERASURES, EVENTS, topic_name
from headwater.wire import encode
from streams.audit import audit
from streams.erasing import seed_erased
from streams.features.fold import Limits
from streams.features.store import FeatureStore
from streams.losses import Losses
from streams.past_refusals import LogReading, PastRefusals
from streams.rebuild import past_ghosts, rebuilt
from streams.refill import Refill
from streams.rounds import EventRounds
from streams.running_audit import audit_running
from streams.streams_metrics import StreamsMetrics
from tests.worlds.streams import event, partition_of, records, send, send_raw, storing

LOG = [
    event(0, type="like"),
    event(1),
    event(2, type="impression", items=("film-1", "film-2"), item_id="film-1", request_id="r1"),
    event(1),  # sent twice
    event(4, type="unlike", item_id="film-0"),
    event(5, type="impression", items=("film-1", "film-2"), item_id="film-1", request_id="r1"),
    event(6, type=FORGET, item_id="-"),
    event(7),
]


class Unsent:
    """Takes examples and sends none."""

    async def send_segments(self, *_: Any) -> None:
        pass


def rounds(settings: Settings, store: FeatureStore) -> EventRounds:
    """Those of a worker that has just started."""

    def nothing(_: Any) -> Mapping[Any, Any]:
        return {}

    metrics, retry = StreamsMetrics(CollectorRegistry()), Retry(threading.Event(), lambda _: None)
    log = LogReading(
        cast(Any, nothing),
        PastRefusals(settings, EVENTS, retry),
        lambda standing: past_ghosts(settings, standing, store.slots.of, lambda: None),
    )
    return EventRounds(
        settings.streams, Limits.of(settings), store, cast(Any, Unsent()), metrics, Losses(metrics), retry, log
    )


def forgotten(settings: Settings) -> list[Any]:
    """The log of a user whose erasure is known; its records."""
    send(settings, LOG)
    place = partition_of(settings, "ada")
    with storing(settings) as store:
        tell(settings, store, Erased(event(6).event_time, place, 6))
    return [record for record in records(settings, EVENTS) if record.partition == place]


def tell(settings: Settings, store: FeatureStore, erased: Erased) -> None:
    """That `ada` is forgotten, as the worker that has found her erasure does."""
    fact = fact_of("ada", erased)
    send_raw(settings, encode(fact), ERASURES, key=fact.digest.encode())
    store.keep_erased([fact])


async def fold_each(
    settings: Settings, store: FeatureStore, log: list[Any], told_at: int = -1, erased: Erased | None = None
) -> None:
    """By one worker, record by record; before the one of that number it hears of an erasure."""
    one = rounds(settings, store)
    await one.positions()
    for number, message in enumerate(log):
        if number == told_at and erased is not None:
            tell(settings, store, erased)
        assert await one.run([message]) is None


@pytest.mark.parametrize("shards", [1, 8])
@pytest.mark.parametrize("cut", range(1, 7))
def test_a_worker_that_takes_over_counts_for_items_as_the_one_before(settings: Settings, cut: int, shards: int) -> None:
    settings = settings.model_copy(update={"redis": settings.redis.model_copy(update={"shards": shards})})
    log = forgotten(settings)

    with storing(settings) as store:
        store.claim()
        for some in (log[:cut], log[cut:]):
            asyncio.run(fold_each(settings, store, some))
        assert store.read_users(["ada"]).states["ada"].count == 1
    assert audit(settings).first_difference is None


@pytest.mark.parametrize("shards", [1, 8])
@pytest.mark.parametrize("back_to", range(6, 9))
def test_records_that_come_twice_in_a_batch_count_once(settings: Settings, back_to: int, shards: int) -> None:
    settings = settings.model_copy(update={"redis": settings.redis.model_copy(update={"shards": shards})})
    log = forgotten(settings)

    async def fold(store: FeatureStore) -> None:
        one = rounds(settings, store)
        await one.positions()
        assert await one.run([*log, *log[len(log) - back_to :]]) is None

    with storing(settings) as store:
        store.claim()
        asyncio.run(fold(store))
        assert store.read_users(["ada"]).states["ada"].count == 1
    assert audit(settings).first_difference is None


@pytest.mark.parametrize("shards", [1, 8])
def test_a_worker_whose_writes_arrive_without_an_answer_counts_for_items_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, shards: int
) -> None:
    settings = settings.model_copy(update={"redis": settings.redis.model_copy(update={"shards": shards})})
    log = forgotten(settings)

    with storing(settings) as store:
        store.claim()
        once = store.apply
        monkeypatch.setattr(store, "apply", lambda batch: [once(batch), once(batch)][-1])  # as who had no answer does
        asyncio.run(fold_each(settings, store, log))
    assert audit(settings).first_difference is None


@pytest.mark.parametrize("shards", [1, 8])
@pytest.mark.parametrize("told_at", range(6, 11))
def test_a_worker_counts_no_event_of_before_an_erasure_that_comes_after_it_and_before_the_next(
    settings: Settings, told_at: int, shards: int
) -> None:
    settings = settings.model_copy(update={"redis": settings.redis.model_copy(update={"shards": shards})})
    forgotten(settings)
    again = event(20, type=FORGET, item_id="-")
    send(settings, [event(3), event(2, type="click", item_id="film-1"), again, event(21)])  # two of before, come late
    place = partition_of(settings, "ada")
    log = [record for record in records(settings, EVENTS) if record.partition == place]

    with storing(settings) as store:
        store.claim()
        asyncio.run(fold_each(settings, store, log, told_at, Erased(again.event_time, place, 10)))
        assert store.read_users(["ada"]).states["ada"].count == 1
    assert audit(settings).first_difference is None


@pytest.mark.parametrize("told_at", [1, 3, 5])
def test_a_word_of_who_is_forgotten_further_on_holds_from_its_place_whenever_the_erasure_is_heard_of(
    settings: Settings, told_at: int
) -> None:
    no = Consent(personalise=False, analyse=False)
    erasure = event(20, type=FORGET, item_id="-")
    denied = event(3, type=CONSENT, item_id="-", consent=no)
    send(settings, [event(0), event(1), event(2), denied, event(4), event(1), event(5), erasure, event(21)])
    place = partition_of(settings, "ada")

    with storing(settings) as store:
        store.claim()
        log = records(settings, EVENTS)
        asyncio.run(fold_each(settings, store, log, told_at, Erased(erasure.event_time, place, 7)))
    assert audit(settings).first_difference is None


def test_who_is_forgotten_in_one_partition_is_so_in_the_next_of_the_same_batch(settings: Settings) -> None:
    erasure = event(9, type=FORGET, item_id="-")
    for partition, several in {0: [event(0), erasure], 1: [event(3), event(12)]}.items():
        for one in several:
            send_raw(settings, encode(one), partition=partition, key=b"ada")

    async def fold() -> None:
        one = rounds(settings, store)
        await one.positions()
        assert await one.run(sorted(records(settings, EVENTS), key=lambda record: record.partition)) is None

    with storing(settings) as store:
        store.claim()
        asyncio.run(fold())
        assert [entry.time_ms for entry in store.read_users(["ada"]).states["ada"].history] == [event(12).event_time]


def test_a_store_that_has_lost_who_was_forgotten_is_told_before_it_is_folded_into(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten(settings)
    with storing(settings) as store:
        store.claim()
        known = store.erased(["ada"])
        store.erase()
        store.claim()
        seed_erased(settings, store)
        assert store.erased(["ada"]) == known
        assert store.put_erased((), 0, 0, store.standing(ERASURES)) == "written"
        monkeypatch.setattr("streams.erasing.erased_users", lambda _: pytest.fail("read where nothing is lost"))
        seed_erased(settings, store)


def test_a_rebuild_that_was_killed_goes_on_with_what_it_had_read(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten(settings)
    name, group = topic_name(EVENTS, settings.kafka.prefix), consumer(settings.kafka, "streams")
    ends = end_offsets(settings.kafka, EVENTS)
    group.commit({TopicPartition(name, number): OffsetAndMetadata(end, "", -1) for number, end in ends.items()})
    group.close()
    monkeypatch.setattr("streams.refill.SLICE_EVENTS", 1)
    monkeypatch.setattr("streams.rebuild.TOLD_EVERY", 2)

    def killed(topic: str, read: int, _: int) -> None:
        if (topic, read) == (EVENTS.name, 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Refill(settings, killed).run()
    Refill(settings, lambda *_: None).run()
    assert audit(settings).first_difference is None


@pytest.mark.parametrize(
    "place", [{"type": FORGET}, {"type": CONSENT, "consent": Consent(personalise=False)}], ids=["erasure", "denial"]
)
def test_what_comes_late_is_known_by_a_place_of_the_log_that_no_fact_tells_of(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, place: dict[str, Any]
) -> None:
    send(settings, [event(0), event(5, item_id="-", **place), event(2), event(3), event(9)])
    monkeypatch.setattr("streams.running_audit.ROWS", 1)

    with storing(settings) as store:
        store.claim()
        asyncio.run(fold_each(settings, store, records(settings, EVENTS)))
        state = store.read_users(["ada"]).states["ada"]
        again = rebuilt(settings, {"ada": store.marks()}, lambda: None)["ada"]
    assert (again.count, [*again.history], again.word) == (state.count, [*state.history], state.word)
    found = audit_running(settings)
    assert found.ok, found.differences


def test_of_the_log_only_what_may_tell_of_somebody_who_is_forgotten_further_on_is_read(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = next(user for user in map(str, range(99)) if partition_of(settings, user) != partition_of(settings, "ada"))
    log, read = forgotten(settings), []
    send(settings, [event(0, other)])
    of_other = [record for record in records(settings, EVENTS) if record.partition != log[0].partition]

    def reading(kafka: Any, topic: Any, end: Mapping[int, int]) -> Any:
        read.append(dict(end))
        return read_partitions(kafka, topic, end=end)

    async def fold() -> None:
        for some in (of_other, log[:3], log[3:]):
            one = rounds(settings, store)
            await one.positions()
            assert await one.run(some) is None
            past_ghosts(settings, store.standing(EVENTS), store.slots.of, lambda: None)

    monkeypatch.setattr("streams.rebuild.read_partitions", reading)
    with storing(settings) as store:
        store.claim()
        asyncio.run(fold())
    end = {log[0].partition: log[2].offset + 1}
    assert read == [end, end]  # by the worker that goes on, too; no other partition, and nothing once all is folded
