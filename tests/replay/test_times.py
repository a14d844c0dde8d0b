"""Columns of times: unit and writing are found, the finest column is taken, and what cannot be is refused."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater import SourceError
from replay import FileSource
from replay.sources import SourceReport, TimeOptions, moment_ms
from replay.sources.raw import BadRow, RawRow
from replay.sources.source import RowOptions, events_of
from replay.sources.times import choose_time_column

YEAR_S = 31_556_952
moments = st.lists(
    st.integers(1_000_000_000_000, 1_700_000_000_000).map(lambda ms: ms // 1000 * 1000 + 7), min_size=1, max_size=20
)


def utc(ms: int) -> datetime:
    return datetime.fromtimestamp(ms // 1000, UTC) + timedelta(milliseconds=ms % 1000)


def chosen(values: Sequence[Any], **options: Any) -> tuple[list[int], str]:
    column = choose_time_column({"at": values}, TimeOptions(**options))
    assert not column.undecided
    return [column.read(value) for value in values], column.unit


WRITTEN: dict[str, tuple[int, Callable[[int], Any]]] = {
    "seconds": (1000, lambda ms: ms // 1000),
    "seconds with a fraction": (1, lambda ms: f"{ms / 1000:.3f}"),
    "seconds of a float": (1000, lambda ms: float(ms // 1000)),
    "milliseconds": (1, lambda ms: ms),
    "microseconds as text": (1, lambda ms: f" {ms}123 "),
    "nanoseconds": (1, lambda ms: ms * 1_000_000 + 999),
    "ticks of .NET": (1, lambda ms: (ms + 62_135_596_800_000) * 10_000 + 7),
    "YYYYMMDD": (86_400_000, lambda ms: int(utc(ms).strftime("%Y%m%d"))),
    "YYYYMMDDHH": (3_600_000, lambda ms: utc(ms).strftime("%Y%m%d%H")),
    "YYYYMMDDHHMMSS": (1000, lambda ms: utc(ms).strftime("%Y%m%d%H%M%S")),
    "a spreadsheet's days": (1000, lambda ms: f"{ms // 1000 / 86_400 + 25_569:.9f}"),
    "a European spreadsheet's days": (1000, lambda ms: f"{ms // 1000 / 86_400 + 25_569:.9f}".replace(".", ",")),
    "a day of a spreadsheet": (86_400_000, lambda ms: ms // 86_400_000 + 25_569),
    "UTC in words": (1000, lambda ms: utc(ms).strftime("%Y-%m-%d %H:%M:%S UTC")),
    "Z": (1000, lambda ms: utc(ms).strftime("%Y-%m-%dT%H:%M:%SZ")),
    "an offset without a colon": (1000, lambda ms: (utc(ms) + timedelta(hours=2)).strftime("%Y-%m-%d %H:%M:%S+0200")),
    "Go": (1000, lambda ms: utc(ms).strftime("%Y-%m-%d %H:%M:%S.000000009 +0000 UTC m=+0.00")),
    "slashes": (60_000, lambda ms: utc(ms).strftime("%Y/%m/%d %H:%M")),
    "mail": (1000, lambda ms: utc(ms).strftime("%a, %d %b %Y %H:%M:%S +0000")),
    "Apache": (1000, lambda ms: utc(ms).strftime("%d/%b/%Y:%H:%M:%S +0000")),
    "ctime": (1000, lambda ms: utc(ms).ctime()),
    "Twitter": (1000, lambda ms: utc(ms).strftime("%a %b %d %H:%M:%S +0000 %Y")),
    "a browser": (1000, lambda ms: utc(ms).strftime("%a %b %d %Y %H:%M:%S GMT+0000 (Coordinated Universal Time)")),
    "AM and PM": (60_000, lambda ms: utc(ms).strftime("%B %d, %Y %I:%M %p")),
    "Java with a region": (1000, lambda ms: utc(ms).strftime("%Y-%m-%dT%H:%M:%S+00:00[Europe/London]")),
    "JSON of .NET": (1, lambda ms: f"/Date({ms})/"),
    "a datetime": (1, utc),
    "bytes": (1000, lambda ms: utc(ms).isoformat(" ", "seconds").encode()),
}


@pytest.mark.parametrize("way", WRITTEN)
@settings(max_examples=8)
@given(moments)
def test_a_column_is_read_whatever_way_its_times_are_written(way: str, times: list[int]) -> None:
    step_ms, write = WRITTEN[way]
    read, _ = chosen([write(ms) for ms in times])
    assert read == [ms // step_ms * step_ms for ms in times]


@settings(max_examples=20)
@given(st.dates(date(1991, 1, 1), date(2025, 12, 28)), st.booleans(), st.sampled_from("/-."))
def test_one_day_after_the_12th_tells_which_number_is_the_day(day: date, day_first: bool, between: str) -> None:
    shape = "{0:%d}-{0:%m}-{0:%Y}" if day_first else "{0:%m}-{0:%d}-{0:%Y}"
    days = [day, day.replace(day=1), day.replace(day=28)]
    read, unit = chosen([shape.format(one).replace("-", between) for one in days])
    assert read == [round(datetime(one.year, one.month, one.day, tzinfo=UTC).timestamp() * 1000) for one in days]
    assert unit == f"dates, {'day' if day_first else 'month'} first (without an offset: UTC)"
    assert chosen([shape.format(day.replace(day=28)).replace("-", between)])[1] == unit


def test_the_future_tells_day_and_month_apart_too() -> None:
    now = datetime(2024, 2, 20, tzinfo=UTC)
    assert chosen(["02/11/2023", "01/12/2023", "05/02/2024"], newest_ms=round(now.timestamp() * 1000)) == (
        [1_698_883_200_000, 1_701_388_800_000, 1_707_091_200_000], "dates, day first (without an offset: UTC)"
    )  # fmt: skip


def rows(times: Sequence[Any]) -> list[RawRow | BadRow]:
    return [RawRow(number, f"u{number}", "i", time, "view") for number, time in enumerate(times)]


def read_rows(times: Sequence[Any], **options: Any) -> tuple[list[int], SourceReport]:
    report = SourceReport("rows")
    options = {"times": TimeOptions(**options)}
    events = list(events_of(iter(rows(times)), report, sort=False, options=RowOptions(**options)))
    return [event.event_time for event in events], report


def test_a_file_whose_days_are_told_late_is_read_on_until_they_are() -> None:
    times, report = read_rows([*["03/04/2023"] * 12_000, "04/15/2023"])
    assert (times[0], len(times)) == (1_677_888_000_000, 12_001)
    assert report.time_unit.startswith("dates, month first")


def test_days_that_are_the_same_either_way_tell_nothing_of_those_that_follow() -> None:
    assert read_rows(["03/03/2023"] * 3)[0] == [1_677_801_600_000] * 3
    times, _ = read_rows([*["03/03/2023"] * 12_000, "04/03/2023", "13/03/2023"])
    assert times[-2:] == [1_677_888_000_000, 1_678_665_600_000]
    with pytest.raises(SourceError, match="day or the month comes first"):
        read_rows([*["03/03/2023"] * 12_000, "04/03/2023"])
    with pytest.raises(SourceError, match="day or the month comes first"):
        read_rows(["04/03/2023", *["03/03/2023"] * 12_000])


@pytest.mark.parametrize(
    "times", [["03/04/2023", "05/06/2023"], [*["13/04/2023", "04/13/2023"] * 5, "01/02/2023"]], ids=["either", "both"]
)
def test_days_that_cannot_be_told_from_months_are_refused_with_the_option(times: list[str]) -> None:
    with pytest.raises(SourceError, match=r"day or the month comes first.*--time-format, as \"%d/%m/%Y\""):
        read_rows(times)
    read, _ = read_rows(times, format="%d/%m/%Y")
    assert len(read) >= 2


@pytest.mark.parametrize(
    ("columns", "name"),
    [
        ({"date": [20220421, 20220422], "hourmin": [700, 1900], "time_ms": [1650495611043, 1650625200999]}, "time_ms"),
        ({"day": ["2022-04-21", "2022-04-22"], "ts": ["1650495611", "1650625200"]}, "ts"),
        ({"year": [2022, 2022], "at": ["21.04.2022 07:00", "22.04.2022 19:00"], "date": ["2022-04-21"] * 2}, "at"),
        ({"timestamp": [1, 2], "date": ["2022-04-21", "2022-04-22"]}, "date"),
        ({"a": [1650495611, 1650625201], "b": [1650495611, 1650625201]}, "a"),
        ({"updated": [None] * 8 + [1650495611043, None], "ts": [1650495611] * 10}, "ts"),
    ],
)
def test_of_several_columns_the_finest_that_holds_times_is_taken(columns: dict[str, list[Any]], name: str) -> None:
    assert choose_time_column(columns).name == name


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1, 2, 3], r"time 1 is 1970-01-01 \(seconds\), before 1990"),
        ([700, 1900], r"before 1990.*--time-unit \(seconds"),
        (["12:30", "12:31"], "a time of day without a date"),
        (["21/04/22", "22/04/22"], r"its year has two digits.*--time-format"),
        (["2022-04-21 10:00 CET"] * 2, "CET is not one offset.*--time-zone"),
        ([4_000_000_000] * 2, r"is 2096-10-02 \(seconds\), in the future"),
        ([19_000, 19_001], r"days since 1970\? --time-unit days"),
        ([480_000_000] * 2, "before 1990"),
        (["soon", "later"], "neither a number nor a date"),
    ],
)
def test_a_column_that_holds_no_times_is_refused_with_what_it_holds_and_the_options(values: Any, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        choose_time_column({"when": values})


@pytest.mark.parametrize(
    ("value", "options", "at_ms"),
    [
        ("21.04.22 10:30", {"format": "%d.%m.%y %H:%M"}, 1_650_537_000_000),
        (220421, {"format": "%y%m%d"}, 1_650_499_200_000),
        (19_103, {"unit": "days"}, 1_650_499_200_000),
        ("1650537000", {"unit": "s"}, 1_650_537_000_000),
        (44_672.4375, {"unit": "excel", "zone": "+02:00"}, 1_650_529_800_000),
        ("2022-04-21 10:30", {"zone": "Europe/Berlin"}, 1_650_529_800_000),
        ("2022-01-21 10:30", {"zone": "Europe/Berlin"}, 1_642_757_400_000),
        ("2022-04-21 10:30Z", {"zone": "Europe/Berlin"}, 1_650_537_000_000),
        ("2022-10-30 02:30 CEST", {"zone": "Europe/Berlin"}, 1_667_089_800_000),
        ("2022-10-30 02:30 CET", {"zone": "Europe/Berlin"}, 1_667_093_400_000),
        (20220421, {"zone": "America/New_York"}, 1_650_513_600_000),
        (480_000_000, {"oldest_ms": 0}, 480_000_000_000),
        (1_650_537_000, {"oldest_ms": 0}, 1_650_537_000_000),
    ],
)
def test_what_a_person_knows_of_a_column_is_taken(value: Any, options: dict[str, Any], at_ms: int) -> None:
    assert chosen([value], **options)[0] == [at_ms]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"unit": "weeks"}, "--time-unit 'weeks': give one of seconds"),
        ({"zone": "Mars/Base"}, "--time-zone: 'Mars/Base' is no known time zone"),
        ({"format": "dd.MM.yyyy"}, "--time-format 'dd.MM.yyyy' is none of strptime"),
        ({"unit": "ms"}, "is not in the unit of the column, milliseconds"),
    ],
)
def test_an_option_that_is_none_or_does_not_fit_says_so(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SourceError, match=said):
        choose_time_column({"at": [1_650_537_000]}, TimeOptions(**options))


@pytest.mark.parametrize(
    ("kind", "zone", "at_ms"),
    [
        (pa.timestamp("us"), None, 1_650_537_000_123),
        (pa.timestamp("ns"), "Europe/Berlin", 1_650_529_800_123),
        (pa.timestamp("s"), "+05:30", 1_650_517_200_000),
        (pa.timestamp("us", "UTC"), "Europe/Berlin", 1_650_537_000_123),
        (pa.date32(), "Europe/Berlin", 1_650_492_000_000),
    ],
    ids=str,
)
def test_times_that_parquet_has_typed_are_read_in_the_zone_that_they_lack(
    tmp_path: Path, kind: pa.DataType, zone: str | None, at_ms: int
) -> None:
    moment = pa.array([1_650_537_000_123], pa.timestamp("ms")).cast(kind, safe=False)
    table = {"user": ["u", "v"], "item": ["i"] * 2, "type": ["view"] * 2, "time": [moment[0], None]}
    pq.write_table(pa.table({**table, "time": pa.concat_arrays([moment, pa.nulls(1, kind)])}), tmp_path / "log.parquet")
    source = FileSource(tmp_path / "log.parquet", options=RowOptions(TimeOptions(zone=zone)))
    assert [event.event_time for event in source.events()] == [at_ms]
    assert source.report.bad == {"no_time": 1}
    assert source.report.time_unit.startswith("timestamps")


def test_a_few_impossible_times_cost_their_rows_and_are_counted_by_reason() -> None:
    good = 1_650_537_000
    odd = [0, good * 1000, good + 100 * YEAR_S, "", "NULL", "soon", "2022-04-21T10:30:01Z", -1]
    times, report = read_rows([*[good] * 20, *odd])
    assert times == [*[good * 1000] * 20, good * 1000 + 1000]
    assert report.bad == {"time_too_old": 2, "time_unit": 1, "time_ahead": 1, "no_time": 2, "time": 1}
    assert str(report) == (
        "rows: 21 events of 28 rows; time: seconds, 2022-04-21 10:30 .. 2022-04-21 10:30; refused: "
        "2 time_too_old, 2 no_time, 1 time_unit, 1 time_ahead, 1 time. First: " + "; ".join(report.first_bad)
    )


def test_a_row_of_tomorrow_is_left_to_the_workers_and_told_and_one_of_the_far_future_is_refused() -> None:
    now = round(datetime.now(UTC).timestamp())
    times, report = read_rows([now - 100, now - 50, now + 86_400, now + 3 * YEAR_S])
    assert times == [(now - 100) * 1000, (now - 50) * 1000, (now + 86_400) * 1000]
    assert report.bad == {"time_ahead": 1}
    assert "1 lie ahead of this clock: workers refuse them" in str(report)
    with pytest.raises(SourceError, match="in the future"):
        read_rows([now + 86_400] * 3)


def test_the_report_says_which_column_was_taken_for_what_and_its_range() -> None:
    report = SourceReport("clicks.csv")
    times = [1650495611043, 1652000000000]
    column = choose_time_column({"date": [20220420, 20220508], "time_ms": times})
    list(events_of(rows(times), report, sort=True, time=column))
    assert "; time: column time_ms, milliseconds, 2022-04-20 .. 2022-05-08" in str(report)


@pytest.mark.parametrize(
    ("times", "step"),
    [
        ([f"1.{digits}E+09" for digits in (57257, 57258, 57262, 57269, 57271, 57301)], "10,000 s"),
        (["1.70E+12"] * 30, "100,000,000 s"),
        (["1.70E+12", "1.71E+12"] * 30, "10,000,000 s"),
        ([struct.unpack("f", struct.pack("f", 1_650_537_000 + 977 * n))[0] for n in range(9)], "128 s"),
        ([struct.unpack("f", struct.pack("f", (1_650_537_000 + 977 * n) * 1e3))[0] for n in range(9)], "131.072 s"),
    ],
    ids=["spreadsheet", "spreadsheet, one time", "spreadsheet, two", "float32 of seconds", "float32 of milliseconds"],
)
def test_times_that_have_lost_their_last_digits_are_told(times: list[Any], step: str) -> None:
    _, report = read_rows(times)
    assert f"all of them multiples of {step}: their last digits were lost" in str(report)


@pytest.mark.parametrize("step_s", [1, 5, 60, 900, 3600, 86_400, 604_800])
def test_times_of_whole_minutes_hours_or_days_are_not_taken_for_rounded_ones(step_s: int) -> None:
    times = [(1_600_000_000 // step_s + n) * step_s for n in range(9)]
    assert not choose_time_column({"at": times}).warning


@pytest.mark.parametrize("time", [1_700_000_123, 1_600_000_200, 19_600 * 86_400, "2024-01-01", "2024-01-01T10:00:00Z"])
def test_many_rows_of_one_moment_are_not_taken_for_rounded_ones(time: Any) -> None:
    assert not choose_time_column({"at": [time] * 100}).warning


@settings(max_examples=50)
@given(
    st.lists(st.one_of(st.none(), st.text(max_size=20), st.integers(), st.floats(), st.booleans(), st.binary())),
    st.sampled_from([None, "Europe/Berlin", "-09:30"]),
)
def test_no_value_of_a_column_is_read_as_a_time_before_1990_or_far_ahead(values: list[Any], zone: str | None) -> None:
    try:
        column = choose_time_column({"at": values}, TimeOptions(zone=zone))
    except SourceError:
        return
    for value in values:
        try:
            at_ms = column.read(value)
        except BadRow:
            continue
        assert 631_152_000_000 <= at_ms <= datetime.now(UTC).timestamp() * 1000 + 367 * 86_400_000


@pytest.mark.parametrize(
    ("given_text", "at_ms"),
    [
        ("1650537000", 1_650_537_000_000),
        ("1650537000123", 1_650_537_000_123),
        ("2022-04-21", 1_650_499_200_000),
        ("20220421", 1_650_499_200_000),
        ("2022-04-21T10:30:00+02:00", 1_650_529_800_000),
        ("2022-04-21 10:30:00 UTC", 1_650_537_000_000),
        ("2099-01-01", 4_070_908_800_000),
    ],
)
def test_a_moment_on_the_command_line_may_be_a_date_or_a_number_of_any_unit(given_text: str, at_ms: int) -> None:
    assert moment_ms(given_text, "--since") == at_ms


@pytest.mark.parametrize("text", ["5", "86400", "yesterday", "", "01/02/2022", "1969-12-31", "99999999999999999999"])
def test_a_moment_that_is_none_is_refused_with_how_to_write_one(text: str) -> None:
    with pytest.raises(SourceError, match=rf"--since '{text}'.*ive 2022-04-21"):
        moment_ms(text, "--since")
