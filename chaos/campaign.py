"""One campaign: a world under load, a schedule of faults, then quiet, then every promise judged.

Before: `headwater chaos`. After: a `CampaignResult` for the report. What was broken is mended before quiet is waited
for: what is judged is what the engine makes of it, not what is still broken.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos.faults import FAULTS, NoEffect, Stage
from chaos.faults.disk import small_disk
from chaos.ledger import LoadLedger
from chaos.load import Apps
from chaos.promises import BEHAVED, PROMISES, Aftermath
from chaos.recovery import Recoveries
from chaos.schedule import Planned, Schedule
from chaos.servers import ServerUnderTest, kafka_server, object_server, store_server
from chaos.stack import Stack
from chaos.waiting import wait
from console.local.processes import WorkerProcess
from gateway.api_keys import SCOPES, new_key
from headwater.errors import HeadwaterError, Unavailable
from headwater.kafka import admin_client, end_offsets, ensure_topics
from headwater.kafka.sending import send_records
from headwater.settings import Settings, load_settings
from headwater.topics import API_KEYS, CONSENTS, ERASURES, EVENTS, USERS
from headwater.wire import encode
from streams.features.store import FeatureStore

__all__ = ["CampaignOptions", "CampaignResult", "Done", "possible_faults", "run"]

WORKERS = {"streams": 2, "trainer": 1, "serving": 2, "gateway": 2}
SMALL_MODEL = {"width": 16, "length": 30, "replay_windows": 4, "replay_capacity": 64}
QUIET_S = 180.0
DISK_MB = 96
WARM_S = 2.0


@dataclass(frozen=True)
class CampaignOptions:
    """What a campaign is to be.

    Fields
        folder: for everything that it writes.
        kafka, redis: `embedded`, `apache`, `cluster`, or where one runs.
        bundles: where they are: `folder`, `s3`, or the URL of a bucket.
        shards: slots of the store.
        break_servers: whether one that runs may be harmed by commands.
        rate: records a second of the load.
        stall_s: of the workers' settings.
        make_worker: makes their processes.
    """

    folder: Path
    seed: int
    kafka: str = "embedded"
    redis: str = "embedded"
    bundles: str = "folder"
    shards: int = 1
    break_servers: bool = False
    rate: float = 20.0
    stall_s: float = 20.0
    make_worker: Callable[..., WorkerProcess] = WorkerProcess


@dataclass
class Done:
    """One fault of the schedule, and what became of it. `served_s` is when events were folded and requests answered
    again, `recovery_s` when they were learned, too; None where that was not so until the end.
    """

    planned: Planned
    effect: str
    took: bool
    served_s: float | None = None
    recovery_s: float | None = None


@dataclass
class CampaignResult:
    """What came out."""

    asked: CampaignOptions
    seconds: float = 0.0
    faults: list[Done] = field(default_factory=list)
    not_here: dict[str, str] = field(default_factory=dict)
    violations: dict[str, list[str]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    largest_mb: dict[str, list[int]] = field(default_factory=dict)
    endings: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every promise was kept."""
        return not any(self.violations.values())


Say = Callable[[str], None]


@contextlib.contextmanager
def world(asked: CampaignOptions) -> Iterator[Stack]:
    """Servers, topics and workers of a campaign, all ready."""
    folder = asked.folder
    folder.mkdir(parents=True, exist_ok=True)
    with (
        kafka_server(asked.kafka, folder / "kafka", asked.break_servers) as kafka,
        store_server(asked.redis, folder / "redis", asked.break_servers) as store,
        object_server(asked.bundles) as objects,
        _small_disk(folder),
    ):
        settings = _settings(asked, kafka, store, objects)
        ensure_topics(settings.kafka)
        key = new_key("apps", SCOPES)
        send_records(settings.kafka, API_KEYS, [(key.kept.key_id.encode(), encode(key.kept))])
        try:
            with Stack(folder, settings, (kafka, store, objects), WORKERS, key.text, asked.make_worker) as stack:
                yield stack
        finally:
            _leave_clean(settings, kafka, store)


