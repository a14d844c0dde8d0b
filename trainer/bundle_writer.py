"""Checks and writes bundles beside the learning, one at a time, on a thread of its own.

Before: the publisher, with a bundle that nobody changes any more. After: the store has it, and the publisher may
announce it. Knows no Kafka: what is announced, and what is removed, the publisher decides.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from headwater.errors import BundleError, Unavailable
from models.published.announcement import Announcement
from models.published.bundle import Bundle
from models.published.parity import check_parity
from models.published.stores import BundleStore

__all__ = ["BundleWriter", "Writing", "WrittenBundle"]


class Writing(NamedTuple):
    """A bundle on its way to the store.

    Fields
        bundle: is not changed meanwhile.
        said: what is announced once it is there.
        leads: serving cannot follow to it by deltas, so none is sent before it is there.
        back: it is the model from before, made live again.
        told: the trace of its version.
    """

    bundle: Bundle
    said: Announcement
    leads: bool
    back: bool = False
    told: Sequence[tuple[str, bytes]] = ()


class WrittenBundle(NamedTuple):
    """What became of it: the names of all bundles that are kept, or why it could not be written."""

    writing: Writing
    names: Sequence[str]
    error: BundleError | OSError | Unavailable | None


class BundleWriter:
    """One thread that speaks to the store.

    Parameters
        store: of bundles.
        log: told of what could not be removed.
    """

    def __init__(self, store: BundleStore, log: logging.Logger) -> None:
        self._store = store
        self._log = log
        self._pool = ThreadPoolExecutor(1, "bundles")
        self._written: Future[WrittenBundle] | None = None
        self._removed: Future[None] = self._pool.submit(self._clear_torn)

    @property
    def busy(self) -> bool:
        """Whether a bundle is on its way, or what became of it was not asked for."""
        return self._written is not None

    @property
    def done(self) -> bool:
        """Whether `result` has something to say."""
        return self._written is not None and self._written.done()

    def write(self, writing: Writing) -> None:
        """Begin to write a bundle; none may be on its way."""
        assert self._written is None
        self._written = self._pool.submit(self._write, writing)

    def result(self, *, wait: bool) -> WrittenBundle | None:
        """What became of the bundle that was on its way; None while it is, unless told to wait, and without one."""
        if self._written is None or not (wait or self._written.done()):
            return None
        written, self._written = self._written, None
        return written.result()

    def remove(self, names: Sequence[str]) -> None:
        """Remove bundles, after what was begun before."""
        if names:
            self._removed = self._pool.submit(self._remove, names)

    def settle(self) -> None:
        """Wait until what was to be removed is."""
        self._removed.result()

    def close(self) -> None:
        """Finish what was begun."""
        self._pool.shutdown()

    def _write(self, writing: Writing) -> WrittenBundle:
        try:
            writing.bundle.refuse_untrue()
            check_parity(writing.bundle)
            self._store.write(writing.bundle)
            return WrittenBundle(writing, self._store.names(), None)
        except (BundleError, Unavailable) as error:
            return WrittenBundle(writing, (), error)
        except OSError as error:
            self._clear_torn()  # it may be for want of room
            return WrittenBundle(writing, (), error)

    def _remove(self, names: Sequence[str]) -> None:
        for name in names:
            try:
                self._store.remove(name)
            except (OSError, Unavailable) as error:  # it is listed, and so removed, when the next one is written
                self._log.warning("bundle not removed", extra={"bundle": name, "error": str(error)})

    def _clear_torn(self) -> None:
        try:
            self._store.clear_torn()
        except (OSError, Unavailable) as error:
            self._log.warning("what is left of torn bundles stays", extra={"error": str(error)})
