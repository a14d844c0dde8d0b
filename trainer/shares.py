"""The topic `learning`: from which example on which share of the blocks the slow part learns, and why.

Before: the trainer writes a decision, and waits until Kafka has it, before it learns the first example that it is of.
After: the trainer after a restart, a replay: all of them learn the same blocks of the same log.

A decision holds from its place on until one of a later place, and takes the place of all that were written before it
and are of its own place or a later one: so one that was sent twice is one, and what is left there of another log that
had the topic's name is over with the first decision of this one.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections import Counter
from itertools import chain
from typing import Annotated, NamedTuple

import orjson
from kafka import KafkaProducer
from kafka.errors import KafkaError
from pydantic import BaseModel, ConfigDict, Field

from headwater.errors import InvalidMessage, Unavailable
from headwater.examples import MAX_OFFSET
from headwater.kafka import BoundedReader
from headwater.settings import KafkaSettings
from headwater.topics import LEARNING, topic_name
from headwater.wire import not_json, only_refusals, refuse_deep, validated

__all__ = ["EntryPlace", "ShareDecision", "ShareLog", "Shares", "read_decision", "read_shares"]

ANSWER_TIMEOUT_S = 5.0

Offset = Annotated[int, Field(ge=0, le=MAX_OFFSET)]
Part = Annotated[float, Field(ge=0, le=1)]


class EntryPlace(NamedTuple):
    """A place in `examples`: the offset of a record, and how many of its entries lie before."""

    offset: int
    entry: int


class ShareDecision(BaseModel):
    """A record of `learning`; its key is the partition of `examples`.

    Fields
        offset, entry: the place from which it holds.
        share: of the blocks that begin from there on, how many are learned by the slow part.
        before: the share until then, for who has no older decision.
        why: the short word it is counted under: behind, room, off or another_log.
        behind_s: how far behind the log learning was.
        decided_time: epoch ms.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")  # later releases may say more

    offset: Offset
    entry: Offset = 0
    share: Part
    before: Part = 1.0
    why: Annotated[str, Field(max_length=40)]
    behind_s: Annotated[float, Field(ge=0)] = 0.0
    decided_time: Offset = 0

    @property
    def place(self) -> EntryPlace:
        """From where it holds."""
        return EntryPlace(self.offset, self.entry)

    def encode(self) -> bytes:
        """The record's value."""
        return orjson.dumps(self.model_dump())


def read_decision(value: bytes | None) -> ShareDecision:
    """What a record of `learning` says, which anyone may have sent.

    Raises
        InvalidMessage: no trainer wrote it, and nothing else.

    >>> read_decision(ShareDecision(offset=7, share=0.25, why="behind").encode()).share
    0.25
    """
    at = "a record of the learning topic is no decision"
    with only_refusals(at):
        try:
            body = orjson.loads(value or b"")
        except orjson.JSONDecodeError as error:
            raise not_json(error, at, "") from error
        refuse_deep(body, at)
        return validated(ShareDecision, body, at)


class Shares:
    """Decisions in force, by place.

    >>> shares = Shares()
    >>> for offset, share in ((10, 0.5), (30, 0.1), (20, 1.0)):
    ...     shares.take(ShareDecision(offset=offset, share=share, why="behind"))
    >>> [shares.at(EntryPlace(offset, 0), 1.0) for offset in (9, 10, 19, 20, 40)], shares.after(EntryPlace(10, 0))
    ([1.0, 0.5, 0.5, 1.0, 1.0], EntryPlace(offset=20, entry=0))
    """

    def __init__(self) -> None:
        self.decisions: list[ShareDecision] = []

    def take(self, decision: ShareDecision) -> None:
        """The next decision of the topic."""
        while self.decisions and self.decisions[-1].place >= decision.place:
            self.decisions.pop()
        self.decisions.append(decision)

    def at(self, place: EntryPlace, otherwise: float) -> float:
        """The share in force; `otherwise` where no decision says."""
        before = self._before(place)
        if before:
            return self.decisions[before - 1].share
        return self.decisions[0].before if self.decisions else otherwise

    def after(self, place: EntryPlace) -> EntryPlace | None:
        """The next place at which a decision begins to hold; None when none does."""
        before = self._before(place)
        return self.decisions[before].place if before < len(self.decisions) else None

    def forget_before(self, place: EntryPlace) -> None:
        """Nobody asks about places before this one any more."""
        del self.decisions[: max(self._before(place) - 1, 0)]

    def _before(self, place: EntryPlace) -> int:
        return bisect_right(self.decisions, place, key=lambda one: one.place)


def read_shares(kafka: KafkaSettings, log: logging.Logger) -> tuple[Shares, Counter[str]]:
    """All decisions of the topic, and how many of its records are none, by reason; each of these is logged. Where the
    topic is not there, of a cluster that an earlier release made, nothing was decided.

    Raises
        Unavailable: Kafka does not answer.
    """
    shares, foreign = Shares(), Counter[str]()
    with BoundedReader(kafka, LEARNING) as reader:
        spans = reader.spans() if reader.exists() else []
        for record in chain.from_iterable(map(reader.records, spans)):
            try:
                shares.take(read_decision(record.value))
            except InvalidMessage as error:
                foreign[error.reason] += 1
                at = f"{record.topic}[{record.partition}]@{record.offset}"
                text = {"at": at, "reason": error.reason, "error": str(error)}
                log.warning("foreign record passed over", extra=text)
    return shares, foreign


class ShareLog:
    """Writes decisions, each acknowledged before it counts.

    Parameters
        kafka: where, and the prefix.
        producer: all replicas acknowledge.
        shares: as `read_shares` found them; the decisions made here are added.
    """

    def __init__(self, kafka: KafkaSettings, producer: KafkaProducer, shares: Shares) -> None:
        self.shares = shares
        self._topic = topic_name(LEARNING, kafka.prefix)
        self._producer = producer

    def write(self, decision: ShareDecision) -> None:
        """Write a decision. Until this returns nothing beyond its place may be learned; it is safe to repeat.

        Raises
            Unavailable: Kafka has not said that it has it; it may have it all the same.
        """
        try:
            sent = self._producer.send(self._topic, decision.encode(), b"0", partition=0)
            sent.get(timeout=ANSWER_TIMEOUT_S)
        except KafkaError as error:
            raise Unavailable(f"{self._topic}: a decision was not taken ({error!r})") from error
        self.shares.take(decision)
