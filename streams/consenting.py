"""The topic `consents`: a word on a user is told to the log of events, and kept with its place there.

Before: whoever gives it writes a record. After: the rounds, which go by it from that place on; everybody else who reads
the log does so, too. Where personalise is denied the user is forgotten at the same place: attributes get a tombstone,
and the fact of it stands on `erasures`, for a rebuild. Each step may be repeated: a word that comes
again says the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from headwater.consent import CONSENT, Consent, Said, Word, latest
from headwater.errors import InvalidMessage
from headwater.events import Event, now_ms
from headwater.kafka import BoundedReader, Span, read_partitions
from headwater.privacy import FORGET, ConsentWord, Erased, fact_of, read_consent
from headwater.process import Retry
from headwater.settings import Settings
from headwater.topics import CONSENTS, ERASURES, EVENTS, USERS
from headwater.wire import TimeBounds, encode
from streams.erasing import NOTHING, GoneUsers, Once
from streams.features.marks import after
from streams.features.state import EMPTY, UserState
from streams.features.store import FeatureStore, PlacedWord, going_by
from streams.outbox import ExamplesOutbox, RefusedMessage
from streams.told import record_place

__all__ = ["ConsentRounds", "lost_words", "seed_words", "with_words"]

Message = Any

REMEMBERED = 10_000
"""Words that may not be folded yet."""

SEEDED_AT_ONCE = 500


class _Found(NamedTuple):
    """What `consents` holds from an offset on.

    Fields
        placed: the newest word of each user that has a place in the log of events.
        done: (partition, offset) of records that came before their placed word: they are told already.
        newest: by user, the offset of the newest record that a worker has written: compaction keeps none before it.
    """

    placed: dict[str, PlacedWord]
    done: set[tuple[int, int]]
    newest: dict[str, int]


class ConsentRounds:
    """Of one worker: what it does with a batch of `consents`. Raises Unavailable as its parts do.

    Attributes
        denied: who is forgotten by a word of the newest batch.
    """

    def __init__(self, settings: Settings, store: FeatureStore, outbox: ExamplesOutbox, retry: Retry) -> None:
        self._settings = settings
        self._times = TimeBounds(settings.streams.oldest_ms, max_ahead_ms=settings.streams.max_ahead_s * 1000)
        self._store = store
        self._outbox = outbox
        self._retry = retry
        self._done: set[tuple[int, int]] = set()
        self._newest: dict[str, int] = {}
        self._sent: dict[str, Word] = {}
        self.denied = GoneUsers()

    async def begin(self, marks: Mapping[int, int]) -> None:
        """Look what is told already of what is to be read, from behind these marks on."""
        found = await self._retry.call_async("kafka", lambda: asyncio.to_thread(_found, self._settings, marks))
        self._done, self._newest = found.done, found.newest

    async def run(self, messages: Sequence[Message]) -> list[RefusedMessage]:
        """Tell the log what a batch says; what it cannot be read for."""
        refused: list[RefusedMessage] = []
        self.denied = GoneUsers()
        placed = Once(partial(_placed, self._settings))
        for message in messages:
            at = record_place(message)
            try:
                found = read_consent(message.key, message.value, at)
                if found is None:
                    self._sent.pop(message.key.decode(), None)
                    continue
                word = found.word(message.timestamp)
                times = self._times._replace(now_ms=now_ms())
                is_in_time = times.oldest_ms <= word.time_ms <= times.latest_word_ms
                if found.is_placed:  # perhaps by another worker, which had this partition
                    if is_in_time:
                        self._remember(found.user_id, latest((self._sent.get(found.user_id), word)) or word)
                    continue
                if (message.partition, message.offset) in self._done:
                    continue
                if not is_in_time:
                    raise times.refusal(word.time_ms, at)
                await self._tell(found.user_id, word, at, message.offset, placed)
            except InvalidMessage as error:
                refused.append(RefusedMessage(message, 0, error.as_value()))
        return refused

    async def _tell(
        self, user_id: str, word: Word, at: str, offset: int, placed: Once[Mapping[str, PlacedWord]]
    ) -> None:
        reading = await self._retry.call_blocking("redis", lambda: self._store.read_users([user_id], ()))
        state = reading.states.get(user_id)
        known = latest((self._sent.get(user_id), None if state is None else state.word))
        stands: list[Any] = []  # in the log, once it does: what is tried again is told there once
        erased = (await self._retry.call_blocking("redis", lambda: self._store.erased([user_id]))).get(user_id)
        if erased is not None and await self._is_passed_over(word, erased):
            if self._newest.get(user_id, -1) > offset:
                return  # as it was when it was read first: what has come since stays
            there = (await self._retry.call_async("kafka", placed.found)).get(user_id)  # by another worker, not folded
            known = latest((known, None if there is None else there.word))
            if known is None or (known.time_ms, _denies(known)) < (erased.time_ms, True):
                self._sent.pop(user_id, None)
                await self._retry.call_async("kafka", lambda: self._outbox.send(CONSENTS, user_id.encode(), None))
                return
            word = known  # told again, so that compaction keeps it
        if erased is not None and state is not None and state.word is not None and state.word.said == word.said:
            stands += [erased] * (_denies(word) and erased.time_ms == word.time_ms and erased.offset >= 0)
        await self._retry.call_async("kafka", lambda: self._write(user_id, word, known, at, stands))

    async def _is_passed_over(self, word: Word, erased: Erased) -> bool:
        """Whether a fold passes over what is told behind this place; of a denial of the same moment, whether it is not
        the one that stands there.
        """
        if not _denies(word) or word.time_ms != erased.time_ms:
            return word.time_ms <= erased.time_ms
        return await self._retry.call_async("kafka", lambda: asyncio.to_thread(self._is_erasure, erased))

    def _is_erasure(self, place: Erased) -> bool:
        first, end = {place.partition: place.offset}, {place.partition: place.offset + 1}
        found = (one for _, some in read_partitions(self._settings.kafka, EVENTS, first, end) for one in some)
        return any(b'"type":"%b"' % FORGET.encode() in (one.value or b"") for one in found)

    async def _write(self, user_id: str, word: Word, known: Word | None, at: str, stands: list[Any]) -> None:
        """As the fold goes by it: a tombstone of attributes and a fact where the log forgets; the newest word last, so
        that compaction keeps that one.
        """
        send, key, denies = self._outbox.send, user_id.encode(), _denies(word)
        if denies:
            self.denied.tombstone(USERS, await send(USERS, key, None))
        event = Event(
            event_id=f"consent-{at}", user_id=user_id, item_id=NOTHING, type=CONSENT, event_time=word.time_ms,
            consent=None if word.said == Said() else Consent(**word.said._asdict()),
        )  # fmt: skip
        if not stands:
            stands.append(await send(EVENTS, key, encode(event)))
        where = stands[0]
        if denies:
            fact = self.denied.facts[user_id] = fact_of(user_id, Erased(word.time_ms, where.partition, where.offset))
            await send(ERASURES, fact.digest.encode(), encode(fact))
        if known is not None and known.time_ms > word.time_ms:
            word = Word(word.said, known.time_ms) if denies else known
        placed = ConsentWord(
            user_id=user_id, consent_time=word.time_ms, partition=where.partition, offset=where.offset,
            **word.said._asdict(),
        )  # fmt: skip
        await send(CONSENTS, key, encode(placed))
        self._remember(user_id, word)

    def _remember(self, user_id: str, word: Word) -> None:
        if len(self._sent) >= REMEMBERED:
            self._sent.clear()
        self._sent[user_id] = word


def _denies(word: Word) -> bool:
    """Whether the log forgets where this word stands."""
    return word.said.personalise is False


def seed_words(
    settings: Settings, store: FeatureStore, marks: Mapping[int, int], progress: Callable[[], None] = lambda: None
) -> int:
    """Where the log of events does not reach back to a word any more, let the state of its user begin with it, before
    anything of the log is folded: what was denied is not kept meanwhile.

    Parameters
        settings: Kafka, and whether words count.
        store: what lacks them.
        marks: of `consents` in the store, by partition: nothing at or below is looked at.
        progress: called now and then.

    Returns
        How many states began so.

    Raises
        Unavailable: a server is away.
    """
    told = lost_words(settings, marks)
    seeded = 0
    for some in _chunks(list(told)):
        progress()
        seeded += store.put_words({user: told[user] for user in some})
    return seeded


def with_words(settings: Settings, states: Mapping[str, UserState], users: Iterable[str]) -> dict[str, UserState]:
    """States that were made again from the log, as far as that goes, going by the words of these users that it has
    lost. Raises Unavailable.
    """
    lost = lost_words(settings, {})
    return {**states, **{one: going_by(states.get(one, EMPTY), lost[one]) for one in users if one in lost}}


def lost_words(settings: Settings, marks: Mapping[int, int]) -> dict[str, PlacedWord]:
    """Words behind these marks of `consents` whose place the log of events has no more: whoever reads that begins with
    them. Raises Unavailable.
    """
    placed = _found(settings, marks).placed
    if not placed:
        return {}
    with BoundedReader(settings.kafka, EVENTS) as reader:
        spans = {span.partition: span for span in reader.spans()}
    return {user: one for user, one in placed.items() if not _is_in(spans.get(one.partition), one.offset)}


def _is_in(span: Span | None, offset: int) -> bool:
    return span is not None and span.oldest <= offset < span.end


def _chunks(users: list[str]) -> Iterable[list[str]]:
    return (users[at : at + SEEDED_AT_ONCE] for at in range(0, len(users), SEEDED_AT_ONCE))


def _found(settings: Settings, marks: Mapping[int, int]) -> _Found:
    found, waiting = _Found({}, set(), {}), dict[str, list[tuple[int, int, Word]]]()
    if settings.privacy.consent == "off":
        return found
    with BoundedReader(settings.kafka, CONSENTS) as reader:
        for span in reader.spans(after(marks)) if reader.exists() else ():
            for record in reader.records(span):
                try:
                    one = read_consent(record.key, record.value, CONSENTS.name)
                except InvalidMessage:
                    continue  # a dead letter, when its turn comes
                if one is None:
                    user = (record.key or b"").decode(errors="replace")
                    found.placed.pop(user, None)
                    found.newest[user] = record.offset
                    continue
                word = one.word(record.timestamp)
                if one.partition is None or one.offset is None:
                    waiting.setdefault(one.user_id, []).append((record.partition, record.offset, word))
                    continue
                found.placed[one.user_id] = PlacedWord(word, one.partition, one.offset)
                found.newest[one.user_id] = record.offset
                before = waiting.pop(one.user_id, [])
                found.done.update((number, at) for number, at, each in before if _is_told(each, word))
                waiting[one.user_id] = [each for each in before if not _is_told(each[2], word)]
    return found


def _placed(settings: Settings) -> Mapping[str, PlacedWord]:
    return _found(settings, {}).placed


def _is_told(word: Word, placed: Word) -> bool:
    """Whether a word that has its place in the log is, or came after, this one."""
    if word.said == placed.said:
        return placed.time_ms >= word.time_ms
    return placed.time_ms > word.time_ms and word.said.personalise is not False
