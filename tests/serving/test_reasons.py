"""Why, in numbers: what parts of the model and entries of the history add to the scores of an answer."""

from __future__ import annotations

import math
import random
import threading
from typing import Any

import numpy as np
import pytest

from headwater.events import Item
from headwater.examples import Entry
from headwater.recommendations import Recommendation
from models.published.bundle import Bundle
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
        assert math.fsum(item.contributions.values()) == pytest.approx(item.score, rel=1e-14, abs=1e-14), item
    parts = ask(scorer, HISTORY).items[0].contributions
    assert {"memory0", "memory1", "popularity", "ranker: age"} <= parts.keys()


def test_contributions_of_what_no_model_ranks_are_of_popularity_or_of_being_new(scorer: Scorer) -> None:
    answer = ask(scorer, [], Popular({"film-3": 7.0, "elsewhere": 2.0}), k=100)
    found = {item.item_id: item.contributions for item in answer.items}
    assert found["film-3"] == {"popular": 7.0}
    assert found["elsewhere"] == {"popular": 2.0}
    assert found["cold"] == {"cold": 0.0}


def test_an_entrys_share_is_what_its_score_is_less_without_it(scorer: Scorer) -> None:
    answer = ask(scorer, HISTORY, k=100, exclude=["film-7"])
    assert any(item.because for item in answer.items)
    known = [(place, entry) for place, entry in enumerate(HISTORY) if entry.item_id in FILMS]
    for place, entry in known:
        without = HISTORY[:place] + HISTORY[place + 1 :]
        scores = {item.item_id: item.score for item in ask(scorer, without, k=100, exclude=["film-7"]).items}
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


SHOP = [
    *(Item(item_id=film, categories=("film",), attributes={"year": 1990 + n}) for n, film in enumerate(FILMS)),
    Item(item_id="sold out", available=False),
    Item(item_id="over", expires_time=NOW_MS - 1000),
    Item(item_id="cold", title="Cold"),
    Item(item_id="gone"),
]


@pytest.fixture(scope="module")
def shop() -> Scorer:
    made = Scorer(Catalogue(SHOP), "cpu")
    made.load(trained().publish(created_ms=1), 100)  # type: ignore[arg-type]
    made.catalogue.remove("gone")
    return made


@pytest.mark.parametrize(
    ("item_id", "fields", "stage", "told"),
    [
        ("nobody-has-it", {}, "unknown", "Neither the catalogue nor the model knows"),
        ("sold out", {}, "unavailable", "not available"),
        ("gone", {}, "unavailable", "was removed"),
        ("over", {}, "expired", "expired at 1970-02-27"),
        ("film-3", {"exclude": ["film-3"]}, "excluded", "exclude"),
        ("film-3", {"context_item": "film-3"}, "excluded", "item on the page"),
        ("film-1", {"exclude_seen": ["*"]}, "excluded", "the cart at 1970-01-01 00:33:21 UTC counts"),
        ("film-1", {"exclude_seen": ["click"]}, "excluded", "the click at 1970-01-01 00:33:20 UTC"),
        ("film-7", {}, "excluded", "turned it down: the dismiss at 1970-01-01 00:33:22 UTC"),
        ("film-3", {"candidates": ["film-4", "film-5"]}, "filtered", "not among the 2 candidates"),
        ("film-3", {"filters": {"year": {"gte": 1999}}}, "filtered", "{\"gte\":1999}; its year is 1993"),
        ("cold", {"filters": {"year": {"gte": 1999}}}, "filtered", "it has no year"),
        ("film-3", {"overrides": {"filters": {"categories": ["shoe", "film"], "year": 1}}}, "filtered", "surface.fil"),
        ("film-11", {"k": 2}, "rank", "of the 11 items that may be listed, and the list ends at place 2"),
        ("cold", {"k": 2}, "rank", "new to the model"),
        ("film-3", {"k": 1}, "listed", "at place 1 of 1"),
        ("film-4", {"k": 2, "overrides": {"max_per": {"categories": 1}}}, "capped", "lets 1 of categories = 'film' in"),
        (
            "film-4",
            {"k": 2, "overrides": {"boosts": [{"filters": {"year": 1994}, "times": 0.001}]}},
            "rank",
            "boosts[0] buries it (times 0.001)",
        ),
        ("film-4", {"k": 2, "overrides": {"pins": [{"item_id": "film-11", "place": 1}]}}, "rank", "places are pinned"),
    ],
)  # fmt: skip
def test_why_an_item_is_not_in_a_list(
    shop: Scorer, item_id: str, fields: dict[str, Any], stage: str, told: str
) -> None:
    answer = ask(shop, HISTORY, why_not=item_id, explain=False, **fields)
    said = answer.why_not
    assert said is not None
    assert (said.item_id, said.stage) == (item_id, stage), said.text
    assert told in said.text
    assert math.fsum(said.contributions.values()) == pytest.approx(said.score or 0.0, rel=1e-14, abs=1e-14)
    assert all(more > 0 for more in said.behind.values())
    asked_without = ask(shop, HISTORY, explain=False, **fields)
    assert asked_without.items == answer.items
    assert asked_without.why_not is None
    assert (said.stage == "listed") == (item_id in {item.item_id for item in answer.items})


