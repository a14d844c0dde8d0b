"""Lists that were shown: joined with what follows in any order, judged before they are learned, kept in checkpoints;
fatigue is learned where it is true, and chances of a reaction beat the item's own rate.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from headwater.examples import Entry, EventPosition, Example, Kind, Shown
from headwater.signals import Signal
from models.checks import check_learner
from models.config import ModelConfig
from models.learner import Learner
from models.published.bundle import Bundle
from models.published.delta import Delta
from models.published.graph import SCORES
from models.published.onnx_runtime import onnxruntime
from models.published.opinions import said_by
from models.published.parity import check_parity, reference_scores
from models.quality import Judged, log_loss, roc_auc
from models.shown.showings import tired_facts
from models.shown.waiting import AtShowing, Waiting, WaitingList
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


@pytest.mark.parametrize(
    ("happened", "teaches"),
    [
        ([shown("ada", "azb", 5, "l"), event("ada", "b", 6, "l")], True),
        (
            [shown("ada", item, i, f"l{i // 2}") for i, item in enumerate("abababababab", 6)] + [event("ada", "b", 18)],
            True,
        ),
        ([shown("ada", "a", 5), shown("ada", "b", 5.1), event("ada", "b", 6)], False),  # two lists of one
        ([shown("ada", "azb", 5, "l"), event("ada", "z", 6, "l")], False),  # which nobody had met
        ([shown("ada", "ab", 5, "l"), event("ada", "b", 6, "dismiss", "l")], False),
    ],
)
def test_the_ranker_learns_from_a_list_which_of_the_items_that_it_knew_was_reacted_to(
    happened: list[Happened], teaches: bool
) -> None:
    learner = Learner(SMALL)
    met = [event(f"u{i % 3}", item, i / 10) for i, item in enumerate("abcdabcd")]
    told(learner, *met, *happened, event("clock", "a", 600))
    assert learner.parts.ranker is not None
    assert learner.parts.ranker.network.lists.begun is teaches


def test_a_dismissal_says_at_once_that_there_was_no_reaction() -> None:
    found = judged(shown("ada", "ab", 0, "l"), event("ada", "a", 1, "dismiss"), until=2)
    assert found == {("l", "a"): [(False, False)]}


def test_who_thinks_better_of_a_dismissal_corrects_it() -> None:
    stream = [shown("ada", "ab", 0, "l"), event("ada", "a", 1, "dismiss"), event("ada", "a", 2, "like")]
    assert judged(*stream)["l", "a"] == [(False, False), (True, True)]


def test_when_too_many_lists_are_open_the_oldest_is_closed_early_and_counted() -> None:
    waiting = Waiting(1_800_000, most_open=4, most_closed=2)
    nothing = AtShowing(np.zeros((2, 1), np.float16), np.zeros((2, 1), np.float16), np.zeros((2, 3)))
    closed = []
    for number in range(5):
        closed += [one.list_id for one in waiting.advance(START_MS + number)]
        waiting.open(WaitingList("ada", f"l{number}", START_MS + number, ["a", "b"], [1, 2], nothing))
    closed += [one.list_id for one in waiting.advance(START_MS + 5)]
    assert closed == ["l0", "l1", "l2"]
    assert waiting.closed_early == 3
    assert len(waiting.closed) == 1
    assert [one.list_id for one in waiting.open_lists()] == ["l3", "l4"]


def test_in_whatever_order_labels_come_the_outcome_is_the_same() -> None:
    happened = [shown("ada", "abc", 0, "l"), event("ada", "b", 3), shown("ada", "cd", 4, "m"), event("ada", "c", 5)]
    expected = {key: told[-1][0] for key, told in judged(*happened).items()}
    assert sorted(key for key, reacted in expected.items() if reacted) == [("l", "b"), ("m", "c")]
    for order in ([1, 0, 2, 3], [0, 2, 3, 1], [2, 3, 0, 1], [3, 2, 1, 0]):
        again = judged(event("bob", "z", 0), shown("bob", "z", 0), *(happened[i] for i in order))
        assert {key: told[-1][0] for key, told in again.items() if key in expected} == expected, order


def test_no_list_is_joined_by_somebody_who_may_not_teach_any_more(tmp_path: Path) -> None:
    learner = Learner(SMALL.model_copy(update={"teach_per_minute": 1}))
    crowd = [event(f"u{i % 50}", f"i{i % 9}", i) for i in range(300)]
    crawl = [shown("crawler", "xyz", 299, "l"), *(event("crawler", f"i{i % 9}", 300 + i / 1000) for i in range(600))]
    found = told(learner, *crowd, *crawl, event("clock", "tick", 600))
    assert learner.limit.capped > 0
    assert not [one for one in found if one.list_id == "l"]
    learner.save(tmp_path / "checkpoint")  # of a learner that was shown lists, and has none
    assert "waiting.said" not in Learner.load(tmp_path / "checkpoint")[0].collect({})[0]


def test_a_restart_in_the_midst_of_waiting_lists_changes_nothing(tmp_path: Path) -> None:
    stream, half = [*examples_of_feed(feed(50, tiring=True))], 61
    whole = Learner(BRIEF)
    expected = whole.learn(stream)
    first = Learner(BRIEF)
    scored = first.learn(stream[:half])
    first.save(tmp_path / "checkpoint")
    second, _ = Learner.load(tmp_path / "checkpoint")
    assert second.undecided() == first.undecided() != []
    assert len(first.collect({})[0]["waiting.rank_facts"])
    assert scored + second.learn(stream[half:]) == expected
    assert second.undecided() == whole.undecided()
    ours, theirs = second.collect({})[0], whole.collect({})[0]
    assert ours["ranker.lists"].any()
    assert {name: one.tobytes() for name, one in ours.items()} == {name: one.tobytes() for name, one in theirs.items()}


def test_a_list_of_items_that_nobody_has_met_is_asked_about_too() -> None:
    learner = Learner(SMALL)
    entry = Entry("new", "impression", START_MS, None)
    first = Example("ada", (), entry, 0, EventPosition(0, 0), Kind.SHOWN, (), ("new", "newer"), "l")
    learner.learn([first])
    learner.close()
    assert [(one.item_id, one.place, one.rank) for one in learner.undecided()] == [("new", 1, 2), ("newer", 2, 2)]
    assert 0 < learner.undecided()[0].chance < 1


FAST = ModelConfig(exclude_seen=(), width=8, replay_windows=0, slow=False, learned_gate=False)


def learned(stream: list[Happened], config: ModelConfig = FAST) -> tuple[Learner, list[Judged]]:
    """The learner, and what it made of the items in the last two thirds of what was told."""
    learner = Learner(config)
    scored = learner.learn([*examples_of_feed(stream)]) + learner.close()
    found = [one for each in scored for one in each.judged if not one.corrected]
    return learner, found[len(found) // 3 :]


@pytest.fixture(scope="module")
def tired() -> Learner:
    torch.set_num_threads(1)
    return learned(feed(700, tiring=True))[0]


def bundle_of(learner: Learner) -> Bundle:
    made = learner.publish(created_ms=0, full=True)
    assert isinstance(made, Bundle)
    return made


def said_of(learner: Learner, times: int, ago_ms: int = 60_000) -> float:
    return float(learner.parts.fatigue.said(np.array(tired_facts(times, ago_ms), np.float32)))


def test_what_was_shown_again_and_again_loses_rank_where_people_tire_and_nowhere_else(tired: Learner) -> None:
    assert said_of(tired, 1) < -0.4
    assert said_of(tired, 3) < said_of(tired, 1) - 0.4
    tireless, _ = learned(feed(700, tiring=False))
    assert abs(said_of(tireless, 3)) < 0.4 < -said_of(tired, 3) / 2


def test_an_answer_ranks_lower_what_its_user_was_shown(tired: Learner) -> None:
    bundle, now = bundle_of(tired), START_MS + 700 * 60_000
    history = [Entry("i5", "click", now - 60_000, None)]
    shown = [Shown("i3", now - 60_000 * n, 1, f"l{n}") for n in (3, 2, 1)]
    fresh, after = (reference_scores(bundle, [history], [now], [one])[0] for one in ((), shown))
    row = bundle.item_rows["i3"]
    assert after[row] < fresh[row] - 0.8
    others = np.arange(len(fresh)) != row
    assert (after[others] == fresh[others]).all()


def test_graph_and_learner_agree_on_what_was_shown(tired: Learner) -> None:
    assert check_parity(bundle_of(tired)) < 1e-3


def test_weights_of_fatigue_travel_in_deltas_from_the_first_that_is_learned() -> None:
    learner, stream = Learner(FAST), [*examples_of_feed(feed(120, tiring=True))]
    learner.learn([one for one in stream if one.kind is Kind.EVENT][:20])
    held = bundle_of(learner)
    assert not held.weights["fatigue_weight"].any()
    learner.learn(stream)
    delta = learner.publish(created_ms=1)
    assert isinstance(delta, Delta)
    held.apply(delta)
    assert held.weights["fatigue_weight"].any()
    assert held.digest == bundle_of(learner).digest


def test_chances_of_single_videos_are_better_than_the_rate_of_the_video() -> None:
    learner, told = learned(video_feed(2_500))
    reacted = np.array([one.reacted for one in told])
    chance, rate = (np.array([getattr(one, name) for one in told]) for name in ("chance", "item_rate"))
    ours, theirs = roc_auc(chance, reacted), roc_auc(rate, reacted)
    assert ours is not None
    assert theirs is not None
    assert ours > theirs + 0.01
    assert log_loss(chance, reacted) < log_loss(rate, reacted)
    assert abs(chance.mean() - reacted.mean()) < 0.05
    running = learner.prequential.summary()["shown"]
    assert running["auc"]["headwater"] > running["auc"]["item_rate"]


def test_where_there_is_nothing_to_learn_chances_are_hardly_worse_than_the_rate() -> None:
    _, told = learned(feed(500, tiring=False))
    reacted = np.array([one.reacted for one in told])
    chance, rate = (np.array([getattr(one, name) for one in told]) for name in ("chance", "item_rate"))
    assert log_loss(chance, reacted) < log_loss(rate, reacted) + 0.02


def test_chances_know_nothing_of_what_came_later_in_the_same_block() -> None:
    before = feed(80, tiring=False)
    before = before[: len(before) // 8 * 8]
    now = before[-1].time_ms + 1000

    def chances(clicked: str) -> list[float]:
        learner = Learner(FAST.model_copy(update={"block": 8}))
        later = [Happened(f"other{n}", (clicked,), "click", now + n) for n in range(7)]
        learner.learn([*examples_of_feed([*before, Happened("ada", ("i1", "i2"), "impression", now, "l"), *later])])
        return [one.chance for one in learner.undecided() if one.list_id == "l"]

    assert chances("i1") == chances("i3")


def test_what_is_shown_teaches_nothing_that_events_teach() -> None:
    """Popularity and memories are those of the events alone."""
    stream = [*examples_of_feed(feed(40, tiring=True))]
    learner, alone = Learner(FAST), Learner(FAST)
    learner.learn(stream)
    alone.learn([one._replace(shown=()) for one in stream if one.kind is Kind.EVENT])
    assert list(learner.items.rows) == list(alone.items.rows)
    assert np.array_equal(learner.popularity.counts, alone.popularity.counts)
    for one, other in zip(learner.parts.memories, alone.parts.memories, strict=True):
        assert all(np.array_equal(array, other.state()[name]) for name, array in one.state().items())


def test_a_signal_without_weight_is_no_reaction_and_an_undone_one_neither() -> None:
    stream = [
        Happened("ada", ("a", "b", "c"), "impression", START_MS, "l"),
        Happened("ada", ("a",), "view", START_MS + 1000),
        Happened("ada", ("b",), "like", START_MS + 2000),
        Happened("ada", ("c",), "like", START_MS + 3000),
    ]
    learner = Learner(ModelConfig(width=8, signals={"view": Signal(weight=0)}))
    examples = [*examples_of_feed(stream)]
    undone = examples[2]._replace(kind=Kind.UNDONE)
    learner.learn([*examples, undone])
    learner.close()
    assert {one.item_id: one.reacted for one in learner.undecided()} == {"a": False, "b": False, "c": True}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (0, 2, 1)])
def test_a_like_that_named_its_list_is_taken_back_by_an_undo_that_names_none(order: tuple[int, ...]) -> None:
    """Also where its item was shown again since, and where the like came before its list."""
    stream = [shown("ada", "ab", 0, "first"), shown("ada", "bc", 10, "second"), event("ada", "b", 12, "like", "first")]
    begin = event("bob", "z", 0), shown("bob", "z", 0)
    examples = [*examples_of_feed((*begin, *(stream[i] for i in order)))]
    like = examples[2 + order.index(2)]
    examples.insert(2 + max(order.index(2), order.index(1)) + 1, like._replace(kind=Kind.UNDONE, request_id=None))
    learner = Learner(SMALL)
    learner.learn(examples)
    learner.close()
    assert not [one for one in learner.undecided() if one.reacted and one.user_id == "ada"]


@pytest.mark.parametrize(("value", "first"), [(None, 0), (3.0, 3), (2.5, 0), (1e300, 0)])
def test_a_place_that_can_be_none_is_not_known_and_a_checkpoint_holds_any(
    value: float | None, first: int, tmp_path: Path
) -> None:
    learner = Learner(SMALL)
    single, many = shown("ada", "a", 0, "l"), shown("ada", "bc", 1, "m")
    learner.learn([*examples_of_feed([single._replace(value=value), many._replace(value=value)])])
    learner.save(tmp_path / "checkpoint")
    learner.close()
    begin = first or 1
    assert [one.place for one in learner.undecided()] == [first, begin, begin + 1]
    learner.save(tmp_path / "checkpoint")


def test_a_checkpoint_of_a_model_with_thresholds_is_read_again(tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"signals": {"rating": Signal(positive=">= 4", negative="<= 2")}})
    learner = Learner(config)
    learner.save(tmp_path / "checkpoint")
    assert Learner.load(tmp_path / "checkpoint")[0].config == config


def test_what_somebody_was_shown_is_scored_bit_by_bit_alike_whoever_shares_the_batch(tired: Learner) -> None:
    bundle, choose = bundle_of(tired), np.random.default_rng(0)
    bundle.weights["fatigue_weight"][:] = choose.normal(size=len(bundle.weights["fatigue_weight"]))
    now = START_MS + 700 * 60_000
    shown = [
        [Shown(f"i{i}", now - int(1e6 * choose.random()), 1, "l") for i in choose.integers(0, 12, 3 * n)]
        for n in range(12)
    ]
    session = onnxruntime.InferenceSession(bundle.graph, providers=["CPUExecutionProvider"])

    def scores(*users: int) -> NDArray[np.float32]:
        of_users, moments = [[]] * len(users), [now] * len(users)
        asked = [shown[user] for user in users]
        return said_by(session, bundle, [SCORES], of_users, moments, asked)[SCORES]

    together = scores(*range(12))
    for user in range(12):
        assert np.array_equal(scores(user, 0)[0], together[user]), user


def test_what_a_growing_list_tells_again_is_one_exposure() -> None:
    learner = Learner(SMALL)
    told(learner, shown("ada", "ab", 0, "l"), shown("ada", "abc", 1, "l"), shown("ada", "b", 2, "m"))
    assert [learner.lists.items.of(one).exposures for one in "abc"] == [1, 2, 1]
    assert learner.lists.users.of("ada").exposures == 4
