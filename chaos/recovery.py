"""How long it takes until all is well again after each fault.

Well again is: of what was acknowledged after the fault was over, the first event of each partition is folded and
learned, and the first request is answered. Faults go on meanwhile, so a time holds what the next fault added.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from chaos.ledger import LoadLedger
from chaos.stack import Stack
from headwater.errors import HeadwaterError, InvalidMessage
from headwater.kafka import consumer
from headwater.topics import EVENTS, RECOMMENDATIONS, topic_name
from headwater.wire import decode_recommendation
from streams.features.store import FeatureStore

__all__ = ["Recoveries"]

LOOK_EVERY_S = 0.25
LEARNED = "headwater_learned_offset"


@dataclass
class _Unrecovered:
    """One fault that is over, and what has to come through."""

    number: int
    over_s: float
    folded: set[int] = field(default_factory=set)
    learned: set[int] = field(default_factory=set)


class Recoveries:
    """Watches in a thread of its own; a context manager. `found` is number of the fault -> seconds; `served` the same,
    whether it is learned or not.

    Its own clients go through the proxies, as everybody's: while it cannot look, nothing is well.
    """

    def __init__(self, stack: Stack, ledger: LoadLedger) -> None:
        self.found: dict[int, float] = {}
        self.served: dict[int, float] = {}
        self.answered: set[str] = set()
        self._stack = stack
        self._ledger = ledger
        self._waiting: list[_Unrecovered] = []
        self._done = threading.Event()
        self._threads = [
            threading.Thread(target=work, name=work.__name__, daemon=True) for work in (self._watch, self._read)
        ]

    def over(self, number: int) -> None:
        """A fault is over now."""
        self._waiting.append(_Unrecovered(number, time.monotonic()))

    @property
    def waiting(self) -> int:
        """Faults after which not all is well yet."""
        return len(self._waiting)

    def __enter__(self) -> Recoveries:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(30)

    def _watch(self) -> None:
        store: FeatureStore | None = None
        settings = self._stack.settings
        while not self._done.wait(LOOK_EVERY_S):
            if not self._waiting:
                continue
            try:
                store = store or FeatureStore(settings.redis, settings.kafka.prefix, privacy=settings.privacy)
                folded = store.marks()
            except HeadwaterError:
                continue
            learned: dict[int, int] = {}
            for part in self._stack.living("trainer"):
                with contextlib.suppress(ValueError):
                    for one in part.process.metrics().samples(LEARNED):
                        learned[int(one.labels["partition"])] = int(one.value)
            self._waiting = [one for one in self._waiting if not self._is_well(one, folded, learned)]
        if store is not None:
            store.close()

    def _is_well(self, one: _Unrecovered, folded: dict[int, int], learned: dict[int, int]) -> bool:
        first = self._ledger.since(EVENTS.name, one.over_s)
        request = self._ledger.request_since(one.over_s)
        for partition, offset in first.items():
            if folded.get(partition, -1) >= offset:
                one.folded.add(partition)
            if learned.get(partition, -1) >= offset:
                one.learned.add(partition)
        every = set(range(EVENTS.partitions))
        if one.folded < every or request is None or request not in self.answered:
            return False
        self.served.setdefault(one.number, time.monotonic() - one.over_s)
        if one.learned < every:
            return False
        self.found[one.number] = time.monotonic() - one.over_s
        return True

    def _read(self) -> None:
        """Follow the answers, as somebody who waits for his."""
        kafka = self._stack.settings.kafka
        name = topic_name(RECOMMENDATIONS, kafka.prefix)
        reader: Any = None
        while not self._done.is_set():
            try:
                if reader is None:
                    reader = _reader(kafka, name)
                for records in reader.poll(timeout_ms=200).values():
                    for record in records:
                        with contextlib.suppress(InvalidMessage):
                            self.answered.add(decode_recommendation(record.value).request_id)
            except Exception:  # noqa: BLE001  # whatever its client says while the broker is broken: it looks again
                self._done.wait(0.5)
        if reader is not None:
            reader.close(timeout_ms=1000)


def _reader(kafka: Any, name: str) -> Any:
    from kafka import TopicPartition

    made = consumer(kafka)
    made.assign([TopicPartition(name, number) for number in range(RECOMMENDATIONS.partitions)])
    made.seek_to_beginning()
    return made
