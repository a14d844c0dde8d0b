"""One round of the streams worker: a batch of `events` records into features and examples, exactly once in effect.

Before: `streams.intake` gives records. After: `streams.outbox` has the examples, `streams.features.store` the features;
the caller may acknowledge. The order is the delivery guarantee: read, fold, send examples and dead letters (acked by
the broker), one atomic script for each slot of the store, and only then the acknowledgement. A crash in between
repeats the round: what is at or below the marks of its slot is not folded again, the trainer drops examples at or below
its own. A slot that has less than this worker left there went back in time: the round then folds nothing and says from
where to read again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from headwater.errors import InvalidMessage
from headwater.events import now_ms
from headwater.privacy import Erased
from headwater.process import Retry
from headwater.settings import StreamsSettings
from headwater.topics import EVENTS, topic_name
from headwater.wire import EventRow, TimeBounds, read_events
from streams.features.decay import Decay, ItemStatistics
from streams.features.fold import Folded, Folding, Ghost, KnownBeside, Limits, fold_batch, ghosts_of
from streams.features.hot_users import HotUsers
from streams.features.identity import as_one
from streams.features.marks import after
from streams.features.state import EMPTY, UserState, restored
from streams.features.store import Batch, FeatureStore, KnownMarks, Reading
from streams.losses import Losses
from streams.outbox import ExamplesOutbox, RefusedMessage
from streams.past_refusals import LogReading
from streams.streams_metrics import StreamsMetrics
from streams.unknown_types import UnknownTypes

__all__ = ["EventRounds"]

Message = Any
Attributes = Mapping[str, Mapping[str, Any]]
DAY_MS = 86_400_000


@dataclass(slots=True)
class _Decoded:
    """The records of one partition in one batch, read once however often the round is redone."""

    messages: list[Message] = field(default_factory=list)
    rows: list[EventRow] = field(default_factory=list)
    refused: list[RefusedMessage] = field(default_factory=list)
    unsent: list[RefusedMessage] = field(default_factory=list)
    """Of `refused`, what the broker has not acknowledged yet: a round that is redone sends only these."""

    def drop_up_to(self, offset: int) -> int:
        """Forget what is done with; how many records that were."""
        before = len(self.messages)
        self.messages = [message for message in self.messages if message.offset > offset]
        if len(self.messages) < before:
            self.rows = [row for row in self.rows if row.offset > offset]
            self.refused = [letter for letter in self.refused if letter.message.offset > offset]
            self.unsent = [letter for letter in self.unsent if letter.message.offset > offset]
        return before - len(self.messages)

    def drop_folded(self, mark_of: Callable[[str], int]) -> None:
        """Forget the events that are at or below the mark of their user's slot."""
        self.rows = [row for row in self.rows if row.offset > mark_of(row.user_id)]


class _KnownUsers(NamedTuple):
    """What is known of the users of one batch.

    Fields
        reading: what was read.
        states: with those in memory; of whom the store has one from before they were forgotten, the empty one.
        restored: those.
        attributes: that were told.
    """

    reading: Reading
    states: dict[str, UserState]
    restored: dict[str, UserState]
    attributes: Attributes


