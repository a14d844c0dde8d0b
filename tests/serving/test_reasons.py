"""Why, in numbers: what parts of the model and entries of the history add to the scores of an answer."""

from __future__ import annotations

import math
from typing import Any

import pytest

from headwater.events import Item
from headwater.examples import Entry
from headwater.recommendations import Recommendation
from serving.catalogue import Catalogue
from serving.popular import Popular
from serving.scorer import Scorer
from serving.scoring import Ask, score
from tests.worlds.serving import FILMS, request, trained

NOW_MS = 5_000_000_000


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    made = Scorer(Catalogue([*(Item(item_id=film) for film in FILMS), Item(item_id="cold")]), "cpu")
    made.load(trained().publish(created_ms=1), 100)  # type: ignore[arg-type]
    return made


HISTORY = [
    Entry("film-1", "click", 2_000_000, None),
    Entry("film-2", "click", 2_000_500, None),
    Entry("unheard of", "click", 2_000_600, None),
    Entry("film-1", "cart", 2_001_000, None),
    Entry("film-7", "dismiss", 2_002_000, None),
]


def ask(scorer: Scorer, history: list[Entry] | None, popular: Popular | None = None, **fields: Any) -> Recommendation:
    asked = [Ask(request(**{"explain": True, **fields}), history)]
    return score(scorer, asked, now_ms=NOW_MS, exclude_seen=[], popular=popular or Popular()).answers[0]


@pytest.mark.parametrize("history", [HISTORY, [], [Entry("strange", "click", 1, None)], None])
def test_contributions_add_up_to_the_score_to_the_last_digit(scorer: Scorer, history: list[Entry] | None) -> None:
    answer = ask(scorer, history, k=100)
    assert len(answer.items) == len(FILMS) + (1 if history is not HISTORY else 0)
    for item in answer.items:
        assert math.fsum(item.contributions.values()) == item.score, item
    assert {"memory", "popularity"} <= set(ask(scorer, HISTORY).items[0].contributions)


def test_contributions_of_what_no_model_ranks_are_of_popularity_or_of_being_new(scorer: Scorer) -> None:
    answer = ask(scorer, [], Popular({"film-3": 7.0, "elsewhere": 2.0}), k=100)
    found = {item.item_id: item.contributions for item in answer.items}
    assert found["film-3"] == {"popular": 7.0}
    assert found["elsewhere"] == {"popular": 2.0}
    assert found["cold"] == {"cold": 0.0}


def test_an_entrys_share_is_what_its_score_is_less_without_it(scorer: Scorer) -> None:
    answer = ask(scorer, HISTORY, k=100)
    assert any(item.because for item in answer.items)
    known = [(place, entry) for place, entry in enumerate(HISTORY) if entry.item_id in FILMS]
    for place, entry in known:
        without = HISTORY[:place] + HISTORY[place + 1 :]
        scores = {item.item_id: item.score for item in ask(scorer, without, k=100).items}
        for item in answer.items[:-1]:  # the last one is cold
            named = {(one.item_id, one.type): one.share for one in item.because}
            lost = item.score - scores[item.item_id]
            assert named.get((entry.item_id, entry.type), 0.0) == pytest.approx(lost, abs=1e-6)


def test_entries_come_by_share_and_only_those_that_count(scorer: Scorer) -> None:
    for item in ask(scorer, HISTORY, k=100).items:
        shares = [one.share for one in item.because]
        assert shares == sorted(shares, reverse=True)
        assert "unheard of" not in {one.item_id for one in item.because}


def test_nothing_is_said_unasked_and_the_list_is_the_same(scorer: Scorer) -> None:
    plain, explained = ask(scorer, HISTORY, explain=False), ask(scorer, HISTORY)
    assert [(one.item_id, one.score) for one in plain.items] == [(one.item_id, one.score) for one in explained.items]
    assert not any(one.contributions or one.because or one.reasons for one in plain.items)
