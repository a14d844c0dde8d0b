"""The second stage of the learner: the ranker's parts, and what it does with a block of queries.

Before: `experts.fusion` has a query's scores. After: they are revised. Knows rows, not item ids.
"""

from __future__ import annotations

from collections.abc import Sequence

from models.experts.expert import Expert
from models.part import Part
from models.ranker.facts import facts_count
from models.ranker.network import RankerNetwork
from models.ranker.statistics import ItemStatistics

__all__ = ["Ranker"]


class Ranker:
    """Item statistics and network. `all` are its parts, which learner, publication and checkpoint loop over."""

    def __init__(self, experts: Sequence[Expert], capacity: int) -> None:
        self.statistics = ItemStatistics(capacity)
        self.network = RankerNetwork(facts_count(len(experts)))
        self.all: list[Part] = [self.statistics, self.network]
