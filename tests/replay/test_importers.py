"""Exports of gorse and metarank become events and catalogue items; every bad row is counted under its reason."""

from __future__ import annotations

import gzip
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from headwater import Item, SourceError
from headwater.settings import Settings
from headwater.signals import Signal
from replay import Columns, Gorse, Metarank, open_source, stream
from replay.sources import tables_of
from tests.worlds.topic_reading import everything, rows

AT_MS = 1_577_840_461_000  # 2020-01-01 01:01:01 UTC


def gorse_csv(folder: Path) -> Path:
    """As gorse 0.4 writes it, Windows line ends and Go's times included; three bad rows."""
    (folder / "feedback.csv").write_text(
        "feedback_type,user_id,item_id,time_stamp\r\n"
        "star,ann,repo/b,2020-01-01 01:01:02.000000001 +0000 UTC\r\n"
        "read,ann,repo/a,2020-01-01 03:01:01 +0200 EET\r\n"
        "read,bob,repo/a,0001-01-01 00:00:00 +0000 UTC\r\n"
        "read,,repo/a,2020-01-01 01:01:01 +0000 UTC\r\n"
        "read,bob,repo/a\r\n"
    )
    (folder / "items.csv").write_text(
        "item_id,is_hidden,categories,time_stamp,labels,description\r\n"
        'repo/a,false,x|y,2020-01-01 01:01:01 +0000 UTC,"{""topics"":[""go"",""ml""]}","o,n,e"\r\n'
        "repo/b,true,,0001-01-01 00:00:00 +0000 UTC,a|b,\r\n"
        "repo/c,false\r\n"
    )
    return folder


def gorse_json(folder: Path) -> Path:
    """The same as gorse 0.5 writes it."""
    feedback: list[dict[str, Any]] = [
        {"FeedbackType": "star", "UserId": "ann", "ItemId": "repo/b", "Value": 3, "Timestamp": "2020-01-01T01:01:02Z"},
        {"FeedbackType": "read", "UserId": "ann", "ItemId": "repo/a", "Value": 0, "Timestamp": "2020-01-01T01:01:01Z"},
        {"FeedbackType": "read", "UserId": "bob", "ItemId": "repo/a", "Value": 0, "Timestamp": "0001-01-01T00:00:00Z"},
        {"FeedbackType": "read", "UserId": "", "ItemId": "repo/a", "Timestamp": "2020-01-01T01:01:01Z"},
    ]
    items: list[dict[str, Any]] = [
        {"ItemId": "repo/a", "IsHidden": False, "Categories": ["x", "y"], "Timestamp": "2020-01-01T01:01:01Z",
         "Labels": {"topics": ["go", "ml"]}, "Comment": "o,n,e"},
        {"ItemId": "repo/b", "IsHidden": True, "Categories": None, "Timestamp": "0001-01-01T00:00:00Z",
         "Labels": ["a", "b"], "Comment": ""},
    ]  # fmt: skip
    for name, found in (("feedback", feedback), ("items", items)):
        lines = [json.dumps(one) for one in found]
        (folder / f"{name}.jsonl").write_text("\n".join([*lines, "not JSON"]) + "\n")
    return folder


ITEMS = [
    Item(
        item_id="repo/a", categories=("x", "y"), published_time=AT_MS, text="o,n,e",
        attributes={"topics": ["go", "ml"]},
    ),
    Item(item_id="repo/b", available=False, attributes={"labels": ["a", "b"]}),
]  # fmt: skip


@pytest.mark.parametrize(("make", "value"), [(gorse_csv, None), (gorse_json, 3.0)])
def test_gorse_feedback_becomes_events_and_its_items_the_catalogue(tmp_path: Path, make: Any, value: Any) -> None:
    source = open_source(make(tmp_path))
    assert isinstance(source, Gorse)
    events = [(e.user_id, e.item_id, e.type, e.event_time, e.value) for e in source.events()]
    assert events == [("ann", "repo/a", "read", AT_MS, None), ("ann", "repo/b", "star", AT_MS + 1000, value)]
    last = {"columns": 1} if make is gorse_csv else {"undecodable": 1}
    assert dict(source.report.bad) == {"no_time": 1, "no_user": 1, **last}
    assert source.report.rows == source.report.events + source.report.bad.total()
    assert source.items() == ITEMS
    assert dict(source.item_report.bad) == last


