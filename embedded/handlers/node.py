"""The broker's state and its housekeeping: topics, groups, offsets, and what happens when time passes.

Knows no sockets and no encodings.
"""

import asyncio
import fcntl
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from embedded.groups import EMPTY, CommittedOffsets, Group
from embedded.log import PartitionLog, Topics, compaction
from embedded.log.partition import CHECKPOINT_EVERY_BYTES

NODE_ID = 1
OFFSETS_RETENTION_MS = 7 * 86_400_000  # as offsets.retention.minutes
SESSION_SWEEP_S = 0.1
GROUP_SWEEP_MS = 600_000  # as offsets.retention.check.interval.ms


@dataclass(frozen=True)
class BrokerOptions:
    """What the command line can change."""

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 0
    advertised_host: str | None = None
    advertised_port: int = 0
    num_partitions: int = 4
    auto_create_topics: bool = True
    initial_rebalance_delay_ms: int = 100
    min_session_timeout_ms: int = 1_000
    max_session_timeout_ms: int = 1_800_000
    cleanup_interval_s: float = 5.0


def now_ms() -> int:
    """Milliseconds since 1970, as records carry them."""
    return int(time.time() * 1000)


class Node:
    """One broker's worth of state. Use inside a running event loop."""

    def __init__(self, options: BrokerOptions) -> None:
        self.options = options
        self.port = options.port
        options.data_dir.mkdir(parents=True, exist_ok=True)
        # flock and not filelock: as short, and the broker starts 26 ms earlier on kafka-python alone
        self._lock = (options.data_dir / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SystemExit(
                f"{options.data_dir} is in use by another embedded broker: stop it or give another --data-dir"
            ) from None
        self.topics = Topics(options.data_dir)
        self.offsets = CommittedOffsets(options.data_dir / "offsets.log")
        self.groups: dict[str, Group] = {}
        self._next_group_sweep_ms = now_ms() + GROUP_SWEEP_MS
        for name, facts in self.offsets.groups.items():
            self.group(name).resume(facts)

    @property
    def host(self) -> str:
        """Where clients are told to connect."""
        return self.options.advertised_host or self.options.host

    def group(self, name: str) -> Group:
        """The group, made if need be."""
        if name not in self.groups:
            self.groups[name] = Group(
                name,
                self.options.initial_rebalance_delay_ms / 1000,
                lambda group: self.offsets.remember(group.id, group.facts()),
            )
        return self.groups[name]

    def delete_topic(self, name: str) -> None:
        """Deletes a topic and what groups committed for it."""
        self.topics.delete(name)
        self.offsets.forget_topic(name)

    async def run_housekeeping(self) -> None:
        """Runs until cancelled: sessions often, retention and compaction every cleanup interval."""
        next_cleanup = time.monotonic()
        while True:
            await asyncio.sleep(SESSION_SWEEP_S)
            for group in list(self.groups.values()):
                group.expire()
            if time.monotonic() >= next_cleanup:
                await self._clean()
                next_cleanup = time.monotonic() + self.options.cleanup_interval_s

    async def _clean(self) -> None:
        now = now_ms()
        self._expire_offsets(now)
        self._forget_groups(now)
        self.offsets.shrink()
        for topic in self.topics:
            for log in topic.partitions:
                try:
                    await self._clean_log(log, now)
                except FileNotFoundError:  # deleted while we were at it
                    continue
                except Exception:  # noqa: BLE001 - one log that cannot be cleaned must not end the broker; it keeps growing
                    print(
                        f"{log.folder}: cleaning failed, tried again in {self.options.cleanup_interval_s} s:",
                        file=sys.stderr,
                    )
                    traceback.print_exc(file=sys.stderr)
            await asyncio.sleep(0)

    async def _clean_log(self, log: PartitionLog, now: int) -> None:
        log.retain(now)
        log.checkpoint(CHECKPOINT_EVERY_BYTES)
        if compaction.due(log, now):
            await compaction.compact(log, now)
        log.close_inactive()

    def _expire_offsets(self, now: int) -> None:
        for name, positions in list(self.offsets.commits.items()):
            group = self.groups.get(name)
            if group is not None and group.state != EMPTY:
                continue
            old = [
                partition
                for partition, committed in positions.items()
                if now - committed.time_ms > OFFSETS_RETENTION_MS
            ]
            if len(old) == len(positions):
                self.offsets.forget(name)
                self.groups.pop(name, None)
            elif old:
                self.offsets.forget_partitions(name, old)

    def _forget_groups(self, now: int) -> None:
        """Groups that nobody is in and that committed nothing leave no trace, as in Apache Kafka after ten minutes."""
        if now < self._next_group_sweep_ms:
            return
        self._next_group_sweep_ms = now + GROUP_SWEEP_MS
        for name, group in list(self.groups.items()):
            if group.state == EMPTY and not group.pending and not self.offsets.commits.get(name):
                del self.groups[name]
                self.offsets.forget(name)

    def close(self) -> None:
        """Leaves the folder ready for a quick start."""
        self.topics.close()
        self.offsets.close()
        self._lock.close()
