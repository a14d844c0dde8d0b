"""Follows the model that the trainer publishes: bundles by announcement, then the chain of deltas.

Before: records of the `model` and `model-deltas` topics, from `serving.topic_follower`. After: `serving.scorer` holds
the newest version that is whole. Knows nothing of Kafka's clients, only of what the records say.

A record that no trainer wrote, a bundle or a delta that is corrupt, not finite, or does not fit is refused, counted
and logged with its remedy, whatever it holds; the last good version keeps answering. So is what nobody signed whose
models are taken, where keys are given. After a gap in the chain, deltas wait for the next bundle; while a rollback
holds, none is taken. A bundle whose store is away is asked for again, and says nothing of its content.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from headwater import tracing
from headwater.errors import BundleError, HeadwaterError, InvalidMessage, Unavailable
from headwater.process import Backoff
from headwater.topics import MODEL, MODEL_DELTAS, Topic
from headwater.wire import unforeseen
from models.published.announcement import LIVE, Announcement
from models.published.bundle import Bundle
from models.published.delta import DeltaAssembler
from models.published.signing.records import Announcements, read_delta
from models.published.signing.trust import NO_TRUST, Pairs, Trust, UntrustedBundleError
from models.published.stores import BundleStore
from serving.scorer import Scorer

__all__ = ["Counter", "ModelFollower"]

log = logging.getLogger("headwater")

AGAIN = Backoff(0.5, 10.0)
"""Pauses before a bundle is asked for again whose store is away, in seconds."""


class Counter(Protocol):
    """What counts refusals: a prometheus counter with the labels `topic` and `reason`, or anything like it."""

    def __call__(self, topic: str, reason: str) -> None: ...


class _StoreAwayError(Unavailable):
    """Nothing is known of a bundle, because nobody answers for it."""


class ModelFollower:
    """`announce` and `delta` take the records in the order of their topics; `load` makes the newest `live` one true."""

    def __init__(
        self,
        scorer: Scorer,
        bundles: BundleStore,
        refused: Counter,
        heard: Callable[[], None] = lambda: None,
        trust: Trust = NO_TRUST,
    ) -> None:
        self.scorer = scorer
        self._bundles = bundles
        self._refused = refused
        self._heard = heard  # a bundle gets nearer, which may take longer than a worker may stand still
        self._away = 0  # tries in a row that the store did not answer
        self._again_at = 0.0
        self._parts = DeltaAssembler()
        self._wanted: Announcement | None = None  # the newest `live`, until it is loaded
        self._announced: int | None = None
        self._trust = trust
        self._announcements = Announcements(trust)
        self._pinned = False
        self._snapshots: dict[int, Announcement] = {}
        self.traces = tracing.WeightsTraces()

    def announce(self, key: bytes | None, value: bytes | None, at: str, headers: Pairs = ()) -> None:
        """Take one record of `model`; `at` says where it lies. One that no trainer wrote changes nothing."""
        try:
            version, said = self._announcements.read(key, value, headers)
        except InvalidMessage as error:
            self._refuse(MODEL, error.reason, f"{at}: {error}")
            return
        if said is not None:
            self.traces.note(said.version, headers)
        if key == LIVE:
            self._wanted = said
        elif said is not None:
            self._snapshots[version] = said
        else:
            self._snapshots.pop(version, None)

    def load(self) -> int | None:
        """The offset of `model-deltas` to follow from, when another bundle answers from now on.

        Only the alias `live` is served. A bundle older than the one announced before is a rollback and is taken; one
        that the deltas have overtaken already is not. While nothing is held, a bundle that cannot be read gives way to
        the newest snapshot that can.
        """
        if self._wanted is None or (self._away and time.monotonic() < self._again_at):
            return None
        wanted, self._wanted = self._wanted, None
        before, self._announced, self._pinned = self._announced, wanted.version, wanted.pinned
        held = self.scorer.version
        rollback = before is not None and wanted.version < before
        if held is not None and held >= wanted.version and not rollback:
            return None
        try:
            loaded = self._load_newest(wanted)
        except _StoreAwayError as error:
            self._refuse(MODEL, "unavailable", str(error), "it is back")
            self._wanted, self._announced = wanted, before
            self._again_at = time.monotonic() + AGAIN.pause_s(self._away)
            self._away += 1
            return None
        self._away = 0
        return None if loaded is None else loaded.delta_offset

    def _load_newest(self, wanted: Announcement) -> Announcement | None:
        """What was loaded. Raises _StoreAwayError."""
        if self._load(wanted):
            return wanted
        if self.scorer.version is None:
            for _, older in sorted(self._snapshots.items(), reverse=True):
                if older.bundle != wanted.bundle and self._load(older):
                    return older
        return None

    def delta(
        self, headers: Sequence[tuple[str, bytes]], value: bytes | None, at: str, key: bytes | None = None
    ) -> bool:
        """Take one record of `model-deltas`; True when another version answers from now on."""
        held = self.scorer.version
        if held is None or value is None:
            return False
        try:
            said = read_delta(self._trust, key, value, headers)
            if said.version <= held:
                return False
            follows = (said.parent, said.version) == (held, held + 1)
            if self._pinned or not follows:  # not collected: it would keep the next one out
                if said.part == said.parts - 1:
                    why = "and a rollback" if follows else f"v{held}"
                    text = f"{at}: delta v{said.version} follows on v{said.parent}, {why} is held"
                    self._refuse(MODEL_DELTAS, "pinned" if follows else "parent", text)
                return False
            delta = self._parts.add(value, said)
            if delta is None:
                return False
            self.traces.note(said.version, headers)
            with tracing.joined("apply weights", self.traces.of(said.version), version=said.version):
                self.scorer.apply(delta, said.published_ms)
        except InvalidMessage as error:
            self._refuse(MODEL_DELTAS, error.reason, f"{at}: {error}")
            return False
        except BundleError as error:
            self._refuse(MODEL_DELTAS, "delta", f"{at}: {error}")
            return False
        except HeadwaterError:
            raise
        except Exception as error:  # noqa: BLE001 - the topic keeps the record: it would end every process
            self._refuse(MODEL_DELTAS, "internal", str(unforeseen(error, at)))
            return False
        return True

    def _load(self, said: Announcement) -> bool:
        try:
            try:
                bundle = _as_announced(said, self._bundles.read(said.bundle, self._heard))
            except Unavailable as error:
                raise _StoreAwayError(str(error)) from error
            self._heard()
            try:
                self.scorer.load(bundle, said.published_time)
            finally:
                self._heard()
        except BundleError as error:
            self._refuse(MODEL, "untrusted" if isinstance(error, UntrustedBundleError) else "bundle", str(error))
            return False
        except HeadwaterError:  # a device that is asked for and not there, or the store is away
            raise
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors share no root
            self._refuse(MODEL, "internal", str(unforeseen(error, f"bundle {said.bundle}")))
            return False
        log.info("model loaded", extra={"version": self.scorer.version, "bundle": said.bundle})
        return True

    def _refuse(self, topic: Topic, reason: str, text: str, until: str = "a bundle comes that fits") -> None:
        self._refused(topic.name, reason)
        held = self.scorer.version
        stays = "popular items answer" if held is None else f"v{held} keeps answering"
        extra = {"topic": topic.name, "reason": reason}
        log.warning("model refused: %s; %s until %s", text, stays, until, extra=extra)


def _as_announced(said: Announcement, bundle: Bundle) -> Bundle:
    """The bundle, if it is the one that was announced: its name has but a part of the digest. Raises BundleError."""
    if (bundle.version, bundle.digest) != (said.version, said.digest):
        raise BundleError(
            f"bundle {said.bundle} is version {bundle.version} with digest {bundle.digest[:16]}; announced are version "
            f"{said.version} and {said.digest[:16]:.16}"
        )
    return bundle
