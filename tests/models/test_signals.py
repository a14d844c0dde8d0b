"""A world of two tastes where some turn items down: what a dismissal does to the next answer, and what it teaches."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from headwater.examples import Entry, EventPosition, Example
from headwater.signals import Signal
from models.config import ModelConfig
from models.learner import Learner
from models.published.bundle import Bundle
from models.published.parity import check_parity, reference_scores

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
