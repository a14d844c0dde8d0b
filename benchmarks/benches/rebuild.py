"""A lost store made again from the log, `headwater rebuild features`, beside reading the log and writing what comes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import redis

from benchmarks.ruler import Bar, Beside, Row, Setup
from benchmarks.ruler.worlds import broker, packed, writer, zipf
from embedded import EmbeddedStore
from headwater.events import now_ms
from headwater.kafka import end_offsets, ensure_topics, read_partitions
from headwater.kafka.groups import commit_offsets
from headwater.settings import Settings, load_settings
from headwater.topics import EVENTS
from streams.features.store import FeatureStore
from streams.refill import GROUP, Refill

FLOOR = "read, decoded, written"
ITEMS, GAP_MS = 20_000, 600_000
OF_LENGTH = {7: 60_000, 200: 1_000, 1000: 200}
"""Events of a user -> users."""


def measured(setup: Setup) -> Iterator[Row]:
    """By processor time of the one process, all threads; the store is emptied before each turn."""
    with broker(setup) as address, EmbeddedStore(setup.directory / "redis") as server:
        for length in setup.pick((7, 200, 1000), (7,)):
            settings = load_settings(
                kafka={"bootstrap": address, "prefix": f"bench{length}."}, redis={"url": server.address}
            )
            ensure_topics(settings.kafka)
            users = setup.pick(OF_LENGTH[length], 20)
            _write(settings, users, length)
            ours, floor, walls = [], [], []
            for turn in range(setup.few + 1):  # the first is not counted: caches fill
                rate, wall = _ours(settings, users * length)
                bare = _floor(settings, users * length)
                if turn:
                    ours.append(rate)
                    walls.append(wall)
                    floor.append(bare)
            yield Row(
                f"histories of {length:,}",
                "events/s of processor time",
                "more",
                ours,
                [Beside(FLOOR, "floor", floor)],
                [Bar(20_000)],
                f"{users:,} users, {sorted(walls)[len(walls) // 2]:,.0f} events/s by the wall",
            )


def _write(settings: Settings, users: int, length: int) -> None:
    """Packed events of users who come and go in no order, all of them committed."""
    chance, out = np.random.default_rng(length), writer(settings.kafka)
    items, begin = zipf(ITEMS, users * length, chance), now_ms() - 86_400_000
    of = chance.permutation(np.arange(users * length) % users)
    packed(
        out,
        settings.kafka,
        ((f"user-{u}", f"item-{i}", begin + n) for n, (u, i) in enumerate(zip(of, items, strict=True))),
    )
    out.flush()
    commit_offsets(settings.kafka, GROUP, {EVENTS.name: end_offsets(settings.kafka, EVENTS)})


def _ours(settings: Settings, events: int) -> tuple[float, float]:
    """Events a second of processor time, and of the wall."""
    with contextlib.closing(FeatureStore(settings.redis, settings.kafka.prefix, privacy=settings.privacy)) as store:
        store.erase()
    cpu_s, wall_s = time.process_time(), time.monotonic()
    done = Refill(settings, lambda *_: None).run()
    cpu_s, wall_s = time.process_time() - cpu_s, time.monotonic() - wall_s
    if done.events != events:
        raise RuntimeError(f"{done.events:,} events were folded of {events:,}")
    return events / cpu_s, events / wall_s


def _floor(settings: Settings, events: int) -> float:
    """The same records read and decoded, and each key of the store that they make read and written once, as it is."""
    began = time.process_time()
    for _, records in read_partitions(settings.kafka, EVENTS):
        for record in records:
            orjson.loads(record.value)
    with contextlib.closing(redis.Redis.from_url(settings.redis.url.get_secret_value())) as server:
        keys: list[Any] = list(server.scan_iter(f"{settings.kafka.prefix}u:*", count=10_000))
        for at in range(0, len(keys), 5_000):
            pipe = server.pipeline(transaction=False)
            for key, value in zip(keys[at : at + 5_000], server.mget(keys[at : at + 5_000]), strict=True):
                pipe.set(key, value)
            pipe.execute()
    return events / (time.process_time() - began)
