"""Statistics of items and their popularity, merged over the slots when they are read.

Each slot counts what its own users did: `i:<item>` hash of counts (`n:<type>`, `m:<meaning>`) and `log2` of the decayed
weight, `totals` the same counts of all items, `popular` sorted set of that log2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from headwater.topics import EVENTS
from streams.features.decay import Decay, ItemStatistics, add_log2
from streams.features.store.marked import MarkedStore
from streams.features.store.server import Script, StoreCall
from streams.features.store.values import pairs, statistics_of

__all__ = ["ItemReads"]

POPULAR, WEIGHTS, COUNTED = Script("popular"), Script("weights"), Script("counted")

DEEPEST = 10_000
"""Of how many items of each slot it is found out, at most, whether one of them is popular in all together."""


class ItemReads(MarkedStore):
    """The part of the store that reads items' statistics."""

    def popular(self, n: int, now_ms: int) -> list[tuple[str, float]]:
        """The `n` items of most decayed weight, best first, each with its weight at `now_ms`."""
        ranked, decay, _ = self.popularity(n)
        return [] if decay is None else [(item, decay.weight_at(log2_sum, now_ms)) for item, log2_sum in ranked]

    def popularity(self, n: int) -> tuple[list[tuple[str, float]], Decay | None, dict[int, int]]:
        """The items of most decayed weight, the decay and the marks; of each slot of one moment. With several slots
        it costs a round trip or a few to every node: ask once a second, not for each answer.

        Parameters
            n: how many items.

        Returns
            Item id and log2 of its weight, best first; the decay, None before any event; events partition -> newest
            offset that is counted.

        Source
            With several slots the threshold algorithm of Fagin, Lotem, Naor, "Optimal Aggregation Algorithms for
            Middleware", PODS 2001: no item below what was read of each slot can weigh more than their bounds together.
        """
        low = self.whole().low.get(EVENTS.name, {})
        depth = n
        while True:
            best, decay, marks, exact = self._popular_to(depth, n)
            if exact or depth >= DEEPEST:
                break
            depth = min(DEEPEST, depth * 4)
        for partition, mark in low.items():
            marks[partition] = max(mark, marks.get(partition, -1))
        return best, decay, marks

    def _popular_to(self, depth: int, n: int) -> tuple[list[tuple[str, float]], Decay | None, dict[int, int], bool]:
        """The best by what the first `depth` of each slot say; and whether no other item can be among them."""
        key = self.slots.key
        names = ("landmark", "popular", "marks")
        calls = [StoreCall(POPULAR, [key(slot, name) for name in names], [depth]) for slot in self.slots.all]
        ranked: list[dict[str, float]] = []
        marks: dict[int, int] = {}
        decay: Decay | None = None
        for slot, (landmark, scores, own) in enumerate(self._server.run(calls)):
            decay = self._decay(landmark, key(slot, "landmark")) or decay
            flat = [] if isinstance(scores, Exception) else scores
            ranked.append({item.decode(): float(log2) for item, log2 in pairs(flat).items()})
            found = self._folded(own if isinstance(own, Exception) else pairs(own), key(slot, "marks"))
            for partition, mark in found.items():
                marks[partition] = max(mark, marks.get(partition, -1))
        if self.slots.count == 1:
            return list(ranked[0].items()), decay, marks, True
        bound = -float("inf")
        for one in ranked:
            if len(one) == depth:
                bound = add_log2(bound, min(one.values()))
        sums = self._summed(ranked, {item for one in ranked for item in one})
        best = sorted(sums.items(), key=lambda one: (one[1], one[0]), reverse=True)[:n]
        return best, decay, marks, bound == -float("inf") or (len(best) == n and best[-1][1] >= bound)

    def _summed(self, ranked: Sequence[dict[str, float]], items: set[str]) -> dict[str, float]:
        """The weight of each item in all slots together; what was not read of a slot is asked of it."""
        missing = [sorted(items.difference(one)) for one in ranked]
        asked = [slot for slot in self.slots.all if missing[slot]]
        calls = [StoreCall(WEIGHTS, [self.slots.key(slot, "popular")], missing[slot]) for slot in asked]
        for slot, found in zip(asked, self._server.run(calls), strict=True):
            known = {} if isinstance(found, Exception) else zip(missing[slot], found, strict=True)
            ranked[slot].update((item, float(log2)) for item, log2 in dict(known).items() if log2 is not None)
        sums: dict[str, float] = {}
        for one in ranked:
            for item, log2 in one.items():
                sums[item] = add_log2(sums.get(item, -float("inf")), log2)
        return sums

    def item_statistics(self, item_ids: Sequence[str]) -> list[ItemStatistics]:
        """Statistics of these items, in their order: counts by type and by meaning, and the decayed weight."""
        return self._statistics([f"i:{item}" for item in item_ids])

    def totals(self) -> ItemStatistics:
        """Counts by type and by meaning of all items together, the mean that `positive_rate` draws to."""
        return self._statistics(["totals"])[0]

    def _statistics(self, names: Sequence[str]) -> list[ItemStatistics]:
        if not names:
            return []
        calls = [StoreCall(COUNTED, [self.slots.key(slot, name) for name in names]) for slot in self.slots.all]
        return [_together(of_slots) for of_slots in zip(*self._server.run(calls), strict=True)]


def _together(hashes: Iterable[Any]) -> ItemStatistics:
    found = [statistics_of({} if isinstance(one, Exception) else pairs(one)) for one in hashes]
    for other in found[1:]:
        found[0].merge(other)
    return found[0]
