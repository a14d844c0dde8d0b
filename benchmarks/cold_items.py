"""What rules, filters and cold items cost an answer: processor time of `score` beside a plain list of the same world.

    python -m benchmarks.cold_items [--items 30000] [--known 2000] [--runs 100]

A catalogue of `--items`, of which the model knows `--known`. "edited" lines put an item before every answer, so that no
mask is left from the answer before. Prints milliseconds (p50) and the ratio to the plain list, with its spread over ten
slices of the run.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.scorer import NOW_MS, histories, synthetic_bundle
from headwater.events import Item
from headwater.examples import Entry
from headwater.recommendations import Request
from models.config import ModelConfig
from serving.catalogue import Catalogue
from serving.popular import Popular
from serving.scorer import Scorer
from serving.scoring import Ask, score

SLICES = 10
Case = tuple[str, bool]
POPULAR = Popular({f"item-{number}": 1000.0 - number for number in range(1000)}, NOW_MS, {0: 1})

ASKED: dict[str, tuple[bool, dict[str, Any]]] = {
    "plain": (True, {}),
    "filter": (True, {"filters": {"categories": "c3"}}),
    "range": (True, {"filters": {"price": {"gte": 3, "lt": 300}, "premium": "true"}}),
    "not": (True, {"filters": {"categories": {"not": ["c3", "d1"]}, "published_time": {"gt": NOW_MS - 10**10}}}),
    "50 candidates": (True, {"k": 50, "candidates": tuple(f"item-{number}" for number in range(0, 30_000, 600))}),
    "short": (True, {"filters": {"categories": "c3", "year": 2013}}),
    "short, k=1000": (True, {"k": 1000, "filters": {"categories": "c3"}}),
    "stranger": (False, {}),
    "stranger, k=1000": (False, {"k": 1000, "filters": {"categories": "c3"}}),
}


def item(number: int) -> Item:
    """One of a made-up shop."""
    return Item(
        item_id=f"item-{number}",
        title=f"Title {number % 997} of {number % 31}",
        categories=(f"c{number % 20}", f"d{number % 3}"),
        published_time=NOW_MS - 86_400_000 * (number % 1000) - number,
        attributes={"price": number % 5000 / 10, "year": 1990 + number % 30, "premium": number % 2 == 0},
    )


def one_turn(
    scorer: Scorer, cases: list[Case], history: list[Entry], edits: Iterator[int]
) -> dict[Case, tuple[float, int]]:
    """Milliseconds of processor time and items of each case's answer."""
    found = {}
    for name, edited in cases:
        known, fields = ASKED[name]
        if edited:
            scorer.catalogue.put(item(next(edits)))
        asks = [Ask(Request(**{"user_id": "u", "k": 10, **fields}), history if known else [])]
        begun = time.thread_time()
        answer = score(scorer, asks, now_ms=NOW_MS, exclude_seen=["auto"], popular=POPULAR).answers[0]
        found[name, edited] = (time.thread_time() - begun) * 1000, len(answer.items)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=30_000)
    parser.add_argument("--known", type=int, default=2_000)
    parser.add_argument("--runs", type=int, default=100)
    given = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"commit {commit.stdout.strip()}; {given.items:,} items, {given.known:,} known; ms of processor time"
    )
    rng = np.random.default_rng(0)
    scorer = Scorer(Catalogue(map(item, range(given.items))), "cpu")
    scorer.load(synthetic_bundle(given.known, ModelConfig(), rng), 0)
    (history,) = histories(1, given.known, rng)
    edits = itertools.cycle(range(given.items))
    cases = [(name, edited) for name in ASKED for edited in (False, True)]
    took: dict[Case, list[float]] = {case: [] for case in cases}
    lengths: dict[Case, int] = {}
    for turn in range(given.runs + SLICES):  # all cases in each turn: a neighbour on the cores disturbs all alike
        one_turn(scorer, [cases[0]], history, edits)  # pays for what the turn before left in the caches
        for case, (spent_ms, length) in one_turn(scorer, cases, history, edits).items():
            lengths[case] = length
            if turn >= SLICES:
                took[case].append(spent_ms)
    plain = np.array_split(took["plain", False], SLICES)
    for name, edited in cases:
        slices = np.array_split(took[name, edited], SLICES)
        ratios = sorted(float(np.median(ours) / np.median(theirs)) for ours, theirs in zip(slices, plain, strict=True))
        case, spent = f"{name}, edited" if edited else name, np.median(took[name, edited])
        print(
            f"{case:26} {lengths[name, edited]:5} items  {spent:7.2f} ms  ratio {np.median(ratios):5.2f} "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


if __name__ == "__main__":
    main()
