"""Lists that were shown: joined with what follows in any order, judged before they are learned, kept in checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from headwater.examples import Entry, EventPosition, Example, Kind
from models.checks import check_learner
from models.learner import Learner
from models.quality import Judged
from tests.models.test_learner import SMALL as SIZES
from tests.worlds.feeds import START_MS, Happened, examples_of_feed, feed, video_feed
from tests.worlds.tastes import ring

SMALL = SIZES.model_copy(update={"block": 8})
BRIEF = SMALL.model_copy(update={"join_window_s": 90.0})
MINUTE_MS = 60_000


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def event(user: str, item: str, minutes: float, kind: str = "click", list_id: str | None = None) -> Happened:
    return Happened(user, (item,), kind, START_MS + int(minutes * MINUTE_MS), list_id)


def shown(user: str, items: str, minutes: float, list_id: str | None = None) -> Happened:
    return Happened(user, tuple(items), "impression", START_MS + int(minutes * MINUTE_MS), list_id)


def judged(*stream: Happened, until: float = 600) -> dict[tuple[str, str], list[tuple[bool, bool]]]:
    """What became of the items of lists, by list and item: (reacted, corrected) of each time that it was told."""
    found: dict[tuple[str, str], list[tuple[bool, bool]]] = {}
    for one in told(Learner(SMALL), *stream, event("clock", "tick", until)):
        found.setdefault((one.list_id, one.item_id), []).append((one.reacted, one.corrected))
    return found


def told(learner: Learner, *stream: Happened) -> list[Judged]:
    scored = learner.learn([*examples_of_feed(stream)])
    return [each for one in scored + learner.close() for each in one.judged]


@pytest.fixture(scope="module")
def stream() -> list[Example]:
    return [*examples_of_feed(feed(12, tiring=True)), *examples_of_feed(video_feed(24))]


def test_the_contract_holds_for_streams_that_show_lists(stream: list[Example]) -> None:
    check_learner(lambda: Learner(BRIEF, seed=3), stream)


def test_a_stream_without_lists_has_nothing_of_them_in_its_checkpoint() -> None:
    learner = Learner(SMALL)
    learner.learn(ring(60))
    arrays, header = learner.collect({})
    assert "shown" not in header
    assert not [name for name in arrays if name.startswith(("clicks", "waiting", "shown"))]
    assert not [key for pending in header["pending"] for key in pending if key in ("kind", "listed", "tired")]
    assert "shown" not in learner.prequential.summary()


def test_what_is_reacted_to_within_the_window_and_what_is_not() -> None:
    found = judged(shown("ada", "abc", 0, "l"), event("ada", "b", 5), event("bob", "a", 6))
    assert found == {("l", "a"): [(False, False)], ("l", "b"): [(True, False)], ("l", "c"): [(False, False)]}


def test_a_reaction_belongs_to_the_list_that_it_names_else_to_the_newest_showing_of_its_item() -> None:
    lists = (shown("ada", "ab", 0, "first"), shown("ada", "bc", 10, "second"))
    named = judged(*lists, event("ada", "b", 12, list_id="first"))
    assert named["first", "b"] == [(True, False)]
    assert named["second", "b"] == [(False, False)]
    unnamed = judged(*lists, event("ada", "b", 12, list_id="unheard-of"))
    assert unnamed["first", "b"] == [(False, False)]
    assert unnamed["second", "b"] == [(True, False)]


def test_a_label_after_the_window_corrects_and_never_doubles() -> None:
    late = judged(
        shown("ada", "ab", 0, "l"),
        *(event("clock", "tick", 40 + minute) for minute in range(10)),  # the window is over and its block closed
        event("ada", "b", 20),  # happened in time, came late
        event("ada", "b", 21),
        event("ada", "a", 55, list_id="l"),  # names the list, out of time
    )
    assert late["l", "b"] == [(False, False), (True, True)]
    assert late["l", "a"] == [(False, False), (True, True)]
    assert judged(shown("ada", "ab", 0, "l"), event("ada", "a", 55))["l", "a"] == [(False, False)]


def test_a_reaction_that_comes_before_its_list_joins_it() -> None:
    early = judged(shown("bob", "z", -5), event("ada", "b", 5), event("ada", "a", -5), shown("ada", "abc", 0, "l"))
    assert early["l", "b"] == [(True, False)]
    assert early["l", "a"] == [(False, False)]


def test_the_parts_of_a_list_are_one_list() -> None:
    one_by_one = [shown("ada", item, place, "l") for place, item in enumerate("abc")]
    found = judged(*one_by_one, event("ada", "c", 5))
    assert found == {("l", "a"): [(False, False)], ("l", "b"): [(False, False)], ("l", "c"): [(True, False)]}


def test_a_dismissal_says_at_once_that_there_was_no_reaction() -> None:
    found = judged(shown("ada", "ab", 0, "l"), event("ada", "a", 1, "dismiss"), until=2)
    assert found == {("l", "a"): [(False, False)]}


def test_in_whatever_order_labels_come_the_outcome_is_the_same() -> None:
    happened = [shown("ada", "abc", 0, "l"), event("ada", "b", 3), shown("ada", "cd", 4, "m"), event("ada", "c", 5)]
    expected = {key: told[-1][0] for key, told in judged(*happened).items()}
    assert sorted(key for key, reacted in expected.items() if reacted) == [("l", "b"), ("m", "c")]
    for order in ([1, 0, 2, 3], [0, 2, 3, 1], [2, 3, 0, 1], [3, 2, 1, 0]):
        again = judged(event("bob", "z", 0), shown("bob", "z", 0), *(happened[i] for i in order))
        assert {key: told[-1][0] for key, told in again.items() if key in expected} == expected, order


def test_no_list_is_joined_by_somebody_who_may_not_teach_any_more() -> None:
    learner = Learner(SMALL.model_copy(update={"teach_per_minute": 1}))
    crowd = [event(f"u{i % 50}", f"i{i % 9}", i) for i in range(300)]
    crawl = [shown("crawler", "xyz", 299, "l"), *(event("crawler", f"i{i % 9}", 300 + i / 1000) for i in range(600))]
    found = told(learner, *crowd, *crawl, event("clock", "tick", 600))
    assert learner.limit.capped > 0
    assert not [one for one in found if one.list_id == "l"]


def test_a_restart_in_the_midst_of_waiting_lists_changes_nothing(stream: list[Example], tmp_path: Path) -> None:
    whole = Learner(BRIEF)
    expected = whole.learn(stream)
    first = Learner(BRIEF)
    scored = first.learn(stream[:29])
    first.save(tmp_path / "checkpoint")
    second, _ = Learner.load(tmp_path / "checkpoint")
    assert second.undecided() == first.undecided() != []
    assert scored + second.learn(stream[29:]) == expected
    assert second.undecided() == whole.undecided()
    ours, theirs = second.collect({})[0], whole.collect({})[0]
    assert {name: one.tobytes() for name, one in ours.items()} == {name: one.tobytes() for name, one in theirs.items()}


def test_a_list_of_items_that_nobody_has_met_is_asked_about_too() -> None:
    learner = Learner(SMALL)
    entry = Entry("new", "impression", START_MS, None)
    first = Example("ada", (), entry, 0, EventPosition(0, 0), Kind.SHOWN, (), ("new", "newer"), "l")
    learner.learn([first])
    learner.close()
    assert [(one.item_id, one.place, one.rank) for one in learner.undecided()] == [("new", 1, 2), ("newer", 2, 2)]
    assert 0 < learner.undecided()[0].chance < 1
