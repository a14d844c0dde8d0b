"""What is learned of lists that were shown: fatigue where it is true, and chances that beat the item's own rate."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from headwater.examples import Entry, Kind, Shown
from headwater.signals import Signal
from models.config import ModelConfig
from models.learner import Learner
from models.published.bundle import Bundle
from models.published.delta import Delta
from models.published.parity import check_parity, reference_scores
from models.quality import Judged, log_loss, roc_auc
from models.shown.showings import tired_facts
from tests.worlds.feeds import START_MS, Happened, examples_of_feed, feed, video_feed

FAST = ModelConfig(exclude_seen=(), width=8, replay_windows=0, slow=False, learned_gate=False)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


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
    learner, told = learned(video_feed(1_500))
    reacted = np.array([one.reacted for one in told])
    chance, rate = (np.array([getattr(one, name) for one in told]) for name in ("chance", "item_rate"))
    ours, theirs = roc_auc(chance, reacted), roc_auc(rate, reacted)
    assert ours is not None
    assert theirs is not None
    assert ours > theirs + 0.03
    assert log_loss(chance, reacted) < log_loss(rate, reacted)
    assert abs(chance.mean() - reacted.mean()) < 0.05
    running = learner.prequential.summary()["shown"]
    assert running["auc"]["headwater"] > running["auc"]["item_rate"]


def test_where_there_is_nothing_to_learn_chances_are_hardly_worse_than_the_rate() -> None:
    _, told = learned(feed(500, tiring=False))
    reacted = np.array([one.reacted for one in told])
    chance, rate = (np.array([getattr(one, name) for one in told]) for name in ("chance", "item_rate"))
    assert log_loss(chance, reacted) < log_loss(rate, reacted) + 0.02


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
