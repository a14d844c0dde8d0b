"""Files of other systems, as their documentation writes them, become events; all else in them is counted by reason."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from headwater import Event, SourceError
from headwater.foreign_types import OURS
from headwater.settings import Settings
from headwater.signals import Meaning, Signals
from replay import Columns, FileSource, KnownFile, open_source
from replay.sources import columns_named, kinds_named
from replay.sources.formats.snowplow import NAMES

AT_MS = 1_704_103_200_000  # 2024-01-01 10:00:00 UTC
Told = tuple[Any, ...]


def lines(path: Path, records: Iterable[Any]) -> Path:
    path.write_text("".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in records))
    return path


def told(events: Iterable[Event]) -> list[Told]:
    """Who, what, which items, with which value."""
    return [(one.user_id, one.type, *(one.items or [one.item_id]), one.value) for one in events]


def after(one: Event) -> int:
    return one.event_time - AT_MS


def iso(after_s: float = 0) -> str:
    return f"2024-01-01T10:00:{after_s:06.3f}Z"


# Segment and RudderStack


def call(number: int, event: str | None, properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    body = {
        "anonymousId": "a1", "context": {"library": {"name": "js"}}, "event": event, "messageId": f"m{number}",
        "properties": properties, "receivedAt": iso(59), "sentAt": iso(58), "timestamp": iso(number), "type": "track",
        "userId": None,
    }  # fmt: skip
    return body | more


PRODUCTS = [
    {"product_id": "p2", "sku": "G-2", "name": "Uno", "price": 3, "quantity": 2, "position": 2},
    {"product_id": "p1", "sku": "G-1", "name": "Monopoly", "price": 19.5, "position": 1},
]
CALLS = [
    call(1, None, {"path": "/games"}, type="page"),
    call(2, "Product List Viewed", {"list_id": "hot", "products": PRODUCTS}),
    call(3, "Product Clicked", PRODUCTS[0] | {"category": "Games"}),
    call(4, "Products Searched", {"query": "uno"}),
    call(5, "Product Added", PRODUCTS[0] | {"cart_id": "c"}, context={"sessionId": 1662393792150}),
    call(6, None, {}, type="identify", userId="ann", traits={"email": "x"}),
    call(7, "Order Completed", {"order_id": "o1", "revenue": 25.5, "products": PRODUCTS}, userId="ann"),
    call(8, "Order Completed", {"order_id": "o2", "products": [{"product_id": "p9"}, {"name": "?"}]}, userId="ann"),
    call(9, "Order Refunded", {"order_id": "o1"}, userId="ann"),
    call(10, "Product Reviewed", {"product_id": "p1", "rating": 2, "price": 19.5}, userId="ann", anonymousId=None),
    call(11, "Cart Viewed", {"products": PRODUCTS}, userId="ann"),
    call(12, "Signed Up", {"plan": "pro"}, userId="ann"),
    call(13, "Article Read", {"article_id": "n7", "share": 0.5}, userId="ann"),
    call(14, None, {}, type="alias", userId="bob", previousId="b0", anonymousId=None),
    {"type": "delete", "messageId": "m15", "userId": "ann", "timestamp": iso(15)},
]  # fmt: skip


def test_calls_of_segment_become_events_and_lists_that_were_shown_one_each(tmp_path: Path) -> None:
    source = open_source(lines(tmp_path / "track.jsonl", CALLS))
    assert isinstance(source, KnownFile)
    events = list(source.events())
    assert told(events) == [
        ("a1", "impression", "p1", "p2", None),
        ("a1", "click", "p2", 6.0),
        ("a1", "add_to_cart", "p2", 6.0),
        ("ann", "purchase", "p2", 6.0),
        ("ann", "purchase", "p1", 19.5),
        ("ann", "purchase", "p9", None),
        ("ann", "refund", "p2", 6.0),
        ("ann", "refund", "p1", 19.5),
        ("ann", "review", "p1", 2.0),
        ("ann", "article_read", "n7", None),
    ]
    assert [one.event_id for one in events][:6] == ["m2", "m3", "m5", "m7:0", "m7:1", "m8:0"]
    assert [after(one) for one in events][:3] == [2000, 3000, 5000]
    assert [one.session_id for one in events][:3] == [None, None, "1662393792150"]
    report = source.report
    assert dict(report.left_out) == {
        "page": 1, "Products Searched without an item": 1, "identify": 1, "alias": 1, "Cart Viewed": 1, "Signed Up": 1,
    }  # fmt: skip
    assert dict(report.bad) == {"no_item": 1, "call": 1}
    assert report.rows == report.events + report.bad.total() + report.left_out.total()
    assert report.made_types["Product Added"] == "add_to_cart"
    assert sorted(report.logins) == [("a1", "ann", AT_MS + 6000), ("b0", "bob", AT_MS + 14_000)]
    assert "2 guests logged in later" in report.reading_text


def test_rudderstack_without_a_corrected_time_and_products_that_are_only_ids_are_read_too(tmp_path: Path) -> None:
    first = call(1, "Product List Viewed", {"products": ["p1", {"id": 7}]}, originalTimestamp=iso(1), channel="web")
    del first["timestamp"]
    source = open_source(lines(tmp_path / "rudder.jsonl", [first]))
    (shown,) = source.events()
    assert (shown.items, after(shown)) == (("p1", "7"), 1000)


def test_a_batch_of_calls_is_its_calls_and_a_log_of_ones_own_is_none_of_segment(tmp_path: Path) -> None:
    batch = {"batch": CALLS[1:3], "sentAt": iso(58), "writeKey": "w"}
    assert [one.event_id for one in open_source(lines(tmp_path / "b.jsonl", [batch, batch])).events()] == [
        "m2",
        "m2",
        "m3",
        "m3",
    ]
    own = {"type": "page", "userId": 1, "itemId": 2, "timestamp": iso(1)}
    assert isinstance(open_source(lines(tmp_path / "own.jsonl", [own])), FileSource)


def test_what_a_person_names_comes_before_what_the_format_has(tmp_path: Path) -> None:
    path = lines(tmp_path / "track.jsonl", CALLS)
    given = Columns(
        **columns_named(["item=properties.sku,user=context.who,anonymousId"]), types=kinds_named(["Cart Viewed=look"])
    )
    source = open_source(path, given)
    found = told(source.events())
    assert ("a1", "impression", "G-1", "G-2", None) in found
    assert ("a1", "look", "G-2", 6.0) in found
    assert dict(source.report.bad) == {"no_item": 3, "no_user": 1, "call": 1}, "a nameless product, p9 and the article"
    named = open_source(path, Columns(item="properties.path", time="receivedAt", type="=open"))
    assert told(named.events())[:1] == [("a1", "view", "/games", None)]
    wrong = open_source(path, Columns(value="properties.cost"))
    list(wrong.events())
    assert "value was to be properties.cost, which no record has" in wrong.report.reading_text


def test_a_shared_device_is_no_user_and_a_guest_keeps_their_history(tmp_path: Path) -> None:
    viewed = {"product_id": "p1"}
    records = [
        call(1, "Product Viewed", viewed),
        call(2, "Product Viewed", viewed, userId="ann"),
        call(3, "Product Viewed", viewed, userId="bob"),
        call(4, "Product Viewed", viewed, userId="cem", anonymousId="a2"),
        call(5, "Product Viewed", viewed, userId=None, anonymousId="a2"),
        call(6, "Product Viewed", viewed, userId="dora", anonymousId="a3"),
    ]
    source = open_source(lines(tmp_path / "track.jsonl", records))
    assert [one.user_id for one in source.events()] == ["a1", "ann", "bob", "cem", "a2", "dora"]
    assert [login.guest for login in source.report.logins] == ["a2"], "a3 did nothing as a guest"
    assert "as on a shared device, and are taken for none of them: 1" in source.report.reading_text


# Google Analytics 4


def ga4(after_s: int, name: str, items: list[Any] | None = None, **more: Any) -> dict[str, Any]:
    body = {
        "event_date": "20240101", "event_timestamp": str((AT_MS + 1000 * after_s) * 1000), "event_name": name,
        "event_params": [
            {"key": "ga_session_id", "value": {"int_value": "1704103190"}},
            {"key": "page_location", "value": {"string_value": "https://shop.example/x"}},
        ],
        "user_pseudo_id": "g.1", "platform": "WEB",
    }  # fmt: skip
    return body | ({} if items is None else {"items": items}) | more


SHOES = {"item_id": "s1", "item_name": "Shoe", "price": 50.0, "quantity": "2", "item_list_index": "1"}
SOCKS = {"item_id": "s0", "item_name": "Sock", "price": 5.0, "quantity": None, "item_list_index": "0"}
SOLD = {"transaction_id": "T1", "purchase_revenue": 105.0}
ANALYTICS = [
    ga4(0, "session_start"),
    ga4(1, "page_view", []),
    ga4(2, "view_item_list", [SHOES, SOCKS]),
    ga4(3, "select_item", [SHOES]),
    ga4(4, "view_item", [SHOES | {"quantity": None}]),
    ga4(5, "add_to_cart", [SHOES]),
    ga4(6, "remove_from_cart", [SHOES]),
    ga4(7, "begin_checkout", [SOCKS], user_id="ann"),
    ga4(8, "add_payment_info", [SOCKS], user_id="ann"),
    ga4(9, "purchase", [SOCKS, SHOES | {"item_revenue": 99.0}], user_id="ann", ecommerce=SOLD),
    ga4(10, "refund", [], user_id="ann", ecommerce=SOLD),
    ga4(11, "view_item", [{"item_id": "(not set)", "item_name": "Lost"}]),
    ga4(12, "article_read", event_params=[{"key": "article_id", "value": {"string_value": "n7"}}]),
]  # fmt: skip
ANALYSED = [
    ("g.1", "impression", "s0", "s1", None),
    ("g.1", "click", "s1", 100.0),
    ("g.1", "view", "s1", 50.0),
    ("g.1", "add_to_cart", "s1", 100.0),
    ("g.1", "remove_from_cart", "s1", 100.0),
    ("ann", "begin_checkout", "s0", 5.0),
    ("ann", "purchase", "s0", 5.0),
    ("ann", "purchase", "s1", 99.0),
    ("ann", "refund", "s0", 5.0),
    ("ann", "refund", "s1", 99.0),
    ("g.1", "article_read", "n7", None),
]


@pytest.mark.parametrize("form", ["lines", "array", "parquet"])
def test_items_of_google_analytics_become_events_however_they_were_exported(tmp_path: Path, form: str) -> None:
    path = tmp_path / "events_20240101"
    if form == "lines":
        lines(path, ANALYTICS)
    elif form == "array":
        path.write_text(json.dumps(ANALYTICS, indent=1))
    else:
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        pq.write_table(
            pa.Table.from_pylist([{"user_id": None, "ecommerce": None, "items": []} | one for one in ANALYTICS]), path
        )
    source = open_source(path)
    events = list(source.events())
    assert told(events) == ANALYSED
    assert [after(one) for one in events][:3] == [2000, 3000, 4000]
    assert {one.session_id for one in events[:-1]} == {"g.1.1704103190"}
    assert len({one.event_id for one in events}) == len(events)
    assert dict(source.report.left_out) == {"session_start": 1, "page_view": 1, "add_payment_info": 1}
    assert dict(source.report.bad) == {"no_item": 1}
    assert [tuple(login) for login in source.report.logins] == [("g.1", "ann", AT_MS + 7000)]


def test_who_gave_no_consent_is_left_out_and_not_refused(tmp_path: Path) -> None:
    source = open_source(lines(tmp_path / "e.jsonl", [*ANALYTICS[:4], ANALYTICS[4] | {"user_pseudo_id": None}]))
    assert len(list(source.events())) == 2
    assert source.report.left_out["without user_pseudo_id (no consent)"] == 1
    assert not source.report.bad


def test_a_page_has_an_item_where_a_person_names_one(tmp_path: Path) -> None:
    source = open_source(lines(tmp_path / "e.jsonl", ANALYTICS[:3]), Columns(item="event_params.page_location"))
    assert told(source.events()) == [("g.1", "view", "https://shop.example/x", None)]
    assert source.report.bad == {"no_item": 1}, "products have no page"


# Snowplow


def snowplow(number: int, event: str, **fields: Any) -> str:
    known = {
        "app_id": "shop", "platform": "web", "etl_tstamp": "2024-01-01 11:00:00.000",
        "collector_tstamp": f"2024-01-01 10:00:{number:02}.500", "event": event, "event_id": f"e{number}",
        "domain_userid": "d1", "domain_sessionidx": "3", "domain_sessionid": "v9", "event_name": event,
        "derived_tstamp": f"2024-01-01 10:00:{number:02}.000", "page_title": 'An "odd" title', "page_urlpath": "/p/7",
    } | fields  # fmt: skip
    return "\t".join(
        json.dumps(value) if isinstance(value, dict) else str(value)
        for value in (known.get(name, "") for name in NAMES)
    )


def described(
    name: str, data: dict[str, Any], vendor: str = "com.snowplowanalytics.snowplow.ecommerce"
) -> dict[str, Any]:
    return {"schema": f"iglu:{vendor}/{name}/jsonschema/1-0-0", "data": data}


def shop(number: int, action: str, *entities: dict[str, Any], **fields: Any) -> str:
    inner = "iglu:com.snowplowanalytics.snowplow"
    return snowplow(
        number, "unstruct", event_name="snowplow_ecommerce_action",
        unstruct_event={"schema": f"{inner}/unstruct_event/jsonschema/1-0-0",
                        "data": described("snowplow_ecommerce_action", {"type": action})},
        contexts={"schema": f"{inner}/contexts/jsonschema/1-0-0",
                  "data": [described("web_page", {"id": "not an item"}, "com.snowplowanalytics.snowplow"), *entities]},
        **fields,
    )  # fmt: skip


def product(item: str, **more: Any) -> dict[str, Any]:
    return described("product", {"id": item, "category": "c", "currency": "EUR", "price": 10} | more)


def own(number: int, name: str, data: dict[str, Any], vendor: str = "com.acme", **fields: Any) -> str:
    schema = "iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0"
    held = {"schema": schema, "data": described(name, data, vendor)}
    return snowplow(number, "unstruct", event_name=name, unstruct_event=held, **fields)


ORDER = described("transaction", {"transaction_id": "t", "revenue": 20})
ENRICHED = [
    snowplow(0, "page_view"),
    snowplow(1, "page_ping"),
    shop(2, "list_view", product("b", position=2), product("a", position=1)),
    shop(3, "list_click", product("b", position=2)),
    shop(4, "product_view", product("b")),
    shop(5, "add_to_cart", product("b", quantity=3)),
    shop(6, "remove_from_cart", product("b", quantity=1), user_id="ann"),
    shop(7, "checkout_step", user_id="ann"),
    shop(8, "transaction", product("b"), product("c"), ORDER, user_id="ann"),
    shop(9, "refund", described("refund", {"transaction_id": "t", "refund_amount": 20}), user_id="ann"),
    snowplow(10, "struct", se_category="shop", se_action="addToBasket", se_label="z", se_property="pcs", se_value="2"),
    snowplow(11, "struct", se_category="menu", se_action="open"),
    snowplow(12, "transaction", tr_orderid="o", tr_total="7"),
    snowplow(13, "transaction_item", ti_orderid="o", ti_sku="y", ti_price="3.5", ti_quantity="2"),
    own(14, "add_to_cart", {"sku": "x", "unitPrice": 4, "quantity": 2}, "com.snowplowanalytics.snowplow"),
    own(15, "article_read", {"article_id": "n7"}),
    own(16, "link_click", {"targetUrl": "https://x", "elementId": "nav"}, true_tstamp="2024-01-01 09:00:00"),
    snowplow(17, "unstruct", event_name="link_click", unstruct_event="{"),
    "half a line",
]  # fmt: skip


def test_enriched_events_of_snowplow_become_events(tmp_path: Path) -> None:
    source = open_source(lines(tmp_path / "part-00000", ENRICHED))
    events = list(source.events())
    assert told(events) == [
        ("d1", "impression", "a", "b", None),
        ("d1", "click", "b", 10.0),
        ("d1", "view", "b", 10.0),
        ("d1", "add_to_cart", "b", 30.0),
        ("ann", "remove_from_cart", "b", 10.0),
        ("ann", "purchase", "b", 10.0),
        ("ann", "purchase", "c", 10.0),
        ("ann", "refund", "b", 10.0),
        ("ann", "refund", "c", 10.0),
        ("d1", "add_to_cart", "z", 2.0),
        ("d1", "purchase", "y", 7.0),
        ("d1", "add_to_cart", "x", 8.0),
        ("d1", "article_read", "n7", None),
    ]
    assert [after(one) for one in events][:2] == [2000, 3000]
    assert [one.event_id for one in events][:1] + [one.event_id for one in events][5:7] == ["e2", "e8:0", "e8:1"]
    assert {one.session_id for one in events} == {"v9"}
    assert dict(source.report.left_out) == {
        "page_view": 1, "page_ping": 1, "checkout_step": 1, "open": 1, "transaction": 1, "link_click": 1,
    }  # fmt: skip
    assert dict(source.report.bad) == {"unstruct_event": 1, "columns": 1}
    assert any("line 18" in text for text in source.report.first_bad)
    assert len(source.report.logins) == 1


def test_fields_of_snowplow_can_be_named_and_its_header_is_no_event(tmp_path: Path) -> None:
    path = lines(tmp_path / "events.tsv", ["\t".join(NAMES), ENRICHED[0], ENRICHED[10]])
    assert told(open_source(path, Columns(item="page_urlpath")).events()) == [
        ("d1", "view", "/p/7", None), ("d1", "add_to_cart", "/p/7", 2.0),
    ]  # fmt: skip
    assert told(open_source(f"snowplow:{path}", Columns(item="se_property")).events()) == [
        ("d1", "add_to_cart", "pcs", 2.0)
    ]


# Amazon Personalize


PERSONALIZE = (
    "USER_ID,ITEM_ID,EVENT_TYPE,EVENT_VALUE,TIMESTAMP,IMPRESSION,RECOMMENDATION_ID\n"
    "35,73,click,0.5,1704103200,73|70|17,\n"
    "54,35,Watch,1,1704103201,,\n"
    "54,35,watch,1,1704103202,35|1,r-1\n"
    "54,1,watch,1,1704103203,35|1,r-1\n"
)


def test_impressions_of_personalize_are_lists_that_were_shown_before_the_event(tmp_path: Path) -> None:
    path = tmp_path / "interactions.csv"
    path.write_text(PERSONALIZE)
    source = open_source(path)
    events = list(source.events())
    assert told(events) == [
        ("35", "impression", "73", "70", "17", None),
        ("35", "click", "73", 0.5),
        ("54", "watch", "35", 1.0),
        ("54", "impression", "35", "1", None),
        ("54", "watch", "35", 1.0),
        ("54", "watch", "1", 1.0),
    ]
    assert events[0].request_id == events[1].request_id == events[1].event_id, "made of the row's own id"
    assert [one.request_id for one in events[2:]] == [None, "r-1", "r-1", "r-1"]
    assert len({one.event_id for one in events}) == 6
    assert events == list(open_source(path).events()), "ids stay"
    assert "4 events of 4 rows (and 2 lists beside them)" in str(source.report)
    without = open_source(path, impressions=False)
    assert [one.event_id for one in without.events()] == [one.event_id for one in events if one.items is None]


def test_other_ways_to_write_personalize_say_the_same(tmp_path: Path) -> None:
    lower = tmp_path / "lower.csv"
    lower.write_text(PERSONALIZE.lower())
    rows = [
        dict(zip(PERSONALIZE.split("\n")[0].split(","), row.split(","), strict=True))
        for row in PERSONALIZE.split("\n")[1:5]
    ]
    camel = {"USER_ID": "userId", "ITEM_ID": "itemId", "EVENT_TYPE": "eventType", "EVENT_VALUE": "eventValue",
             "TIMESTAMP": "sentAt", "IMPRESSION": "impression", "RECOMMENDATION_ID": "recommendationId"}  # fmt: skip
    events = [{camel[name]: value for name, value in row.items() if value} for row in rows]
    for event in events:
        event |= {"sentAt": int(event["sentAt"]), "eventValue": float(event["eventValue"])}
        if "impression" in event:
            event["impression"] = event["impression"].split("|")
    flat = lines(tmp_path / "flat.jsonl", events)
    calls = [
        {"trackingId": "t", "sessionId": f"s{event['userId']}", "userId": event.pop("userId"), "eventList": [event]}
        for event in json.loads(json.dumps(events))
    ]
    put = lines(
        tmp_path / "put.jsonl",
        [
            *calls,
            {
                "trackingId": "t",
                "sessionId": "s54",
                "eventList": [{"eventType": "watch", "itemId": "9", "eventValue": 1.0, "sentAt": 1704103201}],
            },
        ],
    )
    upper = tmp_path / "upper.csv"
    upper.write_text(PERSONALIZE)
    expected = told(open_source(upper).events())
    assert told(open_source(lower).events()) == told(open_source(flat).events()) == expected
    source = open_source(f"personalize:{put}")
    found = told(source.events())
    assert sorted(map(str, found)) == sorted(map(str, [*expected, ("s54", "watch", "9", 1.0)]))
    assert {one.session_id for one in source.events()} == {"s35", "s54"}
    assert [(login.guest, login.user) for login in source.report.logins] == [("s54", "54")], (
        "what it did before the login"
    )


@pytest.mark.parametrize("told", ["a|b|c", "a,b,c", "a b c", '["a", "b", null, "c"]', "['a', 'b', 'c']", "[a,b,c]"])
def test_lists_are_written_in_many_ways(tmp_path: Path, told: str) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(f"user\titem\ttype\tts\tslate\nu\ta\tclick\t1704103200\t{told}\n")
    (shown, _) = FileSource(path, Columns(shown="slate")).events()
    assert shown.items == ("a", "b", "c")


def test_a_column_of_numbers_is_no_list_and_a_list_that_is_none_costs_its_row(tmp_path: Path) -> None:
    path = tmp_path / "ads.csv"
    path.write_text("user,item,type,ts,impressions\nu,i,click,1704103200,12\n")
    assert told(FileSource(path).events()) == [("u", "click", "i", None)]
    rows = [
        {"user": "u", "item": "i", "type": "click", "ts": 1704103200, "impression": given}
        for given in (["i", "j", "i", None], ["i", {"id": 1}], [], None, [f"n{n}" for n in range(1200)])
    ]
    source = FileSource(lines(tmp_path / "a.jsonl", rows))
    events = list(source.events())
    assert [len(one.items) for one in events if one.items] == [2, 1000]
    assert source.report.bad == {"shown": 1}
    assert "1 lists are longer than 1,000 items" in source.report.reading_text


def test_lists_that_begin_late_in_a_file_are_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    early = "".join(f"u,i{n},click,{1704103200 + n},\n" for n in range(2500))
    path.write_text(f"user,item,type,ts,impressions\n{early}u,a,click,1704109200,a|b\nu,b,click,1704109201,7\n")
    assert [one.items for one in FileSource(path).events() if one.items] == [("a", "b")]


def test_rows_that_are_lists_say_what_was_shown_and_with_marks_what_was_clicked(tmp_path: Path) -> None:
    path = tmp_path / "behaviors.tsv"
    path.write_text(
        "1\tU1\t11/11/2019 9:05:58 AM\tN1 N2\tN55-1 N35-0\n2\tU2\t11/15/2019 6:11:30 PM\t\tN20-0 N39-1 N41-1\n"
    )
    source = FileSource(path)
    events = list(source.events())
    assert told(events) == [
        ("U1", "impression", "N55", "N35", None), ("U1", "click", "N55", None),
        ("U2", "impression", "N20", "N39", "N41", None), ("U2", "click", "N39", None), ("U2", "click", "N41", None),
    ]  # fmt: skip
    assert [one.request_id for one in events] == ["1", "1", "2", "2", "2"]
    assert "a click for each item that ends with -1" in source.report.reading_text
    lists = tmp_path / "slates.csv"
    lists.write_text("user,ts,slate\nu,1704103200,a b c\nu,1704103201,\n")
    source = FileSource(lists, Columns(shown="slate"))
    assert told(source.events()) == [("u", "impression", "a", "b", "c", None)]
    assert source.report.bad == {"no_item": 1}


# Rows with flags


def test_columns_of_flags_are_an_impression_and_what_was_done(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(
        "user_id,video_id,time_ms,is_click,is_like,is_hate,is_forward,is_profile_enter,long_view,play_time_ms\n"
        "u,a,1704103200000,1,1,0,0,0,1,9000\nu,b,1704103201000,0,0,0,0,1,0,0\nu,c,1704103202000,1,0,1,1,0,0,10\n"
    )
    source = FileSource(path)
    assert [(one.item_id, one.type) for one in source.events()] == [
        ("a", "impression"), ("a", "click"), ("a", "like"), ("b", "impression"), ("c", "impression"), ("c", "click"),
        ("c", "hate"), ("c", "share"),
    ]  # fmt: skip
    assert "an event for each that is 1 of: is_click (click), is_like (like)" in source.report.reading_text
    named = FileSource(path, Columns(types={"is_hate": "", "long_view": "watch"}, value="play_time_ms"))
    assert told(named.events())[:3] == [
        ("u", "impression", "a", None), ("u", "click", "a", 9000.0), ("u", "like", "a", 9000.0),
    ]  # fmt: skip
    assert ("u", "watch", "a", 9000.0) in told(named.events())
    assert [one.type for one in FileSource(path, Columns(type="=view")).events()] == ["view"] * 3


# What all have in common


def test_our_words_mean_what_they_should() -> None:
    meanings = Signals()
    assert meanings.meaning("impression", None) is Meaning.EXPOSURE
    assert meanings.undoing["remove_from_cart"] >= {"add_to_cart"}
    assert meanings.undoing["refund"] >= {"purchase"}
    unknown = [kind for kind in OURS if kind and not meanings.knows(kind)]
    assert unknown == []


@pytest.mark.parametrize("word", ["addToCart", "Add To Cart", "ADD_TO_CART", "Product Added", "add_to_cart"])
def test_names_of_one_type_are_one_type_in_any_file(tmp_path: Path, word: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"user,item,type,ts\nu,i,{word},1704103200\n")
    source = FileSource(path)
    assert [one.type for one in source.events()] == ["add_to_cart"]
    assert source.report.made_types == ({} if word == "add_to_cart" else {word: "add_to_cart"})


def test_a_word_that_is_a_type_stays_in_files_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("user,item,type,ts\nu,i,addtocart,1704103200\nu,j,transaction,1704103201\n")
    assert [one.type for one in FileSource(path).events()] == ["addtocart", "transaction"]


def test_several_files_and_folders_of_a_format_are_read_as_one(tmp_path: Path) -> None:
    folder = tmp_path / "day"
    folder.mkdir()
    lines(folder / "b.jsonl", CALLS[:3])
    lines(folder / "a.jsonl", CALLS[3:5])
    for source in (open_source(folder), open_source([f"segment:{folder / 'a.jsonl'}", str(folder / "b.jsonl")])):
        assert [one.event_id for one in source.events()] == ["m2", "m3", "m5"]
    with pytest.raises(SourceError, match="ga4 and segment are not read together"):
        open_source([f"segment:{folder / 'a.jsonl'}", f"ga4:{folder / 'b.jsonl'}"])


def test_a_file_of_another_format_than_was_named_is_told_as_such(tmp_path: Path) -> None:
    path = lines(tmp_path / "track.jsonl", CALLS)
    with pytest.raises(SourceError, match=r"does not begin as events of Google Analytics 4"):
        list(open_source(f"ga4:{path}").events())
    path.write_text("")
    with pytest.raises(SourceError, match="is empty: it has no record of calls of Segment"):
        list(open_source(f"segment:{path}").events())


def test_a_file_of_a_format_is_read_by_its_columns_when_told_how_it_is_written(tmp_path: Path) -> None:
    from replay import FileFormat

    path = lines(tmp_path / "track.jsonl", CALLS)
    assert isinstance(open_source(path, form=FileFormat(explode="properties.products")), FileSource)
    assert isinstance(open_source(f"file:{path}"), FileSource)
    with pytest.raises(SourceError, match="leave out --explode"):
        open_source(f"segment:{path}", form=FileFormat(explode="properties.products"))


def worlds(seed: int) -> Any:
    """Anything that JSON can hold, as somebody's bug may have written it."""
    chance = random.Random(seed)
    leaf = lambda: chance.choice([None, True, 0, -1, 2**70, 1e308, "", "p1", "(not set)", "ü" * 300, "\u0000", [], {}])  # noqa: E731
    return chance.choice([leaf, lambda: [leaf(), leaf()], lambda: {"id": leaf(), "value": leaf(), "key": leaf()}])()


