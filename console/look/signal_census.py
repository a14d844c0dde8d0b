"""What a stream has of each type of event: counts, values, lists, and what they mean by the table in force.

Before: events of a file or rows of the topic. After: `signal_remarks` says what looks wrong, `headwater signals` prints
both. Reads nothing itself.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from headwater.events import Event
from headwater.signals import Meaning, Signals
from headwater.wire import EventRow

__all__ = ["TypeSeen", "census"]

SAMPLE = 5000
"""Values kept of a type, each as likely as any other (Vitter 1985, algorithm R), for quantiles."""


@dataclass
class TypeSeen:
    """What there is of one type.

    Fields
        events: how many.
        means: how many of them mean what.
        valued: those with a value; `lowest` and `highest` of these, and `sample` of them.
        lists: those with a list of items.
        joined: those that name the request that they answer.
    """

    events: int = 0
    means: Counter[Meaning] = field(default_factory=Counter)
    valued: int = 0
    lowest: float = math.inf
    highest: float = -math.inf
    sample: list[float] = field(default_factory=list)
    lists: int = 0
    joined: int = 0

    def share(self, meaning: Meaning) -> float:
        """Of the events of this type, those that mean it."""
        return self.means[meaning] / max(self.events, 1)

    def quantile(self, q: float) -> float | None:
        """Of the values, nearest rank; None of none."""
        ordered = sorted(self.sample)
        return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else None


def census(events: Iterable[Event | EventRow], signals: Signals) -> dict[str, TypeSeen]:
    """Count a stream by type.

    Parameters
        events: all of them.
        signals: the table in force.

    Returns
        Type -> what there is of it, the most frequent first.
    """
    found: dict[str, TypeSeen] = {}
    choice = random.Random(0)
    for event in events:
        seen = found.get(event.type)
        if seen is None:
            seen = found[event.type] = TypeSeen()
        value = event.value
        seen.events += 1
        seen.means[signals.meaning(event.type, value)] += 1
        seen.lists += bool(event.items)
        seen.joined += event.request_id is not None
        if value is not None:
            seen.valued += 1
            seen.lowest, seen.highest = min(seen.lowest, value), max(seen.highest, value)
            if len(seen.sample) < SAMPLE:
                seen.sample.append(value)
            elif (place := choice.randrange(seen.valued)) < SAMPLE:
                seen.sample[place] = value
    return dict(sorted(found.items(), key=lambda one: (-one[1].events, one[0])))
