"""What a request costs the scorer, beside an exact search over vectors of the same catalogue and the table's bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.learned import WARM_BLOCKS, learner_of, zipf_examples
from benchmarks.ruler import Bar, Beside, Left, Row, Setup, in_turns, optional
from benchmarks.ruler.turns import timed
from benchmarks.scorer import NOW_MS, histories, synthetic_delta
from headwater.events import Item
from headwater.examples import Entry
from headwater.recommendations import Request
from models.config import ModelConfig
from models.published.bundle import Bundle
from serving.catalogue import Catalogue
from serving.scorer import Scorer
from serving.scoring import Ask, score

K, TOUCHED = 10, 1000


def measured(setup: Setup) -> Iterator[Row]:
    """Milliseconds of processor time that a request costs: the graph, and all of score(), one thread."""
    for items in setup.pick((10_000, 100_000, 400_000), (2_000,)):
        yield from _at(setup, items)


def _at(setup: Setup, items: int) -> list[Row]:
    rng = np.random.default_rng(0)
    config = ModelConfig(max_items=items)
    bundle = _learned(config, items)
    scorer = Scorer(Catalogue(Item(item_id=f"item-{row}", categories=(f"c{row % 20}",)) for row in range(items)), "cpu")
    listened = {"ranker_share": np.ones_like(bundle.weights["ranker_share"])}  # a second stage that has its say
    scorer.load(replace(bundle, weights=bundle.weights | listened), 0)
    vectors = rng.standard_normal((items, ModelConfig().width), dtype=np.float32)
    flat = vectors.reshape(-1)
    exact = _faiss(setup, vectors)
    rows = []
    for size in (1, 32):
        stored = histories(size, items, rng)
        asks = [Ask(Request(user_id="u", k=K), one) for one in stored]
        queries = vectors[rng.integers(0, items, size)]
        calls = max(2, setup.pick(40, 4) // size)
        parts: dict[str, Callable[[], object]] = {
            "graph": lambda s=stored: _graph(scorer, s),  # type: ignore[misc]
            "score": lambda a=asks: score(scorer, a, now_ms=NOW_MS, exclude_seen=["auto"]),  # type: ignore[misc]
            "numpy": lambda q=queries: _best(q @ vectors.T),  # type: ignore[misc]
            "bytes": lambda: flat @ flat,
        }
        if exact is not None:
            parts["faiss"] = lambda q=queries: exact.search(q, K)  # type: ignore[misc]
        found = in_turns(
            setup.turns,
            {name: (lambda p=part, n=calls: timed(p, n, time.thread_time)) for name, part in parts.items()},
        )
        others = [Beside("numpy", "peer", found["numpy"]), Beside("one pass over the table", "floor", found["bytes"])]
        bars = []
        if "faiss" in found:
            others.insert(0, Beside("faiss IndexFlatIP", "peer", found["faiss"]))
            bars = [Bar(2.0, 1.0, against="faiss IndexFlatIP")] if items == 100_000 and size == 1 else []
        of = f"{size} request{'s' if size > 1 else ''}, {items:,} items"
        rows.append(Row(f"graph, {of}", "ms", "less", found["graph"], others, bars))
        own = Beside("graph", "own", found["graph"])
        rows.append(Row(f"score(), {of}", "ms", "less", found["score"], [own]))
    if items < 400_000:  # each turn copies the whole model
        took = [_applied(bundle, rng) for _ in range(setup.turns)]
        bars = [Bar(20.0)] if items == 100_000 else []
        rows.append(Row(f"a delta of {TOUCHED:,} rows, {items:,} items", "ms", "less", took, bars=bars))
    return rows


def _learned(config: ModelConfig, items: int) -> Bundle:
    """As a trainer publishes it."""
    made = learner_of(config, items, zipf_examples(items, config.block * WARM_BLOCKS)).publish(created_ms=0, full=True)
    assert isinstance(made, Bundle)
    return made


def _applied(bundle: Bundle, rng: np.random.Generator) -> float:
    """Milliseconds of processor time that a delta costs a serving worker."""
    copy, delta = bundle.copy(), synthetic_delta(bundle, TOUCHED, rng)
    began = time.process_time()
    copy.apply(delta)
    return (time.process_time() - began) * 1000


def _graph(scorer: Scorer, stored: Sequence[Sequence[Entry]]) -> None:
    with scorer.live() as half:
        assert half is not None
        half.run(stored, NOW_MS, ["scores"])


def _best(scores: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.argpartition(scores, -K, axis=1)[:, -K:]


def _faiss(setup: Setup, vectors: np.ndarray[Any, Any]) -> Any:
    try:
        faiss: Any = optional("faiss")
    except Left as why:
        setup.left(why)
        return None
    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index
