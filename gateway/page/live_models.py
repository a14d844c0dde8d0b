"""The models that were published, which is live, and going back to one: `headwater rollback`, for the page.

Before: `gateway.page.views`, in a thread. After: the topics `model` and `audit`. The verbs are the trainer's own,
loaded when somebody asks.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.page.lookup import newest_records
from gateway.page.watch import beside_another, plain_line
from headwater.errors import AccessDenied, BundleError, InvalidMessage, SettingsError
from headwater.privacy.audit_log import read_audit_record, write_audit
from headwater.settings import Settings
from headwater.topics import AUDIT
from models.published.announcement import LIVE, Announcement, snapshot_key

__all__ = ["LiveModels"]

VERB = "rollback"
MOST_DEEDS = 20
LOOKED_AT = 500
"""Newest records of `audit`."""
MEASURES = ("ndcg_at_10", "hit_rate_at_10", "mrr")


class LiveModels:
    """Each method reads, and takes as long as that. Raises Unavailable."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._one_at_a_time = threading.Lock()

    def listed(self) -> dict[str, Any]:
        """Snapshots, newest first, with lineage and metrics; the live one; who went back, and when."""
        from trainer.announced import models_listed

        found = models_listed(self._settings)
        live, by_digest = found.live, {one.digest: one.version for one in found.snapshots}
        told = [_snapshot(one, by_digest, found.signers.get(snapshot_key(one.version), "")) for one in found.snapshots]
        return {
            "live": None if live is None else _snapshot(live, by_digest, found.signers.get(LIVE, "")),
            "pinned": live is not None and live.pinned,
            "snapshots": told,
            "foreign": found.foreign[-3:],
            "chart": _chart(found.snapshots[::-1]),
            "deeds": self._deeds(),
        }

    def _deeds(self) -> list[dict[str, Any]]:
        found = []
        for record in newest_records(self._settings.kafka, AUDIT, LOOKED_AT):
            deed = read_audit_record(record.value)
            if deed is not None and deed.action == VERB:
                target = deed.target.get("version")
                found.append({"time_ms": deed.audited_time, "by": deed.by, "version": target})
        return found[: -MOST_DEEDS - 1 : -1]

    def go(self, version: int | None, seen_pinned: int | None, by: str) -> Announcement:
        """Make a version live and keep it so; None ends that.

        Parameters
            seen_pinned: the version that a rollback held when the person looked; None for none.
            by: who, for the audit log.

        Returns
            What was announced.

        Raises
            InvalidMessage: it is refused, and why: `changed`, `refused`.
            Unavailable: Kafka does not answer, or the store of bundles.
        """
        from trainer.announced import models_listed
        from trainer.rollback import resume, rollback

        def audited() -> None:
            target: Mapping[str, Any] = {"resume": True} if version is None else {"version": version}
            write_audit(self._settings.kafka, VERB, target, by)

        with self._one_at_a_time:
            live = models_listed(self._settings).live
            pinned = live.version if live is not None and live.pinned else None
            if pinned != seen_pinned:
                raise InvalidMessage("changed", "somebody else went back, or forward, meanwhile: look again")
            try:
                if version is None:
                    return resume(self._settings, audited)
                return rollback(self._settings, version, audited)
            except (AccessDenied, BundleError, SettingsError) as error:
                raise InvalidMessage("refused", str(error)) from error


def _snapshot(one: Announcement, by_digest: Mapping[str, int], signer: str) -> dict[str, Any]:
    metrics = one.metrics
    measured = {name: found if isinstance(found := metrics.get(name), dict) else {} for name in MEASURES}
    return {
        "version": one.version,
        "published_ms": one.published_time,
        "learned": one.examples_offset,
        "digest": one.digest,
        "parent": one.parent,
        "parent_version": by_digest.get(one.parent or ""),
        "bundle": one.bundle,
        "signer": signer,
        "queries": metrics.get("queries"),
        "measures": {
            name: {who: value for who, value in several.items() if isinstance(value, float | int)}
            for name, several in measured.items()
        },
    }


def _ndcg(one: Announcement, who: str) -> float | None:
    several = one.metrics.get("ndcg_at_10")
    value = several.get(who) if isinstance(several, dict) else None
    return float(value) if isinstance(value, float | int) else None


def _chart(oldest_first: Sequence[Announcement]) -> str:
    """NDCG@10 of each snapshot when it was made, beside popularity's."""
    if len(oldest_first) < 2:
        return ""
    lines = [
        plain_line(name, style, [_ndcg(one, who) for one in oldest_first])
        for name, style, who in (("Headwater", "s0", "headwater"), ("Popularity", "s1", "popularity"))
    ]
    at = [float(one.version) for one in oldest_first]
    return beside_another("versions", "NDCG@10 when a version was made", lines, at, ("version", ""))
