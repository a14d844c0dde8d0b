"""What the log remembers of idempotent producers: epoch, last sequence, the last five batches.

It knows no transactions. The rules are Apache Kafka's: an unknown producer may start at any sequence, a known one must
continue its own.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from embedded.log.batch import Header
from embedded.protocol import Code

REMEMBERED_BATCHES = 5  # clients keep at most five requests in flight
EXPIRY_MS = 86_400_000  # as producer.id.expiration.ms


@dataclass(slots=True)
class _KnownProducer:
    epoch: int
    last_sequence: int
    seen_ms: int
    batches: deque[tuple[int, int, int]] = field(default_factory=lambda: deque(maxlen=REMEMBERED_BATCHES))


class Producers:
    """The idempotent producers of one partition."""

    def __init__(self) -> None:
        self._known: dict[int, _KnownProducer] = {}

    def check(self, header: Header) -> tuple[Code, int | None]:
        """(NONE, None): append it. (NONE, offset): a duplicate of the batch at that offset. Otherwise the refusal."""
        known = self._known.get(header.producer_id)
        if known is None:
            return Code.NONE, None
        if header.producer_epoch < known.epoch:
            return Code.INVALID_PRODUCER_EPOCH, None
        if header.producer_epoch > known.epoch:
            return (Code.NONE if header.base_sequence == 0 else Code.OUT_OF_ORDER_SEQUENCE_NUMBER), None
        last = _advance(header.base_sequence, header.last_offset_delta)
        for first_seen, last_seen, offset in known.batches:
            if first_seen == header.base_sequence and last_seen == last:
                return Code.NONE, offset
        if header.base_sequence != _advance(known.last_sequence, 1):
            return Code.OUT_OF_ORDER_SEQUENCE_NUMBER, None
        return Code.NONE, None

    def note(self, header: Header, now_ms: int) -> None:
        """Remembers a batch that is in the log."""
        last = _advance(header.base_sequence, header.last_offset_delta)
        known = self._known.get(header.producer_id)
        if known is None or known.epoch != header.producer_epoch:
            known = self._known[header.producer_id] = _KnownProducer(header.producer_epoch, last, now_ms)
        known.last_sequence, known.seen_ms = last, now_ms
        known.batches.append((header.base_sequence, last, header.base_offset))

    def expire(self, now_ms: int) -> None:
        """Forgets producers that have been silent for a day."""
        for producer_id in [i for i, known in self._known.items() if now_ms - known.seen_ms > EXPIRY_MS]:
            del self._known[producer_id]

    def dump(self) -> dict[str, Any]:
        """As JSON types, for a checkpoint."""
        return {str(i): [p.epoch, p.last_sequence, p.seen_ms, list(p.batches)] for i, p in self._known.items()}

    def load(self, dumped: dict[str, Any]) -> None:
        """Replaces everything by what `dump` gave."""
        self._known = {
            int(i): _KnownProducer(epoch, last, seen, deque((tuple(b) for b in batches), REMEMBERED_BATCHES))
            for i, (epoch, last, seen, batches) in dumped.items()
        }


def _advance(sequence: int, by: int) -> int:
    return (sequence + by) & 0x7FFFFFFF  # sequences wrap to 0 after 2**31 - 1
