"""How long the scorer takes, alone: graph run, whole `score`, and a delta, by catalogue size and batch size.

    python -m benchmarks.scorer [--rows 1700 10000 100000] [--batches 1 8 32] [--runs 300]

One thread, weights of random numbers in the shapes of the default configuration: the time does not depend on what they
hold. Prints milliseconds, p50 / p99 of the wall clock, and in brackets p50 of processor time, which neighbours on the
same cores disturb less.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from headwater.events import Item
from headwater.examples import Entry
from headwater.recommendations import Request
from models.config import ModelConfig
from models.content import KINDS, MODALITIES, WORDS
from models.experts.registry import Parts
from models.part import CAPACITY
from models.published.bundle import Bundle
from models.published.delta import Delta, DeltaAssembler, encode_delta
from models.published.digest import ModelDigest
from models.published.graph import build_graph
from models.ranker.affinity import KNOWN
from serving.catalogue import Catalogue
from serving.scorer import Scorer
from serving.scoring import Ask, score

TOLD = (KINDS, WORDS, MODALITIES)
"""What the catalogue tells of: kinds and words of its items, and one number, the price."""

ASSOCIATED = 32
"""Associations of each row in each memory: about what a news site's stream has after 400,000 clicks."""

NOW_MS = 1_800_000_000_000


def synthetic_bundle(rows: int, config: ModelConfig, rng: np.random.Generator, associated: int = ASSOCIATED) -> Bundle:
    """A bundle of `rows` items with random weights, each with so many associations in each memory."""
    weights = {}
    parts = Parts(config)
    for name, one in parts.inputs().items():
        size = tuple(_length(part, rows, associated) for part in one.shape)
        if name == "ranker_share":
            weights[name] = np.ones(size, np.float32)  # one that is listened to
        elif name == "ranker_known":
            weights[name] = np.isin(np.arange(KNOWN), TOLD).astype(np.float32)
        elif name.endswith(("_ids", "_alike")):
            weights[name] = rng.integers(0, rows, size, dtype=np.int32)
        elif name.startswith("memory") and name.endswith("_start"):
            weights[name] = np.arange(0, rows * associated, associated)
        elif name.startswith("memory") and name.endswith("_size"):
            weights[name] = np.full(size, associated, np.int32)
        elif name.startswith("memory") and name.endswith(("_weights", "_target_scale")):
            weights[name] = rng.random(size, dtype=np.float32)
        else:
            weights[name] = (rng.standard_normal(size, dtype=np.float32) * 0.1).astype(one.dtype)
    items: list[str | None] = [f"item-{row}" for row in range(rows)]
    hashes = ModelDigest.of(weights, items, parts.tables(), parts.pools())
    types = ["rating"]
    return Bundle(
        config=config,
        version=1,
        parent=None,
        weights=weights,
        items=items,
        types=types,
        metrics={},
        extra={},
        created_ms=0,
        digest=hashes.value(items, types, config),
        graph=build_graph(config),
        hashes=hashes,
        tables=parts.tables(),
        reasons=parts.reasons(),
        pools=parts.pools(),
    )


def _length(part: str | int, rows: int, associated: int) -> int:
    """Of a dimension: rows, places of a pool, or a number."""
    if part == CAPACITY:
        return rows
    return part if isinstance(part, int) else rows * associated


def synthetic_delta(bundle: Bundle, touched: int, rng: np.random.Generator) -> Delta:
    """The next version: `touched` rows of every table, a place of the run of each in every pool, and all dense weights,
    with the digest that belongs to it.
    """
    after = bundle.copy()
    rows = np.sort(rng.choice(bundle.capacity, min(touched, bundle.capacity), replace=False)).astype(np.int64)
    changed = {name: (rows, array[rows]) for name, array in bundle.weights.items() if array.shape[0] == bundle.capacity}
    for name in (name for pool in bundle.pools.values() for name in pool):
        memory = name.rsplit("_", 1)[0]
        start, size = (bundle.weights[f"{memory}_{end}"][rows] for end in ("start", "size"))
        places = np.sort(start[size > 0])
        changed[name] = places, bundle.weights[name][places]
    dense = {name: array for name, array in bundle.weights.items() if name not in changed}
    delta = Delta(
        version=bundle.version + 1,
        parent_version=bundle.version,
        parent=bundle.digest,
        digest="",
        created_ms=0,
        capacity=bundle.capacity,
        metrics={},
        extra={},
        types=bundle.types,
        items=[],
        dense=dense,
        rows=changed,
    )
    return replace(delta, digest=after.digest)  # the same numbers are written again: equal content, equal digest


def histories(count: int, rows: int, rng: np.random.Generator) -> list[list[Entry]]:
    """Histories of 100 ratings, as a reader of long standing has."""
    return [
        [Entry(f"item-{row}", "rating", NOW_MS - 60_000 * (100 - place), 4.0) for place, row in enumerate(picked)]
        for picked in rng.integers(0, rows, (count, 100)).tolist()
    ]


