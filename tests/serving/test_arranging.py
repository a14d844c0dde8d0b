"""From scores to a list: every rule of a surface, alone and beside all others, on small worlds that are counted out."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import RequestRefused
from headwater.events import Item
from headwater.surfaces import Surface
from serving.arranging import NO_ROW, Arranged, Beyond, Draws, Offer, arrange
from serving.arranging.chance import draw, explores
from serving.catalogue import Catalogue
from serving.filters import Mask
from serving.rules import Rows
from tests.worlds.processes import ROOT

SELLERS, TAGS = ("anne", "bob", "cid"), ("red", "blue", "old")


class Shop(NamedTuple):
    """Rows with scores, and items that the model does not know; what may be listed of both."""

    items: list[Item]
    scores: list[float]
    beyond: list[Item]

    def offer(self, vectors: npt.NDArray[Any] | None = None) -> Offer:
        catalogue = Catalogue([*self.items, *self.beyond])
        rows = Rows(catalogue, [one.item_id for one in self.items])
        own = np.array([catalogue.slot(one.item_id) for one in self.beyond], np.int64)

        def allowed() -> Mask:
            mask = np.zeros(len(catalogue.ids), bool)
            mask[own] = True
            return mask

        def best(mask: Mask, count: int) -> npt.NDArray[np.int64]:
            return own[mask[own]][:count]

        item_rows = {one.item_id: row for row, one in enumerate(self.items)}
        scores = np.array(self.scores, np.float32)
        candidates = np.flatnonzero(scores > -np.inf)[1:]  # one is none
        draws = Draws(candidates, np.random.RandomState(0).normal(size=(16, len(candidates))) * 2)
        return Offer(scores, rows, vectors, self.new, Beyond(allowed, best), Rows(catalogue), item_rows, draws=draws)

    def new(self) -> Mask:
        return np.arange(len(self.items)) % 3 == 2

    def arranged(self, surface: Surface, k: int, seed: str = "r1", now_ms: int = 0) -> tuple[list[Item], Arranged]:
        offer = self.offer()
        found = arrange(offer, surface, k, seed, now_ms)
        by_id = {one.item_id: one for one in [*self.items, *self.beyond]}
        return [by_id[offer.rows.catalogue.ids[slot]] for slot in found.slots.tolist()], found

    def offered(self) -> list[Item]:
        """What may be listed, best first."""
        rows = [row for row, score in enumerate(self.scores) if score > -math.inf]
        ranked = sorted(rows, key=lambda row: (-self.scores[row], row))
        return [*(self.items[row] for row in ranked), *self.beyond]


def item(number: int, seller: str, tags: tuple[str, ...]) -> Item:
    return Item(item_id=f"i{number}", categories=tags, attributes={"seller": seller})


def surface(**fields: Any) -> Surface:
    return Surface.model_validate(fields)


def world_of(count: int, beyond: int = 0) -> Shop:
    """Items 0, 1, 2 ... best first, of sellers in turn."""
    made = [item(i, SELLERS[i % 3], (TAGS[i % 2],)) for i in range(count + beyond)]
    return Shop(made[:count], [float(count - i) for i in range(count)], made[count:])


def ids(items: list[Item]) -> list[str]:
    return [one.item_id for one in items]


def places(note: str, found: Arranged) -> list[int]:
    told = [one.removeprefix(f"{note}=") for one in found.notes if one.startswith(f"{note}=")]
    return [int(number) for number in told[0].split(",")] if told else []


@st.composite
def worlds(draw: st.DrawFn) -> Shop:
    count, beyond = draw(st.integers(0, 9)), draw(st.integers(0, 3))
    made = [
        item(i, draw(st.sampled_from(SELLERS)), tuple(draw(st.sets(st.sampled_from(TAGS), max_size=2))))
        for i in range(count + beyond)
    ]
    score = st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 2.0])
    return Shop(made[:count], [draw(score) for _ in range(count)], made[count:])


FILTERS = st.sampled_from(
    [{"seller": "anne"}, {"seller": ["bob", "cid"]}, {"categories": "red"}, {"categories": "old"}, {"none": 1}]
)
CAPS = st.dictionaries(st.sampled_from(["seller", "categories"]), st.integers(1, 2))
SHARE = st.fixed_dictionaries({"filters": FILTERS, "least": st.sampled_from([0.1, 0.3, 0.5, 1.0])})
BOOST = st.fixed_dictionaries({"filters": FILTERS, "times": st.sampled_from([0.0, 0.5, 3.0])})
PIN = st.fixed_dictionaries({"item_id": st.integers(0, 12).map(lambda i: f"i{i}"), "place": st.integers(1, 6)})
EXPLORE = st.fixed_dictionaries(
    {
        "by": st.sampled_from(["plackett-luce", "epsilon", "thompson"]),
        "temperature": st.sampled_from([0.0, 0.3, 1.0]),
        "epsilon": st.sampled_from([0.0, 0.2, 1.0]),
        "new_items": st.sampled_from([0.0, 0.3]),
    }
)
POLICIES = st.fixed_dictionaries(
    {
        "boosts": st.lists(BOOST, max_size=2),
        "pins": st.lists(PIN, max_size=3),
        "max_per": CAPS,
        "shares": st.lists(SHARE, max_size=2),
        "diversity": st.sampled_from([0.0, 0.3, 1.0]),
        "explore": EXPLORE,
    }
)


def values_of(one: Item, name: str) -> tuple[str, ...]:
    return one.categories if name == "categories" else (str(one.attributes["seller"]),)


def meets(one: Item, filters: dict[str, Any]) -> bool:
    ((name, wanted),) = filters.items()
    if name == "none":
        return False
    return bool(set(values_of(one, name)) & set([wanted] if isinstance(wanted, str) else wanted))


def capped(listed: list[Item], one: Item, max_per: dict[str, int]) -> bool:
    return any(
        sum(value in values_of(other, name) for other in listed) >= most
        for name, most in max_per.items()
        for value in values_of(one, name)
    )


@settings(max_examples=70, deadline=None)
@given(worlds(), POLICIES, st.integers(1, 6))
def test_whatever_the_policy_each_rule_holds_beside_the_others(world: Shop, policy: Any, k: int) -> None:
    listed, found = world.arranged(surface(**policy), k)
    offered = world.offered()
    pinned = effective_pins(policy["pins"], offered, k, found)

    assert len(set(ids(listed))) == len(listed) <= k
    assert set(ids(listed)) <= set(ids(offered))
    for place, item_id in pinned.items():
        assert ids(listed).index(item_id) + 1 == place if len(listed) == k else item_id in ids(listed)[:place]
    for name, most in policy["max_per"].items():
        own = [one for one in listed if one.item_id in pinned.values()]
        for value in {value for one in listed for value in values_of(one, name)}:
            held, given_by_pins = (sum(value in values_of(one, name) for one in some) for some in (listed, own))
            assert held <= max(most, given_by_pins)
    if len(listed) < k:
        left = [one for one in offered if one not in listed]
        assert all(capped(listed, one, policy["max_per"]) for one in left)
    short = places("shares_short", found)
    for number, share in enumerate(policy["shares"], 1):
        wanted = math.ceil(share["least"] * k - 1e-9)
        if number not in short:
            assert sum(meets(one, share["filters"]) for one in listed) >= wanted
    assert ((found.propensities > 0) & (found.propensities <= 1)).all()
    explore = surface(**policy).explore
    if not explores(explore):
        assert (found.propensities == 1).all()
    again = world.arranged(surface(**policy), k)[1]
    assert (again.slots.tolist(), again.propensities.tolist()) == (found.slots.tolist(), found.propensities.tolist())


def effective_pins(pins: list[dict[str, Any]], offered: list[Item], k: int, found: Arranged) -> dict[int, str]:
    held: dict[int, str] = {}
    missing, taken = set(), set()
    for pin in pins:
        place, item_id = pin["place"], pin["item_id"]
        if place > k:
            continue
        if item_id not in ids(offered):
            missing.add(place)
        elif place in held or item_id in held.values():
            taken.add(place)
        else:
            held[place] = item_id
    assert places("pins_missing", found) == sorted(missing)
    assert places("pins_taken", found) == sorted(taken)
    return held


@settings(max_examples=40, deadline=None)
@given(worlds(), st.lists(BOOST, max_size=2), CAPS, st.integers(1, 6))
def test_boosts_and_caps_are_the_order_by_odds_without_what_is_too_many(
    world: Shop, boosts: list[dict[str, Any]], max_per: dict[str, int], k: int
) -> None:
    def rank(one: Item) -> tuple[int, float, int]:
        times = math.prod(boost["times"] for boost in boosts if meets(one, boost["filters"]))
        known = one in world.items
        score = world.scores[int(one.item_id[1:])] if known else 0.0
        value = score + math.log(times) if times and known else score
        return 2 * (not times) + (not known), -value, int(one.item_id[1:])

    expected: list[Item] = []
    for one in sorted(world.offered(), key=rank):
        if len(expected) < k and not capped(expected, one, max_per):
            expected.append(one)
    assert ids(world.arranged(surface(boosts=boosts, max_per=max_per), k)[0]) == ids(expected)


@settings(max_examples=40, deadline=None)
@given(worlds(), SHARE, st.sampled_from([{}, {"seller": 1}, {"seller": 2}]), st.integers(1, 5))
def test_a_share_is_short_only_where_no_list_at_all_would_reach_it(
    world: Shop, share: dict[str, Any], max_per: dict[str, int], k: int
) -> None:
    listed, found = world.arranged(surface(shares=[share], max_per=max_per), k)
    wanted = math.ceil(share["least"] * k - 1e-9)
    group = [one for one in world.offered() if meets(one, share["filters"])]
    best = max(
        size
        for size in range(wanted + 1)
        for some in combinations(group, size)
        if all(not capped([other for other in some if other is not one], one, max_per) for one in some)
    )
    assert sum(meets(one, share["filters"]) for one in listed) >= best
    assert places("shares_short", found) == ([1] if best < wanted else [])


def test_a_policy_that_says_nothing_leaves_the_order_by_score_and_goes_on_with_what_the_model_does_not_know() -> None:
    listed, found = world_of(3, beyond=2).arranged(surface(), 4)
    assert ids(listed) == ["i0", "i1", "i2", "i3"]
    assert found.rows.tolist() == [0, 1, 2, NO_ROW]
    assert (found.scores.tolist(), found.propensities.tolist()) == ([3, 2, 1, 0], [1, 1, 1, 1])
    assert found.notes == ()


def test_a_boost_multiplies_the_odds_and_times_0_buries_to_the_very_end() -> None:
    world = Shop([item(0, "anne", ()), item(1, "bob", ())], [1.0, 0.0], [item(2, "cid", ())])
    almost, enough = math.exp(0.99), math.exp(1.01)
    for times, first in ((almost, "i0"), (enough, "i1")):
        assert ids(world.arranged(surface(boosts=[{"filters": {"seller": "bob"}, "times": times}]), 1)[0]) == [first]
    buried = surface(boosts=[{"filters": {"seller": "anne"}, "times": 0}])
    assert ids(world.arranged(buried, 3)[0]) == ["i1", "i2", "i0"]
    assert ids(world.arranged(buried, 2)[0]) == ["i1", "i2"]


def test_a_campaign_holds_from_its_first_moment_up_to_its_last() -> None:
    world = world_of(3)
    pinned = surface(pins=[{"item_id": "i2", "place": 1, "since": 10, "until": 20}])
    at = {now_ms: world.arranged(pinned, 1, now_ms=now_ms)[0][0].item_id for now_ms in (9, 10, 19, 20)}
    assert at == {9: "i0", 10: "i2", 19: "i2", 20: "i0"}


def test_a_pin_is_of_an_item_that_the_model_does_not_know_as_well() -> None:
    listed, found = world_of(3, beyond=2).arranged(surface(pins=[{"item_id": "i4", "place": 2}]), 4)
    assert ids(listed) == ["i0", "i4", "i1", "i2"]
    assert found.rows.tolist() == [0, NO_ROW, 1, 2]


def test_what_is_pinned_below_the_end_of_a_list_ends_it() -> None:
    assert ids(world_of(3).arranged(surface(pins=[{"item_id": "i0", "place": 9}]), 10)[0]) == ["i1", "i2", "i0"]


def test_caps_look_further_than_the_pool_and_shares_too() -> None:
    many = [item(i, "anne", ()) for i in range(2000)] + [item(2000, "bob", ("old",)), item(2001, "cid", ("old",))]
    world = Shop(many, [float(-i) for i in range(2002)], [])
    assert ids(world.arranged(surface(max_per={"seller": 1}), 3)[0]) == ["i0", "i2000", "i2001"]
    old = surface(shares=[{"filters": {"categories": "old"}, "least": 0.5}])
    assert ids(world.arranged(old, 4)[0]) == ["i0", "i1", "i2000", "i2001"]
    world = Shop([one.model_copy(update={"categories": ("old",)}) for one in many], world.scores, [])
    both = surface(shares=[{"filters": {"categories": "old"}, "least": 1}], max_per={"seller": 1})
    listed, found = world.arranged(both, 3)
    assert (ids(listed), found.notes) == (["i0", "i2000", "i2001"], ())


def test_a_share_keeps_the_places_and_the_values_that_it_needs() -> None:
    made = [item(0, "anne", ()), item(1, "bob", ()), item(2, "anne", ("old",)), item(3, "anne", ("old",))]
    world = Shop(made, [4.0, 3.0, 2.0, 1.0], [])
    policy = surface(max_per={"seller": 1}, shares=[{"filters": {"categories": "old"}, "least": 0.5}])
    assert ids(world.arranged(policy, 2)[0]) == ["i1", "i2"]  # i0 would take the only place of anne


def test_a_condition_that_means_nothing_for_its_field_is_refused_with_its_place() -> None:
    bad = surface(boosts=[{"filters": {}, "times": 2}, {"filters": {"seller": {"gt": 3}}, "times": 2}])
    with pytest.raises(RequestRefused, match=r"boosts\[1\]"):
        world_of(3).arranged(bad, 2)


def test_what_goes_by_a_field_that_no_item_has_does_nothing_and_is_told() -> None:
    boost = {"filters": {"sponsored": True}, "times": 9}
    listed, found = world_of(3).arranged(surface(boosts=[boost], max_per={"seler": 1, "seller": 3}), 3)
    assert ids(listed) == ["i0", "i1", "i2"]
    assert found.notes == ("unknown_fields=max_per.seler,boosts[0]",)


def test_hardly_any_temperature_takes_the_best_and_no_rounding_makes_a_chance_more_than_sure() -> None:
    for temperature in (5e-324, 1e-3):
        found = world_of(5).arranged(surface(explore={"temperature": temperature}), 5)[1]
        assert (found.rows.tolist(), found.propensities.tolist()) == ([0, 1, 2, 3, 4], [1] * 5)
    assert draw(np.array([0.1] * 3 + [0.0]), 1 - 2**-53) == 2


def test_full_diversity_takes_turns_and_none_is_the_order_by_score() -> None:
    made = [item(i, "anne", (TAGS[i // 3],)) for i in range(9)]
    world = Shop(made, [float(9 - i) for i in range(9)], [])
    assert ids(world.arranged(surface(diversity=1), 4)[0]) == ["i0", "i3", "i6", "i1"]
    assert ids(world.arranged(surface(diversity=1e-9), 9)[0]) == [f"i{i}" for i in range(9)]


def test_items_that_nobody_has_seen_do_not_make_likeness_dearer() -> None:
    made = [item(i, "anne", (TAGS[i % 2],)) for i in range(20)]
    scores = [9.0, 0.5, 8.9, 0.4, 8.8, 0.3]
    worlds = [Shop(made[:6], scores, []), Shop(made, scores + [-1e30] * 14, [])]
    asked = surface(diversity=0.3)
    assert ids(worlds[0].arranged(asked, 4)[0]) == ids(worlds[1].arranged(asked, 4)[0]) == ["i0", "i2", "i4", "i1"]


def test_items_are_alike_by_their_vectors_where_they_have_no_categories() -> None:
    world = Shop([item(i, "anne", ()) for i in range(4)], [4.0, 3.0, 2.0, 1.0], [])
    vectors = np.array([[1, 0], [2, 0.1], [0, 3], [0, 0]], np.float32)
    found = arrange(world.offer(vectors), surface(diversity=0.9), 3, "r1", 0)
    assert found.rows.tolist() == [0, 2, 3]


@settings(max_examples=40, deadline=None)
@given(worlds(), st.lists(BOOST, max_size=2), st.sampled_from([0.2, 0.7, 1.0]), st.integers(1, 9))
def test_a_varied_list_is_the_same_in_one_loop_and_place_by_place(
    world: Shop, boosts: list[dict[str, Any]], diversity: float, k: int
) -> None:
    vectors = (
        np.random.RandomState(0).normal(size=(len(world.items), 3)) * (np.arange(len(world.items)) % 4 > 0)[:, None]
    )
    plain = surface(boosts=boosts, diversity=diversity)
    one_by_one = plain.changed({"max_per": {"seller": 99}})  # which no list comes near
    found, expected = (arrange(world.offer(vectors), one, k, "r", 0) for one in (plain, one_by_one))
    assert found.slots.tolist() == expected.slots.tolist()
    assert found.propensities.tolist() == expected.propensities.tolist()


PLAIN = {"by": "plackett-luce", "temperature": 1.0}
EXPLORING = {
    "plackett-luce": {"explore": PLAIN},
    "epsilon": {"explore": {"by": "epsilon", "epsilon": 0.5}},
    "new items": {"explore": {**PLAIN, "epsilon": 0.1, "new_items": 0.3}},
    "caps": {"explore": PLAIN, "max_per": {"seller": 1}},
    "thompson": {"explore": {"by": "thompson"}},
    "thompson, all": {
        "explore": {"by": "thompson", "epsilon": 0.1, "new_items": 0.2},
        "diversity": 0.5,
        "max_per": {"categories": 2},
        "pins": [{"item_id": "i1", "place": 2}],
        "shares": [{"filters": {"seller": "cid"}, "least": 0.3}],
    },
    "all": {
        "explore": {**PLAIN, "new_items": 0.2},
        "diversity": 0.5,
        "max_per": {"categories": 2},
        "pins": [{"item_id": "i1", "place": 2}],
        "shares": [{"filters": {"seller": "cid"}, "least": 0.3}],
    },
}


@pytest.mark.parametrize("policy", EXPLORING.values(), ids=EXPLORING)
def test_lists_are_drawn_as_often_as_their_propensities_say(policy: dict[str, Any]) -> None:
    world, asked = world_of(5, beyond=1), surface(**policy)
    offer, lists = world.offer(), 800
    drawn: Counter[tuple[int, ...]] = Counter()
    chances: dict[tuple[int, ...], float] = {}
    for number in range(lists):
        found = arrange(offer, asked, 3, f"r{number}", 0)
        one = tuple(found.slots.tolist())
        drawn[one] += 1
        assert chances.setdefault(one, math.prod(found.propensities.tolist())) == math.prod(found.propensities.tolist())
    likely = [one for one, chance in chances.items() if chance * lists >= 5]
    expected = np.array([chances[one] for one in likely]) * lists
    seen = np.array([drawn[one] for one in likely])
    expected, seen = np.append(expected, lists - expected.sum()), np.append(seen, lists - seen.sum())
    expected, seen = expected[expected > 1e-6], seen[expected > 1e-6]
    assert len(likely) > 2
    statistic = float(((seen - expected) ** 2 / expected).sum())
    degrees = len(expected) - 1
    assert statistic < degrees + 4 * math.sqrt(2 * degrees)


@pytest.mark.parametrize("policy", ["all", "thompson, all"])
def test_all_propensities_of_a_place_are_a_whole(policy: str) -> None:
    """Whatever is above: the chances of all that could be next, each as it was told when it came."""
    world, asked = world_of(5, beyond=1), surface(**EXPLORING[policy])
    offer = world.offer()
    found: dict[tuple[int, ...], dict[int, float]] = {}
    for number in range(600):
        one = arrange(offer, asked, 3, f"r{number}", 0)
        for place, (slot, chance) in enumerate(zip(one.slots.tolist(), one.propensities.tolist(), strict=True)):
            told = found.setdefault(tuple(one.slots[:place].tolist()), {})
            assert told.setdefault(slot, chance) == chance
    whole = [sum(told.values()) for told in found.values()]
    assert max(whole) < 1 + 1e-12
    assert sum(found[()].values()) > 0.97


@pytest.mark.parametrize(
    "policy", [{}, EXPLORING["thompson, all"] | {"explore": {"by": "thompson"}}], ids=["plain", "all"]
)
def test_a_list_by_thompson_is_that_of_one_draw_and_as_likely_as_such_draws_are_many(policy: dict[str, Any]) -> None:
    """Each draw alone, its scores as if they were the model's, gives the list; the rest is counting."""
    world = world_of(9, beyond=1)
    offer = world.offer()
    assert isinstance(offer.draws, Draws)
    likeness = {} if not policy else {"diversity": 0.0}  # whose price is by the scores of the model
    of_draw = list[list[int]]()
    for added in offer.draws.added:
        scores = offer.scores.astype(np.float64)
        scores[offer.draws.rows] += added
        alone = surface(**(policy | likeness | {"explore": {}}))
        of_draw.append(arrange(offer._replace(scores=scores), alone, 3, "r", 0).slots.tolist())
    asked = surface(**(policy | likeness | {"explore": {"by": "thompson"}}))
    lists = set[tuple[int, ...]]()
    for number in range(300):
        found = arrange(offer, asked, 3, f"r{number}", 0)
        one = found.slots.tolist()
        lists.add(tuple(one))
        for place, chance in enumerate(found.propensities.tolist()):
            above, here = (sum(other[:n] == one[:n] for other in of_draw) for n in (place, place + 1))
            assert chance == here / above
    assert lists == {tuple(one) for one in of_draw}


