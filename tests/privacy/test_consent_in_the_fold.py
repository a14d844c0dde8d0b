"""The fold keeps, teaches and counts what people have consented to, from the place on at which their log says so."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.consent import CONSENT, Said, Word
from headwater.examples import Kind
from headwater.privacy import FORGET, Erased
from headwater.wire import EventRow, read_events
from streams.audit import state_differences
from streams.features.decay import Decay
from streams.features.fold import Folded, KnownBeside, Limits, fold, fold_batch, is_gone
from streams.features.packed import decode, encode
from streams.features.state import EMPTY, UserState

DECAY = Decay(0, 1e9)
OPT_OUT, OPT_IN = Limits(), Limits(unsaid=False)


def row(n: int, item: str = "film-1", user: str = "ada", **more: Any) -> EventRow:
    known: dict[str, Any] = {"type": "click", "event_id": f"{user}-{n}", "time_ms": 1000 + n, "item_id": item}
    fields = {**known, "value": None, "request_id": None, "offset": n, "place": 0, **more}
    return EventRow(user_id=user, **fields)


def word(n: int, user: str = "ada", **said: bool) -> EventRow:
    return row(n, "-", user, type=CONSENT, consent=Said(**said))


def folded(*rows: EventRow, limits: Limits = OPT_OUT, beside: KnownBeside = KnownBeside()) -> Folded:
    return fold_batch({}, rows, limits, DECAY, beside=beside)


def items(state: UserState) -> list[str]:
    return [entry.item_id for entry in state.history]


def counts(one: Folded) -> dict[str, int]:
    return {item: each.counts["click"] for item, each in one.items.items() if each.counts.get("click")}


def taught(one: Folded) -> list[str]:
    return [entry.item_id for each in one.segments if not each.erased for entry in each.targets]


def test_who_withdraws_personalise_has_no_history_from_there_on_and_is_counted_still() -> None:
    one = folded(row(0), row(1, "film-2"), word(2, personalise=False), row(3, "film-3"))
    state = one.states["ada"]
    assert (items(state), state.shown, state.count) == ([], (), 2)
    assert state.word == Word(Said(personalise=False), 1002)
    assert one.forgotten == {"ada": Erased(1002, 0, 2)}
    assert (taught(one), [each.erased for each in one.segments]) == (["film-1", "film-2"], [False, True])
    assert counts(one) == {"film-1": 1, "film-2": 1, "film-3": 1}
    assert one.withheld == {"personalise": 1, "train": 1}
    again = fold_batch(one.states, [row(4, "film-3", event_id="ada-3")], OPT_OUT, DECAY)
    assert again.duplicates == 1, "what delivery needs is kept"


def test_who_grants_it_again_begins_anew() -> None:
    one = folded(row(0), word(1, personalise=False), row(2, "film-2"), word(3, personalise=True), row(4, "film-4"))
    assert items(one.states["ada"]) == ["film-4"]
    assert taught(one) == ["film-1", "film-4"]


def test_without_train_a_history_is_kept_and_nothing_is_learned_of_it() -> None:
    one = folded(row(0), word(1, train=False), row(2, "film-2"), word(3, train=True), row(4, "film-4"))
    assert items(one.states["ada"]) == ["film-1", "film-2", "film-4"]
    assert (taught(one), not one.forgotten) == (["film-1", "film-4"], True)
    assert [each.erased for each in one.segments] == [False, True, False], "the trainer forgets what it rehearses"
    assert [entry.item_id for entry in one.segments[-1].history] == ["film-1", "film-2"]


def test_without_analyse_nothing_counts_for_items_and_an_undo_takes_no_other_count() -> None:
    liked = {"type": "like"}
    one = folded(
        row(0, **liked), word(1, analyse=False), row(2, "film-2", **liked), word(3, analyse=True),
        row(4, "film-2", type="unlike"), row(5, "film-5", **liked),
    )  # fmt: skip
    assert {item: each.counts for item, each in one.items.items() if each.counts} == {
        "film-1": {"like": 1}, "film-5": {"like": 1},
    }  # fmt: skip
    assert items(one.states["ada"]) == ["film-1", "film-5"]


def test_an_undo_takes_nothing_off_that_was_not_counted() -> None:
    liked, undone, kept = {"type": "like"}, {"type": "unlike"}, {"type": "like", "consent": Said(True)}
    for limits, *rows in (
        (OPT_OUT, row(0, type="like", consent=Said(analyse=False)), row(1, **undone)),
        (OPT_OUT, word(0, analyse=False), row(1, **liked), word(2, train=True), row(3, **undone)),
        (OPT_OUT, row(5, **liked), word(6, analyse=False), row(7, "film-2", **liked), row(8, **undone)),
        (OPT_IN, row(0, **kept), row(1, type="unlike", consent=Said(True, True, True))),
        (OPT_IN, row(5, **kept), word(6, analyse=True)._replace(time_ms=9), row(7, **undone)),
    ):
        one = folded(*rows, limits=limits)
        assert all(count >= 0 for each in one.items.values() for count in each.counts.values()), rows
        state = one.states["ada"]
        assert decode(encode(state)) == state


def test_where_nothing_is_granted_until_it_is_said_an_event_may_say_so() -> None:
    yes = Said(True, True, True)
    one = folded(row(0), row(1, "film-2", consent=yes), row(2, "film-3"), limits=OPT_IN)
    assert (items(one.states["ada"]), taught(one), counts(one)) == (["film-2"], ["film-2"], {"film-2": 1})
    later = fold_batch(one.states, [word(3, personalise=True), row(4, "film-4")], OPT_IN, DECAY)
    assert (items(later.states["ada"]), taught(later), counts(later)) == (["film-2", "film-4"], [], {})


def test_what_a_person_has_withdrawn_no_event_grants() -> None:
    one = folded(word(0, personalise=False), row(1, consent=Said(True, True, True)))
    assert (items(one.states["ada"]), taught(one)) == ([], [])


def test_an_older_grant_changes_nothing_and_an_older_denial_does() -> None:
    late_grant = word(5, personalise=True)._replace(time_ms=1001)
    assert items(folded(word(2, personalise=False), late_grant, row(6)).states["ada"]) == []
    late_denial = word(5, train=False, personalise=False)._replace(time_ms=1001)
    state = folded(row(0), word(2, personalise=True), late_denial).states["ada"]
    assert (items(state), state.word) == ([], Word(Said(False, False), 1002))


def test_of_one_person_with_two_ids_the_stricter_word_decides_what_is_learned() -> None:
    from streams.features.fold import Folding

    person = Folding(UserState(word=Word(Said(train=False), 5)), OPT_OUT)
    one = folded(row(0), beside=KnownBeside(people={"ada": person, "guest": person}))
    assert (items(one.states["ada"]), taught(one)) == (["film-1"], [])
    person = Folding(EMPTY, OPT_IN)
    rows = row(0, consent=Said(True, True, True)), row(1, "film-2")
    assert taught(folded(*rows, limits=OPT_IN, beside=KnownBeside(people={"ada": person, "guest": person}))) == [
        "film-1"
    ]


rows_of_two = st.lists(
    st.one_of(
        st.builds(
            lambda item, undo, said: ("event", item, undo, said),
            st.sampled_from("ab"), st.booleans(), st.sampled_from([None, Said(analyse=False), Said(False, True, True)]),
        ),
        st.builds(lambda *said: ("word", Said(*said)), *[st.sampled_from([None, False, True])] * 3),
    ),
    max_size=14,
)  # fmt: skip


def made(steps: list[Any]) -> list[EventRow]:
    found = []
    for n, step in enumerate(steps):
        if step[0] == "word":
            found.append(row(n, "-", type=CONSENT, consent=step[1]))
        else:
            found.append(row(n, step[1], type="unlike" if step[2] else "like", consent=step[3]))
    return found


@pytest.mark.parametrize("limits", [OPT_OUT, OPT_IN])
@given(steps=rows_of_two, cut=st.integers(0, 14))
def test_however_the_log_is_cut_the_same_is_kept_counted_and_taught(steps: list[Any], cut: int, limits: Limits) -> None:
    rows = made(steps)
    whole = fold_batch({}, rows, limits, DECAY)
    first = fold_batch({}, rows[:cut], limits, DECAY)
    rest = fold_batch(first.states, rows[cut:], limits, DECAY, beside=KnownBeside(erased=first.forgotten))
    state = (first.states | rest.states).get("ada", EMPTY)
    one_by_one = EMPTY
    for each in rows:
        one_by_one = fold(one_by_one, each, limits)
    assert whole.states.get("ada", EMPTY) == state == one_by_one
    assert decode(encode(state)) == state
    merged = dict(first.items)
    for item, one in rest.items.items():
        merged[item] = one if item not in merged else (merged[item].merge(one), merged[item])[1]
    assert {i: (o.counts, o.positive) for i, o in merged.items()} == {
        i: (o.counts, o.positive) for i, o in whole.items.items()
    }
    assert taught(whole) == taught(first) + taught(rest)


@given(steps=rows_of_two)
def test_a_rebuild_that_knows_where_the_log_forgets_counts_the_same_and_keeps_nobody(steps: list[Any]) -> None:
    rows = made(steps)
    whole = fold_batch({}, rows, OPT_OUT, DECAY)
    again = fold_batch({}, rows, OPT_OUT, DECAY, beside=KnownBeside(erased=whole.forgotten))
    assert again.states == whole.states
    assert {i: o.counts for i, o in again.items.items()} == {i: o.counts for i, o in whole.items.items()}


def test_words_and_erasures_that_came_late_are_the_same_in_a_rebuild_that_knows_of_later_ones() -> None:
    late_denial = word(5, personalise=False, analyse=True)._replace(time_ms=1001)
    late_erasure = row(6, type=FORGET)._replace(time_ms=900)
    for rows in (
        (row(0), word(2, personalise=True), late_denial, row(7)),
        (row(0), late_denial, late_erasure, row(7), row(8, type=FORGET)),
    ):
        whole = folded(*rows, limits=OPT_IN)
        again = folded(*rows, limits=OPT_IN, beside=KnownBeside(erased=whole.forgotten))
        assert (again.states, counts(again)) == (whole.states, counts(whole))
        alone = EMPTY  # as a state is made again that is damaged
        for each in rows:
            alone = alone if is_gone(whole.forgotten["ada"], each, 0) else fold(alone, each, OPT_IN)
        assert alone == whole.states["ada"]


def test_a_denial_of_since_an_erasure_counts_also_where_the_log_forgets_behind_it_and_that_is_known() -> None:
    denial = word(5, personalise=False)._replace(time_ms=1001)
    rows = row(0), denial, row(6), row(7, type=FORGET)._replace(time_ms=900), row(8)
    whole = folded(*rows, limits=OPT_OUT)
    assert whole.states["ada"].word == Word(Said(personalise=False), 1001)
    again = folded(*rows, limits=OPT_OUT, beside=KnownBeside(erased={"ada": Erased(900, 0, rows[3].offset)}))
    assert (again.states, counts(again)) == (whole.states, counts(whole))


def test_an_audit_tells_of_a_word_that_a_store_has_lost() -> None:
    known = UserState(count=1, word=Word(Said(train=False), 5))
    (told,) = state_differences("u:ada", known, UserState(count=1), ordered=True)
    assert "train=False" in told


def test_an_event_says_its_own_consent_on_the_wire_and_what_is_no_consent_is_refused() -> None:
    def read(consent: str) -> Any:
        value = f'{{"user_id":"ada","item_id":"a","type":"click","consent":{consent}}}'.encode()
        return read_events(value, key=b"ada", partition=0, offset=1, timestamp_ms=5)[0]

    assert read('{"train":false}').consent == Said(train=False)
    assert read("null").consent is None
    assert [read(odd).reason for odd in ('{"sell":true}', '{"train":1}', '"all"', "[]")] == ["schema"] * 4


def test_a_state_without_a_word_is_written_as_the_release_before_wrote_it() -> None:
    assert encode(UserState(count=3))[:1] == b"\x01"
    assert encode(UserState(count=3, word=Word(Said(None, False, True), 9)))[:1] == b"\x02"
    assert Kind.ERASED  # what the trainer goes by
