"""The pure fold: what it remembers, and that batching and other users change nothing."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.examples import Example, pack_segments, unpack
from headwater.signals import Meaning
from headwater.wire import EventRow
from streams.features.decay import Decay, ItemStatistics, add_log2
from streams.features.fold import Limits, example, fold, fold_batch
from streams.features.hashes import event_hash
from streams.features.hot_users import HotUsers
from streams.features.packed import decode, encode
from streams.features.state import EMPTY, UserState
from streams.outbox import packed

DECAY = Decay(1_000, 10_000.0)
LIMITS = Limits(history=8, dedupe=5)


def row(n: int, user: str = "ada", item: str = "film-1", time_ms: int = 1_000, event_id: str | None = None) -> EventRow:
    return EventRow(user, item, "click", time_ms, None, event_id or f"e{n}", None, n, 0)


@st.composite
def streams_of_events(draw: st.DrawFn) -> list[EventRow]:
    """Events of few users with few items, times out of order and ids that repeat."""
    drawn = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["ada", "bob", "cyd"]),
                st.sampled_from(["a", "b", "c"]),
                st.integers(1_000, 1_020),
                st.integers(0, 25),
            ),
            max_size=40,
        )
    )
    return [row(n, user, item, time_ms, f"e{identity}") for n, (user, item, time_ms, identity) in enumerate(drawn)]


def one_by_one(rows: list[EventRow]) -> tuple[dict[str, UserState], list[Example]]:
    states: dict[str, UserState] = {}
    examples = []
    for one in rows:
        before = states.get(one.user_id, EMPTY)
        taught = example(before, one, LIMITS)
        examples += [] if taught is None else [taught]
        after = fold(before, one, LIMITS)
        assert (after is before) == (taught is None)
        states[one.user_id] = after
    return states, examples


def in_batches(rows: list[EventRow], cuts: list[int]) -> tuple[dict[str, UserState], list[Example]]:
    states: dict[str, UserState] = {}
    examples: list[Example] = []
    edges = sorted({0, len(rows), *(cut % (len(rows) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(edges):
        folded = fold_batch(states, rows[start:end], LIMITS, DECAY)
        states |= {user: decode(encode(state)) for user, state in folded.states.items()}
        for taught in unpack(pack_segments(0, folded.segments, LIMITS.history, LIMITS.shown)):
            assert isinstance(taught, Example)
            examples.append(taught)
    return states, examples


def comparable(states: dict[str, UserState]) -> dict[str, UserState]:
    return {
        user: replace(state, history=list(state.history), recent=list(state.recent))
        for user, state in states.items()
        if state.count
    }


@given(streams_of_events(), st.lists(st.integers(0, 40), max_size=5))
def test_batching_changes_neither_states_nor_examples(rows: list[EventRow], cuts: list[int]) -> None:
    states, examples = one_by_one(rows)
    batched_states, batched_examples = in_batches(rows, cuts)
    assert comparable(batched_states) == comparable(states)
    assert batched_examples == [taught._replace(history=list(taught.history)) for taught in examples]


@given(streams_of_events(), st.randoms(use_true_random=False))
def test_the_order_between_different_users_changes_nothing(rows: list[EventRow], shuffled: random.Random) -> None:
    queues = {user: [one for one in rows if one.user_id == user] for user in ("ada", "bob", "cyd")}
    interleaved = []
    while any(queues.values()):
        interleaved.append(queues[shuffled.choice([user for user, queue in queues.items() if queue])].pop(0))
    ours, theirs = fold_batch({}, rows, LIMITS, DECAY), fold_batch({}, interleaved, LIMITS, DECAY)
    assert {user: state.history for user, state in ours.states.items()} == {
        user: state.history for user, state in theirs.states.items()
    }
    assert ours.items.keys() == theirs.items.keys()
    for item, statistics in ours.items.items():
        assert statistics.counts == theirs.items[item].counts
        assert math.isclose(statistics.log2_sum, theirs.items[item].log2_sum, abs_tol=1e-12)


@given(streams_of_events())
def test_an_example_never_sees_its_own_future_nor_its_target(rows: list[EventRow]) -> None:
    states: dict[str, UserState] = {}
    for one in rows:
        before = states.get(one.user_id, EMPTY)
        taught = example(before, one, LIMITS)
        if taught is not None:
            assert all(entry.time_ms <= one.time_ms for entry in taught.history)
            assert len(taught.history) <= before.count
        states[one.user_id] = fold(before, one, LIMITS)
        times = [entry.time_ms for entry in states[one.user_id].history]
        assert times == sorted(times)
        assert len(times) <= LIMITS.history
        assert len(states[one.user_id].recent) <= LIMITS.dedupe


@given(streams_of_events())
def test_folding_leaves_the_state_before_as_it_was(rows: list[EventRow]) -> None:
    state = UserState([], [], 0)
    for one in rows:
        before = encode(state)
        after = fold_batch({one.user_id: state}, [one], LIMITS, DECAY).states.get(one.user_id, state)
        assert encode(state) == before
        state = after


def test_a_late_event_goes_to_its_place_and_ties_keep_the_order_of_arrival() -> None:
    rows = [row(0, item="a", time_ms=10), row(1, item="b", time_ms=30), row(2, item="c", time_ms=10)]
    states, examples = one_by_one(rows)
    assert [entry.item_id for entry in states["ada"].history] == ["a", "c", "b"]
    assert [entry.item_id for entry in examples[2].history] == ["a"]


def test_an_event_older_than_a_full_history_is_counted_and_not_kept() -> None:
    rows = [row(n, time_ms=100 + n) for n in range(8)] + [row(8, item="old", time_ms=1)]
    states, examples = one_by_one(rows)
    assert states["ada"].count == 9
    assert "old" not in {entry.item_id for entry in states["ada"].history}
    assert examples[8].history == []


def test_a_duplicate_is_found_only_within_the_window() -> None:
    rows = [row(n, time_ms=100 + n) for n in range(6)]
    state = EMPTY
    for one in rows:
        state = fold(state, one, LIMITS)
    assert fold(state, rows[5], LIMITS) is state
    assert fold(state, rows[0], LIMITS) is not state
    assert fold(fold(EMPTY, rows[0], Limits(8, 0)), rows[0], Limits(8, 0)).count == 2


def test_hashes_of_ids_are_64_bits_and_the_same_on_every_machine() -> None:
    assert event_hash("event-1") == 2123818840965202205
    assert event_hash("event-1") != event_hash("event-2")


@pytest.mark.parametrize("half_life_ms", [1.0, 1e3, 1e12])
def test_decayed_weights_neither_overflow_nor_depend_on_order(half_life_ms: float) -> None:
    decay = Decay(0, half_life_ms)
    times = [0, 5, 10_000_000, 3, 9_999_999, 10_000_000]
    there, back = ItemStatistics(), ItemStatistics()
    for time_ms in times:
        there.add("view", Meaning.POSITIVE, time_ms, decay)
    for time_ms in reversed(times):
        back.add("view", Meaning.POSITIVE, time_ms, decay)
    assert math.isfinite(there.log2_sum)
    assert math.isclose(there.log2_sum, back.log2_sum, rel_tol=1e-12)
    exact = sum(2.0 ** ((time_ms - times[2]) / half_life_ms) for time_ms in times)
    assert math.isclose(decay.weight_at(there.log2_sum, times[2]), exact, rel_tol=1e-6)


@pytest.mark.parametrize("meaning", [Meaning.NEGATIVE, Meaning.EXPOSURE, Meaning.CONTEXT])
def test_what_does_not_speak_for_its_item_is_counted_but_makes_it_not_popular(meaning: Meaning) -> None:
    statistics = ItemStatistics()
    statistics.add("poke", meaning, 5, DECAY)
    assert statistics.counts == {"poke": 1}
    assert statistics.log2_sum == -math.inf
    assert add_log2(-math.inf, -math.inf) == -math.inf


def test_examples_too_large_for_one_record_are_cut_so_that_positions_only_grow() -> None:
    rows = [row(n, f"user-{n % 30}", "語" * 250 + str(n), 1_000 + n) for n in range(2_400)]
    folded = fold_batch({}, rows, Limits(), DECAY)
    values = list(packed(0, folded.segments, Limits()))
    assert len(values) > 1
    assert all(len(value) <= 900_000 for value in values)
    found = [taught for value in values for taught in unpack(value)]
    assert [taught.position.offset for taught in found if isinstance(taught, Example)] == list(range(2_400))
    assert found == list(unpack(pack_segments(0, folded.segments, 1000)))


def test_one_example_too_large_by_itself_keeps_the_newest_of_its_history() -> None:
    rows = [row(n, item="\x01" * 250 + str(n), time_ms=1_000 + n) for n in range(1_001)]
    before = fold_batch({}, rows[:1000], Limits(), DECAY).states
    folded = fold_batch(before, rows[1000:], Limits(), DECAY)
    (value,) = packed(0, folded.segments, Limits())
    (taught,) = unpack(value)
    assert isinstance(taught, Example)
    assert 0 < len(taught.history) < 1000
    assert taught.history[-1].item_id == rows[999].item_id


def test_hot_users_are_bounded_by_the_memory_they_take() -> None:
    hot = HotUsers(2)
    long = fold_batch({}, [row(n, "long", time_ms=n) for n in range(60)], Limits(), DECAY).states["long"]
    hot.put({f"user-{n}": UserState(count=1) for n in range(8)})
    hot.put({"cyd": UserState(count=1)})
    assert hot.get("user-0") is None
    assert hot.get("cyd") is not None
    hot.put({"long": long})
    assert hot.get("long") is None
    assert hot.get("cyd") is None
