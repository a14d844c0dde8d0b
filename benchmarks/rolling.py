"""An upgrade of everything under load: workers, brokers and stores restarted in turn, and what the apps saw of it.

    python -m benchmarks.rolling                      # Apache Kafka on three nodes, Redis Cluster of six
    python -m benchmarks.rolling --crash              # kill -9 where an upgrade stops in order

Apps ask and send through the SDK all the while, at a fixed rate. Of each step it says how many requests were asked,
answered, answered without the model's list, refused or left without an answer within their deadline and a second, and
how long the slowest took. At the end every event that Kafka acknowledged must be in the features once.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from chaos.store_cluster import StoreCluster, store_cluster
from console.local.processes import WorkerProcess
from headwater.client import Client
from headwater.errors import HeadwaterError
from headwater.events import Item, now_ms
from headwater.kafka import end_offsets, ensure_topics
from headwater.recommendations import Recommendation
from headwater.settings import Settings, load_settings
from headwater.topics import EVENTS, RECOMMENDATIONS, REQUESTS
from headwater.wire import decode_recommendation
from streams.audit import audit
from streams.features.store import FeatureStore
from tests.worlds.brokers import KafkaCluster, kafka_cluster

WORKERS = ("streams", "streams", "trainer", "serving", "serving")
SMALL_MODEL = {"width": 16, "length": 30, "replay_windows": 4, "replay_capacity": 64}
USERS, ITEMS, SHARDS = 200, 120, 16
DEADLINE_S, GRACE_S = 5.0, 1.0
BARE = "bare"
START_S, QUIET_S = 120.0, 120.0
WARM_S, IDLE_S = 15.0, 5.0
"""Until there is a first model and the brokers are warm; and how long nothing is restarted, before and after."""

NAMED = 20


@dataclass
class StepSeen:
    """What apps saw of one step."""

    seconds: float = 0.0
    asked: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    waited_s: list[float] = field(default_factory=list)
    sent: int = 0
    failed: int = 0


class RollingApps:
    """Asks and sends, at a rate, until told to stop."""

    def __init__(self, settings: Settings, rate: float) -> None:
        self.seen: dict[str, StepSeen] = {}
        self.why: Counter[str] = Counter()
        self.asked_ms: dict[str, int] = {}
        self.got_ms: dict[str, int] = {}
        self.acknowledged: set[tuple[int, int]] = set()
        self._step = "before"
        self._rate = rate
        self._client = Client(settings=settings.kafka)
        self._open: set[Future[Any]] = set()
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._ask, self._send)]

    def __enter__(self) -> RollingApps:
        self._client.put_items([Item(item_id=f"film-{n}", title=f"Film {n}") for n in range(ITEMS)]).result(30)
        return self

    def begin(self) -> None:
        """From here on apps ask and send."""
        for thread in self._threads:
            thread.start()

    def step(self, name: str) -> StepSeen:
        """What comes now is of another step."""
        with self._lock:
            self._step = name
            return self.seen.setdefault(name, StepSeen())

    def finish(self) -> None:
        """Stop, and wait for what is under way."""
        self._done.set()
        for thread in self._threads:
            thread.join()
        wait(lambda: not self._open, DEADLINE_S + 30, lambda: f"{len(self._open)} are under way")

    def __exit__(self, *_: object) -> None:
        self._done.set()
        with contextlib.suppress(HeadwaterError):
            self._client.close()

    def _paced(self) -> Iterator[int]:
        begin_s = time.monotonic()
        for number in itertools.count():
            if self._done.wait(max(0.0, begin_s + number / self._rate - time.monotonic())):
                return
            yield number

    def _ask(self) -> None:
        for number in self._paced():
            with self._lock:
                seen = self.seen.setdefault(self._step, StepSeen())
                seen.asked += 1
                request = f"{self._step} {number}"
            began_s, asked = time.monotonic(), {"request_id": request, "k": 5, "deadline_s": DEADLINE_S + GRACE_S}
            self.asked_ms[request] = now_ms()
            answer = self._client.recommend_async(f"user-{number % USERS}", **asked)
            self._watch(answer, partial(self._answered, seen, began_s, request))

    def _send(self) -> None:
        for number in self._paced():
            with self._lock:
                seen = self.seen.setdefault(self._step, StepSeen())
                seen.sent += 1
            user, item = f"user-{number * 7 % USERS}", f"film-{number * 3 % ITEMS}"
            sent = self._client.track(user, item, "click")
            self._watch(sent, partial(self._sent, seen))

    def _watch(self, future: Future[Any], then: Callable[[Future[Any]], None]) -> None:
        with self._lock:
            self._open.add(future)

        def over(one: Future[Any]) -> None:
            with self._lock:
                then(one)
                self._open.discard(one)

        future.add_done_callback(over)

    def _answered(self, seen: StepSeen, began_s: float, request: str, one: Future[Recommendation]) -> None:
        seen.waited_s.append(time.monotonic() - began_s)
        if (error := one.exception()) is not None:
            seen.outcomes[type(error).__name__] += 1
            self.why[f"{self._step}: {error!r:.160}"] += 1
        else:
            self.got_ms[request] = now_ms()
            fallback = one.result().receipt.fallback
            seen.outcomes[f"fallback {fallback}" if fallback else "answered"] += 1

    def _sent(self, seen: StepSeen, one: Future[Any]) -> None:
        if (error := one.exception()) is not None:
            seen.failed += 1
            self.why[f"{self._step}: {error!r:.160}"] += 1
        else:
            place = one.result()
            self.acknowledged.add((place.partition, place.offset))


class RollingWorkers:
    """The workers: each is restarted as an upgrade does, the new one first where there may be two."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings, self._folder = settings, folder
        self._numbers = itertools.count(1)
        self.running: list[WorkerProcess] = [self._new(role) for role in WORKERS]
        for one in self.running:
            wait(one.ready, START_S, lambda one=one: f"{one.name}: {one.health()}; {one.log_tail(3)}")  # type: ignore[misc]

    def _new(self, role: str) -> WorkerProcess:
        name = f"{role}-{next(self._numbers)}"
        made = WorkerProcess(name, self._settings, self._folder / f"{name}.log", f"{role}.worker")
        made.start()
        return made

    def restart(self, old: WorkerProcess, *, crash: bool) -> None:
        """One is replaced."""
        role, alone = old.name.partition("-")[0], old.name.startswith("trainer")
        new = None if alone else self._new(role)
        if new is not None:
            wait(new.ready, START_S, new.health)
        if crash:
            old.kill()
        else:
            old.terminate()
            wait(lambda: not old.running, 60, lambda: f"{old.name} drains")
            if old.exit_code():
                raise RuntimeError(f"{old.name} ended with {old.exit_code()}: {old.log_tail(3)}")
        if new is None:
            new = self._new(role)
            wait(new.ready, START_S, new.health)
        self.running[self.running.index(old)] = new

    def revived(self) -> list[str]:
        """Who has left by itself, with which code; each is started again, as a supervisor does."""
        gone = [one for one in self.running if not one.running]
        told = [f"{one.name}, exit code {one.exit_code()}" for one in gone]
        for one in gone:
            one.start()
        return told

    def close(self) -> None:
        for one in self.running:
            one.terminate()
        for one in self.running:
            with contextlib.suppress(TimeoutError):
                wait(lambda one=one: not one.running, 60, one.health)  # type: ignore[misc]
            one.kill()


