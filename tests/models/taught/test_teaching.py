"""How much one user may teach: people are never held to the limit, crawlers are, and every way of learning agrees."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from headwater.errors import SourceError
from headwater.examples import Example
from models.config import ModelConfig
from models.learner import Learner
from models.recorder import absorb
from models.taught.teaching import MINUTES_A_DAY, TeachingLimit
from replay.backtest.queries import Queries, Rule
from replay.sources import MovieLens
from tests.worlds.tastes import START_MS, examples_of

SMALL = ModelConfig(slow=False, exclude_seen=(), window_events=2000)
MINUTE_MS = 60_000


def visits(people: int, steps: int) -> list[tuple[str, str]]:
    """Everybody walks through the same items, one step at a time."""
    return [(f"p{one}", f"i{(one + step) % 40}") for step in range(steps) for one in range(people)]


def crawl(views: int, seed: int = 0) -> list[tuple[str, str]]:
    choose = random.Random(seed)
    return [("bot", f"i{choose.randrange(40)}") for _ in range(views)]


def at_once(examples: list[Example], first: int = 0) -> list[Example]:
    """The same, a millisecond apart from `first` on."""
    return [
        one._replace(target=one.target._replace(time_ms=START_MS + i)) if i >= first else one
        for i, one in enumerate(examples)
    ]


def allowed(limit: TeachingLimit, user_id: str, times_ms: list[int]) -> int:
    return sum(limit.allows(user_id, time_ms) for time_ms in times_ms)


def crowd(limit: TeachingLimit, people: int = 40) -> None:
    for event in range(512):
        limit.allows(f"p{event % people}", START_MS + 1000 * event)


def test_a_crawler_teaches_as_much_a_minute_as_the_bound_says_and_people_teach_all() -> None:
    limit = TeachingLimit(60)
    crowd(limit)
    later = START_MS + 20 * MINUTE_MS
    assert allowed(limit, "bot", [later + i for i in range(900)]) == 60
    assert allowed(limit, "bot", [later + 2 * MINUTE_MS + i for i in range(900)]) == 60
    assert allowed(limit, "p3", [later + 1000 * i for i in range(50)]) == 50
    assert limit.capped == 2 * 840


def test_a_slow_crawler_is_held_to_the_bound_of_a_day() -> None:
    limit = TeachingLimit(60)
    crowd(limit)
    day = START_MS // 86_400_000 * 86_400_000 + 86_400_000
    assert allowed(limit, "bot", [day + 7000 * i + 1 for i in range(12_000)]) == 60 * MINUTES_A_DAY


def test_what_comes_late_counts_as_of_now_so_that_old_times_are_no_way_round_the_bound() -> None:
    limit = TeachingLimit(60)
    crowd(limit)
    later = START_MS + 20 * MINUTE_MS
    backwards = [later - i * MINUTE_MS + 7 for i in range(900)]
    assert allowed(limit, "bot", backwards) == 60


def test_where_everybody_is_quick_nobody_is_a_crawler() -> None:
    limit = TeachingLimit(60)
    assert sum(limit.allows(f"load{event % 6}", START_MS + event) for event in range(6000)) == 6000


def test_where_times_are_days_a_busy_day_is_no_crawl() -> None:
    limit = TeachingLimit(60)
    day = START_MS // 86_400_000 * 86_400_000
    people = [(f"p{event % 50}", day + event // 500 * 86_400_000) for event in range(5000)]
    assert all(limit.allows(user_id, time_ms) for user_id, time_ms in people)
    assert allowed(limit, "collector", [day + 11 * 86_400_000] * 700) == 700


def test_alone_or_switched_off_there_is_no_bound() -> None:
    assert allowed(TeachingLimit(60), "only", [START_MS + i for i in range(3000)]) == 3000
    off = TeachingLimit(0)
    crowd(off)
    assert allowed(off, "bot", [START_MS + i for i in range(3000)]) == 3000
    assert off.capped == 0


def test_raters_of_films_are_people() -> None:
    try:
        films = list(MovieLens().events())
    except SourceError as error:
        pytest.skip(f"MovieLens-100K is neither in the cache nor to be fetched: {error}")
    limit = TeachingLimit(ModelConfig().teach_per_minute)
    for event in films:
        limit.allows(event.user_id, event.event_time)
    assert limit.capped == 0


def test_what_a_crawler_may_not_teach_changes_nothing_but_the_count() -> None:
    people = visits(40, 8)
    given = at_once(examples_of(people + crawl(800) + visits(40, 12)[320:]))
    told = Learner(SMALL, seed=0)
    told.learn(given)
    assert told.examples_seen == len(given)
    assert told.limit.capped == 800 - SMALL.teach_per_minute
    never = Learner(SMALL, seed=0)
    kept = [one for i, one in enumerate(given) if not 320 + SMALL.teach_per_minute <= i < 1120]
    never.learn(kept)
    assert told.popularity.counts.tolist() == never.popularity.counts.tolist()


def test_a_restart_amid_a_crawl_and_any_cut_of_the_log_decide_alike(tmp_path: Path) -> None:
    given = at_once(examples_of(visits(40, 8) + crawl(500) + visits(40, 10)[320:]))
    whole, first = Learner(SMALL, seed=0), Learner(SMALL, seed=0)
    expected = whole.learn(given)
    scored = [one for example in given[:601] for one in first.learn((example,))]
    first.save(tmp_path / "learner.ckpt")
    second, _ = Learner.load(tmp_path / "learner.ckpt")
    assert scored + second.learn(given[601:]) == expected
    assert second.limit.state() == whole.limit.state()
    assert second.publish(created_ms=0).digest == whole.publish(created_ms=0).digest


def test_backtest_and_training_on_history_pass_over_the_same_examples() -> None:
    given = at_once(examples_of(visits(40, 8) + crawl(500)))
    learner, absorbed = Learner(SMALL, seed=0), Learner(SMALL, seed=0)
    learner.learn(given)
    taught = absorb(absorbed, given)
    queries = Queries(0, Rule(()), SMALL.teach_per_minute)
    asked = [queries.next(one) for one in given]
    assert learner.limit.capped == len(given) - len(taught) == queries.excluded["capped"] == 380
    assert not any(one.asked for one in asked[-380:])


def test_another_bound_fits_the_model_that_learned_under_the_one_before() -> None:
    learner = Learner(SMALL, seed=0)
    learner.limit_teaching(0)
    assert learner.config == SMALL.model_copy(update={"teach_per_minute": 0})
    learner.learn(at_once(examples_of(visits(40, 8) + crawl(500))))
    assert learner.limit.capped == 0
