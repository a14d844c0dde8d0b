"""Items that nobody has touched: in every list that has room, whoever asks, and in an order that one can explain."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.events import Item
from headwater.examples import Entry
from headwater.recommendations import EXACT, Recommendation
from serving.catalogue import Catalogue
from serving.popular import Popular
from serving.scorer import Scorer
from serving.scoring import Ask, score
from tests.worlds.serving import CATALOGUE, FILMS, clicked, items_of, request, trained

NOW_MS = 5_000_000_000
NOBODY_YET = Popular({}, NOW_MS)
HISTORY = clicked("film-2", "film-3")

NOVELTIES = [
    Item(item_id="old", title="A garden", categories=("plants",), published_time=1000),
    Item(item_id="newest", title="Roses", categories=("plants",), published_time=3000),
    Item(item_id="odd-one", title="Odd", categories=("odd",), published_time=2000),
    Item(item_id="hidden", categories=("plants",), published_time=4000, available=False),
]


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    """A model of the films, in a catalogue that has more."""
    made = Scorer(Catalogue([*CATALOGUE, *NOVELTIES]), "cpu")
    made.load(trained().publish(created_ms=1), 100)  # type: ignore[arg-type]
    return made


def ask(scorer: Scorer, history: list[Entry] | None, popular: Popular | None = None, **fields: Any) -> Recommendation:
    asks = [Ask(request(**fields), history)]
    return score(scorer, asks, now_ms=NOW_MS, exclude_seen=["*"], popular=popular).answers[0]


def test_a_known_users_list_goes_on_with_what_the_model_does_not_know(scorer: Scorer) -> None:
    answer = ask(scorer, HISTORY, k=100)
    known, cold = items_of(answer)[: len(FILMS) - 2], items_of(answer)[len(FILMS) - 2 :]
    assert set(known) == set(FILMS) - {"film-2", "film-3"}
    assert cold == ["odd-one", "newest", "old"]  # film-3 is odd, too; then the newest first
    assert answer.receipt.policy == (EXACT, "cold=3")
    assert answer.receipt.fallback is None
    scores = [item.score for item in answer.items]
    assert scores == sorted(scores, reverse=True)
    assert ask(scorer, HISTORY, k=10).receipt.policy == (EXACT,)


def test_why_a_cold_item_is_in_the_list(scorer: Scorer) -> None:
    answer = ask(scorer, HISTORY, k=100, explain=True)
    assert [item.reasons for item in answer.items][-3:] == [
        ("like Film-3",),
        ("in the catalogue",),
        ("in the catalogue",),
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"k": 1000},
        {"k": 3, "filters": {"categories": "plants"}},
        {"k": 1000, "filters": {"categories": ["odd", "plants"], "published_time": {"lt": 3000}}},
        {"k": 10, "candidates": ("newest", "film-9", "hidden", "in-the-news", "unheard of")},
        {"k": 1000, "exclude": ("newest", "film-9")},
    ],
)
def test_whoever_asks_gets_of_the_same_items(scorer: Scorer, fields: dict[str, Any]) -> None:
    popular = Popular({"in-the-news": 5.0, "film-9": 3.0, "hidden": 2.0}, NOW_MS, {0: 7})
    fields = {**fields, "exclude_seen": ()}
    stranger = ask(scorer, [], popular, **fields)
    known = ask(scorer, HISTORY, popular, **fields)
    blind = ask(scorer, None, popular, **fields)
    puzzling = ask(scorer, clicked("never seen"), popular, **fields)
    assert set(items_of(stranger)) == set(items_of(known)) == set(items_of(blind)) == set(items_of(puzzling))
    assert stranger.items
    assert not {"hidden", "unheard of"} & set(items_of(known))


def test_the_receipt_names_popularity_only_where_it_added_something(scorer: Scorer) -> None:
    popular = Popular({"in-the-news": 5.0, "film-9": 3.0}, NOW_MS, {0: 7})
    assert ask(scorer, HISTORY, popular, k=100).receipt.popular_offsets == {"0": 7}
    assert ask(scorer, HISTORY, popular, k=3).receipt.popular_time is None
    assert ask(scorer, HISTORY, popular, k=100, filters={"categories": "odd"}).receipt.popular_time is None
    for needed, fields in (
        (False, {"k": 3}),
        (True, {"k": 100}),
        (False, {"k": 100, "filters": {"year": {"gt": 0}}}),
        (False, {"candidates": ("film-1",)}),
        (True, {"candidates": ("film-1", "in-the-news")}),
    ):
        asks = [Ask(request(**fields), HISTORY)]  # type: ignore[arg-type]
        read = Mock(return_value=popular)
        score(scorer, asks, now_ms=NOW_MS, exclude_seen=["*"], popular=read)
        assert read.called is needed, fields


def test_an_item_is_found_by_filter_by_everybody_as_soon_as_it_is_put(scorer: Scorer) -> None:
    catalogue = scorer.catalogue
    for history in ([], HISTORY):
        assert ask(scorer, history, filters={"categories": "plants"}, k=9).items
        catalogue.put(Item(item_id="premiere", categories=("breaking",)))
        assert items_of(ask(scorer, history, filters={"categories": "breaking"})) == ["premiere"]
        catalogue.put(Item(item_id="premiere", categories=("plants",)))
        assert items_of(ask(scorer, history, filters={"categories": {"not": ["odd", "even"]}}, k=1)) == ["newest"]
        catalogue.remove("premiere")
        assert "premiere" not in items_of(ask(scorer, history, k=100))


@pytest.mark.parametrize("model", [None, "untrained"])
def test_on_the_first_day_everybody_gets_the_newest_of_the_catalogue(model: str | None) -> None:
    catalogue = Catalogue()
    for number, item in enumerate(NOVELTIES):
        catalogue.put(item.model_copy(update={"published_time": None}), written_ms=10 - number)
    first_day = Scorer(catalogue, "cpu")
    if model:
        first_day.load(trained([]).publish(created_ms=1), 100)  # type: ignore[arg-type]
    for history in ([], clicked("film-1")):
        answer = ask(first_day, history, NOBODY_YET, k=2)
        assert items_of(answer) == ["old", "newest"]  # the newest by when they were written
        assert answer.receipt.fallback == "no_events"
        assert answer.receipt.popular_time == NOW_MS
    on_a_page = ask(first_day, [], NOBODY_YET, context_item="newest", k=3)
    assert items_of(on_a_page) == ["old", "odd-one"]  # a garden is like roses
    assert ask(first_day, None, k=2).receipt.fallback == ("no_features" if model else "no_model")


PUT = st.tuples(st.sampled_from("abcdefgh"), st.sampled_from([None, 1, 2, 3, 2_000]), st.integers(1, 4))


@given(st.lists(st.lists(PUT, max_size=5), max_size=4), st.integers(0, 9))
def test_the_newest_come_first_and_equally_new_ones_by_id(rounds: list[list[Any]], count: int) -> None:
    catalogue = Catalogue()
    new_ms: dict[str, int] = {}
    for puts in rounds:
        for item_id, published, written in puts:
            catalogue.put(Item(item_id=item_id, published_time=published), written_ms=written)
            new_ms[item_id] = written if published in (None, 2_000) else published  # 2,000 is yet to come
        slots = np.array([catalogue.slots[item_id] for item_id in new_ms], np.int64)
        newest = [catalogue.ids[slot] for slot in catalogue.newest(slots, count, now_ms=100)]
        assert newest == sorted(new_ms, key=lambda one: (-new_ms[one], one))[:count]


def test_many_cold_items_are_the_newest_thousand_and_likeness_orders_the_newest_of_them() -> None:
    catalogue = Catalogue([*CATALOGUE, Item(item_id="seen", categories=("rare",))])
    for number in range(3000):
        rare = ("rare",) if number in (10, 2995) else ("plain",)
        catalogue.put(Item(item_id=f"item-{number:04}", categories=rare, published_time=number))
    many = Scorer(catalogue, "cpu")
    many.load(trained().publish(created_ms=1), 100)  # type: ignore[arg-type]
    answer = ask(many, [*HISTORY, *clicked("seen")], k=60)
    cold = items_of(answer)[len(FILMS) - 2 :]
    assert cold[:3] == ["item-2995", "item-2999", "item-2998"]
    assert "item-0010" not in cold
