"""Ids of users, items and rows: what stands for none, which forms are one id, and when two rows are one event."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater import Event, SourceError
from replay import FileSource
from replay.sources import RowOptions, SourceReport, catalogue_from
from replay.sources.ids import choose_ids, is_missing
from replay.sources.raw import BadRow, RawRow
from replay.sources.source import events_of

AT_S = 1_700_000_000
MISSING = [
    None,
    "",
    "  ",
    "\t",
    "nan",
    "NaN",
    "None",
    "NULL",
    "null",
    "\\N",
    "<NA>",
    float("nan"),
    b"",
    b"NULL",
    "\xa0",
]


def events(rows: list[RawRow | BadRow], *, sort: bool = True, **options: Any) -> tuple[list[Event], SourceReport]:
    report = SourceReport("source")
    return list(events_of(iter(rows), report, sort=sort, options=RowOptions(**options))), report


@pytest.mark.parametrize("word", MISSING, ids=repr)
def test_what_stands_for_none_is_no_user_no_item_no_type_no_value_and_no_session(word: Any) -> None:
    good = RawRow(0, "ann", "film", AT_S, "view", 3, None, "visit", "asked")
    lacking = [good._replace(**{field: word}) for field in ("user", "item", "type", "time")]
    found, report = events([good, *lacking, good._replace(value=word, session=word, request=word)])
    assert report.bad == {"no_user": 1, "no_item": 1, "no_type": 1, "no_time": 1}
    assert [(one.value, one.session_id, one.request_id) for one in found] == [(3, "visit", "asked"), (None, None, None)]


def test_words_for_none_can_be_kept_as_ids_and_the_refusal_says_how() -> None:
    row = RawRow(0, "Null", "nan", AT_S, "none")
    with pytest.raises(SourceError, match=r"'Null' stands for none.*--keep-missing-words"):
        events([row._replace(type="view")])
    ((kept,), _) = events([row], keep_missing_words=True)
    assert (kept.user_id, kept.item_id, kept.type) == ("Null", "nan", "none")
    with pytest.raises(SourceError, match="1 no_user"):
        events([row._replace(user=" ")], keep_missing_words=True)


def ids(values: list[Any]) -> list[str | None]:
    column = choose_ids(values, "user")
    found: list[str | None] = []
    for value in values:
        try:
            found.append(column.read(value))
        except BadRow as error:
            found.append(None if error.reason.startswith("no_") else f"refused {error.reason}")
    return found


@pytest.mark.parametrize(
    ("values", "read"),
    [
        (["123.0", "123", "007", "7", "nan"], ["123", "123", "007", "7", None]),
        ([123.0, 123, "123", Decimal("123.00")], ["123"] * 4),
        (["0663713001", "541518023"], ["0663713001", "541518023"]),
        (["1.0", "1", "v2"], ["1.0", "1", "v2"]),
        (["1.0", "1.5", "2.0"], ["1.0", "1.5", "2.0"]),
        (["-5.0", "+5", "5."], ["-5", "+5", "5"]),
        ([b"u2", "u2", b"\xc3\xa4"], ["u2", "u2", "ä"]),
        ([b"\xff\xfe", "u"], ["refused user", "u"]),
        ([b"\x05\x00\x00\x00", b"u"], ["refused user", "u"]),
        (["b'u2'", 'b"u3"', ""], ["u2", "u3", None]),
        (["b'u2'", "u3"], ["b'u2'", "u3"]),
        (["1.23457E+12", "1234567890123", "5"], ["refused user", "1234567890123", "5"]),
        ([1e22, 2.0**53, 2.0**53 - 1], ["refused user", "refused user", "9007199254740991"]),
        ([True, ["a"], {"a": 1}], ["refused user"] * 3),
        (["5e3", "7e9x"], ["5e3", "7e9x"]),
        ([" ann ", "ann"], ["ann", "ann"]),
    ],
    ids=repr,
)
def test_forms_of_one_id_are_one_and_others_are_kept_as_the_whole_column_says(values: Any, read: Any) -> None:
    assert ids(values) == read


@settings(max_examples=40)
@given(st.lists(st.integers(0, 2**60), min_size=1), st.randoms())
def test_a_column_of_numbers_gives_the_same_ids_whatever_made_floats_of_it(
    numbers: list[int], chance: random.Random
) -> None:
    plain = [str(number) for number in numbers]
    assert ids([chance.choice((text, f"{text}.0", f" {text} ")) for text in plain]) == plain


@settings(max_examples=40)
@given(st.one_of(st.text(), st.binary(), st.floats(), st.integers(), st.none()))
def test_an_id_is_never_empty_a_word_for_none_or_a_picture_of_bytes(value: Any) -> None:
    (read,) = ids([value])
    if read is not None and not read.startswith("refused"):
        assert not is_missing(read)
        assert read == read.strip()
        assert isinstance(value, str) or not read.startswith("b'")


def test_what_google_analytics_writes_for_no_item_is_none() -> None:
    assert is_missing("(not set)")


def test_binary_columns_of_parquet_are_text(tmp_path: Path) -> None:
    table = {"user": [b"u2", b"NULL"], "item": [b"film", b"film"], "time": [AT_S] * 2, "type": [b"view"] * 2}
    pq.write_table(pa.table(table), tmp_path / "log.parquet")
    source = FileSource(tmp_path / "log.parquet")
    assert [(one.user_id, one.item_id, one.type) for one in source.events()] == [("u2", "film", "view")]
    assert source.report.bad == {"no_user": 1}


def test_files_of_one_name_hold_different_events_and_the_same_file_the_same(tmp_path: Path) -> None:
    made = {}
    for day in ("dt=2024-01-01", "dt=2024-01-02", "a copy"):
        path = tmp_path / day / "part-00000.csv"
        path.parent.mkdir()
        item = "f2" if day.endswith("02") else "f1"
        path.write_text(
            f"user,item,time,type\nann,{item},{AT_S},view\nann,{item},{AT_S},view\nbob,{item},{AT_S},view\n"
        )
        made[day] = [event.event_id for event in FileSource(path).events()]
        assert made[day] == [event.event_id for event in FileSource(path).events()]
        assert len(set(made[day])) == 3, "equal rows of one source are events of their own"
    assert not set(made["dt=2024-01-01"]) & set(made["dt=2024-01-02"])
    assert made["dt=2024-01-01"] == made["a copy"]


rows = st.lists(
    st.builds(
        RawRow, number=st.just(0), user=st.sampled_from("ab"), item=st.sampled_from("xy"),
        time=st.sampled_from([AT_S, AT_S + 1]), type=st.just("view"), event_id=st.none(), request=st.none(),
        place=st.just(""), path=st.just(""), value=st.sampled_from([None, 1.0]),
        session=st.sampled_from([None, "s"]), shown=st.none(), guest=st.none(),
    ),
    min_size=1, max_size=30,
)  # fmt: skip


@settings(max_examples=40)
@given(rows, st.randoms())
def test_ids_are_unique_in_a_source_and_its_order_does_not_matter(made: list[RawRow], chance: random.Random) -> None:
    first, _ = events(list(made))
    chance.shuffle(made)
    for sort in (True, False):
        again, _ = events(list(made), sort=sort)
        assert sorted(one.event_id for one in again) == sorted(one.event_id for one in first)
    assert len({one.event_id for one in first}) == len(made)


def test_a_row_that_differs_in_any_field_is_another_event() -> None:
    base = RawRow(0, "ann", "film", AT_S, "view", 1.0, None, "s", "r")
    changes = {
        "user": "bob",
        "item": "book",
        "time": AT_S + 1,
        "type": "cart",
        "value": 2,
        "session": "t",
        "request": "q",
    }
    alike = [base._replace(value="1.0", time=str(AT_S), number=9)]
    found, _ = events([base, *alike, *(base._replace(**{name: other}) for name, other in changes.items())], sort=False)
    assert len({one.event_id for one in found}) == len(found)
    assert found[1].event_id == f"{found[0].event_id}-2", "the same content, however it is written"


def test_ids_of_the_path_are_of_the_whole_path_and_the_row() -> None:
    row = RawRow(7, "ann", "film", AT_S, "view", path="/data/dt=1/part-0.csv")
    paths = ["/data/dt=1/part-0.csv", "/data/dt=2/part-0.csv", "/data" + "/deep" * 100 + "/part-0.csv"]
    found, _ = events([row._replace(path=path) for path in paths], ids_of="path")
    assert [one.event_id for one in found[:2]] == ["/data/dt=1/part-0.csv-7", "/data/dt=2/part-0.csv-7"]
    assert found[2].event_id.endswith("/deep/part-0.csv-7")


def test_an_id_of_the_row_itself_is_kept(tmp_path: Path) -> None:
    row = {"user": "u", "item": "i", "time": AT_S, "type": "view", "event_id": "mine"}
    (tmp_path / "log.jsonl").write_text("\n".join(json.dumps(one) for one in (row, {**row, "event_id": "null"})))
    first, second = FileSource(tmp_path / "log.jsonl").events()
    assert first.event_id == "mine"
    assert second.event_id not in ("null", "None")


def test_an_item_of_a_catalogue_has_the_id_of_its_events_and_may_be_of_any_age(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(
        "item_id,title,published_time\n1.0,a,1942-11-26\n7,b,2030-01-01\n007,c,1985-01-05\nNULL,d,2001-01-01\n8,e,\n"
    )
    items = catalogue_from(tmp_path / "items.csv", most_bad=0.5)
    assert [(item.item_id, item.published_time) for item in items] == [
        ("1", 0), ("7", 1_893_456_000_000), ("007", 473_731_200_000), ("8", None),
    ]  # fmt: skip
