"""Times of a column as epoch milliseconds: one unit and one way of writing for all its rows, found by a vote.

Before: values of a file, or of an option. After: `source`, which reads each row with it, and whoever shows columns.

Each reading (seconds, milliseconds, ..., YYYYMMDD, days of a spreadsheet, dates with the day or the month first) is
tried on a sample; it has a vote for each value that it puts between 1990 and now. What the winner puts elsewhere is
refused, row by row; when that is most of the column, the column is.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from functools import cache, lru_cache
from typing import Any

from headwater.errors import SourceError
from headwater.events import OLDEST_MS, likely_unit
from replay.sources.dates import has_two_orders, read_date, with_zone, zone_of
from replay.sources.ids import is_missing
from replay.sources.raw import BadRow, LocalStamp, Stamp

__all__ = ["TimeColumn", "TimeOptions", "choose_time_column", "moment_ms"]

AHEAD_MS = 60_000
"""How far beyond this machine's clock a time has a vote, as of `streams.max_ahead_s`."""

FAR_MS = 366 * 86_400_000
"""How far beyond it a row is still read. What is ahead by less is told and left to the workers, whose dead letters keep
it until its time has come."""

VOTERS = 1000
"""Values of a sample that are tried, spread evenly over it."""

MOST_DIGITS = 40
"""Of a number in text; Python's own limit is a crash at 4,300."""

SAME_EITHER_WAY = "whether the day or the month comes first is not told by days like 3/3"
"""Of a column whose times are so far the same either way; others may follow."""

FEW = 5
"""Distinct times from which one may say that all are rounded."""

DAY_MS = 86_400_000
_NEARLY = (365 * DAY_MS, 4_102_444_800_000)  # 1971 to 2100
_STEPS = (DAY_MS, 3_600_000, 60_000, 1000, 1)
_NUMBER = re.compile(rf"[+-]?(?:\d{{1,{MOST_DIGITS}}}(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{{1,3}})?")
_SPREADSHEET_DAYS = 25_569  # from 1899-12-30, where spreadsheets begin to count, to 1970

_COUNTS = {"seconds": (1000, 1), "milliseconds": (1, 1), "microseconds": (1, 1000), "nanoseconds": (1, 1_000_000)}
_CALENDAR = {8: "YYYYMMDD", 10: "YYYYMMDDHH", 12: "YYYYMMDDHHMM", 14: "YYYYMMDDHHMMSS", 17: "YYYYMMDDHHMMSSmmm"}
_DAYS, _SPREADSHEET = "days since 1970", "days of a spreadsheet"
_TICKS = (
    "ticks of .NET"  # of 100 ns, since the year 1: those of this century would be January to April 1990 in nanoseconds
)
_UNITS = (*list(_COUNTS)[:3], _TICKS, "nanoseconds", *_CALENDAR.values(), _SPREADSHEET)  # of equal votes the first wins
_TICKS_TO_1970_MS = 62_135_596_800_000
_SYNONYMS = {
    **dict.fromkeys(("s", "sec", "second"), "seconds"),
    **dict.fromkeys(("ms", "milli", "millis", "millisecond"), "milliseconds"),
    **dict.fromkeys(("us", "µs", "micro", "micros", "microsecond"), "microseconds"),
    **dict.fromkeys(("ns", "nano", "nanos", "nanosecond"), "nanoseconds"),
    **dict.fromkeys(("d", "day", "days"), _DAYS),
    **dict.fromkeys(("excel", "spreadsheet", "serial"), _SPREADSHEET),
    **dict.fromkeys(("ticks", "tick"), _TICKS),
    **{unit: unit for unit in _COUNTS},
}
_REMEDY = (
    "Name the column with --time; what is counted with --time-unit (seconds, milliseconds, microseconds, nanoseconds, "
    'days, excel); how dates are written with --time-format "%d/%m/%Y %H:%M" (as of strptime); their zone with '
    "--time-zone Europe/Berlin. Numbers that only count rows are no times: --no-time"
)

Read = Callable[[Any], int]
"""Epoch milliseconds of a value; raises ValueError, OverflowError."""


