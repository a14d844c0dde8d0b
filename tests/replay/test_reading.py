"""Files as they are found: delimiters, quotation marks, encodings, headers, parts; a bad line costs that line."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headwater import Event, SourceError
from replay import Columns, FileFormat, FileSource

AT = 1_500_000_000


def read(path: Path | str, **form: Any) -> tuple[list[Event], FileSource]:
    source = FileSource(path, form=FileFormat(**form) if form else None)
    return list(source.events()), source


def written(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def items(events: list[Event]) -> list[str]:
    return [event.item_id for event in events]


def table(between: str, *, ends: str = "\n", last: str = "") -> str:
    rows = [["user", "item", "type", "time"], ["ann", "a", "view", str(AT)], ["bob", "b", "buy", str(AT + 1)]]
    return "".join(between.join(row) + last + ends for row in rows)


@pytest.mark.parametrize("between", [",", ";", "\t", "|", "::", "\x01", " "])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_what_parts_fields_and_lines_is_found(tmp_path: Path, between: str, ends: str) -> None:
    events, source = read(written(tmp_path / "log.dat", table(between, ends=ends)))
    assert [(one.user_id, one.item_id, one.type) for one in events] == [("ann", "a", "view"), ("bob", "b", "buy")]
    assert source.report.bad.total() == 0


@pytest.mark.parametrize("between", [",", ";", "|", "::"])
def test_a_delimiter_at_the_end_of_lines_is_no_column(tmp_path: Path, between: str) -> None:
    assert items(read(written(tmp_path / "a.txt", table(between, last=between)))[0]) == ["a", "b"]
    header, *rows = table(between).splitlines()
    ragged = "\n".join([header, *(row + between for row in rows)])
    assert items(read(written(tmp_path / "b.txt", ragged))[0]) == ["a", "b"]


def test_a_delimiter_that_is_not_found_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "log.txt", table("~"))
    with pytest.raises(SourceError, match="--delimiter"):
        read(path)
    assert items(read(path, delimiter="~")[0]) == ["a", "b"]


def test_decimal_commas_are_numbers_where_commas_part_nothing(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", f"user;item;type;time;value\nu;i;listen;{AT};0,25\nu;j;listen;{AT};3\n")
    assert [event.value for event in read(path)[0]] == [0.25, 3.0]


HEAD = "user_id\titem_id\ttype\ttimestamp\tnote\n"


@pytest.mark.parametrize(
    ("line", "item"),
    [
        ('u1\t"Heroes" (live)\tplay\t1500000000\tx', '"Heroes" (live)'),
        ('u1\t7" single\tplay\t1500000000\tx', '7" single'),
        ('u1\t"a ""b"" c"\tplay\t1500000000\tx', 'a "b" c'),
        ('u1\t"a \\"b\\" c"\tplay\t1500000000\tx', 'a "b" c'),
        ('u1\t"two\nlines"\tplay\t1500000000\tx', "two\nlines"),
    ],
)
def test_quotation_marks_are_read_as_they_are_meant(tmp_path: Path, line: str, item: str) -> None:
    events, source = read(written(tmp_path / "plays.tsv", f"{HEAD}{line}\nu2\tplain\tplay\t{AT + 60}\tx\n"))
    assert items(events) == [item, "plain"]
    assert not source.report.bad


@pytest.mark.parametrize("between", ["\t", ",", ";"])
def test_an_unclosed_quotation_mark_costs_its_line_and_names_it(tmp_path: Path, between: str) -> None:
    rows = [
        ["u1", '"open', "play", str(AT), "x"],
        ["u2", '12"', "play", str(AT), "x"],
        ["u3", "fine", "play", str(AT), "y"],
    ]
    text = HEAD.replace("\t", between) + "".join(between.join(row) + "\n" for row in rows)
    events, source = read(written(tmp_path / "plays.txt", text))
    assert items(events) == ['12"', "fine"]
    assert dict(source.report.bad) == {"quotes": 1}
    assert "plays.txt line 2: a quotation mark is opened and never closed" in source.report.first_bad[0]


@pytest.mark.parametrize("titles", ["sep=;\n", "Export of 1 May\n\n", "# made by x; y\n# 2 rows\n", "\n\n"])
def test_titles_and_comments_may_stand_before_the_header(tmp_path: Path, titles: str) -> None:
    events, source = read(written(tmp_path / "a.csv", titles + table(";") + "u;i;view;soon\n"))
    assert items(events) == ["a", "b"]
    assert f"a.csv line {titles.count(chr(10)) + 4}: time 'soon'" in source.report.first_bad[0]


def test_rows_within_rows_of_parquet_are_taken_out(tmp_path: Path) -> None:
    shown = [[{"sku": "s1", "kind": "click"}, {"sku": "s2", "kind": "view"}], []]
    rows = {"visitor": [{"id": "v1"}, {"id": "v2"}], "at": pa.array([AT, AT], pa.timestamp("s", "UTC")), "shown": shown}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    columns = Columns(time="at", type="kind")
    source = FileSource(tmp_path / "a.parquet", columns, form=FileFormat(explode="shown"))
    assert [(one.user_id, one.item_id, one.type, one.event_time) for one in source.events()] == [
        ("v1", "s1", "click", AT * 1000),
        ("v1", "s2", "view", AT * 1000),
    ]
    assert dict(source.report.left_out) == {"without shown": 1}


def test_a_field_may_be_as_long_as_it_is(tmp_path: Path) -> None:
    page = "p" * 400_000
    path = written(tmp_path / "a.csv", f'user,item,type,time,page\nu,i,view,{AT},"{page}"\nu,j,view,{AT},{page}\n')
    assert items(read(path)[0]) == ["i", "j"]


def test_bad_lines_are_named_by_file_and_line_also_behind_empty_ones(tmp_path: Path) -> None:
    text = f"\nuser,item,type,time\n\nu,i,view,{AT}\nu,i,view\n\nu,,view,{AT}\nu,j,view,soon\nu,k,view,{AT}\n   \n"
    events, source = read(written(tmp_path / "a.csv", text))
    assert items(events) == ["i", "k"]
    assert [told.partition(": ")[0].rpartition("/")[2] for told in source.report.first_bad] == [
        "a.csv line 5",
        "a.csv line 7",
        "a.csv line 8",
    ]
    assert source.report.bad_share == pytest.approx(3 / 5)


@pytest.mark.parametrize(
    ("codec", "told"),
    [("utf-8-sig", "UTF-8 with BOM"), ("utf-16", "UTF-16"), ("utf-16-be", "UTF-16 without BOM"), ("utf-8", "UTF-8")],
)
def test_an_encoding_is_known_by_its_mark_or_its_bytes(tmp_path: Path, codec: str, told: str) -> None:
    text = f"user,item,type,time\nzoë,žluťoučký kůň,view,{AT}\n"
    events, source = read(written(tmp_path / "a.csv", text.encode(codec)))
    assert [(one.user_id, one.item_id) for one in events] == [("zoë", "žluťoučký kůň")]
    assert f"CSV, ',', {told}, header" in source.report.reading_text


def test_an_older_encoding_has_to_be_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", f"user,item,type,time\nu,Café,view,{AT}\n".encode("latin-1"))
    with pytest.raises(SourceError, match=r"a\.csv line 2 is not UTF-8 \(byte 0xe9, 'é'.*--encoding cp1252"):
        read(path)
    assert items(read(path, encoding="latin-1")[0]) == ["Café"]
    with pytest.raises(SourceError, match="--encoding 'klingon' is unknown"):
        read(path, encoding="klingon")


def test_a_header_in_another_encoding_asks_for_its_name(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", f"用户,商品,时间,行为\nu,a,{AT},view\n".encode("gb18030"))
    with pytest.raises(SourceError, match=r"not in the encoding .* name theirs with --encoding"):
        read(path)


def test_a_damaged_byte_costs_its_line(tmp_path: Path) -> None:
    body = f"u,é,view,{AT}\nu,".encode() + b"\xff\xfe" + f",view,{AT}\nu,j,view,{AT}\n".encode()
    events, source = read(written(tmp_path / "a.csv", b"user,item,type,time\n" + body))
    assert items(events) == ["é", "j"]
    assert dict(source.report.bad) == {"encoding": 1}
    assert "line 3: byte 0xff" in source.report.first_bad[0]


ROWS = [{"user": "u", "item": item, "type": "view", "ts": AT + n} for n, item in enumerate("abc")]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


@pytest.mark.parametrize(
    "content",
    [
        LINES,
        "\ufeff" + LINES.replace("\n", "\r\n") + "\r\n",
        json.dumps(ROWS),
        "\ufeff" + json.dumps(ROWS, indent=2),
        json.dumps({"count": 3, "events": ROWS}),
        LINES.replace('"user"', '"score": NaN, "user"'),
        "".join(f"{row}\n" for row in ROWS),
    ],
    ids=["lines", "lines with mark", "array", "pretty array", "array in an object", "NaN", "Python's"],
)
def test_json_is_lines_an_array_or_an_array_in_an_object(tmp_path: Path, content: str) -> None:
    events, source = read(written(tmp_path / "events.json", content))
    assert items(events) == ["a", "b", "c"]
    assert not source.report.bad


def test_a_broken_element_of_an_array_costs_that_element(tmp_path: Path) -> None:
    lines = ["[", json.dumps(ROWS[0]) + ",", '{"user": ],', json.dumps(ROWS[2]), "]"]
    events, source = read(written(tmp_path / "events.json", "\n".join(lines)))
    assert items(events) == ["a", "c"]
    assert "line 3" in source.report.first_bad[0]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, "zstd", "lz4"])
@pytest.mark.parametrize("content", [LINES, table(";")], ids=["json", "csv"])
def test_packed_files_are_known_by_what_they_hold(tmp_path: Path, pack: Any, content: str) -> None:
    packed = pa.CompressedOutputStream
    path = tmp_path / "events"
    if callable(pack):
        path.write_bytes(pack(content.encode()))
    else:
        with packed(str(path), pack) as out:
            out.write(content.encode())
    assert items(read(path)[0])[:2] == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"PK\x03\x04", "Excel workbook"), (b"<html>", "XML or HTML"), (b"Obj\x01", "Avro"), (b"ORC", "ORC")],
)
def test_what_is_not_read_says_what_to_do(tmp_path: Path, content: bytes, told: str) -> None:
    with pytest.raises(SourceError, match=told):
        read(written(tmp_path / "file", content))


@pytest.mark.parametrize("head", [b"\xfd7zXZ\0", b"BZh9", b"\x28\xb5\x2f\xfd", b"PAR1", b"\x1f\x8b\x08"])
def test_what_is_damaged_from_its_first_bytes_is_named(tmp_path: Path, head: bytes) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        read(written(tmp_path / "a.csv", head + b"\xfb\xff" * 20))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("rows", [200, 40_000], ids=["within the sample", "behind it"])
def test_a_file_that_was_cut_off_is_not_called_empty(tmp_path: Path, pack: Any, rows: int) -> None:
    lines = "".join(f"u{n % 97},i{n * 7919 % 1009},view,{AT + n}\n" for n in range(rows))
    packed = pack(f"user,item,type,time\n{lines}".encode())
    with pytest.raises(SourceError, match=r"cannot be read as text.*end-of-stream"):
        read(written(tmp_path / "a.csv", packed[: len(packed) * 2 // 3]))


@pytest.mark.parametrize("content", ["user,item,type,time\n", "user,item,type,time"])
def test_a_header_without_rows_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(SourceError, match=r"a\.csv has no events"):
        read(written(tmp_path / "a.csv", content))


def test_half_a_pair_of_surrogates_costs_its_line(tmp_path: Path) -> None:
    bad = '{"user": "u", "item": "\\ud800", "score": NaN, "type": "view", "ts": 1500000000}\n'
    events, source = read(written(tmp_path / "a.jsonl", LINES + bad))
    assert (items(events), dict(source.report.bad)) == (["a", "b", "c"], {"undecodable": 1})


def part(path: Path, name: str, at: int = AT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = {"user_id": [name], "item_id": [f"of {name}"], "type": ["view"], "timestamp": [at]}
    pq.write_table(pa.table(rows), path)
    return path


def test_a_folder_is_its_parts_and_nothing_else_in_it(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        part(tmp_path / f"part-{number}.snappy.parquet", f"u{number}", AT + number)
    for name in ("_SUCCESS", ".part-1.parquet.crc", "README.md", "_temporary/part-3.parquet", "part-2.parquet"):
        written(tmp_path / name, "" if name in ("_SUCCESS", "part-2.parquet") else "no data")
    events, source = read(tmp_path)
    assert [event.user_id for event in events] == ["u1", "u9", "u10"]
    assert source.report.read_as == "parquet, 3 files"


def test_folders_of_hive_are_columns(tmp_path: Path) -> None:
    for day in ("2024-02-28", "2024-02-29"):
        written(tmp_path / f"dt={day}/country=nl/part-00000.csv", f"user,item,type\n{day},i,view\n")
    written(tmp_path / "dt=__HIVE_DEFAULT_PARTITION__/country=nl/part-00000.csv", "user,item,type\nx,i,view\n")
    events, source = read(tmp_path)
    assert [(one.user_id, one.happened_at.date().isoformat()) for one in events] == [
        ("2024-02-28", "2024-02-28"),
        ("2024-02-29", "2024-02-29"),
    ]
    assert dict(source.report.bad) == {"no_time": 1}
    assert "dt=__HIVE_DEFAULT_PARTITION__/country=nl/part-00000.csv line 2" in source.report.first_bad[0]


@pytest.mark.parametrize("headers", ["each", "first", "none"])
def test_parts_of_text_have_a_header_each_or_only_the_first_or_none(tmp_path: Path, headers: str) -> None:
    head = "user,item,type,time\n"
    for number in range(3):
        has = headers == "each" or (headers == "first" and number == 0)
        written(tmp_path / f"p{number}.csv", (head if has else "") + f"u{number},i,view,{AT + number}\n")
    names = ("user", "item", "type", "time") if headers == "none" else ()
    events, _ = read(f"{tmp_path}/p*.csv", columns=names)
    assert [event.user_id for event in events] == ["u0", "u1", "u2"]


def test_several_files_are_one_source_as_a_shell_writes_a_glob(tmp_path: Path) -> None:
    names = [str(written(tmp_path / f"{n}.csv", f"user,item,type,time\nu{n},i,view,{AT + n}\n")) for n in range(3)]
    source = FileSource(names)
    assert [event.user_id for event in source.events()] == ["u0", "u1", "u2"]
    assert source.report.name.endswith("0.csv and 2 more")


def test_columns_of_a_later_part_may_stand_in_another_order(tmp_path: Path) -> None:
    written(tmp_path / "1.csv", f"user,item,type,time\nu1,i,view,{AT}\n")
    written(tmp_path / "2.csv", f"time,type,extra,item,user\n{AT},view,x,i,u2\n")
    assert [event.user_id for event in read(tmp_path)[0]] == ["u1", "u2"]


def test_files_of_several_tables_in_one_folder_are_refused(tmp_path: Path) -> None:
    part(tmp_path / "events.parquet", "u")
    pq.write_table(pa.table({"item_id": ["i"], "title": ["Alien"]}), tmp_path / "items.parquet")
    with pytest.raises(SourceError, match=r"items\.parquet is no part of the same table .* no column user_id.*glob"):
        read(tmp_path)


@pytest.mark.parametrize(("mark", "kind"), [("_delta_log/0.json", "Delta"), ("metadata/v1.metadata.json", "Iceberg")])
def test_tables_of_a_lake_are_not_read_as_folders(tmp_path: Path, mark: str, kind: str) -> None:
    part(tmp_path / "data/part-0.parquet", "u")
    written(tmp_path / mark, "{}")
    with pytest.raises(SourceError, match=f"is a {kind} table"):
        read(tmp_path)


def test_a_glob_or_folder_without_files_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="a glob in quotes"):
        read(f"{tmp_path}/*.csv")
    with pytest.raises(SourceError, match="a folder without files"):
        read(tmp_path)
