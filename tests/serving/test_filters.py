"""Filters find what they mean, whatever kinds of value the catalogue holds, or are refused: never an empty list."""

from __future__ import annotations

import math
import tomllib
from random import Random
from typing import Any

import pytest
from pydantic import ValidationError

from headwater.errors import RequestRefused, SettingsError
from headwater.events import Item
from headwater.recommendations import Request
from headwater.surfaces import Surface
from serving.catalogue import Catalogue
from serving.rules import Rows
from serving.scorer import Scorer
from serving.scoring import Ask, score
from serving.surfaces import Surfaces

DAY_MS = 86_400_000
NEW_YEAR_MS = 1_735_689_600_000  # 2025-01-01

SHOP = [
    Item(
        item_id="boots",
        categories=("shoes", "winter"),
        published_time=NEW_YEAR_MS,
        attributes={"price": 89.5, "sizes": [38, 40], "vegan": False, "ean": "00501", "maker": {"land": "it"}},
    ),
    Item(
        item_id="clogs",
        categories=("shoes",),
        published_time=NEW_YEAR_MS + 10 * DAY_MS,
        attributes={"price": 30, "sizes": [44], "vegan": True, "ean": "7", "maker": {"land": "nl"}, "stock": "12"},
    ),
    Item(item_id="scarf", categories=("winter",), attributes={"price": 12, "vegan": True, "stock": 12}),
    Item(item_id="voucher", attributes={"gift": "TRUE"}),
    Item(item_id="sold", categories=("shoes",), attributes={"price": 30}, available=False),
]


def found(name: str, condition: object) -> set[str]:
    catalogue = Catalogue(SHOP)
    catalogue.slot("only events have named it")
    mask = catalogue.matching_all({name: condition}, 0).mask
    return {item_id for slot, item_id in enumerate(catalogue.ids) if mask[slot]}


@pytest.mark.parametrize(
    ("name", "condition", "expected"),
    [
        ("price", "30", {"clogs", "sold"}),
        ("price", "89.50", {"boots"}),
        ("price", ["12", 30.0], {"clogs", "scarf", "sold"}),
        ("vegan", "true", {"clogs", "scarf"}),
        ("vegan", "FALSE", {"boots"}),
        ("gift", True, {"voucher"}),
        ("gift", False, set()),
        ("ean", 7, {"clogs"}),
        ("ean", "501", set()),  # text is text: leading zeros count
        ("stock", 12, {"clogs", "scarf"}),  # a field of both kinds
        ("stock", "12", {"clogs", "scarf"}),
        ("sizes", 40, {"boots"}),
        ("sizes", {"gt": 40}, {"clogs"}),
        ("price", {"gt": 12, "lt": 89.5}, {"clogs", "sold"}),
        ("price", {"gt": "12", "lte": "30"}, {"clogs", "sold"}),
        ("price", {"lte": 12}, {"scarf"}),
        ("price", {"in": [12, "30"], "not": 12}, {"clogs", "sold"}),
        ("categories", {"not": "winter"}, {"clogs", "voucher", "sold"}),
        ("categories", {"not": ["winter", "shoes"]}, {"voucher"}),
        ("price", {"not": {"gte": 30}}, {"scarf", "voucher"}),
        ("maker.land", "nl", {"clogs"}),
        ("maker.land", {"gte": "j"}, {"clogs"}),
        ("published_time", {"gt": NEW_YEAR_MS}, {"clogs"}),
        ("published_time", {"lt": "2025-01-05T00:00:00Z"}, {"boots"}),
        ("published_time", {"gte": "2025-01-11T01:00:00+01:00"}, {"clogs"}),
    ],
)
def test_a_filter_finds(name: str, condition: object, expected: set[str]) -> None:
    assert found(name, condition) == expected


