"""Answers that somebody else has sent are found where partitions change hands, whoever had them in between."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import KafkaProducer, TopicPartition

from headwater.events import now_ms
from headwater.settings import Settings
from headwater.topics import RECOMMENDATIONS, topic_name
from serving.recalled import RecalledAnswers
from tests.worlds.streams import producing

HALF_A_SECOND = 500


@pytest.fixture
def writer(settings: Settings) -> Iterator[KafkaProducer]:
    with producing(settings) as client:
        yield client


def answered(writer: KafkaProducer, settings: Settings, offset: int, at_ms: int) -> bytes:
    """An answer that somebody has sent to what lies in partition 3."""
    value = b'{"receipt":{"request_at":"requests[3]@%d"}}' % offset
    name = topic_name(RECOMMENDATIONS, settings.kafka.prefix)
    writer.send(name, value, b"u", partition=0, timestamp_ms=at_ms).get(timeout=30)
    return value


def parts(*numbers: int) -> set[TopicPartition]:
    return {TopicPartition("requests", number) for number in numbers}


def record(offset: int, timestamp: int) -> Any:
    return SimpleNamespace(partition=3, offset=offset, timestamp=timestamp)


def test_partitions_that_were_lost_and_come_back_were_somebody_elses(writer: KafkaProducer, settings: Settings) -> None:
    recalled, asked_ms = RecalledAnswers(settings.kafka), now_ms()
    recalled.on_partitions_assigned(parts(3))
    recalled.look([record(6, asked_ms - HALF_A_SECOND)])
    recalled.on_partitions_lost(parts(3))
    value = answered(writer, settings, 7, now_ms())
    recalled.on_partitions_assigned(parts(3))
    recalled.look([record(7, asked_ms)])
    assert recalled.take(3, 7) == value


def test_what_was_read_holds_through_the_next_rebalance(writer: KafkaProducer, settings: Settings) -> None:
    recalled, asked_ms = RecalledAnswers(settings.kafka), now_ms()
    values = {offset: answered(writer, settings, offset, now_ms()) for offset in (7, 8)}
    recalled.on_partitions_assigned(parts(3))
    recalled.look([record(7, asked_ms)])
    recalled.on_partitions_revoked(parts(3))
    recalled.on_partitions_assigned(parts(2, 3))
    assert {offset: recalled.take(3, offset) for offset in (7, 8)} == values
    assert recalled.take(3, 8) is None


def test_who_asks_may_have_a_clock_that_is_ahead(writer: KafkaProducer, settings: Settings) -> None:
    recalled, at_ms = RecalledAnswers(settings.kafka), now_ms() - 10 * HALF_A_SECOND
    value = answered(writer, settings, 7, at_ms)
    recalled.on_partitions_assigned(parts(3))
    recalled.look([record(7, at_ms + HALF_A_SECOND)])
    assert recalled.take(3, 7) == value
