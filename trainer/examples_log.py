"""The `examples` log as the trainer reads it: in order, from a place it remembers itself, each example once.

Before: the streams workers, which may send an example twice after a crash. After: `Learner.learn`. `Progress` is all
that has to be remembered to go on; it lives in the checkpoint, in the same file as the weights that it belongs to, and
is never read back from Kafka. Knows nothing of weights.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from kafka import KafkaProducer, TopicPartition
from kafka.errors import KafkaError, OffsetOutOfRangeError
from kafka.structs import OffsetAndMetadata

from headwater import tracing
from headwater.errors import CheckpointError, InvalidMessage, Unavailable
from headwater.events import now_ms
from headwater.examples import CatalogueEntry, EventPosition, Example, unpack
from headwater.kafka import consumer
from headwater.process import Retry, passes
from headwater.settings import KafkaSettings
from headwater.topics import DEAD_LETTERS, EVENTS, EXAMPLES, topic_name
from headwater.wire import DeadLetter, RefusedRecord, dead_letter
from trainer.gap import Leave
from trainer.shares import EntryPlace

__all__ = ["DuplicatesWatch", "ExamplesLog", "Progress", "refuse_beyond"]

GROUP = "trainer"
POLL_RECORDS = 200
ANSWER_TIMEOUT_MS = 3000
END_EVERY_S = 0.25
REMEDY = (
    "Bring the log back; or run `headwater accept-gap` and start the trainer again, to go on with what the log holds "
    "and keep what was learned; or move the trainer's directory away to learn anew."
)
QUIET_S = 60.0
"""Duplicates that came longer ago are over."""


@dataclass
class Progress:
    """How far the log was taken: the state that makes each example count exactly once.

    Fields
        offset: of the next record.
        taken: how many of its entries were already taken, so that a checkpoint may fall inside a packed record.
        marks: newest position learned, by partition of `events`.
        duplicates: examples dropped, because they were learned before.
        dead_letters: refused records by reason.
        gaps: records that were passed over because a person gave leave: [the next one then, the first after, ms].
        unlearned: by digest, who was unlearned, and the first record whose examples of them count again.
    """

    offset: int = 0
    taken: int = 0
    marks: dict[int, EventPosition] = field(default_factory=dict)
    duplicates: int = 0
    dead_letters: dict[str, int] = field(default_factory=dict)
    gaps: list[list[int]] = field(default_factory=list)
    unlearned: dict[str, int] = field(default_factory=dict)

    @property
    def passed_over(self) -> int:
        """Records behind gaps; of a log that was made anew nobody knows how many there were."""
        return sum(max(0, after - before) for before, after, _ in self.gaps)

    @property
    def place(self) -> EntryPlace:
        """Of the next entry."""
        return EntryPlace(self.offset, self.taken)

    def take(self, entries: Sequence[Example | CatalogueEntry]) -> list[Example | CatalogueEntry]:
        """Drop what was learned before.

        Parameters
            entries: in log order.

        Returns
            The entries without examples at or below their partition's mark. The marks move.

        >>> from headwater.examples import Entry
        >>> one = Example("u", [], Entry("a", "view", 1, None), 0, EventPosition(7, 0))
        >>> progress = Progress()
        >>> len(progress.take([one])), len(progress.take([one])), progress.duplicates
        (1, 0, 1)
        """
        fresh: list[Example | CatalogueEntry] = []
        for entry in entries:
            if isinstance(entry, Example):
                mark = self.marks.get(entry.partition)
                if mark is not None and entry.position <= mark:
                    self.duplicates += 1
                    continue
                self.marks[entry.partition] = entry.position
            fresh.append(entry)
        return fresh

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        told = {**asdict(self), "marks": {str(partition): list(mark) for partition, mark in self.marks.items()}}
        for name in ("gaps", "unlearned"):  # an older release reads what has none
            if not told[name]:
                del told[name]
        return told

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> Progress:
        """What `to_json` wrote.

        Raises
            CheckpointError: it is anything else.
        """
        try:
            marks = {int(partition): EventPosition(*mark) for partition, mark in body["marks"].items()}
            return cls(**{**body, "marks": marks})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"the checkpoint's place in the log cannot be read ({error!r})") from error


class DuplicatesWatch:
    """For how long all that came was learned before: marks that are beyond their log hide what is new.

    >>> watch = DuplicatesWatch()
    >>> watch.saw(fresh=5, duplicates=0, now_s=0.0)
    >>> for now_s in (10.0, 25.0, 45.0):
    ...     watch.saw(fresh=0, duplicates=int(now_s), now_s=now_s)
    >>> watch.lasting_s(46.0), watch.lasting_s(200.0)
    (35.0, 0.0)
    """

    def __init__(self) -> None:
        self._duplicates = 0
        self._since_s: float | None = None
        self._newest_s = 0.0

    def saw(self, fresh: int, duplicates: int, now_s: float) -> None:
        """So many examples were new, and so many were dropped until now, in all."""
        if fresh:
            self._since_s = None
        elif duplicates > self._duplicates:
            self._since_s = now_s if self._since_s is None else self._since_s
            self._newest_s = now_s
        self._duplicates = duplicates

    def lasting_s(self, now_s: float) -> float:
        """From the first of them to the newest; 0 when something new came since, or nothing for long."""
        if self._since_s is None or now_s - self._newest_s > QUIET_S:
            return 0.0
        return self._newest_s - self._since_s


def refuse_beyond(entries: Iterable[Example | CatalogueEntry], ends: Mapping[int, int]) -> None:
    """Refuse examples of events that their log has not: a mark beyond it would hide all that is still to come.

    Parameters
        entries: of one record.
        ends: partition of `events` -> the offset after its newest record, asked after the record was read.

    Raises
        InvalidMessage: `position_ahead`.
    """
    for entry in entries:
        if isinstance(entry, Example) and entry.position.offset >= ends.get(entry.partition, 0):
            end = ends.get(entry.partition)
            has = "is not there" if end is None else f"ends at {end}"
            raise InvalidMessage(
                "position_ahead",
                f"an example is of {EVENTS.name}[{entry.partition}]@{entry.position.offset}, and that partition {has}. "
                "Somebody else wrote it, or the topic was made anew",
            )


class ExamplesLog:
    """Reads partition 0 of `examples`; a record that cannot be read becomes a dead letter.

    `end` is where the log ended at the newest look, at `looked_s` of the monotonic clock; `time_ms` is when the
    newest record that could be read came into it, as far as that is a time: anybody may claim one. `causes` are the
    traces of what was taken, for whoever learns it. `is_another`: it is read by leave as another one than `progress` is
    of.

    Parameters
        kafka: where, and the prefix.
        progress: of the checkpoint; None begins where the log does.
        producer: sends dead letters.
        retry: waits for a broker that is away.
        log: told of what was refused.
        leave: to begin where the log does where it no longer holds `progress`, or whatever `progress` says, and to
            keep that in `progress.gaps`.

    Raises
        CheckpointError: the log no longer holds `progress`, or is another one, and there is no leave to pass that over.

    Delivery: `take` moves `progress` past what it returns, and the caller learns all of it before its next checkpoint.
    So weights and progress in a checkpoint always belong together, and a crash repeats exactly what the checkpoint
    lacks.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        progress: Progress | None,
        producer: KafkaProducer,
        retry: Retry,
        log: logging.Logger,
        leave: Leave | None = None,
    ) -> None:
        self.partition = TopicPartition(topic_name(EXAMPLES, kafka.prefix), 0)
        self._events = topic_name(EVENTS, kafka.prefix)
        self._event_ends: dict[int, int] = {}  # by partition, as of the newest look
        self._look_due = self._looked = False  # the next record waits for a look at the ends; had one
        self._dead_letters = topic_name(DEAD_LETTERS, kafka.prefix)
        self._producer = producer
        self._retry = retry
        self._log = log
        self._consumer = retry.call(
            "kafka", lambda: consumer(kafka, GROUP, auto_offset_reset="none", max_poll_records=POLL_RECORDS)
        )
        self._records: deque[Any] = deque()
        self._entries: deque[Example | CatalogueEntry] = deque()
        self._told: Any = None  # headers of the record that these are of
        self.causes = tracing.Causes()
        self._letters: deque[DeadLetter] = deque()
        self._sent: deque[tuple[DeadLetter, Any]] = deque()
        self.end, self.time_ms = 0, 0
        self.looked_s = -END_EVERY_S
        self._consumer.assign([self.partition])
        first, end = retry.call("kafka", self._range)
        self.progress = progress or Progress(offset=first)
        at = self.progress.offset
        self.is_another = False
        is_another = leave is Leave.ANOTHER_LOG and progress is not None
        if is_another or (leave is not None and not first <= at <= end):
            self._pass_over(at, first, is_another or at > first)
            at = first
        if not first <= at <= end:
            self.close()
            raise CheckpointError(
                f"the checkpoint goes on at {self._name(at)}, and the log holds {first}..{end}: "
                + (
                    "retention removed records that were not learned. "
                    if at < first
                    else "it is another, shorter log. "
                )
                + REMEDY
            )
        self._consumer.seek(self.partition, at)

    def _pass_over(self, at: int, first: int, is_another: bool) -> None:
        """Go on where the log begins. The marks of another log would hide what is new in this one."""
        progress, self.is_another = self.progress, is_another
        progress.gaps.append([at, first, now_ms()])
        progress.offset, progress.taken = first, 0
        if is_another:
            progress.marks, progress.unlearned = {}, {}
        self._log.warning("goes on behind a gap", extra={"from": self._name(at), "to": self._name(first)})

    def _name(self, offset: int) -> str:
        return f"{self.partition.topic}[{self.partition.partition}]@{offset}"

    def _range(self) -> tuple[int, int]:
        first = self._consumer.beginning_offsets([self.partition], timeout_ms=ANSWER_TIMEOUT_MS)[self.partition]
        self._look_at_end()
        return first, self.end

    def _look_at_end(self) -> None:
        self.end = self._consumer.end_offsets([self.partition], timeout_ms=ANSWER_TIMEOUT_MS)[self.partition]
        self.looked_s = time.monotonic()

    def lag(self) -> int | None:
        """Records in the log that were not taken yet, as of a moment ago; None when Kafka does not answer."""
        if time.monotonic() - self.looked_s > END_EVERY_S:
            try:
                self._look_at_end()
            except KafkaError as error:
                if not passes(error):
                    raise
                return None
        return max(0, self.end - self.progress.offset)

    def take(self, limit: int, wait_ms: int, stop: EntryPlace | None = None) -> list[Example | CatalogueEntry]:
        """The next entries of the log. Waits for a broker that is away, but never with entries in hand.

        Parameters
            limit: most entries.
            wait_ms: how long to wait for the first.
            stop: a place beyond which nothing is taken; `progress` comes to it and no further.

        Returns
            Entries in order, duplicates dropped; [] when none came in time.

        Raises
            Stopped: told to stop while it waits.
            CheckpointError: retention has overtaken the trainer.
        """
        self._retry.call("kafka", self._send_letters)
        if not self._records and not self._entries:
            self._retry.call("kafka", lambda: self._poll(wait_ms))
        taken = self._taken(limit, stop)
        if self._look_due and not taken:
            self._retry.call("kafka", self._look_at_events)
            taken = self._taken(limit, stop)
        return taken

    def _taken(self, limit: int, stop: EntryPlace | None) -> list[Example | CatalogueEntry]:
        """Of what was read, up to a record that waits for a look at `events`."""
        taken: list[Example | CatalogueEntry] = []
        room = limit
        while room > 0 and self._within(stop) and (self._entries or self._open_next()):
            room_here = room
            if stop is not None and self.progress.offset == stop.offset:
                room_here = min(room, stop.entry - self.progress.taken)
            piece = [self._entries.popleft() for _ in range(min(room_here, len(self._entries)))]
            self.causes.add(self._told)
            room -= max(1, len(piece))
            taken += self.progress.take(piece)
            self.progress.taken += len(piece)
            if not self._entries:
                self.progress.offset, self.progress.taken = self.progress.offset + 1, 0
        return taken

    def _within(self, stop: EntryPlace | None) -> bool:
        """Whether the next entry lies before a place. Where no record does any more, progress comes to it."""
        if stop is None:
            return True
        if not self._entries and self._records and self._records[0].offset > self.progress.offset:  # a gap in the log
            ahead = EntryPlace(self._records[0].offset, 0)
            if self.progress.place < stop <= ahead:
                self.progress.offset, self.progress.taken = stop
        return self.progress.place < stop

    def _poll(self, wait_ms: int) -> None:
        try:
            for records in self._consumer.poll(timeout_ms=wait_ms).values():
                self._records.extend(records)
        except OffsetOutOfRangeError as error:
            raise CheckpointError(
                f"{self._name(self.progress.offset)} is no longer in the log: retention removed examples before "
                f"they were learned. Raise retention.ms, or give the trainer more of the machine. {REMEDY}"
            ) from error

    def _open_next(self) -> bool:
        """Unpack the next record; False when none came, or it waits for a look at the ends of `events`."""
        if not self._records:
            return False
        record = self._records[0]
        skip = self.progress.taken if record.offset == self.progress.offset else 0
        self.progress.offset, self.progress.taken = record.offset, skip
        try:
            if record.value is None:
                raise InvalidMessage("null_value", "an examples record has no value")
            entries = list(unpack(record.value))
            refuse_beyond(entries, self._event_ends)
            self._entries.extend(entries[skip:])
            self.time_ms = min(max(record.timestamp, 0), now_ms())
        except InvalidMessage as error:
            if error.reason == "position_ahead" and not self._looked:
                self._look_due = True  # with nothing in hand: it may take its time
                return False
            self._refuse(record, error)
        self._looked, self._told = False, record.headers
        self._records.popleft()
        return True

    def _look_at_events(self) -> None:
        """Where `events` ends now: beyond every example that was read before."""
        known = self._consumer.partitions_for_topic(self._events) or set()
        wanted = {entry.partition for entry in self._examples_of_next()}
        if not wanted <= known:  # its partitions may have become more
            self._consumer.topics()
            known = self._consumer.partitions_for_topic(self._events) or set()
        parts = [TopicPartition(self._events, number) for number in sorted(known)]
        ends = self._consumer.end_offsets(parts, timeout_ms=ANSWER_TIMEOUT_MS)
        self._event_ends = {part.partition: end for part, end in ends.items()}
        self._look_due, self._looked = False, True

    def _examples_of_next(self) -> list[Example]:
        return [entry for entry in unpack(self._records[0].value) if isinstance(entry, Example)]

    def _refuse(self, record: Any, error: InvalidMessage) -> None:
        text = f"{self._name(record.offset)}: {str(error).removesuffix('.')}. Kept in {self._dead_letters}."
        self._log.warning(
            "dead letter", extra={"reason": error.reason, "at": self._name(record.offset), "error": error}
        )
        count = self.progress.dead_letters
        count[error.reason] = count.get(error.reason, 0) + 1
        refused = RefusedRecord(
            record.topic, record.partition, record.offset, record.timestamp, record.key, record.value, record.headers
        )
        self._letters.append(dead_letter(error, refused, text=text))

    def _send_letters(self) -> None:
        while self._letters:
            key, value, headers = letter = self._letters[0]
            self._sent.append((letter, self._producer.send(self._dead_letters, value, key, headers)))
            self._letters.popleft()

    def settle(self) -> None:
        """Wait until every dead letter is in its topic. To be called before `progress` is made durable.

        Raises
            Unavailable: Kafka does not take them; they are kept, and sent again with the next call.
        """
        try:
            self._send_letters()
            while self._sent:
                letter, future = self._sent[0]
                if future.failed():
                    self._letters.append(letter)
                    self._sent.popleft()
                future.get(timeout=ANSWER_TIMEOUT_MS / 1000)
                self._sent.popleft()
        except KafkaError as error:
            raise Unavailable(f"{self._dead_letters}: a dead letter was not taken ({error!r})") from error

    def show_progress(self, offset: int) -> None:
        """Commit `offset` to the group `trainer`, for tools that display lag. It is never read back."""
        try:
            self._consumer.commit_async({self.partition: OffsetAndMetadata(offset, "", -1)})
        except KafkaError as error:
            if not passes(error):
                raise
            self._log.warning("lag is shown too high until the next checkpoint", extra={"error": str(error)})

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close(autocommit=False, timeout_ms=ANSWER_TIMEOUT_MS)
