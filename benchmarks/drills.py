"""What the drills of docs/recovery.md take: a backup, its proof, a restore, and a rebuild from the log.

    python -m benchmarks.drills                        # 1,000,000 events of 100,000 users
    python -m benchmarks.drills --events 100000 --users 10000

Broker and store are the embedded ones, and the world is made for it: packed events, folded by the rebuild itself, and a
learner that has seen every item. Seconds are processor time of this process and of the store, and the wall's beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ruler.worlds import packed, writer, zipf
from embedded import EmbeddedBroker, EmbeddedStore
from headwater.events import now_ms
from headwater.examples import Entry, EventPosition, Example
from headwater.kafka import end_offsets, ensure_topics
from headwater.kafka.groups import commit_offsets
from headwater.settings import Settings, load_settings
from headwater.topics import EVENTS
from models.config import ModelConfig
from models.learner import Learner
from models.published.stores import open_store
from recovery import SealedBackup, back_up, drill, open_place, restore
from streams.features.store import FeatureStore
from streams.refill import GROUP, Refill
from streams.running_audit import audit_running
from trainer.checkpoints import Checkpoints

ITEMS = 20_000
DAY_MS = 86_400_000


def _write(settings: Settings, events: int, users: int) -> None:
    """All committed, as if workers had folded them."""
    chance, out = np.random.default_rng(1), writer(settings.kafka)
    items, of = zipf(ITEMS, events, chance), chance.integers(0, users, events)
    begin = now_ms() - DAY_MS
    told = ((f"user-{u}", f"item-{i}", begin + n) for n, (u, i) in enumerate(zip(of, items, strict=True)))
    packed(out, settings.kafka, told)
    out.flush()
    commit_offsets(settings.kafka, GROUP, {EVENTS.name: end_offsets(settings.kafka, EVENTS)})


def _learn(settings: Settings) -> None:
    """A checkpoint and a bundle of a learner that knows every item."""
    learner = Learner(ModelConfig(), seed=1)
    for at in range(0, ITEMS, 500):
        learner.learn([_example(n) for n in range(max(at, 1), at + 500)])
    open_store(settings.trainer.bundles).write(learner.publish(created_ms=now_ms(), full=True))  # type: ignore[arg-type]
    with contextlib.closing(Checkpoints(settings.trainer.directory, logging.getLogger())) as checkpoints:
        checkpoints.save(learner, 0, {}, wait=True)


def _example(number: int) -> Example:
    history = [Entry(f"item-{number - 1}", "click", number, None)]
    target = Entry(f"item-{number}", "click", number + 1, None)
    return Example(f"user-{number % 100}", history, target, 0, EventPosition(number, 0))


class StepClock:
    """Prints what each step took."""

    def __init__(self, store_pid: int) -> None:
        self._store_pid = store_pid

    def _store_s(self) -> float:
        told = Path(f"/proc/{self._store_pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")

    def step(self, name: str, work: Callable[[], Any]) -> Any:
        """Do it."""
        own_s, store_s, wall_s = time.process_time(), self._store_s(), time.monotonic()
        done = work()
        own_s, store_s, wall_s = time.process_time() - own_s, self._store_s() - store_s, time.monotonic() - wall_s
        print(f"{name:44} {own_s:7.1f} s, store {store_s:6.1f} s, wall {wall_s:7.1f} s", flush=True)
        return done


def main() -> int:
    """Do them all; exit code 1 where one finds fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    asked = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headwater-drills-")))
        broker = stack.enter_context(EmbeddedBroker(folder / "kafka"))
        server = stack.enter_context(EmbeddedStore(folder / "redis"))
        settings = load_settings(
            kafka={"bootstrap": broker.address},
            redis={"url": server.address},
            trainer={"directory": folder / "trainer", "bundles": folder / "models"},
        )
        ensure_topics(settings.kafka)
        _write(settings, asked.events, asked.users)
        _learn(settings)
        clock, place, key = StepClock(server.pid), open_place(str(folder / "backups")), secrets.token_bytes(32)
        rebuilt = clock.step(f"rebuild of {asked.events:,} events", lambda: Refill(settings, lambda *_: None).run())
        made = clock.step("backup", lambda: back_up(settings, place, key))
        print(f"  {made.keys:,} keys, {made.bytes / 1e6:,.0f} MB encrypted, checkpoint and bundle in it")
        backup = SealedBackup(place, made.name, key)
        found = clock.step("verify: restored beside, audited, looked at", lambda: drill(backup, settings))
        print(f"  by step: {found.seconds}; failed: {found.failed or 'nothing'}")
        with contextlib.closing(FeatureStore(settings.redis)) as store:
            store.erase()
        shutil.rmtree(settings.trainer.directory)
        shutil.rmtree(settings.trainer.bundles)
        clock.step("restore", lambda: restore(backup, settings))
        audited = clock.step("audit of all users", lambda: audit_running(settings))
        return int(bool(found.failed or not audited.ok or rebuilt.events != asked.events))


if __name__ == "__main__":
    sys.exit(main())
