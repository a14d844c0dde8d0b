"""What comes with a list counts: prices of its items, what the catalogue says of them; and reactions are told apart."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headwater.context import numbers_of
from headwater.errors import InvalidMessage
from headwater.events import Event
from headwater.examples import CatalogueEntry, Entry, EventPosition, Example, Segment, ShownList, pack_segments, unpack
from models.config import ModelConfig
from models.learner import Learner
from models.quality import Judged
from models.shown.numbers import COLUMNS, ItemNumbers
from streams.features.fold import Limits
from streams.features.recording import recorded
from tests.worlds.feeds import START_MS, Happened, examples_of_feed

FAST = ModelConfig(exclude_seen=(), width=8, replay_windows=0, slow=False, learned_gate=False)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def priced(lists: int, *, dear: bool = False) -> list[Example]:
    """Of four items, none better than another, the cheapest is clicked, by every other user the dearest if some like
    that; each list has prices of its own."""
    choose = random.Random(0)
    stream, prices = [], {}
    for number in range(lists):
        items = tuple(f"i{i}" for i in choose.sample(range(12), 4))
        prices[f"l{number}"] = told = [choose.uniform(10, 500) for _ in items]
        now = START_MS + 60_000 * number
        stream.append(Happened(f"u{number % 30}", items, "impression", now, f"l{number}"))
        best = items[told.index(max(told) if dear and number % 2 else min(told))]
        stream.append(Happened(f"u{number % 30}", (best,), "click", now + 1000, f"l{number}"))
    return [
        one._replace(numbers={"price": prices[one.request_id]}) if one.items and one.request_id else one
        for one in examples_of_feed(stream)
    ]


def mrr(judged: Sequence[Judged], share: float = 0.5) -> float:
    """Mean reciprocal rank of what was clicked in the later lists, by chance."""
    lists: dict[str, list[Judged]] = {}
    for one in judged:
        lists.setdefault(one.list_id, []).append(one)
    asked = [each for each in list(lists.values()) if any(one.reacted for one in each)]
    asked = asked[int(share * len(asked)) :]
    hits = [next(one.chance for one in each if one.reacted) for each in asked]
    return float(np.mean([1 / sum(o.chance >= hit for o in each) for hit, each in zip(hits, asked, strict=True)]))


def judged(learner: Learner, examples: Sequence[Example]) -> list[Judged]:
    found = [one for each in learner.learn(examples) + learner.close() for one in each.judged]
    return [*found, *learner.undecided()]


def test_a_price_that_comes_with_the_list_is_learned_and_without_it_nothing_is() -> None:
    stream = priced(400)
    assert mrr(judged(Learner(FAST), stream)) > 0.8
    assert mrr(judged(Learner(FAST), [one._replace(numbers={}) for one in stream])) < 0.7


def test_what_somebody_is_used_to_take_is_expected_of_them_again() -> None:
    assert mrr(judged(Learner(FAST), priced(600, dear=True))) > 0.7


def test_numbers_of_the_catalogue_compare_the_items_of_a_list_and_survive_a_checkpoint(tmp_path: Path) -> None:
    choose = random.Random(1)
    length = {f"i{i}": choose.uniform(1, 300) for i in range(40)}
    stream = []
    for number in range(400):
        items, now = tuple(choose.sample(sorted(length), 3)), START_MS + 60_000 * number
        stream.append(Happened(f"u{number % 20}", items, "impression", now, f"l{number}"))
        stream.append(
            Happened(f"u{number % 20}", (min(items, key=length.__getitem__),), "view", now + 1000, f"l{number}")
        )
    learner = Learner(FAST)
    for item, seconds in length.items():
        learner.observe_item(CatalogueEntry(item, {"attributes": {"seconds": seconds, "live": True, "tag": "x"}}))
    examples = [*examples_of_feed(stream)]
    found = [one for each in learner.learn(examples[:401]) for one in each.judged]
    learner.save(tmp_path / "checkpoint")
    again, _ = Learner.load(tmp_path / "checkpoint")
    rest = judged(again, examples[401:])
    assert rest == judged(learner, examples[401:])
    assert mrr([*found, *rest]) > 0.85


def test_each_type_of_reaction_has_a_head_of_its_own() -> None:
    """Who looks takes the first, who buys takes the last: a chance of either cannot tell, the heads can."""
    stream = []
    for number in range(400):
        items, now = tuple(f"i{(number * 7 + k) % 23}" for k in range(4)), START_MS + 60_000 * number
        stream.append(Happened("u", items, "impression", now, f"l{number}"))
        kind, item = ("view", items[0]) if number % 2 else ("purchase", items[-1])
        stream.append(Happened("u", (item,), kind, now + 1000, f"l{number}"))
    found = judged(Learner(FAST), [*examples_of_feed(stream)])[-400:]
    said: dict[tuple[int, str], list[float]] = {}
    for one in found:
        for name, chance, came in one.by_type:
            said.setdefault((one.place, name), []).append(chance)
            assert came <= one.reacted
    assert np.mean(said[1, "view"]) > np.mean(said[4, "view"]) + 0.03
    assert np.mean(said[4, "purchase"]) > np.mean(said[1, "purchase"]) + 0.03


def test_a_model_of_a_release_without_heads_goes_on_with_its_counts_and_learns_reactions_anew() -> None:
    learner = Learner(FAST)
    learner.learn(priced(40))
    arrays, header = learner.collect({})
    del header["shown"]["heads"]
    other = Learner(FAST)
    other.lists.restore(header, {name: one[..., :1] for name, one in arrays.items() if name[:5] != "shown"} | {
        name: one for name, one in arrays.items() if name.startswith("shown")
    })  # fmt: skip
    assert other.lists.items.of_all == learner.lists.items.of_all
    judged(other, priced(60))


def test_columns_go_to_the_first_names_and_a_list_that_comes_with_prices_finds_one() -> None:
    numbers = ItemNumbers(limit=2)
    many = {f"n{i}": float(i) for i in range(20)}
    numbers.observe("a", {"attributes": {**many, "huge": 10**400, "nan": float("nan")}})
    found = numbers.of_list(("a", "b"), {"price": [3.0, None]})
    assert found["price"] == [3.0, None]
    assert len(found) < COLUMNS
    assert not np.isnan(numbers.columns(found, 2)[0, : len(found)]).any()
    for item in "bcd":
        numbers.observe(item, {"attributes": {"n1": 1}})
    assert "n0" not in numbers.of_list(("a",), {})
    numbers.observe("d", None)
    assert not numbers.of_list(("d",), {})


@pytest.mark.parametrize("given", [[1], [1, "x"], "12", {"a": 1}, [None, None], [float("nan"), True], None])
def test_what_is_no_number_for_each_item_of_a_list_is_none(given: Any) -> None:
    found = numbers_of({"price": given}, ("price",), 2)
    assert found == ({"price": [1.0, None]} if given == [1, "x"] else {})


def _record(numbers: Any) -> bytes:
    shown = ShownList(("a", "b"), "l", 1, numbers)
    entry = Entry("a", "impression", START_MS, None)
    return pack_segments(0, [Segment("ada", [], [entry], [EventPosition(0, 0)], lists={0: shown})])


def test_numbers_travel_with_their_list() -> None:
    (example,) = unpack(_record({"price": [1.5, None]}))
    assert isinstance(example, Example)
    assert example.numbers == {"price": [1.5, None]}
    (plain,) = unpack(_record({}))
    assert isinstance(plain, Example)
    assert plain.numbers == {}
    assert b"price" not in _record({})


def test_a_recorded_stream_has_the_numbers_that_its_lists_came_with() -> None:
    told = Event(user_id="ada", type="impression", items=("a", "b"), properties={"price": [7, 9], "other": [1, 2]})
    one = Event(user_id="ada", type="impression", item_id="c", properties={"price": [8]})
    first, second = recorded([told, one], Limits(context=("price",))).examples()
    assert (first.numbers, second.numbers) == ({"price": [7.0, 9.0]}, {"price": [8.0]})


@pytest.mark.parametrize(
    "numbers", [{"price": [1.0]}, {"price": [1.0, "x"]}, ["price"], {"price": None}, {"p" * 999: [1.0, 2.0]}]
)
def test_a_record_with_numbers_that_nobody_wrote_is_refused(numbers: Any) -> None:
    with pytest.raises(InvalidMessage):
        list(unpack(_record(numbers)))
