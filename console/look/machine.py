"""The machine under it: room on the disks that our data lie on, and clocks that differ."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from console.look.cluster import open_admin
from console.look.finding import Finding, ago
from headwater.settings import Settings
from streams.features.store import FeatureStore

__all__ = ["clocks", "disks", "judged_clock", "judged_disk"]

GB = 1_000_000_000
NEARLY_FULL, LITTLE = (0.5 * GB, 0.02, 10 * GB), (2 * GB, 0.05, 50 * GB)
"""Room left below which a disk is wrong, or worth a note: a size, or a share that is below another size."""

SKEW_S = 2.0
"""Clocks that differ by less are as good as equal: asking takes time, too."""


def disks(folders: Iterable[Path]) -> Iterator[Finding]:
    """Room on the disk of each folder that exists; folders of one disk are one finding."""
    seen: set[int] = set()
    for folder in folders:
        with contextlib.suppress(OSError):
            device = folder.stat().st_dev
            if device in seen:
                continue
            seen.add(device)
            usage = shutil.disk_usage(folder)
            yield judged_disk(folder, usage.total, usage.free)


def judged_disk(folder: Path, total: int, free: int) -> Finding:
    """Whether a disk has room.

    >>> judged_disk(Path("/data"), 100 * 10**9, 50 * 10**9).state
    'ok'
    >>> judged_disk(Path("/data"), 100 * 10**9, 4 * 10**9).state, judged_disk(Path("/data"), 10**12, 10**9).state
    ('note', 'wrong')
    """

    def below(limit: tuple[float, float, float]) -> bool:
        size, share, at_most = limit
        return free < size or free < min(share * total, at_most)

    text = f"{free / GB:,.1f} GB of {total / GB:,.1f} GB are free under {folder}"
    detail: dict[str, Any] = {"folder": str(folder), "free": free, "total": total}
    remedy = "make room, or shorten retention.ms of the topics (`headwater topics` shows their sizes)"
    if below(NEARLY_FULL):
        cause = "nearly full: broker, store and checkpoints stop when nothing can be written"
        return Finding("disk", "wrong", text, remedy, detail, cause)
    if below(LITTLE):
        return Finding("disk", "note", text, remedy, detail, "little room is left")
    return Finding("disk", "ok", text, detail=detail)


def clocks(settings: Settings) -> Finding:
    """The clocks of store and broker beside this machine's.

    Redis tells its time; of Kafka the controller does, where it is asked for its quorum (KRaft, and only those who may
    Describe the cluster).
    """
    skews: dict[str, float] = {}
    store = FeatureStore(settings.redis, settings.kafka.prefix, privacy=settings.privacy)
    try:
        store.ping()  # so that connecting is not in the time that asking takes
        skews["store"] = store.time_s() - time.time()
    finally:
        store.close()
    controller_ms = _controller_ms(settings)
    if controller_ms is not None:
        skews["broker"] = controller_ms / 1000 - time.time()
    return judged_clock(skews, settings.streams.max_ahead_s)


def _controller_ms(settings: Settings) -> int | None:
    from kafka.errors import KafkaError

    with open_admin(settings.kafka) as admin:
        try:
            quorum = admin.describe_metadata_quorum()["topics"][0]["partitions"][0]
        except (KafkaError, LookupError):
            return None
    leader = [voter for voter in quorum["current_voters"] if voter["replica_id"] == quorum["leader_id"]]
    return next((voter["last_caught_up_timestamp"] for voter in leader if voter["last_caught_up_timestamp"] > 0), None)


def judged_clock(skews: dict[str, float], max_ahead_s: float) -> Finding:
    """Whether clocks differ so much that it shows.

    Parameters
        skews: seconds that each is ahead of this machine.
        max_ahead_s: events that are further ahead than this are refused.

    >>> judged_clock({"store": 0.3, "broker": -1.0}, 60).state, judged_clock({"broker": 45.0}, 60).state
    ('ok', 'wrong')
    """
    detail: dict[str, Any] = {"ahead_s": {name: round(skew, 3) for name, skew in skews.items()}}
    off = {name: skew for name, skew in skews.items() if abs(skew) > SKEW_S}
    if not off:
        return Finding("clocks", "ok", f"those of {' and '.join(skews)} agree with this machine's", detail=detail)
    text = ", ".join(
        f"that of the {name} is {ago(abs(skew))} {'ahead' if skew > 0 else 'behind'}" for name, skew in off.items()
    )
    return Finding(
        "clocks", "wrong" if max(map(abs, off.values())) > max_ahead_s / 2 else "note", f"they differ: {text}",
        "set the clocks by NTP (chronyc tracking, timedatectl)", detail,
        f"one of the machines has a wrong clock; events over {max_ahead_s:g} s ahead of a worker's are refused",
    )  # fmt: skip
