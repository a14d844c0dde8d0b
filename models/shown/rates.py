"""How often what is shown is reacted to: of each item, of each user, of all.

An exposure counts when it is shown, a reaction when it joins: where people react within seconds, the rate is that of
this moment. Knows ids; the longest idle are forgotten.
"""

from __future__ import annotations

import math
from typing import Any

__all__ = ["PRIOR", "Rate", "ReactionRates", "log_odds"]

PRIOR = 20.0
"""Exposures with the rate of all that everybody is presumed to have had."""

RECENT = 0.9
"""What is recent: each exposure counts so much of the one after it."""

MOST = 200_000


class Rate:
    """Counts of one item or user: exposures, reactions, and the same of the recent ones."""

    __slots__ = ("exposures", "reactions", "recent_exposures", "recent_reactions")

    def __init__(self, *counts: float) -> None:
        self.exposures, self.reactions, self.recent_exposures, self.recent_reactions = counts or (0.0,) * 4

    def expose(self) -> None:
        """It was shown."""
        self.exposures += 1.0
        self.recent_exposures = self.recent_exposures * RECENT + 1.0
        self.recent_reactions *= RECENT

    def react(self, by: float = 1.0) -> None:
        """It was reacted to; -1 takes that back."""
        self.reactions = max(self.reactions + by, 0.0)
        self.recent_reactions = max(self.recent_reactions + by, 0.0)

    def smoothed(self, of_all: float) -> float:
        """Reactions per exposure, shrunk to the rate of all."""
        return (self.reactions + PRIOR * of_all) / (self.exposures + PRIOR)

    def recently(self, of_all: float) -> float:
        """The same of recent exposures, shrunk to its own rate."""
        return (self.recent_reactions + 5.0 * self.smoothed(of_all)) / (self.recent_exposures + 5.0)

    def counts(self) -> list[float]:
        """All of it."""
        return [self.exposures, self.reactions, self.recent_exposures, self.recent_reactions]


NOBODY = Rate()


class ReactionRates:
    """Of all items, or of all users. `all` counts everybody."""

    def __init__(self) -> None:
        self.all = Rate()
        self._own: dict[str, Rate] = {}  # longest idle first

    def of(self, name: str) -> Rate:
        """Whose; of one that is not known, nothing."""
        return self._own.get(name, NOBODY)

    @property
    def of_all(self) -> float:
        """Reactions per exposure of everybody; one in two before the first."""
        return (self.all.reactions + 1.0) / (self.all.exposures + 2.0)

    def expose(self, name: str) -> None:
        """One was shown."""
        one = self._own.pop(name, None) or Rate()
        self._own[name] = one
        if len(self._own) > MOST:
            del self._own[next(iter(self._own))]
        one.expose()
        self.all.expose()

    def react(self, name: str, by: float = 1.0) -> None:
        """One was reacted to."""
        if name in self._own:
            self._own[name].react(by)
        self.all.react(by)

    def known(self) -> set[str]:
        """Of whom a rate is kept."""
        return {*self._own}

    def forget(self, name: str) -> None:
        """Of one, keep nothing; `all` has it still."""
        self._own.pop(name, None)

    def values(self) -> dict[str, Any]:
        """All of it, JSON-able."""
        return {"all": self.all.counts(), "own": [[name, *one.counts()] for name, one in self._own.items()]}

    def load(self, values: dict[str, Any]) -> None:
        """Back to what `values` returned."""
        self.all = Rate(*values["all"])
        self._own = {name: Rate(*counts) for name, *counts in values["own"]}


def log_odds(chance: float) -> float:
    """Of a chance; of one that is next to nothing or sure, as of one in ten thousand."""
    chance = min(max(chance, 1e-4), 1 - 1e-4)
    return math.log(chance / (1.0 - chance))
