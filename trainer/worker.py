"""The trainer process: examples in log order -> score, learn -> publications and checkpoints. `python -m
trainer.worker`

Before: the streams workers write the `examples` log. After: serving follows the topics `model` and `model-deltas`.

Delivery. Examples are learned exactly once in effect: the place in the log and the mark of each source partition are
written into the same file as the weights, and nothing else is believed at a restart. kill -9 at any moment costs the
learning since the last checkpoint, which is then repeated from the log, bit for bit. One trainer per directory (a
lock), one partition, no consumer group: nothing can rebalance.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from headwater import tracing
from headwater.errors import BundleError, CheckpointError, HeadwaterError, SettingsError, Unavailable
from headwater.events import now_ms
from headwater.examples import CatalogueEntry, Example, Kind
from headwater.kafka import producer, take_part
from headwater.privacy.facts import read_facts
from headwater.process import Operations, collect_rarely, run_worker
from headwater.security.parties import TRAINER
from headwater.settings import Settings
from headwater.topics import LEARNING
from models.config import differences, model_config
from models.device import choose_device
from models.experts.reserved import give_back
from models.learner import Learner, compile_loops
from models.published.bundle import Bundle
from models.published.signing.trust import trust_of
from models.published.stores import BundleStore, newest_version, open_store
from trainer.checkpoints import Checkpoints
from trainer.erased_users import forget_passed_over
from trainer.examples_log import DuplicatesWatch, ExamplesLog, Progress
from trainer.gap import gap_accepted, gap_taken
from trainer.publication_retry import PublicationRetry
from trainer.publisher import Publisher
from trainer.registry import Registry
from trainer.same_queries import SameQueries
from trainer.sharing import Sharing
from trainer.trainer_metrics import TrainerMetrics

__all__ = ["TrainerWorker", "main"]

CHUNK = 64
"""Examples learned between two looks at the clock: some 20 ms, so that a stop and a publication are never late."""

BROKEN = (
    "Serving keeps the last good model, the last good checkpoint stays. The same log would break them again: lower the "
    "learning rates in model.overrides and start with a new trainer.directory, or go back with `headwater rollback`."
)

WAIT_MS = 50
NICE = 19
"""The least share of a core that others want too."""


class TrainerWorker:
    """One learner with its log, its publications and its checkpoints."""

    def __init__(self, settings: Settings, operations: Operations) -> None:
        choose_device(settings.trainer.device)
        model_config(settings.model.given, settings.signals)
        self._trust = trust_of(settings)
        self._trust.may_publish()
        self.settings = settings
        self.operations = operations
        self.metrics = TrainerMetrics()
        self._opened = contextlib.ExitStack()
        self._duplicates = DuplicatesWatch()

    def await_servers(self) -> None:
        """The directory is ours, and the topics are made."""
        directory, operations = self.settings.trainer.directory, self.operations
        self.checkpoints = Checkpoints(directory, operations.log, operations.progress)
        self._opened.callback(self.checkpoints.close)
        self.checkpoints.refuse_restoring()
        self.operations.retry.call("kafka", lambda: take_part(self.settings.kafka, TRAINER))

    def open(self) -> None:
        """Restore the learner and find its place in the log. Raises CheckpointError when there is none."""
        settings, log, retry = self.settings, self.operations.log, self.operations.retry
        torch.set_num_threads(settings.trainer.threads)
        self.learner, extra = _restore(settings, self.checkpoints)
        restored = "progress" in extra
        progress = Progress.from_json(extra["progress"]) if restored else None
        writer = retry.call(
            "kafka",
            lambda: producer(settings.kafka, max_block_ms=10_000, delivery_timeout_ms=10_000, request_timeout_ms=5_000),
        )
        self._opened.callback(writer.close, timeout=5)
        leave = gap_accepted(settings.trainer.directory)
        gaps = len(progress.gaps) if progress else 0
        self.log = ExamplesLog(settings.kafka, progress, writer, retry, log, leave)
        self._opened.callback(self.log.close)
        self.sharing = Sharing(settings, self.learner, self.log, writer, self.operations, extra.get("newest"))
        store = open_store(settings.trainer.bundles, self._trust)
        self.learner.version = known = max(self.learner.version, _newest_kept(store, self.learner.version, log))
        self.registry = retry.call("kafka", lambda: Registry(settings.kafka, writer, log, known, self._trust))
        self._opened.callback(self.registry.close)
        before = extra.get("guard", {})  # what an older release kept is of no use
        serving = _live_bundle(store, self.registry, log)
        bound, directory = settings.trainer.regression_bound, settings.trainer.directory
        self.same_queries = SameQueries(self.learner, bound, directory, serving, before)
        self.publisher = Publisher(settings, store, self.learner, self.registry, self.same_queries, writer, log)
        self._opened.callback(self.publisher.close)
        self.publisher.held_back_ms = before.get("since_ms", 0)
        self._set_clocks(restored)
        self.metrics.checkpoint_offset = self.log.progress.offset
        self.metrics.prequential = self.learner.prequential
        self.operations.registry.register(self.metrics)
        if len(self.log.progress.gaps) > gaps:
            self._forget_passed_over()
        if leave is not None:  # for this once: what was passed over stands in a checkpoint before it is used up
            self._forgot = True  # one that lies further on, of another log, would be taken for the newest
            self._checkpoint(wait=True)
            gap_taken(settings.trainer.directory)
        log.info(
            "learning from",
            extra={
                "offset": self.log.progress.offset,
                "restored": restored,
                "examples_seen": self.learner.examples_seen,
            },
        )

    def _forget_passed_over(self) -> None:
        """Forget whose erasure lies behind the gap: nobody reads the examples at which it would have been met."""
        facts = self.operations.retry.call("kafka", lambda: [one.fact for one in read_facts(self.settings.kafka)])
        gone = forget_passed_over(facts, self.log.progress.marks, self.learner, self.same_queries)
        if gone is not None:
            self._checkpoint_due, self._forgot = 0.0, True
            self.operations.log.warning("users were forgotten who were erased behind the gap", extra={"users": gone})

    def _set_clocks(self, restored: bool) -> None:
        trainer, now = self.settings.trainer, time.monotonic()
        # After a restart, serving holds a model that is newer than the checkpoint: learn up to where the log ends now,
        # and publish then, but no later than a snapshot's time.
        self._catching_up = restored and self.registry.live is not None
        self._bundle_due = now + (trainer.snapshot_every_s if self._catching_up else 0.0)
        self._delta_due = now
        self._publication_retry = PublicationRetry(trainer.publish_every_s, self.settings.operations.stall_s)
        self._published_at = 0  # number of examples at the newest publication by number
        self._checkpoint_due = now + trainer.checkpoint_every_s
        self._saved: tuple[int, int] = (-1, -1)
        self._shown: int | None = None
        self._forgot = False
        self._rate_at, self._rate_examples = now, self.learner.examples_seen

    def run(self) -> None:
        """Learn until told to stop. What a start takes (compiling, the first bundle) has its full share of a core."""
        if not self._catching_up:
            self._publish(full=True, wait=True)
        compile_loops()  # a minute where nothing is kept of an earlier start; answers need not wait for it
        collect_rarely()
        give_back()
        if self.settings.trainer.yields:
            _yield_to_serving()
        self.operations.started()
        while not self.operations.stopping.is_set():
            entries = self.sharing.take(self._room(), WAIT_MS)
            with tracing.joined("learn examples", self.log.causes.taken(), of=len(entries), into=self.publisher.causes):
                self._learn(entries)
            self.sharing.learned(entries)
            fresh = sum(isinstance(entry, Example) for entry in entries)
            self._duplicates.saw(fresh, self.log.progress.duplicates, time.monotonic())
            lag = self.log.lag()
            if entries or lag == 0:
                self.operations.progress()
            self.sharing.decide()
            self._observe(lag)
            self._keep_time(lag)  # publications, and checkpoints: the place in the log beside what was learned up to it

    def drain(self) -> None:
        """Checkpoint and publish what was learned: the checkpoint first, because a store may be away."""
        self._checkpoint(wait=True)
        if not self.settings.trainer.publish_every_examples:
            self._publish(full=True, wait=True)
        self.operations.log.info(
            "drained", extra={"examples_seen": self.learner.examples_seen, **self.publisher.describe()}
        )

    def close(self) -> None:
        """Leave Kafka, and the directory to another trainer."""
        self._opened.close()

    def _room(self) -> int:
        """Most entries of the next chunk: one that ends at the next point of publication never goes beyond it."""
        every = self.settings.trainer.publish_every_examples
        return min(CHUNK, every - self.learner.examples_seen % every) if every else CHUNK

    def _learn(self, entries: list[Example | CatalogueEntry]) -> None:
        run: list[Example] = []
        for entry in entries:
            if isinstance(entry, Example):
                run.append(entry)
                if entry.kind is Kind.ERASED:
                    self._checkpoint_due, self._forgot = 0.0, True  # the files of before hold what is to be forgotten
                continue
            self.same_queries.learn(run)
            run = []
            self.learner.observe_item(entry)
        self.same_queries.learn(run)

    def _keep_time(self, lag: int | None) -> None:
        now = time.monotonic()
        self._show_checkpoint()
        trouble = self._publication_retry.trouble(now) or self.publisher.bundle_retry.trouble(now_ms() / 1000)
        self.operations.trouble(trouble or self._only_duplicates(now))
        trainer = self.settings.trainer
        if self._catching_up:
            if lag != 0 and now < self._bundle_due:
                return
            self._catching_up = False
            self._bundle_due = now
            self.operations.ready()
        if self._may_publish(now):
            self._publish(full=now >= self._bundle_due)
        if now >= self._checkpoint_due:
            self._checkpoint(wait=False)
            self._checkpoint_due = now + trainer.checkpoint_every_s

    def _only_duplicates(self, now: float) -> str | None:
        """What /readyz says of a trainer that takes nothing more although examples come."""
        lasting_s = self.metrics.only_duplicates_s = self._duplicates.lasting_s(now)
        if lasting_s <= self.settings.operations.stall_s:
            return None
        return (
            f"every example for {lasting_s:.0f} s was learned before, by its place in events. After a store that lost "
            "its data, or events sent again, this passes by itself. Is the topic events a new one? Then move "
            "trainer.directory away and start again"
        )

    def _may_publish(self, now: float) -> bool:
        """Whether it is time, or with `publish_every_examples` whether the log has come to the next point."""
        every, seen = self.settings.trainer.publish_every_examples, self.learner.examples_seen
        if not every:
            due = self.publisher.announces or now >= min(self._bundle_due, self._delta_due)
            return due and self._publication_retry.due(now)
        if seen % every or seen == self._published_at:
            return False
        self._published_at = seen
        return True

    def _publish(self, *, full: bool, wait: bool = False) -> None:
        wait = wait or self.settings.trainer.publish_every_examples > 0  # the log alone decides what is published
        bundles = self.publisher.published["bundle"]
        self.publisher.newest = self.sharing.newest.to_json() | self._gaps()
        self.publisher.publish(examples_offset=self.log.progress.offset, now_ms=now_ms(), full=full, wait=wait)
        if self.publisher.broken:
            raise HeadwaterError(f"the weights hold NaN after {self.learner.examples_seen} examples. {BROKEN}")
        if self.publisher.published["bundle"] > bundles:
            give_back()
        now, trainer = time.monotonic(), self.settings.trainer
        self._delta_due = now + trainer.publish_every_s
        if full:
            self._bundle_due = now + trainer.snapshot_every_s
        self.metrics.compared = self.same_queries.ndcg()
        self._publication_retry.tried(self.publisher.failing, self.publisher.failures, now)
        self._observe(None)
        if self.registry.live is not None or self.publisher.held_back is not None:
            self.operations.ready()

    def _gaps(self) -> dict[str, int]:
        """What a publication says of gaps; nothing where there are none."""
        passed_over = self.log.progress.passed_over
        return {"examples_passed_over": passed_over} if passed_over else {}

    def _checkpoint(self, *, wait: bool) -> None:
        progress = self.log.progress
        at = (progress.offset, progress.taken)
        if at == self._saved and not wait and not self.checkpoints.failed:
            return
        try:
            self.log.settle()
        except Unavailable as error:
            self.operations.log.warning("checkpoint put off", extra={"error": str(error)})
            return
        extra = {
            "progress": progress.to_json(),
            "guard": {**self.same_queries.state(), "since_ms": self.publisher.held_back_ms},
            "newest": self.sharing.newest.to_json(),
        }
        try:
            saved = self.checkpoints.save(self.learner, progress.offset, extra, wait=wait, alone=self._forgot)
        except CheckpointError as error:
            raise HeadwaterError(f"the weights hold NaN: {error}. {BROKEN}") from error
        except OSError as error:
            self._saved = (-1, -1)
            self.operations.log.error(
                "checkpoint not written: make room or access; until then a restart goes on at an older place",
                extra={"error": str(error), "restart_at": self.metrics.checkpoint_offset},
            )
            if wait:
                raise
            return
        if saved:
            give_back()
            self._saved, self._forgot = at, False
        self._show_checkpoint()

    def _show_checkpoint(self) -> None:
        """Tell how far the newest checkpoint is once it is whole, and those that hold somebody who is to be forgotten
        are gone: the certificate of an erasure goes by it.
        """
        durable = self.checkpoints.durable
        if durable is not None and durable != self._shown:
            self._shown = self.metrics.checkpoint_offset = durable
            self.log.show_progress(durable)

    def _observe(self, lag: int | None) -> None:
        """Bring /metrics up to date."""
        metrics, progress, publisher = self.metrics, self.log.progress, self.publisher
        metrics.examples, metrics.capped = self.learner.examples_seen, self.learner.limit.capped
        metrics.let_go = self.learner.items.let_go
        metrics.duplicates, metrics.dead_letters = progress.duplicates, progress.dead_letters
        metrics.passed_over, metrics.gaps = progress.passed_over, len(progress.gaps)
        metrics.marks = {partition: mark.offset for partition, mark in progress.marks.items()}
        metrics.lag = metrics.lag if lag is None else lag
        metrics.version, metrics.published_ms = publisher.version, publisher.published_ms
        metrics.published, metrics.refused, metrics.pinned = publisher.published, publisher.refused, publisher.pinned
        metrics.held_back_ms = publisher.held_back_ms
        self.operations.remark(_held_back(publisher))
        metrics.foreign, metrics.checkpoint_s = self.registry.foreign, self.checkpoints.last_s
        sharing = self.sharing
        metrics.share, metrics.rested, metrics.behind_s = sharing.share, self.learner.pace.rested, sharing.behind_s
        metrics.share_decisions, metrics.learned_ms = sharing.made, sharing.newest.learned_ms
        metrics.foreign = metrics.foreign + Counter({(LEARNING.name, why): n for why, n in sharing.foreign.items()})
        now = time.monotonic()
        if now - self._rate_at >= 1.0:
            metrics.examples_per_second = (metrics.examples - self._rate_examples) / (now - self._rate_at)
            self._rate_at, self._rate_examples = now, metrics.examples


def _restore(settings: Settings, checkpoints: Checkpoints) -> tuple[Learner, dict[str, Any]]:
    """The learner of the newest good checkpoint with what was saved beside it, or a new one."""
    device = choose_device(settings.trainer.device)
    config = model_config(settings.model.given, settings.signals)
    found = checkpoints.load(device)
    if found is None:
        return Learner(config, settings.trainer.seed, device), {}
    found[0].limit_teaching(config.teach_per_minute)  # shapes no weight: it may change while the model learns on
    if found[0].config != config:
        raise SettingsError(
            f"model.overrides or signals differ from the checkpoint in {settings.trainer.directory}: "
            f"{differences(found[0].config, config)}. Set them back, or move that directory away to learn anew."
        )
    return found


def _newest_kept(store: BundleStore, known: int, log: logging.Logger) -> int:
    """The newest version that the store has; where it is away, the topic `model` has to do."""
    try:
        return newest_version(store.names(), known)
    except (OSError, Unavailable) as error:
        log.warning("the bundles cannot be listed: learning goes on", extra={"error": str(error)})
        return 0


def _live_bundle(store: BundleStore, registry: Registry, log: logging.Logger) -> Bundle | None:
    """What serving loads when it starts: what the guard compares with until something else is published."""
    if registry.live is None:
        return None
    try:
        return store.read(registry.live.bundle)
    except (BundleError, Unavailable) as error:
        log.warning("the live bundle cannot be read: the guard compares with popularity", extra={"error": str(error)})
        return None


def _held_back(publisher: Publisher) -> str | None:
    """What /readyz has to say of the guard."""
    if not publisher.held_back_ms:
        return None
    seconds = (now_ms() - publisher.held_back_ms) / 1000
    return f"publications held back for {seconds:.0f} s: {publisher.held_back or 'not compared since the restart'}"


def _yield_to_serving() -> None:
    """Run only on processor time that nobody else wants, all threads, and be put aside the moment somebody does.

    Linux's idle class, because niceness alone lets the trainer finish its time slice first: milliseconds on every hop.
    The class counts only within a session where Linux groups tasks by session (sched(7), autogroup): a trainer with a
    session of its own, as `headwater up` gives it, makes that whole group the least one too.
    """
    if hasattr(os, "SCHED_IDLE"):
        for thread in Path("/proc/self/task").iterdir():  # a class is a thread's; torch's and the clients' run already
            with contextlib.suppress(ProcessLookupError):  # it has ended since
                os.sched_setscheduler(int(thread.name), os.SCHED_IDLE, os.sched_param(0))
        if os.getsid(0) == os.getpid():
            with contextlib.suppress(OSError):  # no such file: not grouped by session
                Path("/proc/self/autogroup").write_text(f"{NICE}", encoding="ascii")
    elif hasattr(os, "nice"):
        os.nice(NICE)


def main() -> None:
    """Run until SIGTERM; ends the process."""
    run_worker("trainer", TrainerWorker)


if __name__ == "__main__":
    main()
