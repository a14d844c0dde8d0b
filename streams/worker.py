"""The streams process: `python -m streams.worker`. Behaviour in, features and training examples out.

Before: apps write `events` and `items`. After: serving reads the feature store, the trainer reads `examples`. This file
starts, watches and stops; the agents do the work. Exit codes: 0 after SIGTERM, 2 for wrong settings or
a log that is not the one the store has folded, 70 when the worker stopped making progress or a part of it failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from faust.exceptions import ConsumerNotStarted

from headwater.errors import AnotherLog, HeadwaterError, Unavailable
from headwater.kafka.connections import consumer, ensure_topics
from headwater.process.operations import EXIT_STALLED, EXIT_WRONG, Operations
from headwater.settings import Settings, load_settings
from headwater.topics import EXAMPLES, topic_name
from streams.agents import Agents
from streams.app import make_app
from streams.features.marks import check_log
from streams.features.store import FeatureStore
from streams.lag import LagWatch
from streams.outbox import Outbox
from streams.streams_metrics import Metrics

__all__ = ["main"]

Answer = TypeVar("Answer")
log = logging.getLogger("headwater")

POLL_S = 0.05


def main() -> None:
    """Run until SIGTERM; exits the process."""
    try:
        settings = load_settings()
        store = FeatureStore(settings.redis, settings.kafka.prefix)
    except HeadwaterError as error:
        print(f"streams.worker: {error}", file=sys.stderr)
        sys.exit(EXIT_WRONG)
    operations = Operations("streams", settings.operations)
    operations.start()
    for name in ("faust", "mode", "aiokafka"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.install()  # Faust's consumer thread makes a loop of its own: 12,000 -> 15,000 records/s
    gc.set_threshold(50_000, 20, 100)  # a cache of histories makes full collections long; they become rare
    code = asyncio.new_event_loop().run_until_complete(_run(settings, store, operations))
    operations.log.info("stopped", extra={"exit_code": code})
    operations.close()
    sys.stderr.flush()
    os._exit(code)  # Faust's threads and tasks may linger: what is not written by now is read again


async def _run(settings: Settings, store: FeatureStore, operations: Operations) -> int:
    metrics = Metrics(operations.registry)
    app: Any = None
    agents: Agents | None = None
    watch: LagWatch | None = None
    try:
        await _until_there(operations, lambda: ensure_topics(settings.kafka))
        partitions = await _until_there(operations, lambda: _example_partitions(settings))
        log.info("store", extra={"found": await _until_there(operations, store.ping), "at": store.address})
        await _until_there(operations, lambda: check_log(settings.kafka, store))
        operations.progress()  # every server has answered: what Faust still takes to start is a wait of its own
        app = make_app(settings.kafka)
        agents = Agents(app, settings, store, Outbox(app, settings.kafka.prefix, partitions), metrics)
        await _unless_stopped(operations, app.start())  # until Faust has its partitions: it may have to wait for them
        watch = LagWatch(settings.kafka, store, operations, metrics, lambda: _assigned(app))
        watch.start()
        code = await _serve(app, agents, watch, operations)
    except asyncio.CancelledError:  # told to stop while it waited for something
        code = 0
    except HeadwaterError as error:
        log.error("%s", error)
        code = EXIT_WRONG if app is None else EXIT_STALLED
    except Exception as error:
        log.error("failed: exiting so that a fresh process takes over", exc_info=error)
        code = EXIT_STALLED
    deadline = time.monotonic() + operations.settings.drain_s
    if watch is not None:
        watch.close()
    if agents is not None:
        await _drained(agents, operations.settings.drain_s / 2)
        await _stopped(app, deadline - time.monotonic())
    store.close()
    return code


async def _serve(app: Any, agents: Agents, watch: LagWatch, operations: Operations) -> int:
    ready = False
    while not operations.stopping.is_set():
        failed = agents.failed or watch.failed
        if isinstance(failed, AnotherLog):
            log.error("%s", failed)
            return EXIT_WRONG
        if failed is not None:
            log.error("an agent failed: exiting, its records are read again", exc_info=failed)
            return EXIT_STALLED
        if app.crashed or app.should_stop:
            log.error("faust stopped by itself: exiting", extra={"reason": repr(app.crash_reason)})
            return EXIT_STALLED
        if not ready and not app.rebalancing and app.rebalancing_count and app.flow_control.is_active():
            ready = True
            operations.ready()
        await asyncio.sleep(POLL_S)
    return 0


async def _drained(agents: Agents, within_s: float) -> None:
    """No batch is begun any more; those begun are done, or wait for a server that is away."""
    agents.draining = True
    deadline = time.monotonic() + within_s
    while agents.busy and not agents.patience.waiting and time.monotonic() < deadline:
        await asyncio.sleep(POLL_S / 5)


async def _stopped(app: Any, within_s: float) -> None:
    """Faust commits and leaves its group. It may never end when the broker is away, and then takes no cancelling."""
    stopping = asyncio.ensure_future(app.stop())
    await asyncio.wait({stopping}, timeout=within_s)
    if not stopping.done():
        log.warning("faust does not stop: the process ends without it", extra={"waited_s": round(within_s, 1)})
    elif not stopping.cancelled() and (error := stopping.exception()):
        log.warning("faust did not stop in order", exc_info=error)


async def _unless_stopped(operations: Operations, waiting: Awaitable[Answer]) -> Answer:
    """The answer, or CancelledError as soon as SIGTERM comes. What is waited for then goes on alone."""
    task = asyncio.ensure_future(waiting)
    while not task.done():
        if operations.stopping.is_set():
            raise asyncio.CancelledError
        await asyncio.wait({task}, timeout=POLL_S)
    return task.result()


async def _until_there(operations: Operations, call: Callable[[], Answer]) -> Answer:
    """The answer of a blocking call, asked again while a server is away."""
    logged = 0.0
    while True:
        try:
            return await _unless_stopped(operations, asyncio.to_thread(call))
        except Unavailable as error:
            if time.monotonic() - logged > 3:
                logged = time.monotonic()
                log.warning("waiting: %s", error)
        await _unless_stopped(operations, asyncio.sleep(0.2))


def _example_partitions(settings: Settings) -> int:
    client = consumer(settings.kafka)
    try:
        return len(client.partitions_for_topic(topic_name(EXAMPLES, settings.kafka.prefix)) or {0})
    finally:
        client.close()


def _assigned(app: Any) -> set[tuple[str, int]]:
    try:
        return {(tp.topic, tp.partition) for tp in app.consumer.assignment()}
    except ConsumerNotStarted:
        return set()


if __name__ == "__main__":
    main()