@pytest.mark.parametrize(
    ("name", "condition", "told"),
    [
        ("price", "cheap", r"'cheap' cannot be compared with numbers \(12 to 89\.5\): use"),
        ("price", "1_000", "cannot be compared with numbers"),
        ("price", True, "cannot be compared with numbers"),
        ("price", "nan", "cannot be compared with numbers"),
        ("vegan", 1, r"1 cannot be compared with booleans \(true or false\)"),
        ("vegan", "yes", "cannot be compared with booleans"),
        ("vegan", {"gte": 0}, "cannot be compared with booleans"),
        ("maker.land", 3, r"3 cannot be compared with text \('it', 'nl'\)"),
        ("maker.land", False, "cannot be compared with text"),
        ("maker.land", {"gt": 3}, "cannot be compared with text"),
        ("price", {"gte": "a", "lte": 3}, "use numbers, or text, for every end"),
        ("price", {"gte": None}, "use numbers, or text"),
        ("price", {"above": 3}, '"gt", "gte", "lt", "lte", "in" and "not"'),
        ("price", {"not": {"above": 3}}, '"gt", "gte"'),
        ("price", {}, "use a value"),
        ("price", None, "use a value"),
        ("price", [[12]], "use a value"),
        ("published_time", {"gte": 1_735_689_600}, "looks like seconds: use milliseconds"),
        ("published_time", {"gte": NEW_YEAR_MS * 1000}, "looks like microseconds: use milliseconds"),
        ("published_time", {"gte": "2025-01-05"}, "is no time: use milliseconds since 1970, or RFC 3339"),
    ],
)
def test_a_filter_that_can_find_nothing_is_refused_with_what_to_use(name: str, condition: object, told: str) -> None:
    with pytest.raises(RequestRefused, match=told) as refusal:
        found(name, condition)
    assert refusal.value.code == "bad_filter"
    assert f"filters.{name}" in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Price", "Did you mean price"),
        ("category", "Did you mean categories"),
        ("maker", "Known fields: categories, ean, gift, maker.land, price, published_time"),
        ("item_id", "Ids are for `candidates` and `exclude`"),
    ],
)
def test_a_field_that_no_item_has_is_refused_with_those_that_are_known(name: str, told: str) -> None:
    with pytest.raises(RequestRefused, match=told) as refusal:
        found(name, "x")
    assert refusal.value.code == "unknown_field"


def test_one_long_name_over_many_inner_ones_costs_no_memory() -> None:
    inner: dict[str, Any] = {f"key-{number}": number for number in range(2000)}
    catalogue = Catalogue([Item(item_id="bomb", attributes={"x" * 100_000: inner, "price": 1})])
    assert catalogue.matching_all({"price": 1}, 0).mask.tolist() == [True]
    with pytest.raises(RequestRefused, match="Known fields: price"):
        catalogue.matching_all({"x" * 100_000 + ".key-1": 1}, 0)


NOW_MS = NEW_YEAR_MS + 20 * DAY_MS
HOUR_MS = 3_600_000

EVENTS = [
    Item(
        item_id="berlin",
        categories=("music", "jazz"),
        published_time=NOW_MS - 3 * DAY_MS,
        attributes={"price": 20, "venue": {"lat": 52.52, "lon": 13.405}, "starts": "2025-01-21T20:00:00+01:00"},
    ),
    Item(
        item_id="potsdam",
        categories=("music",),
        published_time=NOW_MS - 8 * DAY_MS,
        attributes={"price": 8, "venue": {"type": "Point", "coordinates": [13.06, 52.4]}, "starts": NOW_MS - HOUR_MS},
    ),
    Item(
        item_id="fiji",
        categories=("film", "jazz"),
        published_time=NOW_MS + DAY_MS,
        attributes={
            "price": 15,
            "venue": [{"latitude": "-17.7", "longitude": 179.9}],
            "maker": {"land": "fj"},
            "or": "x",
        },
    ),
    Item(item_id="plain", attributes={"price": 99, "tags": [], "note": None}),
]


