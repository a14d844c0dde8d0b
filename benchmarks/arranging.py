"""What arranging a list costs, by policy: one list out of a catalogue of random scores.

    python -m benchmarks.arranging [--rows 10000] [--runs 200]

Items of 2 of 20 categories and of one of 50 sellers, vectors of 64. Prints milliseconds as `benchmarks.scorer` does.
The last lines are the greedy pass of diversity alone, over 200 candidates.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
from itertools import count
from typing import Any

import numpy as np

from benchmarks.scorer import milliseconds
from headwater.events import Item
from headwater.surfaces import Surface
from models.ranker.posterior import DRAWS
from serving.arranging import Draws, Offer, arrange
from serving.arranging.likeness import Likeness, unit
from serving.catalogue import Catalogue
from serving.rules import Rows

CANDIDATES = 200

POLICIES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "boost": {"boosts": [{"filters": {"seller": "s1"}, "times": 3}]},
    "pin": {"pins": [{"item_id": "item-7", "place": 2}]},
    "caps": {"max_per": {"categories": 3, "seller": 1}},
    "share": {"shares": [{"filters": {"categories": "c1"}, "least": 0.3}]},
    "diversity": {"diversity": 0.3},
    "diversity, 50 places": {"diversity": 0.3, "k": 50},
    "plackett-luce": {"explore": {"temperature": 0.3}},
    "thompson": {"explore": {"by": "thompson"}},
    "epsilon, new items": {"explore": {"by": "epsilon", "epsilon": 0.1, "new_items": 0.1}},
    "caps, share, diversity, chance": {
        "max_per": {"categories": 3},
        "shares": [{"filters": {"seller": ["s1", "s2"]}, "least": 0.2}],
        "diversity": 0.3,
        "explore": {"temperature": 0.3, "new_items": 0.1},
    },
}


def greedy(vectors: np.ndarray[Any, Any], categories: list[tuple[str, ...]], scores: list[float], k: int) -> list[int]:
    """The k that diversity picks, of all that there are."""
    return Likeness(unit(vectors), categories).greedy(np.array(scores), 1.0, np.ones(len(scores), bool), k)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=200)
    given = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"commit {commit.stdout.strip()}; {given.rows:,} items; ms, p50 / p99 (processor time p50)"
    )
    rng = np.random.default_rng(0)
    items = [
        Item(
            item_id=f"item-{row}",
            categories=tuple({f"c{one}" for one in rng.integers(0, 20, 2)}),
            attributes={"seller": f"s{rng.integers(0, 50)}"},
        )
        for row in range(given.rows)
    ]
    ids = [item.item_id for item in items]
    scores, vectors = rng.normal(size=given.rows).astype(np.float32), rng.normal(size=(given.rows, 64))
    new = rng.random(given.rows) < 0.1
    item_rows = {item_id: row for row, item_id in enumerate(ids)}
    candidates = np.sort(np.argsort(-scores)[: 2 * CANDIDATES : 2])
    draws = Draws(candidates, rng.normal(size=(DRAWS, len(candidates))) * 0.3)
    offer = Offer(scores, Rows(Catalogue(items), ids), vectors, lambda: new, item_rows=item_rows, draws=draws)
    seeds = count()
    for name, policy in POLICIES.items():
        asked = Surface.model_validate(policy)
        took = milliseconds(lambda s=asked: arrange(offer, s, s.k, f"r{next(seeds)}", 0), given.runs)
        print(f"{name:32}{took}")
    of_each = [item.categories for item in items[:CANDIDATES]]
    for k in (10, 50, CANDIDATES):
        few = vectors[:CANDIDATES], of_each, scores[:CANDIDATES].tolist()
        took = milliseconds(lambda f=few, k=k: greedy(*f, k), given.runs)
        print(f"{f'greedy pass, {k} of {CANDIDATES}':32}{took}")


if __name__ == "__main__":
    main()
