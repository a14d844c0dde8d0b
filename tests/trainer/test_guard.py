"""The guard: a fall that the published model shares is the world's, one that it does not share is the learner's."""

from __future__ import annotations

import contextlib
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from headwater.examples import Example, Kind
from models.config import ModelConfig
from models.learner import Learner
from models.published.bundle import Bundle
from models.published.delta import Delta
from tests.worlds.tastes import examples_of, ring
from trainer.guard import Outcome, Refused, refuse_worse
from trainer.same_queries import SameQueries

QUICK = ModelConfig(slow=False, teach_per_minute=0, exclude_seen=())
SMALL = ModelConfig(width=16, length=30, replay_windows=4, replay_capacity=64)
EVERY = 50
ROOM = Path(tempfile.gettempdir())


def outcomes(ours: float, rival: float, count: int = 256, users: int = 50) -> list[Outcome]:
    return [Outcome(f"u{i % users}", ours, rival, 0.1, i // 8) for i in range(count)]


class Passage(NamedTuple):
    """What a stream of examples came to: the model as serving has it, after how many examples one was refused, and the
    learner's lowest NDCG@10 of those that were compared."""

    served: Bundle | None
    refused: list[int]
    lowest: float


def stream(
    comparison: SameQueries, examples: Sequence[Example], served: Bundle | None = None, chunk: int = EVERY
) -> Passage:
    """Learn examples, and publish after every `EVERY` of them as the publisher does."""
    learner, refused, lowest = comparison.learner, [], 1.0
    for start in range(0, len(examples), EVERY):
        due = examples[start : start + EVERY]
        for at in range(0, len(due), chunk):
            comparison.learn(due[at : at + chunk])
        try:
            comparison.check()
        except Refused:
            refused.append(learner.examples_seen)
            continue
        finally:
            lowest = min(lowest, comparison.ndcg().get("headwater", 1.0))
        made: Any = learner.publish(created_ms=0, extra={"examples_seen": learner.examples_seen})
        if isinstance(made, Delta):
            assert served is not None
            served.apply(made)
        else:
            served = made
        assert served is not None
        comparison.published(served.kept)
    return Passage(served, refused, lowest)


def walks(people: int, steps: int) -> list[tuple[str, str]]:
    return [(f"p{one}", f"i{(one + step) % 80}") for step in range(steps) for one in range(people)]


def test_a_fall_that_the_published_model_shares_is_let_pass() -> None:
    refuse_worse(outcomes(0.0, 0.0), 0.2, "version 1")
    refuse_worse(outcomes(0.045, 0.05), 0.2, "version 1")


def test_a_fall_that_it_does_not_share_is_refused_and_told_with_the_figures() -> None:
    with pytest.raises(Refused, match=r"NDCG@10 is 0\.0200 where version 9 has 0\.4000 \(popularity 0\.1000\)"):
        refuse_worse(outcomes(0.02, 0.4), 0.2, "version 9")


def test_few_queries_or_those_of_few_users_refuse_nothing() -> None:
    refuse_worse([], 0.2, "version 1")
    refuse_worse(outcomes(0.0, 0.4, count=31), 0.2, "version 1")
    refuse_worse(outcomes(0.0, 0.4, count=200, users=3), 0.2, "version 1")


def test_a_moment_at_which_everybody_turns_to_something_else_refuses_nothing() -> None:
    calm = [Outcome(f"u{i}", 0.4, 0.4, 0.1, i // 32) for i in range(200)]
    refuse_worse(calm + [Outcome(f"u{i}", 0.0, 0.4, 0.1, 9) for i in range(32)], 0.2, "version 1")
    lasting = [Outcome(f"u{i}", 0.0, 0.4, 0.1, 9 + i // 32) for i in range(128)]
    with pytest.raises(Refused):
        refuse_worse(calm + lasting, 0.2, "version 1")


def test_a_difference_within_chance_is_let_pass() -> None:
    choose = random.Random(1)
    equal = [Outcome(f"u{i % 60}", choose.random() < 0.2, choose.random() < 0.2, 0.0, i // 8) for i in range(256)]
    refuse_worse(equal, 0.2, "version 1")


def test_one_that_was_held_back_has_to_be_good_enough_by_all_that_was_compared() -> None:
    doubtful = outcomes(0.0, 0.4, count=12) + outcomes(0.4, 0.4, count=30)
    refuse_worse(doubtful, 0.2, "version 1")
    with pytest.raises(Refused):
        refuse_worse(doubtful, 0.2, "version 1", held_back=True)
    refuse_worse(outcomes(0.39, 0.4, count=20), 0.2, "version 1", held_back=True)
    refuse_worse([], 0.2, "version 1", held_back=True)


def test_a_bound_of_one_holds_nothing_back() -> None:
    refuse_worse(outcomes(0.0, 1.0), 1.0, "version 1")


def wander(events: int, people: int = 40, items: int = 30) -> list[Example]:
    """Everybody goes on to the next item of a ring, and one time in five anywhere."""
    choose = random.Random(4)
    at = {one: choose.randrange(items) for one in range(people)}
    found = []
    for _ in range(events):
        one = choose.randrange(people)
        at[one] = choose.randrange(items) if choose.random() < 0.2 else (at[one] + 1) % items
        found.append((f"p{one}", f"i{at[one]}"))
    return examples_of(found, history_limit=20)


def test_random_views_after_orderly_ones_hold_nothing_back_and_what_they_spoiled_is_learned_again() -> None:
    choose = random.Random(8)
    crawl = [("spider", f"i{choose.randrange(80)}") for _ in range(1000)]
    examples = examples_of(walks(80, 10) + crawl + walks(80, 18)[800:], history_limit=20)
    comparison = SameQueries(Learner(QUICK), 0.2, ROOM)
    orderly = stream(comparison, examples[:800])
    crawled = stream(comparison, examples[800:1800], orderly.served)
    assert (orderly.refused, crawled.refused) == ([], [])
    assert crawled.lowest < 0.15
    after = stream(comparison, examples[1800:], crawled.served)
    assert not after.refused or after.refused[-1] < comparison.learner.examples_seen - 5 * EVERY


def test_a_new_season_of_items_holds_nothing_back() -> None:
    choose = random.Random(2)
    season = [(f"p{choose.randrange(60)}", f"new{choose.randrange(100)}") for _ in range(1000)]
    comparison = SameQueries(Learner(QUICK), 0.2, ROOM)
    found = stream(comparison, examples_of(walks(60, 15) + season, history_limit=20))
    assert found.refused == []
    assert found.lowest < 0.15


def test_a_learner_whose_steps_lead_astray_is_held_back_until_it_is_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    examples = wander(5500)
    comparison = SameQueries(Learner(QUICK), 0.2, ROOM)
    good = stream(comparison, examples[:1500])
    assert good.refused == []
    gate = comparison.learner.parts.gate
    learn = gate.learn
    monkeypatch.setattr(gate, "learn", lambda context, fresh, gradient: learn(context, fresh, -gradient))
    broken = stream(comparison, examples[1500:3500], good.served)
    assert broken.refused
    assert len(broken.refused) > 5
    monkeypatch.undo()
    mended = stream(comparison, examples[3500:], broken.served)
    assert comparison.learner.examples_seen not in mended.refused


def test_comparing_changes_nothing_that_is_learned_and_cuts_of_the_log_nothing_that_is_compared() -> None:
    examples = ring(400, users=12)
    alone = Learner(SMALL)
    alone.learn(examples)
    whole, cut = (SameQueries(Learner(SMALL), 0.2, ROOM) for _ in range(2))
    stream(whole, examples)
    stream(cut, examples, chunk=7)
    assert len(whole.outcomes) > 30
    assert whole.outcomes == cut.outcomes
    digests = {one.publish(created_ms=0, full=True).digest for one in (alone, whole.learner, cut.learner)}
    assert len(digests) == 1


def test_of_who_is_erased_no_query_is_kept_however_the_log_is_cut() -> None:
    examples = wander(700, people=12)
    whole, cut = (SameQueries(Learner(QUICK), 0.2, ROOM) for _ in range(2))
    for one in (whole, cut):
        stream(one, examples[:600])
    asked = examples[600:]
    gone = asked[0].user_id
    erased = asked[-1]._replace(user_id=gone, history=(), kind=Kind.ERASED)
    after = [one for one in asked if one.user_id != gone]
    whole.learn([*asked, erased, *after])
    for one in (*asked, erased, *after):
        cut.learn([one])
    for comparison in (whole, cut):
        with contextlib.suppress(Refused):
            comparison.check()
        assert comparison.known_users()
        assert gone not in comparison.known_users()
    assert whole.outcomes == cut.outcomes


def test_after_a_restart_the_live_model_is_not_asked_what_it_has_learned() -> None:
    examples = wander(900)
    before = SameQueries(Learner(QUICK), 0.2, ROOM)
    served = stream(before, examples[:600]).served
    assert served is not None
    behind = Learner(QUICK)
    behind.learn(examples[:400])
    again = SameQueries(behind, 0.2, ROOM, served, before.state())
    assert list(again.outcomes) == list(before.outcomes)
    again.outcomes.clear()
    again.learn(examples[400:600])
    again.check()
    assert not again.outcomes
    again.learn(examples[600:])
    again.check()
    assert again.outcomes


def test_without_a_published_model_popularity_is_the_rival() -> None:
    trained = Learner(QUICK)
    trained.learn(wander(600))
    SameQueries(trained, 0.2, ROOM).check()
    asked = trained.prequential.ranks[:, 0] > 0
    trained.prequential.ranks[asked, :2] = (20, 1)
    with pytest.raises(Refused, match="popularity, which serves without a model"):
        SameQueries(trained, 0.2, ROOM).check()
