"""Going back to an older model, and forward again: two announcements on the `model` topic.

Before: a person, through the CLI. After: serving workers load the bundle that is live; a running trainer honours the
pin.

`rollback` announces an older bundle as live with `pinned` set. The trainer goes on learning and writes snapshots, but
sends no deltas and makes nothing live, also after a restart. `resume` makes the newest snapshot live and lifts the
pin; the trainer then publishes a fresh bundle at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from headwater.errors import BundleError
from headwater.events import now_ms
from headwater.kafka import producer
from headwater.settings import Settings
from models.published.announcement import Announcement
from models.published.signing.trust import trust_of
from models.published.stores import newest_version, open_store
from trainer.registry import Registry

__all__ = ["resume", "rollback"]


def rollback(settings: Settings, version: int, begin: Callable[[], object] = lambda: None) -> Announcement:
    """Make the bundle of an older version live and keep it so until `resume`.

    Parameters
        begin: called when nothing is refused any more, and nothing changed yet.

    Returns
        What was announced.

    Raises
        BundleError: there is no such bundle (the message lists those there are), or it is damaged.
        Unavailable: Kafka does not answer, or the store of bundles.
        SettingsError: only signed models are taken, and there is no key to sign with.
    """
    return _announce(settings, version, pinned=True, begin=begin)


def resume(settings: Settings, begin: Callable[[], object] = lambda: None) -> Announcement:
    """Make the newest bundle live and let the trainer publish again.

    Returns
        What was announced.

    Raises
        BundleError, Unavailable: as `rollback`.
    """
    return _announce(settings, None, pinned=False, begin=begin)


def _announce(settings: Settings, version: int | None, *, pinned: bool, begin: Callable[[], object]) -> Announcement:
    trust = trust_of(settings)
    trust.may_publish()
    writer = producer(settings.kafka)
    try:
        bundles = open_store(settings.trainer.bundles, trust)
        newest = newest_version(bundles.names())
        registry = Registry(settings.kafka, writer, logging.getLogger("headwater"), newest, trust)
        try:
            there = ", ".join(map(str, sorted(registry.snapshots))) or "none"
            wanted = max(registry.snapshots, default=0) if version is None else version
            found = registry.snapshots.get(wanted)
            if found is None:
                raise BundleError(f"no snapshot of version {wanted} is announced; there are: {there}")
            bundles.read(found.bundle)
            # the deltas that once followed a bundle must not lead serving away from it again
            follow_from = registry.delta_end() if pinned else found.delta_offset
            changed = {"pinned": pinned, "delta_offset": follow_from, "published_time": now_ms()}
            announced = found.model_copy(update=changed)
            begin()
            before = registry.live
            registry.set_live(announced)
            if wanted not in registry.snapshots:  # a trainer that sees it live before it takes it away keeps the bundle
                if before is not None:
                    registry.set_live(before)
                raise BundleError(
                    f"the trainer has taken version {wanted} away in the same moment, to make room: what was live is "
                    "live again. `headwater rollback` lists those that there are"
                )
        finally:
            registry.close()
    finally:
        writer.close(timeout=10)
    return announced
