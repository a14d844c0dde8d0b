"""Who was forgotten in this world, as the topic `erasures` tells now: by digest, for nobody knows the ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from headwater.dead_letters import read_letters
from headwater.errors import InvalidMessage
from headwater.events import now_ms
from headwater.kafka import end_offsets, read_topic
from headwater.privacy.erasures import Erased, ErasureFact, digest_of, fact_of, read_erasure
from headwater.settings import KafkaSettings, Settings
from headwater.topics import ERASURES, EVENTS, topic_name
from headwater.wire import TimeBounds

__all__ = ["ErasedUsers", "ReadFact", "checked_fact", "erased_users", "read_facts"]


class ReadFact(NamedTuple):
    """A fact, and the record that says it: as text, and its partition and offset."""

    fact: ErasureFact
    at: str
    place: tuple[int, int]


def read_facts(kafka: KafkaSettings) -> Iterator[ReadFact]:
    """All facts that the topic holds, whoever wrote them; `erased_users` says which of them count.

    Raises
        Unavailable: Kafka or the topic is not there.
    """
    name = topic_name(ERASURES, kafka.prefix)
    for record in read_topic(kafka, ERASURES):
        at = f"{name}[{record.partition}]@{record.offset}"
        try:
            said = read_erasure(record.key, record.value, at)
        except InvalidMessage:
            continue  # the streams worker makes it a dead letter
        if isinstance(said, ErasureFact):
            yield ReadFact(said, at, (record.partition, record.offset))


class ErasedUsers(Mapping[str, Erased]):
    """By user id, who was forgotten: what the facts of `erasures` say. Its keys are digests, for nobody knows the ids.

    >>> ErasedUsers({}).get("ann") is None
    True
    """

    def __init__(self, facts: Mapping[str, ErasureFact]) -> None:
        self.facts = dict(facts)

    def add(self, met: Mapping[str, Erased]) -> None:
        """Of users whom a log was seen to forget."""
        for one, erased in met.items():
            if erased.outlasts(self.get(one)):
                fact = fact_of(one, erased)
                self.facts[fact.digest] = fact

    def __getitem__(self, user_id: str) -> Erased:
        return self.facts[digest_of(user_id)].erased

    def __iter__(self) -> Iterator[str]:
        return iter(self.facts)

    def __len__(self) -> int:
        return len(self.facts)


def erased_users(settings: Settings) -> ErasedUsers:
    """Who was forgotten, as the topic says. Raises Unavailable when Kafka or the topic is not there."""
    return ErasedUsers(_facts(settings))


def checked_fact(fact: ErasureFact, times: TimeBounds, ends: Mapping[int, int], at: str) -> ErasureFact:
    """A fact that can be one: anybody who may write to `erasures` could else shut a user out for ever.

    Parameters
        fact: as it was read.
        times: how far a time may lie ahead.
        ends: partition of `events` -> the offset after its newest record, read after the fact was.
        at: where it is.

    Raises
        InvalidMessage: its time has not come, or its place is in no log.

    >>> checked_fact(fact_of("ann", Erased(1000, 0, 7)), TimeBounds(now_ms=1000), {0: 8}, "erasures[0]@3").offset
    7
    """
    times = times._replace(now_ms=times.now_ms or now_ms())
    if fact.erased_time > times.latest_word_ms:
        raise times.refusal(fact.erased_time, at)
    end = ends.get(fact.partition, 0)
    if fact.offset >= end:
        raise InvalidMessage(
            "schema",
            f"{at}: forgets at events[{fact.partition}]@{fact.offset}, and that partition ends at {end}. Ask with "
            '{"user_id": ...}: streams workers write facts.',
        )
    return fact


def _facts(settings: Settings) -> dict[str, ErasureFact]:
    """Of each erasure the fact that counts, by digest."""
    said = list(read_facts(settings.kafka))
    if not said:
        return {}
    refused = {(one.partition, one.offset) for one in read_letters(settings.kafka, ERASURES)}
    ends, times = end_offsets(settings.kafka, EVENTS), TimeBounds(max_ahead_ms=settings.streams.max_ahead_s * 1000)
    found: dict[str, ErasureFact] = {}
    for fact, at, place in said:
        try:
            before = found.get(checked_fact(fact, times, ends, at).digest)
        except InvalidMessage:
            continue
        if place not in refused and fact.erased.outlasts(None if before is None else before.erased):
            found[fact.digest] = fact
    return found
