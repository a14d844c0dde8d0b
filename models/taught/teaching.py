"""How much one user may teach: a crawler's views must not become what the model knows of everybody.

Before: the learner, with every example in log order. After: an example over the limit is counted and neither asked nor
learned; the streams worker keeps it in the user's history all the same. By event time and the order of the log alone,
so that a restart, a backtest and an explanation decide alike. Knows no items and no weights.

Who is inhuman? Somebody far beyond a plain bound and far beyond the crowd. The plain bound alone would take a load
test, or a stream whose times are those of its arrival, for a stream of crawlers; the crowd alone, somebody who likes to
read among people who hardly do. Where most times are whole minutes, as in a stream that knows only days, nobody is held
to the bound of a minute. The most a person did in a minute was 32 in MovieLens-1M, 23 in Retailrocket, 39 in Taobao, 12
on a news portal and 85 on trivago, where hovering counts; in a day 1,440, by a rater of films.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["TEACH_PER_MINUTE", "TeachingLimit"]

TEACH_PER_MINUTE = 120
"""Two a second for a whole minute."""

MINUTES_A_DAY = 50
"""A day may hold what so many full minutes do: 6,000 events by default."""

MINUTE_MS, DAY_MS = 60_000, 86_400_000

FAR = 10
"""Times what all but a tenth of the crowd stay below."""

CROWD = 5
"""Fewer users than this are no crowd to compare with: nobody is held to the bound."""

RECENT_USERS = 2048
"""Users that are remembered, those of the newest events. A crawler's next event comes long before it is forgotten."""

LOOK_EVERY = 256
"""Events between two looks at the crowd: one costs some 0.2 ms."""


class TeachingLimit:
    """Counts the events of each user, and says which of them may be learned.

    Parameters
        per_minute: the plain bound; 0 lets everything be learned.

    `capped` is how many were not to be learned so far.

    >>> limit = TeachingLimit(per_minute=120)
    >>> for event in range(256):
    ...     _ = limit.allows(f"reader {event % 50}", event * 1000)
    >>> sum(limit.allows("crawler", 256_000 + event) for event in range(1600)), limit.capped
    (120, 1480)
    """

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self.capped = 0
        self._events = 0
        self._whole = 0  # of the events since the last look at the crowd, those at a whole minute
        self._crowd = [np.inf, np.inf]  # what all but a tenth stay below in a minute, in a day
        self._users: dict[str, tuple[int, int, int, int]] = {}  # minute, events in it, day, events in it; idle first
        self._passed_over: dict[str, int] = {}  # of these users the events that were not learned

    def allows(self, user_id: str, time_ms: int) -> bool:
        """Count one event, and say whether it may be learned.

        Parameters
            user_id: whose it is.
            time_ms: when it happened, epoch ms. One that comes late counts in the user's newest minute and day.
        """
        if not self.per_minute:
            return True
        minute, day = time_ms // MINUTE_MS, time_ms // DAY_MS
        before = self._users.pop(user_id, None)
        in_minute = in_day = 1
        if before is not None:
            if before[0] >= minute:
                minute, in_minute = before[0], before[1] + 1
            if before[2] >= day:
                day, in_day = before[2], before[3] + 1
        elif len(self._users) == RECENT_USERS:
            forgotten = next(iter(self._users))
            del self._users[forgotten]
            self._passed_over.pop(forgotten, None)
        self._users[user_id] = (minute, in_minute, day, in_day)
        self._events += 1
        self._whole += time_ms % MINUTE_MS == 0
        if self._events % LOOK_EVERY == 0:
            self._look()
        over = in_minute > max(self.per_minute, FAR * self._crowd[0])
        over = over or in_day > max(self.per_minute * MINUTES_A_DAY, FAR * self._crowd[1])
        if over:
            self.capped += 1
            self._passed_over[user_id] = self._passed_over.get(user_id, 0) + 1
        return not over

    def known_users(self) -> set[str]:
        """Of whom a count is kept."""
        return {*self._users, *self._passed_over}

    def forget_user(self, user_id: str) -> None:
        """Keep no count of somebody."""
        self._users.pop(user_id, None)
        self._passed_over.pop(user_id, None)

    def takes_back(self, user_id: str) -> bool:
        """Whether an event that a user undoes is to be unlearned: not as long as it may be one that was not learned, so
        that nobody takes back more than they taught. Ask once of each.
        """
        passed_over = self._passed_over.get(user_id, 0)
        if passed_over:
            self._passed_over[user_id] = passed_over - 1
        return not passed_over

    def _look(self) -> None:
        """See what the crowd does, in a minute and in a day."""
        coarse, self._whole = self._whole > LOOK_EVERY / 2, 0
        self._crowd = [np.inf, np.inf]
        if len(self._users) >= CROWD:
            counts = np.array([(one[1], one[3]) for one in self._users.values()])  # (users, 2)
            self._crowd = np.quantile(counts, 0.9, axis=0, method="lower").tolist()
        if coarse:
            self._crowd[0] = np.inf

    def state(self) -> dict[str, Any]:
        """All of it, as JSON-able values."""
        crowd = [None if np.isinf(one) else one for one in self._crowd]
        users = [[user_id, *counts] for user_id, counts in self._users.items()]
        counted = {"capped": self.capped, "events": self._events, "whole": self._whole}
        return {**counted, "crowd": crowd, "users": users, "passed_over": self._passed_over}

    def load(self, state: Mapping[str, Any]) -> None:
        """Back to what `state` returned; a checkpoint of an earlier release has none of it."""
        self.capped, self._events = state.get("capped", 0), state.get("events", 0)
        self._whole = state.get("whole", 0)
        self._crowd = [np.inf if one is None else one for one in state.get("crowd", (None, None))]
        self._users = {user_id: tuple(counts) for user_id, *counts in state.get("users", ())}
        self._passed_over = dict(state.get("passed_over", {}))
