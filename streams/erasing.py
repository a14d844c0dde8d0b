"""The topic `erasures`: who is to be forgotten is told to the log of events, and the fact is kept without the id.

Before: whoever asks for it writes a record. After: the rounds, which forget at the place of the log that this gives
them; everybody else who reads the log, the trainer too, does so at the same place. Each step may be repeated: an event
of the same `event_id` and time that comes again is from before the erasure that it asks for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Generic, NamedTuple, TypeVar, cast

from headwater.errors import InvalidMessage
from headwater.events import Event, now_ms
from headwater.kafka import BoundedReader, end_offsets, read_partitions
from headwater.privacy import FORGET, Erased, Erasure, ErasureFact, fact_of, read_consent, read_erasure
from headwater.privacy.facts import ErasedUsers, checked_fact, erased_users
from headwater.process import Retry
from headwater.settings import Settings
from headwater.topics import CONSENTS, ERASURES, EVENTS, USERS, Topic
from headwater.wire import TimeBounds, encode
from streams.features.marks import after
from streams.features.store import FeatureStore, Reading
from streams.outbox import ExamplesOutbox, RefusedMessage
from streams.told import record_place

__all__ = ["ErasedUsers", "ErasureRounds", "GoneUsers", "Once", "checked_fact", "erased_users", "is_folded"]
__all__ += ["seed_erased"]

Message = Any
T = TypeVar("T")

NOTHING = "-"
"""The item of an event that is about none."""

CLOCKS_APART_MS = 3_600_000
"""A record that was written after another has a timestamp that is no earlier than this before the other's."""

LOOKED_AT_ONCE = 1_000
"""Records of which it is asked at once who was forgotten."""


class GoneUsers:
    """Who was forgotten in one batch of `erasures`, or denied in one of `consents` that a history is kept.

    Attributes
        facts: by user id.
        asked_ms: by user id, when it was asked for last, epoch ms.
        since: of `users` and `consents`, partition -> offset of the first tombstone that was sent.
        begun: whether the log forgot one of them before, and whoever saw to that was killed before all was done.
    """

    def __init__(self) -> None:
        self.facts: dict[str, ErasureFact] = {}
        self.asked_ms: dict[str, int] = {}
        self.since: dict[str, dict[int, int]] = {USERS.name: {}, CONSENTS.name: {}}
        self.begun = False

    def tombstone(self, topic: Topic, place: Any) -> None:
        """One was sent."""
        since = self.since[topic.name]
        since[place.partition] = min(place.offset, since.get(place.partition, place.offset))


class Once(Generic[T]):
    """What is asked of Kafka where a batch needs it, and once for all of the batch."""

    def __init__(self, ask: Callable[[], T]) -> None:
        self._ask = ask
        self._found: list[T] = []

    async def found(self) -> T:
        """Raises what asking does."""
        if not self._found:
            self._found.append(await asyncio.to_thread(self._ask))
        return self._found[0]


class _AskedOnce(NamedTuple):
    """What Kafka has to say on a batch.

    Fields
        told: of `_told`, of all its users.
        done: of `_done`, of all its messages.
    """

    told: Once[Mapping[bytes, int]]
    done: Once[Mapping[tuple[int, bytes], int]]