def meeting(filters: dict[str, Any], now_ms: int = NOW_MS) -> set[str]:
    catalogue = Catalogue(EVENTS)
    catalogue.slot("only events have named it")
    mask = catalogue.matching_all(filters, now_ms).mask
    return {item_id for slot, item_id in enumerate(catalogue.ids) if mask[slot]}


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, {"berlin", "potsdam", "fiji", "plain"}),
        ({"categories": {"any": ["film", "music"]}}, {"berlin", "potsdam", "fiji"}),
        ({"categories": {"all": ["music", "jazz"]}}, {"berlin"}),
        ({"categories": {"none": ["music", "film"]}}, {"plain"}),
        ({"categories": {"all": ["jazz"], "none": ["film"]}}, {"berlin"}),
        ({"price": {"any": [{"lt": 10}, {"gt": 50}, 15]}}, {"potsdam", "fiji", "plain"}),
        ({"price": {"all": [{"gt": 10}, {"not": 15}]}}, {"berlin", "plain"}),
        ({"published_time": {"gte": "now-7d"}}, {"berlin", "fiji"}),
        ({"published_time": {"gte": "now-7d", "lte": "now"}}, {"berlin"}),
        ({"published_time": {"gte": "now - 1w - 1d", "lt": "2025-01-17T00:00:00Z"}}, {"potsdam"}),
        ({"published_time": {"not": {"gt": "now"}}}, {"berlin", "potsdam", "plain"}),
        ({"starts": {"gte": "now", "lt": "now+1d"}}, {"berlin"}),
        ({"starts": {"lt": "now"}}, {"potsdam"}),
        ({"maker": {"exists": True}}, {"fiji"}),
        ({"maker.land": {"exists": False}}, {"berlin", "potsdam", "plain"}),
        ({"tags": {"exists": True}}, set()),
        ({"nobody has it": {"exists": False}, "price": {"gt": 50}}, {"plain"}),
        ({"venue": {"near": {"lat": 52.5, "lon": 13.4, "km": 10}}}, {"berlin"}),
        ({"venue": {"near": {"lat": 52.5, "lon": 13.4, "km": 30}}}, {"berlin", "potsdam"}),
        ({"venue": {"near": {"lat": -17.7, "lon": -179.9, "km": 25}}}, {"fiji"}),  # across the date line
        ({"venue": {"not": {"near": {"lat": 52.5, "lon": 13.4, "km": 30}}}}, {"fiji", "plain"}),
        ({"or": [{"price": {"lt": 10}}, {"categories": "film"}]}, {"potsdam", "fiji"}),
        ({"or": [{"price": {"lt": 10}}, {"categories": "film"}], "published_time": {"lt": "now"}}, {"potsdam"}),
        ({"and": [{"categories": "jazz"}, {"or": [{"price": 20}, {"price": 99}]}]}, {"berlin"}),
        ({"not": {"categories": "music", "price": {"lt": 10}}}, {"berlin", "fiji", "plain"}),
        ({"not": [{"categories": "music"}, {"price": 99}]}, {"fiji"}),
        ({"not": {"or": [{"price": 20}, {"not": {"categories": "music"}}]}}, {"potsdam"}),
        ({"not": {"not": {"categories": "jazz"}}}, {"berlin", "fiji"}),
        ({"not": {"not": {"not": {"not": [{"categories": "jazz"}, {"price": 20}]}}}}, {"berlin", "fiji"}),
        ({"or": "x"}, {"fiji"}),  # a field may be called so, too
        ({"or": {"not": "x"}}, {"berlin", "potsdam", "plain"}),
    ],
)
def test_a_filter_of_groups_and_times_and_places_finds(filters: dict[str, Any], expected: set[str]) -> None:
    assert meeting(filters) == expected


@pytest.mark.parametrize(
    ("filters", "told"),
    [
        ({"or": [{"price": 20}, {"price": {"gte": "a"}}]}, r"^filters\.or\[1\]\.price\.gte: 'a' cannot be compared"),
        ({"or": [{"price": 20}, {"colour": 1}]}, r"^filters\.or\[1\]\.colour: no item has a field 'colour'"),
        ({"or": {"price": 20, "categories": "film"}}, r"^filters\.or: .* use a list of filters"),
        ({"and": []}, r"^filters\.and: \[\] is no group"),
        ({"or": [{"price": 20}, "x"]}, r"^filters\.or\[1\]: 'x' is no filter: use an object of fields"),
        ({"not": [{}]}, r"^filters\.not\[0\]: \{\} says nothing"),
        ({"price": {"in": [20, "dear"]}}, r"^filters\.price\.in\[1\]: 'dear' cannot be compared with numbers"),
        ({"price": {"or": [{"lt": 10}, {"gt": 50}]}}, r'^filters\.price: .* "or" is "any"'),
        ({"maker": {"land": "fj"}}, r'A field within is named "maker\.land"'),
        ({"price": {"any": 20}}, r"^filters\.price\.any: 20 is no list"),
        ({"price": {"exists": "yes"}}, r"^filters\.price\.exists: 'yes' is no answer: use true or false"),
        ({"published_time": {"gte": "now-7days"}}, r"^filters\.published_time\.gte: 'now-7days' is no time: use .*7d"),
        ({"starts": {"gte": "now/d"}}, r"^filters\.starts\.gte: 'now/d' is no time: use"),
        ({"starts": {"gte": "NOW"}}, r"^filters\.starts\.gte: 'NOW' is no time: use"),
        ({"published_time": {"gte": "now-1M"}}, r"units are ms, s, m, h, d and w"),
        ({"published_time": {"gte": "now-7d", "lt": "soon"}}, r"^filters\.published_time\.lt: 'soon' is no time"),
        ({"price": {"gte": "now-7d"}}, r"'now-7d' cannot be compared with numbers \(8 to 99\): use it on times"),
        ({"categories": {"gte": "now"}}, r"cannot be compared with text .* use it on times"),
        ({"venue": {"near": {"lat": 52.5, "lon": 13.4}}}, r"^filters\.venue\.near: .* is no place: use"),
        ({"venue": {"near": {"lat": 152, "lon": 13.4, "km": 1}}}, r"^filters\.venue\.near\.lat: 152 is not within -90"),
        ({"venue": {"near": {"lat": 52, "lon": "13", "km": 1}}}, r"^filters\.venue\.near\.lon: '13' is not within"),
        ({"price": {"near": {"lat": 52, "lon": 13, "km": 1}}}, r"^filters\.price\.near: .*compared with numbers"),
        ({"venue": 52}, r"^filters\.venue: 52 cannot be compared with points"),
    ],
)
def test_a_bad_filter_is_refused_with_its_place(filters: dict[str, Any], told: str) -> None:
    with pytest.raises(RequestRefused, match=told):
        meeting(filters)


