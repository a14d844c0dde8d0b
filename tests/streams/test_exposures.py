"""What was shown: apart from the history, once a list, until there is a reaction; in examples and in statistics."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.errors import InvalidMessage
from headwater.events import Event
from headwater.examples import Example, Kind, Shown, pack_segments, unpack
from headwater.wire import EventRow, encode, read_events
from streams.features.decay import Decay
from streams.features.fold import Limits, example, fold, fold_batch
from streams.features.packed import decode
from streams.features.packed import encode as to_base
from streams.features.recording import recorded
from streams.features.state import EMPTY, UserState
from streams.outbox import cut, packed

DECAY = Decay(1_000, 10_000.0)
LIMITS = Limits(history=6, dedupe=200, shown=5)


def row(n: int, kind: str, items: str, time_ms: int, **more: object) -> EventRow:
    """An event of ada; several letters are a list."""
    made = EventRow("ada", items[0], kind, time_ms, None, f"e{n}", None, n, 0)
    return made._replace(items=tuple(items) if len(items) > 1 else (), **more)


def impression(n: int, items: str, time_ms: int, **more: object) -> EventRow:
    return row(n, "impression", items, time_ms, **more)


def folded(rows: list[EventRow], limits: Limits = LIMITS) -> tuple[UserState, list[Example]]:
    """One by one."""
    state, taught = EMPTY, []
    for one in rows:
        made = example(state, one, limits)
        taught += [] if made is None else [made]
        state = fold(state, one, limits)
    return state, taught


def told(shown: object) -> list[tuple[str, int]]:
    return [(one.item_id, one.place) for one in shown]  # type: ignore[attr-defined]


def test_a_list_is_one_example_and_no_part_of_the_history() -> None:
    state, taught = folded(
        [row(0, "click", "x", 10), impression(1, "abc", 20, request_id="r1"), row(2, "click", "b", 30, request_id="r1")]
    )
    assert [one.item_id for one in state.history] == ["x", "b"]
    assert [one.kind for one in taught] == [Kind.EVENT, Kind.SHOWN, Kind.EVENT]
    assert taught[1].items == ("a", "b", "c")
    assert (taught[1].target.item_id, taught[1].request_id, taught[1].shown) == ("a", "r1", ())
    assert [one.item_id for one in taught[1].history] == ["x"]
    assert taught[2].request_id == "r1"
    assert list(taught[2].shown) == [Shown("a", 20, 1, "r1"), Shown("b", 20, 2, "r1"), Shown("c", 20, 3, "r1")]
    assert told(state.shown) == [("a", 1), ("c", 3)]
    assert state.reacted == ()  # a click cannot be undone: nothing is kept for that
    assert decode(to_base(state)) == state


@pytest.mark.parametrize(("value", "place"), [(3.0, 3), (None, 0), (0.0, 0), (2.5, 0), (-1.0, 0), (1e300, 0)])
def test_a_single_impression_is_a_list_of_one_at_the_place_that_its_value_tells(
    value: float | None, place: int
) -> None:
    state, (made,) = folded([impression(0, "a", 5, value=value)])
    assert list(state.shown) == [Shown("a", 5, place, "e0")]
    assert (made.items, made.request_id) == (("a",), "e0")
    assert state.history == []


def test_a_list_has_an_item_once_and_since_when_it_was_last_shown() -> None:
    twice = [impression(0, "aba", 20, request_id="r"), impression(1, "ba", 10, request_id="r")]
    for rows in (twice, twice[::-1]):
        state, taught = folded(rows)
        assert [(one.item_id, one.time_ms) for one in state.shown] == [("a", 20), ("b", 20)]
        assert len(taught) == 1
        assert fold_batch({}, rows, LIMITS, DECAY).items["a"].counts == {"impression": 1}
    state, _ = folded([impression(0, "a", 10), impression(1, "a", 20)])
    assert len(state.shown) == 2  # two lists


@pytest.mark.parametrize(("kind", "leaves"), [("click", True), ("dismiss", True), ("search", False)])
def test_what_is_reacted_to_leaves_at_whatever_time_the_two_arrive(kind: str, leaves: bool) -> None:
    rows = [impression(0, "ab", 10), row(1, kind, "a", 10), impression(2, "a", 11)]
    for order in itertools.permutations(rows):
        state, _ = folded(list(order))
        assert ("a", 10) not in {(one.item_id, one.time_ms) for one in state.shown} or not leaves
        assert ("a", 11) in {(one.item_id, one.time_ms) for one in state.shown}


def test_only_the_newest_that_were_shown_are_kept_and_the_first_places_of_a_long_list() -> None:
    state, taught = folded([impression(0, "ab", 10), impression(1, "cdef", 20), impression(2, "xy", 5)])
    assert told(state.shown) == [("b", 2), ("c", 1), ("d", 2), ("e", 3), ("f", 4)]
    assert told(taught[2].shown) == []
    long, _ = folded([impression(0, "abcdefgh", 10)])
    assert told(long.shown) == [("a", 1), ("b", 2), ("c", 3), ("d", 4), ("e", 5)]
    none, taught = folded([impression(0, "ab", 10), row(1, "click", "a", 20)], LIMITS._replace(shown=0))
    assert (none.shown, taught[1].shown) == ((), ())


def test_every_item_of_a_list_is_counted_as_shown_and_none_gets_popular() -> None:
    made = fold_batch({}, [impression(0, "abc", 10), row(1, "click", "b", 20)], LIMITS, DECAY)
    assert (made.items["a"].exposures, made.items["b"].exposures, made.items["b"].positive) == (1, 1, 1)
    assert made.items["b"].counts == {"impression": 1, "click": 1}
    assert {item for item, one in made.items.items() if one.settled().log2_sum > float("-inf")} == {"b"}
    assert (made.applied, made.exposures) == (2, 1)


KINDS = ["impression", "impression", "click", "dismiss", "search", "like", "unlike", "purchase", "refund"]


@st.composite
def pasts(draw: st.DrawFn) -> list[EventRow]:
    """Events, lists and undos of two users, in any order, some at one moment and some of them twice."""
    size = draw(st.integers(0, 24))
    times = draw(st.permutations([1_000 + n * 2 // 3 for n in range(size)]))
    if draw(st.booleans()):
        times = sorted(times)
    rows = []
    for n, time_ms in enumerate(times):
        kind = draw(st.sampled_from(KINDS))
        items = draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=4)) if kind == "impression" else [
            draw(st.sampled_from("abcd"))
        ]  # fmt: skip
        request = draw(st.sampled_from([None, "r1", "r1", "r2"]))
        session = draw(st.sampled_from([None, 1, 2]))
        made = row(n, kind, "".join(items), time_ms, request_id=request, session=session)
        rows.append(made._replace(user_id=draw(st.sampled_from(["ada", "bob"]))))
    again = draw(st.lists(st.sampled_from(rows), max_size=4)) if rows else []
    return [one._replace(offset=n) for n, one in enumerate([*rows, *again])]


def batched(rows: list[EventRow], cuts: list[int]) -> tuple[dict[str, UserState], list[Example]]:
    """In batches, each examples record of which is cut in two as one that is too large."""
    states: dict[str, UserState] = {}
    taught: list[Example] = []
    edges = sorted({0, len(rows), *(at % (len(rows) + 1) for at in cuts)})
    for start, end in itertools.pairwise(edges):
        made = fold_batch(states, rows[start:end], LIMITS, DECAY)
        states |= {user: decode(to_base(state)) for user, state in made.states.items()}
        n = sum(len(one.targets) for one in made.segments)
        parts = cut(made.segments, n // 2, LIMITS.shown) if n > 1 else (made.segments,)
        for part in parts:
            for value in packed(0, part, LIMITS):
                taught += [one for one in unpack(value) if isinstance(one, Example)]
    return states, taught


def plain(made: Example) -> Example:
    return made._replace(history=list(made.history), shown=list(made.shown))


@given(pasts(), st.lists(st.integers(0, 40), max_size=4))
def test_batches_cut_anywhere_make_the_states_and_examples_of_one_by_one(rows: list[EventRow], cuts: list[int]) -> None:
    states: dict[str, UserState] = {}
    one_by_one = []
    for one in rows:
        before = states.get(one.user_id, EMPTY)
        made = example(before, one, LIMITS)
        one_by_one += [] if made is None else [made]
        states[one.user_id] = fold(before, one, LIMITS)
    batch_states, taught = batched(rows, cuts)
    assert {user: replace(state, history=list(state.history)) for user, state in states.items()} == batch_states
    assert list(map(plain, taught)) == list(map(plain, one_by_one))


@settings(max_examples=50)
@given(pasts())
def test_a_recording_makes_the_examples_of_the_worker(rows: list[EventRow]) -> None:
    events = [
        Event(
            event_id=one.event_id, user_id=one.user_id, item_id=one.item_id, type=one.type, event_time=one.time_ms,
            request_id=one.request_id, session_id=None if one.session is None else str(one.session),
            items=one.items or None,
        )
        for one in rows
    ]  # fmt: skip
    read = [
        one
        for n, event in enumerate(events)
        for one in read_events(encode(event), key=event.user_id.encode(), partition=0, offset=n, timestamp_ms=0)
        if isinstance(one, EventRow)
    ]
    made = fold_batch({}, read, LIMITS, DECAY)
    wanted = [plain(one) for one in unpack(pack_segments(0, made.segments, LIMITS.history, LIMITS.shown))]  # type: ignore[arg-type]
    recording = recorded(events, LIMITS)
    found = [plain(one) for one in recording.examples()]
    assert len(recording) == len(found)
    assert recording.duplicates == made.duplicates
    there = [one._replace(position=(0, 0)) for one in found]  # type: ignore[arg-type]
    assert there == [one._replace(position=(0, 0)) for one in wanted]  # type: ignore[arg-type]
    assert recorded(events, LIMITS).digest() == recording.digest()


def test_a_list_of_a_type_that_does_not_mean_shown_is_refused_with_what_to_do() -> None:
    body = {"user_id": "ada", "type": "view", "items": ["a", "b"]}
    told_to = {"key": b"ada", "partition": 0, "offset": 7, "timestamp_ms": 5}
    (refused,) = read_events(orjson.dumps(body), **told_to, meanings=LIMITS.meanings)  # type: ignore[arg-type]
    assert isinstance(refused, InvalidMessage)
    assert refused.reason == "items_not_exposure"
    assert "type 'view'" in str(refused)
    assert "[signals.view]" in str(refused)
    (taken,) = read_events(orjson.dumps({**body, "type": "shown"}), **told_to, meanings=LIMITS.meanings)  # type: ignore[arg-type]
    assert isinstance(taken, EventRow)
    bodies = ({"type": "view", "items": ("a", "b")}, {"type": "view", "item_id": "a"})
    found = recorded([Event(user_id="ada", **one) for one in bodies], LIMITS)  # type: ignore[arg-type]
    assert (len(found), found.refused) == (1, 1)


def test_what_was_shown_costs_the_examples_of_a_session_no_copy_of_its_history() -> None:
    """One segment, although each click takes something off what was shown."""
    rows = list(
        itertools.chain.from_iterable(
            (impression(2 * n, "abcd", 1_000 + 2 * n, request_id=f"r{n}"), row(2 * n + 1, "click", "b", 1_001 + 2 * n))
            for n in range(20)
        )
    )
    made = fold_batch({}, rows, LIMITS, DECAY)
    assert len(made.segments) == 1
    assert made.segments[0].reactions == set(range(1, 40, 2))


@settings(max_examples=50)
@given(pasts(), st.randoms(use_true_random=False))
def test_what_was_shown_does_not_depend_on_the_order_of_arrival(rows: list[EventRow], chance: random.Random) -> None:
    ours = [one for one in rows if one.user_id == "ada"]
    roomy = Limits(100, 200, 1000)
    state, _ = folded(ours, roomy)
    other, _ = folded(chance.sample(ours, len(ours)), roomy)
    assert sorted(state.shown) == sorted(other.shown)
    assert sorted(state.history, key=repr) == sorted(other.history, key=repr)


@pytest.mark.parametrize(
    "odd",
    [
        {"reactions": [9]},
        {"reactions": ["0"]},
        {"reactions": 5},
        {"shown": [["a", 5, 1]]},
        {"shown": [["a", 5, -1, "r"]]},
        {"lists": [[0, [], "r", 1]]},
        {"lists": [[0, ["a"], "r", 10**9]]},
        {"lists": [[5, ["a"], "r", 1]]},
        {"requests": [[0, ""]]},
    ],
)
def test_an_examples_record_that_tells_odd_things_of_what_was_shown_is_refused(odd: dict[str, object]) -> None:
    made = fold_batch({}, [impression(0, "ab", 10), row(1, "click", "a", 20)], LIMITS, DECAY)
    (value,) = packed(0, made.segments, LIMITS)
    assert len(list(unpack(value))) == 2
    record = orjson.loads(value)
    record["segments"][0].update(odd)
    with pytest.raises(InvalidMessage):
        list(unpack(orjson.dumps(record)))
    with pytest.raises(InvalidMessage):
        list(unpack(orjson.dumps({**orjson.loads(value), "shown_limit": -1})))


def test_a_list_too_large_for_an_examples_record_is_told_by_its_first_half() -> None:
    items = tuple("\x01" * 250 + str(n) for n in range(1_000))
    made = fold_batch({}, [EventRow("ada", items[0], "shown", 5, None, "e", "r", 0, 0, None, items)], Limits(), DECAY)
    (value,) = packed(0, made.segments, Limits())
    (taught,) = unpack(value)
    assert isinstance(taught, Example)
    assert taught.items == items[:500]


def test_what_was_shown_is_no_event_of_the_user() -> None:
    click = EventRow("ada", "film-1", "click", 1_000, None, "e1", None, 0, 0)
    shown = EventRow("ada", "film-2", "served", 2_000, None, "e2", "r1", 1, 0, None, ("film-2", "film-3"))
    state = fold(fold(EMPTY, click, Limits()), shown, Limits())
    assert (state.count, state.events) == (2, 1)
    assert decode(to_base(state)) == state