def test_every_obstacle_is_told_the_first_one_first(shop: Scorer) -> None:
    fields: dict[str, Any] = {"exclude": ["film-7"], "filters": {"year": 2020, "categories": {"not": "film"}}}
    said = ask(shop, HISTORY, why_not="film-7", **fields).why_not
    assert said is not None
    assert said.stage == "excluded"
    assert [said.text.index(one) for one in ("exclude", "turned it down", "year = 2020", "categories = ")] == sorted(
        said.text.index(one) for one in ("exclude", "turned it down", "year = 2020", "categories = ")
    )
    assert "Without that its score would put it at place" in said.text
    assert said.rank is None


def test_behind_is_what_the_last_item_has_more_of(shop: Scorer) -> None:
    answer = ask(shop, HISTORY, k=2, why_not="film-11")
    assert answer.why_not is not None
    last, mine = answer.items[-1].contributions, answer.why_not.contributions
    wanted = {name: last.get(name, 0.0) - mine.get(name, 0.0) for name in last.keys() | mine.keys()}
    assert answer.why_not.behind == {name: more for name, more in wanted.items() if more > 0}
    full = ask(shop, HISTORY, k=100).items
    assert answer.why_not.rank == next(item.rank for item in full if item.item_id == "film-11")


def test_why_an_item_is_not_among_what_is_popular(shop: Scorer) -> None:
    popular = Popular({f"film-{n}": 9.0 - n for n in range(8)})
    said = ask(shop, [], popular, k=3, why_not="film-5").why_not
    assert said is not None
    assert (said.stage, said.rank, said.score, said.behind) == ("rank", 6, 4.0, {"popular": 3.0})
    other = ask(shop, [], popular, k=3, why_not="film-9").why_not
    assert other is not None
    assert (other.stage, other.rank) == ("rank", None)
    assert "not among what is popular" in other.text
    untrained = ask(Scorer(Catalogue(SHOP), "cpu"), HISTORY, Popular(), k=3, why_not="film-9").why_not
    assert untrained is not None
    assert untrained.stage == "rank"


def test_an_item_whose_score_is_no_number_is_told_of_and_breaks_nothing() -> None:
    bundle = trained().publish(created_ms=1)
    assert isinstance(bundle, Bundle)
    made = Scorer(Catalogue(SHOP), "cpu")
    made.load(bundle, 100)
    bundle.weights["item_bias"][bundle.item_rows["film-4"]] = np.nan  # past every check, as a fault of memory would be
    answer = ask(made, HISTORY, k=100, why_not="film-4")
    assert answer.error is None
    assert "film-4" not in {item.item_id for item in answer.items}
    assert answer.why_not is not None
    assert (answer.why_not.stage, answer.why_not.score) == ("rank", None)
    assert "no number" in answer.why_not.text


