"""Publications: a delta about every second, a full bundle every few minutes, each only when the guard lets it pass.

Before: the worker, between two chunks of learning. After: serving workers follow `live` and then the chain of deltas.
Knows no examples: what is published is what the learner says it is.

The publisher keeps the bundle as serving has it, and applies each delta to it before the delta is sent. So a full
bundle is that bundle written out, of the same version as the last delta: a serving worker that followed the deltas has
nothing to load. When the guard finds the learner worse than a version published before, that version is made live again
until it is not. While the live record is pinned (`rollback`) no deltas are sent and nothing is made live; snapshots
are still announced.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from headwater.errors import AccessDenied, BundleError, Unavailable
from headwater.process import refusal as denied
from headwater.settings import Settings
from headwater.topics import MODEL_DELTAS, topic_name
from models.learner import Learner
from models.published.announcement import Announcement, DeltaHeaders
from models.published.bundle import Bundle
from models.published.delta import Delta, encode_delta
from models.published.layout import parse_name
from models.published.parity import check_parity
from models.published.stores import BundleStore, newest_version
from trainer.guard import Refused, refuse_non_finite
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

    Raises
        OSError: the bundles' directory cannot be made or read.
    """

    def __init__(
        self, settings: Settings, store: BundleStore, learner: Learner, registry: Registry, same_queries: SameQueries,
        producer: KafkaProducer, log: logging.Logger,
    ) -> None:  # fmt: skip
        self._store = store
        self._keep = settings.trainer.keep_bundles
        self._anchor_ms = int(settings.trainer.anchor_every_s * 1000)
        self._deltas = topic_name(MODEL_DELTAS, settings.kafka.prefix)
        self._learner = learner
        self._registry = registry
        self.same_queries = same_queries
        self._producer = producer
        self._log = log
        self._held: Bundle | None = None  # the model as serving has it; None: the next publication must be a bundle
        self._held_examples = -1
        self._went_back = False  # what serving has is the rival again, which no delta follows
        self._written = 0
        self.published: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.published_ms = 0
        self.failing: str | None = None  # why the newest publication was not taken; None when it was
        self.failures = 0  # since a delta was taken: with each the next try may wait longer
        self.held_back: str | None = None  # why the guard let none of the newest pass; None when it did
        self.held_back_ms = 0  # since when, epoch ms; 0: none is held back. A restart goes on with it
        self.broken = False  # the learner's own state holds NaN: it must not overwrite a good checkpoint
        self._store.clear_torn()
        learner.version = max(learner.version, registry.last_version, newest_version(store.names()))

    @property
    def version(self) -> int:
        """The newest version published by this process; 0 before the first."""
        return 0 if self._held is None else self._held.version

    @property
    def pinned(self) -> bool:
        """Whether a rollback holds the live model, as of the last publication."""
        return self._registry.live is not None and self._registry.live.pinned

    def publish(self, *, examples_offset: int, now_ms: int, full: bool = False) -> bool:
        """Publish what was learned since.

        Parameters
            examples_offset: of the record of `examples` that comes next.
            now_ms: epoch ms.
            full: a bundle, and no delta; so it is anyway when no chain of deltas exists.

        Returns
            Whether anything was published. A refusal is logged and counted and leaves the last good model live. When
            Kafka does not take a part, the next publication is a bundle, so that no serving worker waits for a delta
            that never comes.
        """
        try:
            was_pinned = self.pinned
            self._registry.refresh()
            full = full or self._held is None or self._went_back or (was_pinned and not self.pinned)
            if not full and (self.pinned or self._learner.examples_seen == self._held_examples):
                return False
            self.same_queries.check()
            self._publish(examples_offset, now_ms, full)
        except Refused as refusal:
            self.failing = None
            self._hold_back(refusal, now_ms)
        except (Unavailable, KafkaError) as error:
            if denied(error) is not None:  # no try will go better
                raise AccessDenied(f"{error}. Allow this user to write there (kafka-acls --operation Write)") from error
            self._failed("unavailable", error)
            self._log.warning("publication not taken", extra={"error": str(error)})
        except OSError as error:
            self._failed("disk", error)
            self._log.error("bundle not written: the last good model stays", extra={"error": str(error)})
            self._store.clear_torn()
        else:
            self.failing = None
            self._let_pass(now_ms)
            return True
        return False

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
        if rival is None or held is None or held.digest == rival.bundle.digest:
            return
        version = self._learner.version + 1
        again = replace(rival.bundle.copy(), version=version, parent=held.digest, created_ms=now_ms)
        self._held = again
        try:
            self._write(int(again.extra.get("examples_offset", 0)), now_ms)
        except (Unavailable, KafkaError, OSError, Refused) as error:
            self._held = None
            self._log.warning("the model from before is not live again", extra={"error": str(error)})
            return
        self._learner.version, self._went_back, self.published_ms = version, True, now_ms
        self._log.warning("went back", extra={"to": rival.bundle.version, "from": held.version, "version": version})

    def _let_pass(self, now_ms: int) -> None:
        if self.held_back_ms:
            text = {"held_back_s": round((now_ms - self.held_back_ms) / 1000, 1), "version": self.version}
            self._log.warning("publications go on", extra=text)
        self.held_back, self.held_back_ms, self._went_back = None, 0, False
        if self._held is not None and not self.pinned:
            self.same_queries.published(self._held)

    def _failed(self, reason: str, error: Exception) -> None:
        self._held = None
        self.refused[reason] += 1
        self.failures += 1
        self.failing = str(error)

    def _publish(self, examples_offset: int, now_ms: int, full: bool) -> None:
        examples = self._learner.examples_seen
        anew = self._held is None or self._went_back
        if anew or examples != self._held_examples:
            extra = {"examples_offset": examples_offset, "examples_seen": examples}
            self._advance(self._learner.publish(created_ms=now_ms, extra=extra, full=anew))
            self._held_examples = examples
        if full:
            self._write(examples_offset, now_ms)
        self.published_ms = now_ms

    def _advance(self, made: Bundle | Delta) -> None:
        """Bring the held bundle to what the learner made, and send the delta if serving may follow it."""
        held, self._held = self._held, None  # until all of it went well
        try:
            refuse_non_finite(made.weights if isinstance(made, Bundle) else made.dense)
            if isinstance(made, Delta):
                refuse_non_finite({name: values for name, (_, values) in made.rows.items()})
        except Refused:
            self.broken = True
            raise
        if isinstance(made, Bundle):
            self._written = 0
            self._held = made
            return
        if held is None:
            raise BundleError(f"the learner made a delta to version {made.version}, and no bundle is held")
        try:
            held.apply(made)
        except BundleError as error:
            raise Refused("mismatch", str(error)) from error
        if not self.pinned:
            self._send(made)
            self.published["delta"] += 1
            self.failures = 0
        self._held = held

    def _send(self, delta: Delta) -> None:
        parts = encode_delta(delta)
        headers = DeltaHeaders(delta.version, delta.parent_version, len(parts), delta.created_ms, part=0)
        key = str(delta.version).encode()
        try:
            sent = [
                self._producer.send(self._deltas, part, key, headers._replace(part=i).encode(), partition=0)
                for i, part in enumerate(parts)
            ]
            for future in sent:
                future.get(timeout=ANSWER_TIMEOUT_S)
        except KafkaError as error:
            raise Unavailable(f"{self._deltas}: a part of version {delta.version} was not taken ({error!r})") from error

    def _write(self, examples_offset: int, now_ms: int) -> None:
        """Write the held bundle, announce it, make it live unless a rollback holds, and prune old ones.

        What cannot be announced is removed again, and what cannot be made live is pruned like any other: a bundle is
        made at each try, and a broker that takes none must not fill the disk.
        """
        bundle = self._held
        assert bundle is not None
        live = self._registry.live
        if bundle.version == self._written and live is not None and live.version == bundle.version:
            return
        try:
            check_parity(bundle)
        except BundleError as error:
            self._held = None
            raise Refused("parity", str(error)) from error
        name = self._store.write(bundle)
        announcement = Announcement(
            version=bundle.version,
            digest=bundle.digest,
            bundle=name,
            parent=bundle.parent,
            delta_offset=self._registry.delta_end(),
            published_time=now_ms,
            examples_offset=examples_offset,
            metrics=self._learner.prequential.summary(),
        )
        try:
            self._registry.add(announcement)
        except Unavailable:
            if bundle.version not in self._registry.snapshots and (live is None or live.bundle != name):
                self._store.remove(name)
            raise
        try:
            is_live = self._registry.offer_live(announcement)
        except Unavailable:
            self._prune(now_ms)
            raise
        self._written = bundle.version
        self.published["bundle"] += 1
        self._log.info("published", extra={"version": bundle.version, "bundle": name, "live": is_live})
        self._prune(now_ms)

    def _anchors(self, now_ms: int) -> set[int]:
        """The first version of each span of time: with the deltas since, any version of the last day is there again."""
        first: dict[int, int] = {}
        for version, said in sorted(self._registry.snapshots.items()) if self._anchor_ms else ():
            if now_ms - said.published_time <= MODEL_DELTAS.retention_ms + self._anchor_ms:
                first.setdefault(said.published_time // self._anchor_ms, version)
        return set(first.values())

    def _prune(self, now_ms: int) -> None:
        """Remove all but the newest bundles, the live one and the anchors: the announcement, then the folder."""
        live = self._registry.live.bundle if self._registry.live is not None else None
        kept = {name: said.version for name in reversed(self._store.names()) if (said := parse_name(name))}
        anchors = self._anchors(now_ms)
        for name in list(kept)[self._keep :]:
            if name != live and kept[name] not in anchors:
                self._registry.remove(kept[name])
                self._store.remove(name)
        for version in sorted(self._registry.snapshots.keys() - set(kept.values())):
            self._log.warning("a snapshot's bundle is gone", extra={"version": version})
            self._registry.remove(version)

    def describe(self) -> dict[str, Any]:
        """What the log line of a stop says."""
        return {"version": self.version, "published": dict(self.published), "refused": dict(self.refused)}
