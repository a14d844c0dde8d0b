"""Records that nobody should send: each is refused or counted, and the same process answers the next good request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from confluent_kafka import Producer

from headwater.events import Item, new_id
from headwater.kafka import consumer
from headwater.settings import Settings
from headwater.topics import DEAD_LETTERS, ITEMS, REQUESTS
from tests.worlds.processes import LiveWorker, eventually
from tests.worlds.serving import CATALOGUE, World, catalogue_entry, clicked, items_of, trained

Start = Callable[..., LiveWorker]

LONG = [Item(item_id=f"{number:04}" + "\N{FIRE}" * 252, categories=("long",)) for number in range(1000)]


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    one = World(settings)
    one.put_items(CATALOGUE)
    yield one
    one.close()


def put_hostile_items(world: World) -> int:
    """Items that end up refused; how many."""
    refused: list[tuple[bytes, bytes | None]] = [  # a compacted topic itself refuses records without a key
        (b"deep", b'{"item_id": "deep", "attributes": {"a": ' + nested(300) + b"}}"),
        (b"deeper", b'{"item_id": "deeper", "attributes": {"a": ' + nested(1010) + b"}}"),
        (b"\xff", None),
        (b"\xff", b'{"item_id": "film-1"}'),
        (b"film-1", b'{"item_id": "film-4", "available": false}'),
        (b"film-4", b"no json"),
    ]
    for key, value in refused:
        world.send(ITEMS, value, key)
    edits: list[tuple[str, Any]] = [("A", ["x"]), ("B", []), ("A", None), ("B", None), ("A", [[["x"]]]), ("A", "x")]
    for item_id, tags in edits:
        body = None if tags is None else orjson.dumps({"item_id": item_id, "attributes": {"tags": tags}})
        world.send(ITEMS, body, item_id.encode())
    world.send(ITEMS, None, b"A")
    many = {f"field-{number:05}": number for number in range(3000)}
    world.send(ITEMS, orjson.dumps({"item_id": "many", "attributes": many, "available": False}), b"many")
    return len(refused)


def put_hostile_requests(world: World) -> list[str]:
    """Requests that are dead letters; their reasons."""
    letters: list[tuple[bytes | None, bytes | None, str]] = [
        (b"ann", b'{"user_id": ' + nested(1010) + b"}", "too_deep"),
        (b"ann", b'{"user_id": "ann", "filters": {"year": ' + nested(300) + b"}}", "too_deep"),
        (None, None, "null_value"),
        (b"k" * 500_000, b"\xff" * 520_000, "undecodable"),
        (b"ann", b"\xff" * 1_040_000, "too_large"),
    ]
    other = Producer({"bootstrap.servers": world.settings.kafka.bootstrap})  # kafka-python does not send empty records
    for key, value, _ in letters:
        if key is None and value is None:
            other.produce(world.topic(REQUESTS))
        else:
            world.send(REQUESTS, value, key)
    other.flush(10)
    return sorted(reason for _, _, reason in letters)


def dead_letters(world: World, count: int) -> list[dict[str, bytes]]:
    """The headers of the first `count` dead letters."""
    reader = consumer(world.settings.kafka)
    reader.subscribe([world.topic(DEAD_LETTERS)])
    found: list[dict[str, bytes]] = []

    def all_there() -> bool:
        for records in reader.poll(timeout_ms=100).values():
            found.extend(dict(record.headers) for record in records)
        return len(found) >= count

    try:
        eventually(all_there, what=f"{count} dead letters")
    finally:
        reader.close()
    return found


def test_one_process_outlives_every_hostile_record(world: World, worker: Start) -> None:
    refused_items = put_hostile_items(world)
    world.put_items(LONG)
    learner = trained()
    for item in CATALOGUE:
        learner.observe_item(catalogue_entry(item))
    world.announce(learner.publish(created_ms=1))
    world.put_history("ann", clicked("film-2", "film-3"))
    serving = worker("serving.worker")
    assert serving.metric("headwater_items_refused_total") == refused_items
    assert serving.metric("headwater_items_failed_total") == 0

    reasons = put_hostile_requests(world)
    found = dead_letters(world, len(reasons))
    assert sorted(letter["reason"].decode() for letter in found) == reasons

    for header in (b"9" * 5000, b"-1", "²".encode(), b""):
        assert items_of(world.answer(world.ask(k=1, headers=[("reply-partition", header)]))) == ["film-4"]
    echoed = world.answer(world.ask(k=1, headers=[("correlation-id", b"c" * 900_000)]))
    assert items_of(echoed) == ["film-4"]
    for partition in ("²", "9" * 5000, "-1"):
        refusal = world.recommend(after={partition: 1}).error
        assert refusal is not None
        assert refusal.code == "schema"
    refusal = world.recommend(**{"x" * 900_000: 1}).error
    assert refusal is not None
    assert len(refusal.message) < 5000
    refusal = world.recommend(filters={"yaer": 1}).error
    assert refusal is not None
    assert refusal.code == "unknown_field"
    assert refusal.message.count(",") < 25
    assert "more" in refusal.message

    refusal = world.recommend("nobody", k=1000, filters={"categories": "long"}).error
    assert refusal is not None
    assert refusal.code == "too_large"
    assert "fewer items" in refusal.message

    assert items_of(world.recommend(k=1)) == ["film-4"]
    assert serving.process is not None
    assert serving.process.poll() is None
    assert serving.stop() == 0


def test_another_request_under_a_used_id_is_answered_for_itself(world: World, worker: Start) -> None:
    world.put_history("ann", clicked("film-5"))
    worker("serving.worker")
    request_id = new_id()
    for k, count in ((2, 1), (3, 2), (3, 3)):
        world.ask(request_id=request_id, k=k)
        eventually(lambda count=count: world.poll() or len(world.answers) == count, what=f"{count} answers")
    assert [len(answer.items) for answer in world.answers] == [2, 3, 3]
    assert world.answers[1] == world.answers[2]
