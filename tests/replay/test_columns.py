"""What columns mean: names of public formats in any case and style, columns by place, types, rows within rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from headwater import Event, SourceError
from replay import Columns, FileFormat, FileSource, RowOptions

Found = tuple[str, str, str, float | None]


def events_of(tmp_path: Path, name: str, text: str, meaning: Columns | None = None, **form: Any) -> list[Event]:
    path = tmp_path / name
    path.write_text(text)
    return list(FileSource(path, meaning, form=FileFormat(**form) if form else None).events())


def first(events: list[Event]) -> Found:
    return events[0].user_id, events[0].item_id, events[0].type, events[0].value


PURCHASE, VIEW = Columns(type="=purchase"), Columns(type="=view")


@pytest.mark.parametrize(
    ("name", "header", "row", "columns", "expected"),
    [
        ("Personalize", "USER_ID,ITEM_ID,TIMESTAMP,EVENT_TYPE,EVENT_VALUE", "7,31,1433221332,Watch,0.5", None,
         ("7", "31", "watch", 0.5)),
        ("gorse", "FeedbackType,UserId,ItemId,Timestamp", "star,ann,repo/a,2024-01-01 00:00:00 +0000 UTC", None,
         ("ann", "repo/a", "star", None)),
        ("RecBole", "user_id:token\titem_id:token\trating:float\ttimestamp:float", "1\t2\t3.5\t1433221332.0", None,
         ("1", "2", "rating", 3.5)),
        ("Retailrocket", "timestamp,visitorid,event,itemid,transactionid", "1433221332117,257597,view,355908,", None,
         ("257597", "355908", "view", None)),
        ("REES46", "event_time,event_type,product_id,category_id,price,user_id,user_session",
         "2019-11-01 00:00:00 UTC,view,100,205,489.07,520,4d3b", None, ("520", "100", "view", 489.07)),
        ("H&M", "t_dat,customer_id,article_id,price,sales_channel_id", "2018-09-20,00ab,0663713001,0.05,2", PURCHASE,
         ("00ab", "0663713001", "purchase", 0.05)),
        ("Yelp", "review_id,user_id,business_id,stars,date", "r1,u1,b1,4.0,2018-07-07 22:09:11", None,
         ("u1", "b1", "rating", 4.0)),
        ("Amazon 2014", "reviewerID,asin,overall,unixReviewTime,reviewTime", 'A1,0001,5.0,1252800000,"09 13, 2009"',
         None,
         ("A1", "0001", "rating", 5.0)),
        ("Amazon 2023", "user_id,parent_asin,rating,timestamp", "A1,B1,2.0,1588687728923", None,
         ("A1", "B1", "rating", 2.0)),
        ("MovieLens", "userId,movieId,rating,timestamp", "1,307,3.5,1256677221", None, ("1", "307", "rating", 3.5)),
        ("Tianchi", "user_id,item_id,behavior_type,item_category,time", "9,23,4,4245,2014-12-06 02",
         Columns(types={"1": "view", "4": "purchase"}), ("9", "23", "purchase", None)),
        ("Trivago", "user_id,session_id,timestamp,action_type,reference,impressions",
         "U,s,1541037460,clickout item,99,1|2", None, ("U", "99", "clickout_item", None)),
        ("KuaiRand", "user_id,video_id,date,hourmin,time_ms,is_click", "0,7130,20220421,700,1650495611043,1", VIEW,
         ("0", "7130", "view", None)),
        ("Snowplow", "derived_tstamp,event_name,domain_userid,product_id", "2024-01-01 10:00:00,add to cart,d1,p1",
         None,
         ("d1", "p1", "add_to_cart", None)),
        ("titles for people", "User ID,Item ID,Event Type,Event Time", "u,i,Page View,2024-01-01T00:00:00Z", None,
         ("u", "i", "page_view", None)),
        ("pandas' index", ",user_id,item_id,type,ts", "0,u,i,view,1433221332", None, ("u", "i", "view", None)),
        ("only sessions", "SessionId,Time,ItemId,Type", "11,2014-04-07T10:51:09.277Z,2145,click", None,
         ("11", "2145", "click", None)),
        ("the only other id", "user,podcast_guid_id,category_id,ts,type", "u,p,7,1433221332,play", None,
         ("u", "p", "play", None)),
    ],
)  # fmt: skip
def test_columns_of_public_formats_are_known(
    tmp_path: Path, name: str, header: str, row: str, columns: Columns | None, expected: Found
) -> None:
    assert first(events_of(tmp_path, "file.csv", f"{header}\n{row}\n", columns)[-1:]) == expected, name


def test_a_column_that_was_named_comes_before_all_guesses(tmp_path: Path) -> None:
    text = "user_id,uid,item_id,type,ts\nu,other,i,view,1433221332\n"
    assert first(events_of(tmp_path, "a.csv", text, Columns(user="UID")))[0] == "other"
    assert first(events_of(tmp_path, "a.csv", text, Columns(user="2")))[0] == "other"


def test_an_empty_column_does_not_count_for_its_name(tmp_path: Path) -> None:
    text = "user_id,user_pseudo_id,item_id,event_name,event_timestamp\n,p1,i,view,1704067200000000\n"
    assert first(events_of(tmp_path, "a.csv", text))[0] == "p1"


def test_a_column_that_repeats_is_no_id_of_events(tmp_path: Path) -> None:
    text = "user,item,event_id,type,ts\n" + "".join(f"u,i{n},{n % 2},view,{1_433_221_332 + n}\n" for n in range(20))
    assert len({event.event_id for event in events_of(tmp_path, "a.csv", text)}) == 20


DATA = "3,77,9,pv,1511544070\n3,78,9,buy,1511561733\n"


def test_a_file_without_a_header_says_so_and_loses_no_row(tmp_path: Path) -> None:
    text = DATA.replace("pv", "seen")
    with pytest.raises(
        SourceError, match=r"has no header: its first line is data \(3, 77, 9, seen.*--columns user,item,_,type,time"
    ):
        events_of(tmp_path, "a.csv", text)
    with pytest.raises(SourceError, match="has no header"):
        events_of(tmp_path, "a.csv", text, Columns(user="3", item="77", type="seen", time="1511544070"))
    by_place = Columns(user="1", item="2", type="4", time="5")
    named = {"columns": ("user", "item", "_", "type", "time")}
    for events in (events_of(tmp_path, "a.csv", text, by_place), events_of(tmp_path, "a.csv", text, **named)):
        assert [(one.item_id, one.type) for one in events] == [("77", "seen"), ("78", "buy")]


def test_names_by_place_replace_those_of_a_header(tmp_path: Path) -> None:
    text = "a1,a2,a3,a4\nu,i,view,1433221332\n"
    assert first(events_of(tmp_path, "a.csv", text, columns=("user", "item", "type", "time"))) == (
        "u",
        "i",
        "view",
        None,
    )
    with pytest.raises(SourceError, match=r"--columns names 2 columns, .* has 4"):
        events_of(tmp_path, "a.csv", text, columns=("user", "item"))


def test_whether_there_is_a_header_can_be_said(tmp_path: Path) -> None:
    text = "user,item,view,2024-01-01\nu,i,view,2024-01-02\n"
    names = ("user", "item", "type", "time")
    assert len(events_of(tmp_path, "a.csv", text, header=False, columns=names)) == 2
    years = "user,item,type,2023,ts\nu,i,view,5,1433221332\n"
    assert len(events_of(tmp_path, "b.csv", years, header=True)) == 1


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("UserBehavior.csv", DATA, ("3", "77", "pv", None)),
        ("ratings.dat", "1::1193::5::978300760\n1::661::3::978302109\n", ("1", "1193", "rating", 5.0)),
        (
            "clicks.dat",
            "1,2014-04-07T10:51:09.277Z,2145,0\n2,2014-04-07T10:54:09.868Z,2146,S\n",
            ("1", "2145", "click", None),
        ),
    ],
)
def test_public_sets_without_a_header_are_known(tmp_path: Path, name: str, text: str, expected: Found) -> None:
    path = tmp_path / name
    path.write_text(text)
    source = FileSource(path)
    assert first(list(source.events())) == expected
    assert "no header: columns by place, as in" in source.report.reading_text


def test_types_that_are_numbers_have_to_be_named(tmp_path: Path) -> None:
    text = "user,item,behavior_type,ts\nu,a,0,1433221332\nu,b,1,1433221333\nu,c,2,1433221334\n"
    with pytest.raises(SourceError, match=r"column behavior_type has 0, 1, 2 .*--types 0=view,1=\w+"):
        events_of(tmp_path, "a.csv", text)
    columns = Columns(types={"0": "view", "1": "cart", "2": ""})
    assert [event.type for event in events_of(tmp_path, "a.csv", text, columns)] == ["view", "cart"]
    with pytest.raises(SourceError, match=r"no row can become an event.*3 type"):
        events_of(tmp_path, "a.csv", text, Columns(types={"9": "view"}))


def test_any_text_is_a_type_and_what_was_made_of_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    words = ["Added to Wishlist", "ÜBERSPRUNGEN", "$screen", "x" * 80, "2nd view", "view"]
    rows = [{"user": "u", "item": "i", "type": word, "ts": 1_433_221_332 + n} for n, word in enumerate(words)]
    path.write_text("\n".join(map(json.dumps, rows)))
    source = FileSource(path)
    made = ["wishlist", "ubersprungen", "screen", "x" * 64, "type_2nd_view", "view"]
    assert [event.type for event in source.events()] == made
    assert source.report.made_types == dict(zip(words[:5], made, strict=False))
    assert "'Added to Wishlist' is wishlist" in source.report.reading_text


def test_a_file_without_times_is_read_in_its_order(tmp_path: Path) -> None:
    text = "userID\tartistID\tplays\n2\t51\t13883\n2\t52\t11690\n3\t51\t7\n"
    with pytest.raises(SourceError, match=r"a file without times is read in its own order with --no-time"):
        events_of(tmp_path, "a.tsv", text, Columns(type="=listen"))
    events = events_of(tmp_path, "a.tsv", text, Columns(type="=listen", value="plays", timed=False))
    assert [(one.item_id, one.value) for one in events] == [("51", 13883.0), ("52", 11690.0), ("51", 7.0)]
    assert [one.event_time - events[0].event_time for one in events] == [0, 1000, 2000]
    again = events_of(tmp_path, "a.tsv", text, Columns(type="=listen", value="plays", timed=False))
    assert events == again


CLICK = {"aid": 1, "ts": 1_661_724_000_278, "type": "clicks"}
CART = {"aid": 2, "ts": 1_661_724_001_000, "type": "carts"}
SESSIONS = [{"session": 7, "events": [CLICK, CART]}, {"session": 8, "events": []}]


def test_rows_within_rows_are_taken_out_when_asked_for(tmp_path: Path) -> None:
    text = "\n".join(map(json.dumps, SESSIONS))
    with pytest.raises(SourceError, match="--explode events"):
        events_of(tmp_path, "a.jsonl", text)
    events = events_of(tmp_path, "a.jsonl", text, explode="events")
    assert [(one.user_id, one.item_id, one.type) for one in events] == [("7", "1", "clicks"), ("7", "2", "carts")]
    with pytest.raises(SourceError, match=r"no list 'event' to explode: lists are in events"):
        events_of(tmp_path, "a.jsonl", text, explode="event")


def test_a_row_with_an_empty_list_is_counted_as_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, SESSIONS)))
    source = FileSource(path, form=FileFormat(explode="events"))
    assert len(list(source.events())) == 2
    assert dict(source.report.left_out) == {"without events": 1}


def test_impressions_of_a_list_are_clicks_or_not(tmp_path: Path) -> None:
    text = "1\tU1\t2019-11-11 09:05:58\tN1 N2\tN55-1 N35-0\n2\tU2\t2019-11-12 18:11:30\tN3\tN20-0 N39-1\n"
    form = {"columns": ("id", "user", "time", "history", "shown"), "explode": "shown"}
    events = events_of(tmp_path, "behaviors.tsv", text, Columns(item="shown"), **form)
    assert [(one.user_id, one.item_id, one.type) for one in events] == [
        ("U1", "N55", "click"), ("U1", "N35", "impression"), ("U2", "N20", "impression"), ("U2", "N39", "click"),
    ]  # fmt: skip


def test_what_is_inside_an_object_is_found_by_its_name(tmp_path: Path) -> None:
    track = {
        "type": "track", "event": "Product Added", "userId": "u1", "anonymousId": "a", "messageId": "m1",
        "timestamp": "2024-01-01T00:00:00.000Z", "properties": {"product_id": "p1", "price": 18.99},
    }  # fmt: skip
    events = events_of(tmp_path, "a.jsonl", json.dumps(track))
    assert (first(events), events[0].event_id) == (("u1", "p1", "add_to_cart", 18.99), "m1")
    row = {"visitor": {"key": "v"}, "page": {"sku": "s"}, "at": 1_433_221_332, "action": "view"}
    named = Columns(user="visitor.key", time="at")
    assert first(events_of(tmp_path, "b.jsonl", json.dumps(row), named))[:2] == ("v", "s")


def test_a_day_and_a_clock_in_two_columns_are_one_time(tmp_path: Path) -> None:
    text = "date,time,user,item,event\n2024-01-05,10:15,u,i,view\n2024-01-05,10:16:30,u,j,view\n,10:17,u,k,view\n"
    path = tmp_path / "a.csv"
    path.write_text(text)
    source = FileSource(path)
    assert [str(event.happened_at) for event in source.events()] == [
        "2024-01-05 10:15:00+00:00",
        "2024-01-05 10:16:30+00:00",
    ]
    assert (source.report.time_column, dict(source.report.bad)) == ("date+time", {"no_time": 1})
    named = "on,at,user,item,event\n2024-01-05,10:15,u,i,view\n"
    assert str(events_of(tmp_path, "b.csv", named, Columns(time="on+at"))[0].happened_at) == "2024-01-05 10:15:00+00:00"


def test_of_a_day_and_a_finer_time_the_finer_is_taken(tmp_path: Path) -> None:
    text = "user,item,event,date,created_at\nu,i,view,2024-01-05,2024-01-05 10:15:00\n"
    assert str(events_of(tmp_path, "a.csv", text)[0].happened_at) == "2024-01-05 10:15:00+00:00"


def test_a_mapping_of_types_counts_without_case_and_tells_what_no_row_has(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("user,item,event,ts\nu,i,PV,1433221332\n")
    source = FileSource(path, Columns(types={"pv": "view", "byu": "purchase"}))
    assert [event.type for event in source.events()] == ["view"]
    assert "--types names byu, which no row has" in source.report.reading_text


def test_anonymous_rows_take_their_user_from_another_column_when_told(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("user_id,session_id,item,type,ts\nann,s1,i,view,1433221332\n,s2,j,view,1433221333\n")
    source = FileSource(path)
    assert [event.user_id for event in source.events()] == ["ann"]
    assert "--user user_id,session_id takes session_id there" in source.report.reading_text
    source = FileSource(path, Columns(user="user_id,session_id"))
    assert [event.user_id for event in source.events()] == ["ann", "s2"]


def test_rows_of_one_line_have_ids_of_their_own_by_path_too(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, SESSIONS)))
    source = FileSource(path, form=FileFormat(explode="events"), options=RowOptions(ids_of="path"))
    assert len({event.event_id for event in source.events()}) == 2