def test_a_filter_too_deep_or_too_long_is_refused() -> None:
    deep: dict[str, Any] = {"price": 1}
    for _ in range(400):
        deep = {"not": deep}
    for filters, told in ((deep, "nested deeper"), ({"or": [{"price": 1}] * 501}, "at most 500")):
        with pytest.raises(RequestRefused, match=told):
            meeting(filters)


def test_a_mask_that_moves_with_the_clock_is_kept_just_as_long_as_it_is_right() -> None:
    catalogue = Catalogue(EVENTS)
    filters = {"or": [{"published_time": {"gte": "now-7d", "lt": "now"}}, {"starts": {"gte": "now"}}]}
    turns = [NOW_MS + DAY_MS, NOW_MS + 4 * DAY_MS, NOW_MS + 8 * DAY_MS, NOW_MS - 3 * DAY_MS, NOW_MS - HOUR_MS]
    for now_ms in sorted(turn + step for turn in turns for step in (-1, 0, 1)):
        kept = catalogue.matching_all(filters, now_ms)
        assert kept.mask.tolist() == Catalogue(EVENTS).matching_all(filters, now_ms).mask.tolist()
        assert catalogue.matching_all(filters, now_ms) is kept
    first = catalogue.matching_all(filters, NOW_MS)
    assert catalogue.matching_all(filters, NOW_MS + HOUR_MS) is first  # nothing has come or gone by then
    catalogue.put(Item(item_id="new", published_time=NOW_MS - 1))
    assert catalogue.matching_all(filters, NOW_MS).mask.tolist() == [True, False, False, False, True]