class ErasureRounds:
    """Of one worker: what it does with a batch of `erasures`. Raises Unavailable as its parts do.

    Parameters
        ends: partition of `events` -> the offset after its newest record, as of now.
    """

    def __init__(
        self,
        settings: Settings,
        store: FeatureStore,
        outbox: ExamplesOutbox,
        retry: Retry,
        ends: Callable[[], Mapping[int, int]],
    ) -> None:
        self._times = TimeBounds(settings.streams.oldest_ms, max_ahead_ms=settings.streams.max_ahead_s * 1000)
        self._settings = settings
        self._has_words = settings.privacy.consent != "off"
        self._keeps_words: bool | None = self._has_words or None  # None: nobody has looked yet
        self._store = store
        self._outbox = outbox
        self._retry = retry
        self._ends = ends
        self._known_ends: Mapping[int, int] = {}  # no less by now
        self._looked: dict[str, dict[int, int]] = {}  # by topic, partition -> before which offset all was looked at

    async def run(self, messages: Sequence[Message]) -> tuple[dict[int, list[ErasureFact]], list[RefusedMessage]]:
        """What the batch says of some who were forgotten, by partition, and what it cannot be read for."""
        facts: dict[int, list[ErasureFact]] = {message.partition: [] for message in messages}
        refused: list[RefusedMessage] = []
        keys = {one.key for one in messages}
        asked = _AskedOnce(Once(partial(self._told, keys, {})), Once(partial(self._done, messages)))
        gone, ends = GoneUsers(), self._known_ends
        for message in messages:
            at = record_place(message)
            try:
                found = read_erasure(message.key, message.value, at)
                if isinstance(found, Erasure):
                    time_ms = self._time(found, message, at)
                    if self._keeps_words is None:
                        there = partial(asyncio.to_thread, self._has_topic_of_words)
                        self._keeps_words = await self._retry.call_async("kafka", there)
                    forget = partial(self._forget, found.user_id, time_ms, message, asked, [], gone)
                    await self._retry.call_async("kafka", forget)
                elif found is not None:
                    if found.offset >= ends.get(found.partition, 0) and ends is self._known_ends:
                        # read after the batch was: its place is in the log by now, if there is one
                        ends = await self._retry.call_async("kafka", partial(asyncio.to_thread, self._ends))
                    facts[message.partition].append(checked_fact(found, self._times, ends, at))
            except InvalidMessage as error:
                refused.append(RefusedMessage(message, 0, error.as_value()))
        self._known_ends = ends
        await self._finish(gone)
        return facts, refused

    async def _finish(self, gone: GoneUsers) -> None:
        """Whoever tells something of one who is forgotten looks afterwards who is; here it is said, and then looked
        what was told: one of both sees the other. What was asked has a tombstone when that is done.
        """
        if gone.begun or any(gone.since.values()):
            await self._take_back_attributes(gone)
            while self._has_words and await self._mend_words(gone):
                pass  # somebody may have told one in the moment between the look and a tombstone
        for user_id in gone.facts:
            await self._retry.call_async("kafka", partial(self._outbox.send, ERASURES, user_id.encode(), None))

    async def begin(self, topic: Topic) -> None:
        """Before `topic` is read from where the store is: who was forgotten is known, which a store that has lost what
        it had of that topic may have lost, too.
        """
        self._looked.pop(topic.name, None)
        await self._retry.call_async("kafka", lambda: asyncio.to_thread(seed_erased, self._settings, self._store))

    async def take_back(self, topic: Topic, messages: Collection[Message], denied: GoneUsers | None = None) -> None:
        """Tombstones of what these records tell of users who were forgotten since that was told: the producer had no
        connection, say, or a worker wrote down a word while another forgot its user. A word that was given since, and
        got a place in the log before that at which it forgets, is asked for anew.

        Whoever forgets somebody from here on looks by themselves, so what one look has seen is looked at once.

        Parameters
            topic: `users` or `consents`.
            messages: of it, that are about to be acknowledged.
            denied: who is forgotten by these words: attributes of before may have come meanwhile.
        """
        if denied is not None and denied.facts:
            await self._take_back_attributes(denied)
        looked = self._looked.get(topic.name, {})
        some = [one for one in messages if one.key and one.offset >= looked.get(one.partition, 0)]
        if await self._retry.call_blocking("redis", lambda: self._to_write(topic, some)):
            left, ends = await self._retry.call_async("kafka", partial(asyncio.to_thread, self._left, topic))
            for key, value in left.items():
                await self._retry.call_async("kafka", partial(self._outbox.send, topic, key, value))
            self._looked[topic.name] = ends

    def _to_write(self, topic: Topic, records: Iterable[Message]) -> dict[bytes, bytes | None]:
        """By key, what is to stand in the place of the newest of some records, as `_amended` says it."""
        newest = {one.key: one for one in records if one.key}
        users = {key: key.decode(errors="replace") for key, one in newest.items() if _told_ms(topic, one) >= 0}
        erased = self._store.erased([*users.values()]) if users else {}
        found = {key: _amended(topic, newest[key], erased[user]) for key, user in users.items() if user in erased}
        return {key: value for key, value in found.items() if value != newest[key].value}

    def _left(self, topic: Topic) -> tuple[dict[bytes, bytes | None], dict[int, int]]:
        """The same of all that the topic holds and the store may not have yet; and where its partitions end."""
        left, ends, marks = dict[bytes, bytes | None](), dict[int, int](), self._store.standing(topic).marks()
        for span, records in read_partitions(self._settings.kafka, topic, after(marks)):
            ends[span.partition] = span.end
            while some := [*islice(records, LOOKED_AT_ONCE)]:
                for one in some:
                    left.pop(one.key, None)
                left |= self._to_write(topic, some)
        return left, ends

    async def _take_back_attributes(self, gone: GoneUsers) -> None:
        """Say who is forgotten, and then write tombstones of what `users` keeps of these: of whom it has something
        newer, that is in its place.
        """
        await self._retry.call_blocking("redis", lambda: self._store.keep_erased(gone.facts.values()))
        erased = await self._retry.call_blocking("redis", lambda: self._store.erased([*gone.facts]))
        until = {one.encode(): of.time_ms for one, of in erased.items()}
        since = None if gone.begun else gone.since[USERS.name]
        told = await self._retry.call_async("kafka", partial(asyncio.to_thread, self._told, until, since))
        for key in [key for key, time_ms in told.items() if 0 <= time_ms <= until[key]]:
            await self._retry.call_async("kafka", partial(self._outbox.send, USERS, key, None))

    async def _mend_words(self, gone: GoneUsers) -> bool:
        """Let `consents` keep of these what was said since, and nothing else; whether it did not."""
        erased = await self._retry.call_blocking("redis", lambda: self._store.erased([*gone.facts]))
        ask = partial(asyncio.to_thread, self._words_to_mend, gone, {one.encode(): of for one, of in erased.items()})
        left = await self._retry.call_async("kafka", ask)
        for key, value in left.items():
            await self._retry.call_async("kafka", partial(self._outbox.send, CONSENTS, key, value))
        return bool(left)

    def _words_to_mend(self, gone: GoneUsers, erased: Mapping[bytes, Erased]) -> dict[bytes, bytes | None]:
        """By key, what is to be written. A word that was given since it was asked may lie before the tombstone."""
        newest, stays = dict[bytes, Message](), dict[bytes, tuple[int, bytes]]()
        asked_ms = {one.encode(): at_ms for one, at_ms in gone.asked_ms.items()}
        first_ms = None if gone.begun else max(0, min(asked_ms.values()) - CLOCKS_APART_MS)
        since = gone.since[CONSENTS.name]
        with BoundedReader(self._settings.kafka, CONSENTS) as reader:
            for span in reader.spans(first_ms=first_ms):
                first = min(span.first, max(span.oldest, since.get(span.partition, span.first)))
                for one in reader.records(span._replace(first=first)):
                    if one.key not in erased:
                        continue
                    newest[one.key], told_ms = one, _told_ms(CONSENTS, one)
                    value = None if told_ms < 0 else _amended(CONSENTS, one, erased[one.key], asked_ms[one.key])
                    if value is not None and (one.key not in stays or told_ms >= stays[one.key][0]):
                        stays[one.key] = told_ms, value
        left: dict[bytes, bytes | None] = {}
        for key, one in newest.items():
            value = stays[key][1] if key in stays else None
            if value != one.value and (value is not None or _told_ms(CONSENTS, one) >= 0):
                left[key] = value
        return left

    def _time(self, erasure: Erasure, message: Message, at: str) -> int:
        time_ms: int = message.timestamp if erasure.erased_time is None else erasure.erased_time
        times = self._times._replace(now_ms=now_ms())
        if not times.oldest_ms <= time_ms <= times.latest_word_ms:
            raise times.refusal(time_ms, at)
        return time_ms

    def _told(self, keys: Collection[bytes], since: Mapping[int, int] | None) -> dict[bytes, int]:
        """When that was told of some users which is newest on `users`, as `_told_ms` says it: of what the store may not
        have yet.

        Parameters
            since: partition -> offset, from where it is looked for; of others from where the store is. None: from the
                oldest.
        """
        told: dict[bytes, int] = {}
        first = None if since is None else {**after(self._store.standing(USERS).marks()), **since}
        for _, records in read_partitions(self._settings.kafka, USERS, first):
            for record in records:
                if record.key in keys:
                    told[record.key] = _told_ms(USERS, record)
        return told

    def _has_topic_of_words(self) -> bool:
        """Whether there is one that still has words, where consent was switched off again."""
        with BoundedReader(self._settings.kafka, CONSENTS) as reader:
            return reader.exists()

    async def _leaves_word(self, user_id: str, erased: Erased, message: Message, asked: _AskedOnce) -> bool:
        """Whether a word of consent outlives this erasure, for the user is known as forgotten since a later time: by a
        denial, which forgets and stays itself. Not of what was asked and done before, and is read again; nor of what
        was denied only since it was asked.
        """
        if not self._has_words or erased.time_ms > message.timestamp:
            return False
        reading = await self._retry.call_blocking("redis", lambda: self._store.read_users([user_id], ()))
        state = reading.states.get(user_id)
        if is_folded(reading, user_id, erased) and (state is None or state.word is None):
            return False
        return not await self._is_done(message, asked)

    async def _is_done(self, message: Message, asked: _AskedOnce) -> bool:
        """Whether what this record asks for has its tombstone."""
        done = await asked.done.found()
        return done.get((message.partition, message.key), -1) > int(message.offset)

    def _done(self, messages: Sequence[Message]) -> dict[tuple[int, bytes], int]:
        """By partition and key of what these ask for, the offset of the newest tombstone behind the first of them."""
        firsts = {one.partition: one.offset for one in reversed(messages)}
        keys, done = {one.key for one in messages}, dict[tuple[int, bytes], int]()
        with BoundedReader(self._settings.kafka, ERASURES) as reader:
            for span in reader.spans(first=firsts):
                for record in reader.records(span) if span.partition in firsts else ():
                    if record.value is None and record.key in keys:
                        done[record.partition, record.key] = record.offset
        return done

    async def _forget(
        self, user_id: str, time_ms: int, message: Message, asked: _AskedOnce, stands: list[Any], gone: GoneUsers
    ) -> None:  # fmt: skip
        """Tombstones of the user's attributes, which may be in their topic and not yet in the store, and of the word of
        consent; the place in the log, which what is tried again has in `stands`; and the fact.
        """
        send, key = self._outbox.send, user_id.encode()
        erased = (await self._retry.call_blocking("redis", lambda: self._store.erased([user_id]))).get(user_id)
        is_known = erased is not None and erased.time_ms >= time_ms
        if erased is not None and is_known and await self._leaves_word(user_id, erased, message, asked):
            time_ms, is_known = erased.time_ms + 1, False  # of that time it would be passed over
        if erased is None or not is_known:
            held_ms = await self._retry.call_blocking("redis", lambda: self._store.attributes_told_ms(user_id))
            newest_ms, asked_ms = max((await asked.told.found()).get(key, -1), held_ms), message.timestamp
            if newest_ms <= max(time_ms, asked_ms):  # else what is newer is in their place, and a tombstone takes that
                gone.tombstone(USERS, await send(USERS, key, None))
            if self._keeps_words:
                gone.tombstone(CONSENTS, await send(CONSENTS, key, None))
            one = f"forget-{record_place(message)}"
            event = Event(event_id=one, user_id=user_id, item_id=NOTHING, type=FORGET, event_time=time_ms)
            if not stands:
                stands.append(await send(EVENTS, key, encode(event)))
            erased = Erased(time_ms, stands[0].partition, stands[0].offset)
        elif not gone.begun:
            gone.begun = not await self._is_done(message, asked)
        gone.asked_ms[user_id] = max(message.timestamp, gone.asked_ms.get(user_id, -1))
        fact = gone.facts[user_id] = fact_of(user_id, erased)
        await send(ERASURES, fact.digest.encode(), encode(fact))


