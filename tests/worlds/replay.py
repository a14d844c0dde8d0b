"""A world with all three workers, its events in one partition, and a small stream with its catalogue.

Users walk round a ring of films, so that the next one follows from the last. Events go in by `replay.stream`.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headwater.events import Event, Item
from headwater.examples import CatalogueEntry, unpack
from headwater.kafka import ensure_topics
from headwater.recommendations import Recommendation
from headwater.settings import Settings, load_settings
from replay import ReplayReport, stream
from replay.sources import SourceReport
from tests.worlds.processes import LiveWorker, eventually, remove_world
from tests.worlds.serving import World
from tests.worlds.topic_reading import everything

ITEMS = 24
START_MS = 1_700_000_000_000
MODEL: dict[str, Any] = {
    "width": 8,
    "length": 30,
    "initial_capacity": 16,
    "block": 16,
    "replay_windows": 2,
    "replay_capacity": 64,
    "exclude_seen": ["*"],
    "user_fields": ["plan", "born"],
}

FILMS = [
    Item(
        item_id=f"film-{n}", title=f"Film {n}", categories=("odd" if n % 2 else "even",), attributes={"year": 1990 + n}
    )
    for n in range(ITEMS)
]


class Given:
    """Events at hand as a source."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.report = SourceReport("given")
        self._events = events

    def events(self) -> Iterator[Event]:
        yield from self._events


def walks(events: int, users: int = 12, seed: int = 0) -> list[Event]:
    """Events of users who go one film on each time, and one time in eight anywhere."""
    chance = random.Random(seed)
    at = {user: chance.randrange(ITEMS) for user in range(users)}
    made = []
    for number in range(events):
        user = chance.randrange(users)
        at[user] = chance.randrange(ITEMS) if chance.random() < 0.125 else (at[user] + 1) % ITEMS
        kind, value = ("rating", float(chance.randint(1, 5))) if number % 3 == 0 else ("click", None)
        made.append(
            Event(
                event_id=f"e{number}", user_id=f"user-{user}", item_id=f"film-{at[user]}", type=kind,
                event_time=START_MS + 1000 * number, value=value,
            )
        )  # fmt: skip
    return made


class Replayed:
    """One world; `start` its workers, `send` events."""

    def __init__(self, settings: Settings, logs: Path) -> None:
        self.settings = settings
        self.world = World(settings)
        self.answers: dict[str, Recommendation] = {}
        self._logs = logs
        self._workers: list[LiveWorker] = []

    def start(self, *names: str) -> None:
        """Workers, beside each other; returns when all are ready."""
        workers = [LiveWorker(f"{name}.worker", self.settings, self._logs / f"{name}.log") for name in names]
        self._workers += workers
        for worker in workers:
            worker.start(wait=False)
        for worker in workers:
            eventually(worker.is_ready, 60, worker.module)

    def send(self, events: Sequence[Event], speed: str = "max") -> ReplayReport:
        return stream(Given(events), self.settings, speed=speed)

    def put_catalogue(self) -> None:
        """Send the items, and wait until they are in the log that the trainer reads."""
        self.world.put_items(FILMS)

        def is_there() -> bool:
            values = [record.value for record in everything(self.settings.kafka, "examples")]
            return sum(isinstance(one, CatalogueEntry) for value in values for one in unpack(value)) == ITEMS

        eventually(is_there, 60, "items in the log")

    def stop(self) -> None:
        """All workers, beside each other."""
        for worker in self._workers:
            worker.tell_to_stop()
        for worker in reversed(self._workers):
            worker.__exit__()
        self._workers = []

    def close(self) -> None:
        self.stop()
        self.world.close()


@contextmanager
def replayed(kafka_address: str, redis_url: str, folder: Path, **trainer: Any) -> Iterator[Replayed]:
    """A fresh world with one partition of events, which hold what tests send and no list that serving showed."""
    settings = load_settings(
        kafka={"bootstrap": kafka_address, "prefix": f"t{uuid.uuid4().hex[:8]}."},
        redis={"url": redis_url},
        model={"overrides": MODEL},
        trainer={
            "directory": folder / "trainer",
            "bundles": folder / "models",
            "device": "cpu",
            "keep_up_s": 0.0,
            **trainer,
        },
        serving={"bundles": folder / "models", "provider": "cpu", "exposures": False},
    )
    ensure_topics(settings.kafka, {"events": 1})
    made = Replayed(settings, folder)
    try:
        yield made
    finally:
        made.close()
        remove_world(settings)
