"""Which offset of each partition may be committed: the one below which everything is answered and acknowledged.

Before: records are begun in order. After: they end in any order, because a request that waits for its own events is
overtaken. Knows nothing of Kafka's clients.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["OpenOffsets"]


class OpenOffsets:
    """Open offsets by partition.

    >>> requests = OpenOffsets()
    >>> for offset in (5, 6, 7):
    ...     requests.begin(0, offset)
    >>> requests.end(0, 6), requests.finished()
    (None, {0: 5})
    >>> requests.end(0, 5), requests.finished()
    (None, {0: 7})
    """

    def __init__(self) -> None:
        self._open: dict[int, set[int]] = {}
        self._next: dict[int, int] = {}

    def begin(self, partition: int, offset: int) -> None:
        """A record was read. One that was read before (after a rebalance) is open again."""
        self._open.setdefault(partition, set()).add(offset)
        self._next[partition] = max(self._next.get(partition, 0), offset + 1)

    def end(self, partition: int, offset: int) -> None:
        """A record's reply was acknowledged; without effect for a partition that was given up meanwhile."""
        self._open.get(partition, set()).discard(offset)

    def reached(self, partition: int, offset: int) -> None:
        """There is nothing to answer below `offset`."""
        self._open.setdefault(partition, set())
        self._next[partition] = max(self._next.get(partition, 0), offset)

    def keep(self, partitions: Iterable[int]) -> None:
        """Forget all other partitions: another worker has them now."""
        kept = set(partitions)
        for partition in self._next.keys() - kept:
            del self._next[partition], self._open[partition]

    def finished(self) -> dict[int, int]:
        """Partition -> the offset to commit."""
        return {number: min(self._open[number], default=after) for number, after in self._next.items()}

    @property
    def open(self) -> bool:
        """Whether any record is begun and not ended."""
        return any(self._open.values())