@pytest.mark.parametrize(
    "item",
    [
        Item(item_id="a", expires_time=NOW_MS),
        Item(item_id="a", attributes={"expires_time": NOW_MS}),
        Item(item_id="a", attributes={"expires_time": NOW_MS // 1000}),
        Item(item_id="a", attributes={"expires_time": "2025-01-21T01:00:00+01:00"}),
    ],
)
def test_an_item_that_has_expired_is_in_no_list(item: Item) -> None:
    catalogue = Catalogue([item, Item(item_id="b", attributes={"expires_time": "soon"}), Item(item_id="c")])
    rows = Rows(catalogue, ["a", "b", None, "c"])
    assert rows.blocked(NOW_MS - 1).tolist() == [False, False, True, False]
    assert rows.blocked(NOW_MS).tolist() == [True, False, True, False]
    assert rows.blocked(NOW_MS - 1).tolist() == [False, False, True, False]  # a backtest asks in any order
    catalogue.put(Item(item_id="a", expires_time=NOW_MS + 5))
    assert not rows.blocked(NOW_MS)[0]
    assert rows.matching_all({"expires_time": {"gt": "now"}}, NOW_MS).tolist() == [True, False, False, False]


@pytest.mark.parametrize("given", [10**400, math.nan, True, -5, 0, "soon", "0001-01-01T00:00:00Z", ["2025"], {}, None])
def test_an_attribute_that_is_no_time_lets_nothing_expire(given: object) -> None:
    catalogue = Catalogue([Item(item_id="a", attributes={"expires_time": given})])
    assert not catalogue.blocked(4 * NOW_MS).mask.any()


def test_nothing_expires_because_the_catalogue_grows() -> None:
    catalogue = Catalogue(
        Item(item_id=f"i{number}", expires_time=NOW_MS if number == 7 else None) for number in range(3000)
    )
    assert [catalogue.ids[slot] for slot in catalogue.blocked(NOW_MS).mask.nonzero()[0]] == ["i7"]


def test_values_come_and_go_in_any_order_and_nothing_is_left_of_them() -> None:
    random = Random(1)
    catalogue = Catalogue()
    kept: dict[str, Item] = {}
    for number in range(2000):
        item_id = f"i{random.randrange(40)}"
        if random.random() < 0.3:
            catalogue.remove(item_id)
            kept.pop(item_id, None)
        else:
            values = [random.choice(["a", "7", 7, True, 3.5, {"lat": 1, "lon": number % 3}]) for _ in range(3)]
            kept[item_id] = Item(item_id=item_id, attributes={"mixed": values, f"own-{number % 7}": 1})
            catalogue.put(kept[item_id])
        if number % 100 == 0:
            fresh = Catalogue(kept.values())
            for condition in ("a", "7", 7, True, {"gt": 3}, {"exists": True}, {"near": {"lat": 1, "lon": 0, "km": 9}}):
                for name in ("mixed", "own-3"):
                    assert _outcome(catalogue, {name: condition}) == _outcome(fresh, {name: condition})


def _outcome(catalogue: Catalogue, filters: dict[str, Any]) -> set[str] | str:
    try:
        mask = catalogue.matching_all(filters, NOW_MS).mask
    except RequestRefused as refusal:
        return str(refusal)
    return {item_id for slot, item_id in enumerate(catalogue.ids) if mask[slot]}


def test_a_surface_with_a_filter_that_says_nothing_is_refused_when_it_is_written() -> None:
    with pytest.raises(ValidationError, match=r"(?s)boosts\.0\.filters.*filters\.or\[0\]\.price\.gt: None is no end"):
        Surface.model_validate({"boosts": [{"filters": {"or": [{"price": {"gt": None}}]}, "times": 2}]})
    with pytest.raises(SettingsError, match=r"overrides: filters: .*filters\.price: .* is no condition"):
        Surface().changed({"filters": {"price": {"above": 3}}})
    toml = tomllib.loads("filters.published_time = {gte = 2025-01-05T00:00:00Z, lt = 'now'}")
    assert meeting(Surface.model_validate(toml).filters) == {"potsdam", "berlin"}


def test_why_not_tells_of_an_item_that_is_too_far_away() -> None:
    filters = {"venue": {"near": {"lat": 52.5, "lon": 13.4, "km": 10}}}
    asked = Ask(Request(user_id="ann", filters=filters, why_not="potsdam"), [])
    (answer,) = score(Scorer(Catalogue(EVENTS), "cpu"), [asked], now_ms=NOW_MS, exclude_seen=()).answers
    assert [item.item_id for item in answer.items] == ["berlin"]
    assert answer.why_not is not None
    assert 'its venue is {"lat":52.4,"lon":13.06}' in answer.why_not.text


def test_a_surface_may_name_a_field_that_no_item_has_just_now() -> None:
    catalogue = Catalogue(EVENTS)
    rows, recalled = Rows(catalogue), {"or": [{"recalled": {"not": True}}, {"recalled": {"gt": "now"}}]}
    assert rows.matching_all(recalled, NOW_MS, unknown_ok=True).all()
    with pytest.raises(RequestRefused, match=r"^filters\.or\[0\]\.recalled.*: no item has a field 'recalled'"):
        rows.matching_all(recalled, NOW_MS)
    assert not rows.matching_all({"recalled": True}, NOW_MS, unknown_ok=True).any()
    catalogue.put(Item(item_id="plain", attributes={"recalled": True}))
    assert rows.matching_all({"recalled": {"not": True}}, NOW_MS, unknown_ok=True).tolist() == [True] * 3 + [False]
    surfaces = Surfaces({"home": Surface(filters={"gone by now": {"not": 1}, "price": {"lt": 10}})})
    asked = Ask(Request(user_id="ann", surface="home"), [])
    (answer,) = score(Scorer(catalogue, "cpu"), [asked], now_ms=NOW_MS, exclude_seen=(), surfaces=surfaces).answers
    assert [item.item_id for item in answer.items] == ["potsdam"]
