"""How far new items are lifted."""

import numpy as np
import pytest

from models.ranker.facts import are_new
from models.ranker.lift import ENOUGH, LADDER, PRICE, NewItemsLift

CANDIDATES = 40


def judged(lift: NewItemsLift, queries: int, new_comes: float, told_apart: bool) -> NewItemsLift:
    """Queries of 20 known and 20 new candidates. One of the known comes, it ranks well; or a new one, which ranks
    behind the known, above the other new ones where they can be told apart."""
    random = np.random.default_rng(7)
    new = np.arange(CANDIDATES) >= CANDIDATES // 2
    for _ in range(queries):
        scores = random.normal(0, 1, CANDIDATES).astype(np.float32) - 2 * new
        at = int(random.choice(np.flatnonzero(new if random.random() < new_comes else ~new)))
        scores[at] += 2.0 if told_apart or not new[at] else 0.0
        lift.judge(scores, new, np.arange(CANDIDATES) == at)
    lift.step()
    return lift


def test_new_items_are_lifted_the_further_the_more_of_what_comes_is_new() -> None:
    few, many = (judged(NewItemsLift(), 4000, share, told_apart=True).lift[0] for share in (0.02, 0.75))
    assert 0 < few < many


def test_what_is_given_for_new_items_is_at_most_the_price() -> None:
    lift = judged(NewItemsLift(), 4000, 0.02, told_apart=False)
    at = int(np.flatnonzero(lift.lift[0] == LADDER)[0])
    assert lift.worth[at] >= (1 - PRICE) * lift.worth.max()
    assert at + 1 == len(LADDER) or lift.worth[at + 1] < (1 - PRICE) * lift.worth.max()


def test_nothing_is_lifted_before_enough_queries_told() -> None:
    lift = judged(NewItemsLift(), ENOUGH - 1, 0.75, told_apart=True)
    assert not lift.lift[0]
    assert judged(lift, 1, 0.75, told_apart=True).lift[0] > 0


def test_a_target_that_is_no_candidate_tells_nothing() -> None:
    lift = NewItemsLift()
    lift.judge(np.zeros(3, np.float32), np.ones(3, bool), np.zeros(3, bool))
    assert not lift.judged[0]


@pytest.mark.parametrize(("count", "new"), [(0, True), (5, True), (6, False)])
def test_new_is_who_has_had_few_events(count: int, new: bool) -> None:
    assert are_new(np.array([count], np.float32))[0] == new
