"""What is from before an erasure and what is not: for events however they are read, and for what was told of users."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pytest

from headwater.errors import InvalidMessage
from headwater.privacy import FORGET, Erased, fact_of
from headwater.settings import Settings
from headwater.topics import ERASURES
from headwater.wire import EventRow, IdentityRow, TimeBounds, encode
from streams.erasing import checked_fact, erased_users
from streams.features.decay import Decay, ItemStatistics
from streams.features.fold import Folded, Ghost, KnownBeside, Limits, fold_batch
from streams.features.state import EMPTY, UserState, restored
from streams.features.store import FeatureStore, attributes_text
from tests.worlds.streams import send_raw, storing, topicless

DECAY = Decay(1_000, 86_400_000.0)
LIMITS = Limits()
LATER_MS, SLOW_MS = 10_000, 5
"""When all is folded; by a clock that is far behind."""


def row(offset: int, kind: str, items: str, event_id: str = "", **more: object) -> EventRow:
    made = EventRow("ada", items[0], kind, 1_000 + offset, None, event_id or f"e{offset}", None, offset, 0)
    return made._replace(items=tuple(items) if len(items) > 1 else (), **more)


ONCE = [
    row(0, "like", "a"),
    row(1, "like", "a", "e0", time_ms=1_000),  # known
    row(2, "impression", "abc", request_id="r1"),
    row(3, "unlike", "a"),
    row(4, "impression", "abc", request_id="r1"),  # again
    row(5, "click", "b"),
    row(6, FORGET, "-", time_ms=1_006),
    row(7, "click", "c", time_ms=1_005),  # late
    row(8, "click", "d", "e0"),  # of a new life: its id is no longer known
    row(9, "click", "d", "e0"),
    row(10, "impression", "ab", request_id="r1"),
]
TWICE = [*ONCE, row(11, FORGET, "-", time_ms=1_011), row(12, "click", "a"), row(13, "click", "e", time_ms=1_002)]
RETRIED = [*ONCE[:8], row(8, "click", "d"), row(9, FORGET, "-", time_ms=1_006), row(10, "click", "e")]


def told(parts: list[Folded]) -> dict[str, tuple[dict[str, int], int, int, float]]:
    """Of each item, what all parts count for it."""
    every: dict[str, ItemStatistics] = {}
    for part in parts:
        for item, statistics in part.items.items():
            every.setdefault(item, ItemStatistics()).merge(statistics)
    settled = {item: one.settled() for item, one in every.items()}
    return {i: (one.counts, one.positive, one.exposures, round(one.log2_sum, 6)) for i, one in settled.items()}


def in_parts(
    rows: list[EventRow],
    cuts: list[int],
    erased: Mapping[str, Erased],
    known_from: int = 0,
    now_ms: int = LATER_MS,
    partition: int = 0,
) -> list[Folded]:
    """Fold with cuts, as a round does: the erasure is known from a cut on."""
    states: dict[str, UserState] = {}
    ghosts: dict[str, Ghost] = {}
    parts = []
    for first, end in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        known = erased if first >= known_from else {}
        old = restored(states, known)
        beside = KnownBeside(erased=known, ghosts={**{user: Ghost(old[user]) for user in old}, **ghosts})
        part = fold_batch(states | dict.fromkeys(old, EMPTY), rows[first:end], LIMITS, DECAY, partition, now_ms, beside)
        states |= part.states
        part.carry(ghosts)
        parts.append(part)
        for user in part.forgotten:
            if part.forgotten[user].outlasts(erased.get(user)):
                erased = {**erased, user: part.forgotten[user]}
    assert not ghosts
    parts[-1].states = states
    return parts


@pytest.mark.parametrize(
    ("rows", "erased", "lives"),
    [
        (ONCE, Erased(1_006, 0, 6), "d"),
        (TWICE, Erased(1_011, 0, 11), "a"),
        (RETRIED, Erased(1_006, 0, 9), "de"),
        (RETRIED, Erased(1_006, 0, 6), "de"),
    ],
    ids=["once", "twice", "the fact of a second try", "the fact of the first try"],
)
def test_events_of_who_is_forgotten_count_the_same_however_batches_are_cut(
    rows: list[EventRow], erased: Erased, lives: str
) -> None:
    known = {"ada": erased}
    whole = in_parts(rows, [], known)
    counts = told(whole)
    assert "like" not in counts["a"][0], "it was undone"
    every = [[cut] for cut in range(1, len(rows))] + [list(range(1, len(rows)))]
    for cuts in every:
        parts = in_parts(rows, cuts, known)
        assert told(parts) == counts, cuts
        assert parts[-1].states == whole[-1].states, cuts  # of all parts
        assert sum(one.duplicates for one in parts) == whole[0].duplicates, cuts
        assert [entry.item_id for entry in parts[-1].states["ada"].history] == list(lives)
    for cut in range(1, 7):  # what a worker had folded when it heard of the erasure
        assert told(in_parts(rows, [cut], known, known_from=cut)) == counts, cut


@pytest.mark.parametrize("partition", [0, 1], ids=["where the log forgets", "elsewhere"])
def test_what_somebody_forgotten_does_since_stays_whatever_the_clock_of_a_worker_says(partition: int) -> None:
    rows = [row(offset, "click", item) for offset, item in enumerate("abc", start=7)]
    for cuts in ([], [1], [1, 2]):
        parts = in_parts(rows, cuts, {"ada": Erased(1_006, 0, 6)}, now_ms=SLOW_MS, partition=partition)
        assert [entry.item_id for entry in parts[-1].states["ada"].history] == list("abc"), cuts
        assert parts[-1].states["ada"].count == 3


@pytest.mark.parametrize(
    ("erased", "reason"),
    [
        (Erased(4_102_444_800_000, 0, 7), "event_time_ahead"),
        (Erased(1_000, 0, 8), "schema"),
        (Erased(1_000, 0, 2**62), "schema"),
        (Erased(1_000, 5, 0), "schema"),
    ],
)
def test_a_fact_whose_time_or_place_is_yet_to_come_is_refused(erased: Erased, reason: str) -> None:
    times = TimeBounds(now_ms=2_000, max_ahead_ms=60_000)
    with pytest.raises(InvalidMessage) as refused:
        checked_fact(fact_of("ada", erased), times, {0: 8}, "erasures[0]@3")
    assert refused.value.reason == reason
    assert str(refused.value).startswith("erasures[0]@3: ")


def test_of_the_facts_of_a_topic_those_count_that_can_be_and_of_two_tries_the_earlier(settings: Settings) -> None:
    ends = [send_raw(settings, b"[]", partition=0).offset for _ in range(4)]
    for user, erased in {
        "ada": [Erased(1_000, 0, 1), Erased(1_000, 0, 3), Erased(999, 0, 2)],
        "bob": [Erased(1_000, 0, ends[-1]), Erased(4_102_444_800_000, 0, 1), Erased(2_000, 0, 2**62)],
    }.items():
        for one in erased:
            fact = fact_of(user, one)
            send_raw(settings, encode(fact), ERASURES, key=fact.digest.encode())
    found = erased_users(settings)
    assert (found["ada"], found["bob"]) == (Erased(1_000, 0, 1), Erased(1_000, 0, ends[-1]))


@pytest.fixture(params=[1, 64], ids=["1 slot", "64 slots"])
def store(redis_url: str, request: pytest.FixtureRequest) -> Iterator[FeatureStore]:
    with topicless(redis_url, request.param) as made, storing(made) as one:
        yield one


def link(user: str, was: str, time_ms: int, offset: int) -> IdentityRow:
    return IdentityRow(user, was, True, time_ms, 0, offset)


def test_what_was_told_of_a_user_since_an_erasure_stays_and_what_was_before_goes(store: FeatureStore) -> None:
    erased = {"ada": Erased(1_000, 0, 7)}
    old = {"ada": attributes_text({"plan": "old"}, 1_000), "bob": attributes_text({"plan": "solo"}, 1)}
    store.put_attributes(old, 0, 0)
    store.put_links([link("ada", "guest-1", 999, 0), link("house", "ada", 1_000, 1)], 0, 1)
    store.forget_users(erased)
    reading = store.read_users(["ada", "bob", "guest-1", "house"])
    assert (reading.attributes, reading.people) == ({"bob": {"plan": "solo"}}, {})
    assert not {"ada", "guest-1", "house"} & {*store.ids("w")}, "no key names the user"

    store.put_attributes({"ada": attributes_text({"plan": "new"}, 1_001)}, 0, 1)
    store.put_links([link("ada", "guest-2", 1_001, 2)], 0, 2)
    store.forget_users(erased)  # whoever folds the log anew meets the place again
    reading = store.read_users(["ada", "guest-2"])
    assert reading.attributes == {"ada": {"plan": "new"}}
    assert reading.people == dict.fromkeys(("ada", "guest-2"), ("ada", "guest-2"))

    store.forget_users({"ada": Erased(2_000, 0, 9)})
    assert not {"ada", "guest-2"} & {*store.ids("w")}
    assert store.read_users(["ada"]).attributes == {}


@pytest.mark.parametrize("is_late", [False, True], ids=["known before", "known while it is met"])
def test_an_earlier_erasure_that_is_met_again_takes_both_ids_of_a_link_or_none(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, is_late: bool
) -> None:
    later, read = {"ada": Erased(2_000, 0, 9)}, store.read_links
    told = lambda: store.keep_erased(fact_of(one, since) for one, since in later.items())  # noqa: E731
    store.put_links([link("ada", "guest-1", 1_500, 0)], 0, 0)
    if is_late:
        monkeypatch.setattr(store, "read_links", lambda ids: (told(), read(ids))[1])
    else:
        told()
    store.forget_users({"ada": Erased(1_000, 0, 7)})
    assert len({*store.ids("w")}) in (0, 2)
    store.forget_users(later)
    assert not {*store.ids("w")}


def test_what_was_told_of_a_user_before_an_erasure_does_not_come_back(store: FeatureStore) -> None:
    store.keep_erased([fact_of("ada", Erased(1_000, 0, 7))])
    late = {"ada": attributes_text({"plan": "old"}, 1_000), "bob": attributes_text({"plan": "solo"}, 1)}
    store.put_attributes(late, 0, 0)
    store.put_links([link("ada", "guest-1", 1_000, 0), link("bob", "ada", 999, 1), link("bob", "guest-1", 9, 2)], 0, 2)
    reading = store.read_users(["ada", "bob", "guest-1"])
    assert (reading.attributes, reading.withheld) == ({"bob": {"plan": "solo"}}, {})
    assert reading.people == dict.fromkeys(("bob", "guest-1"), ("bob", "guest-1"))
    assert "ada" not in {*store.ids("w")}


def test_a_link_does_not_come_back_where_its_user_is_forgotten_between_the_question_and_the_write(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, asked = store.erased, list[bool]()

    def then_forgotten(ids: Sequence[str]) -> dict[str, Erased]:
        found, is_first = ask(ids), not asked
        asked.append(True)
        if is_first:
            store.forget_users({"ada": Erased(1_000, 0, 7)})
        return found

    monkeypatch.setattr(store, "erased", then_forgotten)
    store.put_links([link("ada", "guest-1", 1_000, 0), link("bob", "ada", 999, 1)], 0, 1)
    assert not {*store.ids("w")}


@pytest.mark.parametrize("value", [b'{"plan":"old"}', attributes_text({"plan": "old"}, 1_000)], ids=["0.0", "now"])
def test_what_a_restored_store_says_of_a_user_from_before_an_erasure_is_said_to_nobody(
    store: FeatureStore, value: bytes
) -> None:
    store.put_attributes({"ada": value}, 0, 0)
    store.put_links([link("ada", "guest-1", 1_000, 0)], 0, 0)
    assert store.read_users(["guest-1"]).attributes_of(["guest-1"]) == {"plan": "old"}
    store.keep_erased([fact_of("ada", Erased(1_000, 0, 7))])
    reading = store.read_users(["ada", "guest-1"])
    assert (reading.attributes, reading.people, reading.untold) == ({}, {}, [])
    assert reading.withheld == {"ada": {"plan": "old"}}, "and seen by who looks at what is held"
