"""Who is who: in whatever order it is told, and however often, the same ids are one person."""

from __future__ import annotations

import itertools
import random
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.examples import pack_segments, unpack
from headwater.settings import Settings
from headwater.topics import IDENTITIES
from headwater.wire import EventRow, IdentityRow
from streams.features.decay import Decay
from streams.features.fold import Folding, KnownBeside, Limits, fold, fold_batch
from streams.features.identity import (
    ALONE,
    MOST_LINKS,
    Links,
    as_one,
    decode_links,
    digest,
    encode_links,
    linked,
    person,
)
from streams.features.state import EMPTY, UserState
from streams.features.store import Batch, FeatureStore, StoreStanding
from tests.worlds.streams import server_of

DECAY = Decay(1_000, 86_400_000.0)
IDS = ("ada", "bob", "guest-1", "guest-2", "guest-3")


def told(user: str, was: str, time_ms: int, linked_: bool = True, offset: int = 0) -> IdentityRow:
    return IdentityRow(user, was, linked_, time_ms, 0, offset)


def kept(rows: list[IdentityRow]) -> dict[str, Links]:
    """The links of each id after these words, in this order."""
    links: dict[str, Links] = {}
    for row in rows:
        for own in (row.user_id, row.was):
            links[own] = linked(links.get(own, ALONE), row, own)
    return links


def everybody(rows: list[IdentityRow], ids: tuple[str, ...] = IDS) -> dict[str, tuple[str, ...]]:
    links = dict.fromkeys(ids, ALONE) | kept(rows)
    found = {one: person(one, links) for one in ids}
    assert not any(missing for _, missing in found.values())
    return {one: together for one, (together, _) in found.items()}


words = st.lists(
    st.builds(
        lambda pair, time_ms, linked_: (*pair, time_ms, linked_),
        st.permutations(IDS).map(lambda ids: ids[:2]),
        st.integers(1, 6),
        st.booleans(),
    ),
    max_size=12,
).map(lambda drawn: [told(*one, offset=n) for n, one in enumerate(drawn)])


