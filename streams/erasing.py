"""The topic `erasures`: who is to be forgotten is told to the log of events, and the fact is kept without the id.

Before: whoever asks for it writes a record. After: the rounds, which forget at the place of the log that this gives
them; everybody else who reads the log, the trainer too, does so at the same place. Each step may be repeated: an event
of the same `event_id` and time that comes again is from before the erasure that it asks for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from headwater.errors import InvalidMessage
from headwater.events import Event, now_ms
from headwater.kafka import read_topic
from headwater.privacy import FORGET, Erased, Erasure, ErasureFact, digest_of, fact_of, read_erasure
from headwater.process import Retry
from headwater.settings import Settings, StreamsSettings
from headwater.topics import ERASURES, EVENTS, USERS, topic_name
from headwater.wire import IdentityRow, TimeBounds, encode
from streams.features.store import FeatureStore
from streams.outbox import ExamplesOutbox, RefusedMessage
from streams.told import record_place

__all__ = ["ErasedUsers", "ErasureRounds", "erased_users", "from_before_erasure"]

Message = Any

NOTHING = "-"
"""The item of an event that is about none."""


class ErasureRounds:
    """Of one worker: what it does with a batch of `erasures`. Raises Unavailable as its parts do."""

    def __init__(self, settings: StreamsSettings, store: FeatureStore, outbox: ExamplesOutbox, retry: Retry) -> None:
        self._times = TimeBounds(settings.oldest_ms, max_ahead_ms=settings.max_ahead_s * 1000)
        self._store = store
        self._outbox = outbox
        self._retry = retry

    async def run(self, messages: Sequence[Message]) -> tuple[dict[int, list[ErasureFact]], list[RefusedMessage]]:
        """What the batch says of some who were forgotten, by partition, and what it cannot be read for."""
        facts: dict[int, list[ErasureFact]] = {message.partition: [] for message in messages}
        refused: list[RefusedMessage] = []
        for message in messages:
            at = record_place(message)
            try:
                found = read_erasure(message.key, message.value, at)
                if isinstance(found, Erasure):
                    time_ms = self._time(found, message, at)
                    await self._retry.call_async("kafka", lambda: self._forget(found.user_id, time_ms, at))  # noqa: B023
                elif found is not None:
                    facts[message.partition].append(found)
            except InvalidMessage as error:
                refused.append(RefusedMessage(message, 0, error))
        return facts, refused

    def _time(self, erasure: Erasure, message: Message, at: str) -> int:
        time_ms: int = message.timestamp if erasure.erased_time is None else erasure.erased_time
        times = self._times._replace(now_ms=now_ms())
        if not times.oldest_ms <= time_ms <= times.now_ms + times.max_ahead_ms:
            raise times.refusal(time_ms, at)
        return time_ms

    async def _forget(self, user_id: str, time_ms: int, at: str) -> None:
        """Tombstones where there is something to take away; the place in the log; the fact; and the id goes."""
        send, key = self._outbox.send, user_id.encode()
        erased = (await self._retry.call_blocking("redis", lambda: self._store.erased([user_id]))).get(user_id)
        if erased is None or erased.time_ms < time_ms:
            reading = await self._retry.call_blocking("redis", lambda: self._store.read_users([user_id]))
            if user_id in reading.attributes:
                await send(USERS, key, None)
            event = Event(event_id=f"forget-{at}", user_id=user_id, item_id=NOTHING, type=FORGET, event_time=time_ms)
            where = await send(EVENTS, key, encode(event))
            erased = Erased(time_ms, where.partition, where.offset)
        fact = fact_of(user_id, erased)
        await send(ERASURES, fact.digest.encode(), encode(fact))
        await send(ERASURES, key, None)


class ErasedUsers(Mapping[str, Erased]):
    """By user id, who was forgotten: what the facts of `erasures` say. Its keys are digests, for nobody knows the ids.

    >>> ErasedUsers({}).get("ann") is None
    True
    """

    def __init__(self, facts: Mapping[str, ErasureFact]) -> None:
        self.facts = facts

    def __getitem__(self, user_id: str) -> Erased:
        return self.facts[digest_of(user_id)].erased

    def __iter__(self) -> Iterator[str]:
        return iter(self.facts)

    def __len__(self) -> int:
        return len(self.facts)


def erased_users(settings: Settings) -> ErasedUsers:
    """Who was forgotten, as the topic says. Raises Unavailable when Kafka or the topic is not there."""
    return ErasedUsers(_facts(settings))


def _facts(settings: Settings) -> dict[str, ErasureFact]:
    """The newest of each erasure, by digest."""
    found: dict[str, ErasureFact] = {}
    for record in read_topic(settings.kafka, ERASURES):
        try:
            said = read_erasure(record.key, record.value, topic_name(ERASURES, settings.kafka.prefix))
        except InvalidMessage:
            continue  # the worker makes it a dead letter
        if isinstance(said, ErasureFact):
            before = found.get(said.digest)
            if before is None or before.erased_time <= said.erased_time:
                found[said.digest] = said
    return found


def from_before_erasure(row: IdentityRow, erased: Mapping[str, Erased]) -> bool:
    """Whether a word on two ids is from before one of them was forgotten: it links nobody."""
    since = [one for one in (erased.get(row.user_id), erased.get(row.was)) if one is not None]
    return any(row.time_ms <= one.time_ms for one in since)
