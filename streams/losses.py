"""What the store or the log turned out to have lost: counted, and told in one line with what to look for.

Before: `streams.intake` and `streams.rounds` compare the store's marks with what they know. After: an operator.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from headwater.process import key_text
from streams.streams_metrics import StreamsMetrics

__all__ = ["Losses"]

log = logging.getLogger("headwater")


class Losses:
    """Counts into the worker's metrics."""

    def __init__(self, metrics: StreamsMetrics) -> None:
        self._metrics = metrics

    def went_back(
        self, topic: str, was: Mapping[int, int], found: Mapping[int, int], slots: Sequence[int] = ()
    ) -> None:
        """The store holds less than was written to it; nothing is told when it does not.

        Parameters
            topic: where its marks lie.
            was: partition -> offset after the newest record whose effect it had.
            found: the same, of what it has now.
            slots: that lost writes, where the store has several.
        """
        lower = {partition: offset for partition, offset in was.items() if found.get(partition, 0) < offset}
        if not lower:
            return
        self._metrics.store_went_back.inc()
        log.error(
            "the store went back in time: it holds less than was written to it. What it lost is read again from the "
            "log; what is new waits until then. Look why it forgot: FLUSHALL, a backup that was restored, a failover, "
            "or a crash between two fsyncs. Millions of records? Stop the streams workers: `headwater rebuild "
            "features` is quicker.",
            extra={
                "topic": topic,
                "was": lower,
                "is": {partition: found.get(partition, 0) for partition in lower},
                "records": sum(offset - found.get(partition, 0) for partition, offset in lower.items()),
                **({"slots": list(slots)} if slots else {}),
            },
        )

    def damaged(self, key: str, becomes: str = "begins anew") -> None:
        """A key of the store holds what no worker wrote."""
        self._metrics.damaged.inc()
        shown = key_text(key)
        log.error(
            "redis key %s holds what no worker wrote: it %s. Look who else writes to this store.", shown, becomes,
            extra={"key": shown},
        )  # fmt: skip

    def gone(self, topic: str, partition: int, due: int, oldest: int) -> None:
        """The log has deleted records whose effect is not in the store, from `due` up to where it begins."""
        self._metrics.gone.labels(topic).inc(oldest - due)
        log.error(
            "%s[%d]: %d records that the store does not have are deleted from the log, which begins at %d: their "
            "effect is lost. Reading goes on from there. Keep the log (retention.ms) for longer than the store may be "
            "behind it.",
            topic,
            partition,
            oldest - due,
            oldest,
            extra={"topic": topic, "partition": partition, "due": due, "oldest": oldest},
        )
