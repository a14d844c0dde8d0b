"""The Faust agents: events into features and examples, items into the catalogue, users into attributes, identities
into links of ids, erasures and, where words of consent count, these into places of the log, dead letters into counts.

Before: Faust delivers records of these topics to the agents' channels. After:
`streams.rounds`, `streams.features.store` and `streams.outbox` do the work. Nothing is acknowledged before its effects
are written; while a server is away an agent holds its batch and tries again. An unforeseen error in reading a record
refuses that record (`internal`); anywhere else it ends the process, and the records are read again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from headwater import tracing
from headwater.errors import InvalidMessage, NewerFormat, StoreDamaged
from headwater.events import now_ms
from headwater.examples import CatalogueEntry
from headwater.kafka import end_offsets, holds_records
from headwater.process import Operations
from headwater.settings import Settings
from headwater.topics import CONSENTS, DEAD_LETTERS, ERASURES, EVENTS, IDENTITIES, ITEMS, USERS, Topic, topic_name
from headwater.wire import (
    IdentityRow,
    TimeBounds,
    decode_user_record,
    read_identity,
    unforeseen,
)
from streams.app import raw_topic
from streams.consenting import ConsentRounds, seed_words, with_words
from streams.erasing import ErasureRounds, seed_erased
from streams.features.fold import Limits
from streams.features.marks import after
from streams.features.store import FeatureStore, StoreStanding
from streams.intake import Intake, StoreMarks
from streams.losses import Losses
from streams.outbox import ExamplesOutbox, RefusedMessage
from streams.past_refusals import LogReading, PastRefusals
from streams.rebuild import past_ghosts, rebuilt
from streams.rounds import EventRounds
from streams.streams_metrics import StreamsMetrics
from streams.told import attributes_of, catalogue_entry, counted_letter, record_place

__all__ = ["Agents"]

Message = Any

AGENTS = 6
"""Where no words of consent count."""


class Agents:
    """Registers the agents on an app. `failed` is the error that ended one; `busy` counts rounds in flight."""

    def __init__(
        self,
        app: Any,
        settings: Settings,
        store: FeatureStore,
        outbox: ExamplesOutbox,
        metrics: StreamsMetrics,
        losses: Losses,
        operations: Operations,
    ) -> None:
        self.failed: Exception | None = None
        self.busy = 0
        self.draining = False
        self._app = app
        self._store = store
        self._outbox = outbox
        self._metrics = metrics
        self._retry = operations.retry
        self._losses = losses
        self._intakes: dict[str, Intake] = {}
        self._streams = settings.streams
        self._standing: dict[str, StoreStanding] = {}
        self._rounds = EventRounds(
            settings.streams, Limits.of(settings), store, outbox, metrics, losses, self._retry,
            LogReading(
                lambda users: with_words(settings, rebuilt(settings, users, operations.progress), users),
                PastRefusals(settings, EVENTS, self._retry),
                lambda standing: past_ghosts(settings, standing, store.slots.of, operations.progress),
            ),
        )  # fmt: skip
        self._erasing = ErasureRounds(settings, store, outbox, self._retry, lambda: end_offsets(settings.kafka, EVENTS))
        self._refused_links = PastRefusals(settings, IDENTITIES, self._retry)
        self._prefix = prefix = settings.kafka.prefix
        app.agent(raw_topic(app, EVENTS, prefix), name="features")(self._features)
        app.agent(raw_topic(app, ITEMS, prefix), name="catalogue")(self._catalogue)
        app.agent(raw_topic(app, USERS, prefix), name="attributes")(self._users)
        app.agent(raw_topic(app, IDENTITIES, prefix), name="people")(self._identities)
        app.agent(raw_topic(app, ERASURES, prefix), name="erasures")(self._erasures)
        app.agent(raw_topic(app, DEAD_LETTERS, prefix), name="refusals")(self._dead_letters)
        self._settings = settings
        self._consenting = ConsentRounds(settings, store, outbox, self._retry)
        self._has_words = settings.privacy.consent != "off"
        if self._has_words:
            app.agent(raw_topic(app, CONSENTS, prefix), name="consents")(self._consents)

    async def _features(self, stream: Any) -> None:
        await self._serve(stream, self._fold, self._marks(EVENTS, self._event_positions))

    async def _catalogue(self, stream: Any) -> None:
        await self._serve(stream, self._apply_items, self._marks(ITEMS))

    async def _users(self, stream: Any) -> None:
        await self._serve(stream, self._apply_users, self._marks(USERS))

    async def _identities(self, stream: Any) -> None:
        await self._serve(stream, self._apply_identities, self._marks(IDENTITIES, self._link_positions))

    async def _erasures(self, stream: Any) -> None:
        await self._serve(stream, self._apply_erasures, self._marks(ERASURES))

    async def _consents(self, stream: Any) -> None:
        await self._serve(stream, self._apply_consents, self._marks(CONSENTS, self._consent_positions))

    async def _dead_letters(self, stream: Any) -> None:
        await self._serve(stream, self._count_dead_letters, self._marks(DEAD_LETTERS))

    def _marks(self, topic: Topic, read: Callable[[], Awaitable[Mapping[int, int]]] | None = None) -> StoreMarks:
        async def positions() -> Mapping[int, int]:
            return await self._positions(topic)

        async def holds(partition: int, first: int, end: int) -> bool:
            asked = self._settings.kafka, topic, partition, first, end
            return await self._retry.call_async("kafka", lambda: asyncio.to_thread(holds_records, *asked))

        name, gapless = topic_name(topic, self._prefix), topic in (EVENTS, IDENTITIES)
        return StoreMarks(name, read or positions, gapless, holds)

    async def _positions(self, topic: Topic) -> Mapping[int, int]:
        """Where reading goes on, fresh from the store. Every write compares with how its slots stood then."""
        if topic is DEAD_LETTERS:
            return after(await self._retry.call_blocking("redis", lambda: self._store.marks_of(topic)))
        if topic in (USERS, IDENTITIES, ERASURES, CONSENTS):
            await self._erasing.begin(topic)
        standing = await self._retry.call_blocking("redis", lambda: self._store.standing(topic))
        self._standing[topic.name] = standing
        return after(standing.marks())

    async def _fold(self, messages: Sequence[Message]) -> Mapping[int, int] | None:
        with tracing.joined("fold events", tracing.causes_of(messages), of=len(messages)):
            again_from = await self._rounds.run(messages)
        if again_from is not None:
            await self._seed()
        return again_from

    async def _event_positions(self) -> Mapping[int, int]:
        await self._seed()
        return await self._rounds.positions()

    async def _seed(self) -> None:
        """Before a store that has lost words, or who was forgotten, is written to again, what the log does not say any
        more is known.
        """
        await self._retry.call_async("kafka", lambda: asyncio.to_thread(seed_erased, self._settings, self._store))
        if self._has_words:
            standing = await self._retry.call_blocking("redis", lambda: self._store.standing(CONSENTS))
            await self._retry.call_async(
                "kafka", lambda: asyncio.to_thread(seed_words, self._settings, self._store, standing.marks())
            )

    async def _link_positions(self) -> Mapping[int, int]:
        self._refused_links.begin()
        return await self._positions(IDENTITIES)

    async def _consent_positions(self) -> Mapping[int, int]:
        positions = await self._positions(CONSENTS)
        await self._consenting.begin({number: at - 1 for number, at in positions.items()})
        return positions

    @property
    def begun(self) -> bool:
        """Whether each agent reads the present assignment from where the store is."""
        return len(self._intakes) == AGENTS + self._has_words and all(intake.begun for intake in self._intakes.values())

    def look(self) -> None:
        """Let each agent compare with the store, and go back where that has less than was written to it."""
        for intake in self._intakes.values():
            intake.look()

    async def _serve(
        self,
        stream: Any,
        work: Callable[[Sequence[Message]], Awaitable[Mapping[int, int] | None]],
        marks: StoreMarks,
    ) -> None:
        """From poll to commit, until cancelled. Every effect of a batch is written before it is acknowledged.

        A crash at any line means that the batch is read again, and the marks tell what of it is done.
        """
        queue = self._app.channels[marks.topic] = stream.channel.queue
        intake = Intake(
            self._app,
            queue,
            marks,
            self._losses,
            max_records=self._streams.batch_records,
            max_wait_s=self._streams.batch_wait_ms / 1000,
        )
        self._intakes[marks.topic] = intake
        try:
            while True:
                batch = await intake.batch()  # what Faust has polled, in order and without gaps
                if self.draining:
                    await asyncio.Event().wait()  # not acknowledged: the next process reads it
                with self._busy():
                    again_from = await work(batch)  # read, fold, send, write; held while a server is away
                    if again_from is None:
                        intake.acknowledge(batch)  # Faust commits it within a second, or it is read again
                    else:
                        await intake.read_again(again_from)  # the store went back: nothing was written
        except StopAsyncIteration:
            return  # how Faust ends a channel when the app stops
        except (NewerFormat, StoreDamaged) as error:
            self.failed = error
            await asyncio.Event().wait()  # the process ends with one line; Faust would add its own about the agent
        except Exception as error:
            self.failed = error
            raise

    @contextmanager
    def _busy(self) -> Iterator[None]:
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1

    async def _apply_items(self, messages: Sequence[Message]) -> Mapping[int, int] | None:
        refused: list[RefusedMessage] = []
        entries: dict[int, list[tuple[CatalogueEntry, bytes | None]]] = {}
        newest = {message.partition: message.offset for message in messages}
        for message in messages:
            try:
                entry = catalogue_entry(message)
            except InvalidMessage as error:
                refused.append(RefusedMessage(message, 0, error.as_value()))
            except Exception as error:  # noqa: BLE001 - content that no check foresaw must not end the worker
                refused.append(RefusedMessage(message, 0, unforeseen(error, record_place(message))))
            else:
                entries.setdefault(message.partition, []).append((entry, message.value))
        await self._refuse(refused)
        for partition in newest:  # where all is refused the mark moves, too
            found = entries.get(partition, [])
            if found:
                await self._retry.call_async("kafka", lambda: self._outbox.send_items([entry for entry, _ in found]))  # noqa: B023
            last = {entry.item_id: value for entry, value in found}
            written = await self._retry.call_blocking(
                "redis",
                lambda: self._store.put_items(last, partition, newest[partition], self._standing[ITEMS.name]),  # noqa: B023
            )
            if written == "behind":
                return await self._positions(ITEMS)
            self._metrics.items.inc(len(found))
        return None

    async def _apply_users(self, messages: Sequence[Message]) -> Mapping[int, int] | None:
        refused: list[RefusedMessage] = []
        told: dict[int, dict[str, bytes | None]] = {message.partition: {} for message in messages}
        for message in messages:
            try:
                user_id, user = decode_user_record(message.key, message.value, record_place(message))
            except InvalidMessage as error:
                refused.append(RefusedMessage(message, 0, error.as_value()))
            else:
                told[message.partition][user_id] = attributes_of(user, message.timestamp)
                self._metrics.users.inc()
        await self._refuse(refused)
        await self._erasing.take_back(USERS, messages)
        newest = {message.partition: message.offset for message in messages}
        for partition, entries in told.items():
            written = await self._retry.call_blocking(
                "redis",
                lambda: self._store.put_attributes(entries, partition, newest[partition], self._standing[USERS.name]),  # noqa: B023
            )
            if written == "behind":
                return await self._positions(USERS)
        return None

    async def _apply_identities(self, messages: Sequence[Message]) -> Mapping[int, int] | None:
        """Positions to read again from when the store has less than was left there, or held what no links are."""
        refused: list[RefusedMessage] = []
        rows: dict[int, list[IdentityRow]] = {message.partition: [] for message in messages}
        times = TimeBounds(self._streams.oldest_ms, now_ms(), self._streams.max_ahead_s * 1000)
        await self._refused_links.look_back(messages)
        for message in messages:
            found = self._refused_links.of(message) or read_identity(
                message.value,
                key=message.key,
                partition=message.partition,
                offset=message.offset,
                timestamp_ms=message.timestamp,
                times=times,
            )
            if isinstance(found, InvalidMessage):
                refused.append(RefusedMessage(message, 0, found))
            else:
                rows[message.partition].append(found)
        await self._refuse(refused)
        newest = {message.partition: message.offset for message in messages}
        for partition, told in rows.items():
            written = await self._retry.call_blocking(
                "redis",
                lambda: self._store.put_links(told, partition, newest[partition], self._standing[IDENTITIES.name]),  # noqa: B023
            )
            if written == "behind":
                return await self._link_positions()
            self._metrics.identities.inc(len(told))
        return None

    async def _apply_erasures(self, messages: Sequence[Message]) -> Mapping[int, int] | None:
        facts, refused = await self._erasing.run(messages)
        await self._refuse(refused)
        newest = {message.partition: message.offset for message in messages}
        for partition, told in facts.items():
            written = await self._retry.call_blocking(
                "redis",
                lambda: self._store.put_erased(told, partition, newest[partition], self._standing[ERASURES.name]),  # noqa: B023
            )
            if written == "behind":
                return await self._positions(ERASURES)
        return None

    async def _apply_consents(self, messages: Sequence[Message]) -> Mapping[int, int] | None:
        await self._refuse(await self._consenting.run(messages))
        await self._erasing.take_back(CONSENTS, messages, self._consenting.denied)
        newest = {message.partition: message.offset for message in messages}
        for partition, offset in newest.items():
            keys = {message.key for message in messages if message.partition == partition and message.key}
            users = [key.decode(errors="replace") for key in keys]
            written = await self._retry.call_blocking(
                "redis",
                lambda: self._store.put_consents(partition, offset, users, self._standing[CONSENTS.name]),  # noqa: B023
            )
            if written == "behind":
                return await self._consent_positions()
        return None

    async def _refuse(self, refused: Sequence[RefusedMessage]) -> None:
        if refused:
            unsent = list(refused)
            await self._retry.call_async("kafka", lambda: self._outbox.send_dead_letters(unsent))
            for _, _, why in refused:
                self._metrics.dead_letters.labels(why.reason).inc()

    async def _count_dead_letters(self, messages: Sequence[Message]) -> None:
        letters = [counted_letter(message) for message in messages]
        await self._retry.call_blocking("redis", lambda: self._store.count_dead_letters(letters))
