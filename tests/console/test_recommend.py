"""`headwater recommend` says in words how a list came about, and why there is none."""

from __future__ import annotations

import pytest

from console.commands.recommend import receipt_line, why_empty
from headwater.recommendations import Receipt

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
