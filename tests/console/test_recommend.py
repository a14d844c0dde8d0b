"""`headwater recommend` says in words how a list came about, and why there is none."""

from __future__ import annotations

import pytest

from console.commands.recommend import parts_text, receipt_line, why_empty, why_not_lines
from headwater.recommendations import Receipt, WhyNot

FIRST_DAY = Receipt(fallback="no_events", popular_time=1)


@pytest.mark.parametrize(
    ("receipt", "told"),
    [
        (FIRST_DAY, "fallback: no events, so the newest of the catalogue"),
        (Receipt(fallback="no_history"), "fallback: no history, so what is popular"),
        (Receipt(policy=("exact", "cold=3"), history_length=2), "history 2; the last 3 new to the model"),
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
    ],
)
def test_an_empty_list_says_why(receipt: Receipt, filtered: bool, told: str) -> None:
    assert told in why_empty(receipt, filtered)


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
