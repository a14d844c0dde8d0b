"""The second stage of the learner: its candidates, its facts, what it learns, and that it harms nothing."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from headwater.examples import CatalogueEntry, Entry, EventPosition, Example, Kind
from models.block import Sparse
from models.checkpoint import read_checkpoint, write_checkpoint
from models.learner import Learner
from models.quality import Scored
from models.ranker.candidates import EACH, FUSED, MOST, NEW, candidates_of
from models.ranker.facts import (
    EXPOSURES,
    FEW_EVENTS,
    ITEM,
    NEGATIVE,
    POSITIVE,
    AskedMoment,
    ItemTables,
    Past,
    fact_names,
    facts_of,
    moment_of,
)
from models.ranker.revision import added_to
from models.top_k import top_k
from tests.models.test_learner import SMALL
from tests.worlds.tastes import START_MS, examples_of, parade

Array = NDArray[np.float32]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_candidates_are_the_exact_best_of_all_together_and_of_each_expert_by_itself() -> None:
    draw = np.random.default_rng(0)
    for rows in (1, 5, 299, 3000):
        scores, dense = np.round(draw.normal(size=(2, rows)), 1).astype(np.float32)  # full of ties
        scores[draw.random(rows) < 0.3] = -np.inf
        few = draw.permutation(rows)[: rows // 2]
        sparse = Sparse(few, np.round(draw.random(len(few)), 1).astype(np.float32))
        own, others = draw.integers(0, rows, 30), draw.integers(0, rows, 60)
        counts = draw.integers(0, 12, rows).astype(np.float32)
        found = candidates_of(scores, [sparse, dense], own, others, counts)
        allowed = np.isfinite(scores)
        spread = np.zeros(rows, np.float32)
        spread[sparse.rows] = sparse.values
        wanted = {
            *top_k(scores, FUSED).tolist(),
            *top_k(np.where(counts <= FEW_EVENTS, scores, -np.inf), NEW).tolist(),
            *top_k(np.where(allowed, dense, -np.inf), EACH).tolist(),
            *top_k(np.where(allowed & (spread > 0), spread, -np.inf), EACH).tolist(),
            *(row for row in (*own.tolist(), *others.tolist()) if allowed[row]),
        }
        assert found.tolist() == sorted(wanted)
    many = candidates_of(
        np.arange(3000, dtype=np.float32), [], np.arange(3000), np.arange(3000), np.full(3000, 9, np.float32)
    )
    assert len(many) == MOST
    assert set(range(2900, 3000)) <= set(many.tolist())


def test_facts_are_finite_whatever_the_experts_say() -> None:
    rows, said = np.arange(4), np.zeros((3, 4), np.float32)
    said[0], said[1, 1], said[2, 2] = np.inf, np.nan, -1e38
    items = np.zeros((4, len(ITEM)), np.float32)
    items[1], items[2] = 1e30, [5.0, 5.0, 0.0, 1e9, 0.0, 1e9]
    moment, tables = moment_of(AskedMoment(0, 0.0, 0.0, START_MS, 0)), ItemTables(items, rows[:, None].astype(np.int32))
    for history in (np.zeros(0, np.int64), np.array([1, 1, 3])):
        past = Past(history, history, np.ones(len(history), np.float32), np.zeros(len(history)))
        facts = facts_of(said, np.array([0, np.nan, 1e38, -1e38], np.float32), tables, past, rows, moment)
        assert facts.shape == (4, len(fact_names(["a", "b", "c"])))
        assert np.isfinite(facts).all()
    own = fact_names(["a", "b", "c"]).index("own")
    assert facts[:, own].tolist() == [0, 2, 0, 1]
    assert facts_of(said[:, :0], said[0, :0], tables, past, rows[:0], moment).shape == (0, facts.shape[1])


def test_candidates_keep_together_the_probability_that_they_had() -> None:
    draw = np.random.default_rng(1)
    scores, said = draw.normal(size=(2, 50)).astype(np.float32)
    added = added_to(scores, said, np.float32(0.7))
    assert np.exp(scores + added).sum() == pytest.approx(np.exp(scores).sum(), rel=1e-5)
    assert np.ptp(added - np.float32(0.7) * said) < 1e-5
    assert not added_to(scores, said, np.float32(0)).any()


def news(events: int, seed: int = 0) -> list[Example]:
    """Half of the clicks are on what came in last, and no other expert knows when an item came."""
    choose = random.Random(seed)
    return examples_of(
        (f"u{choose.randrange(9)}", f"i{choose.choice((i // 8, choose.randrange(i // 8 + 1)))}") for i in range(events)
    )


def gains(scored: list[Scored]) -> tuple[float, float]:
    """NDCG@10 with and without the ranker."""
    asked = [one for one in scored if one.is_query]
    both = [[1 / np.log2(rank + 1) if rank <= 10 else 0.0 for rank in (one[1], one.unrevised)] for one in asked]
    return tuple(np.mean(both, 0).tolist())


def test_what_the_experts_cannot_see_is_learned_and_changes_nothing_of_what_they_learn() -> None:
    config = SMALL.model_copy(update={"exclude_seen": (), "memories": (), "repeats": False, "slow": False})
    learner, plain = Learner(config, seed=0), Learner(config.model_copy(update={"ranker": False}), seed=0)
    examples = news(1200)
    found, alone = learner.learn(examples), plain.learn(examples)
    assert [one.unrevised for one in found] == [one.headwater for one in alone]
    assert [one[2:6] for one in found] == [one[2:6] for one in alone]
    theirs = plain.publish(created_ms=0).weights  # type: ignore[union-attr]
    ours = learner.publish(created_ms=0).weights  # type: ignore[union-attr]
    assert theirs.keys() == {name for name in ours if not name.startswith("ranker_")}
    assert all(np.array_equal(ours[name], array) for name, array in theirs.items())
    with_it, without = gains(found[600:])
    assert with_it > without + 0.05
    told = learner.prequential.summary()["ranker"]
    assert told["candidate_recall"] > 0.8
    assert told["share"] == 1.0
    assert "ranker" not in plain.prequential.summary()


def test_each_type_has_a_head_of_its_own_that_changes_nothing_of_what_is_said_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose, many = random.Random(5), {"view": 6, "purchase": 40}
    drawn = [choose.choice(list(many)) for _ in range(500)]
    events = [(f"u{choose.randrange(20)}", f"{kind}-{choose.randrange(many[kind])}") for kind in drawn]
    examples = [
        one._replace(target=one.target._replace(type=kind))
        for one, kind in zip(examples_of(events), drawn, strict=True)
    ]
    config = SMALL.model_copy(update={"exclude_seen": (), "slow": False})
    learner, path = Learner(config, seed=0), tmp_path / "learner.ckpt"
    found = learner.learn(examples[:300])
    learner.save(path)
    found += Learner.load(path)[0].learn(examples[300:])
    bought = [one for one, kind in zip(found, drawn, strict=False) if one.headed and kind == "purchase"][-60:]
    assert np.mean([one.headed for one in bought]) < np.mean([one.headwater for one in bought]) - 1
    monkeypatch.setattr("models.ranker.heads.RankerHeads.head_of", lambda _self, _kind: None)
    assert Learner(config, seed=0).learn(examples) == [one._replace(headed=0) for one in found]


def test_where_there_is_nothing_to_learn_the_share_is_next_to_nothing_and_so_is_the_harm() -> None:
    choose = random.Random(3)
    stream = examples_of((f"u{choose.randrange(20)}", f"i{choose.randrange(60)}") for _ in range(600))
    learner = Learner(SMALL.model_copy(update={"exclude_seen": (), "slow": False}), seed=0)
    with_it, without = gains(learner.learn(stream))
    assert with_it > without - 0.005


def test_a_young_ranker_says_nothing() -> None:
    learner = Learner(SMALL, seed=0)
    scored = learner.learn(parade(3 * SMALL.block))
    assert all(one.headwater == one.unrevised for one in scored)


def test_a_query_is_told_of_items_as_they_were_at_its_own_moment() -> None:
    learner = Learner(SMALL, seed=0)
    examples = parade(4 * SMALL.block)
    for item_id in {one.target.item_id for one in examples}:
        learner.observe_item(CatalogueEntry(item_id, {"categories": ["film"]}))
    learner.learn(examples[: -SMALL.block])
    statistics = learner.parts.ranker.statistics  # type: ignore[union-attr]
    items, alike = statistics.items.copy(), statistics.alike.copy()
    learner.learn(examples[-SMALL.block :])
    for now, asked, before in (
        (statistics.items, statistics.asked, items),
        (statistics.alike, statistics.asked_alike, alike),
    ):
        assert not np.array_equal(now[: len(before)], before)
        assert np.array_equal(asked[: len(before)], before[: len(asked)])


def example(i: int, item_id: str, type_: str, **more: object) -> Example:
    made = Example("u", (Entry("home", "view", START_MS, None),), Entry(item_id, type_, START_MS + i, None), 0,
                   EventPosition(i, 0))  # fmt: skip
    return made._replace(**more)  # type: ignore[arg-type]


def test_events_for_and_against_lists_and_undone_events_are_counted() -> None:
    learner = Learner(SMALL, seed=0)
    learner.learn([example(i, "a", kind) for i, kind in enumerate(("view", "view", "dismiss"))])
    learner.learn([example(3, "a", "impression", kind=Kind.SHOWN, items=("a", "nobody"))])
    learner.learn([example(4, "a", "view", kind=Kind.UNDONE)])
    item = learner.parts.ranker.statistics.items[learner.items.rows["a"]]  # type: ignore[union-attr]
    assert item[[POSITIVE, NEGATIVE, EXPOSURES]].tolist() == [1, 1, 1]


def test_a_checkpoint_of_a_release_without_a_ranker_goes_on_with_a_young_one(tmp_path: Path) -> None:
    learner, path = Learner(SMALL, seed=0), tmp_path / "learner.ckpt"
    learner.learn(parade(100))
    learner.save(path)
    arrays, header = read_checkpoint(path)
    old = {name: array for name, array in arrays.items() if "ranker" not in name and "recalled" not in name}
    old = {name: array for name, array in old.items() if "unrevised" not in name}
    header = {name: value for name, value in header.items() if "ranker" not in name}
    for pending in header["pending"]:
        pending["notes"].pop("ranker_items", None)
    write_checkpoint(path, old, header)
    restored, _ = Learner.load(path)
    ranker = restored.parts.ranker
    assert ranker is not None
    assert ranker.statistics.items[:, POSITIVE].tolist() == restored.popularity.counts.tolist()
    scored = restored.learn(parade(200)[100:])
    assert [one.headwater for one in scored] == [one.unrevised for one in scored]


def test_what_was_let_go_is_alike_to_nothing() -> None:
    learner = Learner(SMALL, seed=0)
    learner.learn(parade(60))
    statistics = learner.parts.ranker.statistics  # type: ignore[union-attr]
    statistics.relate(3, [1, 2])
    assert statistics.alike[1, 0] == 3
    statistics.clear([3])
    assert statistics.alike[1].tolist() == [1] * 8
    assert statistics.alike[3].tolist() == [3] * 8
