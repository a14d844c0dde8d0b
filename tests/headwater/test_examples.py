"""Histories of example records: taken column by column where they are as ours are, row by row where they are not."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from headwater.errors import InvalidMessage
from headwater.examples import Entry, EventPosition, Example, Segment, pack_segments, unpack

TARGET = Entry("t", "click", 9_000, None)


def record(history: list[Any]) -> bytes:
    body = orjson.loads(pack_segments(0, [Segment("u", [], [TARGET], [EventPosition(0, 0)])]))
    body["segments"][0]["history"] = history
    return orjson.dumps(body)


def history_of(rows: list[Any]) -> list[Entry]:
    (one,) = unpack(record(rows))
    assert isinstance(one, Example)
    return list(one.history)


GOOD = [["a", "click", 1, None, 4], ["b", "view", 2, 3.5, 4]]


@pytest.mark.parametrize("length", [4, 5])
def test_a_history_is_read_the_same_alone_and_among_many_rows(length: int) -> None:
    rows = [one[:length] for one in (GOOD[0], GOOD[1], ["c", "rate", 3, 4, None])]
    found = history_of(rows)
    assert found == [history_of([row])[0] for row in rows]
    assert [type(one) for one in found] == [Entry] * 3
    assert [one.value for one in found] == [None, 3.5, 4.0]
    assert type(found[2].value) is float
    mixed = history_of([rows[0], GOOD[1][:4]])
    assert mixed[1] == Entry("b", "view", 2, 3.5)


def test_a_window_can_be_walked_backwards() -> None:
    (one,) = unpack(record(GOOD))
    assert isinstance(one, Example)
    assert [entry.item_id for entry in reversed(one.history)] == ["b", "a"]


BAD: list[Any] = [
    ["", "click", 1, None, 4],
    ["x" * 2000, "click", 1, None, 4],
    [7, "click", 1, None, 4],
    [["a"], "click", 1, None, 4],
    ["a", None, 1, None, 4],
    ["a", ["k"], 1, None, 4],
    ["a", "", 1, None, 4],
    ["a", "click", -1, None, 4],
    ["a", "click", 10**18, None, 4],
    ["a", "click", 1.5, None, 4],
    ["a", "click", True, None, 4],
    ["a", "click", 1, "3", 4],
    ["a", "click", 1, True, 4],
    ["a", "click", 1, None, -1],
    ["a", "click", 1, None, 2**40],
    ["a", "click", 1, None, True],
    ["a", "click", 1],
    ["a", "click", 1, None, 4, 5],
    "abcde",
    None,
]


@pytest.mark.parametrize("row", BAD, ids=str)
def test_a_row_that_is_refused_alone_is_refused_among_good_ones_in_the_same_words(row: Any) -> None:
    with pytest.raises(InvalidMessage) as alone:
        history_of([row])
    with pytest.raises(InvalidMessage) as among:
        history_of([GOOD[0], row, GOOD[1]])
    assert (among.value.reason, str(among.value)) == (alone.value.reason, str(alone.value))
