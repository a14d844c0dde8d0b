"""What every source of past events has: an iterator of Events and a report of what was read and what was refused.

Before: a module for each format makes raw rows. After: `replay.stream` and the backtest read events. Knows no file
format and no Kafka. `events_of` settles the time unit once for the whole source, counts each bad row under its reason
and quotes the first few; no row is dropped uncounted.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple, Protocol, runtime_checkable

from pydantic import ValidationError

from headwater.errors import SourceError
from headwater.events import Event, Item

__all__ = ["BadRow", "Catalogued", "RawRow", "Source", "SourceReport", "as_id", "events_of"]

SAMPLE_ROWS = 1000
"""Rows that decide the time unit."""

FIRST_BAD = 5
"""Bad rows that the report quotes."""

_UNITS = (("seconds", 1e11, 1000.0), ("milliseconds", 1e14, 1.0), ("microseconds", 1e17, 1e-3))
_FACTORS = (1000.0, 1.0, 1e-3, 1e-6)
_MAX_TIME = 253_402_300_799_999
_RECENT = (631_152_000_000, 4_102_444_800_000)  # 1990 to 2100: in any other unit such a time is outside


class BadRow(Exception):
    """A row that cannot become an event; `reason` is the word it is counted under. It never leaves this package."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class RawRow(NamedTuple):
    """One row of a file before anything is checked. `number` counts from 0 in the order of the file."""

    number: int
    user: Any
    item: Any
    time: Any
    type: Any
    value: Any = None
    event_id: Any = None
    session: Any = None
    request: Any = None


@dataclass
class SourceReport:
    """What was read. Complete when the iterator is exhausted.

    `bad` rows were refused; `left_out` rows are good and no events: a catalogue entry, what is known of a user.
    """

    name: str
    rows: int = 0
    events: int = 0
    bad: Counter[str] = field(default_factory=Counter)
    first_bad: list[str] = field(default_factory=list)
    time_unit: str = ""
    left_out: Counter[str] = field(default_factory=Counter)

    def refuse(self, where: str, error: BadRow) -> None:
        """Count a bad row, and quote it while there are few."""
        self.bad[error.reason] += 1
        if len(self.first_bad) < FIRST_BAD:
            self.first_bad.append(f"{where}: {error}")

    def __str__(self) -> str:
        told = f"{self.name}: {self.events:,} events of {self.rows:,} rows, times in {self.time_unit or 'milliseconds'}"
        if self.left_out:
            told += f"; no events: {_counts(self.left_out)}"
        if self.bad:
            told += f"; {self.bad_text}"
        return told

    @property
    def bad_text(self) -> str:
        """What was refused, in words."""
        return f"refused: {_counts(self.bad)}. First: {'; '.join(self.first_bad)}"


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in counter.most_common())


class Source(Protocol):
    """Events of the past, in the order in which they are to happen again."""

    report: SourceReport

    def events(self) -> Iterator[Event]:
        """The events. Each call reads from the start and begins the report anew. Raises SourceError."""
        ...


@runtime_checkable
class Catalogued(Source, Protocol):
    """A source that also knows what its items are."""

    def items(self) -> list[Item]:
        """The catalogue as it is at the end of the source. Raises SourceError."""
        ...


class _Times:
    """Reads the time column: one unit for all rows, decided by the middle of a sample."""

    def __init__(self, sample: Iterable[Any], report: SourceReport) -> None:
        numbers: list[float] = []
        texts = 0
        for time in sample:
            number = _number(time)
            if number is not None:
                numbers.append(abs(number))
            elif time not in (None, ""):
                texts += 1
        self._factor = 1.0
        self._texts = texts > len(numbers)
        self._recent = False  # whether the middle is a time of our days, which then tells other units apart
        if self._texts:
            report.time_unit = "ISO 8601 (without an offset: UTC)"
        elif numbers:
            middle = statistics.median(numbers)
            report.time_unit, self._factor = next(
                ((name, factor) for name, below, factor in _UNITS if middle < below), ("nanoseconds", 1e-6)
            )
            self._recent = _recent(middle * self._factor)
        self._unit = report.time_unit

    def read(self, time: Any) -> int:
        """Epoch milliseconds. Raises BadRow."""
        if time is None or time == "":
            raise BadRow("no_time", "no time")
        number = _number(time)
        if number is not None:
            # whole numbers stay exact: a float has 53 bits, and nanoseconds need 61
            exact = isinstance(time, int) and self._factor >= 1
            at_ms = time * int(self._factor) if exact else round(number * self._factor)
        else:
            at_ms = _from_text(str(time))
        if not 0 <= at_ms <= _MAX_TIME:
            raise BadRow("time_out_of_range", f"time {time!r} is outside 1970..9999")
        if number is not None and (self._texts or (self._recent and not _recent(at_ms) and _another_unit(number))):
            raise BadRow("time_unit", f"time {time!r} is not in the unit of the column, {self._unit}")
        return int(at_ms)


