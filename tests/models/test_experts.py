"""Each expert in a world that only it can know: returns, what is hot now; and the switches that turn experts off."""

from __future__ import annotations

import random

import pytest
import torch

from headwater.examples import Entry, EventPosition, Example
from models.checks import check_learner
from models.config import MemoryConfig
from models.exclusion import returning_types
from models.learner import Learner
from tests.models.test_learner import MEMORIES, SMALL, bundle_of
from tests.worlds.tastes import START_MS, examples_of, parade, ring


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def homecoming(events: int, users: int = 8, items: int = 24) -> list[Example]:
    """Users look at one random item after another, and each comes back to their very first in between."""
    choose = random.Random(1)
    stream: list[tuple[str, str]] = []
    for i in range(events):
        user = f"u{i % users}"
        visit = (i // users) % 3
        stream.append((user, f"i{i % users}" if visit == 0 else f"i{choose.randrange(users, items)}"))
    return examples_of(stream)


def test_users_are_shown_what_they_come_back_to() -> None:
    config = SMALL.model_copy(update={"window_events": 300, "memories": (), "slow": False, "ranker": False})
    learner = Learner(config, seed=0)
    learner.learn(homecoming(1500))
    ndcg = learner.prequential.summary()["ndcg_at_10"]
    alone = Learner(config.model_copy(update={"repeats": False}), seed=0)
    alone.learn(homecoming(1500))
    assert ndcg["headwater"] > alone.prequential.summary()["ndcg_at_10"]["headwater"] + 0.1


def test_which_of_its_items_a_user_comes_back_to_may_depend_on_what_happened_since() -> None:
    """They look at one thing and cart another; after "leave" they come back to the first, after "pay" to the second."""
    choose = random.Random(3)
    examples = []
    for visit in range(600):
        seen, carted = choose.sample(range(24), 2)
        end = choose.choice(["leave", "pay"])
        happened = [(f"i{seen}", "view"), (f"i{carted}", "cart")]
        choose.shuffle(happened)
        happened += [("door", end), (f"i{seen if end == 'leave' else carted}", "view")]
        entries = [Entry(one, kind, START_MS + 4000 * visit + i, None) for i, (one, kind) in enumerate(happened)]
        for i, target in enumerate(entries):
            examples.append(Example(f"u{visit}", tuple(entries[:i]), target, 0, EventPosition(len(examples), 0)))
    learner = Learner(SMALL.model_copy(update={"exclude_seen": (), "memories": (), "slow": False}), seed=0)
    ranks = [one.headwater for one in learner.learn(examples)[1603::4]]
    assert sum(rank == 1 for rank in ranks) > 0.9 * len(ranks)  # a sum of what each fact says is right half of the time


def test_after_which_events_users_come_back_is_counted_and_decides_what_auto_leaves_out() -> None:
    learner = Learner(SMALL.model_copy(update={"block": 1}), seed=0)
    history: list[Entry] = []
    asked = []
    for i in range(60):  # looks at the same thing again and again; buys other things once
        kind, item_id = ("view", "same") if i % 2 else ("purchase", f"other{i}")
        target = Entry(item_id, kind, START_MS + i, None)
        (one,) = learner.learn([Example("u", tuple(history), target, 0, EventPosition(i, 0))])
        asked.append(one.is_query)
        history.append(target)
    assert asked[1:6:2] == [False] * 3  # until a few returns have shown that users come back
    assert asked[-1]
    bundle = bundle_of(learner)
    assert returning_types(bundle.weights["return_rate"], bundle.types) == {"view"}


def test_what_is_hot_now_is_found_by_the_popularity_of_a_short_reach() -> None:
    """Every day another item is what everybody clicks for two hours; all have been popular once."""
    choose = random.Random(2)
    examples = []
    for i in range(1200):
        time_ms = START_MS + (i // 120) * 86_400_000 + (i % 120) * 60_000
        item_id = f"news{i // 120 % 5}" if choose.random() < 0.8 else f"news{choose.randrange(12)}"
        before = (Entry("home", "view", time_ms - 1000, None),)
        examples.append(Example(f"u{i}", before, Entry(item_id, "view", time_ms, None), 0, EventPosition(i, 0)))
    found = []
    for half_lives in ((14.0,), (14.0, 1 / 24)):
        change = {
            "memories": (),
            "slow": False,
            "popularity_half_lives_days": half_lives,
            "window_events": 600,
            "ranker": False,
        }
        learner = Learner(SMALL.model_copy(update=change), seed=0)
        learner.learn(examples)
        found.append(learner.prequential.summary()["ndcg_at_10"]["headwater"])
    assert found[1] > found[0] + 0.2


def shifting(hours: int) -> list[Example]:
    """What follows what is another ring every hour, of three; the clock starts in the past and jumps years on."""
    choose = random.Random(3)
    examples = []
    for i in range(hours * 90):
        hour = i // 90
        time_ms = START_MS + hour * 3_600_000 + (i % 90) * 40_000 + (hour >= hours // 2) * 30 * 365 * 86_400_000
        item = choose.randrange(16)
        before = (Entry(f"i{item}", "view", time_ms - 1000, None),)
        target = Entry(f"i{(item + (1, 5, 11)[hour % 3]) % 16}", "view", time_ms, None)
        examples.append(Example(f"u{i}", before, target, 0, EventPosition(i, 0)))
    return examples


def test_what_follows_now_is_not_what_followed_an_hour_ago() -> None:
    lasting = MemoryConfig(reach=1, symmetric=False, write_fade=1.0, read_fade=1.0)
    fading = lasting.model_copy(update={"half_life_hours": 0.1})
    found = []
    for memories in ((lasting,), (lasting, fading)):
        config = SMALL.model_copy(update={"memories": memories, "slow": False, "window_events": 700})
        learner = Learner(config, seed=0)
        learner.learn(shifting(16))
        found.append(learner.prequential.summary()["ndcg_at_10"]["headwater"])
    assert found[1] > found[0] + 0.15
    fast = SMALL.model_copy(update={"memories": (lasting, fading)})
    check_learner(lambda: Learner(fast, seed=3), shifting(4)[::2])


def test_what_is_switched_off_has_no_part_and_the_contract_holds() -> None:
    config = SMALL.model_copy(update={"memories": (), "slow": False, "learned_gate": False, "repeats": False})
    check_learner(lambda: Learner(config, seed=3), ring(100))
    for change in ({"slow": True}, {"memories": MEMORIES}, {"repeats": True}, {"learned_gate": True}):
        check_learner(lambda change=change: Learner(config.model_copy(update=change), seed=3), parade(100))


def test_an_event_without_weight_teaches_the_memory_nothing() -> None:
    learner = Learner(SMALL.model_copy(update={"type_weights": {"view": 0.0}}), seed=0)
    learner.learn(ring(100))
    assert not any(memory.held.weights.any() for memory in learner.parts.memories)


def test_the_best_items_are_named_in_the_order_of_their_scores() -> None:
    learner = Learner(SMALL, seed=0)
    learner.list_length = 5
    for one in learner.learn(ring(320)):
        assert len(one.items) == (5 if one.is_query and one.headwater else 0) or len(one.items) < 5
    examples = ring(340)[320:]
    for example, one in zip(examples, learner.learn(examples), strict=False):
        if one.is_query and one.headwater <= len(one.items):
            assert one.items[one.headwater - 1] == example.target.item_id
        assert not {entry.item_id for entry in example.history} & set(one.items)
