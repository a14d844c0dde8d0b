"""The learner keeps its contract, learns worlds whose answers are known, and stays within its bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from headwater.errors import SettingsError
from headwater.examples import CatalogueEntry, Entry, EventPosition, Example
from models.checks import check_learner, digest_of
from models.config import MemoryConfig, ModelConfig, model_config
from models.learner import Learner
from models.published.bundle import Bundle
from models.published.parity import reference_scores
from tests.worlds.tastes import START_MS, checkerboard, examples_of, ids_by_score, parade, ring

MEMORIES = (
    MemoryConfig(reach=4, symmetric=False, write_fade=0.8, read_fade=0.8, slots=16),
    MemoryConfig(reach=8, symmetric=True, write_fade=0.9, read_fade=0.8, target_power=0.4, slots=16),
)
SMALL = ModelConfig(
    width=16, length=12, block=16, initial_capacity=8, replay_windows=8, replay_capacity=64, memories=MEMORIES
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def bundle_of(learner: Learner) -> Bundle:
    bundle = learner.publish(created_ms=0, full=True)
    assert isinstance(bundle, Bundle)
    return bundle


def best(bundle: Bundle, history: list[str]) -> list[str]:
    entries = [Entry(item, "view", START_MS + 1000 * i, None) for i, item in enumerate(history)]
    ranked = ids_by_score(reference_scores(bundle, [entries], [START_MS + 60_000])[0].tolist(), bundle.items)
    return [item_id for item_id in ranked if item_id not in history]


@pytest.mark.parametrize("world", [ring, checkerboard, parade])
def test_the_learner_keeps_the_contract(world) -> None:  # type: ignore[no-untyped-def]
    check_learner(lambda: Learner(SMALL, seed=3), world(130))


def test_the_contract_holds_with_expiry_admission_and_a_sampled_softmax() -> None:
    config = SMALL.model_copy(
        update={"expire_idle_events": 40, "admit_after": 2, "full_softmax_items": 4, "negatives": 16, "max_items": 32}
    )
    check_learner(lambda: Learner(config, seed=3), parade(230))


def test_the_contract_holds_when_rows_fade_so_fast_that_they_are_rescaled() -> None:
    config = SMALL.model_copy(update={"memory_decay": 0.5})
    check_learner(lambda: Learner(config, seed=3), ring(130))
    learner = Learner(config, seed=3)
    learner.learn(ring(400))
    row, memory = learner.items.rows["i1"], learner.parts.memories[0]
    assert memory.held.weights.max() <= 2e4
    assert np.exp(memory.tables.log_count[row] - memory.tables.own[row]) == pytest.approx(2, abs=0.1)


def test_what_always_follows_is_ranked_first() -> None:
    learner = Learner(SMALL.model_copy(update={"window_events": 200}), seed=0)
    learner.learn(ring(800))
    ndcg = learner.prequential.summary()["ndcg_at_10"]
    assert ndcg["headwater"] > 0.95
    assert ndcg["memory"] > 0.95
    assert ndcg["popularity"] < 0.5
    assert best(bundle_of(learner), ["i3", "i4", "i5"])[0] == "i6"


def test_the_slow_learner_alone_learns_what_always_follows() -> None:
    learner = Learner(SMALL.model_copy(update={"window_events": 200}), seed=0)
    learner.learn(ring(2000))
    assert learner.prequential.summary()["ndcg_at_10"]["slow"] > 0.8


def test_a_sampled_softmax_learns_it_too() -> None:
    config = SMALL.model_copy(update={"window_events": 200, "full_softmax_items": 8, "negatives": 32})
    learner = Learner(config, seed=0)
    learner.learn(ring(2000))
    assert learner.prequential.summary()["ndcg_at_10"]["slow"] > 0.8


def test_users_of_one_colour_are_shown_their_colour() -> None:
    learner = Learner(SMALL, seed=0)
    learner.learn(checkerboard(1500))
    top = best(bundle_of(learner), ["i2", "i8", "i14"])[:10]
    assert sum(int(item[1:]) % 2 == 0 for item in top) >= 9


def test_an_item_is_known_to_follow_after_its_first_click() -> None:
    learner = Learner(SMALL, seed=0)
    learner.learn(ring(160))
    assert not learner.pending  # no gradient step comes after this: only the association memories can know
    learner.learn(examples_of([("one", "i3"), ("one", "after-3"), ("two", "i15"), ("two", "after-15")]))
    bundle = bundle_of(learner)
    near_3, near_15 = best(bundle, ["i1", "i2", "i3"]), best(bundle, ["i13", "i14", "i15"])
    assert near_3.index("after-3") < near_3.index("after-15")
    assert near_15.index("after-15") < near_15.index("after-3")


def test_a_new_item_starts_near_items_about_the_same() -> None:
    learner = Learner(SMALL, seed=0)
    for n in range(24):
        learner.observe_item(CatalogueEntry(f"i{n}", {"title": "", "categories": ["red" if n < 12 else "blue"]}))
    learner.observe_item(CatalogueEntry("fresh", {"title": "", "categories": ["red"]}))
    learner.learn(ring(320))
    learner.learn(examples_of([("someone", "fresh")]))
    table, rows = learner.parts.sequence.encoder.table.numpy(), learner.items.rows
    red = np.mean([table[rows[f"i{n}"]] for n in range(12)], 0)
    blue = np.mean([table[rows[f"i{n}"]] for n in range(12, 24)], 0)
    fresh = table[rows["fresh"]]
    assert np.linalg.norm(fresh - red) < np.linalg.norm(fresh - blue)


def test_a_first_event_is_no_query_and_neither_is_a_first_seen_item_or_one_the_user_saw() -> None:
    learner = Learner(SMALL.model_copy(update={"block": 1}), seed=0)
    first, unseen, repeat, query = learner.learn(
        [
            *examples_of([("a", "x"), ("a", "y"), ("a", "x")]),
            *examples_of([("b", "y"), ("b", "x")])[1:],
        ]
    )
    assert not first.is_query
    assert not unseen.is_query
    assert not repeat.is_query
    assert query.is_query


def test_a_repeated_item_is_a_query_when_the_rule_does_not_exclude_its_event_type() -> None:
    examples = examples_of([("a", "x"), ("a", "y"), ("a", "x")])
    learner = Learner(SMALL.model_copy(update={"block": 1, "exclude_seen": ("purchase",)}), seed=0)
    assert [one.is_query for one in learner.learn(examples)] == [False, False, True]


def test_popularity_ranks_are_those_of_all_time_counts_with_ties_against_the_target() -> None:
    examples = checkerboard(300)
    scored = Learner(SMALL, seed=0).learn(examples)
    counts: dict[str, int] = {}
    for example, one in zip(examples, scored, strict=False):
        item, seen = example.target.item_id, {entry.item_id for entry in example.history}
        if example.history and item in counts and item not in seen:
            rivals = [other for other in counts if other not in seen and other != item]
            assert one.popularity == 1 + sum(counts[other] >= counts[item] for other in rivals)
        else:
            assert not one.is_query
        counts[item] = counts.get(item, 0) + 1


def test_capacity_grows_by_doubling_and_keeps_what_was_learned() -> None:
    learner = Learner(SMALL, seed=0)
    learner.learn(ring(400, items=24))
    bundle = bundle_of(learner)
    assert bundle.capacity == 32
    assert sum(item is not None for item in bundle.items) == 24
    assert best(bundle, ["i7", "i8"])[0] == "i9"


def test_no_room_is_made_for_more_rows_than_there_may_be() -> None:
    learner = Learner(SMALL.model_copy(update={"max_items": 60}), seed=0)
    learner.learn(examples_of((f"u{i}", f"i{i}") for i in range(40)))
    assert (learner.items.used, learner.capacity) == (40, 60)
    assert bundle_of(learner).capacity == 60


def test_an_item_gets_a_row_only_after_enough_events() -> None:
    learner = Learner(SMALL.model_copy(update={"admit_after": 3, "block": 4}), seed=0)
    learner.learn(examples_of([("a", "x"), ("b", "x"), ("b", "y")]))
    assert "x" not in learner.items.rows
    learner.learn(examples_of([("c", "x")]))
    assert "x" in learner.items.rows
    assert "y" not in learner.items.rows


def test_a_query_for_an_item_without_a_row_is_a_miss_and_not_left_out() -> None:
    learner = Learner(SMALL.model_copy(update={"admit_after": 5, "block": 4}), seed=0)
    *_, last = learner.learn(examples_of([("a", "x"), ("b", "y"), ("c", "x"), ("b", "x")]))
    assert last.is_query
    assert last.headwater == last.popularity == learner.items.used + 1


def test_an_idle_item_loses_its_row_and_the_next_owner_starts_anew() -> None:
    learner = Learner(SMALL.model_copy(update={"expire_idle_events": 20, "block": 4}), seed=0)
    learner.learn(examples_of([("a", "old"), ("a", "other"), ("a", "old2"), ("a", "other")]))
    row = learner.items.rows["old"]
    learner.learn(examples_of([("b", f"n{i % 2}") for i in range(24)]))
    assert "old" not in learner.items.rows
    bundle = bundle_of(learner)
    assert bundle.items[row] is None or bundle.items[row] != "old"
    if bundle.items[row] is None:
        assert not learner.parts.sequence.encoder.table[row].any()
        assert not learner.parts.sequence.encoder.averages.table[row].any()
        assert learner.popularity.counts[row] == 0
        for memory in learner.parts.memories:
            assert not (memory.held.weights[memory.held.ids == row] > 0).any()


def test_a_catalogue_without_end_stays_within_its_bound() -> None:
    config = SMALL.model_copy(update={"max_items": 48, "window_events": 100})
    learner = Learner(config, seed=0)
    learner.learn(parade(1500))
    assert len(learner.items.rows) <= 48
    assert learner.capacity <= 64
    assert len(learner.content.by_id) <= 2 * 48
    assert len(learner.parts.sequence.replay.users) == 64


def test_a_late_event_is_learned_without_being_taken_for_a_continuation() -> None:
    history = [Entry("i1", "view", START_MS, None), Entry("i2", "view", START_MS + 9000, None)]
    late = Example("u", history[:1], Entry("i3", "view", START_MS + 500, None), 0, EventPosition(1, 0))
    newer = Example("u", history, Entry("i4", "view", START_MS + 10_000, None), 0, EventPosition(2, 0))
    learner = Learner(SMALL.model_copy(update={"block": 2}), seed=0)
    learner.learn(examples_of([("a", "i1"), ("a", "i2")]))
    learner.learn([late, newer])
    assert learner.examples_seen == 4
    check = learner.parts.sequence.replay.history[: learner.parts.sequence.replay.ringed]
    rows = learner.items.rows
    assert [rows["i1"], rows["i2"], rows["i4"]] in [list(window[:3]) for window in check.tolist()]


def test_publishing_changes_nothing_that_is_learned() -> None:
    silent, loud = Learner(SMALL, seed=0), Learner(SMALL, seed=0)
    for example in ring(100):
        silent.learn([example])
        loud.learn([example])
        loud.publish(created_ms=1)
    assert digest_of(silent) == digest_of(loud)


def test_different_seeds_give_different_weights() -> None:
    one, other = Learner(SMALL, seed=0), Learner(SMALL, seed=1)
    one.learn(ring(40))
    other.learn(ring(40))
    assert digest_of(one) != digest_of(other)


def test_global_random_state_neither_matters_nor_changes() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = Learner(SMALL, seed=0)
    one.learn(ring(100))
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(99)
    other = Learner(SMALL, seed=0)
    other.learn(ring(100))
    assert digest_of(one) == digest_of(other)


def test_extreme_values_and_times_leave_everything_finite() -> None:
    learner = Learner(SMALL, seed=0)
    entries = [
        Entry(f"i{i % 7}", "price", START_MS + 10**11 * (i % 5), (-1.0) ** i * 10.0 ** (i % 300)) for i in range(64)
    ]
    for i, entry in enumerate(entries):
        (scored) = learner.learn([Example("u", entries[max(i - 9, 0) : i], entry, 0, EventPosition(i, 0))])
        assert all(math.isfinite(one.loss) for one in scored)
    assert all(np.isfinite(a).all() for a in bundle_of(learner).weights.values() if a.dtype.kind == "f")


def test_a_cuda_device_that_is_not_there_is_an_error() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(SettingsError, match=r"trainer\.device"):
        Learner(SMALL, device="cuda")


def test_an_unknown_field_of_the_configuration_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="widht"):
        model_config({"widht": 3})


def test_a_memory_that_reaches_beyond_the_encoded_history_is_refused() -> None:
    with pytest.raises(SettingsError, match="raise length"):
        model_config({"length": 9})