@hypothesis.settings(deadline=None)
@given(words, st.randoms(use_true_random=False))
def test_the_order_of_words_and_their_repetition_change_nothing(rows: list[IdentityRow], chance: random.Random) -> None:
    again = rows + chance.sample(rows, len(rows) // 2)
    chance.shuffle(again)
    assert kept(again) == kept(rows)
    people = everybody(rows)
    assert all(people[other] == together for together in people.values() for other in together)


def test_a_link_of_a_link_counts_a_circle_is_one_person_and_the_last_user_has_the_guest() -> None:
    chain = [told("bob", "guest-1", 1), told("ada", "bob", 2)]
    assert everybody(chain)["guest-1"] == ("ada", "bob", "guest-1")
    assert everybody([*chain, told("guest-1", "ada", 3)])["bob"] == ("ada", "bob", "guest-1")
    moved = [told("ada", "guest-1", 1), told("bob", "guest-1", 2)]
    assert (everybody(moved)["ada"], everybody(moved)["bob"]) == (("ada",), ("bob", "guest-1"))
    back = [*moved, told("bob", "guest-1", 3, linked_=False)]
    assert (everybody(back)["ada"], everybody(back)["bob"]) == (("ada", "guest-1"), ("bob",))
    same_time = [told("ada", "guest-1", 1, offset=5), told("bob", "guest-1", 1, offset=4)]
    assert everybody(same_time)["ada"] == ("ada", "guest-1")


def test_of_too_many_links_the_newest_count_whatever_their_order() -> None:
    rows = [told("ada", f"guest-{n}", n, offset=n) for n in range(MOST_LINKS + 50)]
    mixed = random.Random(1).sample(rows, len(rows))
    assert kept(mixed + rows[:10]) == kept(rows)
    ids = ("ada", *(row.was for row in rows))
    people = everybody(rows, ids)
    assert len(people["ada"]) == MOST_LINKS
    assert people["guest-0"] == ("guest-0",)


def test_links_are_read_back_as_they_were_written() -> None:
    links = kept([told("ada", "guest-1", 5), told("bob", "ada", 6, linked_=False, offset=9)])["ada"]
    assert decode_links(encode_links(links)) == links


@pytest.mark.parametrize("chance", [random.Random(7)], ids=["seed 7"])
def test_the_store_keeps_what_the_pure_function_keeps(store: FeatureStore, chance: random.Random) -> None:
    ids = [*IDS, "7", 'o"hara \\ ü\n', "x" * 256]
    rows = [told(*chance.sample(ids, 2), chance.randrange(9), chance.random() < 0.7, n) for n in range(60)]
    for first in range(0, 60, 7):
        batch = rows[first : first + 7]
        assert store.put_links(batch, 0, batch[-1].offset) == "written"
    assert store.put_links(rows[10:30], 0, 29) == "written"  # redelivered
    assert store.marks_of(IDENTITIES) == {0: 59}
    found = dict(zip(ids, store.read_links(ids), strict=True))
    assert {one: links for one, links in found.items() if links != ALONE} == kept(rows)
    reading = store.read_users(ids)
    assert reading.people == {one: ids for one, ids in everybody(rows, tuple(ids)).items() if len(ids) > 1}
    assert set(store.ids("w")) == kept(rows).keys()


def test_a_store_that_has_less_than_was_left_there_takes_nothing(settings: Settings, store: FeatureStore) -> None:
    assert store.put_links([told("ada", "guest-1", 1)], 0, 5) == "written"
    assert store.put_links([told("ada", "guest-2", 1)], 0, 9, StoreStanding({0: {0: 8}})) == "behind"
    assert store.marks_of(IDENTITIES) == {0: 5}
    with server_of(settings) as server:
        server.set(f"{settings.kafka.prefix}w:ada", "no links")
    reading = store.read_users(["ada"])
    assert (reading.people, reading.unlinked) == ({}, ["ada"])
    assert store.put_links([told("ada", "guest-2", 2)], 0, 9) == "behind"
    assert store.marks_of(IDENTITIES) == {}  # the topic is read again from its beginning
    assert store.put_links([told("ada", "guest-1", 1), told("ada", "guest-2", 2)], 0, 9) == "written"
    assert store.read_users(["ada"]).people == {"ada": ("ada", "guest-1", "guest-2")}


TYPES = ("click", "like", "love", "unlike", "dismiss", "undismiss", "impression")


def row(n: int, user: str, item: str, time_ms: int, type_: str = "click") -> EventRow:
    shown = (item, *({"a", "b"} - {item})) if type_ == "impression" and n % 2 else ()
    return EventRow(user, item, type_, time_ms, None, f"e{n}", f"r{n}" if shown else None, n, 0, None, shown)


@st.composite
def lives(draw: st.DrawFn) -> list[EventRow]:
    """What a person did under several ids, in the order of arrival; no two things in one millisecond."""
    times = draw(st.lists(st.integers(1_000, 1_200), unique=True, max_size=20))
    one = st.tuples(st.sampled_from(IDS[:3]), st.sampled_from("abc"), st.sampled_from(TYPES))
    drawn = [draw(one) for _ in times]
    return [row(n, user, item, at, type_) for n, ((user, item, type_), at) in enumerate(zip(drawn, times, strict=True))]


def folded(rows: list[EventRow]) -> dict[str, UserState]:
    states: dict[str, UserState] = {}
    for one in rows:
        states[one.user_id] = fold(states.get(one.user_id, EMPTY), one, Limits())
    return states


def alone(rows: list[EventRow]) -> list[EventRow]:
    return [one._replace(user_id="one user who did it all") for one in rows]


@hypothesis.settings(deadline=None)
@given(lives(), st.randoms(use_true_random=False))
def test_several_ids_as_one_are_as_one_user_who_did_it_all(rows: list[EventRow], chance: random.Random) -> None:
    arrived = chance.sample(rows, len(rows)) + chance.sample(rows, len(rows) // 2)
    states, (wanted,) = folded(arrived), folded(alone(rows)).values() or (EMPTY,)
    merged = as_one([states[one] for one in sorted(states)], Limits())
    assert (digest(merged), merged.count) == (digest(wanted), wanted.count)
    assert (sorted(merged.undos), sorted(merged.undone)) == (sorted(wanted.undos), sorted(wanted.undone))
    before = {one: digest(state) for one, state in states.items()}
    assert before == {one: digest(state) for one, state in folded(rows).items()}  # what a link taken away gives back


@hypothesis.settings(deadline=None)
@given(lives(), st.lists(st.integers(0, 20), max_size=3))
def test_an_example_of_any_id_has_the_past_of_the_person(rows: list[EventRow], cuts: list[int]) -> None:
    states: dict[str, UserState] = {}
    taught: list[Any] = []
    for first, end in itertools.pairwise(sorted({0, len(rows), *(cut % (len(rows) + 1) for cut in cuts)})):
        together = Folding(as_one([states.get(one, EMPTY) for one in IDS[:3]], Limits()), Limits())
        made = fold_batch(
            states, rows[first:end], Limits(), DECAY, beside=KnownBeside(people=dict.fromkeys(IDS, together))
        )
        states |= made.states
        taught += unpack(pack_segments(0, made.segments))
    wanted = unpack(pack_segments(0, fold_batch({}, alone(rows), Limits(), DECAY).segments))
    assert [one._replace(user_id="", history=[*one.history], shown=sorted(one.shown)) for one in taught] == [
        one._replace(user_id="", history=[*one.history], shown=sorted(one.shown)) for one in wanted
    ]
    assert [one.user_id for one in taught] == [rows[one.position.offset].user_id for one in taught]


def test_an_event_that_was_sent_under_both_ids_counts_and_teaches_once() -> None:
    guest = [row(0, "guest-1", "a", 1, "like"), row(1, "guest-1", "b", 2), row(2, "guest-1", "a", 3, "unlike")]
    again = [one._replace(user_id="ada", offset=3 + n) for n, one in enumerate(guest[:2])]
    states = folded([*guest, *again])
    together = as_one([states["ada"], states["guest-1"]], Limits())
    assert ([one.item_id for one in together.history], together.count) == (["b"], 3)
    person_ = Folding(as_one([folded(guest)["guest-1"], EMPTY], Limits()), Limits())
    assert not fold_batch({}, again, Limits(), DECAY, beside=KnownBeside(people={"ada": person_})).segments


def test_of_a_long_life_the_newest_events_count() -> None:
    limits = Limits(history=5)
    states = [UserState(), UserState()]
    for n in range(20):
        states[n % 2] = fold(states[n % 2], row(n, IDS[n % 2], "a", n), limits)
    assert [one.time_ms for one in as_one(states, limits).history] == [15, 16, 17, 18, 19]
    assert as_one(states, limits).count == 20


def test_a_reading_has_all_ids_of_a_person_at_one_moment(store: FeatureStore) -> None:
    rows = [row(0, "ada", "a", 1), row(1, "guest-1", "b", 2), row(2, "guest-2", "c", 3), row(3, "bob", "d", 4)]
    made = fold_batch({}, rows, Limits(), DECAY)
    assert store.apply(Batch({0: {0: (None, 3)}}, DECAY, {}, made.states, made.slots)) == "applied"
    store.put_links([told("ada", "guest-1", 1), told("ada", "guest-2", 2, offset=1)], 0, 1)
    reading = store.read_users(["guest-1", "bob"])
    assert reading.people == {"guest-1": ("ada", "guest-1", "guest-2")}
    assert reading.states.keys() >= {"ada", "guest-1", "guest-2", "bob"}
    assert (reading.marks(), reading.slots[0].identities) == ({0: 3}, {0: 1})
