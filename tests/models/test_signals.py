"""A world of two tastes where some turn items down: what a dismissal does to the next answer, and what it teaches."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest

from headwater.events import Event
from headwater.examples import Entry, EventPosition, Example, Shown
from headwater.signals import Signal, Signals
from models.config import ModelConfig
from models.exclusion import disliked
from models.experts.fusion import asked_block
from models.inputs import encode_entries, event_weight, lesson_weight, step_weights
from models.learner import Learner
from models.published.bundle import Bundle
from models.published.parity import check_parity, reference_scores
from streams.features.fold import Limits
from streams.features.recording import recorded
from tests.models.test_learner import SMALL
from tests.worlds.tastes import ids_by_score

START_MS = 1_760_000_000_000
KIND_ITEMS = 25


def world(learner: Learner, people: int = 120, clicks: int = 12) -> None:
    """Half of the people click items of kind A, half of kind B."""
    rng = random.Random(1)
    order = [person for person in range(people) for _ in range(clicks)]
    rng.shuffle(order)
    histories: dict[int, list[Entry]] = {}
    for number, person in enumerate(order):
        history = histories.setdefault(person, [])
        entry = Entry(f"{'AB'[person % 2]}{rng.randrange(KIND_ITEMS)}", "click", START_MS + 1000 * number, None)
        learner.learn([Example(f"u{person}", list(history), entry, 0, EventPosition(number, 0))])
        history.append(entry)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    learner = Learner(ModelConfig(exclude_seen=(), width=16))
    world(learner)
    made = learner.publish(created_ms=0)
    assert isinstance(made, Bundle)
    return made


def listed(bundle: Bundle, *events: tuple[str, str], k: int = 10) -> str:
    """Kinds of the best k items for a history of (type, item), without these items."""
    history = [Entry(item, kind, START_MS + 1_500_000 + 1000 * i, None) for i, (kind, item) in enumerate(events)]
    scores = reference_scores(bundle, [history], [START_MS + 1_600_000])[0]
    used = {item for _, item in events}
    best = [bundle.items[row] for row in (-scores).argsort()]
    return "".join(item[0] for item in best if item is not None and item not in used)[:k]


def events(kind: str, items: str, numbers: Sequence[int]) -> list[tuple[str, str]]:
    return [(kind, f"{items}{number}") for number in numbers]


def test_five_dismissals_of_a_kind_leave_none_of_it(bundle: Bundle) -> None:
    assert listed(bundle, *events("click", "B", range(5))).count("B") == 10
    assert listed(bundle, *events("dismiss", "B", range(5))).count("B") == 0
    both = events("click", "A", range(3)) + events("dismiss", "B", range(5))
    assert listed(bundle, *both).count("B") == 0


def test_one_dismissal_among_many_clicks_does_not_empty_a_taste_and_many_in_a_row_do(bundle: Bundle) -> None:
    taste = [one for number in range(10) for one in events("click", "A", [number]) + events("click", "B", [number])]
    kinds = [listed(bundle, *taste, *events("dismiss", "B", range(10, 10 + n))).count("B") for n in (0, 1, 5)]
    assert kinds[0] - kinds[1] <= 2
    assert kinds[2] < kinds[1]
    assert kinds[2] <= kinds[0] - 3


def test_what_is_learned_of_a_dismissal_is_not_that_the_item_is_wanted() -> None:
    learner = Learner(ModelConfig(exclude_seen=(), width=16))
    world(learner)
    before = learner.parts.popularity.counts.copy()
    clicked = [Entry(f"A{i}", "click", START_MS + 2_000_000 + i, None) for i in range(5)]
    for number in range(300):
        target = Entry(f"B{number % KIND_ITEMS}", "dismiss", START_MS + 2_100_000 + number, None)
        learner.learn([Example(f"n{number}", clicked, target, 0, EventPosition(10_000 + number, 0))])
    made = learner.publish(created_ms=0, full=True)
    assert isinstance(made, Bundle)
    assert (learner.parts.popularity.counts == before).all()
    assert listed(made, *events("click", "A", range(5))).count("B") == 0
    summary = learner.prequential.summary()
    assert summary["negatives"] > 200
    assert summary["negatives_in_top_k"] < 0.05


def test_what_was_merely_shown_says_nothing(bundle: Bundle) -> None:
    shown = listed(bundle, *events("impression", "A", range(5)), *events("click", "B", range(5)))
    assert shown.count("B") == 10
    learner = Learner(ModelConfig(exclude_seen=(), width=16))
    entries = [Entry(f"i{n}", "impression" if n % 2 else "click", START_MS + n, None) for n in range(8)]
    for number, entry in enumerate(entries):
        learner.learn([Example("u", entries[:number], entry, 0, EventPosition(number, 0))])
    learner.close()
    assert learner.prequential.summary()["negatives"] == 0
    counts = {item: int(learner.parts.popularity.counts[row]) for item, row in learner.items.rows.items()}
    assert counts == {f"i{n}": 1 - n % 2 for n in range(8)}


def test_graph_and_learner_agree_on_histories_that_turn_items_down(bundle: Bundle) -> None:
    mixed = [
        [
            Entry(f"{'AB'[i % 2]}{i}", ("click", "dismiss", "search")[i % k], START_MS + 60_000 * i, None)
            for i in range(n)
        ]
        for n, k in ((20, 3), (40, 2), (3, 2), (1, 1))
    ]
    only_negative = [Entry(f"B{i}", "dislike", START_MS + i, None) for i in range(7)]
    assert check_parity(bundle, [*mixed, only_negative, []]) < 1e-3


def test_ratings_speak_for_or_against_by_their_value() -> None:
    signals = {"rating": Signal(positive=">= 4", negative="<= 2")}
    learner = Learner(ModelConfig(exclude_seen=(), width=16, signals=signals))
    entries = [Entry(f"i{n}", "rating", START_MS + n, value) for n, value in enumerate((5.0, 1.0, 3.0, 4.0))]
    for number, entry in enumerate(entries):
        learner.learn([Example("u", entries[:number], entry, 0, EventPosition(number, 0))])
    learner.close()
    counts = {item: int(learner.parts.popularity.counts[row]) for item, row in learner.items.rows.items()}
    assert counts == {"i0": 1, "i1": 0, "i2": 0, "i3": 1}


def test_a_checkpoint_and_a_bundle_carry_the_meaning_that_they_were_learned_under(tmp_path: object) -> None:
    from pathlib import Path

    signals = {"poke": Signal(means="negative")}
    learner = Learner(ModelConfig(width=16, signals=signals))
    path = Path(str(tmp_path)) / "checkpoint"
    learner.save(path)
    assert Learner.load(path)[0].config.meanings.speaks("poke", None) < 0
    made = learner.publish(created_ms=0)
    assert made.config.signals == signals


@pytest.mark.parametrize("full_softmax_items", [8192, 4])
def test_the_encoder_learns_what_is_turned_down_where_the_loss_says_so(full_softmax_items: int) -> None:
    """All dismiss the items B0 to B4, which people with a taste for B clicked as often as others."""
    chances = []
    for negative_loss in (0.0, 10.0):
        sizes = {"full_softmax_items": full_softmax_items, "negatives": 64, "negative_loss": negative_loss}
        learner = Learner(SMALL.model_copy(update={"exclude_seen": (), **sizes}))
        world(learner, people=40, clicks=8)
        both = [Entry(f"{kind}{i}", "click", START_MS + 2_000_000 + i, None) for i, kind in enumerate("ABABA")]
        for number in range(640):
            kind, item = "click", f"{'AB'[number % 4 // 2]}{number % 25}"
            if number % 2:
                kind, item = "dismiss", f"B{number % 5}"
            target = Entry(item, kind, START_MS + 2_100_000 + number, None)
            learner.learn([Example(f"n{number}", both, target, 0, EventPosition(10_000 + number, 0))])
        rows, used = learner.items.rows, learner.items.used
        block = asked_block(learner.parts, [both], [START_MS + 2_200_000], rows, list(learner.types), used)
        (said,) = learner.parts.sequence.opinions(block, 0)
        chance = np.exp(said.values - said.values.max())
        chances.append(sum(float(chance[rows[f"B{n}"]]) for n in range(5)) / chance.sum())
    assert chances[1] < 0.9 * chances[0]


def test_what_was_shown_and_passed_over_is_learned_within_the_join_window_alone() -> None:
    learner = Learner(ModelConfig(exclude_seen=(), width=16, negative_loss=0.1, join_window_s=60))
    world(learner, people=10, clicks=3)
    history = [Entry("A1", "click", START_MS + 1_900_000, None)]
    at = START_MS + 2_000_000
    shown = [Shown(f"A{n}", at - 70_000 + 20_000 * n, n + 1, "list") for n in range(4)] + [Shown("new", at, 0, "x")]
    example = Example("u", history, Entry("A3", "click", at, None), 0, EventPosition(9_000, 0), shown=shown)
    learner.learn([example])
    rows = learner.items.rows
    assert learner.pending[-1].passed_over == [rows[item] for item in ("A2", "A1") if item in rows]
    learner.learn([example._replace(target=example.target._replace(type="dismiss"))])
    assert learner.pending[-1].passed_over == []


def test_a_negative_event_holds_for_as_long_as_its_signal_says() -> None:
    day = 86_400_000
    table = Signals({"snooze": Signal(means="negative", negative_for_days=30)})
    history = [("a", Entry("a", "snooze", 0, None)), ("b", Entry("b", "dismiss", 0, None))]
    history += [("c", Entry("c", "dismiss", 0, None)), ("c", Entry("c", "snooze", day, None))]
    assert disliked(history, table, 30 * day) == {"a", "b", "c"}
    assert disliked(history, table, 31 * day + 1) == {"b", "c"}, "an older one that holds for ever still does"
    learner = Learner(ModelConfig(width=16, exclude_seen=(), signals={"snooze": table.table["snooze"]}))
    learner.types["snooze"] = 1
    entries = [one for _, one in history[:1]]
    for days, out in ((29, {"a"}), (31, set())):
        target = Entry("z", "click", days * day, None)
        assert learner.excluded(Example("u", entries, target, 0, EventPosition(0, 0)), {"a": "snooze"}) == out


def test_a_reward_by_the_value_is_the_weight_of_a_target() -> None:
    signals = {
        "watch": Signal(reward="0.01 * value"),
        "purchase": Signal(reward=10),
        "rating": Signal(positive=">= 4.1"),
        "listen": Signal(positive=">= 30", negative="< 5"),
    }
    config = ModelConfig(width=16, signals=signals, type_weights={"read": 3.0}, negative_loss=0.5)
    told = [("watch", 250.0), ("watch", 0.0), ("watch", 1e9), ("purchase", None), ("rating", 4.1), ("rating", 4.0)]
    told += [("read", 7.0), ("dismiss", None), ("search", None), ("view", None), ("listen", 0.0), ("listen", None)]
    expected = [2.5, 0.0, 1000.0, 10.0, 1.0, 0.0, 3.0, -2.0, 0.0, 1.0, -0.5, 0.0]
    assert [lesson_weight(kind, value, config) for kind, value in told] == expected
    index = {kind: n + 1 for n, kind in enumerate(dict.fromkeys(kind for kind, _ in told))}
    entries = [Entry("i", kind, 0, value) for kind, value in told]
    steps = encode_entries(entries, {"i": 0}, index, config)
    found = step_weights(np.array(steps.types), np.array(steps.values, np.float32), index, config)
    assert found.tolist() == pytest.approx(expected, rel=1e-4)
    wins = ModelConfig(signals=signals, type_weights={"watch": 2.0})
    assert event_weight("watch", 250.0, wins) == 2.0
    assert step_weights(np.array([1]), np.array([1.0], np.float32), {"watch": 1}, wins).tolist() == [2.0]


def kinds_for(bundle: Bundle, *done: tuple[str, str]) -> str:
    """Kinds of the best ten for somebody who did (type, item), by what the fold remembers of it."""
    happened = [
        Event(event_id=f"e{n}", user_id="u", item_id=item, type=kind, event_time=START_MS + 1_500_000 + 1000 * n)
        for n, (kind, item) in enumerate([*done, ("click", "A24")])
    ]
    *_, last = recorded(iter(happened), Limits()).examples()
    history = last.history
    scores = reference_scores(bundle, [history], [START_MS + 1_600_000])[0]
    out = disliked([(entry.item_id, entry) for entry in history], Signals(), START_MS + 1_600_000)
    best = ids_by_score(scores.tolist(), bundle.items)
    return " ".join([item for item in best if item not in out][:10])


def test_dismissals_move_a_list_one_a_little_and_five_a_lot_and_undone_not_at_all(bundle: Bundle) -> None:
    taste = [one for number in range(10) for one in events("click", "A", [number]) + events("click", "B", [number])]
    dismissed = events("dismiss", "B", range(15, 20))
    undone = [("undismiss", item) for _, item in dismissed]
    before, after_one, after_five = (kinds_for(bundle, *taste, *dismissed[:n]) for n in (0, 1, 5))
    assert before.count("B") - 1 <= after_one.count("B") <= before.count("B")
    assert (before.count("B") >= 8, after_five.count("B")) == (True, 0)
    assert kinds_for(bundle, *taste, *dismissed, *undone) == before
    assert kinds_for(bundle, *taste, *dismissed, *undone[1:]) == after_one
    for clicks in ([], events("click", "A", range(5))):
        assert kinds_for(bundle, *clicks, *dismissed).count("B") == 0
        assert kinds_for(bundle, *clicks, *dismissed, *undone) == kinds_for(bundle, *clicks)


@pytest.mark.parametrize("seconds", [0.1, 4.5, 99.99, 600, 3600, 12_345])
def test_a_threshold_holds_for_the_steps_of_a_sequence_at_the_very_value(seconds: float) -> None:
    """What the encoder reads is a float32 of the value's logarithm."""
    config = ModelConfig(signals={"watch": Signal(positive=f">= {seconds}"), "ride": Signal(positive=f"> {seconds}")})
    history, index = [Entry("a", kind, 1, float(seconds)) for kind in ("watch", "ride")], {"watch": 1, "ride": 2}
    steps = encode_entries(history, {"a": 0}, index, config)
    found = step_weights(np.array(steps.types), np.array(steps.values, np.float32), index, config)
    assert found.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("value", [1e300, 1.7e308])
def test_the_greatest_value_weighs_what_it_may_and_not_more(value: float) -> None:
    config = ModelConfig(value_weight=2.0, signals={"watch": Signal(reward="0.5 * value")})
    history, index = [Entry("a", kind, 1, value) for kind in ("watch", "view")], {"watch": 1, "view": 2}
    steps = encode_entries(history, {"a": 0}, index, config)
    found = step_weights(np.array(steps.types), np.array(steps.values, np.float32), index, config)
    assert found.tolist() == [event_weight(kind, value, config) for kind in ("watch", "view")] == [3000.0, 3.0]
