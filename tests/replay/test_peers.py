"""Every peer in worlds with known answers: a peer that is weaker than it should be would flatter us."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
import pytest

from headwater.errors import SettingsError
from headwater.examples import Entry, EventPosition, Example
from models.quality import rank_of
from replay.backtest.queries import Peer, Queries, Query, Rule
from replay.peers import PEERS, named, peer
from tests.worlds.tastes import checkerboard, examples_of, parade, ring

HOUR_MS = 3_600_000


def told(one: Peer, examples: Iterable[Example], warm_up: int = 0, forbid: tuple[str, ...] = ("*",)) -> list[int]:
    """The peer's ranks of the asked queries; it has learned all examples after."""
    queries = Queries(warm_up, Rule(forbid))
    return ranks_of(one, map(queries.next, examples), queries.rule)


def ranks_of(one: Peer, asked: Iterable[Query], rule: Rule) -> list[int]:
    ranks = []
    for query in asked:
        if query.asked:
            scores = one.scores(query)
            assert scores.shape == (query.known,)
            assert scores.dtype == np.float32
            assert np.isfinite(scores).all()
            allowed = np.ones(query.known, bool)
            allowed[rule.forbids(query)] = False
            ranks.append(rank_of(scores, query.item, allowed))
        one.learn(query)
    return ranks


@cache
def long_parade() -> list[Query]:
    """More items than a peer has room for at first; made once, for histories of 900 entries take longer than a peer."""
    queries = Queries(4300, Rule(()))
    return [queries.next(example) for example in parade(3 * 1500)]


def scores_after(one: Peer, examples: Sequence[Example]) -> dict[str, float]:
    """Item -> score for the last example, which is asked and not learned."""
    queries = Queries(0, Rule(()))
    for example in examples[:-1]:
        one.learn(queries.next(example))
    query: Query = queries.next(examples[-1])
    return dict(zip(queries.items, one.scores(query).tolist(), strict=False))


def at_hours(examples: Sequence[Example], hours: Sequence[float]) -> list[Example]:
    """The same examples at these hours; histories keep their old times, which these peers do not read."""
    return [
        example._replace(target=example.target._replace(time_ms=int(hour * HOUR_MS)))
        for example, hour in zip(examples, hours, strict=True)
    ]


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_scores_all_that_is_known_of_a_catalogue_that_grows_and_repeats_itself_by_seed(name: str) -> None:
    first = ranks_of(PEERS[name](5), long_parade(), Rule(()))
    again = ranks_of(PEERS[name](5), long_parade(), Rule(()))
    assert first
    assert first == again


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_says_its_name_and_whether_the_seed_matters(name: str) -> None:
    stream = checkerboard(400)
    one, other = PEERS[name](1), PEERS[name](2)
    assert one.name == name
    if not one.random:
        assert told(one, stream, warm_up=200) == told(other, stream, warm_up=200)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("rules", {}),
        ("item-item", {"refit_every": 100}),
        ("als", {"factors": 8, "refit_every": 100}),
        ("bpr", {"factors": 8, "refit_every": 200, "iterations": 50, "learning_rate": 0.1}),
        ("isgd", {"factors": 8}),
        ("raisgd", {"factors": 8}),
    ],
)
def test_a_personal_peer_learns_the_checkerboard(name: str, changes: dict[str, object]) -> None:
    ranks = told(peer(name, 0, **changes), checkerboard(3000), warm_up=2000)
    assert np.mean(ranks) < 13  # of 40 items the user's colour has 20, half of them seen; by chance it would be near 16


def test_an_unknown_peer_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(SettingsError, match="item-item"):
        peer("magic")


def test_only_windowed_popularity_sees_what_is_hot_this_hour() -> None:
    stream = examples_of([(f"u{i}", "old") for i in range(20)] + [(f"v{i}", "hot") for i in range(3)] + [("w", "old")])
    stream = at_hours(stream, [0.01 * i for i in range(20)] + [9.5, 9.6, 9.7, 9.9])
    scores = scores_after(PEERS["popularity"](0), stream)
    assert scores["old"] > scores["hot"]
    for name in ("popularity-1h", "popularity-1d"):
        scores = scores_after(PEERS[name](0), stream)
        assert (scores["hot"] > scores["old"]) is (name == "popularity-1h")


def test_a_window_is_exact_to_the_millisecond() -> None:
    stream = at_hours(examples_of([("a", "x"), ("b", "y"), ("c", "y")]), [0.0, 0.5, 1.0])
    scores = scores_after(PEERS["popularity-1h"](0), stream)
    assert int(scores["x"]) == 0  # an hour old to the millisecond: out
    assert int(scores["y"]) == 1


def test_the_users_own_newest_items_come_first() -> None:
    stream = examples_of(
        [("b", "p"), ("c", "p"), ("d", "p"), ("a", "x"), ("a", "y"), ("a", "x"), ("b", "q"), ("a", "x")]
    )
    scores = scores_after(PEERS["recent"](0), stream)
    assert sorted(scores, key=scores.__getitem__, reverse=True) == ["x", "y", "p", "q"]


def test_rules_know_what_follows_and_that_order_matters() -> None:
    ranks = told(peer("rules", symmetric=False), ring(2000), warm_up=1000)
    assert np.mean(np.array(ranks) == 1) > 0.95
    pairs = [(f"u{i}", item) for i in range(5) for item in ("a", "b")]
    scores = scores_after(peer("rules", symmetric=False), examples_of([*pairs, ("n", "b"), ("n", "a")]))
    assert scores["a"] < 0.01  # b never led to a
    scores = scores_after(peer("rules", symmetric=True), examples_of([*pairs, ("n", "b"), ("n", "a")]))
    assert scores["a"] > 0.9