def test_without_draws_thompson_leaves_the_order_by_score_and_says_why() -> None:
    world, asked = world_of(5), surface(explore={"by": "thompson"})
    for draws, note in (("no_posterior", ("not_explored=no_posterior",)), (world.offer().draws, ())):
        by = asked if note else surface(explore={"by": "thompson", "temperature": 0})
        found = arrange(world.offer()._replace(draws=draws), by, 5, "r1", 0)
        assert (found.rows.tolist(), found.propensities.tolist()) == ([0, 1, 2, 3, 4], [1] * 5)
        assert found.notes == note


FIRST_LISTS = """
from serving.arranging import arrange, likeness, thompson, warm_up
from tests.serving.test_arranging import surface, world_of
loops = likeness._raise, likeness._greedy, thompson._best_of_each
warm_up()
made = [one.signatures for one in loops]
assert all(made)
offer = world_of(9, beyond=1).offer()
for fields in ({"diversity": 0.5}, {"diversity": 0.5, "max_per": {"seller": 2}}, {"explore": {"by": "thompson"}}):
    arrange(offer, surface(**fields), 3, "r", 0)
    arrange(offer._replace(vectors=offer.scores[:, None]), surface(**fields), 3, "r", 0)
assert [one.signatures for one in loops] == made, "compiled while somebody waited"
"""


def test_no_list_waits_for_a_loop_to_be_compiled() -> None:
    subprocess.run([sys.executable, "-c", FIRST_LISTS], cwd=ROOT, check=True)
