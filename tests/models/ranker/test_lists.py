"""What the ranker learns of lists that were shown: taste and not place, as much as queries can bear, and all of it is
served by the weights that queries teach.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.published.ranker_graph import WEIGHTS
from models.ranker.bounds import LISTS, SURE
from models.ranker.earlier import widen
from models.ranker.heads import HEADS, RankerHeads
from models.ranker.lists import PLACES, TaughtList
from models.ranker.network import RankerNetwork

FACTS, LENGTH = 4, 8
GOOD, LIKED_BY_THE_SHOP = 0, 1


def lists(many: int) -> list[TaughtList]:
    """People choose by the first fact and by place; a shop draws lists of 30 items by the second, its best first."""
    draw = np.random.default_rng(0)
    found = []
    for _ in range(many):
        facts = draw.normal(size=(30, FACTS)).astype(np.float32)
        shown = facts[np.argsort(-(3 * facts[:, LIKED_BY_THE_SHOP] + draw.gumbel(size=30)))[:LENGTH]]
        places = np.arange(1, LENGTH + 1)
        odds = np.exp(shown[:, GOOD] - 1.2 * np.log(places))
        chosen = np.zeros(LENGTH, np.float32)
        chosen[draw.choice(LENGTH, p=odds / odds.sum())] = 1.0
        found.append(TaughtList(shown, np.zeros(LENGTH, np.float32), places, chosen))
    return found


def taught(stream: list[TaughtList]) -> RankerNetwork:
    network = RankerNetwork(FACTS)
    for number, one in enumerate(stream):
        network.taught_list(one)
        if number % 8 == 7:
            network.step_lists()
    return network


def said(network: RankerNetwork, facts: NDArray[np.float32]) -> NDArray[np.float32]:
    asked = network.forward(facts)
    return network.lists.said(asked.hidden, asked.standard)


@pytest.fixture(scope="module")
def stream() -> list[TaughtList]:
    return lists(1600)


@pytest.fixture(scope="module")
def network(stream: list[TaughtList]) -> RankerNetwork:
    return taught(stream)


def test_what_lists_teach_is_what_people_like_and_not_where_it_stood(
    stream: list[TaughtList], network: RankerNetwork
) -> None:
    naive = taught([one._replace(places=np.zeros_like(one.places)) for one in stream])
    facts = np.eye(FACTS, dtype=np.float32)
    nothing, ours, theirs = (said(one, facts) - said(one, 0 * facts) for one in (RankerNetwork(FACTS), network, naive))
    assert not nothing.any()
    assert ours[GOOD] > 0.6
    assert theirs[LIKED_BY_THE_SHOP] > 0.5
    assert abs(ours[LIKED_BY_THE_SHOP]) < 0.25
    places = network.lists.places
    assert places[1] - places[4] == pytest.approx(1.2 * np.log(4), abs=0.4)
    assert not places[LENGTH + 1 :].any()
    assert len(places) == PLACES + 1


def test_its_share_is_earned_in_lists_and_lost_where_queries_pay(network: RankerNetwork) -> None:
    earned = network.lists
    assert earned.share[0] == 1.0
    chance, target = np.full(4, 0.25, np.float32), np.arange(4) == 0
    worse = np.array([-1.0, 1.0, 1.0, 1.0], np.float32)
    shares = []
    for _ in range(6):
        earned.asked(worse, chance, target)
        earned.step()
        shares.append(float(earned.share[0]))
    assert shares == sorted(shares, reverse=True)
    assert 0.0 < shares[0] < 1.0
    assert shares[-1] == 0.0
    for _ in range(12):
        earned.asked(-worse, chance, target)
    earned.step()
    assert earned.share[0] == 1.0


def test_what_queries_keep_out_of_all_answers_is_published_as_a_head_of_its_own(network: RankerNetwork) -> None:
    heads, earned = RankerHeads(FACTS, network.lists), network.lists
    earned.gain[:] = 0.5 * SURE, -0.5 * SURE
    earned.step()
    assert earned.share[0] == 0.25
    heads.take_changes()
    network.step_lists()
    assert not heads.take_changes().dense  # nothing moved
    served = RankerHeads(FACTS, RankerNetwork(FACTS).lists)
    published = heads.weights()
    served.read(published)
    assert published["ranker_head_types"].tolist() == [0] * HEADS + [LISTS]
    assert published["ranker_head_share"][HEADS] == 0.25
    np.testing.assert_array_equal(served.lists.weight, earned.weight)
    assert {name: tuple(one.shape) for name, one in heads.inputs().items()} == {
        name: one.shape for name, one in published.items()
    }


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_published_weights_say_what_queries_and_lists_say_together(network: RankerNetwork, share: float) -> None:
    facts = np.random.default_rng(1).normal(size=(20, FACTS)).astype(np.float32)
    network.flat += 0.02
    network.share[0], network.lists.share[0] = share, 0.7
    network.step()
    served = RankerNetwork(FACTS)
    served.read({name: one.copy() for name, one in network.weights().items()})
    assert served.weights().keys() >= WEIGHTS.keys()
    np.testing.assert_allclose(
        served.common(served.forward(facts)), network.common(network.forward(facts)), rtol=1e-4, atol=1e-5
    )
    assert not served.lists.share[0]


def test_a_list_that_is_all_reacted_to_teaches_nothing_and_no_number_is_too_large() -> None:
    network = RankerNetwork(FACTS)
    one = lists(1)[0]
    network.taught_list(one._replace(chosen=np.ones(LENGTH, np.float32), places=np.full(LENGTH, 3)))
    network.step_lists()
    same = said(network, one.facts)
    assert np.isfinite(same).all()
    for huge in (1e4, -1e4):
        network.taught_list(one._replace(plain=np.linspace(0, huge, LENGTH, dtype=np.float32), places=one.places * 999))
        network.step_lists()
    assert np.isfinite(network.lists.flat.numpy()).all()


def test_a_list_in_which_somebody_says_no_number_teaches_nothing(network: RankerNetwork) -> None:
    one, before = lists(1)[0], network.lists.flat.clone()
    network.taught_list(one._replace(plain=np.full(LENGTH, np.nan, np.float32)))
    network.step_lists()
    assert network.lists.flat.equal(before)
    assert np.isfinite(network.lists.gain).all()


def test_a_head_that_was_told_fewer_facts_goes_on(network: RankerNetwork) -> None:
    later = RankerNetwork(FACTS + 3).lists
    widen("ranker.lists", network.lists.flat.numpy(), later.flat.numpy())
    hidden, standard = np.ones((1, network.lists.hidden), np.float32), np.ones((1, FACTS + 3), np.float32)
    assert later.said(hidden, standard) == pytest.approx(network.lists.said(hidden, standard[:, :FACTS]), abs=1e-6)
    np.testing.assert_array_equal(later.places, network.lists.places)
