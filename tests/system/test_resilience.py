"""Every worker survives every retriable error of every call of its clients, and ends on purpose when one stays.

The clients, the broker and the store are real; tests/worlds/failing_clients.py makes the calls fail, each with each
retriable error in turn. Nothing is lost and nothing is doubled, and the exit codes are those of operations.md.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from headwater.errors import Unavailable
from headwater.process import EXIT_STALLED, EXIT_WRONG, Backoff, Retry, Stopped, passes
from headwater.settings import Settings
from tests.worlds.example_logs import SMALL_MODEL, append, ring_records
from tests.worlds.failing_clients import FailingWorker, retriable
from tests.worlds.processes import eventually
from tests.worlds.serving import World, put_trained_model
from tests.worlds.streams import event, folded_all, send

STALL_S = 3.0
READERS = {"KafkaConsumer.new", "KafkaConsumer.end_offsets", "KafkaConsumer.partitions_for_topic"}
TOPICS = {"KafkaAdminClient.new", "KafkaAdminClient.list_topics"}

Start = Callable[..., FailingWorker]


@pytest.fixture
def failing(settings: Settings, tmp_path: Path) -> Iterator[Start]:
    """Starts a worker with failing clients: `failing("streams.worker", few="...")`."""
    with ExitStack() as started:

        def start(
            module: str, *, given: Settings | None = None, stall_s: float = 120.0, few: str = ""
        ) -> FailingWorker:
            env = {"HEADWATER_OPERATIONS__STALL_S": str(stall_s)}
            return started.enter_context(FailingWorker(module, given or settings, tmp_path, few, **env))

        yield start


@pytest.fixture
def learning(settings: Settings) -> Settings:
    """A small model, published and checkpointed at once."""
    trainer = settings.trainer.model_copy(update={"publish_every_s": 0.2, "checkpoint_every_s": 0.5})
    model = settings.model.model_copy(update={"overrides": SMALL_MODEL})
    return settings.model_copy(update={"trainer": trainer, "model": model})


def has_raised_all(worker: FailingWorker, call: str, package: str) -> Callable[[], bool]:
    return lambda: worker.is_ready() and worker.raised().get(call, set()) == retriable(package).keys()


def test_the_streams_worker_survives_each_error_of_each_call(settings: Settings, failing: Start) -> None:
    streams = failing("streams.worker")
    sent = 0
    for call, package in (
        ("Fetcher.fetched_records", "aiokafka"),
        ("AIOKafkaProducer.send", "aiokafka"),
        ("Pipeline.execute", "redis"),
    ):
        has_raised = has_raised_all(streams, call, package)

        def goes_on(has_raised: Callable[[], bool] = has_raised) -> bool:
            nonlocal sent
            send(settings, [event(sent, f"user-{sent % 10}")])
            sent += 1
            return has_raised()

        eventually(goes_on, 120, call)
    result = folded_all(settings)
    assert result.ok, result.first_difference
    assert result.events_applied == sent
    missing = (
        TOPICS
        | READERS
        | {"KafkaConsumer.topics", "KafkaConsumer.beginning_offsets", "KafkaConsumer.committed"}
        | {"AIOKafkaConsumer.start", "AIOKafkaConsumer.commit", "AIOKafkaConsumer.seek_to_committed"}
        | {"AIOKafkaProducer.start", "Redis.execute_command"}
    ) - streams.raised().keys()
    assert not missing
    assert streams.stop(60) == 0


@pytest.mark.timeout(300)  # most of it is back-off
def test_the_trainer_survives_each_error_of_each_call(learning: Settings, failing: Start) -> None:
    values = ring_records(400)
    append(learning, [*values[:8], b"not json", *values[8:]])
    trainer = failing("trainer.worker", given=learning, few="KafkaConsumer.new,KafkaProducer.send")
    eventually(has_raised_all(trainer, "KafkaConsumer.poll", "kafka"), 120, "errors of poll")
    eventually(lambda: trainer.metric("headwater_examples_learned_total") == 400, 60, "all learned")
    assert trainer.metric("headwater_example_duplicates_total") == 0
    missing = (
        TOPICS
        | READERS
        | {"KafkaConsumer.beginning_offsets", "KafkaConsumer.position", "KafkaConsumer.topics"}
        | {"KafkaConsumer.commit_async", "KafkaProducer.new", "KafkaProducer.send"}
    ) - trainer.raised().keys()
    assert not missing
    assert trainer.stop(60) == 0
    assert len(list(learning.trainer.directory.glob("checkpoint-*.ckpt"))) == 2


def test_the_serving_worker_survives_each_error_of_each_call(settings: Settings, failing: Start) -> None:
    world = World(settings)
    put_trained_model(world)
    serving = failing("serving.worker")
    asked: list[str] = []
    for call in ("KafkaConsumer.poll", "KafkaConsumer.commit_async", "KafkaProducer.send"):
        has_raised = has_raised_all(serving, call, "kafka")

        def goes_on(has_raised: Callable[[], bool] = has_raised) -> bool:
            asked.append(world.ask(f"user-{len(asked)}", k=3))
            world.answer(asked[-1], 60)
            return has_raised()

        eventually(goes_on, 120, call)
    assert {answer.request_id for answer in world.answers} == set(asked)
    assert len(world.answers) == len(asked)
    missing = (
        TOPICS
        | READERS
        | {"KafkaConsumer.position", "KafkaProducer.new", "KafkaProducer.partitions_for"}
        | {"Pipeline.execute", "Redis.execute_command"}
    ) - serving.raised().keys()
    assert not missing
    assert serving.stop(60) == 0
    assert "KafkaProducer.flush" in serving.raised()  # commit is called where the last answer is not committed yet
    world.close()


@pytest.mark.parametrize(
    "call",
    ["Fetcher.fetched_records", "AIOKafkaConsumer.commit", "AIOKafkaProducer.send", "KafkaConsumer.committed"],
)
def test_the_streams_worker_leaves_when_an_error_stays(settings: Settings, failing: Start, call: str) -> None:
    package = "kafka" if call.startswith("Kafka") else "aiokafka"
    streams = failing("streams.worker", stall_s=STALL_S, few="all")
    streams.fail_for_ever(call, "NodeNotReadyError" if package == "aiokafka" else "KafkaConnectionError")
    process = streams.process
    assert process is not None

    def has_left() -> bool:
        send(settings, [event(0)])  # what was on its way already is not held up
        return process.poll() is not None

    eventually(has_left, 60)
    assert process.returncode == EXIT_STALLED
    assert "stalled" in streams.tail()


@pytest.mark.parametrize("error", ["KafkaConnectionError", "TopicAuthorizationFailedError"])
def test_the_trainer_leaves_when_an_error_stays(learning: Settings, failing: Start, error: str) -> None:
    trainer = failing("trainer.worker", given=learning, stall_s=STALL_S if passes_by_name(error) else 600.0, few="all")
    append(learning, ring_records(50))
    trainer.fail_for_ever("KafkaConsumer.poll", error)
    assert trainer.process is not None
    assert trainer.process.wait(60) == (EXIT_STALLED if passes_by_name(error) else EXIT_WRONG)
    assert ("stalled" in trainer.tail()) == passes_by_name(error)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("KafkaConsumer.poll", "KafkaConnectionError"),
        ("KafkaConsumer.commit_async", "NotCoordinatorError"),
        ("KafkaConsumer.end_offsets", "NotLeaderForPartitionError"),
        ("KafkaProducer.send", "KafkaTimeoutError"),
        ("KafkaConsumer.poll", "GroupAuthorizationFailedError"),
    ],
)
def test_the_serving_worker_leaves_when_an_error_stays(
    settings: Settings, failing: Start, call: str, error: str
) -> None:
    world = World(settings)
    serving = failing("serving.worker", stall_s=STALL_S if passes_by_name(error) else 600.0, few="all")
    serving.fail_for_ever(call, error)
    world.ask()
    assert serving.process is not None
    assert serving.process.wait(60) == (EXIT_STALLED if passes_by_name(error) else EXIT_WRONG)
    assert ("stalled" in serving.tail()) == passes_by_name(error)
    world.close()


def passes_by_name(error: str) -> bool:
    return error in retriable("kafka")


@pytest.mark.parametrize("package", ["kafka", "aiokafka"])
def test_each_error_that_a_client_calls_retriable_is_waited_out(package: str) -> None:
    counted: list[str] = []
    retry = Retry(threading.Event(), counted.append, Backoff(0.0, 0.0))
    for error in retriable(package).values():
        left = [error("once"), error("twice")]
        assert retry.call("kafka", lambda: "answer" if not left else throw(left.pop())) == "answer"  # noqa: B023
    assert counted == ["kafka"] * 2 * len(retriable(package))


def throw(error: Exception) -> str:
    raise error


def test_what_does_not_pass_is_raised_at_once() -> None:
    counted: list[str] = []
    with pytest.raises(ValueError, match="wrong"):
        Retry(threading.Event(), counted.append).call("kafka", lambda: throw(ValueError("wrong")))
    assert not counted


def test_a_call_that_waits_ends_when_the_process_is_told_to_stop() -> None:
    stopping = threading.Event()
    retry = Retry(stopping, lambda _: stopping.set(), Backoff(3600.0, 3600.0))
    with pytest.raises(Stopped):
        retry.call("kafka", lambda: throw(Unavailable("away")))
    assert not passes(Stopped())


def test_while_it_drains_a_call_is_tried_until_the_time_is_over() -> None:
    stopping = threading.Event()
    stopping.set()
    retry = Retry(stopping, lambda _: None, Backoff(0.0, 0.0))
    retry.begin_drain(within_s=60.0)
    left = [Unavailable("once"), Unavailable("twice")]
    assert retry.call("kafka", lambda: "answer" if not left else throw(left.pop())) == "answer"
    retry.begin_drain(within_s=-1.0)
    with pytest.raises(Unavailable, match="for ever"):
        retry.call("kafka", lambda: throw(Unavailable("for ever")))
