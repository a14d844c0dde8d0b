"""Types of event that nobody has given a meaning, told in the log once each: they count for their items.

Before: the rows of a round. After: an operator, who finds in `headwater signals` what to set.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from headwater.consent import CONSENT
from headwater.privacy import FORGET
from headwater.signals import Signals
from headwater.wire import EventRow

__all__ = ["UnknownTypes"]

MOST_TOLD = 50
"""A producer that makes up a type for each event must not fill the log."""

log = logging.getLogger("headwater")


class UnknownTypes:
    """Remembers which types it has seen, by the table in force."""

    def __init__(self, signals: Signals) -> None:
        self._known = {*signals.table, FORGET, CONSENT}
        self._told = 0

    def look(self, rows: Iterable[EventRow]) -> None:
        """Tell of the types that are new."""
        for kind in sorted({row.type for row in rows} - self._known):
            if self._told == MOST_TOLD:
                return
            self._known.add(kind)
            self._told += 1
            log.warning(
                "events of type %s: nobody has given it a meaning, so each counts for its item. Say what it means in "
                "[signals.%s] (docs/signals.md); `headwater signals` shows what the stream has",
                kind, kind, extra={"type": kind},
            )  # fmt: skip
