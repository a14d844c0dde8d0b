"""Publications: a delta about every second, a full bundle every few minutes, each only when the guard lets it pass.

Before: the worker, between two chunks of learning. After: serving workers follow `live` and then the chain of deltas.
Knows no examples: what is published is what the learner says it is.

The publisher keeps the bundle as serving has it, and applies each delta to it before the delta is sent. So a full
bundle is that bundle written out, of the same version as the last delta: a serving worker that followed the deltas has
nothing to load. While the live record is pinned (`rollback`) no deltas are sent and nothing is made live; snapshots
are still announced.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from headwater.errors import BundleError, Unavailable
from headwater.settings import Settings
from headwater.topics import MODEL_DELTAS, topic_name
from models.learner import Learner
from models.published.announcement import Announcement, DeltaHeaders
from models.published.bundle import Bundle, write_bundle
from models.published.delta import Delta, encode_delta
from models.published.parity import check_parity
from trainer.guard import Guard, Refused, refuse_non_finite
from trainer.registry import Registry

__all__ = ["Publisher", "newest_on_disk"]

ANSWER_TIMEOUT_S = 5.0
LOG_EVERY = 60
"""Of refusals with the same reason, one in so many is logged: a refused model is tried again every second."""

_VERSION = re.compile(r"^v([0-9]{1,15})-")


def newest_on_disk(directory: Path) -> int:
    """The newest version whose bundle lies in a folder; 0 when there is none.

    Raises
        OSError: the folder cannot be read.
    """
    found = [_VERSION.match(path.name) for path in directory.iterdir()] if directory.is_dir() else []
    return max([int(match[1]) for match in found if match], default=0)


class Publisher:
    """Publishes one learner's model. Versions rise strictly, also across restarts: all that were ever seen are counted.

    Parameters
        settings: where bundles lie, how many are kept, the prefix.
        learner: its version is set to the newest that was ever seen.
        registry: what `model` says.
        guard: may refuse a publication.
        producer: of announcements and deltas.
        log: told of what was refused.

    Raises
        OSError: the bundles' directory cannot be made or read.
    """

    def __init__(
        self, settings: Settings, learner: Learner, registry: Registry, guard: Guard, producer: KafkaProducer,
        log: logging.Logger,
    ) -> None:  # fmt: skip
        self._directory = settings.trainer.bundles
        self._keep = settings.trainer.keep_bundles
        self._anchor_ms = int(settings.trainer.anchor_every_s * 1000)
        self._deltas = topic_name(MODEL_DELTAS, settings.kafka.prefix)
        self._learner = learner
        self._registry = registry
        self._guard = guard
        self._producer = producer
        self._log = log
        self._held: Bundle | None = None  # the model as serving has it; None: the next publication must be a bundle
        self._held_examples = -1
        self._written = 0
        self.published: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.published_ms = 0
        self.failing: str | None = None  # why the newest publication was not taken; None when it was
        self.failures = 0  # since a delta was taken: with each the next try may wait longer
        self.broken = False  # the learner's own state holds NaN: it must not overwrite a good checkpoint
        self._directory.mkdir(parents=True, exist_ok=True)
        self._clear_torn()
        learner.version = max(learner.version, registry.last_version, newest_on_disk(self._directory))

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
            full = full or self._held is None or (was_pinned and not self.pinned)
            if not full and (self.pinned or self._learner.examples_seen == self._held_examples):
                return False
            self._guard.check(self._learner.prequential.summary())
            self._publish(examples_offset, now_ms, full)
        except Refused as refusal:
            self.failing = None
            self.refused[refusal.reason] += 1
            if self.refused[refusal.reason] % LOG_EVERY == 1:
                text = {"reason": refusal.reason, "error": str(refusal), "times": self.refused[refusal.reason]}
                self._log.error("publication refused: the last good model stays", extra=text)
        except (Unavailable, KafkaError) as error:
            self._failed("unavailable", error)
            self._log.warning("publication not taken", extra={"error": str(error)})
        except OSError as error:
            self._failed("disk", error)
            self._log.error("bundle not written: the last good model stays", extra={"error": str(error)})
            self._clear_torn()
        else:
            self.failing = None
            return True
        return False

    def _failed(self, reason: str, error: Exception) -> None:
        self._held = None
        self.refused[reason] += 1
        self.failures += 1
        self.failing = str(error)

    def _clear_torn(self) -> None:
        """Remove bundles that were not written to their end, by a kill or for want of room: nothing names them."""
        for torn in self._directory.glob(".writing-*"):
            shutil.rmtree(torn, ignore_errors=True)

    def _publish(self, examples_offset: int, now_ms: int, full: bool) -> None:
        examples = self._learner.examples_seen
        if self._held is None or examples != self._held_examples:
            extra = {"examples_offset": examples_offset, "examples_seen": examples}
            self._advance(self._learner.publish(created_ms=now_ms, extra=extra, full=self._held is None))
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
        path = write_bundle(self._directory, bundle)
        announcement = Announcement(
            version=bundle.version,
            digest=bundle.digest,
            bundle=path.name,
            parent=bundle.parent,
            delta_offset=self._registry.delta_end(),
            published_time=now_ms,
            examples_offset=examples_offset,
            metrics=self._learner.prequential.summary(),
        )
        try:
            self._registry.add(announcement)
        except Unavailable:
            if bundle.version not in self._registry.snapshots and (live is None or live.bundle != path.name):
                shutil.rmtree(path)
            raise
        try:
            is_live = self._registry.offer_live(announcement)
        except Unavailable:
            self._prune(now_ms)
            raise
        self._written = bundle.version
        self.published["bundle"] += 1
        self._log.info("published", extra={"version": bundle.version, "bundle": path.name, "live": is_live})
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
        folders = {path: int(found[1]) for path in self._directory.iterdir() if (found := _VERSION.match(path.name))}
        newest = sorted(folders, key=lambda path: folders[path], reverse=True)
        anchors = self._anchors(now_ms)
        for path in newest[self._keep :]:
            if path.name != live and folders[path] not in anchors:
                self._registry.remove(folders[path])
                shutil.rmtree(path)
        for version in sorted(self._registry.snapshots.keys() - {folders[path] for path in newest}):
            self._log.warning("a snapshot's bundle is gone", extra={"version": version})
            self._registry.remove(version)

    def describe(self) -> dict[str, Any]:
        """What the log line of a stop says."""
        return {"version": self.version, "published": dict(self.published), "refused": dict(self.refused)}
