"""`replay stream`: events of the past happen again, in a world of their own, at a chosen speed.

Before: a source. After: the `events` topic of a prefix, through the SDK, packed; the real workers do the rest. The
events keep their ids and their times: replayed twice into one world, they change nothing the second time.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from headwater.client import Client, Delivery
from headwater.errors import SettingsError, Unavailable
from headwater.events import MAX_TIME_MS, Event
from headwater.kafka import ensure_topics
from headwater.settings import Settings
from headwater.topics import EVENTS, IDENTITIES, ITEMS
from replay.sources import Catalogued, KafkaRange, Login, Source

__all__ = ["ReplayReport", "Speed", "stream"]

CHUNK_EVENTS = 2000
"""Events handed over between two looks at progress and at stopping, when nothing else sets the pace."""

TICK_S = 0.02
"""Time between two sends of what has come due."""

ACKNOWLEDGE_S = 60.0
"""Longest wait for the last acknowledgements."""


@dataclass(frozen=True)
class Speed:
    """How fast: `times` the events' own clock, or `per_s` events a second; neither is as fast as possible."""

    times: float | None = None
    per_s: float | None = None

    @classmethod
    def of(cls, given: Speed | str | float) -> Speed:
        """From what a person writes. Raises SettingsError.

        >>> Speed.of("60x"), Speed.of("500/s")
        (Speed(times=60.0, per_s=None), Speed(times=None, per_s=500.0))
        >>> Speed.of(0) == Speed.of("max") == Speed()
        True
        """
        if isinstance(given, Speed):
            return given
        text = str(given).strip().lower()
        number = re.fullmatch(r"(\d+\.?\d*|\.\d+)(x|/s)?", text)
        if text in {"max", "inf"} or (number and float(number[1]) == 0):
            return cls()
        if not number:
            raise SettingsError(f'speed {given!r}: write "60x" (times event time), "500/s" (events a second) or "max"')
        return cls(per_s=float(number[1])) if number[2] == "/s" else cls(times=float(number[1]))


@dataclass
class ReplayReport:
    """How far a replay is; complete when `stream` returns it.

    Fields
        events, records, items: sent so far.
        identities: guests of whom was told who they are.
        bad, first_bad: refused rows by reason, and the first of them in words.
        time_unit: of the source's time column.
        first_event_time: epoch ms.
        seconds: since the first send.
        behind_s: above 0 when the chosen speed could not be kept.
        positions: last offset by partition.
        offsets: of every record that is acknowledged, by partition.
        stopped: whether it was ended early.
    """

    events: int = 0
    records: int = 0
    bad: Counter[str] = field(default_factory=Counter)
    first_bad: list[str] = field(default_factory=list)
    time_unit: str = ""
    first_event_time: int | None = None
    seconds: float = 0.0
    behind_s: float = 0.0
    positions: dict[int, int] = field(default_factory=dict)
    offsets: dict[int, list[int]] = field(default_factory=dict)
    stopped: bool = False
    items: int = 0
    identities: int = 0

    @property
    def events_per_s(self) -> float:
        """Mean rate so far."""
        return self.events / self.seconds if self.seconds else 0.0


def stream(
    source: Source,
    settings: Settings,
    *,
    speed: Speed | str | float = 0,
    prefix: str | None = None,
    limit: int | None = None,
    on_progress: Callable[[ReplayReport], None] | None = None,
    stopping: threading.Event | None = None,
    catalogue: bool = False,
) -> ReplayReport:
    """Send a source's events again, with their ids and times, in its order.

    Parameters
        source: where the events come from.
        settings: Kafka, and how many events are packed into a record.
        speed: as `Speed.of` reads it; 0 is as fast as possible.
        prefix: the world to send to, whose topics for what is sent are made; by default that of the settings.
        limit: the number of events to send at most.
        on_progress: called after each send; it may wait, and so hold the replay back.
        stopping: ends the replay early when set.
        catalogue: whether the source's items, where it has any, are sent before the events.

    Returns
        What was sent. `behind_s` is above 0 when the chosen speed could not be kept.

    Raises
        SourceError: the source cannot be read.
        SettingsError: a speed that is none, or a world replayed into itself.
        Unavailable: Kafka does not answer, or does not acknowledge in time; it says how far the replay had come.
    """
    pace = Speed.of(speed)
    kafka = settings.kafka.model_copy(update={} if prefix is None else {"prefix": prefix})
    if isinstance(source, KafkaRange) and (source.kafka.bootstrap, source.kafka.prefix) == (
        kafka.bootstrap,
        kafka.prefix,
    ):
        raise SettingsError(f"{source.topic} cannot be replayed into itself: give another prefix (--prefix)")
    ensure_topics(kafka, topics=(EVENTS, ITEMS, IDENTITIES))  # and no more, which a `producer` may not ask for
    report = ReplayReport()
    batch, oldest_ms = settings.replay.batch_events, settings.streams.oldest_ms
    try:
        to = kafka if isinstance(source, KafkaRange) else settings.model_copy(update={"kafka": kafka})
        with Client(settings=to, source="replay", batch_events=batch, oldest_ms=oldest_ms) as client:
            _stream(source, catalogue, client, pace, limit, on_progress, stopping or threading.Event(), report)
    except (Unavailable, TimeoutError) as error:
        if not report.events:
            raise
        raise Unavailable(
            f"{error or 'Kafka does not acknowledge in time'} {report.events:,} events had been handed over by then. "
            "Run the same command again: what has arrived changes nothing a second time."
        ) from error
    return report