def milliseconds(action: Callable[[], object], runs: int) -> str:
    """p50 / p99 of the wall clock and p50 of this thread's processor time, after a few unmeasured calls."""
    for _ in range(5):
        action()
    wall, busy = [], []
    for _ in range(runs):
        begun, ran = time.perf_counter(), time.thread_time()
        action()
        busy.append((time.thread_time() - ran) * 1000)
        wall.append((time.perf_counter() - begun) * 1000)
    p50, p99 = np.percentile(wall, [50, 99])
    return f"{p50:6.2f} /{p99:7.2f} ({np.percentile(busy, 50):6.2f})"


def _second_stage(scorer: Scorer, rows: int, catalogue: Catalogue, runs: int) -> None:
    """One request with the second stage and without, in turns; the ratio is of processor time."""
    without = Scorer(catalogue, "cpu")
    without.load(synthetic_bundle(rows, ModelConfig(ranker=False), np.random.default_rng(0)), 0)
    asks = [Ask(Request(user_id="u", k=10), one) for one in histories(8, rows, np.random.default_rng(1))]
    spent: dict[str, list[float]] = {"without": [], "with": []}
    for turn in range(runs // 10):
        for name, one in (("without", without), ("with", scorer)):
            for i in range(-3, 10):  # the first ones find their arrays in memory
                ran = time.thread_time()
                score(one, [asks[(turn + i) % 8]], now_ms=NOW_MS, exclude_seen=["auto"])
                if i >= 0:
                    spent[name].append((time.thread_time() - ran) * 1000)
    low, mid = ({name: np.percentile(found, at) for name, found in spent.items()} for at in (10, 50))
    print(
        f"  second stage: score() {mid['without']:.2f} -> {mid['with']:.2f}, {mid['with'] / mid['without']:.2f} times "
        f"(fastest tenth {low['without']:.2f} -> {low['with']:.2f}, {low['with'] / low['without']:.2f})"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1700, 10_000, 100_000])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--runs", type=int, default=300)
    given = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"commit {commit.stdout.strip()}; ms, p50 / p99 (processor time p50)"
    )
    rng = np.random.default_rng(0)
    for rows in given.rows:
        config = ModelConfig()
        bundle = synthetic_bundle(rows, config, rng)
        catalogue = Catalogue(Item(item_id=f"item-{row}", categories=(f"c{row % 20}",)) for row in range(rows))
        scorer = Scorer(catalogue, "cpu")
        begun = time.perf_counter()
        scorer.load(bundle, 0)
        print(f"\n{rows:,} items: load {1000 * (time.perf_counter() - begun):.0f} ms")
        for size in given.batches:
            stored = histories(size, rows, rng)
            asks = [Ask(Request(user_id="u", k=10), one) for one in stored]
            filtered = [Ask(Request(user_id="u", k=10, filters={"categories": "c3"}), one) for one in stored]
            with scorer.live() as half:
                assert half is not None
                run = milliseconds(lambda h=half, s=stored: h.run(s, NOW_MS, ["scores"]), given.runs)
            whole = milliseconds(lambda s=scorer, a=asks: score(s, a, now_ms=NOW_MS, exclude_seen=["auto"]), given.runs)
            rules = milliseconds(
                lambda s=scorer, a=filtered: score(s, a, now_ms=NOW_MS, exclude_seen=["auto"]), given.runs
            )
            print(f"  batch {size:2}: graph {run}   score() {whole}   with a filter {rules}")
        _second_stage(scorer, rows, catalogue, given.runs)
        why = [Request(user_id="u", k=10, explain=True), Request(user_id="u", k=10, why_not="item-1")]
        drawn = [{"temperature": 0.3}, {"by": "thompson"}]
        why += [Request(user_id="u", k=10, overrides={"explore": one}) for one in drawn]
        told = [
            milliseconds(
                lambda s=scorer, a=Ask(one, histories(1, rows, rng)[0]): score(
                    s, [a], now_ms=NOW_MS, exclude_seen=["auto"]
                ),
                given.runs // 5,
            )
            for one in why
        ]
        print(f"  one request: explain {told[0]}   why_not {told[1]}")
        print(f"  one request: plackett-luce {told[2]}   thompson {told[3]}")
        assembler = DeltaAssembler()
        for touched in (100, 1000):
            made = synthetic_delta(bundle, touched, rng)
            parts = encode_delta(made)
            begun = time.perf_counter()
            for part in parts:
                assembler.add(part)
            decoded = time.perf_counter()
            idle = bundle.copy()
            copied = time.perf_counter()
            idle.apply(made)
            applied = time.perf_counter()
            megabytes = sum(map(len, parts)) / 1e6
            print(
                f"  delta of {touched} rows: {megabytes:.2f} MB, decode {1000 * (decoded - begun):.1f}, "
                f"apply {1000 * (applied - copied):.1f} ms a half"
            )
            assembler = DeltaAssembler()


if __name__ == "__main__":
    main()