def _settings(
    asked: CampaignOptions, kafka: ServerUnderTest, store: ServerUnderTest, objects: ServerUnderTest | None
) -> Settings:
    disk = small_disk(asked.folder)
    bundles = disk / "models" if objects is None else objects.address
    return load_settings(
        kafka={
            "bootstrap": kafka.address,
            "session_timeout_ms": 6000,
            "linger_ms": 0 if asked.kafka == "embedded" else 2,
            **({} if kafka.ours and store.ours else {"prefix": f"chaos{asked.seed}."}),
        },
        redis={"url": store.address, "shards": asked.shards},
        model={"overrides": SMALL_MODEL},
        trainer={
            "directory": disk / "trainer",
            "bundles": bundles,
            "yields": False,
            "device": "cpu",
            "keep_up_s": 0.0,
            "checkpoint_every_s": 2.0,
            "snapshot_every_s": 8.0,
        },
        serving={"bundles": bundles, "provider": "cpu"},
        gateway={"needs_keys": True},
        privacy={"consent": "opt-out"},
        operations={"stall_s": asked.stall_s},
    )


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    """A file system of its own for checkpoints and bundles, where this user may mount one; else a plain folder."""
    disk = small_disk(folder)
    disk.mkdir(exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "headwater-chaos", str(disk)]
    try:
        mounted = subprocess.run(words, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(disk)], capture_output=True, check=False)


def _leave_clean(settings: Settings, kafka: ServerUnderTest, store: ServerUnderTest) -> None:
    """Take this world's topics and keys off servers that are not ours."""
    prefix = settings.kafka.prefix
    if not kafka.ours:
        with contextlib.closing(admin_client(settings.kafka)) as admin:
            admin.delete_topics([name for name in admin.list_topics() if prefix and name.startswith(prefix)])
    if not store.ours and prefix:
        left = FeatureStore(settings.redis, prefix, privacy=settings.privacy)
        left.erase()
        left.close()


def possible_faults(stack: Stack) -> tuple[dict[str, tuple[float, float]], dict[str, str]]:
    """Of all kinds, how long each that can be done here lasts; and why the others cannot."""
    lacks = {name: why for name, fault in FAULTS.items() if (why := fault.lacks(stack)) is not None}
    return {name: fault.hold_s for name, fault in FAULTS.items() if name not in lacks}, lacks


def run(
    asked: CampaignOptions, planned: Callable[[Mapping[str, tuple[float, float]]], Schedule], say: Say
) -> CampaignResult:
    """Run one campaign.

    Parameters
        planned: gives the schedule, of the faults that can be done here.
        say: is told what happens, a line each.

    Raises
        HeadwaterError: no world could be made to begin with.
    """
    result = CampaignResult(asked)
    began_s = time.monotonic()
    with world(asked) as stack:
        holds, result.not_here = possible_faults(stack)
        schedule = planned(holds)
        say(f"all ready after {time.monotonic() - began_s:.0f} s; {len(schedule)} faults to come, in {asked.folder}")
        ledger = LoadLedger()
        load = Apps(stack.settings, ledger, asked.rate, asked.seed, stack.doors, stack.key)
        with Recoveries(stack, ledger) as recoveries, load:
            time.sleep(WARM_S)
            for number, one in enumerate(_due(schedule)):
                done = _inject(one, Stage(stack, load, random.Random(one.seed)))
                result.faults.append(done)
                recoveries.over(number)
                missed = "" if done.took else " (no effect)"
                say(f"{time.monotonic() - began_s:6.1f} s  {one.fault}: {done.effect}{missed}")
            _until_well(recoveries, say)
            load.finish()
            trouble = _quiet(stack, ledger, recoveries)
        for number, done in enumerate(result.faults):
            done.served_s, done.recovery_s = recoveries.served.get(number), recoveries.found.get(number)
        say(f"{time.monotonic() - began_s:6.1f} s  quiet; judging")
        if trouble is not None:
            result.violations["everything is worked off"] = [trouble]
        names = {one.planned.fault for one in result.faults if one.took}
        turned = {name.removeprefix("clock_") for name in names if name.startswith("clock_")}
        aftermath = Aftermath(stack, ledger, load, asked.seed, turned)
        _judge(aftermath, result, say)
    result.violations[BEHAVED] = list(stack.wrong)  # what came at the very end is in it
    result.counts, result.figures = dict(ledger.counts), aftermath.figures
    result.largest_mb = stack.largest_mb()
    result.endings = [f"{one.worker}: {one.code} after {one.lived_s:.0f} s" for one in stack.endings]
    result.seconds = time.monotonic() - began_s
    return result


