"""What the workers refused of the events that a command sent: known only once they have read them.

Before: `produce` and `replay stream`, which know where in `events` their records went. After: a count by reason out of
`dead-letters`. A worker commits a record after everything that it does about it, its dead letters too, so the group's
committed offsets say when the answer is complete; no Redis is asked, which a producer's machine may not reach.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from console.look.cluster import open_admin, open_consumer
from headwater.errors import HeadwaterError
from headwater.kafka import BoundedReader
from headwater.kafka.groups import ABSENT, group_state
from headwater.settings import KafkaSettings
from headwater.topics import DEAD_LETTERS, EVENTS, topic_name
from headwater.wire import read_letter

if TYPE_CHECKING:
    from kafka import KafkaConsumer

__all__ = ["RefusalWatch", "Refusals"]

SILENCE_S = 10.0
"""The wait ends when the workers have committed nothing for so long: they are busy elsewhere, or stand still."""

LOOK_S = 0.2
MOST_TOLD = 3
"""Refusals told in words; the rest is counted."""

ANSWER_MS = 5000
GROUP = "streams"


@dataclass
class Refusals:
    """What became of sent events, as far as the workers have come.

    Fields
        by_reason: refused events.
        first: the first of them in words.
        unread: records that no worker had read when the wait was over.
        unknown: why not all is known, and what to do; empty when all was read.
    """

    by_reason: Counter[str] = field(default_factory=Counter)
    first: list[str] = field(default_factory=list)
    unread: int = 0
    unknown: str = ""

    @property
    def text(self) -> str:
        """For people; empty when all was read and nothing refused."""
        lines = []
        if self.by_reason:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(self.by_reason.items()))
            total = sum(self.by_reason.values())
            lines.append(f"{total:,} refused by the workers: {reasons} (`headwater dead-letters list`)")
            lines += [f"  {one}" for one in self.first]
        if self.unknown:
            lines.append(self.unknown)
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        return {"refused_by_workers": dict(self.by_reason), "unread": self.unread, "unknown": self.unknown or None}


class RefusalWatch:
    """Made before anything is sent, so that older dead letters are passed over. Raises nothing: what Kafka does not
    tell, or does not allow, is said in the result.
    """

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._begin: dict[int, int] = {}
        self._failed = ""
        try:
            with BoundedReader(kafka, DEAD_LETTERS) as reader:
                if reader.exists():
                    self._begin = {span.partition: span.end for span in reader.spans()}
        except HeadwaterError as error:
            self._failed = str(error)

    def refusals(
        self,
        sent: Mapping[int, Collection[int]],
        *,
        silence_s: float = SILENCE_S,
        waiting: Callable[[int], object] = bool,
    ) -> Refusals:
        """What was refused of these records.

        Parameters
            sent: offsets of `events` by partition.
            silence_s: the longest wait in which the workers get no further.
            waiting: told how many records are still unread, again and again.
        """
        found = Refusals()
        if not any(sent.values()):
            return found
        from kafka.errors import KafkaError

        topic = topic_name(EVENTS, self._kafka.prefix)
        try:
            found.unread, found.unknown = self._await(sent, topic, silence_s, waiting)
            self._count(found, sent, topic)
        except (HeadwaterError, KafkaError) as error:
            self._failed = self._failed or repr(error)
        if self._failed:
            found.unknown = (
                f"What the workers refused of it is not known: {self._failed}. "
                f"It takes Read on {self._kafka.prefix}dead-letters and Describe on group {self._kafka.prefix}{GROUP}."
            )
        return found

    def _await(
        self, sent: Mapping[int, Collection[int]], topic: str, silence_s: float, waiting: Callable[[int], object]
    ) -> tuple[int, str]:
        """Records still unread when the workers have passed all, or get no further; and why they do not."""
        ordered = {partition: sorted(offsets) for partition, offsets in sent.items() if offsets}
        with open_consumer(self._kafka, GROUP) as reader:
            committed: dict[int, int] = {}
            moved_s = time.monotonic()
            members: bool | None = None
            while True:
                now = _committed(reader, topic, ordered)
                unread = sum(_from(ordered[partition], at) for partition, at in now.items())
                if not unread:
                    return 0, ""
                waiting(unread)
                if now != committed:
                    committed, moved_s = now, time.monotonic()
                if members is None:
                    with open_admin(self._kafka) as admin:
                        members = group_state(admin, self._kafka.prefix + GROUP) not in (ABSENT, "Empty")
                if not members:
                    return unread, (
                        f"No streams worker reads {topic}: what it will refuse is seen when one runs "
                        "(`headwater up`, then `headwater dead-letters list`)."
                    )
                if time.monotonic() - moved_s > silence_s:
                    return unread, (
                        f"{unread:,} of the records are not read yet, and no worker has moved for {silence_s:g} s: "
                        "`headwater doctor` says why, `headwater dead-letters list` what was refused."
                    )
                time.sleep(LOOK_S)

    def _count(self, found: Refusals, sent: Mapping[int, Collection[int]], topic: str) -> None:
        wanted = {partition: frozenset(offsets) for partition, offsets in sent.items()}
        with BoundedReader(self._kafka, DEAD_LETTERS) as reader:
            if not reader.exists():
                return
            for span in reader.spans(self._begin):
                for record in reader.records(span):
                    letter = read_letter(record.headers)
                    if letter is None or letter.topic != topic or letter.offset not in wanted.get(letter.partition, ()):
                        continue
                    found.by_reason[letter.reason] += 1
                    if len(found.first) < MOST_TOLD:
                        found.first.append((dict(record.headers).get("error") or b"").decode(errors="replace"))


def _committed(reader: KafkaConsumer, topic: str, partitions: Collection[int]) -> dict[int, int]:
    """Where the group is in each partition. A commit beyond the end is that of a log which is no more."""
    from kafka import TopicPartition

    parts = {number: TopicPartition(topic, number) for number in partitions}
    at = {number: int(reader.committed(part, timeout_ms=ANSWER_MS) or 0) for number, part in parts.items()}
    ends = reader.end_offsets(list(parts.values()), timeout_ms=ANSWER_MS)
    return {number: offset if offset <= ends[parts[number]] else 0 for number, offset in at.items()}


def _from(offsets: list[int], at: int) -> int:
    """How many of the sorted offsets are at or beyond `at`."""
    return len(offsets) - bisect_left(offsets, at)