def wait(condition: Callable[[], object], timeout_s: float, what: Callable[[], str]) -> None:
    """Until a condition holds. Raises TimeoutError."""
    until_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > until_s:
            raise TimeoutError(f"not within {timeout_s:.0f} s: {what()}")
        time.sleep(0.1)


Step = tuple[str, Callable[[], None]]


def _steps(parts: RollingWorkers, kafka: KafkaCluster, redis: StoreCluster, crash: bool) -> Iterator[Step]:
    for one in list(parts.running):
        yield f"worker {one.name}", partial(parts.restart, one, crash=crash)
    for number, node in enumerate(kafka.nodes):
        yield f"broker {number + 1}", partial(kafka.restart, node, crash=crash)
    for number, store in enumerate(redis.nodes):
        yield f"store {number + 1}", partial(redis.restart, store, crash=crash)


def _settings(kafka: KafkaCluster, redis: StoreCluster, folder: Path) -> Settings:
    return load_settings(
        kafka={"bootstrap": kafka.address, "replication": 3, "session_timeout_ms": 6000},
        redis={"url": redis.address, "shards": SHARDS},
        model={"overrides": SMALL_MODEL},
        trainer={"directory": folder / "trainer", "bundles": folder / "models", "yields": False, "device": "cpu"},
        serving={"bundles": folder / "models", "provider": "cpu"},
    )


