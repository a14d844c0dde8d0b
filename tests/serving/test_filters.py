"""Filters find what they mean, whatever kinds of value the catalogue holds, or are refused: never an empty list."""

from __future__ import annotations

from typing import Any

import pytest

from headwater.errors import RequestRefused
from headwater.events import Item
from serving.catalogue import Catalogue

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
    mask = catalogue.matching(name, condition)
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
    assert catalogue.matching("price", 1).tolist() == [True]
    with pytest.raises(RequestRefused, match="Known fields: price"):
        catalogue.matching("x" * 100_000 + ".key-1", 1)
