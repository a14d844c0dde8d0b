"""Dates and times as people and programs write them: one text at a time.

Before: texts of files. After: `times`, which decides for a whole column whether its days come first.

Read are ISO 8601 (also with a blank, slashes, dots, an offset without a colon, `UTC`, a zone in brackets), day or month
first (01/11/2019), names of months (1 Nov 2019, Nov 1, 2019, 01/Nov/2019:10:00:00), AM and PM, and what Go, ctime,
e-mail, browsers and .NET print. Years have four digits.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

__all__ = ["has_two_orders", "read_date", "with_zone", "zone_of"]

MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]

_CLOCK = (
    r"(?:[T:, ]\s*|\s+at\s+)(?P<hour>\d\d?):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d+))?)?"
    r"(?:\s*(?P<half>[AaPp])\.?[Mm]\.?)?"
)
_OFFSET = (
    r"(?:\s*(?P<zulu>Z|UTC|GMT|UT)(?![A-Za-z]))?(?:\s*(?P<offset>[+-]\d\d(?::?\d\d)?))?"
    r"(?:\s+(?P<zone>[A-Z]{2,5}))?(?:\s*(?:\([^()]*\)|\[[^\[\]]*\]))?(?:\s+m=[+-][\d.]+)?"
)
_WEEKDAY = r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*\.?,?\s+)?"
_MONTH = r"(?P<name>[A-Za-z]{3,9})\.?"
_DAY = r"(?P<day>\d\d?)(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>\d{4})"
_SHAPES = [
    re.compile(rf"{_WEEKDAY}{date}", re.IGNORECASE)
    for date in (
        rf"{_YEAR}[-/.](?P<month>\d\d?)[-/.]{_DAY}(?:{_CLOCK})?{_OFFSET}",
        rf"(?P<first>\d\d?)(?P<between>[-/.])(?P<then>\d\d?)(?P=between){_YEAR}(?:{_CLOCK})?{_OFFSET}",
        rf"{_DAY}[-/. ]+{_MONTH}[-/,. ]+{_YEAR}(?:{_CLOCK})?{_OFFSET}",
        rf"{_MONTH}\s+{_DAY},?\s+{_YEAR}(?:{_CLOCK})?{_OFFSET}",
        rf"{_MONTH}\s+{_DAY}{_CLOCK}{_OFFSET}\s+{_YEAR}",
    )
]
_EITHER = _SHAPES[1]


def read_date(text: str, *, day_first: bool = False, zone: tzinfo = UTC) -> datetime:
    """The moment that a text names, without a zone where it names none.

    Parameters
        text: without blanks around it.
        day_first: decides for 01/11/2019.
        zone: what an abbreviation like CET must be one of.

    Raises
        ValueError: no known way of writing one, or one that cannot be; it says which.
    """
    try:
        return datetime.fromisoformat(text[:-4] + "+00:00" if text.endswith(" UTC") else text)
    except ValueError:
        pass
    if ticks := re.fullmatch(r"/?Date\((-?\d{1,15})(?:[+-]\d{4})?\)/?", text):
        return datetime.fromtimestamp(int(ticks[1]) / 1000, UTC)
    for shape in _SHAPES:
        if found := shape.fullmatch(text):
            return _moment(found.groupdict(), day_first, zone)
    if re.fullmatch(r"\d\d?([-/.])\d\d?\1\d\d(\D.*)?", text):
        raise ValueError("its year has two digits")
    if re.fullmatch(r"\d\d?:\d\d(:\d\d([.,]\d+)?)?", text):
        raise ValueError("a time of day without a date")
    raise ValueError("neither a number nor a date that is known here")


def has_two_orders(text: str) -> bool:
    """Whether a date is written in a way in which some put the day first and some the month."""
    return _EITHER.fullmatch(text) is not None


def _moment(part: dict[str, str | None], day_first: bool, zone: tzinfo) -> datetime:
    if part.get("first"):
        first, then = int(part["first"] or 0), int(part["then"] or 0)
        day, month = (first, then) if day_first else (then, first)
    else:
        day, month = int(part["day"] or 0), _month(part)
    hour = int(part["hour"] or 0)
    if part["half"]:
        if not 1 <= hour <= 12:
            raise ValueError(f"no hour {hour} AM or PM")
        hour = hour % 12 + (12 if part["half"] in "pP" else 0)
    fraction = int(f"{part['fraction'] or '':0<6}"[:6])
    offset: tzinfo | None = UTC if part["zulu"] else None
    if part["offset"]:
        offset = _offset(part["offset"])
    clock = (hour, int(part["minute"] or 0), int(part["second"] or 0), fraction)
    moment = datetime(int(part["year"] or 0), month, day, *clock, offset)
    return _abbreviated(moment, part["zone"], zone) if part["zone"] and offset is None else moment


def _abbreviated(moment: datetime, name: str, zone: tzinfo) -> datetime:
    """A moment in CET or CEST, say, where the zone is Europe/Berlin: the two are told apart by their names."""
    for fold in (0, 1):
        here = moment.replace(tzinfo=zone, fold=fold)
        if here.tzname() == name.upper():
            return here
    raise ValueError(f"{name} is not one offset from UTC everywhere: name the zone with --time-zone, as Europe/Berlin")


def _month(part: dict[str, str | None]) -> int:
    if part.get("month"):
        return int(part["month"] or 0)
    name = (part["name"] or "").lower()
    try:
        return MONTHS.index(name[:3]) + 1
    except ValueError:
        raise ValueError(f"{part['name']} is no month") from None


def _offset(text: str) -> timezone:
    digits = text[1:].replace(":", "").ljust(4, "0")
    ahead = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-ahead if text[0] == "-" else ahead)


def zone_of(name: str) -> tzinfo:
    """A zone by its name (Europe/Berlin, UTC) or offset (+02:00). Raises ValueError."""
    if name.upper() in ("UTC", "Z", "GMT"):
        return UTC
    if re.fullmatch(r"[+-]\d\d(:?\d\d)?", name):
        return _offset(name)
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:  # ZoneInfoNotFoundError is a KeyError; a folder an OSError
        raise ValueError(
            f"{name!r} is no known time zone: name one like Europe/Berlin, or an offset like +02:00. Where a machine "
            "knows none, pip install tzdata"
        ) from error


def with_zone(moment: datetime, zone: tzinfo) -> int:
    """Epoch milliseconds of a moment, in `zone` where it has none of its own."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    return round(moment.timestamp() * 1000)