def test_gorse_is_known_by_its_file_too_and_says_what_it_lacks(tmp_path: Path) -> None:
    assert isinstance(open_source(gorse_csv(tmp_path) / "feedback.csv"), Gorse)
    (tmp_path / "other.csv").write_text("user,item,time,type\n1,2,3,view\n")
    assert not isinstance(open_source(tmp_path / "other.csv"), Gorse)
    with pytest.raises(SourceError, match="lacks columns of gorse's export"):
        list(open_source(f"gorse:{tmp_path / 'other.csv'}").events())
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=r"give gorse's feedback\.csv"):
        open_source(f"gorse:{tmp_path / 'empty'}")


def metarank_rows() -> list[Any]:
    def item(at: int, item_id: str, **fields: Any) -> dict[str, Any]:
        named = [{"name": name, "value": value} for name, value in fields.items()]
        return {"event": "item", "id": f"m{at}", "timestamp": str(AT_MS + at), "item": item_id, "fields": named}

    def click(at: int, item_id: str, **more: Any) -> dict[str, Any]:
        body = {"event": "interaction", "id": f"c{at}", "timestamp": str(AT_MS + at), "item": item_id, "type": "click"}
        return {**body, **more}

    shown = [{"id": "b", "relevancy": 2.0}, {"id": "a", "relevancy": 1.0}]
    ranking = {"event": "ranking", "id": "r1", "timestamp": AT_MS + 10, "user": "ann", "session": "s1", "items": shown}
    return [
        item(0, "a", title="Toy Story", genres=["animation"], runtime=92.0),
        item(1, "b", name="Heat", available=False),
        {"event": "user", "id": "u1", "timestamp": str(AT_MS), "user": "ann", "fields": []},
        ranking,
        click(30, "a", user="ann", session="s1", ranking="r1", fields=[{"name": "count", "value": 1}]),
        {**click(20, "b", session="s2"), "timestamp": "2020-01-01T01:01:01.020Z"},
        item(40, "a", runtime=93.0, tags=["pixar"]),
        click(50, "a"),
        {"event": "purchase", "id": "x", "timestamp": str(AT_MS)},
        item(60, "c", title=7),
    ]


def metarank_file(tmp_path: Path) -> Path:
    path = tmp_path / "events.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in metarank_rows()).encode()))
    return path


def test_metarank_interactions_become_events_and_items_the_catalogue(tmp_path: Path) -> None:
    source = open_source(metarank_file(tmp_path))
    assert isinstance(source, Metarank)
    assert [event.model_dump(exclude_none=True) for event in source.events()] == [
        {"event_id": "r1:shown", "user_id": "ann", "item_id": "b", "items": ("b", "a"), "type": "impression",
         "event_time": AT_MS + 10, "session_id": "s1", "request_id": "r1"},
        {"event_id": "c20", "user_id": "s2", "item_id": "b", "type": "click", "event_time": AT_MS + 20,
         "session_id": "s2"},
        {"event_id": "c30", "user_id": "ann", "item_id": "a", "type": "click", "event_time": AT_MS + 30,
         "session_id": "s1", "request_id": "r1"},
    ]  # fmt: skip
    report = source.report
    assert (dict(report.bad), dict(report.left_out)) == (
        {"no_user": 1, "event": 1},
        {"item": 4, "user": 1},
    )
    assert report.rows == report.events + report.bad.total() + report.left_out.total() == len(metarank_rows())
    assert source.items() == [
        Item(
            item_id="a", title="Toy Story", categories=("animation",), attributes={"runtime": 93.0, "tags": ["pixar"]}
        ),
        Item(item_id="b", title="Heat", available=False),
    ]
    assert dict(source.item_report.bad) == {"title": 1}


def test_lists_that_were_shown_are_left_out_when_not_wanted_and_words_mean_what_a_person_says(tmp_path: Path) -> None:
    named = Columns(types={"click": "open"})
    source = open_source(f"metarank:{metarank_file(tmp_path)}", named, impressions=False)
    assert [event.type for event in source.events()] == ["open", "open"]
    assert source.report.left_out["impression"] == 1