@dataclass(frozen=True)
class TimeOptions:
    """What is known of a column of times; None is found from its values.

    Fields
        format: as of strptime: "%d.%m.%Y %H:%M".
        unit: seconds, milliseconds, microseconds, nanoseconds, days, excel; or short: s, ms, us, ns.
        zone: of dates without one: "Europe/Berlin" or "+02:00"; None is UTC.
        oldest_ms: what lies before is refused.
        newest_ms: what lies after is refused; None is a year from now.
    """

    format: str | None = None
    unit: str | None = None
    zone: str | None = None
    oldest_ms: int = OLDEST_MS
    newest_ms: int | None = None


@dataclass(frozen=True)
class TimeColumn:
    """A column and how its times are read.

    Fields
        name: of the column; "" where there is only one.
        unit: what was taken, in words: "milliseconds", "dates, day first (without an offset: UTC)".
        step_ms: what all times of the sample are multiples of: a day, an hour, a minute, a second, a millisecond.
        warning: "" or what a person should know of these times.
        undecided: "" or what more values must tell before `read`: whether the day or the month comes first (which
            does not matter where there are no more and all said SAME_EITHER_WAY), or anything at all.
    """

    name: str
    unit: str
    step_ms: int
    undecided: str
    oldest_ms: int
    newest_ms: int
    counts: bool
    reading: Read
    warning: str = ""

    def read(self, value: Any) -> int:
        """Epoch milliseconds. Raises BadRow: no_time, time, time_unit, time_too_old, time_ahead."""
        try:
            at_ms = self.reading(value)
        except (ValueError, OverflowError) as error:
            if not self.counts or is_missing(value) or number_of(value) is not None:
                raise self._unreadable(value, error) from error
            at_ms = self._iso(value)
        if self.oldest_ms <= at_ms <= self.newest_ms:
            return at_ms
        raise self._outside(value, at_ms)

    def _iso(self, value: Any) -> int:
        """Of a date among numbers, which says by itself what it is."""
        try:
            return with_zone(datetime.fromisoformat(str(value).strip()), UTC)
        except ValueError:
            raise self._unreadable(value, ValueError("neither a number nor ISO 8601")) from None

    def _unreadable(self, value: Any, error: Exception) -> BadRow:
        if is_missing(value):
            return BadRow("no_time", "no time")
        if number_of(value) is not None:
            return BadRow("time_unit", f"time {value!r:.80} is not in the unit of the column, {self.unit}")
        return BadRow("time", f"time {value!r:.80} cannot be read: {error}. The column is {self.unit}")

    def _outside(self, value: Any, at_ms: int) -> BadRow:
        number = number_of(value)
        if self.counts and number is not None and likely_unit(number) not in (None, self.unit):
            return BadRow("time_unit", f"time {value!r:.80} is not in the unit of the column, {self.unit}")
        when = f"time {value!r:.80} is {moment_text(at_ms)} ({self.unit})"
        if at_ms < self.oldest_ms:
            return BadRow("time_too_old", f"{when}, before {moment_text(self.oldest_ms)} (streams.oldest)")
        return BadRow("time_ahead", f"{when}, in the future. Dates without a zone are in UTC without --time-zone")


def choose_time_column(candidates: Mapping[str, Sequence[Any]], options: TimeOptions | None = None) -> TimeColumn:
    """The column whose values are times, and how they are read; of several that fit, the finest.

    Parameters
        candidates: name -> values of the same rows, a sample of them; of equally fine ones the first is taken.
        options: what the caller knows.

    Returns
        The choice. Ask again with other rows while it is `undecided`.

    Raises
        SourceError: none of them holds times; an option is none.
    """
    options = options or TimeOptions()
    now_ms = time.time_ns() // 1_000_000 + AHEAD_MS
    bounds = (options.oldest_ms, now_ms if options.newest_ms is None else options.newest_ms)
    newest_ms = now_ms + FAR_MS if options.newest_ms is None else options.newest_ms
    fitting = []
    refused = []
    for place, (name, values) in enumerate(candidates.items()):
        voters = [value for value in _spread(values) if not is_missing(value)]
        if not voters:
            continue
        found, fits = _vote(name, voters, options, bounds)
        if found.undecided:  # one value of all may tell
            all_of_them = dict.fromkeys(value for value in values if not is_missing(value))
            written = _dates(list(all_of_them), options.zone, *bounds)
            found = replace(found, unit=written.unit, undecided=written.undecided, reading=written.read)
        if fits * 2 < len(voters):
            refused.append(_why(found, voters, fits))
        else:
            filled = len(voters) * 2 >= min(VOTERS, len(values))
            fitting.append(((not filled, found.step_ms, bool(found.undecided), place), found))
    if fitting:
        return replace(min(fitting, key=lambda one: one[0])[1], newest_ms=newest_ms)
    if refused:
        raise SourceError(f"no times in {'; '.join(refused)}. {_REMEDY}")
    name = next(iter(candidates), "")
    return TimeColumn(
        name, "milliseconds", 1, "there are no times", bounds[0], newest_ms, True, _counted("milliseconds")
    )