@pytest.mark.parametrize("records", [CALLS, ANALYTICS], ids=["segment", "ga4"])
def test_no_record_whatever_it_holds_ends_an_import_or_is_lost_uncounted(tmp_path: Path, records: list[Any]) -> None:
    broken = []
    for seed in range(300):
        chance = random.Random(seed)
        record = json.loads(json.dumps(records[seed % len(records)]))
        inner = chance.choice([record, *(one for one in record.values() if isinstance(one, dict) and one)])
        inner[chance.choice(list(inner))] = worlds(seed)
        broken.append(record if seed % 7 else json.dumps(record)[:-9])
    source = open_source(lines(tmp_path / "a.jsonl", [*records, *broken]))
    events = list(source.events())
    report = source.report
    assert len(events) == report.events > len(records) // 2
    assert report.rows == report.events - report.shown.beside + report.bad.total() + report.left_out.total()


def test_no_field_of_snowplow_ends_an_import(tmp_path: Path) -> None:
    chance = random.Random(1)
    broken = []
    for line in [*ENRICHED[:-1]] * 10:
        fields = line.split("\t")
        fields[chance.choice([2, 3, 5, 6, 12, 15, 52, 57, 58, 126])] = chance.choice(
            [
                "",
                "{}",
                "[]",
                '{"data": 1}',
                '{"data": [{"schema": "x"}]}',
                '{"data": {"schema": "a/b", "data": [1]}}',
                "\\N",
            ]
        )
        broken.append("\t".join(fields))
    source = open_source(lines(tmp_path / "a.tsv", [*ENRICHED, *broken]))
    assert len(list(source.events())) == source.report.events > 50
    report = source.report
    assert report.rows == report.events + report.bad.total() + report.left_out.total()


