"""Follows the model that the trainer publishes: bundles by announcement, then the chain of deltas.

Before: records of the `model` and `model-deltas` topics, from `serving.topic_follower`. After: `serving.scorer` holds
the newest version that is whole. Knows nothing of Kafka's clients, only of what the records say.

A record that no trainer wrote, a bundle or a delta that is corrupt, not finite, or does not fit is refused, counted
and logged with its remedy, whatever it holds; the last good version keeps answering. After a gap in the chain, deltas
wait for the next bundle. A bundle whose store is away is asked for again, and says nothing of its content.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from headwater.errors import BundleError, HeadwaterError, InvalidMessage, Unavailable
from headwater.process import Backoff
from headwater.topics import MODEL, MODEL_DELTAS, Topic
from headwater.wire import unforeseen
from models.published.announcement import LIVE, Announcement, read_announcement, read_delta_headers
from models.published.delta import DeltaAssembler
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
        self, scorer: Scorer, bundles: BundleStore, refused: Counter, heard: Callable[[], None] = lambda: None
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
        self._newest: int | None = None  # version that was ever announced
        self._snapshots: dict[int, Announcement] = {}

    def announce(self, key: bytes | None, value: bytes | None, at: str) -> None:
        """Take one record of `model`; `at` says where it lies. One that no trainer wrote changes nothing."""
        try:
            version, said = read_announcement(key, value, self._newest)
        except InvalidMessage as error:
            self._refuse(MODEL, error.reason, f"{at}: {error}")
            return
        if said is not None:
            self._newest = max(self._newest or 0, said.version)
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
        before, self._announced = self._announced, wanted.version
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

    def delta(self, headers: Sequence[tuple[str, bytes]], value: bytes | None, at: str) -> bool:
        """Take one record of `model-deltas`; True when another version answers from now on."""
        held = self.scorer.version
        if held is None or value is None:
            return False
        try:
            said = read_delta_headers(headers)
            if said.version <= held:
                return False
            if (said.parent, said.version) != (held, held + 1):  # not collected: it would keep the next one out
                if said.part == said.parts - 1:
                    text = f"{at}: delta v{said.version} follows on v{said.parent}, v{held} is held"
                    self._refuse(MODEL_DELTAS, "parent", text)
                return False
            delta = self._parts.add(value, said)
            if delta is None:
                return False
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
                bundle = self._bundles.read(said.bundle, self._heard)
            except Unavailable as error:
                raise _StoreAwayError(str(error)) from error
            self._heard()
            try:
                self.scorer.load(bundle, said.published_time)
            finally:
                self._heard()
        except BundleError as error:
            self._refuse(MODEL, "bundle", str(error))
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