def test_one_version_decides_whether_popularity_is_read_and_answers_with_its_reasons() -> None:
    learner = trained()
    made = Scorer(Catalogue(SHOP), "cpu")
    made.load(learner.publish(created_ms=1), 100)  # type: ignore[arg-type]
    newer = learner.publish(created_ms=2, full=True)
    loading = threading.Thread(target=made.load, args=(newer, 200))

    def read() -> Popular:
        loading.start()
        loading.join(0.2)  # it may come at any moment, and has to wait for the answer
        return Popular({"film-3": 7.0})

    asked = [Ask(request(explain=True), [])]
    (answer,) = score(made, asked, now_ms=NOW_MS, exclude_seen=[], popular=read).answers
    loading.join()
    assert answer.receipt.model_version == 1
    assert made.version == 2


def drawn(draw: random.Random) -> tuple[list[Entry], dict[str, Any]]:
    """A history and a request, whatever they are."""
    ids = [*FILMS, "cold", "gone", "over", "sold out", "nope", "elsewhere"]
    kinds = ["click", "cart", "dismiss", "rating"]
    length = draw.choice([0, 1, 8, 40])
    stored = [Entry(draw.choice(ids), draw.choice(kinds), 2_000_000 + 1000 * n, None) for n in range(length)]
    choices: dict[str, list[Any]] = {
        "exclude_seen": [["*"], ["auto"], ["click"]],
        "exclude_seen_days": [0.001, 30.0],
        "exclude": [draw.sample(ids, 2)],
        "candidates": [draw.sample(ids, 4)],
        "filters": [{"year": {"gte": 1995}}, {"or": [{"year": 1993}, {"not": {"year": 1992}}]}],
        "context_item": ids,
    }
    policies: dict[str, list[Any]] = {
        "kind": ["popular", "new", "again", "because-you"],
        "max_per": [{"categories": 1}, {"categories": 2}],
        "diversity": [0.5],
        "objectives": [{"click": 1.0, "finish": 2.0}, {"cart": 1.0, "click": -0.5}],
        "boosts": [[{"filters": {"year": 1994}, "times": times}] for times in (0, 0.1, 5)],
        "explore": [{"temperature": 1.0}],
        "pins": [[{"item_id": one, "place": 2}] for one in ids],
    }
    fields = {name: draw.choice(some) for name, some in choices.items() if draw.random() < 0.25}
    overrides = {name: draw.choice(some) for name, some in policies.items() if draw.random() < 0.25}
    return stored, {**fields, "overrides": overrides, "k": draw.choice([1, 3, 50]), "why_not": draw.choice(ids)}


def test_whatever_is_asked_parts_add_up_and_an_item_is_either_listed_or_has_a_reason_not_to_be(shop: Scorer) -> None:
    draw, stages = random.Random(1), set[str]()
    for _ in range(80):
        stored, fields = drawn(draw)
        answer = ask(shop, stored, draw.choice([Popular({"film-3": 5.0, "elsewhere": 2.0}), None]), **fields)
        assert answer.why_not is not None, answer.error
        said = answer.why_not
        stages.add(said.stage)
        assert (said.stage == "listed") == (fields["why_not"] in {item.item_id for item in answer.items}), said
        sums = [(one.contributions, one.score) for one in answer.items]
        sums += [(said.contributions, said.score)] if said.score is not None else []
        for parts, value in sums:
            assert math.fsum(parts.values()) == pytest.approx(value, rel=1e-12, abs=1e-12), fields
        assert all(item.reasons for item in answer.items)
    assert stages >= {"listed", "rank", "excluded", "filtered", "unavailable", "unknown", "expired"}
