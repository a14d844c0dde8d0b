"""Backtests of made-up streams: what must be asked, what must be found, and that nothing depends on how it was run."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from headwater.errors import SettingsError, SourceError
from headwater.events import Item
from headwater.settings import Settings
from headwater.signals import Signal
from headwater.surfaces import Surface
from models.config import model_config
from models.learner import Learner
from replay import FileSource
from replay.backtest import BacktestProgress, Interval, Options, Result, backtest
from replay.backtest.figures import differences, fold_spread, folds
from replay.backtest.ledger import Ledger
from replay.backtest.queries import Queries, Rule
from replay.backtest.resampling import BOOTSTRAP_SEED
from replay.backtest.result import Slice
from replay.backtest.run import Run
from replay.backtest.variants import DEEPEST
from replay.report import compare, write_report
from streams.features.fold import Limits
from streams.features.recording import Recording, recorded
from tests.worlds.tastes import START_MS, ring

SMALL = {"width": 16, "block": 8, "replay_windows": 4, "replay_targets": 32, "initial_capacity": 32}
"""A model that learns these worlds in a second."""

RULES = "rules:reach=1"
"""What followed the newest item before, and nothing else."""

TIMINGS = {"seconds", "events_per_s", "learner_events_per_s", "peak_rss_mb"}

Row = tuple[str, str, str]


def source(tmp_path: Path, rows: Iterable[Row], step_ms: int = 1000) -> FileSource:
    """A file of (user, item, type) events, `step_ms` apart."""
    path = tmp_path / "stream.jsonl"
    lines = [
        {"user": user, "item": item, "type": kind, "time": START_MS + step_ms * place}
        for place, (user, item, kind) in enumerate(rows)
    ]
    path.write_bytes(b"\n".join(map(orjson.dumps, lines)))
    return FileSource(path)


def alternating(users: int, rounds: int) -> list[Row]:
    """Every user goes to and fro between two items of their own."""
    return [(f"u{user}", f"i{user}-{turn % 2}", "view") for turn in range(rounds) for user in range(users)]


def around(events: int) -> list[Row]:
    return [(made.user_id, made.target.item_id, "view") for made in ring(events)]


def score(result: Result, name: str) -> float:
    found = result.ndcg[name]
    assert found is not None
    return found


def newest(result: Result) -> dict[str, float]:
    """NDCG@10 in the newest window of the curve."""
    return {name: found for name, found in result.curve[-1].ndcg.items() if found is not None}


def lead_over(result: Result, name: str) -> Interval:
    found = result.lead(name)
    assert found is not None
    return found


def options(**given: Any) -> Options:
    chosen: dict[str, Any] = {"warm_up": 0.5, "frozen": False, "overrides": SMALL} | given
    return Options(**chosen)


def test_whoever_learns_what_follows_what_is_right_about_those_who_alternate(tmp_path: Path) -> None:
    stream = source(tmp_path, alternating(users=5, rounds=40))
    result = backtest(stream, options(exclude_seen=(), peers=(RULES, "popularity")))
    assert (result.events, result.warm_up, result.queries, result.excluded_share) == (200, 100, 100, 0)
    assert result.results[RULES].ndcg_10 == 1.0
    assert result.results[RULES].user_ndcg_10 == 1.0
    assert score(result, "memory") > 0.9
    assert score(result, "popularity") < 0.6
    assert result.results["popularity"].recall_10 == 1.0  # there are ten items
    low, mean, high = lead_over(result, "popularity")
    assert low <= mean <= high
    assert mean == pytest.approx(score(result, "headwater") - score(result, "popularity"), abs=2e-6)


def test_what_cannot_be_asked_is_counted_by_reason(tmp_path: Path) -> None:
    rows = [("a", "x", "view"), ("b", "y", "view"), ("a", "y", "view"), ("b", "x", "view")]
    rows += [("c", "x", "view")]  # nobody knows c
    rows += [("a", "z", "view")]  # nobody knows z
    rows += [("a", "x", "view"), ("b", "y", "view")]  # seen
    rows += [("b", "z", "view"), ("c", "z", "view")]
    result = backtest(source(tmp_path, rows), options(warm_up=4, exclude_seen=("*",)))
    assert result.excluded == {"no_history": 1, "new_item": 1, "seen": 2}
    assert (result.queries, result.excluded_share) == (2, round(4 / 6, 6))
    assert result.groups["new_items"].queries == 2
    assert result.groups["warm_items"] == Slice(queries=0, ndcg=dict.fromkeys(result.results))
    assert result.by_type["view"].queries == 2


def test_a_duplicate_is_no_event(tmp_path: Path) -> None:
    path = tmp_path / "twice.jsonl"
    lines = [
        orjson.dumps({"user": user, "item": item, "type": kind, "time": START_MS + place, "event_id": f"e{place}"})
        for place, (user, item, kind) in enumerate(alternating(2, 12))
    ]
    path.write_bytes(b"\n".join(line for line in lines for _ in range(2)))
    result = backtest(FileSource(path), options(exclude_seen=()))
    assert (result.source.events, result.events, result.queries) == (48, 24, 12)


def test_weights_published_at_every_event_rank_as_the_learner_itself_does(tmp_path: Path) -> None:
    recording = recorded(source(tmp_path, around(400)).events(), Limits())
    run = passed(recording, warm_up=200, publish_every=(1,))
    ours = np.minimum(run.ledger.ranks["headwater"], DEEPEST + 1)
    served = np.array(run.ledger.ranks["headwater@1"])
    assert len(ours) == len(served) == run.ledger.queries > 150
    differing = np.flatnonzero(ours != served)
    assert len(differing) <= 0.02 * len(ours), list(zip(ours[differing], served[differing], strict=True))


def test_a_seldom_published_variant_does_not_depend_on_who_else_is_published(tmp_path: Path) -> None:
    recording = recorded(source(tmp_path, around(300)).events(), Limits())
    alone = passed(recording, warm_up=150, publish_every=(50,)).ledger.ranks["headwater@50"]
    beside = passed(recording, warm_up=150, publish_every=(1, 50)).ledger.ranks["headwater@50"]
    assert alone == beside  # 50 deltas of the other wait for it, made into one


def passed(recording: Recording, warm_up: int, **given: Any) -> Run:
    chosen = options(**given)
    run = Run(model_config({**SMALL, "exclude_seen": ("*",)}), 0, warm_up, [], chosen)
    run.stream(recording, [], lambda _progress: None)
    return run


def test_a_model_that_stays_as_it_was_does_not_follow_a_change(tmp_path: Path) -> None:
    choose = random.Random(0)
    rows: list[Row] = []
    for place in range(600):
        user, start = f"u{place}", choose.randrange(10)
        step = 1 if place < 300 else 3  # what follows what changes when the warm-up has ended
        rows += [(user, f"i{start}", "view"), (user, f"i{(start + step) % 10}", "view")]
    result = backtest(source(tmp_path, rows), options(frozen=True, hourly=True, publish_every=(100,), window=300))
    live = newest(result)
    assert result.queries == 300
    assert live["headwater"] > live["frozen"] + 0.1
    assert live["headwater@100"] > live["frozen"] + 0.1
    assert live["hourly"] == live["frozen"]  # 20 minutes in all
    assert result.weight_age[0].age_events == 0
    assert [row.name for row in result.weight_age] == ["headwater", "headwater@100", "frozen"]
    assert lead_over(result, "frozen").low > 0


def test_a_batch_job_follows_a_change_when_the_hour_strikes(tmp_path: Path) -> None:
    choose = random.Random(0)
    rows: list[Row] = []
    for place in range(300):
        user, start = f"u{place}", choose.randrange(10)
        step = 1 if place < 150 else 3
        rows += [(user, f"i{start}", "view"), (user, f"i{(start + step) % 10}", "view")]
    each_hour = backtest(
        source(tmp_path, rows, step_ms=180_000), options(frozen=True, hourly=True, retrained=True, window=150)
    )
    live = newest(each_hour)
    assert live["retrained"] > live["frozen"] + 0.1
    within_the_hour = backtest(source(tmp_path, rows, step_ms=10), options(retrained=True, window=150))
    live = newest(within_the_hour)
    assert live["retrained"] < live["headwater"] - 0.1


def test_the_same_run_twice_gives_the_same_result(tmp_path: Path) -> None:
    stream = source(tmp_path, around(120))
    chosen = options(frozen=True, publish_every=(16,), peers=("rules", "isgd"), seeds=(0, 1))
    results = [backtest(stream, chosen) for _ in range(2)]
    first, second = (found.as_json() for found in results)
    for found, tree in zip(results, (first, second), strict=True):
        assert orjson.loads(orjson.dumps(tree)) == tree
        assert Result.read(tree) == Result.model_validate(tree) == found
        for name in TIMINGS:
            assert tree.pop(name) > 0
    assert first == second
    assert len(first["digest"]) == 64
    assert [len(results[0].seeds(name)) for name in ("headwater", "isgd", "rules")] == [2, 2, 1]


def test_auto_asks_about_items_that_users_come_back_to_and_no_others(tmp_path: Path) -> None:
    rows: list[Row] = []
    for place in range(200):
        user = f"u{place % 8}"
        rows.append((user, f"v{place % 8}-{place // 8 % 3}", "view"))  # three items, again and again
        rows.append((user, f"b{place}", "buy"))  # each once
    chosen = options(warm_up=300, peers=("popularity",))
    result = backtest(source(tmp_path, rows), chosen)
    assert result.settings.rule == ["buy"]
    assert result.settings.config["exclude_seen"] == ["auto"]
    assert result.excluded["seen"] == 0
    assert result.by_type["view"].queries == 50
    with pytest.raises(SourceError, match="50 new_item, 50 seen"):
        backtest(source(tmp_path, rows), options(warm_up=300, exclude_seen=("*",)))


def test_the_rule_auto_is_at_each_event_that_of_the_learner(tmp_path: Path) -> None:
    choose = random.Random(0)
    kinds = ("view", "buy", "like", "unlike", "page_view", "dismiss")  # for, against, neither, and taking back
    rows = [(f"u{choose.randrange(6)}", f"i{choose.randrange(40)}", choose.choice(kinds)) for _ in range(300)]
    rows += [(f"u{n % 6}", f"n{n}", "buy") for n in range(500)]  # now few come back after buying
    learner = Learner(model_config({**SMALL, "exclude_seen": ("auto",)}), 0)
    queries = Queries(0, rule := Rule(("auto",)))
    rules_seen = set()
    for example in recorded(source(tmp_path, rows).events(), Limits()).examples():
        query = queries.next(example)
        if not query.is_event:
            learner.learn((example,))
            continue
        newest = {entry.item_id: entry.type for entry in example.history}
        expected = {queries.items[item_id] for item_id in learner.excluded(example, newest)}
        assert set(rule.forbids(query)) == expected
        rules_seen.add(tuple(rule.described()))
        learner.learn((example,))
        rule.learn(query)
    assert len(rules_seen) > 4


def test_the_catalogue_is_known_before_the_first_event(tmp_path: Path) -> None:
    items = [
        Item(item_id=f"i{n}", title=f"thing {n}", categories=("even" if n % 2 == 0 else "odd",)) for n in range(24)
    ]
    stream = source(tmp_path, around(200))
    assert backtest(stream, options(), items=items).digest != backtest(stream, options()).digest


def test_diversity_is_asked_of_the_first_queries_by_the_policy_named_and_drawn(tmp_path: Path) -> None:
    items = [Item(item_id=f"i{n}", categories=("even" if n % 2 == 0 else "odd",), available=n > 0) for n in range(24)]
    stream = source(tmp_path, around(160))
    pinned = Surface.model_validate({"pins": [{"item_id": "i5", "place": 1}]})
    result = backtest(stream, options(diversity=16, surfaces={"home": pinned}), items=items)
    assert result.diversity is not None
    assert result.diversity.queries == 16
    points = result.diversity.points
    assert [one.diversity for one in points] == [0.0, 0.1, 0.3, 0.5, 0.7, 0.9]
    apart = [one.list_diversity_10 or 0.0 for one in points]
    assert apart[-1] > apart[0] > 0
    assert 0 < (points[0].ndcg_10 or 0.0) < 0.7  # most have the second place
    plain = backtest(stream, options(), items=items)
    assert (plain.diversity, plain.digest) == (None, result.digest)
    assert plain.results["headwater"] == result.results["headwater"]
    write_report(result, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "Lists of ten at several diversities (16 queries)" in page
    write_report(plain, tmp_path / "report.html")
    assert "Lists of ten" not in (tmp_path / "report.html").read_text("utf-8")


def test_progress_tells_how_far_it_is(tmp_path: Path) -> None:
    told: list[BacktestProgress] = []
    backtest(source(tmp_path, around(100)), options(peers=("popularity",)), on_progress=told.append)
    last = told[-1]
    assert (last.phase, last.events, last.total, last.left_s) == ("seed 0", 100, 100, 0)
    assert {"headwater", "memory", "slow", "popularity"} <= last.ndcg.keys()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"warm_up": 100}, "the stream has 100 events"),
        ({"warm_up": 1_000_000}, "1,000,000 leaves nothing to ask"),
        ({"warm_up": -0.5}, "--warm-up"),
        ({"folds": 1}, "1 folds: give 2 or more"),
        ({"folds": 51}, "51 folds of 50 events"),
        ({"peers": ("nobody",)}, "no peer 'nobody'.*popularity"),
        ({"overrides": {"depth": 3}}, "depth"),
        ({"overrides": {"exclude_seen": ["*"]}}, "--exclude-seen"),
    ],
)
def test_what_cannot_be_done_is_told_with_its_remedy(tmp_path: Path, given: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        backtest(source(tmp_path, around(100)), options(**given))


def test_a_stream_without_a_query_is_told(tmp_path: Path) -> None:
    rows: Sequence[Row] = [(f"u{n}", f"i{n}", "view") for n in range(20)]
    with pytest.raises(SourceError, match=r"nothing to ask: none of the 10 events.*10 no_history"):
        backtest(source(tmp_path, rows), options())


def test_coverage_and_novelty_of_lists(tmp_path: Path) -> None:
    stream = source(tmp_path, alternating(users=5, rounds=40))
    found = backtest(stream, options(exclude_seen=(), peers=("popularity",), publish_every=(10,))).results
    for name in ("popularity", "headwater@10"):
        assert found[name].coverage_10 == 1.0  # ten items, lists of ten
        assert found[name].novelty_10 == pytest.approx(np.log2(10), abs=0.01)  # all as popular


def test_a_part_that_is_turned_off_is_not_measured(tmp_path: Path) -> None:
    result = backtest(source(tmp_path, around(100)), options(overrides=SMALL | {"slow": False}))
    assert list(result.results) == ["headwater", "memory"]


def test_a_ledger_counts_ranks_beyond_the_list_as_nothing() -> None:
    ledger = Ledger()
    ledger.ranker("one")
    for rank in (1, 3, 11, 500):
        ledger.answer("one", rank)
    assert ledger.gains("one").tolist() == [1.0, 0.5, 0.0, 0.0]
    assert ledger.coverage("one") is ledger.novelty("one") is None


def test_an_interval_is_that_of_scipy_over_whole_users() -> None:
    import scipy.stats  # a second, which not every job shall wait for that collects this

    ledger, choose = Ledger(), np.random.default_rng(0)
    ledger.user.extend(choose.integers(0, 12, 300).tolist())
    for name in ("headwater", "other"):
        ledger.ranker(name)
        for rank in choose.integers(1, 15, 300).tolist():
            ledger.answer(name, rank)
    sums = np.bincount(ledger.user, ledger.gains("headwater") - ledger.gains("other"))
    asked = np.bincount(ledger.user)
    users = (np.arange(len(asked)),)
    expected = scipy.stats.bootstrap(
        users, lambda drawn, axis: sums[drawn].sum(axis) / asked[drawn].sum(axis), method="percentile",
        n_resamples=1000, rng=np.random.default_rng(BOOTSTRAP_SEED),
    ).confidence_interval  # fmt: skip
    found = differences(ledger)["other"].ndcg_10
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert found.mean == pytest.approx(sums.sum() / 300, abs=1e-6)


def test_an_ablation_is_the_model_that_was_told_to_do_without_the_part(tmp_path: Path) -> None:
    rows, items = around(200), [Item(item_id=f"i{n}", categories=("a" if n % 2 else "b",)) for n in range(6)]
    stream = source(tmp_path, rows)
    found = backtest(stream, options(ablation=True), items=items)
    reduced = {name for name in found.results if name.startswith("without ")}
    parts = ("ranker", "memory", "encoder", "gate", "returns", "replay", "content")
    assert reduced == {f"without {part}" for part in parts}
    for name, change in (("without memory", {"memories": ()}), ("without encoder", {"slow": False})):
        alone = backtest(stream, options(overrides=SMALL | change), items=items)
        assert found.results[name].ndcg_10 == alone.results["headwater"].ndcg_10
        assert lead_over(found, name).low <= lead_over(found, name).high
    plain = backtest(stream, options(overrides=SMALL | {"ranker": False}), items=items)
    assert found.results["without ranker"].ndcg_10 == plain.results["headwater"].ndcg_10
    assert plain.ranker is None
    whole = backtest(stream, options(), items=items)
    assert found.results["headwater"] == whole.results["headwater"]
    assert found.digest == whole.digest


def test_a_share_is_our_learner_from_the_warm_up_on_and_answers_every_query(tmp_path: Path) -> None:
    stream = source(tmp_path, around(200))
    found = backtest(stream, options(shares=(1.0, 0.5, 0.0)))
    whole = found.results["headwater"]
    assert found.results["share 1"] == whole
    assert found.results["share 0"] != whole
    assert {name for name in found.results if name.startswith("share ")} == {"share 1", "share 0.5", "share 0"}
    assert found.digest == backtest(stream, options()).digest
    with pytest.raises(SettingsError, match=r"shares \[1.5\]: give numbers from 0 to 1"):
        options(shares=(1.5,))


def test_an_ablation_has_no_learner_without_what_the_model_does_not_have(tmp_path: Path) -> None:
    found = backtest(source(tmp_path, around(200)), options(ablation=True, overrides=SMALL | {"slow": False}))
    reduced = {name for name in found.results if name.startswith("without ")}
    assert not reduced & {"without encoder", "without content"}


def liking_and_turning_down(rounds: int) -> list[Row]:
    """Users of two kinds: each chooses items of the own kind and dismisses those of the other."""
    choose = random.Random(3)
    rows: list[Row] = []
    for turn in range(rounds):
        user = turn % 20
        own, other = ("a", "b") if user % 2 else ("b", "a")
        rows.append((f"u{user}", f"{own}{choose.randrange(30)}", "view"))
        if turn % 3 == 0:
            rows.append((f"u{user}", f"{other}{choose.randrange(30)}", "dismiss"))
    return rows


def test_what_is_turned_down_is_asked_of_every_ranker_and_counted_by_type(tmp_path: Path) -> None:
    stream = source(tmp_path, liking_and_turning_down(400))
    found = backtest(stream, options(exclude_seen=(), peers=("popularity", RULES), frozen=True, publish_every=(50,)))
    told = found.negatives
    assert told is not None
    assert told.by_type == {"dismiss": told.events}
    assert set(told.by_ranker) == {"headwater", "headwater@50", "frozen", "popularity", RULES}
    ours, popular = told.by_ranker["headwater"], told.by_ranker["popularity"]
    assert told.in_top_10 == ours.in_top_10
    assert ours.in_top_10 is not None
    assert popular.in_top_10 is not None
    assert ours.in_top_10 < popular.in_top_10
    assert popular.lead is not None
    assert popular.lead.mean == pytest.approx(ours.in_top_10 - popular.in_top_10, abs=2e-6)
    assert ours.auc is not None
    assert popular.auc is not None
    assert ours.auc > 0.8 > 0.6 > popular.auc
    assert told.by_ranker["frozen"].auc is None  # it lists only the best
    assert found.meanings["view"].events == {"positive": 400}
    assert found.meanings["dismiss"].signal == {"means": "negative"}


def test_folds_are_spans_of_one_pass_and_their_spread_is_told(tmp_path: Path) -> None:
    stream = source(tmp_path, around(400))
    found = backtest(stream, options(folds=4, frozen=True, publish_every=(10,), peers=("popularity",)))
    assert [(fold.begin, fold.end) for fold in found.folds] == [(200, 250), (250, 300), (300, 350), (350, 400)]
    assert sum(fold.queries for fold in found.folds) == found.queries
    assert set(found.fold_spread) == set(found.results) - {"frozen"}
    each = [fold.results["headwater"].ndcg_10 or 0.0 for fold in found.folds]
    spread = found.fold_spread["headwater"].ndcg_10
    assert spread is not None
    assert (spread.mean, spread.deviation) == (
        pytest.approx(np.mean(each), abs=1e-6),
        pytest.approx(np.std(each, ddof=1), abs=1e-6),
    )
    assert (spread.least, spread.most) == (min(each), max(each))
    weighted = sum(fold.queries * value for fold, value in zip(found.folds, each, strict=True)) / found.queries
    assert score(found, "headwater") == pytest.approx(weighted, abs=2e-6)


def test_a_fold_without_a_query_is_there_and_counts_in_no_mean() -> None:
    ledger = Ledger()
    ledger.ranker("headwater")
    for place in (10, 11, 30):
        ledger.place.append(place)
        ledger.time_ms.append(place)
        ledger.answer("headwater", 1 if place < 30 else 3)
    found = folds(ledger, 10, 40, 3)
    assert [fold.queries for fold in found] == [2, 0, 1]
    assert found[1].results["headwater"].ndcg_10 is None
    spread = fold_spread(found)["headwater"].ndcg_10
    assert spread is not None
    assert (spread.mean, spread.least, spread.most) == (0.75, 0.5, 1.0)
    assert folds(ledger, 10, 40, 0) == []


def test_the_same_stream_under_other_signals_asks_other_questions(tmp_path: Path) -> None:
    stream = source(tmp_path, liking_and_turning_down(300))
    given = {"dismiss": Signal(), "view": Signal(weight=2)}
    as_votes = backtest(stream, options(exclude_seen=()), Settings(signals=given))
    as_meant = backtest(stream, options(exclude_seen=()))
    assert as_votes.negatives is None
    assert as_votes.excluded.get("not_positive", 0) == 0
    assert as_meant.excluded["not_positive"] > 20
    assert as_votes.meanings["dismiss"].events == {"positive": 100}
    assert as_votes.meanings["view"].signal == {"means": "positive", "weight": 2.0}
    assert "other meanings" in compare(as_votes, as_meant).reasons[-1]
