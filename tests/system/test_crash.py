"""kill -9 of each part in turn, under load: nothing is lost, nothing counts twice, every request is answered, and every
list that went out is shown once.

One world lives through all of it, one test per part that dies; what must hold is asked after each, of all that was sent
since the beginning. The audit recomputes all features from the topics and compares them key by key with the store; the
trainer's own count says that every example was learned exactly once; and no list holds an item that its receipt knew to
be taken down, while items come and go. Torch is in the trainer alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from embedded import EmbeddedStore, ServerProcess
from headwater.kafka import ensure_topics
from headwater.settings import Settings, load_settings
from headwater.topics import EVENTS
from replay.audits import audit_takedown
from serving.exposures import SERVED
from streams.audit import audit
from tests.worlds.brokers import chosen_broker
from tests.worlds.example_logs import SMALL_MODEL
from tests.worlds.loads import Answers, Load
from tests.worlds.processes import LiveWorker, eventually
from tests.worlds.topic_reading import everything, rows

MODULES = ("streams.worker", "trainer.worker", "serving.worker")
ROUNDS = 8  # of load before and after each blow; a round is 10 events and a request
pytestmark = [pytest.mark.any_broker, pytest.mark.timeout(180)]


class AllProcesses:
    """All three workers, a broker and a store of their own, and how many events were acknowledged so far."""

    def __init__(self, settings: Settings, servers: dict[str, ServerProcess], workers: dict[str, LiveWorker]) -> None:
        self.settings = settings
        self.servers = servers
        self.workers = workers
        self.events = 0


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AllProcesses]:
    """A small model, frequent checkpoints, and clients that give a dead one's work away soon."""
    folder = tmp_path_factory.mktemp("crash")
    broker, store = chosen_broker(folder / "kafka"), EmbeddedStore(folder / "redis")
    with ExitStack() as started:
        for server in (broker, store):
            started.enter_context(server)
        settings = load_settings(
            kafka={"bootstrap": broker.address, "session_timeout_ms": 3000, "linger_ms": 0},
            redis={"url": store.address},
            model={"overrides": SMALL_MODEL},
            trainer={
                "directory": folder / "trainer", "bundles": folder / "models",
                "publish_every_s": 0.5, "checkpoint_every_s": 0.5,
            },
            serving={"bundles": folder / "models"},
        )  # fmt: skip
        ensure_topics(settings.kafka)
        workers = {module: LiveWorker(module, settings, folder / f"{module}.log") for module in MODULES}
        for one in workers.values():
            started.callback(one.__exit__)
            one.start(wait=False)
        for one in workers.values():
            eventually(one.is_ready, 60, one.module)
        yield AllProcesses(settings, {"broker": broker, "store": store}, workers)
        for one in workers.values():
            assert one.stop() == 0, one.tail()


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


def shown(world: AllProcesses) -> set[str | None]:
    """The requests whose lists are on `events`."""
    return {row.request_id for row in rows(everything(world.settings.kafka, EVENTS.name)) if row.type == SERVED}


def all_is_well(world: AllProcesses, load: Load) -> None:
    """What must hold when everything that was sent has been worked off."""
    load.finish()
    world.events += len(load.events)
    trainer, serving = world.workers["trainer.worker"], world.workers["serving.worker"]
    answers = Answers(world.settings)

    def answered() -> bool:
        supervise(world.workers)
        return load.requests <= answers.seen()

    def learned() -> bool:
        supervise(world.workers)
        return examples(trainer) >= world.events + len(answers.lists)

    try:
        eventually(answered, 40, f"every request answered:\n{serving.tail()}")
    finally:
        answers.close()
    lists = answers.lists
    eventually(learned, 40, f"{world.events} examples learned:\n{trainer.tail()}")
    eventually(lambda: shown(world) == lists, 40, f"every list that went out is an event:\n{serving.tail()}")
    verdict = eventually(
        lambda: one if (one := audit(world.settings)).ok else None, 40, "the features as the topic says"
    )
    assert verdict.events_applied == world.events + len(lists)
    assert examples(trainer) == world.events + len(lists)
    takedown = audit_takedown(world.settings.kafka)
    assert takedown.ok, str(takedown.offences[0])
    assert takedown.taken_down > 10
    assert not takedown.not_judged
    for worker in world.workers.values():
        eventually(worker.is_ready, 60, worker.module)
        assert worker.metric("headwater_dead_letters_total") == 0
    torch_in = {module for module, worker in world.workers.items() if worker.has_loaded("libtorch")}
    assert torch_in == {"trainer.worker"}, "it costs a second of every start and 200 MB"


@pytest.mark.parametrize("victim", MODULES)
def test_a_worker_killed_under_load_loses_nothing(world: AllProcesses, victim: str) -> None:
    with Load(world.settings) as load:
        for _ in range(2):
            more(load)
            world.workers[victim].kill()
            more(load)
            world.workers[victim].start()
        more(load)
        all_is_well(world, load)


@pytest.mark.parametrize("victim", ["broker", "store"])
def test_a_server_killed_under_load_loses_nothing(world: AllProcesses, victim: str) -> None:
    server = world.servers[victim]
    with Load(world.settings) as load:
        for _ in range(2):
            more(load)
            server.kill()
            if victim == "store":
                more(load)
            server.start()
        more(load)
        all_is_well(world, load)
