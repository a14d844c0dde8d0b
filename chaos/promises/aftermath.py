"""What the promises are judged by: topics, each read once; the ledger; the stack."""

from __future__ import annotations

import random
from collections.abc import Set
from functools import cached_property
from typing import Any

import orjson

from chaos.ledger import EXPECT, LoadLedger
from chaos.load import Apps
from chaos.stack import Stack
from headwater.errors import InvalidMessage
from headwater.kafka import read_topic
from headwater.recommendations import Recommendation
from headwater.topics import RECOMMENDATIONS, Topic
from headwater.wire import decode_recommendation
from streams.audit import BY_THE_CLOCK, refused_places

__all__ = ["Aftermath", "Record", "expected"]

Record = Any
"""As kafka-python gives it."""


class Aftermath:
    """Reads the topics of a quiet world.

    Parameters
        seed: of what is drawn for a closer look.
        turned: roles of workers whose clock was turned: streams workers may have refused good events as from ahead.
    """

    def __init__(self, stack: Stack, ledger: LoadLedger, load: Apps, seed: int, turned: Set[str] = frozenset()) -> None:
        self.stack = stack
        self.settings = stack.settings
        self.turned = turned
        self.ledger = ledger
        self.load = load
        self.chance = random.Random(seed)
        self.figures: dict[str, float] = {}
        """What was counted on the way, by name: for the report."""
        self._read: dict[str, list[Record]] = {}

    def records(self, topic: Topic) -> list[Record]:
        """All of a topic, partition by partition, with what retention took while the campaign ran."""
        if topic.name not in self._read:
            self._read[topic.name] = self.stack.removed.get(topic.name, []) + list(
                read_topic(self.settings.kafka, topic)
            )
        return self._read[topic.name]

    @cached_property
    def refused_by_clock(self) -> frozenset[tuple[int, int, int]]:
        """Places of events that a worker whose clock was turned has refused, for good: dead letters say so."""
        if "streams" not in self.turned:
            return frozenset()
        found = refused_places(self.settings)
        return frozenset(place for place, reason in found.items() if reason in BY_THE_CLOCK)

    @cached_property
    def answers(self) -> dict[str, list[Recommendation]]:
        """Request id -> its answers, in the order of their partition."""
        found: dict[str, list[Recommendation]] = {}
        for record in self.records(RECOMMENDATIONS):
            try:
                answer = decode_recommendation(record.value)
            except InvalidMessage:
                continue
            found.setdefault(answer.request_id, []).append(answer)
        return found


def expected(record: Record) -> list[str] | None:
    """What has to become of each event of a record, by its header; None where all is good."""
    said = dict(record.headers).get(EXPECT)
    return None if said is None else list(orjson.loads(said))