def _quiet(settings: Settings) -> None:
    def folded() -> bool:
        ends = {one: end - 1 for one, end in end_offsets(settings.kafka, EVENTS).items() if end}
        with contextlib.closing(FeatureStore(settings.redis, settings.kafka.prefix, privacy=settings.privacy)) as store:
            return store.marks() == ends

    wait(folded, QUIET_S, lambda: "all events are folded")


class AnswerLog:
    """When each request and its answer could be read by a client that is none of ours (librdkafka)."""

    def __init__(self, kafka: str) -> None:
        from confluent_kafka import Consumer

        self.asked: dict[str, int] = {}
        self.made: dict[str, tuple[int, int, str]] = {}
        self._done = threading.Event()
        self._consumer: Any = Consumer(
            {"bootstrap.servers": kafka, "group.id": "none", "log_level": 0, "fetch.wait.max.ms": 100}
        )
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        from confluent_kafka import TopicPartition

        told = self._consumer.list_topics(timeout=30).topics
        both = [(topic.name, number) for topic in (REQUESTS, RECOMMENDATIONS) for number in told[topic.name].partitions]
        self._consumer.assign([TopicPartition(name, number, 0) for name, number in both])
        while not self._done.is_set():
            record = self._consumer.poll(0.2)
            if record is None or record.error():
                continue
            if record.topic() == REQUESTS.name:
                self.asked.setdefault(orjson.loads(record.value())["request_id"], now_ms())
            else:
                said = decode_recommendation(record.value())
                outcome = said.error.code if said.error else "answered"
                self.made.setdefault(said.request_id, (record.timestamp()[1], now_ms(), outcome))

    def close(self) -> None:
        """Stop following."""
        self._done.set()
        self._thread.join()
        self._consumer.close()

    def told(self, step: str, apps: RollingApps) -> str:
        """Of a step, the slowest of each part of the way: into the log, to an answer, into the log, to the app."""
        mine = {one: at for one, at in apps.asked_ms.items() if one.rpartition(" ")[0] == step}
        here = {one: self.made[one] for one in mine if one in self.made and one in self.asked}
        parts = {
            "asked": [self.asked[one] - mine[one] for one in here],
            "answered": [made - self.asked[one] for one, (made, _, _) in here.items()],
            "sent": [seen - made for made, seen, _ in here.values()],
            "received": [apps.got_ms[one] - seen for one, (_, seen, _) in here.items() if one in apps.got_ms],
        }
        slowest = ", ".join(f"{name} {max(several, default=0):,}" for name, several in parts.items())
        none = f"; {len(mine) - len(here)} ARE NOT IN THE LOG" if len(here) < len(mine) else ""
        return f"slowest ms: {slowest}{none}"


class BareProducer:
    """librdkafka's producer beside the apps, one record at a time: how long Kafka itself takes to acknowledge."""

    def __init__(self, kafka: str, rate: float) -> None:
        from confluent_kafka import Producer

        self.acknowledged: list[tuple[int, int]] = []
        """When each was handed over, epoch ms, and how long its acknowledgement took."""
        self._producer: Any = Producer({"bootstrap.servers": kafka, "acks": "all", "linger.ms": 0, "log_level": 0})
        self._rate = rate
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _send(self) -> None:
        while not self._done.is_set():
            until_s = time.monotonic() + 1 / self._rate
            self._producer.produce(BARE, b"x" * 100, on_delivery=partial(self._delivered, now_ms()))
            while (left_s := until_s - time.monotonic()) > 0:
                self._producer.poll(left_s)

    def _delivered(self, at_ms: int, error: object, _record: object) -> None:
        if error is None:
            self.acknowledged.append((at_ms, now_ms() - at_ms))

    def close(self) -> None:
        """Stop sending."""
        self._done.set()
        self._thread.join()
        self._producer.flush(30)

    def told(self, step: str, apps: RollingApps) -> str:
        """The slowest while a step took."""
        asked = [at for one, at in apps.asked_ms.items() if one.rpartition(" ")[0] == step]
        while_it = [ms for at, ms in self.acknowledged if asked and asked[0] <= at <= asked[-1]]
        return f"librdkafka's slowest acknowledgement {max(while_it, default=0):,} ms"