def test_rules_fade_by_event_time() -> None:
    stream = examples_of(
        [pair for i in range(6) for pair in ((f"u{i}", "a"), (f"u{i}", "old"))]
        + [pair for i in range(3) for pair in ((f"v{i}", "a"), (f"v{i}", "new"))]
        + [("n", "a"), ("n", "new")]
    )
    stream = at_hours(stream, [0.0] * 12 + [100.0] * 8)
    for half_life_h, first in ((None, "old"), (1.0, "new")):
        scores = scores_after(peer("rules", half_life_h=half_life_h), stream)
        assert max(scores, key=scores.__getitem__) == first


def test_with_a_prior_popularity_goes_before_rules_that_have_faded() -> None:
    stream = examples_of(
        [("u", "a"), ("u", "old"), *((f"w{i}", "popular") for i in range(9)), ("n", "a"), ("n", "popular")]
    )
    stream = at_hours(stream, [0.0] * 2 + [100.0] * 11)
    for prior, first in ((0.0, "old"), (1.0, "popular")):
        scores = scores_after(peer("rules", half_life_h=1.0, prior=prior), stream)
        assert max(scores, key=scores.__getitem__) == first


def test_rules_are_bounded_and_keep_the_heaviest() -> None:
    pairs = [(f"u{i}", "b" if i % 2 else f"c{i}") for i in range(200)]
    stream = examples_of(
        [step for user, item in pairs for step in ((user, "a"), (user, item))] + [("n", "a"), ("n", "b")]
    )
    one = peer("rules", slots=4)
    scores = scores_after(one, stream)
    assert max(scores, key=scores.__getitem__) == "b"
    assert one.targets.shape[1] == 4  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["als", "bpr"])
def test_a_user_whom_no_fit_has_met_is_served_from_the_history(name: str) -> None:
    stream = checkerboard(2000)
    even = [f"i{i}" for i in range(0, 40, 2)]
    events = [(example.user_id, example.target.item_id) for example in stream]
    newcomer = examples_of([*events, ("new", even[0]), ("new", even[1]), ("new", even[2]), ("new", even[3])])
    scores = scores_after(peer(name, 0, factors=8, refit_every=500), newcomer)
    own = np.mean([scores[item] for item in even[4:]])
    others = np.mean([score for item, score in scores.items() if item not in even])
    assert own > others


def test_what_is_refitted_forgets_what_left_its_window() -> None:
    before = [pair for i in range(50) for pair in ((f"u{i}", "a"), (f"u{i}", "old"))]
    after = [pair for i in range(50) for pair in ((f"v{i}", "a"), (f"v{i}", "new"))]
    stream = examples_of([*before, *after, ("n", "a"), ("n", "new")])
    scores = scores_after(peer("item-item", capacity=100, refit_every=50), stream)
    assert scores["new"] > 0.9
    assert scores["old"] < 0.01


def test_a_name_may_carry_numbers_and_is_listed_without() -> None:
    name = named("rules", {"reach": 3, "half_life_h": 2.0, "symmetric": False})
    assert name in PEERS
    assert name not in list(PEERS)
    made = PEERS[name](0)
    assert made.name == name
    assert made.reach == 3  # type: ignore[attr-defined]
    with pytest.raises(SettingsError, match="rules:FIELD=NUMBER"):
        peer("rules:magic=3")
    with pytest.raises(SettingsError, match="rules:FIELD=NUMBER"):
        peer("rules:reach")
    for wrong in ("rules:reach=-1", "rules:reach=1e9", "rules:reach=true", "rules:fade=NaN", 'als:alpha="1"'):
        with pytest.raises(SettingsError, match=r"is no (int|float) from"):
            peer(wrong)


@pytest.mark.parametrize("name", ["rules", "item-item"])
def test_an_item_of_the_history_can_be_a_reason_for_itself(name: str) -> None:
    pairs = [(f"u{i}", item) for i in range(5) for item in ("a", "b")]
    stream = examples_of([*pairs, ("n", "a"), ("n", "a")])
    for own, first in ((0.0, "b"), (2.0, "a")):
        changes: dict[str, object] = {"refit_every": 10} if name == "item-item" else {}
        scores = scores_after(peer(name, own=own, **changes), stream)
        assert max(scores, key=scores.__getitem__) == first


def numbered(user: int, item: int, known: int) -> Query:
    """A query of numbers far beyond those that a peer was told of: of users and items that were only turned down."""
    past, target = (Entry(f"i{number}", "view", 1_700_000_000_000, None) for number in (0, item))
    example = Example(f"u{user}", [past], target, 0, EventPosition(0, 0))
    return Query(0, example, user, item, [0], known, asked=True)


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_may_be_asked_of_users_and_items_that_it_was_never_told_of(name: str) -> None:
    one = peer(name)
    one.learn(numbered(0, 0, 0))
    one.learn(numbered(3000, 2000, 2000))
    scores = one.scores(numbered(9000, 7, 9000))
    assert scores.shape == (9000,)
    assert np.isfinite(scores).all()


def test_incremental_factors_of_those_who_were_passed_over_are_not_zero() -> None:
    one = peer("isgd")
    one.learn(numbered(5, 6, 6))
    assert np.abs(one.users[:6]).sum(1).all()  # type: ignore[attr-defined]
    assert np.abs(one.items[:7]).sum(1).all()  # type: ignore[attr-defined]