def _stream(
    source: Source,
    catalogue: bool,
    client: Client,
    pace: Speed,
    limit: int | None,
    on_progress: Callable[[ReplayReport], None] | None,
    stopping: threading.Event,
    report: ReplayReport,
) -> None:
    sent: deque[Delivery] = deque()
    started_s = time.monotonic()
    if catalogue and isinstance(source, Catalogued):
        delivered = client.put_items(source.items())
        delivered.result(ACKNOWLEDGE_S)
        report.items = delivered.count
    telling = _Telling(source, client)
    for chunk in _paced(islice(source.events(), limit), pace, report, stopping):
        telling.until(chunk[-1].event_time)
        delivery = client.track_many(chunk)
        sent.append(delivery)
        report.events += delivery.count
        report.records += len(delivery.records)
        if report.first_event_time is None:
            report.first_event_time = chunk[0].event_time
        while sent and all(record.done() for record in sent[0].records):
            _acknowledged(sent.popleft(), report)
        _report_progress(source, report, started_s, on_progress)
    report.stopped = stopping.is_set()
    if not report.stopped and limit is None:
        telling.until(MAX_TIME_MS)
    while sent:
        _acknowledged(sent.popleft(), report)
    report.identities = telling.acknowledged()
    _report_progress(source, report, started_s, on_progress)


class _Telling:
    """Tells who the guests of a source are, each when it became known, among the events of that time."""

    def __init__(self, source: Source, client: Client) -> None:
        self._source, self._client = source, client
        self._told: dict[Login, Future[Any]] = {}
        self._read = 0  # of how many guests the source had told, when it was last looked at
        self._waiting: deque[Login] = deque()

    def until(self, time_ms: int) -> None:
        """Tell what was known by then."""
        logins = self._source.report.logins
        if len(logins.users) != self._read:  # a source that is sorted has them all before its first event
            self._read = len(logins.users)
            self._waiting = deque(
                sorted((login for login in logins if login not in self._told), key=lambda one: one.time_ms)
            )
        while self._waiting and self._waiting[0].time_ms <= time_ms:
            login = self._waiting.popleft()
            self._told[login] = self._client.identify(login.user, was=login.guest, event_time=login.time_ms)

    def acknowledged(self) -> int:
        """Wait for what was told; how many it was."""
        for future in self._told.values():
            future.result(ACKNOWLEDGE_S)
        return len(self._told)


def _paced(
    events: Iterator[Event], pace: Speed, report: ReplayReport, stopping: threading.Event
) -> Iterator[list[Event]]:
    """Lists of events, each when it is due; ends early when stopping is set."""
    started_s = time.monotonic()
    first_ms: int | None = None
    due: list[Event] = []
    for number, event in enumerate(events):
        if first_ms is None:
            first_ms = event.event_time
        at_s = started_s
        if pace.per_s:
            at_s += number / pace.per_s
        elif pace.times:
            at_s += (event.event_time - first_ms) / 1000 / pace.times
        wait_s = at_s - time.monotonic()
        if due and (wait_s > 0 or len(due) >= CHUNK_EVENTS):
            yield due
            due = []
            wait_s = at_s - time.monotonic()
        if wait_s > 0:
            # sleep to the next tick, so that a fast replay sends few full lists and not one event at a time
            stopping.wait(math.ceil(wait_s / TICK_S) * TICK_S)
        elif pace.per_s or pace.times:
            report.behind_s = max(0.0, -wait_s - TICK_S)
        if stopping.is_set():
            return
        due.append(event)
    if due:
        yield due


def _acknowledged(delivery: Delivery, report: ReplayReport) -> None:
    report.positions.update(delivery.result(ACKNOWLEDGE_S))
    for record in delivery.records:
        partition, offset = record.result(0)
        report.offsets.setdefault(partition, []).append(offset)


def _report_progress(
    source: Source, report: ReplayReport, started_s: float, on_progress: Callable[[ReplayReport], None] | None
) -> None:
    report.seconds = time.monotonic() - started_s
    report.bad, report.first_bad = source.report.bad, source.report.first_bad
    report.time_unit = source.report.time_unit
    if on_progress is not None:
        on_progress(replace(report, positions=dict(report.positions)))