def moment_ms(text: str, what: str) -> int:
    """A moment that a person gives: a date (UTC), RFC 3339, or a number of any unit, as epoch milliseconds.

    Parameters
        text: what was given.
        what: the option, for messages.

    Raises
        SourceError: no moment from 1990 to 2100, or not one only.
    """
    try:
        column = choose_time_column({what: [text]}, TimeOptions(newest_ms=4_102_444_800_000))
        if not column.undecided:
            return column.read(text)
    except (SourceError, BadRow) as error:
        raise SourceError(
            f"{what} {text!r:.80} is no moment from 1990 to 2100: give 2022-04-21, 2022-04-21T10:00:00Z, or seconds or "
            "milliseconds since 1970"
        ) from error
    raise SourceError(f"{what} {text!r:.80}: {column.undecided}. Give 2022-04-21 or 2022-04-21T10:00:00Z")


def moment_text(at_ms: int, *, clock: bool = False) -> str:
    """A day of UTC, with `clock` to the minute."""
    try:
        moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return "beyond the year 9999"
    return moment.strftime("%Y-%m-%d %H:%M" if clock else "%Y-%m-%d")


def number_of(value: Any) -> int | float | None:
    """A finite number, also as text; None for anything else."""
    if type(value) is int:
        return value
    if type(value) is str and value.isdecimal() and len(value) <= MOST_DIGITS:
        return int(value)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        text = value.strip()
        if not _NUMBER.fullmatch(text):
            return None
        return int(text) if text.lstrip("+-").isdecimal() else _finite(float(text))
    if isinstance(value, Decimal):
        return (int(value) if value == value.to_integral_value() else float(value)) if value.is_finite() else None
    return _finite(value) if isinstance(value, float) else None


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _spread(values: Sequence[Any]) -> Sequence[Any]:
    return values if len(values) <= VOTERS else [values[n * len(values) // VOTERS] for n in range(VOTERS)]


@dataclass(frozen=True)
class _Reading:
    """One way to read a column: its name in words, and the times of the voters by it."""

    unit: str
    read: Read
    counts: bool = False
    undecided: str = ""


def _vote(name: str, voters: Sequence[Any], options: TimeOptions, bounds: tuple[int, int]) -> tuple[TimeColumn, int]:
    """The reading that most values fit, and how many do. Times older than 1990 count only where nothing else fits."""
    best, times, fits = None, [], -1
    for low, high in dict.fromkeys(((max(bounds[0], OLDEST_MS), bounds[1]), bounds)):
        for reading in _readings(voters, options, low, high):
            tried = _times(reading.read, voters, low, high)
            if len(tried) - tried.count(None) > fits:
                best, times, fits = reading, tried, len(tried) - tried.count(None)
        if fits * 2 >= len(voters):
            break
    if fits <= 0:  # for the message: what would be nearest to our days
        best = max(
            _readings(voters, options, *_NEARLY),
            key=lambda reading: len(voters) - _times(reading.read, voters, *_NEARLY).count(None),
        )
    assert best is not None
    step_ms = next(step for step in _STEPS if all(at_ms is None or at_ms % step == 0 for at_ms in times))
    warning = _rounded({at_ms for at_ms in times if at_ms is not None}, fits)
    return TimeColumn(name, best.unit, step_ms, best.undecided, *bounds, best.counts, best.read, warning), fits


def _rounded(times: set[int], rows: int) -> str:
    """Whether times have lost their last digits: to 1.57257E+09 in a spreadsheet, to 24 bits in a float32.

    Of 1.57E+12 few or one are left for many rows; then only a step of a power of ten tells.
    """
    step_ms = math.gcd(*times)
    few = len(times) < FEW
    if step_ms % DAY_MS == 0 or (few and rows < FEW * FEW):
        return ""
    step_ms = math.gcd(step_ms, 10**12) if few else step_ms
    if all(step_ms % lost for lost in ((10_000_000,) if few else (10_000_000, 128_000, 1 << 17))):
        return ""
    step = f"{step_ms / 1000:,.12g} s"
    return f"all of them multiples of {step}: their last digits were lost before (float32, a spreadsheet)"


def _readings(voters: Sequence[Any], options: TimeOptions, low: int, high: int) -> Iterator[_Reading]:
    zone = _zone(options.zone)
    if options.format:
        yield _Reading(f"{options.format}{_in(options.zone)}", _formatted(options.format, zone))
        return
    if options.unit:
        unit = _SYNONYMS.get(options.unit.strip().lower())
        if unit is None:
            raise SourceError(f"--time-unit {options.unit!r}: give one of {', '.join(_COUNTS)}, days, excel")
        yield _number_reading(unit, options.zone)
        return
    numbers = [_number_reading(unit, options.zone) for unit in _UNITS]
    dates = _dates(voters, options.zone, low, high)
    texts = sum(number_of(value) is None for value in voters)
    yield from (dates, *numbers) if texts * 2 > len(voters) else (*numbers, dates)


def _number_reading(unit: str, zone: str | None) -> _Reading:
    if unit in _COUNTS or unit in (_DAYS, _TICKS):
        return _Reading(unit, _counted(unit), counts=True)
    local = _spreadsheet(_zone(zone)) if unit == _SPREADSHEET else _calendar(unit, _zone(zone))
    return _Reading(f"{unit}{_in(zone)}", local)


def _in(zone: str | None) -> str:
    return f" (without an offset: {zone or 'UTC'})"


def _times(read: Read, voters: Sequence[Any], low: int, high: int) -> list[int | None]:
    """Of each value: its time, None where it cannot be read or lies outside."""
    found: list[int | None] = []
    for value in voters:
        try:
            at_ms = read(value)
        except (ValueError, OverflowError):
            found.append(None)
        else:
            found.append(at_ms if low <= at_ms <= high else None)
    return found


def _dates(voters: Sequence[Any], zone_name: str | None, low: int, high: int) -> _Reading:
    """Written dates; values that only one order puts into the past decide whether the day or the month comes first."""
    zone = _zone(zone_name)
    reads = {order: _written(order == "day", zone) for order in ("month", "day")}
    both = {order: _times(read, voters, low, high) for order, read in reads.items()}
    apart = [
        (value, month, day)
        for value, month, day in zip(voters, both["month"], both["day"], strict=True)
        if month != day
    ]
    texts = [value for value in voters if number_of(value) is None]
    unit = "ISO 8601" if all(map(_is_iso, texts)) else "dates"
    if any(isinstance(value, Stamp) for value in texts):
        unit = "timestamps"
    if any(map(_is_local, texts)):
        unit += _in(zone_name)
    if not apart:
        same = any(isinstance(value, str) and has_two_orders(value.strip()) for value in texts)
        return _Reading(unit, reads["month"], undecided=SAME_EITHER_WAY if same else "")
    months = sum(day is None for _, _, day in apart)
    days = sum(month is None for _, month, _ in apart)
    order = "day" if days > months else "month"
    unclear = ""
    if max(days, months) < 10 * min(days, months) or days == months:
        unclear = f"whether the day or the month comes first, as in {apart[0][0]!r:.40}, is not clear"
    return _Reading(unit.replace("dates", f"dates, {order} first"), reads[order], undecided=unclear)


def _is_iso(value: Any) -> bool:
    try:
        datetime.fromisoformat(str(value).strip())
    except ValueError:
        return False
    return True


def _is_local(value: Any) -> bool:
    if isinstance(value, Stamp):
        return isinstance(value, LocalStamp)
    for day_first in (False, True):
        try:
            return read_date(str(value).strip(), day_first=day_first).tzinfo is None
        except ValueError:
            continue
    return False


def _why(found: TimeColumn, voters: Sequence[Any], fits: int) -> str:
    """Why a column is none of times: its best reading and the first value that does not fit."""
    for value in voters:
        try:
            found.read(value)
        except BadRow as error:
            said = f"{found.name + ': ' if found.name else ''}{error}; {fits} of {len(voters)} values fit"
            numbers = [number for number in map(number_of, voters) if number is not None]
            low, high = OLDEST_MS / DAY_MS, time.time() / 86_400
            if len(numbers) * 2 > len(voters) and sum(low <= number <= high for number in numbers) * 2 > len(numbers):
                said += " (days since 1970? --time-unit days)"
            return said
    return found.name


def _counted(unit: str) -> Read:
    times, parts = {_DAYS: (DAY_MS, 1), _TICKS: (1, 10_000), **_COUNTS}[unit]
    begin_ms = _TICKS_TO_1970_MS if unit == _TICKS else 0

    def read(value: Any) -> int:
        number = number_of(value)
        if number is None:
            raise ValueError("not a number")
        if type(number) is int:  # exact: a float has 53 bits, and nanoseconds need 61
            return number * times // parts - begin_ms
        return round(number * times / parts) - begin_ms

    return read


def _needed(value: Any) -> int | float:
    number = number_of(value)
    if number is None:
        raise ValueError("not a number")
    return number


def _spreadsheet(zone: tzinfo) -> Read:
    def read(value: Any) -> int:
        if isinstance(value, str):  # half of Europe parts the fraction by a comma
            value = value.replace(",", ".", 1)
        local_ms = round((_needed(value) - _SPREADSHEET_DAYS) * DAY_MS)
        if zone is UTC:
            return local_ms
        return with_zone(_naive(local_ms), zone)

    return read


def _naive(local_ms: int) -> datetime:
    return datetime(1970, 1, 1) + timedelta(milliseconds=local_ms)


def _calendar(shape: str, zone: tzinfo) -> Read:
    @lru_cache(4096)
    def read_digits(number: int) -> int:
        if len(str(number)) != len(shape):
            raise ValueError(f"not {len(shape)} digits")
        digits = f"{number:0<17}"
        month, day, hour, minute, second = (int(digits[at : at + 2]) for at in range(4, 14, 2))
        moment = datetime(int(digits[:4]), month, day, hour, minute, second, int(digits[14:]) * 1000)
        return with_zone(moment, zone)

    def read(value: Any) -> int:
        number = _needed(value)
        if number != int(number):
            raise ValueError("not a whole number")
        return read_digits(int(number))

    return read


def _written(day_first: bool, zone: tzinfo) -> Read:
    @lru_cache(4096)
    def moment(text: str) -> int:
        if _NUMBER.fullmatch(text):
            raise ValueError("a number, not a date")
        return with_zone(read_date(text, day_first=day_first, zone=zone), zone)

    return _texts(moment, zone)


def _formatted(shape: str, zone: tzinfo) -> Read:
    if "%" not in shape:
        raise SourceError(f'--time-format {shape!r} is none of strptime: write "%Y-%m-%d %H:%M:%S", for example')

    @lru_cache(4096)
    def moment(text: str) -> int:
        try:
            return with_zone(datetime.strptime(text, shape), zone)
        except re.error as error:
            raise SourceError(f"--time-format {shape!r} is none of strptime: {error}") from error

    return _texts(moment, zone)


def _texts(moment: Callable[[str], int], zone: tzinfo) -> Read:
    """What reads texts also reads dates of a parquet file, and whole numbers as their digits."""

    def read(value: Any) -> int:
        if isinstance(value, str):
            return moment(value.strip())
        if isinstance(value, Stamp):
            local = isinstance(value, LocalStamp) and zone is not UTC
            return with_zone(_naive(value), zone) if local else int(value)
        if isinstance(value, datetime):
            return with_zone(value, zone)
        if isinstance(value, date):
            return with_zone(datetime(value.year, value.month, value.day), zone)
        if isinstance(value, bytes):
            return moment(value.decode("utf-8").strip())
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return moment(str(value))

    return read


@cache
def _zone(name: str | None) -> tzinfo:
    try:
        return UTC if name is None else zone_of(name)
    except ValueError as error:
        raise SourceError(f"--time-zone: {error}") from error