def _told_ms(topic: Topic, record: Message) -> int:
    """When that was told which a record of `users` or `consents` keeps of its user, epoch ms; -1 where it keeps nothing
    that is for good: what says nothing more, cannot be read, or is a word that has no place yet.
    """
    if not record.value:
        return -1
    if topic is USERS:
        return int(record.timestamp)
    try:
        found = read_consent(record.key, record.value, CONSENTS.name)
    except InvalidMessage:
        return -1
    if found is None or not found.is_placed:
        return -1
    return found.word(record.timestamp).time_ms + (found.personalise is False)  # of after it has forgotten the user


def _amended(topic: Topic, record: Message, erased: Erased, asked_ms: int = -1) -> bytes | None:
    """What is to stand in the place of a record of `users` or `consents` that keeps something of one who is forgotten:
    None where that was told before; a word without its place where the log forgets it there, though it was given since.

    Parameters
        topic, record: as of `_told_ms`.
        erased: since when the user is forgotten.
        asked_ms: when that was asked for: it takes along what the log holds of before.
    """
    told_ms, value = _told_ms(topic, record), cast(bytes, record.value)
    if told_ms <= erased.time_ms:
        return None
    word = read_consent(record.key, value, CONSENTS.name) if topic is CONSENTS else None
    if word is None or word.partition is None or word.offset is None or word.personalise is False:
        return value
    if not erased.is_below(word.partition, word.offset):
        return value
    return encode(word.model_copy(update={"partition": None, "offset": None})) if told_ms > asked_ms else None


def is_folded(reading: Reading, user_id: str, erased: Erased) -> bool:
    """Whether what was read of a user is as of the place at which the log forgets that one, or of a later."""
    return reading.slots[reading.slot_of[user_id]].events.get(erased.partition, -1) >= erased.offset


def seed_erased(settings: Settings, store: FeatureStore) -> None:
    """Let a store that lacks any of the topic know who was forgotten, before anything of the log is folded: where that
    has lost the place, only the fact tells what is from before. Raises Unavailable.
    """
    marks = store.standing(ERASURES).marks()
    if any(marks.get(number, -1) < end - 1 for number, end in end_offsets(settings.kafka, ERASURES).items()):
        store.keep_erased(erased_users(settings).facts.values())