def _recent(at_ms: float) -> bool:
    return _RECENT[0] <= at_ms < _RECENT[1]


def _another_unit(number: float) -> bool:
    return any(_recent(abs(number) * factor) for factor in _FACTORS)


def _from_text(time: str) -> int:
    try:
        moment = datetime.fromisoformat(time.strip())
    except ValueError as error:
        raise BadRow("time", f"time {time!r:.80} is neither a number nor ISO 8601") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def as_id(value: Any, what: str) -> str:
    """An id as text; 42 and 42.0 (what a column with gaps makes of it) are the same id. Raises BadRow."""
    if isinstance(value, list | dict | bool):
        raise BadRow(what, f"{what} {value!r:.80} is neither a text nor a number")
    if isinstance(value, float):
        value = int(value) if value.is_integer() else None if math.isnan(value) else value
    text = "" if value is None else str(value).strip()
    if not text:
        raise BadRow(f"no_{what}", f"no {what}")
    return text


def _value(value: Any) -> float | None:
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    number = _number(value)
    if number is None:
        raise BadRow("value", f"value {value!r:.80} is not a finite number")
    return number


def _text(value: Any, what: str) -> str | None:
    if isinstance(value, list | dict):
        raise BadRow(what, f"{what} {value!r:.80} is no text")
    return None if value is None or value == "" else str(value)


class _Checked(NamedTuple):
    time_ms: int
    number: int
    user_id: str
    item_id: str
    type: str
    value: float | None
    event_id: str | None
    session_id: str | None
    request_id: str | None


def events_of(rows: Iterable[RawRow | BadRow], report: SourceReport, id_prefix: str, *, sort: bool) -> Iterator[Event]:
    """Events of raw rows, in stable time order when `sort`, else as they come; bad rows are counted in the report.

    An event without an id of its own gets `{id_prefix}-{number}`: replayed twice, it is the same event. Sorting holds
    about 300 bytes a row in memory. Raises SourceError when there are rows and none is good.
    """
    waiting = iter(rows)
    sample = list(islice(waiting, SAMPLE_ROWS))
    times = _Times([row.time for row in sample if isinstance(row, RawRow)], report)
    shared: dict[str, str] = {}  # ids repeat: one copy of each

    def checked() -> Iterator[_Checked]:
        for number, row in enumerate(_chain(sample, waiting)):
            report.rows += 1
            try:
                if isinstance(row, BadRow):
                    raise row
                user, item = as_id(row.user, "user"), as_id(row.item, "item")
                if isinstance(row.type, list | dict):
                    raise BadRow("type", f"type {row.type!r:.80} is no text")
                kind = str(row.type or "").strip().lower().replace(" ", "_")
                at_ms = times.read(row.time)
                yield _Checked(
                    at_ms, row.number, shared.setdefault(user, user), shared.setdefault(item, item),
                    shared.setdefault(kind, kind), _value(row.value), _text(row.event_id, "event_id"),
                    _text(row.session, "session"), _text(row.request, "request"),
                )  # fmt: skip
            except BadRow as error:
                report.refuse(f"row {number}", error)

    good = checked()
    for row in sorted(good, key=lambda one: one.time_ms) if sort else good:
        try:
            event = Event(
                event_id=row.event_id or f"{id_prefix}-{row.number}",
                user_id=row.user_id,
                item_id=row.item_id,
                type=row.type,
                event_time=row.time_ms,
                value=row.value,
                session_id=row.session_id,
                request_id=row.request_id,
            )
        except ValidationError as error:
            problem = error.errors()[0]
            what = str(problem["loc"][0])
            report.refuse(f"row {row.number}", BadRow(what, f"{what}: {problem['msg']} ({problem['input']!r:.80})"))
            continue
        report.events += 1
        yield event
    if report.rows and not report.events:
        raise SourceError(f"no row can become an event. {report}. Check which columns are named (--user, --time, ...)")


def _chain(sample: list[RawRow | BadRow], rest: Iterator[RawRow | BadRow]) -> Iterator[RawRow | BadRow]:
    """The sample, then the rest; the sample's memory is given back."""
    sample.reverse()
    while sample:
        yield sample.pop()
    yield from rest
