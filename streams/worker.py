"""The streams process: `python -m streams.worker`. Behaviour in, features and training examples out.

Before: apps write `events` and `items`. After: serving reads the feature store, the trainer reads `examples`. This file
starts, watches and stops; the agents do the work.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import time
from collections.abc import Awaitable
from typing import Any

from faust.exceptions import ConsumerNotStarted
from kafka import TopicPartition

from headwater.errors import AnotherLog, NewerFormat, Stalled, StoreDamaged
from headwater.kafka import consumer, end_offsets, take_part
from headwater.process import Operations, Stopped, run_worker
from headwater.security.parties import STREAMS
from headwater.settings import KafkaSettings, Settings
from headwater.topics import CONSENTS, EVENTS, EXAMPLES, topic_name
from streams.agents import Agents
from streams.app import GROUP, make_app
from streams.erasing import erased_users
from streams.features.marks import check_log
from streams.features.store import FeatureStore
from streams.lag import LAG_TOPICS, LagWatch
from streams.losses import Losses
from streams.outbox import ExamplesOutbox
from streams.streams_metrics import StreamsMetrics

__all__ = ["StreamsWorker", "main"]

log = logging.getLogger("headwater")

LOOK_EVERY_S = 0.05


class StreamsWorker:
    """One Faust app with its agents, in an event loop of its own."""

    def __init__(self, settings: Settings, operations: Operations) -> None:
        self._settings = settings
        self._operations = operations
        self._metrics = StreamsMetrics(operations.registry)
        self._losses = Losses(self._metrics)
        self._store = FeatureStore(settings.redis, settings.kafka.prefix, self._losses.damaged, settings.privacy)
        self._has_words = settings.privacy.consent != "off"
        self._partitions = 1
        self._app: Any = None
        self._watch: LagWatch | None = None

    def await_servers(self) -> None:
        """Topics are made, the store answers, what it holds can be read, and it has folded no other log."""
        kafka, store, retry = self._settings.kafka, self._store, self._operations.retry
        spared = () if self._has_words else (CONSENTS.name,)
        retry.call("kafka", lambda: take_part(kafka, STREAMS, spared))
        self._partitions = retry.call("kafka", lambda: _example_partitions(self._settings))
        log.info("store", extra={"found": retry.call("redis", store.ping), "at": store.address})
        retry.call("redis", store.claim)
        if policy := retry.call("redis", store.evicts):
            log.warning(
                "Redis may throw features away when it is full (maxmemory-policy %s), and nobody can tell: set it to "
                "noeviction, and watch its memory",
                policy,
            )
        retry.call("kafka", self._mend_marks)
        forgotten = retry.call("kafka", lambda: erased_users(self._settings))
        retry.call("redis", lambda: store.keep_erased(forgotten.facts.values()))
        retry.call("redis", lambda: store.read_users([]))  # whatever all features depend on can be read
        retry.call("kafka", lambda: check_log(kafka, store))

    def _mend_marks(self) -> None:
        """Where a mark is none, take the one that follows from what the group has committed: the second of events after
        it is folded again, and found to be known. A partition that has never held a record needs none.
        Raises StoreDamaged when nothing is committed of one that has.
        """
        try:
            self._store.marks()
        except StoreDamaged:
            committed = _committed(self._settings.kafka)
            known = {number: offset - 1 for number, offset in committed.items() if offset}
            filled = {number for number, end in end_offsets(self._settings.kafka, EVENTS).items() if end}
            for held in self._store.mend_marks(known, filled):
                self._losses.damaged(held, "is set to what the group has committed, or taken away")

    def open(self) -> None:
        """Start Faust; returns when it has its partitions. It may have to wait for them."""
        for name in ("faust", "mode", "aiokafka"):
            logging.getLogger(name).setLevel(logging.ERROR)
        with contextlib.suppress(ImportError):
            import uvloop

            uvloop.install()  # Faust's consumer thread makes a loop of its own: 12,000 -> 15,000 records/s
        # a round makes 75,000 objects and lets them go: looked through each time these took 12% of the processor
        gc.set_threshold(500_000, 20, 20)
        self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(self._start())

    async def _start(self) -> None:
        kafka, retry = self._settings.kafka, self._operations.retry
        self._app = make_app(kafka, retry)
        outbox = ExamplesOutbox(self._app, kafka.prefix, self._partitions)
        self._agents = Agents(
            self._app, self._settings, self._store, outbox, self._metrics, self._losses, self._operations
        )
        topics = (*LAG_TOPICS, CONSENTS) if self._has_words else LAG_TOPICS
        self._watch = LagWatch(
            kafka, self._store, self._operations, self._metrics, lambda: _assigned(self._app), topics
        )
        assert self._app.consumer  # made in this loop: the watch asks it, too, and would have it made in one of its own
        self._watch.start()
        await self._unless_stopped(self._app.start())

    def run(self) -> None:
        """Let the agents work until told to stop. Raises AnotherLog, NewerFormat, or Stalled when a part has failed."""
        self._loop.run_until_complete(self._look_after())

    async def _look_after(self) -> None:
        ready = False
        app, agents, watch = self._app, self._agents, self._watch
        assert watch is not None
        while not self._operations.stopping.is_set():
            failed = agents.failed or watch.failed
            if isinstance(failed, (AnotherLog, NewerFormat)):
                raise failed
            if failed is not None:
                raise Stalled("an agent or the watch failed: its records are read again") from failed
            if app.crashed or app.should_stop:
                raise Stalled(f"Faust stopped by itself ({app.crash_reason!r})")
            if not app.rebalancing and app.rebalancing_count and app.flow_control.is_active():
                if not agents.begun or watch.forgotten.is_set():
                    watch.forgotten.clear()
                    agents.look()
                elif not ready and watch.looked.is_set():
                    ready = True
                    self._operations.started()
                    self._operations.ready()
            await asyncio.sleep(LOOK_EVERY_S)

    def drain(self) -> None:
        """No batch is begun any more; those begun are done, or wait for a server that is away."""
        self._loop.run_until_complete(self._drained(self._operations.settings.drain_s / 2))

    async def _drained(self, within_s: float) -> None:
        agents = self._agents
        agents.draining = True
        deadline = time.monotonic() + within_s
        while agents.busy and not self._operations.retry.waiting and time.monotonic() < deadline:
            await asyncio.sleep(LOOK_EVERY_S / 5)

    def close(self) -> None:
        """Faust commits and leaves its group. When the broker is away it may never end, and takes no cancelling."""
        if self._watch is not None:
            self._watch.close()
        if self._app is not None:
            self._loop.run_until_complete(_stopped(self._app, self._operations.settings.drain_s / 2))
        self._store.close()

    async def _unless_stopped(self, waiting: Awaitable[Any]) -> None:
        """Wait for it; raises Stopped as soon as SIGTERM comes. What is waited for then goes on alone."""
        task = asyncio.ensure_future(waiting)
        while not task.done():
            if self._operations.stopping.is_set():
                raise Stopped
            await asyncio.wait({task}, timeout=LOOK_EVERY_S)
        task.result()


async def _stopped(app: Any, within_s: float) -> None:
    stopping = asyncio.ensure_future(app.stop())
    await asyncio.wait({stopping}, timeout=within_s)
    if not stopping.done():
        log.warning("faust does not stop: the process ends without it", extra={"waited_s": round(within_s, 1)})
    elif not stopping.cancelled() and (error := stopping.exception()):
        log.warning("faust did not stop in order", exc_info=error)


def _example_partitions(settings: Settings) -> int:
    client = consumer(settings.kafka)
    try:
        return len(client.partitions_for_topic(topic_name(EXAMPLES, settings.kafka.prefix)) or {0})
    finally:
        client.close()


def _committed(kafka: KafkaSettings) -> dict[int, int]:
    name = topic_name(EVENTS, kafka.prefix)
    client = consumer(kafka, GROUP)
    try:
        numbers = client.partitions_for_topic(name) or ()
        return {number: client.committed(TopicPartition(name, number)) or 0 for number in numbers}
    finally:
        client.close()


def _assigned(app: Any) -> set[tuple[str, int]]:
    try:
        return {(tp.topic, tp.partition) for tp in app.consumer.assignment()}
    except ConsumerNotStarted:
        return set()


def main() -> None:
    """Run until SIGTERM; ends the process."""
    run_worker("streams", StreamsWorker)


if __name__ == "__main__":
    main()
