"""Follows the model that the trainer publishes: bundles by announcement, then the chain of deltas.

Before: records of the `model` and `model-deltas` topics, from `serving.topic_follower`. After: `serving.scorer` holds
the newest version that is whole. Knows nothing of Kafka's clients, only of what the records say.

A bundle or a delta that is corrupt, not finite, or does not fit is refused, counted and logged with its remedy; the
last good version keeps answering. After a gap in the chain, deltas wait for the next bundle.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import orjson

from headwater.errors import BundleError
from models.published.bundle import read_bundle
from models.published.delta import DeltaAssembler
from serving.scorer import Scorer

__all__ = ["LIVE", "Counter", "ModelFollower"]

LIVE = b"live"
SNAPSHOT = b"snapshot:"

log = logging.getLogger("headwater")


class Counter(Protocol):
    """What counts refusals: a prometheus counter with the label `reason`, or anything like it."""

    def __call__(self, reason: str) -> None: ...


class ModelFollower:
    """`announce` and `delta` take the records in the order of their topics."""

    def __init__(self, scorer: Scorer, bundles: Path, refused: Counter) -> None:
        self.scorer = scorer
        self.bundles = bundles
        self._refused = refused
        self._parts = DeltaAssembler()
        self._announced: int | None = None
        self._snapshots: dict[int, bytes] = {}

    def announce(self, key: bytes | None, value: bytes | None) -> int | None:
        """One record of `model`; the offset of `model-deltas` to follow from, when another bundle answers from now on.

        Only the alias `live` is served. A bundle older than the one announced before is a rollback and is taken; one
        that the deltas have overtaken already is not. While nothing is held, an unreadable `live` gives way to the
        newest snapshot that can be read.
        """
        if key is not None and key.startswith(SNAPSHOT):
            self._remember(key, value)
            return None
        if key != LIVE or value is None:
            return None
        body = self._body(value)
        if body is None:
            return None
        version = int(body["version"])
        rollback = self._announced is not None and version < self._announced
        self._announced = version
        held = self.scorer.version
        if held is not None and held >= version and not rollback:
            return None
        if self._load(body):
            return int(body["delta_offset"])
        if self.scorer.version is not None:
            return None
        for _, snapshot in sorted(self._snapshots.items(), reverse=True):
            older = self._body(snapshot)
            if older is not None and older["bundle"] != body["bundle"] and self._load(older):
                return int(older["delta_offset"])
        return None

    def delta(self, headers: Mapping[str, bytes], value: bytes | None) -> bool:
        """One record of `model-deltas`; True when another version answers from now on."""
        held = self.scorer.version
        if held is None or value is None:
            return False
        try:
            if int(headers["version"]) <= held:
                return False
            delta = self._parts.add(value)
            if delta is None:
                return False
            if delta.parent_version != held:
                self._refuse("parent", f"delta v{delta.version} follows on v{delta.parent_version}, v{held} is held")
                return False
            self.scorer.apply(delta, int(headers["published-time"]))
        except BundleError as error:
            self._refuse("delta", str(error))
            return False
        except (KeyError, ValueError) as error:
            self._refuse("delta", f"a record of model-deltas lacks a header or has a wrong one ({error!r})")
            return False
        return True

    def _remember(self, key: bytes, value: bytes | None) -> None:
        version = key.removeprefix(SNAPSHOT)
        if version.isdigit():
            if value is None:
                self._snapshots.pop(int(version), None)
            else:
                self._snapshots[int(version)] = value

    def _body(self, value: bytes) -> dict[str, Any] | None:
        try:
            body = orjson.loads(value)
            int(body["version"]), str(body["bundle"]), int(body["delta_offset"]), int(body["published_time"])
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            self._refuse("announcement", f"a record of model is no announcement ({error!r}): {value[:80]!r}")
            return None
        return dict(body)

    def _load(self, body: Mapping[str, Any]) -> bool:
        name = str(body["bundle"])
        try:
            if Path(name).name != name:
                raise BundleError(f"the announced bundle {name!r} is no folder name. Publish a bundle anew.")
            self.scorer.load(read_bundle(self.bundles / name), int(body["published_time"]))
        except BundleError as error:
            self._refuse("bundle", str(error))
            return False
        log.info("model loaded", extra={"version": self.scorer.version, "bundle": name})
        return True

    def _refuse(self, reason: str, text: str) -> None:
        self._refused(reason)
        held = self.scorer.version
        stays = "popular items answer" if held is None else f"v{held} keeps answering"
        log.warning("model refused: %s; %s until a bundle comes that fits", text, stays, extra={"reason": reason})