class EventRounds:
    """Folds batches. Holds what is known of the store: marks, decay and hot users, all checked by every write."""

    def __init__(
        self,
        settings: StreamsSettings,
        limits: Limits,
        store: FeatureStore,
        outbox: ExamplesOutbox,
        metrics: StreamsMetrics,
        losses: Losses,
        retry: Retry,
        log: LogReading,
    ) -> None:
        self._limits = limits
        self._times = TimeBounds(settings.oldest_ms, max_ahead_ms=settings.max_ahead_s * 1000)
        self._half_life_ms = settings.popularity_half_life_days * DAY_MS
        self._topic = topic_name(EVENTS, store.prefix)
        self._store = store
        self._outbox = outbox
        self._metrics = metrics
        self._losses = losses
        self._retry = retry
        self._log = log
        self._hot = HotUsers(settings.hot_users)
        self._ghosts: dict[str, Ghost] = {}  # of users whom the log forgets further on
        self._recalled = False  # whether those of before this reading are among them
        self._unknown_types = UnknownTypes(limits.meanings)
        self._known = KnownMarks(store.slots.count)
        self._decay: Decay | None = None

    async def positions(self) -> dict[int, int]:
        """Partition -> offset after the newest folded record, fresh from the store: where reading goes on."""
        self._forget()
        self._log.refused.begin()
        self._known.begin(await self._retry.call_blocking("redis", lambda: self._store.standing(EVENTS)))
        return after(self._known.low)

    async def run(self, messages: Sequence[Message]) -> Mapping[int, int] | None:
        """Fold one batch. After None, every record of it is in the features, or in dead-letters, for good.

        After positions, nothing of it was folded: the store went back in time, and reading goes on from these.
        """
        started = time.monotonic()
        await self._log.refused.look_back(messages)
        parts = self._decode(messages)
        if self._store.slots.count > 1:  # what is filled again is of some slots: the users of others are not even read
            for partition, part in parts.items():
                part.drop_folded(lambda user: self._known.surely(self._store.slots.of(user), partition))  # noqa: B023
        while True:
            known = await self._read({row.user_id for part in parts.values() for row in part.rows}, parts)
            if known is None:
                continue
            if self._known.went_back(known.reading):
                return await self._gone_back()
            self._drop_known(parts)
            if not parts:
                return None
            ghosts = await self._ghosts_among(parts, known)
            folded, batch = self._fold(parts, known, ghosts)
            await self._send(parts, folded)
            await self._forget_users(batch.forgotten)
            verdict = await self._retry.call_blocking("redis", lambda: self._store.apply(batch))  # noqa: B023 - called at once
            if verdict == "applied":
                break
            self._conflict(verdict)
            if verdict == "users":
                foreign = await self._retry.call_blocking("redis", lambda: self._store.foreign_users(list(batch.after)))  # noqa: B023
                await self._mend(foreign)
        self._known.wrote(batch.marks)
        low, own = self._known.done({partition: part.messages[-1].offset for partition, part in parts.items()})
        if self._store.slots.count > 1:
            recorded = await self._retry.call_blocking("redis", lambda: self._store.record(EVENTS, low, own))
            if not recorded:
                return await self._gone_back()
        self._decay = batch.decay
        self._hot.put({user: state for user, state in batch.after.items() if state.count})
        for one in folded.values():
            one.carry(self._ghosts)
        self._count(parts, folded)
        self._metrics.round_seconds.observe(time.monotonic() - started)
        return None

    async def _ghosts_among(self, parts: Mapping[int, _Decoded], found: _KnownUsers) -> dict[str, Ghost]:
        """What those of these users had done before whom the log forgets further on. Before the first of their events
        since `positions` it is in the log alone, where somebody else has folded it.
        """
        erased, last = found.reading.erased, dict[str, Erased]()
        rows = ((erased.get(row.user_id), number, row) for number, part in parts.items() for row in part.rows if erased)
        ahead = {row.user_id for one, number, row in rows if one is not None and one.is_below(number, row.offset)}
        if ahead:
            last = await self._retry.call_blocking("redis", lambda: self._store.last_erased(ahead))
        if ahead and not self._recalled:
            standing = await self._retry.call_blocking("redis", lambda: self._store.standing(EVENTS))
            self._ghosts = await self._retry.call_async("kafka", lambda: asyncio.to_thread(self._log.ghosts, standing))
            self._recalled = True
        return ghosts_of(found.restored, last, self._ghosts)

    def _decode(self, messages: Sequence[Message]) -> dict[int, _Decoded]:
        times, past = self._times._replace(now_ms=now_ms()), self._log.refused
        parts: dict[int, _Decoded] = {}
        for message in messages:
            part = parts.setdefault(message.partition, _Decoded())
            if part.messages and message.offset <= part.messages[-1].offset:  # read again, after a seek
                self._metrics.redelivered.inc()
                continue
            part.messages.append(message)
            found = read_events(
                message.value,
                key=message.key,
                headers=message.headers or (),
                partition=message.partition,
                offset=message.offset,
                timestamp_ms=message.timestamp,
                times=times,
                meanings=self._limits.meanings,
            )
            for place, row in enumerate(found):
                row = (past.known and past.of(message, place)) or row
                if isinstance(row, InvalidMessage):
                    part.refused.append(RefusedMessage(message, place, row))
                else:
                    part.rows.append(row)
        for part in parts.values():
            part.unsent = list(part.refused)
        return parts

    def _drop_known(self, parts: dict[int, _Decoded]) -> None:
        """Forget what is in the features already: records below the mark of all slots, events below their slot's own,
        which a round that came half-way has left there.
        """
        for partition in list(parts):
            part = parts[partition]
            dropped = part.drop_up_to(self._known.done_with(partition))
            self._metrics.redelivered.inc(dropped)
            if not part.messages:
                del parts[partition]
            elif self._store.slots.count > 1:
                part.drop_folded(lambda user: self._known.mark(self._store.slots.of(user), partition))  # noqa: B023

    async def _gone_back(self) -> dict[int, int]:
        """Where to read from, now that the store holds less than this worker left or found there."""
        was = after(self._known.low)
        positions = await self.positions()
        self._losses.went_back(self._topic, was, positions, self._known.lost)
        return positions

    async def _read(self, users: set[str], partitions: Collection[int]) -> _KnownUsers | None:
        """The states of these users and of the ids that are the same people, which these are, and what was told of
        them, fresh from the store: a link is never remembered. None: read again, for some were no states and are made
        anew, or the store's marks are not those that this worker goes by: what is read together with them may be the
        states of another past, and nothing may be made from it.
        """
        hot = {user: state for user in users if (state := self._hot.get(user)) is not None}
        missing = [user for user in users if user not in hot]
        behind = self._known.behind(partitions)
        reading = await self._retry.call_blocking("redis", lambda: self._store.read_users(missing, [*users], behind))
        if not self._known.agrees(reading, partitions):
            self._conflict("marks")
            return None
        for error in reading.newer.values():
            raise error
        if reading.damaged:
            await self._mend(reading.damaged)
            return None
        for one in reading.unlinked:
            self._losses.damaged(self._store.slots.user("w", one), "is made again from the topic identities")
        if reading.unlinked:
            await self._retry.call_blocking("redis", lambda: self._store.forget_links(reading.unlinked))
        for one in reading.untold:
            self._losses.damaged(self._store.slots.user("a", one), "is removed: send the user's attributes anew")
        if reading.untold:
            await self._retry.call_blocking("redis", lambda: self._store.forget_attributes(reading.untold))
        self._decay = reading.decay or self._decay
        attributes: dict[str, dict[str, Any]] = {}
        if reading.attributes and self._limits.attributes:
            counted = {*self._limits.attributes}
            for user in users:
                told = reading.attributes_of([user])
                attributes[user] = {name: value for name, value in told.items() if name in counted}
        states = {**reading.states, **hot}
        before = restored(states, reading.erased)
        return _KnownUsers(reading, states | dict.fromkeys(before, EMPTY), before, attributes)

    async def _mend(self, damaged: Mapping[str, bytes | None]) -> None:
        """These users are made again from the log, as far as it goes. This worker's rounds wait meanwhile."""
        if not damaged:
            return
        for user in damaged:
            self._losses.damaged(self._store.slots.user("u", user), "is made again from the log, as far as that goes")
        standing = await self._retry.call_blocking("redis", lambda: self._store.standing(EVENTS))
        wanted = {user: standing.marks_of(self._store.slots.of(user)) for user in damaged}
        states = await self._retry.call_async("kafka", lambda: asyncio.to_thread(self._log.rebuilt, wanted))
        await self._retry.call_blocking("redis", lambda: self._store.mend_users(damaged, states))

    def _conflict(self, on: str) -> None:
        """Something is not as it was when this worker last looked: what it knows of the store is read anew."""
        self._metrics.conflicts.labels(on).inc()
        self._forget()

    def _fold(
        self, parts: dict[int, _Decoded], found: _KnownUsers, ghosts: Mapping[str, Ghost]
    ) -> tuple[dict[int, Folded], Batch]:
        reading, states, old, attributes = found
        first = next((row for part in parts.values() for row in part.rows), None)
        decay = self._decay or (Decay(first.time_ms, self._half_life_ms) if first else None)
        persons = self._persons(reading.people, states, attributes)
        beside = KnownBeside(persons, attributes, reading.slot_of, reading.erased, ghosts)
        known = dict(states)  # a user whose events lie in two partitions is folded from one into the other
        folded: dict[int, Folded] = {}
        after: dict[str, UserState] = {}
        items: dict[int, dict[str, ItemStatistics]] = {}
        now = now_ms()
        for partition, part in parts.items():
            if decay is None:
                break
            one = folded[partition] = fold_batch(known, part.rows, self._limits, decay, partition, now, beside)
            known |= one.states
            after |= one.states
            beside = beside.after(one)
            for slot, several in one.slots.items():
                of_slot = items.setdefault(slot, {})
                for item, statistics in several.items():
                    if item in of_slot:
                        of_slot[item].merge(statistics)
                    else:
                        of_slot[item] = statistics
        ends = {partition: part.messages[-1].offset for partition, part in parts.items()}
        touched = {reading.slot_of[row.user_id] for part in parts.values() for row in part.rows}
        marks = self._known.moved(touched, ends)
        before = {user: states.get(user, EMPTY) for user in after} | {user: old[user] for user in old.keys() & after}
        forgotten = {user: since for one in folded.values() for user, since in one.forgotten.items()}
        for user in {*old, *forgotten} & before.keys():
            before[user] = replace(before[user], stored=None)  # so that it is written whole
        return folded, Batch(marks, decay, before, after, items, forgotten)

    def _persons(
        self, people: Mapping[str, tuple[str, ...]], states: Mapping[str, UserState], attributes: Attributes
    ) -> dict[str, Folding]:
        """What is known of each person that has several ids, by each of those."""
        persons: dict[str, Folding] = {}
        for of, ids in people.items():
            if ids[0] not in persons:
                together = as_one([states.get(one, EMPTY) for one in ids], self._limits)
                persons |= dict.fromkeys(ids, Folding(together, self._limits, attributes.get(of, {})))
        return persons

    async def _send(self, parts: dict[int, _Decoded], folded: dict[int, Folded]) -> None:
        async with asyncio.TaskGroup() as together:  # an error in one ends all: a round leaves nothing behind
            for partition, one in folded.items():
                if one.segments:
                    together.create_task(self._send_segments(partition, one))
        for part in parts.values():
            if part.unsent:
                await self._retry.call_async("kafka", lambda: self._outbox.send_dead_letters(part.unsent))  # noqa: B023

    async def _forget_users(self, erased: Mapping[str, Erased]) -> None:
        """What is known of forgotten users beside their states goes first: a crash in between repeats the round, and
        its mark moves with the states.
        """
        if erased:
            self._hot.forget(erased)
            await self._retry.call_blocking("redis", lambda: self._store.forget_users(erased))

    async def _send_segments(self, partition: int, folded: Folded) -> None:
        """Order is needed within a partition only: one wait for the broker is enough for all."""
        await self._retry.call_async(
            "kafka", lambda: self._outbox.send_segments(partition, folded.segments, self._limits)
        )

    def _count(self, parts: dict[int, _Decoded], folded: dict[int, Folded]) -> None:
        now = time.time()
        self._unknown_types.look(row for part in parts.values() for row in part.rows)
        for one in folded.values():
            self._metrics.applied.inc(one.applied)
            self._metrics.examples.inc(sum(len(segment.targets) for segment in one.segments))
            self._metrics.exposures.inc(one.exposures)
            self._metrics.undos.inc(one.undos)
            self._metrics.undone.inc(one.undone)
            self._metrics.duplicates.inc(one.duplicates)
            self._metrics.late.inc(one.late)
            self._metrics.forgotten.inc(len(one.forgotten))
            self._metrics.before_erasure.inc(one.before_erasure)
            self._metrics.words.inc(one.words)
            for purpose, events in one.withheld.items():
                self._metrics.withheld.labels(purpose).inc(events)
        for part in parts.values():
            for _, _, error in part.refused:
                self._metrics.dead_letters.labels(error.reason).inc()
            for message in part.messages:
                self._metrics.to_feature.observe(max(0.0, now - message.timestamp / 1000))

    def _forget(self) -> None:
        self._known.forget()
        self._ghosts, self._recalled = {}, False
        self._decay = None
        self._hot.clear()
