"""Undoing: the event and its undo leave everything as if neither had been, in any order and however often they come."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace

import pytest
from hypothesis import example as also
from hypothesis import given
from hypothesis import strategies as st

from headwater.examples import Entry, Example, Kind, Shown, unpack
from headwater.signals import DEFAULTS, Signal, Signals
from headwater.wire import EventRow
from streams.features.decay import Decay, ItemStatistics, add_log2, positive_rate, subtract_log2
from streams.features.fold import UNDOS, Folded, Limits, example, fold, fold_batch
from streams.features.identity import digest
from streams.features.packed import decode, encode
from streams.features.state import EMPTY, UserState
from streams.features.undo import matched
from streams.outbox import packed

DECAY = Decay(1_000, 10_000.0)
MEANINGS = Signals({"rating": Signal(positive=">= 4", negative="<= 2"), "unrate": Signal(undoes=("rating", "like"))})
LIMITS = Limits(history=200, dedupe=200, shown=50, meanings=MEANINGS)


def row(n: int, kind: str, item: str, time_ms: int, value: float | None = None) -> EventRow:
    return EventRow("ada", item, kind, time_ms, value, f"e{n}", None, n, 0)


def rows_of(*events: tuple[str, int]) -> list[EventRow]:
    """(type, time) of one film."""
    return [row(n, kind, "film", time_ms) for n, (kind, time_ms) in enumerate(events)]


def folded(rows: list[EventRow], limits: Limits = LIMITS) -> tuple[UserState, list[Example]]:
    state, taught = EMPTY, []
    for one in rows:
        made = example(state, one, limits)
        taught += [] if made is None else [made]
        state = fold(state, one, limits)
    return state, taught


def settled(made: Folded) -> dict[str, ItemStatistics]:
    return {item: one.settled() for item, one in made.items.items() if one.settled().counts}


def without_pairs(rows: list[EventRow], meanings: Signals = MEANINGS) -> list[EventRow]:
    """The stream as if neither an undone event nor its undo had been, in order of time: the rule, said once more."""
    left: list[EventRow] = []
    for one in sorted(dict.fromkeys(rows), key=lambda one: one.time_ms):
        kinds = meanings.undoing.get(one.type)
        if kinds is None:
            left.append(one)
            continue
        places = [i for i, known in enumerate(left) if known.item_id == one.item_id and known.type in kinds]
        if places:
            del left[places[-1]]
    return left


KINDS = ["like", "unlike", "love", "purchase", "order", "refund", "return", "dismiss", "undismiss", "rating", "unrate"]


@st.composite
def pasts(draw: st.DrawFn) -> list[EventRow]:
    """Events at times of their own, in any order, some of them twice."""
    size = draw(st.integers(0, 16))
    times = draw(st.permutations(range(1_000, 1_000 + size)))
    kinds, values = st.sampled_from([*KINDS, "click"]), st.sampled_from([None, 1.0, 5.0])
    rows = [row(n, draw(kinds), draw(st.sampled_from("ab")), at, draw(values)) for n, at in enumerate(times)]
    again = draw(st.lists(st.sampled_from(rows), max_size=4)) if rows else []
    return [*rows, *again]


@given(pasts(), st.lists(st.integers(0, 20), max_size=3))
def test_any_order_and_repetition_leaves_what_the_stream_without_the_pairs_leaves(
    rows: list[EventRow], cuts: list[int]
) -> None:
    wanted = without_pairs(rows)
    plain = fold_batch({}, wanted, LIMITS, DECAY)
    states: dict[str, UserState] = {}
    together = Folded()
    edges = sorted({0, len(rows), *(at % (len(rows) + 1) for at in cuts)})
    for start, end in itertools.pairwise(edges):
        made = fold_batch(states, rows[start:end], LIMITS, DECAY)
        states |= {user: decode(encode(state)) for user, state in made.states.items()}
        for item, one in made.items.items():
            together.items.setdefault(item, ItemStatistics()).merge(one)
    found = states.get("ada", EMPTY)
    assert list(found.history) == list(plain.states.get("ada", EMPTY).history)
    assert digest(found) == digest(plain.states.get("ada", EMPTY))
    ours, theirs = settled(together), settled(plain)
    assert ours.keys() == theirs.keys()
    for item, one in ours.items():
        assert math.isclose(one.log2_sum, theirs[item].log2_sum, abs_tol=1e-9)
        assert replace(one, log2_sum=0.0) == replace(theirs[item], log2_sum=0.0)


@given(pasts())
def test_what_examples_add_and_take_off_again_is_what_is_left(rows: list[EventRow]) -> None:
    """One example at most for each event, so that a mark tells how far the trainer has come."""
    state, taught = folded(rows)
    counted: list[Entry] = []
    for one in taught:
        assert all(entry.time_ms <= one.target.time_ms for entry in one.history)
        assert one.target not in one.history
        if one.kind is Kind.UNDONE:
            counted.remove(one.target)
        else:
            counted.append(one.target)
    assert sorted(counted, key=repr) == sorted(state.history, key=repr)
    made = fold_batch({}, rows, LIMITS, DECAY)
    found = [one for value in packed(0, made.segments, LIMITS) for one in unpack(value) if isinstance(one, Example)]
    assert [one._replace(history=list(one.history)) for one in found] == taught
    assert made.applied == len(dict.fromkeys(rows))
    assert (made.undos, made.undone) == (len(state.undos), len(state.undone))


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_an_undo_takes_back_the_newest_event_that_is_not_newer(order: tuple[int, ...]) -> None:
    rows = rows_of(("like", 10), ("like", 20), ("unlike", 30), ("like", 40))
    state, _ = folded([rows[n] for n in order])
    assert [one.time_ms for one in state.history] == [10, 40]
    assert [one.time_ms for one in state.undone] == [20]


def test_undone_events_are_told_with_what_came_before_them() -> None:
    before = row(9, "click", "other", 5)
    state, taught = folded([before, *rows_of(("like", 10), ("like", 20), ("unlike", 30))])
    assert (taught[-1].kind, taught[-1].target.time_ms) == (Kind.UNDONE, 20)
    assert [one.time_ms for one in taught[-1].history] == [5, 10]
    assert taught[-1].position.offset == 2  # of the undo
    assert state.count == 4


def test_an_event_that_comes_after_its_undo_teaches_nothing() -> None:
    rows = rows_of(("unlike", 30), ("like", 10))
    state, taught = folded(rows)
    assert (state.history, taught, state.count) == ([], [], 2)
    made = fold_batch({}, rows, LIMITS, DECAY)
    assert (made.applied, made.undos, made.undone, made.segments, settled(made)) == (2, 1, 1, [], {})


def test_a_late_event_takes_the_place_of_the_one_that_was_taken_back() -> None:
    state, taught = folded(rows_of(("like", 10), ("unlike", 30), ("like", 20)))
    assert [one.time_ms for one in state.history] == [10]
    assert [(one.kind, one.target.time_ms) for one in taught] == [
        (Kind.EVENT, 10), (Kind.UNDONE, 10), (Kind.EVENT, 10),
    ]  # fmt: skip


def test_an_undo_of_the_same_millisecond_counts_as_later() -> None:
    for rows in itertools.permutations(rows_of(("like", 10), ("unlike", 10))):
        assert folded(list(rows))[0].history == []


def test_an_undo_of_another_item_or_of_nothing_changes_nothing_but_is_remembered() -> None:
    like, unlike = row(0, "like", "a", 10), row(1, "unlike", "b", 20)
    state, taught = folded([like, unlike])
    assert ([one.item_id for one in state.history], len(taught), len(state.undos)) == (["a"], 1, 1)
    late, _ = folded([like, unlike, row(2, "like", "b", 15)])
    assert [one.item_id for one in late.history] == ["a"]


@pytest.mark.parametrize("undo", [name for name, signal in DEFAULTS.items() if signal.undoes])
def test_each_common_undo_takes_back_each_type_that_it_names(undo: str) -> None:
    for kind in DEFAULTS[undo].undoes:
        rows = rows_of((kind, 10), (undo, 20))
        for order in (rows, rows[::-1]):
            state, _ = folded(order)
            assert state.history == []
            assert settled(fold_batch({}, order, LIMITS, DECAY)) == {}


def test_what_was_shown_is_not_reacted_to_any_more_when_the_reaction_is_undone() -> None:
    shown = row(0, "impression", "film", 10)
    for order in itertools.permutations([shown, row(1, "like", "film", 20), row(2, "unlike", "film", 30)]):
        assert list(folded(list(order))[0].shown) == [Shown("film", 10, 0, "e0")]
    rows = [shown, row(1, "like", "film", 20), row(2, "click", "film", 25), row(3, "unlike", "film", 30)]
    for order in itertools.permutations(rows):
        assert folded(list(order))[0].shown == ()


def test_what_fell_out_of_the_history_cannot_be_undone() -> None:
    rows = [*rows_of(("like", 10)), row(5, "click", "a", 11), row(6, "click", "b", 12), row(7, "unlike", "film", 20)]
    state, taught = folded(rows, LIMITS._replace(history=2))
    assert [one.item_id for one in state.history] == ["a", "b"]
    assert [one.kind for one in taught] == [Kind.EVENT] * 3


def test_the_memory_of_undos_is_bounded_and_the_oldest_goes_with_what_it_took() -> None:
    rows = [row(n, kind, "film", 1_000 + n) for n in range(4 * UNDOS) for kind in [("like", "unlike")[n % 2]]]
    state, _ = folded(rows)
    assert (len(state.undos), len(state.undone), state.history) == (UNDOS, UNDOS, [])
    assert [one.time_ms for one in state.undone] == [1_000 + n for n in range(2 * UNDOS, 4 * UNDOS, 2)]


entries = st.builds(Entry, st.just("film"), st.sampled_from(["a", "b"]), st.integers(0, 4), st.just(None))
undos = st.builds(Entry, st.just("film"), st.sampled_from(["x", "y", "z"]), st.integers(0, 4), st.just(None))
UNDOING = {"x": {"a"}, "y": {"b"}, "z": {"a", "b"}}


def in_effect(events: list[Entry], known: list[Entry]) -> list[Entry]:
    left = list(events)
    for one in matched(events, known, UNDOING):
        if one.event is not None:
            left.remove(one.event)
    return sorted(left, key=repr)


@given(st.lists(entries, max_size=8), st.lists(undos, max_size=8), st.one_of(entries, undos), st.randoms())
def test_one_event_or_undo_more_changes_what_is_in_effect_by_one_at_most(
    events: list[Entry], known: list[Entry], more: Entry, chance: random.Random
) -> None:
    before = in_effect(events, known)
    if more.type in UNDOING:
        after = in_effect(events, [*known, more])
        assert len(after) in (len(before) - 1, len(before))
        smaller, larger = after, before
    else:
        after = in_effect([*events, more], known)
        assert len(after) in (len(before) + 1, len(before))
        smaller, larger = before, after
    for one in smaller:
        larger.remove(one)
    assert in_effect(chance.sample(events, len(events)), chance.sample(known, len(known))) == in_effect(events, known)


@given(st.lists(st.floats(-40, 40), min_size=1, max_size=20), st.lists(st.booleans(), min_size=20, max_size=20))
@also([0.0, 20.0], [False, True] + [False] * 18)
def test_taking_off_what_was_added_leaves_the_rest(weights: list[float], taken: list[bool]) -> None:
    total = -math.inf
    for one in weights:
        total = add_log2(total, one)
    left = total
    gone = -math.inf
    for one, is_taken in zip(weights, taken, strict=False):
        if is_taken:
            gone = add_log2(gone, one)
    left = subtract_log2(total, gone)
    exact = math.fsum(2.0**one for one, is_taken in zip(weights, taken, strict=False) if not is_taken)
    if exact:
        assert math.isclose(2.0**left, exact, rel_tol=0, abs_tol=1e-12 * 2.0**total)
    else:
        assert left <= total - 40


def test_the_positive_rate_is_drawn_to_that_of_all_items_where_little_is_known() -> None:
    every = ItemStatistics(positive=50, exposures=1000, negative=10)
    once = ItemStatistics(positive=1, exposures=1)
    often = ItemStatistics(positive=400, exposures=1000)
    assert positive_rate(ItemStatistics(), every) == 0.05
    assert 0.05 < positive_rate(once, every) < 0.1
    assert 0.39 < positive_rate(often, every) < 0.4
    organic = ItemStatistics(positive=30, negative=10)  # nobody told what was shown
    assert 0.5 < positive_rate(organic, organic) <= 0.75
    assert positive_rate(ItemStatistics(), ItemStatistics()) == 0.0
