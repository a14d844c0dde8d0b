"""`headwater recommend` says in words how a list came about, and why there is none."""

from __future__ import annotations

import pytest

from console.commands.recommend import listed, parts_text, receipt_line, why_empty, why_not_lines
from console.policy_notes import notes_in_words
from headwater.recommendations import Receipt, Recommendation, RecommendedItem, WhyNot

FIRST_DAY = Receipt(fallback="no_events", popular_time=1)


@pytest.mark.parametrize(
    ("receipt", "told"),
    [
        (FIRST_DAY, "fallback: no events, so the newest of the catalogue"),
        (Receipt(fallback="no_history"), "fallback: no history, so what is popular"),
        (Receipt(surface="home", surface_version="5c0e"), "surface home, version 5c0e; history 0"),
    ],
)
def test_the_receipt_in_one_line(receipt: Receipt, told: str) -> None:
    assert told in receipt_line(receipt)


@pytest.mark.parametrize(
    ("receipt", "filtered", "told"),
    [
        (FIRST_DAY, False, "the catalogue is empty and no event has arrived"),
        (FIRST_DAY, True, "meets --filter"),
        (Receipt(catalogue_offsets={"0": 3}), False, "seen"),
        (Receipt(surface="home", surface_version="5c0e"), False, "headwater surfaces show home"),
    ],
)
def test_an_empty_list_says_why(receipt: Receipt, filtered: bool, told: str) -> None:
    assert told in why_empty(receipt, filtered)


def test_notes_of_the_policy_are_told_in_words() -> None:
    notes = ("exact", "cold=3", "fill=new:2", "pins_missing=2,5", "unknown_fields=boosts[0]", "of_a_later_release=1")
    told = notes_in_words(notes)
    assert (told[0], told[1], told[-1]) == ("the last 3 new to the model", "2 of new, a fallback", notes[-1])
    assert ("places 2, 5" in told[2], "boosts[0]" in told[3]) == (True, True)
    told = notes_in_words(("unknown_objectives=purchse,gift",), ["view", "purchase"])
    assert "nothing of purchse, gift, which does nothing then. Did you mean purchase?" in told[0]


def test_what_was_drawn_by_chance_shows_its_propensity() -> None:
    items = (
        RecommendedItem(item_id="a", rank=1, score=2, propensity=0.25),
        RecommendedItem(item_id="b", rank=2, score=1),
    )
    table = listed(Recommendation(request_id="r", items=items), {}, explain=False)
    assert [column.header for column in table.columns] == ["#", "item", "title", "score", "propensity"]
    assert list(table.columns[-1].cells) == ["0.25", "1"]


def test_parts_of_a_score_are_shown_by_size_and_the_small_ones_together() -> None:
    parts = {"slow": 0.001, "popularity": -0.5, "memory": 1.25}
    assert parts_text(parts) == "memory +1.25, popularity -0.50, 1 other +0.00"
    assert parts_text({"memory": 1.25}) == "memory +1.25"
    assert parts_text({}) == ""


def test_where_an_item_was_lost_is_told_in_plain_english() -> None:
    said = WhyNot(
        item_id="film-2",
        stage="rank",
        text="It ranks 4 of the 9 items that may be listed, and the list ends at place 3.",
        rank=4,
        score=1.5,
        contributions={"memory": 2.0, "popularity": -0.5},
        behind={"memory": 0.75},
    )
    assert why_not_lines(said, {"film-2": "Heat"}) == [
        "film-2 (Heat): It ranks 4 of the 9 items that may be listed, and the list ends at place 3.",
        "  its score: 1.500 = memory +2.00, popularity -0.50",
        "  the list's last item has more of: memory +0.75",
    ]
    assert why_not_lines(WhyNot(item_id="x", stage="unknown", text="Nobody has it."), {}) == ["x: Nobody has it."]
