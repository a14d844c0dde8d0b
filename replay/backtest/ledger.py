"""The ledger of a backtest: what was asked, and where every ranker had the target. It only takes down.

Before: `replay.backtest` writes while the stream runs. After: `replay.backtest.figures` makes means and intervals of
it. Costs 4 bytes a query and ranker, 24 a query, and 8 an item and ranker.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from replay.backtest.queries import Query

__all__ = ["LIST", "Ledger"]

LIST = 10
"""Length of the lists that coverage and novelty look at."""


class Ledger:
    """Ranks of identical queries. Every ranker writes its queries in stream order, but each at its own time."""

    def __init__(self) -> None:
        self.place = array("q")
        self.time_ms = array("q")
        self.user = array("i")
        self.earlier = array("i")  # events that the target had before
        self.entries = array("i")  # length of the history
        self.kind = array("h")
        self.kinds: dict[str, int] = {}
        self.ranks: dict[str, array[int]] = {}  # 1-based; whoever lists only the best writes list length + 1 for a miss
        self.against: dict[str, array[int]] = {}  # ranks of items that were turned down, of whoever was asked
        self.against_user = array("i")
        self.against_kind: Counter[str] = Counter()
        self.unrevised = array("i")  # ranks without the ranker, of each query where there is one
        self.recalled = array("b")  # whether the target was among its candidates
        self.headed = array("i")  # ranks by the head of its type, too, 0 where that has none
        self.shallow: set[str] = set()  # those that list only the best
        self.counts = array("i")  # events by item
        self.events = 0
        self._listed: dict[str, array[int]] = {}  # times in a list, by item
        self._information: dict[str, float] = {}
        self._lists: dict[str, int] = {}

    def ranker(self, name: str, *, shallow: bool = False) -> None:
        """Announce a ranker; a shallow one lists only the best, and knows no rank behind them."""
        self.ranks[name] = array("i")
        if shallow:
            self.shallow.add(name)
        self._listed[name] = array("q")
        self._information[name] = 0.0
        self._lists[name] = 0

    def ask(self, query: Query) -> None:
        """Take down a query, before anybody answers it."""
        target = query.example.target
        self.place.append(query.place)
        self.time_ms.append(target.time_ms)
        self.user.append(query.user)
        self.earlier.append(self.counts[query.item])
        self.entries.append(len(query.history))
        self.kind.append(self.kinds.setdefault(target.type, len(self.kinds)))

    def answer(self, name: str, rank: int, best: Sequence[int] = ()) -> None:
        """Take down one ranker's rank of its next query, and the numbers of the best items of its list.

        Self-information, minus log2 of an item's share of the events so far, is that of the moment of writing.
        """
        self.ranks[name].append(rank)
        if not best:
            return
        listed = self._listed[name]
        if len(listed) < len(self.counts):
            listed.extend([0] * (len(self.counts) - len(listed)))
        bits = 0.0
        for item in best:
            listed[item] += 1
            bits += math.log2(self.counts[item])
        self._information[name] += math.log2(self.events) - bits / len(best)
        self._lists[name] += 1

    def revise(self, unrevised: int, recalled: bool, headed: int) -> None:
        """Take down of the next query its rank without the ranker, whether the target was a candidate, and its rank
        by the head of its type, too, 0 without one.
        """
        self.unrevised.append(unrevised)
        self.recalled.append(recalled)
        self.headed.append(headed)

    def turned_down(self, query: Query) -> None:
        """Take down that a user is about to speak against an item, before anybody ranks it."""
        self.against_user.append(query.user)
        self.against_kind[query.example.target.type] += 1

    def rank_against(self, name: str, rank: int) -> None:
        """Take down where one ranker had the next of the items that were turned down."""
        self.against.setdefault(name, array("i")).append(rank)

    def learn(self, query: Query) -> None:
        """Take down that an event happened."""
        if query.item == len(self.counts):
            self.counts.append(0)
        self.counts[query.item] += 1
        self.events += 1

    @property
    def queries(self) -> int:
        """Queries asked so far."""
        return len(self.place)

    def gains(self, name: str, k: int = 10, start: int = 0) -> NDArray[np.float64]:
        """(answered - start,) NDCG@k of single targets: 1 / log2(rank + 1), 0 beyond k."""
        ranks = np.array(self.ranks[name][start:], np.int64)
        return np.where(ranks <= k, 1.0 / np.log2(ranks + 1.0), 0.0)

    def coverage(self, name: str) -> float | None:
        """Share of the items known at the end that were in any list; None for a ranker without lists."""
        listed = self._listed[name]
        return float(np.count_nonzero(np.array(listed, np.int64))) / len(self.counts) if self._lists[name] else None

    def novelty(self, name: str) -> float | None:
        """Mean self-information (bits) of listed items: the mean of the lists' means."""
        return self._information[name] / self._lists[name] if self._lists[name] else None
