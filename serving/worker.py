"""The serving worker's process: `requests` in, `recommendations` out.

Before: any producer of requests. After: apps; the streams worker gets what was shown as events. Start with
`python -m serving.worker`; settings come from the environment or the file.

Delivery: at least once, idempotent by request_id. A request's offset is committed only after its reply was
acknowledged by the broker, so a kill at any point loses no request; one that was answered but not committed is
answered again under the same request_id. Within one process and a minute, a request that comes again gets the very
bytes that went out before; so does one that another process has answered and not committed (`serving.recalled`).
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack

from kafka import TopicPartition
from kafka.errors import CommitFailedError, RebalanceInProgressError
from kafka.structs import OffsetAndMetadata

from headwater.errors import HeadwaterError, Stalled, Unavailable
from headwater.kafka import consumer, producer, take_part
from headwater.process import Operations, collect_rarely, run_worker
from headwater.security.parties import SERVING
from headwater.settings import Settings
from headwater.topics import EVENTS, REQUESTS, topic_name
from models.published.signing.trust import trust_of
from models.published.stores import open_store
from serving.answering import Answering
from serving.arranging import warm_up
from serving.catalogue import Catalogue
from serving.exposures import ExposureSender
from serving.model_follower import ModelFollower
from serving.open_offsets import OpenOffsets
from serving.recalled import RecalledAnswers
from serving.replies import ReplySender
from serving.scorer import Scorer
from serving.serving_metrics import ServingMetrics
from serving.surfaces import Surfaces
from serving.topic_follower import CatalogueFollower, ModelTopicsFollower
from streams.features.fold import Limits
from streams.features.store import FeatureStore

__all__ = ["GROUP", "ServingWorker", "main"]

GROUP = "serving"
IDLE_POLL_MS = 100
WAITING_POLL_MS = 3
COMMIT_EVERY_S = 0.2
SWITCH_INTERVAL_S = 0.0005
CLOSE_S = 2.0
"""For each of producer and consumer to leave Kafka after `operations.drain_s`: a supervisor waits for 5 s more than
that."""
MIN_WAIT_S = 0.1


class ServingWorker:
    """One member of the group `serving`."""

    def __init__(self, settings: Settings, operations: Operations) -> None:
        self.settings = settings
        self.operations = operations
        trust = trust_of(settings)
        catalogue, surfaces = Catalogue(), Surfaces(settings.surfaces)
        serving = settings.serving
        self.scorer = Scorer(catalogue, serving.provider, serving.threads, serving.batch_requests)
        self.metrics = ServingMetrics(operations.registry, self.scorer)
        self.store = FeatureStore(settings.redis, settings.kafka.prefix, privacy=settings.privacy)
        self.answering = Answering(
            settings.serving, self.scorer, self.store, self.metrics, Limits.of(settings), surfaces
        )
        model = ModelFollower(
            self.scorer,
            open_store(settings.serving.bundles, trust),
            lambda *labels: self.metrics.model_refused.labels(*labels).inc(),
            operations.progress,
            trust,
        )
        self.answering.recalled = self._recalled = RecalledAnswers(settings.kafka)
        self._items = CatalogueFollower(settings, operations, self.metrics, catalogue, surfaces)
        self._traces = model.traces
        self._model = ModelTopicsFollower(settings, operations, self.metrics, model, self._finished)
        self._offsets = OpenOffsets()
        self._opened = ExitStack()
        self._committed: dict[int, int] = {}
        self._commit_at = 0.0
        self._commit_failed = False
        self._commit_failing = False
        self._turned = False
        self._requests = topic_name(REQUESTS, settings.kafka.prefix)

    def await_servers(self) -> None:
        """The topics are made. A store that is away is not waited for: without it, popular items answer. One that does
        not let us in never will."""
        spared = () if self.settings.serving.exposures else (EVENTS.name,)
        self.operations.retry.call("kafka", lambda: take_part(self.settings.kafka, SERVING, spared))
        with contextlib.suppress(Unavailable):
            self.store.check()

    def open(self) -> None:
        """Connect, and begin to follow the model and the items."""
        kafka, retry = self.settings.kafka, self.operations.retry
        sys.setswitchinterval(SWITCH_INTERVAL_S)  # the threads that follow must not hold an answer up for 5 ms
        self._opened.callback(self.store.close)
        self._producer = retry.open("kafka", lambda: producer(kafka))
        self._opened.callback(self._producer.close, timeout=CLOSE_S)
        exposures = None
        if self.settings.serving.exposures:
            exposures = ExposureSender(self._producer, self.metrics, kafka.prefix)
        self._replies = ReplySender(self._producer, self.metrics, kafka.prefix, exposures, self._traces)
        self._consumer = retry.open("kafka", lambda: consumer(kafka, GROUP))
        self._opened.callback(self._consumer.close, timeout_ms=CLOSE_S * 1000)
        for follower in (self._items, self._model):
            follower.start()

    def run(self) -> None:
        """Answer until told to stop. Raises Stalled when it cannot go on."""
        stopping = self.operations.stopping
        warm_up()
        for follower in (self._items, self._model):
            while not stopping.is_set() and not follower.caught_up.wait(0.05):
                self._raise_failures()  # the first answers should not be popular items for want of a model
        collect_rarely()
        # a member that joins its group before it knows the topic is given nothing, and keeps that for minutes
        while not self._consumer.partitions_for_topic(self._requests) and not stopping.wait(0.05):
            self._raise_failures()
        self._consumer.subscribe([self._requests], listener=self._recalled)
        self.operations.started()
        while not stopping.is_set():
            self._turn()

    def _turn(self) -> None:
        """From poll to commit: a request's offset is committed when its reply is acknowledged, and no sooner."""
        self._raise_failures()
        if self._items.forgotten:
            self.answering.forget({self._items.forgotten.popleft() for _ in range(len(self._items.forgotten))})
        wait_ms = WAITING_POLL_MS if self.answering.waiting else IDLE_POLL_MS
        polled = self._consumer.poll(timeout_ms=wait_ms, max_records=self.settings.serving.batch_requests)
        records = [record for some in polled.values() for record in some]
        for record in records:
            self._offsets.begin(record.partition, record.offset)
        self._recalled.look(records)
        if records or self.answering.waiting:
            self._replies.send(self.answering.answer(records))
        self._replies.send_again()
        self._settle(idle=not records)
        self._turned = not self._commit_failing

    def _settle(self, *, idle: bool) -> None:
        """Commit what is finished, a few times a second: a commit costs the broker as much as a reply does.

        The commit's own answer is not waited for; one that failed, in a rebalance say, is repeated with the next.
        """
        for place in self._replies.finished():
            self._offsets.end(*place)
        owned = {partition.partition for partition in self._consumer.assignment()}
        self._offsets.keep(owned)
        self._committed = {number: offset for number, offset in self._committed.items() if number in owned}
        if self._commit_failed:
            self._commit_failed = False
            self._committed.clear()
        due = self._due()
        self._commit_failing &= bool(due)
        if due and time.monotonic() >= self._commit_at:
            self._consumer.commit_async(_offsets(self._requests, due), callback=self._commit_answered)
            self._committed.update(due)
            self._commit_at = time.monotonic() + COMMIT_EVERY_S
        if idle and not self._offsets.open:
            for number in owned:
                position = self._consumer.position(TopicPartition(self._requests, number), timeout_ms=0)
                if position is not None:
                    self._offsets.reached(number, position)
                    self._committed.setdefault(number, position)

    def _commit_answered(self, _offsets: object, answer: object) -> None:
        self._commit_failing = isinstance(answer, Exception)
        self._commit_failed |= self._commit_failing

    def _due(self) -> dict[int, int]:
        finished = self._offsets.finished()
        return {number: offset for number, offset in finished.items() if offset > self._committed.get(number, -1)}

    def _finished(self) -> Mapping[int, int] | None:
        if not (self._turned and self._items.turned.is_set()):
            return None
        self._turned = False
        self._items.turned.clear()
        if not self._model.ready.is_set() and self._consumer.assignment():
            try:
                self.store.marks()
            except HeadwaterError as error:
                self.operations.log.warning("answering without features: %s", error)
            else:
                self._model.ready.set()
                self.operations.ready()
        return self._offsets.finished()

    def drain(self) -> None:
        """What was begun is answered, acknowledged and committed."""
        until = time.monotonic() + self.settings.operations.drain_s
        self._replies.send(self.answering.answer([], last=True))
        try:
            self._producer.flush(timeout=_left_s(until))
            while self._replies.send_again():
                self._producer.flush(timeout=_left_s(until))
        finally:  # whatever did not get through, what did is not answered again
            for place in self._replies.finished():
                self._offsets.end(*place)
            due = self._due()
            if due:
                try:
                    self._consumer.commit(_offsets(self._requests, due), timeout_ms=_left_s(until) * 1000)
                except (CommitFailedError, RebalanceInProgressError) as error:
                    self.operations.log.warning("whoever takes over answers the last requests again, alike: %r", error)

    def close(self) -> None:
        """Leave the group, so that another worker has the partitions at once; then all else."""
        self._opened.close()

    def _raise_failures(self) -> None:
        self._replies.check()
        for follower in (self._items, self._model):
            if follower.error is not None:
                raise Stalled(f"the thread {follower.name} ended") from follower.error


def _left_s(until: float) -> float:
    return max(MIN_WAIT_S, until - time.monotonic())


def _offsets(topic: str, offsets: Mapping[int, int]) -> dict[TopicPartition, OffsetAndMetadata]:
    return {TopicPartition(topic, number): OffsetAndMetadata(offset, "", -1) for number, offset in offsets.items()}


def main() -> None:
    """Run until SIGTERM; ends the process."""
    run_worker("serving", ServingWorker)


if __name__ == "__main__":
    main()