def test_a_world_takes_what_was_imported(settings: Settings, tmp_path: Path) -> None:
    from replay import stream
    from tests.worlds.topic_reading import everything, rows

    source = open_source(lines(tmp_path / "track.jsonl", CALLS))
    report = stream(source, settings)
    arrived = {row.event_id: row for row in rows(everything(settings.kafka, "events"))}
    assert report.events == len(arrived) == 10
    assert arrived["m2"].items == ("p1", "p2")
    said = [json.loads(record.value) for record in everything(settings.kafka, "identities")]
    assert [(one["user_id"], one["was"], one["event_time"] - AT_MS) for one in said] == [
        ("ann", "a1", 6000), ("bob", "b0", 14_000),
    ]  # fmt: skip
    assert report.identities == 2


def test_rows_of_one_record_have_ids_of_their_own_whatever_these_are_made_of(tmp_path: Path) -> None:
    from replay import RowOptions

    records = [{**one, "messageId": None} for one in (CALLS[6], CALLS[6], CALLS[1])]
    path = lines(tmp_path / "track.jsonl", records)
    for ids_of in ("content", "path"):
        events = list(open_source(path, options=RowOptions(ids_of=ids_of)).events())  # type: ignore[arg-type]
        assert len({one.event_id for one in events}) == len(events) == 5
