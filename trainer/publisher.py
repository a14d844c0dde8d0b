"""Publications: a delta about every second, a full bundle every few minutes, each only when the guard lets it pass.

Before: the worker, between two chunks of learning. After: serving workers follow `live` and then the chain of deltas.
Knows no examples: what is published is what the learner says it is.

A full bundle is of the same version as the last delta: a serving worker that followed the deltas has nothing to load.
It is what the learner holds at that moment, and is held up against the digest that the deltas led to before it is
written. It is written beside the learning (`bundle_writer`) and announced when it is whole; deltas go on
meanwhile, unless serving cannot follow to it by deltas (the first one, and after a gap): then they wait for it. A store
that is away is tried again. When the guard finds the learner worse than a version published before, that version is
made live again until it is not. While the live record is pinned (`rollback`) no deltas are sent and nothing is made
live; snapshots are still announced.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from headwater import tracing
from headwater.errors import AccessDenied, BundleError, Unavailable
from headwater.process import refusal as denied
from headwater.settings import Settings
from headwater.topics import MODEL_DELTAS, as_kept, topic_name
from models.learner import Learner
from models.published.announcement import Announcement, DeltaHeaders
from models.published.bounds import COUNTED_TIME, LEARNED_TIME
from models.published.bundle import Bundle
from models.published.delta import Delta, encode_delta
from models.published.layout import bundle_name, parse_name
from models.published.stores import BundleStore, newest_version
from trainer.bundle_writer import BundleWriter, Writing
from trainer.guard import Refused, refuse_non_finite
from trainer.publication_retry import PublicationRetry
from trainer.registry import Registry
from trainer.same_queries import SameQueries

__all__ = ["Publisher"]

ANSWER_TIMEOUT_S = 5.0


class Publisher:
    """Publishes one learner's model. Versions rise strictly, also across restarts: all that were ever seen are counted.

    Parameters
        settings: how many bundles are kept, the prefix.
        store: of bundles.
        learner: its version is set to the newest that was ever seen.
        registry: what `model` says.
        same_queries: compares with what serves now, and may refuse a publication.
        producer: of announcements and deltas.
        log: told of what was refused.
    """

    def __init__(
        self, settings: Settings, store: BundleStore, learner: Learner, registry: Registry, same_queries: SameQueries,
        producer: KafkaProducer, log: logging.Logger,
    ) -> None:  # fmt: skip
        self._keep = settings.trainer.keep_bundles
        self._anchor_ms = int(settings.trainer.anchor_every_s * 1000)
        self._deltas_kept_ms = as_kept(MODEL_DELTAS, settings.kafka.retention_days).retention_ms
        self._deltas = topic_name(MODEL_DELTAS, settings.kafka.prefix)
        self._learner = learner
        self._registry = registry
        self.same_queries = same_queries
        self._producer = producer
        self._log = log
        self._writer = BundleWriter(store, log)
        self._unwritten: Writing | None = None  # what the store did not take, to be tried again
        self.bundle_retry = PublicationRetry(
            settings.trainer.publish_every_s, settings.operations.stall_s, "no bundle could be written"
        )
        self._bundle_failures = 0
        self._held: str | None = None  # digest of the model as serving has it; None: next must come a bundle
        self._held_examples = -1
        self._gap = False  # serving was not sent what led to the model held
        self._went_back = False  # what serving has is the rival again, which no delta follows
        self._leading = False  # a bundle is on its way that deltas wait for
        self._written = 0
        self.version = 0  # the newest one published by this process
        self.published: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.published_ms = 0
        self.newest: Mapping[str, int] = {}  # `bounds.COUNTED_TIME` and LEARNED_TIME, of what is published next
        self.failing: str | None = None  # why the newest publication was not taken; None when it was
        self.failures = 0  # since a delta was taken: with each the next try may wait longer
        self.held_back: str | None = None  # why the guard let none of the newest pass; None when it did
        self.held_back_ms = 0  # since when, epoch ms; 0: none is held back. A restart goes on with it
        self.causes = tracing.Causes()  # what was learned since the newest version
        self._told: tracing.Headers = []  # the trace of the version held
        self.broken = False  # the learner's own state holds NaN: it must not overwrite a good checkpoint
        learner.version = max(learner.version, registry.last_version)

    @property
    def pinned(self) -> bool:
        """Whether a rollback holds the live model, as of the last publication."""
        return self._registry.live is not None and self._registry.live.pinned

    @property
    def announces(self) -> bool:
        """Whether a bundle was written, or could not be, since the last publication."""
        return self._writer.done

    def publish(self, *, examples_offset: int, now_ms: int, full: bool = False, wait: bool = False) -> bool:
        """Publish what was learned since, and announce the bundle that was written since.

        Parameters
            examples_offset: of the record of `examples` that comes next.
            now_ms: epoch ms.
            full: a bundle, too.
            wait: until it is written and announced; else a later call does that.

        Returns
            Whether anything was published. A refusal is logged and counted and leaves the last good model live. When
            Kafka does not take a part, the next publication is a bundle, so that no serving worker waits for a delta
            that never comes.
        """
        done = self._tried(lambda: self._announce_written(now_ms, wait=wait), now_ms)
        done = self._tried(lambda: self._next(examples_offset, now_ms, full, wait), now_ms) or done
        if wait:
            done = self._tried(lambda: self._announce_written(now_ms, wait=True), now_ms) or done
            self._writer.settle()
        return done

    def close(self) -> None:
        """Finish what was begun."""
        self._writer.close()

    def _tried(self, step: Callable[[], bool], now_ms: int) -> bool:
        """What a step says; False where it was refused or not taken."""
        try:
            return step()
        except Refused as refusal:
            self.failing = None
            self._hold_back(refusal, now_ms)
        except (Unavailable, KafkaError) as error:
            if denied(error) is not None:  # no try will go better
                raise AccessDenied(f"{error}. Allow this user to write there (kafka-acls --operation Write)") from error
            self._held = None
            self.refused["unavailable"] += 1
            self.failures += 1
            self.failing = str(error)
            self._log.warning("publication not taken", extra={"error": str(error)})
        return False

    def _next(self, examples_offset: int, now_ms: int, full: bool, wait: bool) -> bool:
        """Send a delta, begin a bundle, or both, where there is reason to; whether a delta was sent."""
        self._registry.refresh()
        self._registry.heal()
        self._gap = self._gap or self.pinned
        leads = self._held is None or self._went_back or (self._gap and not self.pinned)
        if self._leading or (self._writer.busy and leads):
            self._write_again(now_ms, at_once=wait)
            return False
        if self._unwritten is not None and leads:
            self._unwritten = None  # deltas would lead nobody beyond it
        another = self._write_again(now_ms) or self._writer.busy
        full = (full or leads) and not another
        if not full and (self.pinned or self._learner.examples_seen == self._held_examples):
            return False
        self.same_queries.check()
        sent = self.published["delta"]
        self._publish(examples_offset, now_ms, full, leads)
        if not self._leading:  # else it is not over before the bundle is announced
            self.failing = None
        self._let_pass(now_ms)
        return self.published["delta"] > sent

    def _write_again(self, now_ms: int, *, at_once: bool = False) -> bool:
        """Whether there is a bundle that the store did not take; it is tried again when it is time."""
        if self._unwritten is None:
            return False
        if at_once or self.bundle_retry.due(now_ms / 1000):
            writing, self._unwritten = self._unwritten, None
            self._writer.write(writing)
        return True

    def _hold_back(self, refusal: Refused, now_ms: int) -> None:
        self.refused[refusal.reason] += 1
        if self.held_back is None:
            text = {"reason": refusal.reason, "error": str(refusal), "version": self.version}
            self._log.error("publications are held back: the last good model stays", extra=text)
        self.held_back = str(refusal)
        self.held_back_ms = self.held_back_ms or now_ms
        if refusal.reason == "regression" and not self._went_back and not self.pinned:
            self._go_back(now_ms)

    def _go_back(self, now_ms: int) -> None:
        """Make the rival live again, under a new version: what was published since it may be as bad as what is held
        back, for a comparison takes some queries."""
        rival, held = self.same_queries.rival, self._held
        if rival is None or held is None or held == rival.bundle.digest or self._writer.busy or self._unwritten:
            return
        version = self._learner.version + 1
        again = replace(rival.bundle, version=version, parent=held, created_ms=now_ms)
        try:
            self._begin(again, int(again.extra.get("examples_offset", 0)), now_ms, leads=True, back=True)
        except (Unavailable, KafkaError) as error:
            self._held = None
            self._log.warning("the model from before is not live again", extra={"error": str(error)})
            return
        self._learner.version = version
        text = {"to": rival.bundle.version, "from": self.version, "version": version}
        self._log.warning("goes back", extra=text)

    def _let_pass(self, now_ms: int) -> None:
        if self.held_back_ms:
            text = {"held_back_s": round((now_ms - self.held_back_ms) / 1000, 1), "version": self.version}
            self._log.warning("publications go on", extra=text)
        self.held_back, self.held_back_ms, self._went_back = None, 0, False
        if self._held is not None and not self.pinned and not self._leading:
            self.same_queries.published(self._learner.published)

    def _publish(self, examples_offset: int, now_ms: int, full: bool, leads: bool) -> None:
        examples = self._learner.examples_seen
        anew = self._held is None or self._went_back
        made: Bundle | Delta | None = None
        if anew or examples != self._held_examples:
            extra = {"examples_offset": examples_offset, "examples_seen": examples, **self.newest}
            made = self._learner.publish(created_ms=now_ms, extra=extra, full=anew)
            with tracing.joined("publish weights", self.causes, "producer", version=made.version):
                self._told = tracing.headers()
                self._advance(made, now_ms)
            self.causes.clear()
            self._held_examples = examples
        if full:
            bundle = made if isinstance(made, Bundle) else self._learner.published()
            self._begin(bundle, examples_offset, now_ms, leads=leads)

    def _advance(self, made: Bundle | Delta, now_ms: int) -> None:
        """Look at what the learner made, and send the delta if serving may follow it."""
        self._held = None  # until all of it went well
        try:
            refuse_non_finite(made.weights if isinstance(made, Bundle) else made.dense)
            if isinstance(made, Delta):
                refuse_non_finite({name: values for name, (_, values) in made.rows.items()})
        except Refused:
            self.broken = True
            raise
        if isinstance(made, Bundle):
            self._written = 0
        elif not (self.pinned or self._gap):
            self._send(made)
            self.published["delta"] += 1
            self.failures = 0
            self.version, self.published_ms = made.version, now_ms
        self._held = made.digest

    def _send(self, delta: Delta) -> None:
        parts = encode_delta(delta)
        headers = DeltaHeaders(delta.version, delta.parent_version, len(parts), delta.created_ms, part=0)
        key = str(delta.version).encode()
        try:
            sent = [
                self._producer.send(self._deltas, part, key, self._signed(key, part, headers, i), partition=0)
                for i, part in enumerate(parts)
            ]
            for future in sent:
                future.get(timeout=ANSWER_TIMEOUT_S)
        except KafkaError as error:
            raise Unavailable(f"{self._deltas}: a part of version {delta.version} was not taken ({error!r})") from error

    def _signed(self, key: bytes, part: bytes, headers: DeltaHeaders, number: int) -> list[tuple[str, bytes]]:
        told = headers._replace(part=number).encode()
        signed = self._registry.trust.headers(MODEL_DELTAS, key, part, told, headers.published_ms)
        return [*signed, *tracing.headers()]

    def _begin(self, bundle: Bundle, examples_offset: int, now_ms: int, *, leads: bool, back: bool = False) -> None:
        """Begin to write a bundle. What it is followed by is known now: deltas may be sent while it is written."""
        live = self._registry.live
        if bundle.version == self._written and live is not None and (live.pinned or live.version == bundle.version):
            self._gap = self.pinned
            return
        said = Announcement(
            version=bundle.version,
            digest=bundle.digest,
            bundle=bundle_name(bundle),
            parent=bundle.parent,
            delta_offset=self._registry.delta_end(),
            published_time=now_ms,
            examples_offset=examples_offset,
            metrics=self._learner.prequential.summary(),
            counted_time=int(bundle.extra.get(COUNTED_TIME, 0)),
            learned_time=int(bundle.extra.get(LEARNED_TIME, 0)),
        )
        self._leading = leads
        self._writer.write(Writing(bundle, said, leads, back, self._told))

    def _announce_written(self, now_ms: int, *, wait: bool) -> bool:
        """Announce what was written, make it live unless a rollback holds, and prune old ones.

        What cannot be announced is removed again, and what cannot be made live is pruned like any other: a bundle is
        made at each try, and a broker that takes none must not fill the store.
        """
        done = self._writer.result(wait=wait)
        if done is None:
            return False
        if isinstance(done.error, BundleError):
            self._held, self._leading = None, False
            raise Refused("parity", str(done.error)) from done.error
        if done.error is not None:
            self._not_written(done.writing, done.error, now_ms)
            return False
        self._bundle_failures = 0
        self.bundle_retry.tried(None, 0, now_ms / 1000)
        self._leading = False
        said, live = done.writing.said, self._registry.live
        self._learner.version = max(self._learner.version, newest_version(done.names, self._learner.version))
        with tracing.within(done.writing.told):
            try:
                self._registry.add(said)
            except Unavailable:
                if said.version not in self._registry.snapshots and (live is None or live.bundle != said.bundle):
                    self._writer.remove([said.bundle])
                raise
            try:
                is_live = self._registry.offer_live(said)
            except Unavailable:
                self._prune(now_ms, done.names)
                raise
        self._written = said.version
        self.failing = None
        self.published["bundle"] += 1
        self._log.info("published", extra={"version": said.version, "bundle": said.bundle, "live": is_live})
        if done.writing.leads:
            self._led(done.writing, now_ms)
        self._prune(now_ms, done.names)
        return not done.writing.back

    def _led(self, writing: Writing, now_ms: int) -> None:
        """Deltas may follow the bundle that they waited for."""
        self.version, self.published_ms = writing.bundle.version, now_ms
        self._gap = self.pinned
        if writing.back:
            self._held, self._went_back = writing.bundle.digest, True
            self._log.warning("went back", extra={"version": writing.bundle.version})
        elif not self.pinned:
            self.same_queries.published(writing.bundle.kept)

    def _not_written(self, writing: Writing, error: OSError | Unavailable, now_ms: int) -> None:
        self.refused["disk" if isinstance(error, OSError) else "store"] += 1
        self._bundle_failures += 1
        self.bundle_retry.tried(str(error), self._bundle_failures, now_ms / 1000)
        self._unwritten = writing
        what = "deltas wait for it" if writing.leads else "deltas go on"
        text = {"bundle": writing.said.bundle, "error": str(error)}
        self._log.error("bundle not written: the last good one stays, %s, and it is tried again", what, extra=text)

    def _anchors(self, now_ms: int) -> set[int]:
        """The first version of each span of time: with the deltas since, any version of the last day is there again."""
        first: dict[int, int] = {}
        for version, said in sorted(self._registry.snapshots.items()) if self._anchor_ms else ():
            if now_ms - said.published_time <= self._deltas_kept_ms + self._anchor_ms:
                first.setdefault(said.published_time // self._anchor_ms, version)
        return set(first.values())

    def _prune(self, now_ms: int, names: Sequence[str]) -> None:
        """Remove all but the newest bundles, the live one and the anchors: the announcement, then the bundle."""
        live = self._registry.live.bundle if self._registry.live is not None else None
        given = self._learner.version  # beyond it nothing is ours, and it takes nobody's place
        kept = {name: said.version for name in reversed(names) if (said := parse_name(name)) and said.version <= given}
        anchors = self._anchors(now_ms)
        old = [name for name in list(kept)[self._keep :] if name != live and kept[name] not in anchors]
        for name in old:
            self._registry.remove(kept[name])
        live = self._registry.live.bundle if self._registry.live is not None else None  # a rollback may have come first
        self._writer.remove([name for name in old if name != live])
        for version in sorted(self._registry.snapshots.keys() - set(kept.values())):
            self._log.warning("a snapshot's bundle is gone", extra={"version": version})
            self._registry.remove(version)

    def describe(self) -> dict[str, Any]:
        """What the log line of a stop says."""
        return {"version": self.version, "published": dict(self.published), "refused": dict(self.refused)}
