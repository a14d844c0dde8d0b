"""Proof that what was taken down is in no answer: an item that was removed, unavailable or expired is in no list whose
receipt names that state of the catalogue, or a later one.

Before: a world that answers, or has answered; `items` and `recommendations` as they are now. After: `headwater audit
takedown`, the demo's last line, tests under faults. Reads what the workers read by what they read it with.

What the logs no longer tell is not judged, and counted: receipts of an `items` topic that was there before this one,
and items whose records are in several partitions, whose order nobody knows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from headwater.errors import InvalidMessage
from headwater.events import Item
from headwater.kafka import end_offsets, read_partitions
from headwater.recommendations import Recommendation
from headwater.settings import KafkaSettings
from headwater.topics import ITEMS, RECOMMENDATIONS
from headwater.wire import decode_catalogue_record, decode_recommendation

__all__ = ["Offence", "TakedownAudit", "Takedowns", "audit_takedown"]

NAMED = 1000
"""Offences that are kept word by word; all are counted."""

SKEW_MS = 300_000
"""A record of `items` so much younger than an answer that names it is of another log: the topic was made anew."""

NEVER = 2**63


class Offence(NamedTuple):
    """One item in one answer that knew better."""

    answer_at: str
    request_id: str
    user_id: str | None
    item_id: str
    rank: int
    why: str

    def __str__(self) -> str:
        whose = "" if self.user_id is None else f" for {self.user_id!r:.80}"
        what = f"{self.item_id!r:.80} at {self.rank}, {self.why}"
        return f"{self.answer_at}, request {self.request_id!r:.80}{whose}: {what}"


@dataclass
class TakedownAudit:
    """What was looked at, and what is wrong.

    Fields
        answers, listed: answers that were read, and the items in them.
        taken_down: items that were removed, unavailable or expired at some time.
        offences: the first of them; `offences_found` counts all.
        unreadable: records of `recommendations` that are no answer. Those of `items` that are none changed nothing.
        not_judged: why -> how many listed items could not be judged.
    """

    answers: int = 0
    listed: int = 0
    taken_down: int = 0
    offences: list[Offence] = field(default_factory=list)
    offences_found: int = 0
    unreadable: int = 0
    unreadable_items: int = 0
    not_judged: dict[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether no answer holds what it knew to be gone."""
        return not self.offences_found


class _State(NamedTuple):
    """An item from an offset of `items` on. `gone_ms`: from when on no list may hold it, epoch ms."""

    offset: int
    gone_ms: int
    why: str
    written_ms: int


@dataclass
class _Past:
    """The states of one item that may not be listed for ever, in their order; and of which partition they are."""

    partition: int
    states: list[_State]


class Takedowns:
    """What `items` says, record by record; then each answer is compared with it. `found` is the result."""

    def __init__(self) -> None:
        self.found = TakedownAudit()
        self._pasts: dict[str, _Past] = {}
        self._homes: dict[str, int] = {}  # item -> partition of its first record
        self._scattered: set[str] = set()
        self._ends: dict[int, int] = {}

    def read_item(self, partition: int, offset: int, written_ms: int, key: bytes | None, value: bytes | None) -> None:
        """One record of `items`; those of a partition in their order."""
        self._ends[partition] = offset + 1
        try:
            item_id, item = decode_catalogue_record(key, value, "")
        except InvalidMessage:  # the catalogue of a worker keeps what it had
            self.found.unreadable_items += 1
            return
        if self._homes.setdefault(item_id, partition) != partition:
            self._scattered.add(item_id)
        gone_ms, why = _gone(item)
        past = self._pasts.get(item_id)
        if past is None and gone_ms == NEVER:
            return
        if past is None:
            past = self._pasts[item_id] = _Past(partition, [])
            self.found.taken_down += 1
        past.states.append(_State(offset, gone_ms, why, written_ms))

    def read_answer(self, partition: int, offset: int, value: bytes | None) -> None:
        """One record of `recommendations`, after all of `items`."""
        try:
            answer = decode_recommendation(value)
        except InvalidMessage:
            self.found.unreadable += 1
            return
        self.found.answers += 1
        self.found.listed += len(answer.items)
        for one in answer.items:
            past = self._pasts.get(one.item_id)
            why = None if past is None else self._offence(one.item_id, past, answer)
            if why is None:
                continue
            self.found.offences_found += 1
            if len(self.found.offences) < NAMED:
                at = f"{RECOMMENDATIONS.name}[{partition}]@{offset}"
                self.found.offences.append(Offence(at, answer.request_id, answer.user_id, one.item_id, one.rank, why))

    def _offence(self, item_id: str, past: _Past, answer: Recommendation) -> str | None:
        """Why an item may not be in an answer; None where it may, or nobody can tell."""
        known = answer.receipt.catalogue_offsets.get(str(past.partition))
        if known is None:  # the worker had read nothing of it
            return None
        if item_id in self._scattered:
            self._not_judged("its records are in several partitions of items")
            return None
        if known >= self._ends[past.partition]:
            self._not_judged("the receipt names an offset that items does not have")
            return None
        place = bisect_right(past.states, known, key=lambda state: state.offset) - 1
        if place < 0:
            return None
        state = past.states[place]
        if state.gone_ms > answer.answered_time:
            return None
        if state.written_ms > answer.answered_time + SKEW_MS:
            self._not_judged("the answer is older than items")
            return None
        at = f"items[{past.partition}]@{state.offset}"
        return f"{state.why} by {at}; the receipt names offset {known}"

    def _not_judged(self, why: str) -> None:
        self.found.not_judged[why] = self.found.not_judged.get(why, 0) + 1


def audit_takedown(kafka: KafkaSettings) -> TakedownAudit:
    """Compare every answer that there is now with the catalogue that its receipt names. Workers may go on meanwhile.

    Parameters
        kafka: where, and the world's prefix.

    Returns
        ok when no answer holds an item that it knew to be removed, unavailable or expired.

    Raises
        Unavailable: Kafka or a topic is not there.
    """
    ends = end_offsets(kafka, RECOMMENDATIONS)  # before `items` is read: later answers may know later items
    takedowns = Takedowns()
    for partition, record in _records(kafka, ITEMS):
        takedowns.read_item(partition, record.offset, record.timestamp, record.key, record.value)
    for partition, record in _records(kafka, RECOMMENDATIONS, ends):
        takedowns.read_answer(partition, record.offset, record.value)
    return takedowns.found


def _records(kafka: KafkaSettings, topic: Any, ends: dict[int, int] | None = None) -> Iterator[tuple[int, Any]]:
    for span, records in read_partitions(kafka, topic, end=ends):
        for record in records:
            yield span.partition, record


def _gone(item: Item | None) -> tuple[int, str]:
    if item is None:
        return 0, "removed"
    if not item.available:
        return 0, "made unavailable"
    return (NEVER, "") if item.gone_ms is None else (item.gone_ms, f"expired since {item.gone_ms}")