def test_a_ranking_without_items_is_refused(tmp_path: Path) -> None:
    (_, _, _, ranking, *_) = metarank_rows()
    path = tmp_path / "events.jsonl"
    lists: list[Any] = [[], {}, ["a"], None, [{"id": None}], [{"id": "a"}]]
    path.write_text(
        "".join(json.dumps(ranking | {"items": items, "id": f"{n}"}) + "\n" for n, items in enumerate(lists))
    )
    source = Metarank(path)
    assert [event.items for event in source.events()] == [("a",)]
    assert source.report.bad == {"items": 4, "no_item": 1}


GORSE_CONFIG = """
[recommend.data_source]
positive_feedback_types = ["star", "like", "read>=3", "rating > 3.5"]
negative_feedback_types = ["dislike", "rating<=2", "watch<5"]
read_feedback_types = ["read", "Seen It"]
"""


def test_what_gorse_is_configured_to_mean_is_told_as_signals(tmp_path: Path) -> None:
    folder = gorse_csv(tmp_path)
    (folder / "config.toml").write_text(GORSE_CONFIG)
    source = open_source(folder)
    list(source.events())
    told = tomllib.loads(tables_of(source.report.signals))["signals"]
    assert told == {
        "star": {"means": "positive"}, "like": {"means": "positive"}, "read": {"positive": ">= 3"},
        "rating": {"positive": "> 3.5", "negative": "<= 2"}, "dislike": {"means": "negative"},
        "watch": {"negative": "< 5"}, "seen_it": {"means": "exposure"},
    }  # fmt: skip
    assert all(Signal.model_validate(one) for one in told.values())
    read = {"FeedbackType": "Seen It", "UserId": "u", "ItemId": "i", "Value": 2, "Timestamp": "2020-01-01T01:01:02Z"}
    (folder / "feedback.jsonl").write_text(json.dumps(read))
    (shown,) = open_source(folder / "feedback.jsonl").events()
    assert (shown.type, shown.value) == ("seen_it", None), "how often it was read is no place in a list"
    (folder / "config.toml").write_text(GORSE_CONFIG.replace('"star"', '">= 4"'))
    with pytest.raises(SourceError, match="is no type of feedback"):
        open_source(folder)


def test_an_import_streams_into_a_world_with_its_catalogue_first(settings: Settings, tmp_path: Path) -> None:
    report = stream(open_source(metarank_file(tmp_path)), settings, catalogue=True)
    assert (report.items, report.events) == (2, 3)
    found = {row.event_id: row.items for row in rows(everything(settings.kafka, "events"))}
    assert found == {"r1:shown": ("b", "a"), "c20": (), "c30": ()}
    assert sorted(record.key for record in everything(settings.kafka, "items")) == [b"a", b"b"]


def test_hostile_lines_of_metarank_are_counted_and_nothing_falls_over(tmp_path: Path) -> None:
    good = {"event": "interaction", "id": "1", "timestamp": AT_MS, "item": "a", "user": "ann", "type": "click"}
    lines: list[Any] = [
        good,
        {"event": ["interaction"]},
        good | {"id": "2", "user": {"a": 1}},
        good | {"id": ["3"]},
        good | {"id": "4", "session": {"a": 1}},
        good | {"id": "5", "timestamp": ["soon"]},
        {"event": "item", "id": "6", "timestamp": 1, "item": "a", "fields": {"a": 1}},
    ]
    path = tmp_path / "events.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    source = Metarank(path)
    assert len(list(source.events())) == 1
    assert source.report.bad == {"event": 1, "user": 1, "event_id": 1, "session": 1, "time": 1}
    assert source.items() == []
    assert source.item_report.bad == {"fields": 1}
    path.write_text('{"event": ["item"], "id": "1", "timestamp": 1}\n')
    assert not Metarank.is_here(path)


def test_events_as_they_are_on_the_wire_are_read_from_a_file_lists_included(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = [
        {"user_id": "u", "type": "impression", "items": ["a", "b", "c"], "request_id": "r1", "event_time": AT_MS},
        {"user_id": "u", "type": "like", "item_id": "b", "request_id": "r1", "event_time": AT_MS + 1000},
        {"user_id": "u", "type": "unlike", "item_id": "b", "event_time": AT_MS + 2000},
    ]
    path = tmp_path / "events.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in told))
    found = list(open_source(str(path)).events())
    assert [(one.type, one.item_id, one.items, one.request_id) for one in found] == [
        ("impression", "a", ("a", "b", "c"), "r1"),
        ("like", "b", None, "r1"),
        ("unlike", "b", None, None),
    ]
