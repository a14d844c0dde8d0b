"""The serving worker when it, or what it stands on, goes away: nothing is lost, and it says what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from embedded import EmbeddedBroker, EmbeddedStore, free_port
from headwater.kafka import ensure_topics
from headwater.recommendations import AFTER_NOT_REACHED, EXACT
from headwater.settings import Settings
from serving.scorer import cuda_is_there
from tests.worlds.processes import LiveWorker, eventually
from tests.worlds.serving import CATALOGUE, World, clicked, items_of, put_trained_model, trained
from tests.worlds.streams import server_of

Start = Callable[..., LiveWorker]


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    one = World(settings)
    one.put_items(CATALOGUE)
    yield one
    one.close()


@pytest.fixture
def serving(world: World, worker: Start) -> LiveWorker:
    put_trained_model(world)
    return worker("serving.worker")


@pytest.mark.any_broker
def test_a_killed_worker_loses_no_request(world: World, serving: LiveWorker, worker: Start) -> None:
    asked = [world.ask(f"user-{number % 7}", k=3) for number in range(150)]
    world.answer(asked[20])
    serving.kill()
    asked += [world.ask(f"user-{number % 7}", k=3) for number in range(150)]
    again = worker("serving.worker", wait=False)
    for request_id in asked:
        world.answer(request_id, 60)
    answered = Counter(answer.request_id for answer in world.answers)
    assert answered.keys() == set(asked)
    assert len(answered) == 300
    eventually(again.is_ready)
    assert again.stop() == 0


def test_without_redis_popular_items_of_the_model_answer(world: World, serving: LiveWorker, worker: Start) -> None:
    serving.stop()
    away = world.settings.model_copy(
        update={"redis": world.settings.redis.model_copy(update={"url": f"redis://127.0.0.1:{free_port()}/0"})}
    )
    blind = worker("serving.worker", given=away, wait=False)
    answer = world.recommend(k=3)
    assert answer.receipt.fallback == "no_features"
    assert len(answer.items) == 3
    assert answer.receipt.policy == (EXACT,)
    assert world.recommend(k=3, after={"0": 0}).receipt.policy == (EXACT, AFTER_NOT_REACHED)
    assert blind.metric("headwater_features_unavailable_total") >= 1
    assert blind.get("/readyz")[0] == 503
    assert blind.stop() == 0


@pytest.mark.any_broker
def test_sigterm_drains_and_commits(world: World, serving: LiveWorker, worker: Start) -> None:
    asked = [world.ask(f"user-{number}") for number in range(20)]
    for request_id in asked:
        world.answer(request_id)
    assert serving.stop() == 0
    again = worker("serving.worker")
    world.recommend()
    assert again.metric("headwater_requests_answered_total") == 1
    assert len(world.answers) == 21


def test_without_a_broker_the_worker_says_so_and_waits(settings: Settings, worker: Start) -> None:
    nowhere = settings.kafka.model_copy(update={"bootstrap": f"127.0.0.1:{free_port()}"})
    lonely = worker("serving.worker", given=settings.model_copy(update={"kafka": nowhere}), wait=False)
    eventually(lambda: "no Kafka answers" in lonely.tail(), what="a line in the log")
    assert lonely.get("/readyz")[0] == 503
    assert lonely.stop() == 0


def test_a_worker_that_waits_too_long_ends_on_purpose(settings: Settings, worker: Start) -> None:
    nowhere = settings.kafka.model_copy(update={"bootstrap": f"127.0.0.1:{free_port()}"})
    given = settings.model_copy(update={"kafka": nowhere})
    lonely = worker("serving.worker", given=given, wait=False, HEADWATER_OPERATIONS__STALL_S="1")
    assert lonely.process is not None
    assert lonely.process.wait(60) == 70


def test_cuda_demanded_and_absent_ends_with_one_clear_line(settings: Settings, worker: Start) -> None:
    if cuda_is_there():
        pytest.skip("there is a GPU here")
    given = settings.model_copy(update={"serving": settings.serving.model_copy(update={"provider": "cuda"})})
    refused = worker("serving.worker", given=given, wait=False)
    assert refused.process is not None
    assert refused.process.wait(60) == 2
    assert "HEADWATER_SERVING__PROVIDER=cpu" in refused.tail()


@pytest.mark.any_broker
def test_two_workers_share_the_requests_and_one_takes_over(world: World, serving: LiveWorker, worker: Start) -> None:
    other = worker("serving.worker")
    asked = [world.ask(f"user-{number}") for number in range(60)]
    for request_id in asked:
        world.answer(request_id)
    assert serving.stop() == 0
    asked = [world.ask(f"user-{number}") for number in range(60)]
    for request_id in asked:
        world.answer(request_id)
    assert other.metric("headwater_requests_answered_total") >= 60


def test_when_redis_goes_away_the_worker_answers_and_recovers(
    settings: Settings, worker: Start, tmp_path: Path
) -> None:
    store = EmbeddedStore(tmp_path / "store")
    with store:
        own = settings.model_copy(update={"redis": settings.redis.model_copy(update={"url": SecretStr(store.address)})})
        world = World(own)
        world.announce(trained().publish(created_ms=1))
        world.put_history("ann", clicked("film-2", "film-3"))
        worker("serving.worker", given=own)
        assert items_of(world.recommend(k=1)) == ["film-4"]
        store.kill()
        assert world.recommend(k=1).receipt.fallback == "no_features"
        store.start()
        eventually(lambda: world.recommend(k=1).receipt.fallback is None, what="features again")
        world.close()


def test_when_the_broker_goes_away_no_request_is_lost(settings: Settings, worker: Start, tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path / "broker") as broker:
        own = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"bootstrap": broker.address})})
        ensure_topics(own.kafka)
        world = World(own)
        serving = worker("serving.worker", given=own)
        asked = [world.ask(f"user-{number}") for number in range(30)]
        world.answer(asked[0])
        broker.kill()
        broker.start()
        asked += [world.ask(f"user-{number}") for number in range(30)]
        for request_id in asked:
            world.answer(request_id, 60)
        assert serving.stop() == 0
        world.close()


def test_garbage_in_the_store_costs_the_users_it_is_about_their_features_and_nobody_an_answer(
    world: World, serving: LiveWorker
) -> None:
    for user in ("ann", "bea", "cid"):
        world.put_history(user, clicked("film-1"))
    prefix = world.settings.kafka.prefix
    with server_of(world.settings) as server:
        server.set(f"{prefix}u:bea", b'{"count":3,"history":"none"}')
        server.set(f"{prefix}popular", "text")
        assert world.recommend("bea").receipt.fallback == "no_features"
        assert world.recommend("ann").receipt.history_events == 1
        server.hset(f"{prefix}marks", "0", "garbage")
        assert world.recommend("cid").receipt.fallback == "no_features"
    assert serving.metric("headwater_features_unavailable_total") >= 2
    assert serving.stop() == 0
