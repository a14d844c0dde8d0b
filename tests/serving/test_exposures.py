"""What goes out is shown: each list becomes one event on the topic `events`, and answers never wait for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from prometheus_client import CollectorRegistry

from headwater.client.lanes import partition_of
from headwater.events import MAX_SHOWN, new_id, session_number
from headwater.kafka import producer
from headwater.recommendations import Recommendation, RecommendedItem, Request
from headwater.settings import Settings
from headwater.topics import EVENTS
from headwater.wire import EventRow, encode, read_events
from serving import exposures
from serving.catalogue import Catalogue
from serving.exposures import ExposureSender, exposure_of
from serving.scorer import Scorer
from serving.serving_metrics import ServingMetrics
from tests.worlds.processes import LiveWorker, eventually
from tests.worlds.serving import World, items_of, put_trained_model
from tests.worlds.topic_reading import everything, limit_records, rows

Start = Callable[..., LiveWorker]


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    one = World(settings)
    put_trained_model(one)
    yield one
    one.close()


def shown(world: World) -> list[EventRow]:
    return rows(everything(world.settings.kafka, EVENTS.name))


def test_a_list_that_was_drawn_by_chance_says_so_in_its_exposure() -> None:
    asked, answer = listing("r1", "film-1", "film-2")
    assert exposure_of(asked, answer).propensities is None
    drawn = answer.items[1].model_copy(update={"propensity": 0.25})
    event = exposure_of(asked, answer.model_copy(update={"items": (answer.items[0], drawn)}))
    (row,) = read_events(encode(event), key=b"ann", partition=0, offset=0, timestamp_ms=0)
    assert isinstance(row, EventRow)
    assert (row.items, row.propensities) == (("film-1", "film-2"), (1.0, 0.25))


def counted(serving: LiveWorker, outcome: str, times: int) -> None:
    line = f'headwater_exposures_total{{outcome="{outcome}"}} {times}.0'
    eventually(lambda: line in serving.get("/metrics")[1], what=line)


def listing(request_id: str, *items: str, at_ms: int = 0) -> tuple[Request, Recommendation]:
    listed = tuple(RecommendedItem(item_id=item, rank=rank, score=0.0) for rank, item in enumerate(items, 1))
    asked = Request(request_id=request_id, user_id="ann")
    return asked, Recommendation(request_id=request_id, user_id="ann", items=listed, answered_time=at_ms)


def test_each_list_that_goes_out_is_one_event_of_its_user_whatever_else_is_asked(world: World, worker: Start) -> None:
    serving = worker("serving.worker")
    answer = world.recommend("ann", k=3)
    (event,) = eventually(lambda: shown(world), what="the exposure")
    assert (event.user_id, event.type, event.request_id) == ("ann", "served", answer.request_id)
    assert (list(event.items), event.item_id) == (items_of(answer), items_of(answer)[0])
    assert event.time_ms == answer.answered_time
    (record,) = everything(world.settings.kafka, EVENTS.name)
    partitions = len(world.producer.partitions_for(world.topic(EVENTS)))
    assert (record.key, record.partition) == (b"ann", partition_of("ann", partitions))

    request_id = new_id()
    for _ in range(2):
        world.ask("bob", request_id=request_id, k=2)
    for refused in ({"k": 0}, {"deadline_ms": 1, "request_time": 1}, {"filters": {"none": 1}}):
        assert world.recommend("bob", **refused).error is not None
    assert not world.recommend("bob", candidates=["nothing known"]).items
    assert world.answer(world.ask("", user_id=None, context_item="film-3")).items  # who has no id is shown nothing
    world.answer(world.ask("s1", user_id=None, session_id="s1"))
    last = world.recommend("bob", k=1).request_id
    eventually(lambda: last in {one.request_id for one in shown(world)}, what="the last exposure")
    assert [one.request_id for one in shown(world) if one.user_id == "bob"] == [request_id, last]
    assert {one.user_id: one.session for one in shown(world)} == {"ann": None, "bob": None, "s1": session_number("s1")}

    limit_records(world.settings.kafka, EVENTS.name, 50)  # from now on the broker refuses all of them
    for _ in range(2):
        assert world.recommend("ann", k=3).items
    counted(serving, "lost", 2)
    limit_records(world.settings.kafka, EVENTS.name)
    assert world.recommend("ann", k=3).items
    counted(serving, "sent", 5)


def test_a_request_that_is_answered_again_shows_its_list_once() -> None:
    one, again = exposure_of(*listing("r" * 256, "a", "b", at_ms=1)), exposure_of(*listing("r" * 256, "b", at_ms=9))
    assert one.event_id == again.event_id != exposure_of(*listing("r2", "a")).event_id


def test_of_a_list_longer_than_any_event_the_first_items_are_told() -> None:
    ids = [f"item-{number}" for number in range(MAX_SHOWN + 200)]
    asked, answer = listing("r1", *ids)
    drawn = tuple(item.model_copy(update={"propensity": 0.5}) for item in answer.items)
    event = exposure_of(asked, answer.model_copy(update={"items": drawn}))
    assert (event.items, event.propensities) == (tuple(ids[:MAX_SHOWN]), (0.5,) * MAX_SHOWN)


def test_a_topic_that_takes_no_exposure_holds_no_request_up(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = producer(settings.kafka, linger_ms=60_000)  # sends nothing before it is flushed
    metrics = ServingMetrics(CollectorRegistry(), Scorer(Catalogue(), "cpu"))
    sender = ExposureSender(late, metrics, settings.kafka.prefix)
    try:
        sender.send(*listing("r1", "a"), (0, 5))
        assert (sender.holds((0, 5)), list(sender.let_go())) == (True, [])
        monkeypatch.setattr(exposures, "HELD_S", 0.0)
        monkeypatch.setattr(exposures, "MOST_UNDER_WAY", 2)
        sender.send(*listing("r2", "a"), (0, 6))
        sender.send(*listing("r3", "a"), (0, 7))
        assert not sender.holds((0, 7))  # dropped: too many are under way
        late.flush(10)
        assert sorted(sender.let_go()) == [(0, 5), (0, 6)]
        assert list(sender.let_go()) == []
    finally:
        late.close()
    assert {row.request_id for row in rows(everything(settings.kafka, EVENTS.name))} == {"r1", "r2"}


def test_an_exposure_has_the_context_of_its_request_as_any_event_has_it() -> None:
    request = Request(user_id="ann", context={"device": "app", "member": True, "url": "x" * 90_000})
    item = RecommendedItem(item_id="film-1", rank=1, score=1.0)
    event = exposure_of(request, Recommendation(request_id=request.request_id, user_id="ann", items=(item,)))
    (row,) = read_events(encode(event), key=b"ann", partition=0, offset=0, timestamp_ms=0)
    assert isinstance(row, EventRow)
    assert row.properties == {"device": "app", "member": True, "url": "x" * 256}
    plain = exposure_of(Request(user_id="ann"), Recommendation(request_id="r", user_id="ann", items=(item,)))
    assert b"properties" not in encode(plain)
