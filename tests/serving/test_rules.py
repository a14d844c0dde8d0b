"""What an answer may hold: known worlds of a few items, each rule with its known answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from headwater.consent import Consent
from headwater.errors import RequestRefused
from headwater.events import Event, Item, session_number
from headwater.examples import Entry, Shown
from headwater.recommendations import Request
from headwater.signals import Meaning, Signal, Signals
from models.ranker.candidates import best_of_others, candidates_of
from models.top_k import close, drop_not_finite, top_k
from serving.arranging import Leading
from serving.catalogue import Catalogue
from serving.rules import Rows, best_rows, consented, extended, extended_history, rules_for
from streams.features.fold import Limits
from streams.features.state import UserState

FILMS = [
    Item(item_id="alien", title="Alien", categories=("horror", "space"), attributes={"year": 1979, "language": "en"}),
    Item(item_id="amelie", title="Amélie", categories=("comedy",), attributes={"year": 2001, "language": "fr"}),
    Item(item_id="solaris", title="Solaris", categories=("space",), attributes={"year": 1972, "language": "ru"}),
    Item(item_id="metropolis", categories=("space", "silent"), attributes={"year": 1927, "restored": True}),
    Item(item_id="gone", title="Gone", categories=("space",), attributes={"year": 1999}, available=False),
]
IDS = [film.item_id for film in FILMS]


def request(**fields: Any) -> Request:
    return Request(user_id="ann", **fields)


def picks(
    asked: Request,
    history: list[Entry] | None = None,
    catalogue: Catalogue | None = None,
    seen: tuple[str, ...] = ("*",),
) -> list[str]:
    """Item ids that the rules leave, when every item scores by its place: the first the highest."""
    ids: list[str | None] = [*IDS, None]  # one free row
    rows = Rows(catalogue or Catalogue(FILMS), ids)
    item_rows = {item_id: row for row, item_id in enumerate(ids) if item_id is not None}
    scores = np.arange(len(ids), 0, -1).astype(np.float32)
    scores[rows.blocked(0)] = -np.inf
    rules = rules_for(asked, extended_history(asked, history or [], 1000), rows, item_rows, seen)
    return [str(ids[row]) for row in best_rows(scores, rules, asked.k or 10)]


def entry(item_id: str, kind: str = "click", time_ms: int = 1) -> Entry:
    return Entry(item_id, kind, time_ms, None)


def test_without_rules_all_available_items_come_best_first() -> None:
    assert picks(request()) == ["alien", "amelie", "solaris", "metropolis"]


def test_k_is_clamped_to_what_is_left() -> None:
    assert picks(request(k=2)) == ["alien", "amelie"]
    assert len(picks(request(k=1000))) == 4


def test_seen_items_are_left_out_by_event_type() -> None:
    history = [entry("alien", "view"), entry("amelie", "purchase")]
    assert picks(request(), history) == ["solaris", "metropolis"]
    assert picks(request(), history, seen=("purchase",)) == ["alien", "solaris", "metropolis"]
    assert picks(request(), history, seen=()) == ["alien", "amelie", "solaris", "metropolis"]


def test_a_request_overrides_which_types_count_as_seen() -> None:
    history = [entry("alien", "view"), entry("amelie", "purchase")]
    assert picks(request(exclude_seen=()), history) == ["alien", "amelie", "solaris", "metropolis"]
    assert picks(request(exclude_seen=("view",)), history) == ["amelie", "solaris", "metropolis"]


def test_excluded_items_and_strange_ids_among_them() -> None:
    assert picks(request(exclude=("alien", "no such film"))) == ["amelie", "solaris", "metropolis"]


def test_candidates_are_all_that_is_ranked() -> None:
    assert picks(request(candidates=("metropolis", "amelie", "gone", "no such film", "amelie"))) == [
        "amelie",
        "metropolis",
    ]
    assert picks(request(candidates=())) == []


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"categories": "space"}, ["alien", "solaris", "metropolis"]),
        ({"categories": ["comedy", "silent"]}, ["amelie", "metropolis"]),
        ({"language": "fr"}, ["amelie"]),
        ({"language": ["fr", "ru"], "categories": "space"}, ["solaris"]),
        ({"year": 1979}, ["alien"]),
        ({"year": 1979.0}, ["alien"]),
        ({"year": {"gte": 1972, "lte": 1979}}, ["alien", "solaris"]),
        ({"year": {"gte": 1980}}, ["amelie"]),
        ({"language": {"gte": "f"}}, ["amelie", "solaris"]),
        ({"restored": True}, ["metropolis"]),
        ({"restored": "True"}, ["metropolis"]),
        ({"restored": False}, []),
        ({"language": "de"}, []),
        ({"year": []}, []),
    ],
)
def test_filters_on_fields_of_items(filters: dict[str, Any], expected: list[str]) -> None:
    assert picks(request(filters=filters)) == expected


def test_a_filter_on_a_field_that_no_item_has_names_the_known_ones() -> None:
    with pytest.raises(
        RequestRefused, match=r"no item has a field 'yaer'. Known fields: categories, language"
    ) as refusal:
        picks(request(filters={"yaer": 1979}))
    assert refusal.value.code == "unknown_field"


def test_a_refusal_names_twenty_of_many_fields() -> None:
    catalogue = Catalogue([Item(item_id="many", attributes={f"{n:05}" + "x" * 200: n for n in range(3000)})])
    with pytest.raises(RequestRefused, match="and 2,980 more") as refusal:
        catalogue.matching_all({"y" * 5000: 1}, 0)
    assert len(str(refusal.value)) < 2000


SCALARS = st.one_of(st.booleans(), st.sampled_from([0, 1, 1.0, 2.5, "", "x", "\0True", "True"]), st.none())
VALUES = st.one_of(
    SCALARS, st.lists(st.one_of(SCALARS, st.lists(SCALARS, max_size=2)), max_size=3), st.just({"x": [1]})
)
EDITED_ITEMS = st.builds(
    Item,
    item_id=st.sampled_from("ABC"),
    categories=st.lists(st.sampled_from("xy"), max_size=3).map(tuple),
    attributes=st.dictionaries(st.sampled_from(["tags", "year", "categories"]), VALUES, max_size=3),
    available=st.booleans(),
)


@given(st.lists(st.one_of(EDITED_ITEMS, st.sampled_from("ABC")), max_size=12))
def test_any_edits_leave_the_catalogue_that_its_survivors_make(edits: list[Item | str]) -> None:
    catalogue = Catalogue()
    left: dict[str, Item] = {}
    for edit in edits:
        if isinstance(edit, Item):
            catalogue.put(edit)
            left[edit.item_id] = edit
        else:
            catalogue.remove(edit)
            left.pop(edit, None)
    fresh = Catalogue(left.values())
    assert len(catalogue) == len(fresh) == len(left)
    conditions = [True, 1, 2.5, "", "x", "\0True", ["x", 1], {"gte": 0}, {"lte": ""}, {"gte": "", "lte": "z"}]
    conditions += ["1", "true", {"not": "x"}, {"gt": "1", "not": 2.5}]
    for name in ("tags", "tags.x", "year", "categories", "unheard of"):
        for condition in conditions:
            assert matched(catalogue, name, condition) == matched(fresh, name, condition)
    open_ids = {item_id for item_id, item in left.items() if item.available}
    assert {item_id for slot, item_id in enumerate(catalogue.ids) if not catalogue.blocked(0).mask[slot]} == open_ids


def matched(catalogue: Catalogue, name: str, condition: object) -> set[str] | str:
    try:
        mask = catalogue.matching_all({name: condition}, 0).mask
    except RequestRefused as refusal:
        return str(refusal)
    return {item_id for slot, item_id in enumerate(catalogue.ids) if mask[slot]}


def test_lists_that_empty_and_items_that_leave() -> None:
    catalogue = Catalogue([Item(item_id="A", attributes={"tags": ["x"]}), Item(item_id="B", attributes={"tags": []})])
    catalogue.remove("A")
    catalogue.remove("B")
    assert len(catalogue) == 0


def test_the_item_on_the_page_counts_as_newest_history_and_is_not_recommended() -> None:
    asked = request(context_item="alien", exclude_seen=())
    assert extended_history(asked, [entry("solaris")], 77)[-1] == Entry("alien", "view", 77, None)
    assert picks(asked) == ["amelie", "solaris", "metropolis"]


def test_recent_events_extend_the_history_once() -> None:
    fresh = Event(user_id="ann", item_id="alien", type="click", event_time=50)
    stored = Event(user_id="ann", item_id="solaris", type="click", event_time=40)
    stranger = Event(user_id="bob", item_id="amelie", type="click", event_time=60)
    asked = request(recent_events=(fresh, stored))
    history = extended_history(asked, [entry("solaris", time_ms=40)], 100)
    assert [one.item_id for one in history] == ["solaris", "alien"]
    assert picks(asked) == ["amelie", "metropolis"]
    with pytest.raises(ValidationError, match=r"recent_events\[1\] is of 'bob', not of user_id 'ann'.* say was: 'bob'"):
        request(recent_events=(fresh, stranger))
    merged = request(recent_events=(stranger, fresh), was="bob")
    assert [one.item_id for one in extended_history(merged, [], 100)] == ["alien", "amelie"]


def test_recent_events_that_were_consented_to_count_where_nothing_is_granted_unsaid() -> None:
    wary = Event(user_id="ann", item_id="solaris", type="click", event_time=40)
    fresh = Event(user_id="ann", item_id="alien", type="click", event_time=50, consent=Consent(personalise=True))
    limits = Limits(unsaid=False, words=True)
    left = consented(request(recent_events=(wary, fresh)), UserState(), limits)
    assert left is not None
    assert [one.item_id for one in extended_history(left.request, [], 100, left.state, limits)] == ["alien"]


def test_recent_events_mean_what_they_mean_everywhere() -> None:
    liked, viewed = entry("alien", "like", 10), entry("amelie", "view", 20)
    state = UserState([liked, viewed], shown=(Shown("solaris", 15, 1, "r1"),), count=2)

    def recent(*events: tuple[str, str, int], **more: Any) -> UserState:
        given = [{"item_id": item, "type": kind, "event_time": at} for item, kind, at in events]
        return extended(Request.model_validate({"recent_events": given, **more}), state.history, 100, state)

    assert recent(("alien", "unlike", 30)).history == [viewed]
    assert recent(("alien", "unlike", 5)).history == [liked, viewed]  # undoes nothing that came later
    assert recent(("metropolis", "click", 15)).history == [liked, entry("metropolis", "click", 15), viewed]
    assert recent(("solaris", "dismiss", 30)).shown == ()
    assert [one.item_id for one in recent(("alien", "impression", 40)).shown] == ["solaris", "alien"]
    assert recent(("alien", "impression", 40)).history == [liked, viewed]
    state = undone = recent(("alien", "unlike", 30))
    assert recent(("alien", "like", 10), ("alien", "unlike", 30)).history == undone.history == [viewed]


def test_the_item_on_the_page_is_of_the_session_that_is_going_on() -> None:
    asked = request(context_item="alien", session_id="s1")
    assert extended_history(asked, [], 77)[-1].session == session_number("s1")


def test_only_events_of_so_many_days_count_as_seen() -> None:
    day_ms = 86_400_000
    history = [entry("alien", "view", day_ms), entry("amelie", "view", 5 * day_ms), entry("solaris", "buy", 9 * day_ms)]

    def left(**fields: Any) -> list[str]:
        rows = Rows(Catalogue(FILMS), IDS)
        item_rows = {item_id: row for row, item_id in enumerate(IDS)}
        rules = rules_for(request(**fields), history, rows, item_rows, ("*",), now_ms=10 * day_ms)
        return [item_id for row, item_id in enumerate(IDS) if row not in rules.excluded]

    assert left() == ["metropolis", "gone"]
    assert left(exclude_seen_days=5) == ["alien", "metropolis", "gone"]
    assert left(exclude_seen_days=0.5) == ["alien", "amelie", "solaris", "metropolis", "gone"]
    assert left(exclude_seen_days=5, exclude_seen=("view",)) == ["alien", "solaris", "metropolis", "gone"]


def test_masks_follow_the_catalogue() -> None:
    catalogue = Catalogue(FILMS)
    assert picks(request(filters={"categories": "space"}), catalogue=catalogue) == ["alien", "solaris", "metropolis"]
    catalogue.put(Item(item_id="gone", categories=("space",)))
    catalogue.put(Item(item_id="alien", categories=("horror",)))
    catalogue.remove("solaris")
    assert picks(request(filters={"categories": "space"}), catalogue=catalogue) == ["metropolis", "gone"]
    assert picks(request(), catalogue=catalogue) == ["alien", "amelie", "metropolis", "gone"]


def test_one_view_of_the_rows_sees_changes_of_the_catalogue_and_of_its_ids() -> None:
    catalogue = Catalogue(FILMS)
    ids: list[str | None] = ["alien", None]
    rows = Rows(catalogue, ids)
    assert rows.blocked(0).tolist() == [False, True]
    ids[1:] = ["gone", "amelie"]
    rows.reread(ids, [1, 2])
    assert rows.blocked(0).tolist() == [False, True, False]
    catalogue.remove("alien")
    assert rows.blocked(0).tolist() == [True, True, False]
    assert rows.matching_all({"categories": "comedy"}, 0).tolist() == [False, False, True]


def test_a_field_is_unknown_again_when_its_last_item_left() -> None:
    catalogue = Catalogue(FILMS)
    catalogue.remove("metropolis")
    with pytest.raises(RequestRefused, match="restored"):
        catalogue.matching_all({"restored": True}, 0)
    assert len(catalogue) == 4


@pytest.mark.parametrize("rows", [1, 7, 256, 1025, 5000])
@pytest.mark.parametrize("k", [1, 10, 300, 6000])
def test_top_k_equals_a_full_sort_with_ties_to_the_lowest_row(rows: int, k: int) -> None:
    rng = np.random.default_rng(rows * k)
    scores = np.round(rng.normal(size=rows), 1).astype(np.float32)
    scores[rng.random(rows) < 0.2] = -np.inf
    expected = np.lexsort((np.arange(rows), -scores))[:k]
    assert top_k(scores, k).tolist() == [row for row in expected if scores[row] > -np.inf]


@pytest.mark.parametrize("rows", [3, 256, 1030])
def test_scores_that_are_not_finite_are_counted_and_left_out(rows: int) -> None:
    scores = np.zeros((2, rows), np.float32)
    scores[1, rows - 1] = np.nan
    scores[0, 0] = np.inf
    assert drop_not_finite(scores) == 2
    assert scores[1, rows - 1] == -np.inf
    assert drop_not_finite(scores) == 0


def test_scores_are_closed_in_one_pass_as_in_two() -> None:
    chance = np.random.default_rng(0)
    scores = chance.choice(np.array([1.5, -2, np.nan, np.inf, -np.inf], np.float32), 1003)
    closed = chance.random(1003) < 0.3
    other = scores.copy()
    bad = drop_not_finite(other)
    other[closed] = -np.inf
    assert close(scores, closed) == bad > 0
    np.testing.assert_array_equal(scores, other)


@pytest.mark.parametrize("different", [3, 40, 100_000])
@pytest.mark.parametrize("open_rows", [5, 90, 150, 5000])
def test_candidates_alone_tell_the_best_where_they_say_that_they_do(different: int, open_rows: int) -> None:
    """Ties reach from candidates to others, and a revision lowers some of them."""
    chance = np.random.default_rng(different + open_rows)
    told = 0
    for _ in range(20):
        scores = chance.integers(0, different, 5000).astype(np.float32)
        scores[chance.permutation(5000)[open_rows:]] = -np.inf
        nothing = np.zeros(0, np.int64)
        rows = candidates_of(scores, [], nothing, nothing, np.full(5000, 9, np.float32))
        others = best_of_others(scores[rows], -1e29)
        scores[rows] += chance.standard_normal(len(rows)).astype(np.float32) * different * 0.2
        for k in (1, 10, 60):
            found = Leading(rows, others).best(scores, k)
            told += found is not None
            assert found is None or found.tolist() == top_k(scores, k).tolist()
    assert told or open_rows < 10 or different == 3


def test_auto_leaves_out_what_users_seldom_come_back_to_by_the_newest_event_with_it() -> None:
    history = [entry("alien", "click", 1), entry("amelie", "click", 2), entry("alien", "purchase", 3)]
    rows = Rows(Catalogue(FILMS), IDS)
    item_rows = {item_id: row for row, item_id in enumerate(IDS)}

    def excluded(asked: Request, returning: tuple[str, ...], setting: tuple[str, ...] = ("auto",)) -> set[str]:
        rules = rules_for(asked, history, rows, item_rows, setting, returning)
        return {IDS[row] for row in rules.excluded.tolist()}

    assert excluded(request(), ()) == {"alien", "amelie"}
    assert excluded(request(), ("click",)) == {"alien"}
    assert excluded(request(), ("click", "purchase")) == set()
    assert excluded(request(), ("click", "purchase"), ("auto", "click")) == {"alien", "amelie"}
    assert excluded(request(exclude_seen=("*",)), ("click",)) == {"alien", "amelie"}
    assert excluded(request(exclude_seen=("auto",)), ("click",), ("*",)) == {"alien"}


def test_what_was_turned_down_for_some_days_may_come_again_after_them_whatever_the_rule_auto_says_of_its_type() -> None:
    snooze = Signals({"snooze": Signal(means=Meaning.NEGATIVE, negative_for_days=30)})
    rows, day = Rows(Catalogue(FILMS), IDS), 86_400_000
    item_rows = {item_id: row for row, item_id in enumerate(IDS)}
    history = [
        entry("alien", "rating"),
        entry("alien", "snooze"),
        entry("amelie", "snooze"),
        entry("solaris", "dismiss"),
    ]

    def excluded(days: int, *setting: str) -> set[str]:
        rules = rules_for(request(), history, rows, item_rows, setting, (), days * day, snooze)
        return {IDS[row] for row in rules.excluded.tolist()}

    assert excluded(29, "auto") == excluded(29) == {"alien", "amelie", "solaris"}
    assert excluded(31) == {"solaris"}
    assert excluded(31, "auto") == {"alien", "solaris"}  # people seldom come back to what they have rated
    assert excluded(31, "auto", "snooze") == excluded(31, "*") == {"alien", "amelie", "solaris"}
