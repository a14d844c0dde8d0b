"""How fast events get into features, beside the least that the parts allow, in one run and in turns.

    python -m benchmarks.ingest [CASE ...] [--quick] [--turns N] [--json]

One streams worker on the embedded broker and store: real records, real states, examples sent. Cases:

  single/H   one event a record, users with histories of H. Floor: a bare Faust worker that counts the same records.
  packed/H   50 events a record. Floor: a confluent-kafka loop that decodes the same records and writes as many bytes
             to the store as the worker wrote, one pipelined SET an event.
  workers/N  single events, N workers. Floor: one worker.
  sealed/H   as packed/H, with states that are sealed (`privacy.seal_states`). Floor: a worker whose states lie open.

In each turn the workers are stopped (SIGSTOP) while the records are written, so that what is measured is a flood; then
ours and the floor read the same records one after the other. Rates are events a second of the workers' own processor
time, all threads of theirs: on a crowded machine the wall tells of the others. 100,000 users where memory allows: the
states of a case hold 4 million entries at most.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import redis
from confluent_kafka import Consumer, Producer, TopicPartition
from kafka.partitioner.default import murmur2

from benchmarks.ruler import Setup
from benchmarks.ruler.worlds import broker
from benchmarks.traffic import librdkafka
from console.local.processes import WorkerProcess, settings_environment
from console.local.supervisor import stopping_signals
from embedded import EmbeddedStore
from headwater.events import Event, now_ms
from headwater.examples import Entry
from headwater.kafka import ensure_topics
from headwater.settings import Settings, load_settings
from headwater.topics import EVENTS, topic_name
from headwater.wire import encode, encode_packed
from streams.features.hashes import event_hash
from streams.features.state import EMPTY, UserState
from streams.features.store import Batch, FeatureStore

__all__ = ["CASES", "figures"]

CASES = (
    "single/7", "single/200", "single/1000", "packed/7", "packed/200", "packed/1000", "workers/2", "workers/4",
)  # fmt: skip
USERS, ENTRIES, ITEMS, PACK = 100_000, 4_000_000, 5_000, 50
WORKERS_HISTORY = 7
EVENTS_A_TURN = {"single": 20_000, "packed": 50_000, "workers": 20_000, "sealed": 50_000}
SEALED = {"seal_states": True, "master_key": "5" * 64}
STALL_S = 120.0
CLOCK = os.sysconf("SC_CLK_TCK")


def figures(
    names: Sequence[str] = CASES,
    *,
    quick: bool = False,
    turns: int = 5,
    say: Callable[[str], None] = lambda _: None,
    on: str = "embedded",
) -> dict[str, Any]:
    """The figures of these cases, in one world each.

    Parameters
        names: of `CASES`, or sealed/H.
        quick: few users, events and turns: whether it runs, not how fast.
        turns: how often ours and the floor take turns; the first more is not counted.
        say: told of each case when it is done.
        on: the broker: `embedded`, `kafka` (Apache Kafka beside the checkout), or an address.

    Returns
        `cases`: case -> `events_per_s` and `floor_events_per_s` (medians, by processor time), `wall_events_per_s`,
        `ratio` of the two (`median`, `min`, `max` over turns; for workers/N and sealed/H the processor time an event
        beside the floor's, so less is better), `store_bytes_an_event`, and by turn
        `ours` and `floor`; and `machine` and `commit`.
    """
    found: dict[str, Any] = {}
    for name in names:
        found[name] = _case(name, quick, 2 if quick else turns, on)
        say(_line(name, found[name]))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {platform.system()}"
    return {"bench": "ingest", "cases": found, "machine": machine, "commit": commit.stdout.strip()}


@dataclass(frozen=True)
class _World:
    """One case's broker, store, users and settings."""

    settings: Settings
    store: FeatureStore
    folder: Path
    users: int
    events: int
    chance: random.Random

    @property
    def topic(self) -> str:
        return topic_name(EVENTS, self.settings.kafka.prefix)

    @property
    def server(self) -> redis.Redis:
        return redis.Redis.from_url(self.settings.redis.url.get_secret_value())


@dataclass(frozen=True)
class _Turn:
    """What one turn of one side took: processor seconds, seconds of the wall, bytes that the store received."""

    cpu_s: float
    wall_s: float
    bytes: int = 0


def _case(name: str, quick: bool, turns: int, on: str) -> dict[str, Any]:
    kind, _, number = name.partition("/")
    history = WORKERS_HISTORY if kind == "workers" else int(number)
    if kind == "sealed":
        return _sealed(history, quick, turns, on)
    with _world(kind, history, quick, on) as world:
        if kind == "workers":
            return _workers(world, int(number), turns)
        with _worker(world, 1) as ours, _floor(kind, world) as floor:
            mine, bare = [], []
            for _ in range(turns + 1):  # the first is not counted: caches fill, connections open
                produced = _produce(world, kind)
                mine.append(_ours(world, ours))
                bare.append(floor(produced, mine[-1].bytes))
        result = _figures(world, mine[1:])
        result["floor_events_per_s"] = round(world.events / statistics.median(one.cpu_s for one in bare[1:]))
        pairs = zip(mine[1:], bare[1:], strict=True)
        result["floor"] = [world.events / one.cpu_s for one in bare[1:]]
        return result | {"ratio": _spread([b.cpu_s / a.cpu_s for a, b in pairs])}


def _sealed(history: int, quick: bool, turns: int, on: str) -> dict[str, Any]:
    """A worker with sealed states and one with open ones, each in a world of its own, take turns. Each turn has a
    worker of its own: one that stands still for as long as the other works loses its place in its group.
    """
    with _world("sealed", history, quick, on) as closed, _world("packed", history, quick, on) as opened:
        found: dict[bool, list[_Turn]] = {True: [], False: []}
        for n in range(turns):
            for seals, world in ((True, closed), (False, opened))[:: 1 if n % 2 else -1]:
                with _worker(world, 1) as pids:
                    for is_counted in (False, True):  # the first is not: caches fill, connections open
                        _produce(world, "packed")
                        turn = _ours(world, pids)
                        if is_counted:
                            found[seals].append(turn)
        result = _figures(closed, found[True])
    result["floor_events_per_s"] = round(opened.events / statistics.median(one.cpu_s for one in found[False]))
    result["floor"] = [opened.events / one.cpu_s for one in found[False]]
    pairs = zip(found[True], found[False], strict=True)
    return result | {"ratio": _spread([a.cpu_s / b.cpu_s for a, b in pairs])}


def _workers(world: _World, count: int, turns: int) -> dict[str, Any]:
    """One worker, several, and one again take as many events each: they are of one group, so they cannot take turns,
    and on a machine that gets busier one alone, measured first, would look cheap.
    """
    cpu: dict[int, list[_Turn]] = {1: [], count: []}
    for several, of_it in ((1, turns - turns // 2), (count, turns), (1, turns // 2)):
        with _worker(world, several) as workers:
            for n in range(of_it + 1):
                _produce(world, "single")
                turn = _ours(world, workers)
                if n:  # the first is not counted: caches fill, connections open
                    cpu[several].append(turn)
    alone, together = cpu[1], cpu[count]
    result = _figures(world, together)
    result["floor_events_per_s"] = round(world.events / statistics.median(one.cpu_s for one in alone))
    middle = statistics.median(one.cpu_s for one in alone)
    result["floor"] = [world.events / one.cpu_s for one in alone]
    return result | {"ratio": _spread([one.cpu_s / middle for one in together])}


def _figures(world: _World, turns: Sequence[_Turn]) -> dict[str, Any]:
    return {
        "users": world.users,
        "events_a_turn": world.events,
        "events_per_s": round(world.events / statistics.median(one.cpu_s for one in turns)),
        "wall_events_per_s": round(world.events / statistics.median(one.wall_s for one in turns)),
        "ours": [world.events / one.cpu_s for one in turns],
        "store_bytes_an_event": round(statistics.median(one.bytes for one in turns) / world.events),
    }


def _spread(ratios: Sequence[float]) -> dict[str, float]:
    return {name: round(of(ratios), 2) for name, of in (("median", statistics.median), ("min", min), ("max", max))}


@contextlib.contextmanager
def _world(kind: str, history: int, quick: bool, on: str) -> Iterator[_World]:
    users = min(USERS, ENTRIES // history) // (20 if quick else 1)
    with (
        tempfile.TemporaryDirectory() as directory,
        broker(Setup(Path(directory), broker=on)) as address,
        EmbeddedStore(Path(directory) / "redis") as server,
    ):
        kafka = {"bootstrap": address, "prefix": f"bench{os.getpid()}-{kind}-{history}."}
        privacy = SEALED if kind == "sealed" else {}
        settings = load_settings(kafka=kafka, redis={"url": server.address}, privacy=privacy)
        ensure_topics(settings.kafka)
        store = FeatureStore(settings.redis, settings.kafka.prefix, privacy=settings.privacy)
        events = EVENTS_A_TURN[kind] // (10 if quick else 1)
        world = _World(settings, store, Path(directory), users, events, random.Random(7))
        _remember(world, history)
        yield world
        store.close()


def _remember(world: _World, history: int) -> None:
    """Every user has a past of that length, as the worker writes it."""
    begin = now_ms() - 86_400_000
    past = [Entry(f"item-{n % ITEMS}", "click", begin + 1000 * n, None) for n in range(history)]
    recent = [event_hash(f"past-{n}") for n in range(history)][-128:]
    state = UserState(past, recent, history, 0, 0, begin)
    size = max(1, 20_000 // history)
    for at in range(0, world.users, size):
        some = {f"user-{n}": state for n in range(at, min(world.users, at + size))}
        assert world.store.apply(Batch({0: {}}, None, dict.fromkeys(some, EMPTY), some)) == "applied"


def _produce(world: _World, kind: str) -> list[tuple[int, bytes, int]]:
    """Write one turn's records; partition, value and number of events of each."""
    writer = Producer({**librdkafka(world.settings.kafka), "linger.ms": 5, "enable.idempotence": True})
    records: list[tuple[int, bytes, int]] = []
    if kind == "packed":
        waiting: dict[int, list[Event]] = {}
        for one in _events(world):
            several = waiting.setdefault(_partition(one.user_id), [])
            several.append(one)
            if len(several) == PACK:
                records.append((_partition(one.user_id), encode_packed(several), PACK))
                several.clear()
        records += [
            (partition, encode_packed(several), len(several)) for partition, several in waiting.items() if several
        ]
        keys: list[str | None] = [None] * len(records)
    else:
        events = _events(world)
        records = [(_partition(one.user_id), encode(one), 1) for one in events]
        keys = [one.user_id for one in events]
    for (partition, value, _), key in zip(records, keys, strict=True):
        writer.produce(world.topic, value, key, partition)
        writer.poll(0)
    writer.flush()
    return records


def _events(world: _World) -> list[Event]:
    chance, now = world.chance, now_ms()
    return [
        Event(
            user_id=f"user-{chance.randrange(world.users)}",
            item_id=f"item-{chance.randrange(ITEMS)}",
            type="click",
            event_time=now + n // 100,
        )
        for n in range(world.events)
    ]


def _partition(user: str) -> int:
    return (murmur2(user.encode()) & 0x7FFFFFFF) % EVENTS.partitions


@contextlib.contextmanager
def _worker(world: _World, count: int) -> Iterator[list[int]]:
    """So many streams workers that have begun, stopped until their turn; their process ids."""
    workers = [WorkerProcess("streams", world.settings, world.folder / f"streams-{n}.log") for n in range(count)]
    try:
        for one in workers:
            one.start()
        deadline = time.monotonic() + STALL_S
        while not all(one.ready() for one in workers):
            if time.monotonic() > deadline or not all(one.running for one in workers):
                raise RuntimeError(f"a streams worker does not get ready: {workers[0].log_tail()}")
            time.sleep(0.2)
        pids = [one.pid for one in workers if one.pid is not None]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield pids
    finally:
        for one in workers:
            if one.pid is not None and one.running:
                os.kill(one.pid, signal.SIGCONT)
            one.terminate()
        for one in workers:
            one.wait(10)


def _ours(world: _World, pids: Sequence[int]) -> _Turn:
    """Let the workers run until the store has all that the log has."""
    ends = _ends(world)
    received, began, before = _received(world), time.monotonic(), sum(map(_cpu_s, pids))
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    while any(world.store.marks().get(partition, -1) < end - 1 for partition, end in ends.items() if end):
        if time.monotonic() - began > STALL_S:
            raise RuntimeError(f"the worker is at {world.store.marks()} of {ends} after {STALL_S:.0f} s")
        time.sleep(0.02)
    turn = _Turn(sum(map(_cpu_s, pids)) - before, time.monotonic() - began, _received(world) - received)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    return turn


def _cpu_s(pid: int) -> float:
    """User and system time of a process, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK


def _received(world: _World) -> int:
    return int(world.server.info("stats")["total_net_input_bytes"])


def _ends(world: _World) -> dict[int, int]:
    reader = Consumer({**librdkafka(world.settings.kafka), "group.id": "bench.ends"})
    try:
        return {n: reader.get_watermark_offsets(TopicPartition(world.topic, n))[1] for n in range(EVENTS.partitions)}
    finally:
        reader.close()


Floor = Callable[[list[tuple[int, bytes, int]], int], _Turn]


@contextlib.contextmanager
def _floor(kind: str, world: _World) -> Iterator[Floor]:
    with _counting(world) if kind == "single" else _copying(world) as floor:
        yield floor


@contextlib.contextmanager
def _counting(world: _World) -> Iterator[Floor]:
    """A bare Faust worker that counts."""
    bare = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.bare_faust", world.topic, "bench.bare", str(world.events)],
        env=settings_environment(world.settings),
        stdout=subprocess.PIPE,
        text=True,
    )
    used = 0.0

    def turn(_produced: list[tuple[int, bytes, int]], _bytes: int) -> _Turn:
        nonlocal used
        began = time.monotonic()
        bare.send_signal(signal.SIGCONT)
        assert bare.stdout is not None
        before, used = used, float(bare.stdout.readline())
        bare.send_signal(signal.SIGSTOP)
        return _Turn(used - before, time.monotonic() - began)

    try:
        yield turn
    finally:
        bare.kill()
        bare.wait()


@contextlib.contextmanager
def _copying(world: _World) -> Iterator[Floor]:
    """A loop of confluent-kafka that decodes, and writes as many bytes as the worker did, an equal share an event."""
    reader = Consumer({**librdkafka(world.settings.kafka), "group.id": "bench.copy", "enable.auto.commit": False})
    ends = _ends(world)
    reader.assign([TopicPartition(world.topic, partition, end) for partition, end in ends.items()])
    server = world.server

    def turn(produced: list[tuple[int, bytes, int]], received: int) -> _Turn:
        share = b"x" * (received // world.events)
        left, began, before = len(produced), time.monotonic(), time.process_time()
        while left:
            pipe = server.pipeline(transaction=False)
            records = reader.consume(500, 1.0)
            for record in records:
                for event in orjson.loads(record.value() or b"[]"):
                    pipe.set(f"floor:{event['user_id']}", share)
            pipe.execute()
            left -= len(records)
        return _Turn(time.process_time() - before, time.monotonic() - began)

    try:
        yield turn
    finally:
        reader.close()


def _line(name: str, case: dict[str, Any]) -> str:
    ratio = case["ratio"]
    return (
        f"{name:12} {case['events_per_s']:8,} events/s of processor time (wall {case['wall_events_per_s']:,}), floor "
        f"{case['floor_events_per_s']:8,}, ratio {ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f}), "
        f"{case['users']:,} users, {case['store_bytes_an_event']:,} bytes to the store an event"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all by default")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with stopping_signals():  # a worker that is stopped would stay behind
        found = figures(
            arguments.cases or CASES,
            quick=arguments.quick,
            turns=arguments.turns,
            say=lambda line: print(line, file=sys.stderr if arguments.json else sys.stdout, flush=True),
        )
    print(json.dumps(found) if arguments.json else f"{found['machine']}, commit {found['commit']}")


if __name__ == "__main__":
    main()
