"""What a clock had refused stays refused, whichever partition is read first."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from headwater.errors import InvalidMessage
from headwater.events import now_ms
from headwater.kafka import read_topic
from headwater.process import Retry
from headwater.settings import Settings
from headwater.topics import DEAD_LETTERS, EVENTS, topic_name
from headwater.wire import RefusedRecord, dead_letter
from streams.past_refusals import PastRefusals
from tests.worlds.streams import producing, send_raw

HOUR_MS = 3_600_000


def refuse(settings: Settings, message: Any) -> None:
    """As a worker does whose clock says so, when the record is written."""
    name = topic_name(EVENTS, settings.kafka.prefix)
    record = RefusedRecord(name, message.partition, message.offset, message.timestamp, None, b"{}", ())
    letter = dead_letter(InvalidMessage("event_time_ahead", "is 1 h ahead"), record, 0)
    with producing(settings) as client:
        client.send(
            topic_name(DEAD_LETTERS, settings.kafka.prefix), key=letter.key, value=letter.value,
            headers=letter.headers, timestamp_ms=message.timestamp,
        ).get(30)  # fmt: skip


def test_what_was_refused_is_known_of_a_partition_that_begins_earlier_than_the_one_read_first(
    settings: Settings,
) -> None:
    now = now_ms()
    for partition, hours in ((0, 1), (1, 6)):
        send_raw(settings, b"{}", partition=partition, timestamp_ms=now - hours * HOUR_MS)
    late, early = sorted(read_topic(settings.kafka, EVENTS), key=lambda message: -message.timestamp)
    for message in (early, late):
        refuse(settings, message)
    past = PastRefusals(settings, EVENTS, Retry(threading.Event(), lambda _: None))
    for message in (late, early):
        asyncio.run(past.look_back([message]))
        assert past.of(message) is not None
    assert past.of(late) is not None, "what was known is"
