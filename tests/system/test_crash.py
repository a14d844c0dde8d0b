"""kill -9 of each part in turn, under load: nothing is lost, nothing counts twice, every request is answered.

One test per part that dies, each on a world of its own. The audit recomputes all features from the topics and compares
them key by key with the store; the trainer's own count says that every example was learned exactly once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from embedded import EmbeddedBroker, EmbeddedStore
from headwater.kafka import ensure_topics
from headwater.settings import Settings, load_settings
from streams.audit import audit
from tests.worlds.example_logs import SMALL_MODEL
from tests.worlds.loads import Answers, Load
from tests.worlds.processes import LiveWorker, eventually

Start = Callable[..., LiveWorker]
MODULES = ("streams.worker", "trainer.worker", "serving.worker")
ROUNDS = 15  # of load before and after each blow; a round is 10 events and a request
pytestmark = pytest.mark.timeout(120)


def crashing(settings: Settings) -> Settings:
    """A small model, frequent checkpoints, and clients that give a dead one's work away soon."""
    trainer = settings.trainer.model_copy(update={"publish_every_s": 0.2, "checkpoint_every_s": 0.5})
    model = settings.model.model_copy(update={"overrides": SMALL_MODEL})
    kafka = settings.kafka.model_copy(update={"session_timeout_ms": 3000, "linger_ms": 0})
    return settings.model_copy(update={"trainer": trainer, "model": model, "kafka": kafka})


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return crashing(settings)


def more(load: Load, rounds: int = ROUNDS) -> None:
    """Wait until the load has got so many rounds further."""
    goal = len(load.requests) + rounds
    eventually(lambda: len(load.requests) >= goal, 60, f"{rounds} more rounds of load")


def supervise(workers: dict[str, LiveWorker]) -> None:
    """Start workers again that have left on purpose (70), as docker compose would."""
    for one in workers.values():
        assert one.process is not None
        code = one.process.poll()
        if code is not None:
            assert code == 70, one.tail()
            one.start(wait=False)


def examples(trainer: LiveWorker) -> float:
    """Examples learned; 0 while the process is starting."""
    try:
        return trainer.metric("headwater_examples_learned_total")
    except OSError:
        return 0.0


def all_is_well(settings: Settings, load: Load, workers: dict[str, LiveWorker]) -> None:
    """What must hold when everything that was sent has been worked off."""
    load.finish()
    trainer, serving = workers["trainer.worker"], workers["serving.worker"]
    answers = Answers(settings)

    def answered() -> bool:
        supervise(workers)
        return load.requests <= answers.seen()

    def learned() -> bool:
        supervise(workers)
        return examples(trainer) >= len(load.events)

    try:
        eventually(answered, 40, f"every request answered:\n{serving.tail()}")
    finally:
        answers.close()
    eventually(learned, 40, f"{len(load.events)} examples learned:\n{trainer.tail()}")
    verdict = audit(settings)
    assert verdict.ok, verdict
    assert verdict.events_applied == len(load.events)
    assert examples(trainer) == len(load.events)
    for worker in workers.values():
        assert worker.metric("headwater_dead_letters_total") == 0
        assert worker.stop() == 0, worker.tail()


@pytest.mark.parametrize("victim", MODULES)
def test_a_worker_killed_under_load_loses_nothing(settings: Settings, worker: Start, victim: str) -> None:
    workers = {module: worker(module, given=settings) for module in MODULES}
    with Load(settings) as load:
        for _ in range(2):
            more(load)
            workers[victim].kill()
            more(load)
            workers[victim].start()
        more(load)
        all_is_well(settings, load, workers)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[Settings, EmbeddedBroker, EmbeddedStore]]:
    """A broker and a store that a test may kill."""
    with EmbeddedBroker(tmp_path / "kafka") as broker, EmbeddedStore(tmp_path / "redis") as store:
        made = load_settings(
            kafka={"bootstrap": broker.address},
            redis={"url": store.address},
            trainer={"directory": tmp_path / "trainer", "bundles": tmp_path / "models"},
            serving={"bundles": tmp_path / "models"},
        )
        ensure_topics(made.kafka)
        yield crashing(made), broker, store


@pytest.mark.parametrize("victim", ["broker", "store"])
def test_a_server_killed_under_load_loses_nothing(
    own: tuple[Settings, EmbeddedBroker, EmbeddedStore], tmp_path: Path, victim: str
) -> None:
    settings, broker, store = own
    server = {"broker": broker, "store": store}[victim]
    workers = {module: LiveWorker(module, settings, tmp_path / f"{module}.log") for module in MODULES}
    try:
        for one in workers.values():
            one.start()
        with Load(settings) as load:
            for _ in range(2):
                more(load)
                server.kill()
                if victim == "store":
                    more(load)
                server.start()
            more(load)
            all_is_well(settings, load, workers)
    finally:
        for one in workers.values():
            one.__exit__()