def _line(name: str, seen: StepSeen) -> str:
    waited = sorted(seen.waited_s) or [0.0]
    half, most = waited[len(waited) // 2], waited[-1]
    others = ", ".join(f"{count} {what}" for what, count in seen.outcomes.items() if what != "answered")
    lost = f", {seen.failed} of {seen.sent} events failed" if seen.failed else ""
    return (
        f"{name:18} {seen.seconds:4.0f} s {seen.asked:5} asked, {seen.outcomes['answered']:5} answered"
        f"{', ' + others if others else ''}; {half * 1000:,.0f} ms p50, {most * 1000:,.0f} max{lost}"
    )


def main() -> int:
    """Do it; exit code 1 where a request or an event was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=10.0, help="requests a second, and as many events")
    parser.add_argument("--crash", action="store_true", help="kill -9 in place of SIGTERM")
    parser.add_argument("--only", default="", help="steps whose names begin so")
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = asked.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headwater-rolling-")))
        folder.mkdir(parents=True, exist_ok=True)
        kafka = stack.enter_context(kafka_cluster(folder))
        redis = stack.enter_context(store_cluster(folder / "redis"))
        settings = _settings(kafka, redis, folder)
        ensure_topics(settings.kafka)
        parts = RollingWorkers(settings, folder)
        stack.callback(parts.close)
        apps = stack.enter_context(RollingApps(settings, asked.rate))
        log, bare = AnswerLog(kafka.address), BareProducer(kafka.address, asked.rate)
        apps.begin()
        time.sleep(WARM_S)
        apps.step("nothing")
        time.sleep(IDLE_S)
        left = 0
        for name, restart in _steps(parts, kafka, redis, asked.crash):
            if name.startswith(asked.only):
                began_s, seen = time.monotonic(), apps.step(name)
                restart()
                seen.seconds = time.monotonic() - began_s
                print(f"{name}: {seen.seconds:.0f} s", flush=True)
                for gone in parts.revived():
                    left += 1
                    print(f"  left by itself, and was started again: {gone}", flush=True)
        apps.step("after")
        time.sleep(IDLE_S)
        apps.finish()
        with contextlib.suppress(TimeoutError):
            wait(lambda: log.made.keys() >= apps.asked_ms.keys(), QUIET_S, lambda: "answers")
        log.close()
        bare.close()
        for name, seen in apps.seen.items():
            print(f"{_line(name, seen)}; {log.told(name, apps)}; {bare.told(name, apps)}")
        return _verdict(settings, apps, left)


def _verdict(settings: Settings, apps: RollingApps, left: int) -> int:
    """1 where anything was lost, late or gone."""
    for text, count in apps.why.most_common(NAMED):
        print(f"  {count} x {text}")
    _quiet(settings)
    result = audit(settings)
    found = "as the log says" if result.ok else result.first_difference
    print(f"features: {found}; {len(apps.acknowledged):,} events acknowledged, {result.events_applied:,} applied")
    refused = sum(count for one in apps.seen.values() for what, count in one.outcomes.items() if what[0].isupper())
    failed = sum(one.failed for one in apps.seen.values())
    print(f"{refused} requests without an answer, {failed} events that failed, {left} workers that left by themselves")
    lost = len(apps.acknowledged) > result.events_applied
    return int(bool(refused or failed or left or lost or not result.ok))


if __name__ == "__main__":
    sys.exit(main())
