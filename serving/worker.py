"""The serving worker's process: `requests` in, `recommendations` out.

Before: any producer of requests. After: apps, and the exposure log. Start with `python -m serving.worker`; settings
come from the environment or the file.

Delivery: at least once, idempotent by request_id. A request's offset is committed only after its reply was
acknowledged by the broker, so a kill at any point loses no request; one that was answered but not committed is
answered again under the same request_id. Within one process and a minute, a request that comes again gets the very
bytes that went out before.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Mapping

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from headwater.errors import HeadwaterError, Stalled, Unavailable
from headwater.kafka.connections import consumer, ensure_topics, producer
from headwater.process.operations import EXIT_STALLED, EXIT_WRONG, Operations
from headwater.settings import Settings, load_settings
from headwater.topics import REQUESTS, topic_name
from serving.answering import Answering
from serving.catalogue import Catalogue
from serving.model_follower import ModelFollower
from serving.progress import Progress
from serving.replies import Replies
from serving.scorer import Scorer
from serving.serving_metrics import ServingMetrics
from serving.topic_follower import TopicFollower
from streams.features.store import FeatureStore

__all__ = ["GROUP", "ServingWorker", "main"]

GROUP = "serving"
IDLE_POLL_MS = 100
WAITING_POLL_MS = 3
COMMIT_EVERY_S = 0.2
SWITCH_INTERVAL_S = 0.0005


class ServingWorker:
    """One worker. `run` returns when it was told to stop and has drained."""

    def __init__(self, settings: Settings, operations: Operations) -> None:
        self.settings = settings
        self.operations = operations
        catalogue = Catalogue()
        self.scorer = Scorer(catalogue, settings.serving.provider, settings.serving.threads)
        self.metrics = ServingMetrics(operations.registry, self.scorer)
        self.store = FeatureStore(settings.redis, settings.kafka.prefix)
        self.answering = Answering(settings.serving, self.scorer, self.store, self.metrics)
        model = ModelFollower(
            self.scorer, settings.serving.bundles, lambda reason: self.metrics.model_refused.labels(reason).inc()
        )
        self.follower = TopicFollower(settings, operations, self.metrics, catalogue, model, self._finished)
        self._progress = Progress()
        self._committed: dict[int, int] = {}
        self._commit_at = 0.0
        self._commit_failed = False
        self._turned = False
        self._requests = topic_name(REQUESTS, settings.kafka.prefix)

    def run(self) -> None:
        """Answer until told to stop. Raises Stalled when it cannot go on."""
        if not self._connect():
            return
        self.follower.start()
        while not self.operations.stopping.is_set() and not self.follower.caught_up.wait(0.05):
            self._raise_failures()  # the first answers should not be popular items for want of a model
        gc.collect()
        gc.freeze()
        while not self._knows_requests() and not self.operations.stopping.wait(0.05):
            self._raise_failures()
        self._consumer.subscribe([self._requests])
        while not self.operations.stopping.is_set():
            self._turn()
        self._drain()

    def _knows_requests(self) -> bool:
        """A member that joins its group before it knows the topic is given nothing, and keeps that for minutes."""
        try:
            return bool(self._consumer.partitions_for_topic(self._requests))
        except KafkaError:
            return False

    def _connect(self) -> bool:
        while not self.operations.stopping.is_set():
            try:
                ensure_topics(self.settings.kafka)
                self._producer: KafkaProducer = producer(self.settings.kafka)
                self._replies = Replies(self._producer, self.metrics, self.settings.kafka.prefix)
                self._consumer: KafkaConsumer = consumer(self.settings.kafka, GROUP)
                return True
            except (Unavailable, KafkaError) as error:
                self.operations.log.warning("%s Trying again.", error)
                self.operations.stopping.wait(3.0)
        return False

    def _turn(self) -> None:
        self._raise_failures()
        wait_ms = WAITING_POLL_MS if self.answering.waiting else IDLE_POLL_MS
        polled = self._consumer.poll(timeout_ms=wait_ms, max_records=self.settings.serving.batch_requests)
        records = [record for some in polled.values() for record in some]
        for record in records:
            self._progress.begin(record.partition, record.offset)
        if records or self.answering.waiting:
            for answer in self.answering.answer(records):
                self._replies.send(answer)
        self._settle(idle=not records)
        self._turned = True

    def _settle(self, *, idle: bool) -> None:
        """Commit what is finished, a few times a second: a commit costs the broker as much as a reply does.

        The commit's own answer is not waited for; one that failed, in a rebalance say, is repeated with the next.
        """
        while self._replies.acknowledged:
            self._progress.end(*self._replies.acknowledged.popleft())
        owned = {partition.partition for partition in self._consumer.assignment()}
        self._progress.keep(owned)
        self._committed = {number: offset for number, offset in self._committed.items() if number in owned}
        if self._commit_failed:
            self._commit_failed = False
            self._committed.clear()
        due = self._due()
        if due and time.monotonic() >= self._commit_at:
            self._consumer.commit_async(_offsets(self._requests, due), callback=self._commit_answered)
            self._committed.update(due)
            self._commit_at = time.monotonic() + COMMIT_EVERY_S
        if idle and not self._progress.open:
            for number in owned:
                position = self._consumer.position(TopicPartition(self._requests, number), timeout_ms=0)
                if position is not None:
                    self._progress.reached(number, position)
                    self._committed.setdefault(number, position)

    def _commit_answered(self, _offsets: object, answer: object) -> None:
        self._commit_failed |= isinstance(answer, Exception)

    def _due(self) -> dict[int, int]:
        finished = self._progress.finished()
        return {number: offset for number, offset in finished.items() if offset > self._committed.get(number, -1)}

    def _finished(self) -> Mapping[int, int] | None:
        if not self._turned:
            return None
        self._turned = False
        if not self.follower.ready.is_set() and self._consumer.assignment():
            try:
                self.store.marks()
            except Unavailable as error:
                self.operations.log.warning("answering without features: %s", error)
            else:
                self.follower.ready.set()
                self.operations.ready()
        return self._progress.finished()

    def _drain(self) -> None:
        """What was begun is answered, acknowledged and committed."""
        for answer in self.answering.answer([], last=True):
            self._replies.send(answer)
        self._producer.flush(timeout=self.settings.operations.drain_s)
        while self._replies.acknowledged:
            self._progress.end(*self._replies.acknowledged.popleft())
        due = self._due()
        if due:
            self._consumer.commit(_offsets(self._requests, due), timeout_ms=self.settings.operations.drain_s * 1000)
        self._consumer.close(timeout_ms=5000)
        self._producer.close(timeout=5)
        self.follower.join(5)
        self.store.close()

    def _raise_failures(self) -> None:
        self._replies.check()
        if self.follower.error is not None:
            raise Stalled("the thread that follows the model and the items ended") from self.follower.error


def _offsets(topic: str, offsets: Mapping[int, int]) -> dict[TopicPartition, OffsetAndMetadata]:
    return {TopicPartition(topic, number): OffsetAndMetadata(offset, "", -1) for number, offset in offsets.items()}


def main() -> int:
    """The process. 0 after SIGTERM, 2 for a setting that cannot be met, 70 when it stopped making progress."""
    try:
        settings = load_settings()
        operations = Operations("serving", settings.operations)
        worker = ServingWorker(settings, operations)
    except HeadwaterError as error:
        print(f"serving.worker: {error}", file=sys.stderr)
        return EXIT_WRONG
    sys.setswitchinterval(SWITCH_INTERVAL_S)  # the thread that follows the model must not hold an answer up for 5 ms
    operations.start()
    try:
        worker.run()
    except (Stalled, Unavailable, KafkaError):
        operations.log.exception("exiting so that a fresh process takes over")
        return EXIT_STALLED
    except HeadwaterError as error:
        operations.log.error("%s", error)
        return EXIT_WRONG
    finally:
        operations.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
