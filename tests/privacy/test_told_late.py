"""Attributes of before an erasure that reach their topic after it are taken off it, whoever meets them first."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest

from headwater.events import now_ms
from headwater.kafka import Span, end_offsets, read_partitions
from headwater.privacy import Erased, fact_of
from headwater.process import Retry
from headwater.settings import Settings
from headwater.topics import ERASURES, EVENTS, USERS, Topic
from streams import erasing
from streams.erasing import ErasureRounds, erased_users
from tests.worlds.streams import records, send_raw, storing

UNTIL_MS = 1_700_000_000_000
HOUR_MS = 3_600_000
OLD, NEW = b'{"user_id":"ada","attributes":{"plan":"old"}}', b'{"user_id":"ada","attributes":{"plan":"new"}}'


def tell(settings: Settings, value: bytes, time_ms: int) -> None:
    send_raw(settings, value, USERS, key=b"ada", timestamp_ms=time_ms)


class SendingAmongOthers:
    """Sends as the outbox does; what a producer had waiting for a broker comes right after a topic's first record."""

    def __init__(self, settings: Settings, topic: Topic | None = None, *waiting: tuple[bytes, int]) -> None:
        self._settings, self._topic, self._waiting = settings, topic, [*waiting]

    async def send(self, topic: Topic, key: bytes, value: bytes | None) -> Any:
        sent = send_raw(self._settings, value, topic, key=key)
        if topic is self._topic:
            while self._waiting:
                tell(self._settings, *self._waiting.pop(0))
        return sent


def newest(settings: Settings) -> bytes | None:
    value: bytes | None = records(settings, USERS)[-1].value
    return value


@pytest.mark.parametrize("topic", [USERS, EVENTS, ERASURES], ids=lambda topic: topic.name)
@pytest.mark.parametrize("last", [(OLD, UNTIL_MS), (NEW, UNTIL_MS + 1)], ids=["of before", "of later"])
def test_what_comes_while_a_user_is_being_forgotten_stays_only_if_it_is_of_later(
    settings: Settings, topic: Topic, last: tuple[bytes, int]
) -> None:
    send_raw(settings, b'{"user_id":"ada","erased_time":%d}' % UNTIL_MS, ERASURES, key=b"ada")
    retry = Retry(threading.Event(), lambda _: None)
    with storing(settings) as store:
        outbox = SendingAmongOthers(settings, topic, (OLD, UNTIL_MS - 1), last)
        rounds = ErasureRounds(settings, store, cast(Any, outbox), retry, dict)
        asyncio.run(rounds.run(records(settings, ERASURES)))
    assert newest(settings) == (None if last[0] == OLD else NEW)


def test_who_asks_to_be_forgotten_is_whatever_the_clock_of_a_worker_says(settings: Settings) -> None:
    asked_ms = now_ms() + HOUR_MS  # by a right clock, where this one is slow
    send_raw(settings, b'{"user_id":"ada","erased_time":%d}' % asked_ms, ERASURES, key=b"ada", timestamp_ms=asked_ms)
    retry = Retry(threading.Event(), lambda _: None)
    with storing(settings) as store:
        outbox = SendingAmongOthers(settings)
        rounds = ErasureRounds(settings, store, cast(Any, outbox), retry, lambda: end_offsets(settings.kafka, EVENTS))
        assert not asyncio.run(rounds.run(records(settings, ERASURES)))[1]
        facts, refused = asyncio.run(rounds.run(records(settings, ERASURES)[1:]))
    assert not refused, "of what it wrote itself"
    assert [one.erased_time for several in facts.values() for one in several] == [asked_ms]
    assert erased_users(settings)["ada"].time_ms == asked_ms


def test_a_worker_that_is_told_of_a_user_who_was_forgotten_looks_what_is_newest(settings: Settings) -> None:
    retry = Retry(threading.Event(), lambda _: None)
    with storing(settings) as store:
        store.keep_erased([fact_of("ada", Erased(UNTIL_MS, 0, 7))])
        rounds = ErasureRounds(settings, store, cast(Any, SendingAmongOthers(settings)), retry, dict)
        tell(settings, OLD, UNTIL_MS)
        asyncio.run(rounds.take_back(USERS, records(settings, USERS)))
        assert newest(settings) is None
        tell(settings, NEW, UNTIL_MS + 1)
        asyncio.run(
            rounds.take_back(USERS, records(settings, USERS)[:1])
        )  # the log is read again from its beginning, say
        assert newest(settings) == NEW


def test_a_topic_that_is_read_again_is_looked_at_once_for_what_is_of_before(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = list[Any]()

    def reading(*asked: Any) -> Iterator[tuple[Span, Iterator[Any]]]:
        for span, some in read_partitions(*asked):
            read.extend(found := [*some])
            yield span, iter(found)

    monkeypatch.setattr(erasing, "read_partitions", reading)
    retry = Retry(threading.Event(), lambda _: None)
    for _ in range(10):
        tell(settings, OLD, UNTIL_MS)
    several = records(settings, USERS)
    with storing(settings) as store:
        store.keep_erased([fact_of("ada", Erased(UNTIL_MS, 0, 7))])
        rounds = ErasureRounds(settings, store, cast(Any, SendingAmongOthers(settings)), retry, dict)
        for one in several:
            asyncio.run(rounds.take_back(USERS, [one]))
        assert newest(settings) is None
        assert len(read) == len(several)
        tell(settings, OLD, UNTIL_MS)
        asyncio.run(rounds.take_back(USERS, records(settings, USERS)[-1:]))
        assert newest(settings) is None, "what has come since is looked at"