def _due(schedule: Schedule) -> Iterator[Planned]:
    """Each fault when its time has come, one after another; late ones at once."""
    began_s = time.monotonic()
    for one in schedule:
        time.sleep(max(0.0, began_s + one.at_s - time.monotonic()))
        yield one


def _inject(one: Planned, stage: Stage) -> Done:
    """Do it, hold it, mend it."""
    act = FAULTS[one.fault].act(stage)
    try:
        effect = next(act)
        time.sleep(one.hold_s)
        for _ in act:
            pass
    except NoEffect as none:
        return Done(one, str(none), False)
    except (OSError, TimeoutError, RuntimeError, HeadwaterError) as error:
        return Done(one, f"failed: {error!r}", False)
    finally:
        act.close()  # type: ignore[attr-defined]  # a generator's
    return Done(one, effect if not one.hold_s else f"{effect}, for {one.hold_s:.1f} s", True)


def _until_well(recoveries: Recoveries, say: Say) -> None:
    """Apps goes on until everything has recovered."""
    try:
        wait(lambda: not recoveries.waiting, QUIET_S, lambda: f"{recoveries.waiting} faults are not recovered from")
    except TimeoutError as error:
        say(str(error))


def _quiet(stack: Stack, ledger: LoadLedger, recoveries: Recoveries) -> str | None:
    """Wait until all that was sent is folded, learned and answered; what is not, in words."""
    asked = {request for _, request in ledger.requests}
    state: dict[str, Any] = {}

    def still() -> bool:
        try:
            state["folded"] = _not_folded(stack.settings) or "all"
        except (HeadwaterError, Unavailable) as error:
            state["folded"] = repr(error)
        state["unanswered"] = len(asked - recoveries.answered)
        lags = [part.process.metrics().total("headwater_lag") for part in stack.living("trainer")]
        state["trainer's lag"] = max(lags, default=-1.0)
        state["ready"] = stack.ready()
        return state == {"folded": "all", "unanswered": 0, "trainer's lag": 0.0, "ready": True}

    try:
        wait(still, QUIET_S, lambda: str(state), 0.5)
        time.sleep(1.0)  # an exposure of the last answer may follow it
        wait(still, QUIET_S, lambda: str(state), 0.5)
    except TimeoutError as error:
        health = "; ".join(f"{name}: {part.process.health()[:100]}" for name, part in stack.parts.items())
        return f"{error}; {health}"
    return None


def _not_folded(settings: Settings) -> dict[str, int]:
    """Where the store is behind, of what is told to it and, by its workers, to the log of events."""
    behind: dict[str, int] = {}
    store = FeatureStore(settings.redis, settings.kafka.prefix, privacy=settings.privacy)
    try:
        for topic in (CONSENTS, ERASURES, USERS, EVENTS):
            ends = end_offsets(settings.kafka, topic)
            marks = store.marks_of(topic)
            behind |= {f"{topic.name}[{p}]": marks.get(p, -1) for p, end in ends.items() if end - 1 != marks.get(p, -1)}
    finally:
        store.close()
    return behind


def _judge(aftermath: Aftermath, result: CampaignResult, say: Say) -> None:
    for name, promise in PROMISES.items():
        try:
            found = list(promise(aftermath))
        except Exception as error:  # noqa: BLE001  # what cannot be judged is not kept, whatever it is
            found = [f"could not be judged: {error!r}"]
        result.violations[name] = found
        say(f"{'broken' if found else 'kept  '}  {name}{f': {len(found)}, {found[0][:300]}' if found else ''}")
